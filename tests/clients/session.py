"""redis-py's session: what an application does with the client's default settings, sync with the protocol that the client
chooses, RESP2 and RESP3, and once with asyncio. Run by sessions.py, which names the port in SESSION_PORT and, where TLS is
spoken there, the authority of its certificate in SESSION_CA."""

import asyncio
import os
import threading

import pytest
import redis
import redis.asyncio

PORT = int(os.environ["SESSION_PORT"])
CA = os.environ.get("SESSION_CA")
TLS = {"ssl": True, "ssl_ca_certs": CA, "ssl_check_hostname": True} if CA else {}
# Enough that a cache lets the read pass, fills, and answers.
READS = 4
BINARY = bytes(range(256)) + b"\r\n$-1\r\n\x00"


@pytest.fixture(params=[{}, {"protocol": 2}, {"protocol": 3}], ids=["default", "resp2", "resp3"])
def connect(request):
    """Makes clients; all are closed and the keys dropped at the end."""
    opened = []

    def make(**options):
        opened.append(redis.Redis(port=PORT, **TLS, **request.param, **options))
        return opened[-1]

    yield make
    make().flushall()
    for client in opened:
        client.close()


@pytest.fixture
def client(connect):
    return connect()


def wait_until_blocked(client, clients=1):
    while client.info("clients")["blocked_clients"] < clients:
        pass


def fill(client):
    """Writes a key of each type and returns reads of them with the replies that they must give."""
    client.set("string", "value")
    client.hset("hash", mapping={"a": "1", "b": "2"})
    client.rpush("list", "x", "y", "z")
    client.sadd("set", "m", "n")
    client.zadd("zset", {"one": 1, "half": 0.5})
    client.xadd("stream", {"f": "v"}, id="1-1")
    client.geoadd("geo", (13.361389, 38.115556, "Palermo"))
    return [
        (lambda: client.get("string"), b"value"),
        (lambda: client.get("absent"), None),
        (lambda: client.mget("string", "absent"), [b"value", None]),
        (lambda: client.exists("string", "absent", "list"), 2),
        (lambda: client.strlen("string"), 5),
        (lambda: client.getrange("string", 1, 2), b"al"),
        (lambda: client.hget("hash", "a"), b"1"),
        (lambda: client.hgetall("hash"), {b"a": b"1", b"b": b"2"}),
        (lambda: client.hmget("hash", "a", "absent"), [b"1", None]),
        (lambda: client.lrange("list", 0, -1), [b"x", b"y", b"z"]),
        (lambda: client.lpos("list", "absent"), None),
        (lambda: client.smembers("set"), {b"m", b"n"}),
        (lambda: client.sismember("set", "m"), 1),
        (lambda: client.zscore("zset", "half"), 0.5),
        (lambda: client.zmscore("zset", ["one", "absent"]), [1.0, None]),
        (lambda: client.zrank("zset", "absent"), None),
        (lambda: client.xlen("stream"), 1),
        (lambda: client.xrange("stream"), [(b"1-1", {b"f": b"v"})]),
        (lambda: client.type("zset"), b"zset"),
        (lambda: client.exists("absent"), 0),
    ]


def test_every_read_answers_the_same_however_often_it_is_sent(client):
    for read, expected in fill(client):
        assert [read() for _ in range(READS)] == [expected] * READS


def test_replies_that_differ_by_protocol_keep_their_shape_when_repeated(client):
    fill(client)
    for read in (
        lambda: client.zrange("zset", 0, -1, withscores=True),
        lambda: client.zrevrange("zset", 0, -1, withscores=True),
        lambda: client.geopos("geo", "Palermo", "absent"),
        lambda: client.geosearch("geo", longitude=13, latitude=38, radius=200, unit="km"),
        lambda: client.zrank("zset", "one", withscore=False),
    ):
        first = read()
        assert first
        assert [read() for _ in range(READS)] == [first] * READS


def test_a_write_of_another_client_is_seen_by_the_next_read(connect):
    reader, writer = connect(), connect()
    for number in range(200):
        writer.set("shared", number)
        assert [int(reader.get("shared")) for _ in range(READS)] == [number] * READS
    writer.delete("shared")
    assert reader.get("shared") is None


def test_an_expired_key_is_gone(client):
    client.set("short", "v", px=100)
    assert client.get("short") == b"v"
    threading.Event().wait(0.15)
    assert client.get("short") is None


def test_a_big_value_and_binary_keys_pass_unchanged(client):
    big = os.urandom(1024) * 1024
    client.set(BINARY, big)
    client.hset("binary", BINARY, BINARY)
    for _ in range(READS):
        assert client.get(BINARY) == big
        assert client.hgetall("binary") == {BINARY: BINARY}
    assert set(client.keys()) == {BINARY, b"binary"}


@pytest.mark.parametrize("transaction", [False, True])
def test_a_pipeline_answers_in_order(client, transaction):
    pipeline = client.pipeline(transaction=transaction)
    for number in range(300):
        pipeline.set(f"p{number % 7}", number).get(f"p{number % 7}")
    replies = pipeline.execute()
    assert replies[1::2] == [b"%d" % number for number in range(300)]
    assert all(reply is True for reply in replies[::2])


def test_an_error_in_a_pipeline_stays_in_its_place(client):
    replies = client.pipeline(transaction=False).set("s", 1).lpush("s", 1).get("s").execute(raise_on_error=False)
    assert replies[0] is True and replies[2] == b"1"
    assert str(replies[1]).startswith("WRONGTYPE Operation against a key")


def test_a_watched_transaction_runs_only_if_nobody_wrote(connect):
    client, other = connect(), connect()
    client.set("balance", 10)
    with client.pipeline() as pipeline:
        pipeline.watch("balance")
        before = int(pipeline.get("balance"))
        other.set("balance", 20)
        pipeline.multi()
        pipeline.set("balance", before + 1)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert client.get("balance") == b"20"
    client.transaction(lambda p: (p.multi(), p.incrby("balance", 5)), "balance")
    assert client.get("balance") == b"25"


def test_a_subscriber_gets_the_messages_of_its_channels_and_patterns(connect):
    client = connect()
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.psubscribe("w*")
        confirmed = [subscriber.get_message(timeout=5) for _ in range(2)]
        assert [message["type"] for message in confirmed] == ["subscribe", "psubscribe"]
        assert client.publish("news", BINARY) == 1
        assert client.publish("weather", "rain") == 1
        messages = [subscriber.get_message(timeout=5) for _ in range(2)]
        assert [(m["type"], m["channel"], m["data"]) for m in messages] == [
            ("message", b"news", BINARY),
            ("pmessage", b"weather", b"rain"),
        ]
        subscriber.unsubscribe()
        subscriber.punsubscribe()
        assert [subscriber.get_message(timeout=5)["type"] for _ in range(2)] == ["unsubscribe", "punsubscribe"]


def test_a_blocking_pop_is_woken_by_another_client_and_reads_what_was_written_before(connect):
    popper, pusher = connect(), connect()
    results = []
    for number in range(20):
        popper.get("told")
        thread = threading.Thread(
            target=lambda: results.append((*popper.blpop("queue", timeout=10), popper.get("told")))
        )
        thread.start()
        wait_until_blocked(pusher)
        pusher.set("told", number)
        pusher.rpush("queue", number)
        thread.join(10)
        assert results.pop() == (b"queue", b"%d" % number, b"%d" % number)
    assert popper.blpop("queue", timeout=0.05) is None


def test_scripts_run_by_text_and_by_digest(client):
    script = client.register_script("return {KEYS[1], ARGV[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
    client.script_flush()
    assert script(keys=["n"], args=[5]) == [b"n", b"5", 5]
    assert script(keys=["n"], args=[5]) == [b"n", b"5", 10]
    assert [client.get("n") for _ in range(READS)] == [b"10"] * READS
    # The key is named inside the script alone.
    client.eval("return redis.call('SET', 'n', 'changed')", 0)
    assert client.get("n") == b"changed"
    with pytest.raises(redis.ResponseError, match="my own error"):
        client.eval("return redis.error_reply('ERR my own error')", 0)


def test_databases_are_apart(connect):
    zero, one = connect(), connect(db=1)
    zero.set("k", "zero")
    one.set("k", "one")
    for _ in range(READS):
        assert (zero.get("k"), one.get("k")) == (b"zero", b"one")


def test_errors_are_those_of_redis(client):
    with pytest.raises(redis.ResponseError, match="^unknown command 'NOSUCH', with args beginning with: 'a' "):
        client.execute_command("NOSUCH", "a")
    with pytest.raises(redis.ResponseError, match="^wrong number of arguments for 'get' command$"):
        client.execute_command("GET")
    assert client.ping() is True


def test_a_client_names_itself_and_finds_itself(connect):
    client = connect(client_name="session", single_connection_client=True)
    assert client.client_getname() in ("session", b"session")
    assert client.client_id() in [int(entry["id"]) for entry in client.client_list()]
    assert "session" in [entry["name"] for entry in client.client_list()]


def test_an_asyncio_session_works_like_a_sync_one():
    async def session():
        async with redis.asyncio.Redis(port=PORT, **TLS) as client:
            await asyncio.gather(*(client.set(f"a{n}", n) for n in range(50)))
            values = await asyncio.gather(*(client.get(f"a{n}") for n in range(50)))
            assert values == [b"%d" % n for n in range(50)]
            async with client.pipeline(transaction=True) as pipeline:
                assert await pipeline.incr("count").incr("count").execute() == [1, 2]
            async with client.pubsub() as subscriber:
                await subscriber.subscribe("async")
                assert (await subscriber.get_message(timeout=5))["type"] == "subscribe"
                await client.publish("async", "hello")
                assert (await subscriber.get_message(timeout=5))["data"] == b"hello"
            popped = asyncio.create_task(client.blpop("async-queue", timeout=10))
            while (await client.info("clients"))["blocked_clients"] == 0:
                pass
            await client.lpush("async-queue", "woken")
            assert tuple(await popped) == (b"async-queue", b"woken")
            await client.flushall()

    asyncio.run(asyncio.wait_for(session(), 30))

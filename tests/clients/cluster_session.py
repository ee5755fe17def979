"""What an application does with redis-py's RedisCluster, in RESP2 and RESP3: a daemon before a Redis Cluster shows itself as the
one node that serves every slot. Run by sessions.py, which names the port in SESSION_PORT."""

import os

import pytest
import redis
from redis.cluster import RedisCluster

PORT = int(os.environ["SESSION_PORT"])
# Enough that a cache lets the read pass, fills, and answers.
READS = 4
KEYS = [f"key:{number}" for number in range(30)]


@pytest.fixture(params=[{"protocol": 2}, {"protocol": 3}], ids=["resp2", "resp3"])
def client(request):
    with RedisCluster(host="127.0.0.1", port=PORT, **request.param) as client:
        yield client
        client.flushall(target_nodes=RedisCluster.PRIMARIES)


def text(reply):
    """Names and ids, of whichever protocol."""
    if isinstance(reply, dict):
        return {text(name): text(value) for name, value in reply.items()}
    if isinstance(reply, list | tuple):
        return [text(each) for each in reply]
    return reply.decode() if isinstance(reply, bytes) else reply


def test_the_client_finds_all_slots(client):
    assert sum(last - first + 1 for first, last in client.cluster_slots()) == 16384
    shards = text(client.cluster_shards())
    bounds = [bound for shard in shards for bound in shard["slots"]]
    # In RESP2 the client pairs them.
    pairs = bounds if isinstance(bounds[0], list) else zip(bounds[::2], bounds[1::2], strict=True)
    assert sum(last - first + 1 for first, last in pairs) == 16384
    assert client.cluster_info(target_nodes=RedisCluster.RANDOM)["cluster_state"] == "ok"
    assert client.cluster_keyslot("123456789") == 0x31C3


def test_the_node_has_one_id_everywhere(client):
    mine = text(redis.Redis(port=PORT).execute_command("CLUSTER MYID"))
    nodes = client.cluster_nodes()
    assert mine in [node["node_id"] for node in nodes.values()]
    shards = redis.Redis(port=PORT, protocol=3).execute_command("CLUSTER SHARDS")
    assert mine in [node["id"] for shard in text(shards) for node in shard["nodes"]]


def test_keys_of_all_slots_are_written_and_read(client):
    for number, key in enumerate(KEYS):
        assert client.set(key, number)
        assert [int(client.get(key)) for _ in range(READS)] == [number] * READS
    assert client.mget_nonatomic(KEYS) == [b"%d" % number for number in range(len(KEYS))]
    assert client.exists(*KEYS) == len(KEYS)
    assert set(client.scan_iter(count=5)) == {key.encode() for key in KEYS}
    assert client.dbsize() == len(KEYS)
    assert client.delete(*KEYS) == len(KEYS)


def test_a_pipeline_over_all_slots_answers_in_order(client):
    pipeline = client.pipeline()
    for number, key in enumerate(KEYS):
        pipeline.set(key, number).get(key)
    replies = pipeline.execute()
    assert replies[1::2] == [b"%d" % number for number in range(len(KEYS))]
    assert all(replies[::2])


def test_a_transaction_in_one_slot_is_executed(client):
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("{user}a", 1).incr("{user}b").get("{user}a")
        assert pipeline.execute()[1:] == [1, b"1"]


def test_scripts_run_where_their_keys_are(client):
    add = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    for key in KEYS:
        assert add(keys=[key], args=[2]) == 2
        assert int(client.get(key)) == 2


def test_messages_reach_subscribers(client):
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("news")
    while subscriber.get_message(timeout=0.2) is not None or not client.pubsub_numsub("news")[0][1]:
        pass
    client.publish("news", "it rains")
    message = None
    while message is None:
        message = subscriber.get_message(timeout=5)
    assert (message["channel"], message["data"]) == (b"news", b"it rains")
    subscriber.close()


@pytest.mark.parametrize("channel", KEYS[:6])
def test_messages_of_shard_channels_reach_subscribers(client, channel):
    subscriber = client.pubsub()
    subscriber.ssubscribe(channel)
    confirmed = None
    while confirmed is None:
        confirmed = subscriber.get_sharded_message(timeout=5)
    assert confirmed["type"] == "ssubscribe"
    assert client.spublish(channel, "hello") == 1
    message = None
    while message is None:
        message = subscriber.get_sharded_message(timeout=5)
    assert message["data"] == b"hello"
    subscriber.close()

//! The session of the redis crate, sync and async, RESP2 and RESP3: what an application does with its default settings.
//! Refuses to know what the daemon does with it; the bytes are other tests' concern.

mod support;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands, AsyncConnectionConfig, Commands, Connection, ErrorKind, PushInfo, PushKind, RedisResult,
    Script, ServerErrorKind, Value,
};
use support::{Daemon, PATIENCE, Redis, eventually};

/// Enough that a cache lets the read pass, fills, and answers.
const READS: usize = 4;
const PROTOCOLS: [&str; 2] = ["resp2", "resp3"];

struct Setup {
    client: redis::Client,
    other: redis::Client,
    _daemon: Daemon,
    _redis: Redis,
}

fn set_up(protocol: &str) -> Setup {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let open = || {
        redis::Client::open(format!("redis://127.0.0.1:{}/?protocol={protocol}", daemon.port))
            .expect("a URL that the crate takes")
    };
    Setup { client: open(), other: open(), _daemon: daemon, _redis: redis }
}

fn binary() -> Vec<u8> {
    (0..=255).chain(*b"\r\n$-1\r\n\0").collect()
}

fn blocked_clients(connection: &mut Connection) -> usize {
    let info: String = redis::cmd("INFO").arg("clients").query(connection).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.expect("INFO has it").trim().parse().unwrap()
}

#[test]
fn a_sync_session_reads_what_it_wrote_however_often() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut connection = setup.client.get_connection().unwrap();
        let big: Vec<u8> = binary().into_iter().cycle().take(1 << 20).collect();
        let _: () = connection.set(binary(), &big).unwrap();
        let _: () = connection.hset_multiple("hash", &[("a", 1), ("b", 2)]).unwrap();
        let _: () = connection.zadd("zset", "half", 0.5).unwrap();
        let _: () = connection.rpush("list", &["x", "y"]).unwrap();
        for _ in 0..READS {
            assert!(connection.get::<_, Vec<u8>>(binary()).unwrap() == big);
            assert_eq!(connection.get::<_, Option<String>>("absent").unwrap(), None);
            let hash: std::collections::BTreeMap<String, i64> = connection.hgetall("hash").unwrap();
            assert_eq!(hash, [("a".into(), 1), ("b".into(), 2)].into());
            let scores: Vec<(String, f64)> = connection.zrange_withscores("zset", 0, -1).unwrap();
            assert_eq!(scores, [("half".to_string(), 0.5)]);
            assert_eq!(connection.zscore::<_, _, f64>("zset", "half").unwrap(), 0.5);
            assert_eq!(connection.lrange::<_, Vec<String>>("list", 0, -1).unwrap(), ["x", "y"]);
            let both: (Option<i64>, Option<String>) = connection.mget(&["absent", "missing"]).unwrap();
            assert_eq!(both, (None, None));
        }
    }
}

#[test]
fn a_write_of_another_client_is_seen_by_the_next_read() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut reader = setup.client.get_connection().unwrap();
        let mut writer = setup.other.get_connection().unwrap();
        for number in 0..200 {
            let _: () = writer.set("shared", number).unwrap();
            for _ in 0..READS {
                assert_eq!(reader.get::<_, i32>("shared").unwrap(), number);
            }
        }
    }
}

#[test]
fn a_pipeline_answers_in_order_and_an_error_stays_in_its_place() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut connection = setup.client.get_connection().unwrap();
        let mut pipeline = redis::pipe();
        for number in 0..300 {
            pipeline.set(format!("p{}", number % 7), number).ignore().get(format!("p{}", number % 7));
        }
        let replies: Vec<i32> = pipeline.query(&mut connection).unwrap();
        assert_eq!(replies, (0..300).collect::<Vec<_>>());
        let failed: RedisResult<()> = connection.lpush("p0", "text");
        let failed = failed.unwrap_err();
        assert_eq!(failed.code(), Some("WRONGTYPE"));
        let unknown: RedisResult<()> = redis::cmd("NOSUCH").query(&mut connection);
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
        assert_eq!(redis::cmd("PING").query::<String>(&mut connection).unwrap(), "PONG");
    }
}

#[test]
fn a_watched_transaction_runs_again_after_another_write() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut connection = setup.client.get_connection().unwrap();
        let mut other = setup.other.get_connection().unwrap();
        let _: () = connection.set("balance", 10).unwrap();
        let mut tries = 0;
        let (after,): (i32,) =
            redis::transaction(&mut connection, &["balance"], |connection, transaction| {
                let before: i32 = connection.get("balance")?;
                tries += 1;
                if tries == 1 {
                    let _: () = other.set("balance", 20)?;
                }
                transaction.set("balance", before + 1).ignore().get("balance").query(connection)
            })
            .unwrap();
        assert_eq!((tries, after), (2, 21));
        assert_eq!(other.get::<_, i32>("balance").unwrap(), 21);
    }
}

#[test]
fn a_subscriber_gets_its_message() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut connection = setup.client.get_connection().unwrap();
        let mut publisher = setup.other.get_connection().unwrap();
        let mut subscriber = connection.as_pubsub();
        subscriber.set_read_timeout(Some(PATIENCE)).unwrap();
        subscriber.subscribe("news").unwrap();
        subscriber.psubscribe("w*").unwrap();
        assert_eq!(publisher.publish::<_, _, i32>("news", binary()).unwrap(), 1);
        assert_eq!(publisher.publish::<_, _, i32>("weather", "rain").unwrap(), 1);
        let (first, second) = (subscriber.get_message().unwrap(), subscriber.get_message().unwrap());
        assert_eq!((first.get_channel_name(), first.get_payload_bytes()), ("news", &binary()[..]));
        assert_eq!((second.get_channel_name(), second.get_payload_bytes()), ("weather", &b"rain"[..]));
    }
}

#[test]
fn a_blocking_pop_is_woken_by_another_client() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut pusher = setup.other.get_connection().unwrap();
        std::thread::scope(|scope| {
            let popped = scope.spawn(|| {
                let mut popper = setup.client.get_connection().unwrap();
                let (queue, element): (String, String) = popper.blpop("queue", 20.0).unwrap();
                let told: String = popper.get("told").unwrap();
                (queue, element, told)
            });
            eventually("the pop blocks", || blocked_clients(&mut pusher) == 1);
            let _: () = pusher.set("told", "before").unwrap();
            let _: () = pusher.rpush("queue", "woken").unwrap();
            assert_eq!(popped.join().unwrap(), ("queue".into(), "woken".into(), "before".into()));
        });
    }
}

#[test]
fn scripts_run_by_digest_and_are_loaded_when_missing() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        let mut connection = setup.client.get_connection().unwrap();
        let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
        for expected in [5, 10] {
            let sum: i32 = script.key("n").arg(5).invoke(&mut connection).unwrap();
            assert_eq!(sum, expected);
            for _ in 0..READS {
                assert_eq!(connection.get::<_, i32>("n").unwrap(), expected);
            }
        }
        let undeclared = redis::cmd("EVAL").arg("return redis.call('SET', 'n', 1)").arg(0).to_owned();
        undeclared.exec(&mut connection).unwrap();
        assert_eq!(connection.get::<_, i32>("n").unwrap(), 1);
    }
}

/// Everything over one multiplexed connection at once, as async applications use the crate.
async fn async_session(setup: &Setup) {
    let mut connection = setup.client.get_multiplexed_async_connection().await.unwrap();
    let tasks: Vec<_> =
        (0..50).map(|number| tokio::spawn(set_then_get(connection.clone(), number))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (first, second): (i32, i32) =
        redis::pipe().atomic().incr("n", 1).incr("n", 1).query_async(&mut connection).await.unwrap();
    assert_eq!((first, second), (1, 2));
    let big = vec![7_u8; 1 << 20];
    let _: () = connection.set(binary(), &big).await.unwrap();
    for _ in 0..READS {
        assert!(connection.get::<_, Vec<u8>>(binary()).await.unwrap() == big);
    }
    let script = Script::new("return {KEYS[1], ARGV[1]}");
    let echoed: (String, i32) = script.key("k").arg(3).invoke_async(&mut connection).await.unwrap();
    assert_eq!(echoed, ("k".into(), 3));
    // The crate bounds every reply by half a second unless told otherwise; a blocking pop needs longer.
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let mut popper = setup.other.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let popped =
        tokio::spawn(async move { popper.blpop::<_, (String, String)>("queue", 10.0).await.unwrap() });
    let mut blocked = false;
    while !blocked {
        let info: String = redis::cmd("INFO").arg("clients").query_async(&mut connection).await.unwrap();
        blocked = info.contains("\r\nblocked_clients:1\r\n");
    }
    let _: () = connection.lpush("queue", "woken").await.unwrap();
    assert_eq!(popped.await.unwrap(), ("queue".into(), "woken".into()));
}

async fn set_then_get(mut connection: MultiplexedConnection, number: i32) {
    let key = format!("key{number}");
    let _: () = connection.set(&key, number).await.unwrap();
    for _ in 0..READS {
        assert_eq!(connection.get::<_, i32>(&key).await.unwrap(), number);
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 2, future).await.expect("the session ended") })
}

#[test]
fn an_async_session_multiplexes_over_one_connection() {
    for protocol in PROTOCOLS {
        let setup = set_up(protocol);
        block_on(async_session(&setup));
    }
}

#[test]
fn an_async_resp3_connection_gets_messages_beside_its_replies() {
    let setup = set_up("resp3");
    block_on(async {
        let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel::<PushInfo>();
        let config = AsyncConnectionConfig::new()
            .set_push_sender(sender)
            .set_response_timeout(Some(Duration::from_secs(5)));
        let mut connection =
            setup.client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let mut other = setup.other.get_multiplexed_async_connection().await.unwrap();
        connection.subscribe("news").await.unwrap();
        assert_eq!(pushes.recv().await.unwrap().kind, PushKind::Subscribe);
        let _: () = connection.set("k", "beside").await.unwrap();
        assert_eq!(other.publish::<_, _, i32>("news", "rain").await.unwrap(), 1);
        let message = pushes.recv().await.unwrap();
        assert_eq!(message.kind, PushKind::Message);
        assert_eq!(message.data, [Value::BulkString(b"news".to_vec()), Value::BulkString(b"rain".to_vec())]);
        assert_eq!(connection.get::<_, String>("k").await.unwrap(), "beside");
    });
}

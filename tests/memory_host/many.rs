//! The engine alone, from several threads: what is one step stays one step, and messages arrive in order.

use std::sync::{Arc, Mutex};

use madcache::memory::{Caller, Delivery, Engine, Executed, Settings};

type Delivered = Arc<Mutex<Vec<Delivery>>>;

fn engine() -> (Engine, Delivered) {
    let delivered = Delivered::default();
    let sink = Arc::clone(&delivered);
    let deliver = move |delivery| sink.lock().unwrap().push(delivery);
    (Engine::new(Settings::default(), Box::new(deliver)), delivered)
}

fn ask(engine: &Engine, caller: &mut Caller, request: &[&str]) -> String {
    let argv: Vec<&[u8]> = request.iter().map(|word| word.as_bytes()).collect();
    let mut out = Vec::new();
    assert_eq!(engine.execute(caller, &argv, &mut out), Executed::Replied);
    String::from_utf8(out).unwrap()
}

const TIMES: usize = 2000;
const THREADS: usize = 4;

#[test]
fn scripts_and_transactions_of_many_threads_do_not_mix() {
    let (engine, _) = engine();
    std::thread::scope(|scope| {
        for id in 0..THREADS as u64 {
            let engine = &engine;
            scope.spawn(move || {
                let mut caller = engine.connect(id);
                let script =
                    "local n = redis.call('get', KEYS[1]) or 0 redis.call('set', KEYS[1], n + 1) return n";
                for _ in 0..TIMES {
                    ask(engine, &mut caller, &["EVAL", script, "1", "by-script"]);
                    ask(engine, &mut caller, &["MULTI"]);
                    ask(engine, &mut caller, &["RPUSH", "both", "a"]);
                    ask(engine, &mut caller, &["RPUSH", "both", "b"]);
                    ask(engine, &mut caller, &["EXEC"]);
                }
                engine.disconnect(&mut caller);
            });
        }
    });
    let mut caller = engine.connect(99);
    let count = (TIMES * THREADS).to_string();
    assert!(ask(&engine, &mut caller, &["GET", "by-script"]).contains(&count));
    let list = ask(&engine, &mut caller, &["LRANGE", "both", "0", "-1"]);
    let letters: String = list.lines().filter(|line| *line == "a" || *line == "b").collect();
    assert_eq!(letters, "ab".repeat(TIMES * THREADS));
}

#[test]
fn messages_of_many_threads_arrive_in_the_order_of_the_list_they_also_write() {
    let (engine, delivered) = engine();
    let mut listener = engine.connect(7);
    ask(&engine, &mut listener, &["SUBSCRIBE", "c"]);
    std::thread::scope(|scope| {
        for id in 0..THREADS {
            let engine = &engine;
            scope.spawn(move || {
                let mut caller = engine.connect(100 + id as u64);
                let script =
                    "redis.call('rpush', KEYS[1], ARGV[1]) return redis.call('publish', 'c', ARGV[1])";
                for at in 0..TIMES {
                    ask(engine, &mut caller, &["EVAL", script, "1", "list", &format!("{id}-{at}")]);
                }
            });
        }
    });
    let list = ask(&engine, &mut listener, &["UNSUBSCRIBE", "c"]);
    assert!(list.contains("unsubscribe"));
    let list = ask(&engine, &mut listener, &["LRANGE", "list", "0", "-1"]);
    let written: Vec<&str> = list.lines().filter(|line| line.contains('-')).collect();
    let heard: Vec<String> = delivered.lock().unwrap().iter().map(text_of).collect();
    assert_eq!(heard.len(), TIMES * THREADS);
    assert_eq!(heard, written);
}

fn text_of(delivery: &Delivery) -> String {
    let Delivery::Push { caller: 7, frame } = delivery else { panic!("{delivery:?}") };
    std::str::from_utf8(frame).unwrap().lines().last().unwrap().to_owned()
}

#[test]
fn a_session_answers_its_own_commands_within_transactions() {
    let (engine, _) = engine();
    let mut caller = engine.connect(1);
    let mut out = Vec::new();
    for request in [vec!["MULTI"], vec!["CLIENT", "GETNAME"], vec!["PING"], vec!["EXEC"]] {
        let argv: Vec<&[u8]> = request.iter().map(|word| word.as_bytes()).collect();
        engine.execute_beside(1, &mut caller, &argv, &mut out, &mut |_, argv, out| {
            assert_eq!(argv, [b"CLIENT".as_slice(), b"GETNAME"]);
            out.extend_from_slice(b"+mine\r\n");
        });
    }
    assert_eq!(String::from_utf8(out).unwrap(), "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+mine\r\n+PONG\r\n");
    assert_eq!(
        ask(&engine, &mut caller, &["XADD", "s", "*", "a", "b"]),
        "-ERR unknown command 'XADD' (needs REDIS_URL)\r\n"
    );
    assert_eq!(
        ask(&engine, &mut caller, &["cluster", "info"]),
        "-ERR unknown command 'cluster info' (needs REDIS_URL)\r\n"
    );
}

#[test]
fn only_the_last_evaluated_scripts_are_kept_and_all_loaded_ones() {
    let (engine, _) = engine();
    let mut caller = engine.connect(1);
    let loaded = ask(&engine, &mut caller, &["SCRIPT", "LOAD", "return 'loaded'"]);
    let sha = loaded.lines().nth(1).unwrap();
    for at in 0..9000 {
        ask(&engine, &mut caller, &["EVAL", &format!("return {at}"), "0"]);
    }
    assert_eq!(ask(&engine, &mut caller, &["EVALSHA", sha, "0"]), "$6\r\nloaded\r\n");
    let info = ask(&engine, &mut caller, &["INFO", "memory"]);
    assert!(info.contains("number_of_cached_scripts:1001\r\n"), "{info}");
    assert_eq!(ask(&engine, &mut caller, &["EVAL", "return 8999", "0"]), ":8999\r\n");
}

#[test]
fn scripts_that_ask_for_too_much_end_with_an_error_and_harm_nobody() {
    let (engine, _) = engine();
    let mut caller = engine.connect(1);
    for (script, error) in [
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        ("local function f() return pcall(f) end f() return 1", ""),
        ("local t = {} t.t = t return cjson.encode(t)", "excessive nesting"),
        ("local t = {} t[1] = t return t", ""),
        ("return string.rep('x', 1e10)", "not enough memory"),
        ("local s = 'x' while true do s = s .. s end", "not enough memory"),
        ("return unpack({}, 1, 1e7)", "too many results to unpack"),
        ("return redis.call('mget', unpack({}, 1, 7990))", "must be strings or integers"),
        ("error({})", "ERR unknown error"),
        ("error(setmetatable({}, {__index = error}))", "ERR unknown error"),
        ("return setmetatable({}, {__index = error})", ""),
        ("table.insert(_G, 1) table.insert(redis, 1) return 1", ""),
        ("coroutine.wrap(function() while true do end end)()", "ran for more than 5000 ms"),
        (
            "xpcall(function() while true do end end, function() while true do end end) while true do end",
            "5000 ms",
        ),
    ] {
        let reply = ask(&engine, &mut caller, &["EVAL", script, "0"]);
        assert_eq!(reply.starts_with('-'), !error.is_empty(), "{script}: {reply}");
        assert!(reply.contains(error), "{script}: {reply}");
        assert_eq!(
            ask(&engine, &mut caller, &["EVAL", "return {1, KEYS[1]}", "1", "k"]),
            "*2\r\n:1\r\n$1\r\nk\r\n"
        );
    }
}

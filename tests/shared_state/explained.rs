//! What COMMAND and redis-cli say of the daemon's own commands, beside those of Redis.

use std::process::Command;

use madcache::resp::{Value, array_elements, parse};

use crate::stands::embedded_with_file;
use crate::support::{Client, Daemon, Redis};
use crate::{resp3, words};

/// A reply with blanks for its line ends.
fn flat(client: &mut Client, line: &str) -> String {
    String::from_utf8(client.call(&words(line))).unwrap().replace("\r\n", " ")
}

const ROTATE_DOCS: &str = "$14 session.rotate %5 $7 summary $37 Puts another token in a token's place \
    $5 since $5 0.2.0 $5 group $7 session $10 complexity $4 O(1) $9 arguments *2 \
    %2 $4 name $5 token $4 type $6 string \
    %4 $4 name $8 grace_ms $4 type $7 integer $5 token $5 GRACE $5 flags ~1 +optional ";
const CHECK_INFO: &str =
    "*10 $10 lock.check :3 ~3 +readonly +noscript +fast :0 :0 :0 ~2 +@read +@fast ~0 ~0 ~0 ";
const ACQUIRE_INFO: &str = "*10 $12 lock.acquire :-3 ~4 +write +denyoom +blocking +noscript :0 :0 :0 \
    ~3 +@write +@blocking +@slow ~0 ~0 ~0 ";

/// As RESP2 shows a reply without nulls: maps and sets are arrays.
fn in_resp2(text: &str) -> String {
    let word = |word: &str| match word.split_at_checked(1) {
        Some(("~", len)) => format!("*{len}"),
        Some(("%", len)) => format!("*{}", 2 * len.parse::<usize>().unwrap()),
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn commands_of_ours_and_of_redis_are_explained_together_in_the_order_asked() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    for version in [2, 3] {
        let shape = |text: &str| if version == 3 { text.to_owned() } else { in_resp2(text) };
        let null = if version == 3 { "_ " } else { "$-1 " };
        let mut direct = redis.client();
        let mut client = daemon.client();
        for client in [&mut direct, &mut client] {
            client.call(&["HELLO", &version.to_string()]);
        }
        let info = |client: &mut Client, name: &str| {
            flat(client, &format!("COMMAND INFO {name}")).strip_prefix("*1 ").unwrap().to_owned()
        };
        let (get, set) = (info(&mut direct, "get"), info(&mut direct, "config|set"));
        let all = flat(&mut client, "COMMAND INFO get LOCK.CHECK nosuch config|set lock.acquire get");
        let (check, acquire) = (shape(CHECK_INFO), shape(ACQUIRE_INFO));
        assert_eq!(all, format!("*6 {get}{check}{null}{set}{acquire}{get}"));

        let docs = |client: &mut Client, name: &str| {
            let head = if version == 3 { "%1 " } else { "*2 " };
            flat(client, &format!("COMMAND DOCS {name}")).strip_prefix(head).unwrap().to_owned()
        };
        let (get, rotate) = (docs(&mut direct, "get"), shape(ROTATE_DOCS));
        let head = shape("%4");
        let line = "COMMAND DOCS session.rotate GET nosuch SESSION.ROTATE get";
        assert_eq!(flat(&mut client, line), format!("{head} {rotate}{get}{rotate}{get}"));
        assert_eq!(flat(&mut client, "COMMAND DOCS nosuch"), shape("%0 "));
    }
}

#[test]
fn lists_are_those_of_redis_and_all_documents_have_ours_behind_them() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    for version in ["2", "3"] {
        let (mut direct, mut client) = (redis.client(), daemon.client());
        for client in [&mut direct, &mut client] {
            client.call(&["HELLO", version]);
        }
        for line in
            ["COMMAND", "COMMAND COUNT", "COMMAND LIST", "COMMAND INFO", "COMMAND LIST FILTERBY PATTERN l*"]
        {
            assert_eq!(client.call(&words(line)), direct.call(&words(line)), "{line}");
        }
        let (theirs, all) = (direct.call(&["COMMAND", "DOCS"]), client.call(&["COMMAND", "DOCS"]));
        let body = |frame: &[u8]| {
            let end = frame.windows(2).position(|pair| pair == b"\r\n").unwrap();
            (String::from_utf8_lossy(&frame[1..end]).parse::<usize>().unwrap(), frame[end + 2..].to_vec())
        };
        let ((their_len, their_body), (len, body)) = (body(&theirs), body(&all));
        let per_command = if version == "3" { 1 } else { 2 };
        assert_eq!(len, their_len + 32 * per_command);
        let ours = body.strip_prefix(&their_body[..]).expect("theirs come first");
        assert!(ours.starts_with(b"$12\r\nlock.acquire\r\n"));
        assert!(parse(&all).is_some(), "one sound frame");
        // What another part of the session asks stays in order.
        client.send_raw(b"PING\r\nCOMMAND DOCS lock.info\r\nECHO x\r\n").unwrap();
        assert_eq!(client.read_frame(), b"+PONG\r\n");
        assert!(client.read_frame().windows(9).any(|part| part == b"lock.info"));
        assert_eq!(client.read_frame(), b"$1\r\nx\r\n");
    }
}

#[test]
fn a_container_of_ours_has_its_subcommands() {
    let redis = Redis::start();
    for daemon in [Daemon::start(&redis), embedded_with_file("")] {
        let mut client = resp3(&daemon);
        let Some(Value::Array(infos)) = parse(&client.call(&["COMMAND", "INFO", "madcache", "madcache|key"]))
        else {
            panic!("an array");
        };
        let inner = infos[0].elements().unwrap()[9].elements().unwrap().to_vec();
        assert_eq!(inner.len(), 6);
        assert!(inner.contains(&infos[1]));
        let docs = parse(&client.call(&["COMMAND", "DOCS", "MADCACHE"])).unwrap();
        let subcommands = docs.field("madcache").and_then(|docs| docs.field("subcommands")).unwrap();
        let bypass = subcommands.field("madcache|bypass").and_then(|docs| docs.field("arguments")).unwrap();
        assert_eq!(bypass.elements().unwrap()[0].field("type").and_then(Value::text), Some(&b"oneof"[..]));
    }
}

#[test]
fn our_commands_have_no_keys_among_their_arguments() {
    let redis = Redis::start();
    for daemon in [Daemon::start(&redis), embedded_with_file("")] {
        let mut client = daemon.client();
        for form in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let ask = |client: &mut Client, line: &str| flat(client, &format!("COMMAND {form} {line}"));
            assert_eq!(ask(&mut client, "lock.acquire a 1000"), "-ERR The command has no key arguments ");
            assert_eq!(ask(&mut client, "NOSUCH a"), "-ERR Invalid command specified ");
            assert!(ask(&mut client, "GET a").starts_with("*1 "));
        }
    }
}

#[test]
fn a_session_with_a_link_of_its_own_has_our_commands_explained_too() {
    let redis = Redis::start();
    let daemon = Daemon::start(&redis);
    let mut shared = resp3(&daemon);
    let asked = [
        "COMMAND INFO lock.check get nosuch",
        "COMMAND DOCS session.rotate GET",
        "COMMAND DOCS",
        "COMMAND GETKEYS lock.acquire a 1000",
        "COMMAND GETKEYS GET a",
        "COMMAND COUNT",
    ];
    for begin in ["WATCH k", "SUBSCRIBE c", "CLIENT TRACKING ON"] {
        let mut client = resp3(&daemon);
        client.call(&words(begin));
        for line in asked {
            assert_eq!(flat(&mut client, line), flat(&mut shared, line), "{line} after {begin}");
        }
    }
    let mut subscriber = daemon.client();
    subscriber.call(&words("SUBSCRIBE c"));
    let refusal = flat(&mut subscriber, "COMMAND INFO lock.check");
    assert!(refusal.starts_with("-ERR Can't execute"), "{refusal}");
    // In a transaction Redis speaks for itself.
    assert_eq!(flat(&mut shared, "MULTI"), "+OK ");
    assert_eq!(flat(&mut shared, "COMMAND INFO lock.check"), "+QUEUED ");
    assert_eq!(flat(&mut shared, "EXEC"), "*1 *1 _ ");
}

#[test]
fn without_a_redis_our_commands_are_explained_too() {
    let daemon = embedded_with_file("");
    let mut client = resp3(&daemon);
    let all = client.call(&["COMMAND", "INFO", "lock.check", "get", "lock.acquire", "xadd"]);
    let elements = array_elements(&all).unwrap();
    let text = |at: usize| String::from_utf8_lossy(elements[at]).replace("\r\n", " ");
    assert_eq!(
        (text(0), text(2), text(3)),
        (CHECK_INFO.to_owned(), ACQUIRE_INFO.to_owned(), "_ ".to_owned())
    );
    assert!(text(1).starts_with("*10 $3 get :2 "));
    assert!(flat(&mut client, "COMMAND DOCS session.rotate").ends_with(ROTATE_DOCS));
    let docs = parse(&client.call(&["COMMAND", "DOCS"])).expect("a sound reply");
    for name in ["get", "lock.acquire", "madcache", "cl.throttle"] {
        assert!(docs.field(name).is_some(), "{name}");
    }
    let count = |line: &str| parse(&daemon.client().call(&words(line))).unwrap();
    let listed = count("COMMAND LIST");
    let is_whole = |name: &&Value| !name.text().unwrap().contains(&b'|');
    let whole = listed.elements().unwrap().iter().filter(is_whole).count() as i64;
    assert_eq!(count("COMMAND COUNT").int(), Some(whole));
    // In a transaction the engine speaks for itself.
    assert_eq!(flat(&mut client, "MULTI"), "+OK ");
    assert_eq!(flat(&mut client, "COMMAND INFO lock.check"), "+QUEUED ");
    assert_eq!(flat(&mut client, "EXEC"), "*1 *1 _ ");
}

#[test]
fn redis_cli_helps_with_our_commands() {
    let redis = Redis::start();
    for daemon in [Daemon::start(&redis), embedded_with_file("")] {
        for (subject, parts) in [
            (
                "LOCK.ACQUIRE",
                &["name ttl_ms [TOKEN token] [WAIT ms] [FAIR] [REENTRANT]", "Takes a lock for a time"][..],
            ),
            (
                "ratelimit.check",
                &["POLICY policy|LIMIT limit WINDOW window_ms [BURST burst] [ALGO sliding|gcra|fixed|log]"],
            ),
            ("@session", &["SESSION.ROTATE", "token [GRACE grace_ms]", "SESSION.LIST"]),
            ("@server", &["MADCACHE BYPASS", "ON|OFF"]),
        ] {
            let help = Command::new("redis-cli")
                .args(["-p", &daemon.port.to_string(), "help", subject])
                .stdin(std::process::Stdio::null())
                .output()
                .expect("redis-cli is installed");
            let help = String::from_utf8_lossy(&help.stdout);
            for part in parts {
                assert!(help.contains(part), "{subject}: {part} is not in: {help}");
            }
        }
    }
}

//! Kinds of shared state that live elsewhere than L2: in this process, in a Redis of their own, nowhere.

use std::time::{Duration, Instant};

use crate::support::{Client, Daemon, Redis, eventually};
use crate::transcript::{Manner, Run};
use crate::transcripts::{ALL, POLICIES};
use crate::{Listener, daemon_with_file, fields, send, shown};

const KINDS: [&str; 4] = ["lock", "session", "presence", "ratelimit"];

/// The same lines in the section of each kind.
fn for_all(line: &str) -> String {
    KINDS.map(|kind| format!("[{kind}]\n{line}\n")).concat()
}

fn own_redis(own: &Redis) -> String {
    for_all(&format!("url_override = \"{}/5\"", own.url()))
}

/// One command of each kind that leaves a key.
const WRITES: [&str; 4] = [
    "LOCK.ACQUIRE a 60000 TOKEN t",
    "SESSION.CREATE ann",
    "PRESENCE.JOIN room ann c1",
    "RATELIMIT.CHECK user u LIMIT 3 WINDOW 604800000",
];

fn write_each(client: &mut Client) {
    for line in WRITES {
        assert!(!shown(client, line).starts_with('-'), "{line}");
    }
}

fn keys(redis: &Redis, db: &str) -> usize {
    let mut client = redis.client();
    assert_eq!(shown(&mut client, &format!("SELECT {db}")), "+OK");
    shown(&mut client, "DBSIZE").parse().unwrap()
}

#[test]
fn without_a_redis_every_command_runs_in_the_selected_database() {
    let daemon = Daemon::start_with("", &[]);
    let (mut here, mut there) = (daemon.client(), daemon.client());
    assert_eq!(shown(&mut here, "SELECT 3"), "+OK");
    assert_eq!(fields(&mut here, "LOCK.ACQUIRE a 30000 TOKEN t WAIT 100")[0], "1");
    assert_eq!(shown(&mut here, "GET lock:a"), "'t'");
    assert_eq!(shown(&mut there, "GET lock:a"), "nil");
    assert_eq!(fields(&mut here, "PRESENCE.JOIN room ann c1")[0], "1");
    assert_eq!(shown(&mut here, "PRESENCE.CHANNELS ann"), "['room']");
    assert_eq!(shown(&mut there, "PRESENCE.CHANNELS ann"), "[]");
    assert_eq!(shown(&mut here, "LOCK.RELEASE a t"), "0");
}

/// The transcripts of all commands, but for what plain commands do to the keys: those are elsewhere.
fn play(daemons: &[&Daemon], transcript: &str, resp3: bool, manner: Manner) {
    let of_state = |line: &&str| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        // These two locks are made by plain commands.
        let is_foreign =
            name.starts_with("LOCK.") && words.next().is_some_and(|name| ["b", "list"].contains(&name));
        name.contains('.') && !is_foreign
    };
    let lines: Vec<&str> = transcript.lines().filter(of_state).collect();
    let client = |daemon: &&Daemon| if resp3 { crate::resp3(daemon) } else { daemon.client() };
    let mut clients: Vec<Client> = daemons.iter().map(client).collect();
    let title = format!("{manner:?}, RESP{}", if resp3 { 3 } else { 2 });
    Run { clients: &mut clients, resp3, manner, title }.play(&lines.join("\n"));
}

#[test]
fn commands_of_kinds_in_this_process_read_as_in_redis_and_leave_nothing_there() {
    let redis = Redis::start();
    let file = for_all("driver = \"memory\"") + POLICIES;
    for (_, transcript) in ALL {
        for (resp3, manner) in [(false, Manner::InTurn), (true, Manner::Pipelined)] {
            play(&[&daemon_with_file(&redis, &file)], transcript, resp3, manner);
        }
    }
    assert_eq!(keys(&redis, "0"), 0);
}

#[test]
fn commands_of_kinds_with_a_redis_of_their_own_read_as_in_l2_and_leave_nothing_there() {
    let (redis, own) = (Redis::start(), Redis::start());
    let file = own_redis(&own) + POLICIES;
    let daemons = [daemon_with_file(&redis, &file), daemon_with_file(&redis, &file)];
    let (one, both) = ([&daemons[0]], [&daemons[0], &daemons[1]]);
    for (_, transcript) in ALL {
        for resp3 in [false, true] {
            let manners = [(&one[..], Manner::InTurn), (&one, Manner::Pipelined), (&both, Manner::InTurn)];
            for (daemons, manner) in manners {
                assert_eq!(shown(&mut own.client(), "FLUSHALL"), "+OK");
                play(daemons, transcript, resp3, manner);
            }
        }
    }
    assert_eq!(shown(&mut own.client(), "FLUSHALL"), "+OK");
    write_each(&mut daemons[0].client());
    assert_eq!((keys(&redis, "0"), keys(&own, "0")), (0, 0));
    assert!(keys(&own, "5") >= 4);
}

#[test]
fn a_cluster_of_its_own_has_tagged_keys_and_its_url_a_user() {
    let redis = Redis::start();
    let own = crate::one_node_cluster();
    let mut operator = own.client();
    operator.call(&["ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all"]);
    operator.call(&["ACL", "SETUSER", "default", "nopass", "-@all", "+info", "+ping", "+hello"]);
    let url = format!("redis://ann:secret@127.0.0.1:{}", own.port);
    let daemon = daemon_with_file(&redis, &for_all(&format!("url_override = \"{url}\"")));
    write_each(&mut daemon.client());
    assert_eq!(operator.text(&["AUTH", "ann", "secret"]), "+OK");
    assert_eq!(shown(&mut operator, "SMEMBERS presence:channel:{room}:users"), "['ann']");
    assert_eq!(keys(&redis, "0"), 0);
}

#[test]
fn without_a_redis_for_the_cache_kinds_may_have_one() {
    let own = Redis::start();
    let file = own.dir().join("madcache.toml");
    std::fs::write(&file, own_redis(&own)).unwrap();
    let daemon = Daemon::spawn_as("", &[], |command| {
        command.arg("--config").arg(&file);
    })
    .ready();
    let mut client = daemon.client();
    write_each(&mut client);
    assert_eq!(shown(&mut client, "DBSIZE"), "0");
    assert!(keys(&own, "5") >= 4);
    // The engine's transaction fails, too.
    assert_eq!(shown(&mut client, "MULTI"), "+OK");
    assert!(shown(&mut client, WRITES[0]).starts_with("-ERR lock commands are not allowed inside MULTI"));
    assert_eq!(shown(&mut client, "SET k v"), "+QUEUED");
    assert!(shown(&mut client, "EXEC").starts_with("-EXECABORT"));
    assert_eq!(shown(&mut client, "EXISTS k"), "0");
}

#[test]
fn a_transaction_with_a_kind_that_lives_apart_is_refused_as_a_whole() {
    let (redis, own) = (Redis::start(), Redis::start());
    for file in [own_redis(&own), for_all("driver = \"memory\"")] {
        let daemon = daemon_with_file(&redis, &file);
        let mut client = daemon.client();
        for (line, kind) in WRITES.iter().zip(KINDS) {
            assert_eq!(shown(&mut client, "MULTI"), "+OK");
            assert_eq!(shown(&mut client, "SET k v"), "+QUEUED");
            let refusal = shown(&mut client, line);
            assert!(refusal.starts_with(&format!("-ERR {kind} commands are not allowed")), "{refusal}");
            assert!(shown(&mut client, "EXEC").starts_with("-EXECABORT"), "{line}");
        }
        assert_eq!(shown(&mut client, "EXISTS k"), "0");
        write_each(&mut client);
    }
}

/// A waiter of one daemon is woken by a release through another, and told of the lock that the first lost.
fn wakes(holder: &mut Client, waiter: &mut Client) {
    assert_eq!(fields(holder, "LOCK.ACQUIRE w 30000 TOKEN mine")[0], "1");
    send(waiter, "LOCK.ACQUIRE w 30000 WAIT 15000");
    eventually("somebody waits", || fields(holder, "LOCK.INFO w").pop().unwrap() == "1");
    let began = Instant::now();
    assert_eq!(shown(holder, "LOCK.RELEASE w mine"), "0");
    assert!(waiter.read_frame().starts_with(b"*4\r\n:1\r\n"));
    // Without a message it would look again after a second.
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    assert_eq!(shown(holder, "LOCK.FORCE w"), "1");
}

#[test]
fn waiters_are_woken_where_locks_live() {
    let (redis, own) = (Redis::start(), Redis::start());
    let file = own_redis(&own);
    let (here, there) = (daemon_with_file(&redis, &file), daemon_with_file(&redis, &file));
    wakes(&mut here.client(), &mut there.client());
    let alone = daemon_with_file(&redis, "[lock]\ndriver = \"memory\"\nprefix = \"app:\"");
    wakes(&mut alone.client(), &mut alone.client());
    assert!(alone.stderr().contains("lock is node-local"), "{}", alone.stderr());
}

/// Joins, is swept, and leaves with its connection; each is heard of once.
fn presence_comes_and_goes(daemon: &Daemon, events: &mut Listener) {
    let mut client = daemon.client();
    shown(&mut client, "PRESENCE.JOIN room ann c1 TTL 400");
    assert!(events.next().contains(r#""type":"join","user":"ann""#));
    let expired = events.next();
    assert!(expired.contains(r#""type":"leave","user":"ann""#) && expired.contains("expired"), "{expired}");
    let mut tab = daemon.client();
    shown(&mut tab, "PRESENCE.JOIN room bob c2 TTL 600 BIND");
    assert!(events.next().contains(r#""type":"join","user":"bob""#));
    events.client.expect_silence(Duration::from_millis(1500));
    drop(tab);
    let closed = events.next();
    assert!(closed.contains(r#""type":"leave","user":"bob""#) && closed.contains("closed"), "{closed}");
    assert_eq!(shown(&mut client, "PRESENCE.COUNT room"), "[0 0]");
}

#[test]
fn presence_in_a_redis_of_its_own_is_swept_and_announced_there() {
    let (redis, own) = (Redis::start(), Redis::start());
    let daemon = daemon_with_file(&redis, &own_redis(&own));
    presence_comes_and_goes(&daemon, &mut Listener::of(&own, "events:presence:room"));
}

#[test]
fn presence_in_this_process_is_swept_and_announced_in_l2() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, "[presence]\ndriver = \"memory\"\nprefix = \"p:\"");
    let mut subscriber = Listener { client: daemon.client() };
    assert!(subscriber.client.call(&["SUBSCRIBE", "p:events:presence:room"]).starts_with(b"*3"));
    presence_comes_and_goes(&daemon, &mut subscriber);
    assert_eq!(keys(&redis, "0"), 0);
}

#[test]
fn a_kind_whose_redis_dies_leaves_the_others_and_the_cache_alone() {
    let (redis, mut own) = (Redis::start(), Redis::start());
    let url = own.url();
    let file = format!(
        "[lock]\nurl_override = \"{url}\"\n[ratelimit]\nurl_override = \"{url}\"\non_l2_down = \"closed\""
    );
    let daemon = daemon_with_file(&redis, &file);
    let mut client = daemon.client();
    write_each(&mut client);
    assert!(keys(&own, "0") > 0);
    eventually("it is seen to be there", || daemon.stat("lock_reachable") == 1);
    own.process.kill();
    eventually("it is seen to be away", || daemon.stat("lock_reachable") == 0);
    let away = shown(&mut client, "LOCK.INFO a");
    assert!(away.starts_with("-LOADING madcache: not sent"), "{away}");
    assert_eq!(shown(&mut client, "RATELIMIT.CHECK user u LIMIT 9 WINDOW 60000"), "[0 9 0 1000 1000]");
    for line in ["SET k v", "GET k", "PRESENCE.COUNT room", "SESSION.COUNT ann"] {
        assert!(!shown(&mut client, line).starts_with('-'), "{line}");
    }
    assert_eq!((daemon.stat("l2_reachable"), daemon.stat("presence_reachable")), (1, 1));
    let (status, text) = daemon.http("/readyz");
    assert!(
        status == 200 && text.contains("the Redis of lock, ratelimit at") && text.contains("does not answer"),
        "{text}"
    );
    own.restart();
    eventually("locks work again", || shown(&mut client, "LOCK.INFO a") == "nil");
    eventually("it is seen to be back", || daemon.http("/readyz") == (200, "ready\n".into()));
}

#[test]
fn a_kind_goes_on_where_only_l2_is_away() {
    let (mut redis, own) = (Redis::start(), Redis::start());
    let daemon = daemon_with_file(&redis, &own_redis(&own));
    redis.process.kill();
    eventually("L2 is seen to be away", || daemon.http("/readyz").0 == 503);
    let mut client = daemon.client();
    write_each(&mut client);
    assert!(shown(&mut client, "GET k").starts_with('-'));
}

#[test]
fn commands_keep_their_order_with_those_of_l2() {
    let (redis, own) = (Redis::start(), Redis::start());
    for file in [own_redis(&own), for_all("driver = \"memory\"")] {
        let daemon = daemon_with_file(&redis, &file);
        let (mut client, mut watcher) = (daemon.client(), redis.client());
        shown(&mut client, "LOCK.ACQUIRE a 60000 TOKEN t");
        // The write is held up; the release must not overtake it.
        assert_eq!(shown(&mut watcher, "CLIENT PAUSE 700 WRITE"), "+OK");
        send(&mut client, "SET k v");
        send(&mut client, "LOCK.RELEASE a t");
        send(&mut client, "GET k");
        let mut other = daemon.client();
        while shown(&mut other, "LOCK.INFO a") != "nil" {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(shown(&mut watcher, "GET k"), "'v'");
        assert_eq!(client.read_frame(), b"+OK\r\n");
        assert_eq!(client.read_frame(), b":0\r\n");
        assert_eq!(client.read_frame(), b"$1\r\nv\r\n");
        shown(&mut watcher, "DEL k");
    }
}

#[test]
fn who_may_run_no_scripts_in_l2_may_run_none_elsewhere() {
    let redis = Redis::start();
    let mut operator = redis.client();
    operator.call(&["ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-@scripting"]);
    operator.call(&["ACL", "SETUSER", "strong", "on", ">pw", "~*", "+@all"]);
    let daemon = daemon_with_file(&redis, &for_all("driver = \"memory\""));
    let (mut weak, mut strong) = (daemon.client(), daemon.client());
    assert_eq!(shown(&mut weak, "AUTH weak pw"), "+OK");
    assert_eq!(shown(&mut strong, "AUTH strong pw"), "+OK");
    for line in WRITES {
        assert!(shown(&mut weak, line).starts_with("-NOPERM"), "{line}");
    }
    write_each(&mut strong);
    // Nobody is let in before L2 has.
    operator.call(&["CONFIG", "SET", "requirepass", "secret"]);
    let url = redis.url();
    let daemon = Daemon::spawn_as(&url, &[("MADCACHE_LOCK_DRIVER", "memory")], |_| {}).ready();
    let mut client = daemon.client();
    assert!(shown(&mut client, WRITES[0]).starts_with("-NOPERM"));
    assert_eq!(shown(&mut client, "AUTH secret"), "+OK");
    assert_eq!(fields(&mut client, WRITES[0])[0], "1");
}

#[test]
fn a_database_that_the_process_has_not_is_refused() {
    let redis = Redis::start();
    let daemon = daemon_with_file(&redis, "[memory]\ndatabases = 2\n[lock]\ndriver = \"memory\"");
    let (mut first, mut second) = (daemon.client(), daemon.client());
    assert_eq!(shown(&mut second, "SELECT 1"), "+OK");
    assert_eq!(fields(&mut first, "LOCK.ACQUIRE a 60000")[0], "1");
    assert_eq!(fields(&mut second, "LOCK.ACQUIRE a 60000")[0], "1");
    assert_eq!(shown(&mut second, "SELECT 2"), "+OK");
    assert!(shown(&mut second, "LOCK.ACQUIRE a 60000").contains("memory.databases"));
}

#[test]
fn a_redis_that_may_evict_locks_or_sessions_is_warned_of() {
    let redis = Redis::start();
    let own = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let daemon = daemon_with_file(&redis, &own_redis(&own));
    let warning =
        format!("the Redis of lock, session, presence, ratelimit at 127.0.0.1:{} may evict", own.port);
    eventually("it is warned of", || daemon.stderr().contains(&warning));
    assert!(!daemon.stderr().contains("L2 may evict"));
    let daemon = Daemon::start(&own);
    eventually("it is warned of L2", || {
        daemon.stderr().contains("L2 may evict what it keeps of lock and session")
    });
}

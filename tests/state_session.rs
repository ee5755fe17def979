//! The session scripts against a real Redis, at injected times: expiry, touches, versions, rotation, limits, logouts, what
//! keys and arguments reveal, and what a tracked link is told. L1 itself is tested with the daemon.
mod support;

use madcache::resp::{Value, parse};
use madcache::state::session::{Command, Fresh, KeyMode, Settings, Tag, Token, Validated};
use madcache::state::{self, Call, Naming};
use support::scripts::{START_US, Store, shown};
use support::{Client, eventually};

/// A store with sessions whose secrets are counted: the n-th token drawn is `token(user, n)`.
struct Logins {
    store: Store,
    settings: Settings,
    drawn: u8,
}

fn token(user: &str, number: u8) -> String {
    let fresh = Fresh::new(&[number; 32], &Tag::of_user(user.as_bytes()));
    String::from_utf8(fresh.as_bytes().to_vec()).unwrap()
}

fn command(line: &str) -> Command {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    match state::parse(&words) {
        Ok(state::Command::Session(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

impl Logins {
    fn start() -> Logins {
        Logins { store: Store::start(), settings: Settings::default(), drawn: 0 }
    }

    fn call(&mut self, line: &str) -> Call {
        let settings = self.settings.clone();
        match command(line) {
            Command::Create(create) => {
                self.drawn += 1;
                create.call(&settings, &[self.drawn; 32], &[self.drawn; 16])
            }
            Command::Rotate(rotate) => {
                self.drawn += 1;
                rotate.call(&settings, &[self.drawn; 32])
            }
            Command::Validate(validate) => validate.call(&settings),
            Command::Touch(touch) => touch.call(&settings),
            Command::Set(set) => set.call(&settings),
            Command::Destroy(destroy) => destroy.call(&settings),
            Command::Revoke(revoke) => revoke.call(&settings),
            Command::DestroyAll(all) => all.call(&settings),
            Command::List(list) => list.call(&settings),
            Command::Count(count) => count.call(&settings),
        }
    }

    /// What a client gets in RESP2, without what has to do with L1.
    fn run(&mut self, line: &str) -> String {
        let call = self.call(line);
        let reply = call.reply;
        let frame = self.store.frame(call);
        let mut out = Vec::new();
        reply.convert(&frame, false, &mut out);
        shown(&parse(&out).expect("a reply"))
    }

    /// VALIDATE as a daemon performs it: with the touch that it asks for. The times left, or None.
    fn validate(&mut self, token: &str) -> Option<(i64, i64)> {
        let Command::Validate(validate) = command(&format!("SESSION.VALIDATE {token}")) else { panic!() };
        let frame = self.store.frame(validate.call(&self.settings));
        let session = Validated::parse(&frame).unwrap()?;
        if session.wants_touch(0) {
            self.store.run(validate.touch(&self.settings));
        }
        let reply = self.run(&format!("SESSION.VALIDATE {token}"));
        let words: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        Some((words[3].parse().unwrap(), words[4].parse().unwrap()))
    }

    fn is_live(&mut self, token: &str) -> bool {
        self.run(&format!("SESSION.VALIDATE {token} NOTOUCH")) != "~"
    }

    /// A session by its number, with options; its token and id.
    fn create(&mut self, user: &str, options: &str) -> (String, String) {
        let reply = self.run(format!("SESSION.CREATE {user} {options}").trim_end());
        let words: Vec<&str> = reply.trim_matches(['[', ']']).split(' ').collect();
        assert_eq!(words[0], token(user, self.drawn), "{reply}");
        (words[0].to_owned(), words[1].to_owned())
    }

    fn redis(&mut self, line: &str) -> String {
        shown(&parse(&self.store.client.call(&line.split(' ').collect::<Vec<_>>())).expect("a reply"))
    }
}

#[test]
fn a_session_is_created_validated_and_destroyed() {
    let mut logins = Logins::start();
    let reply = logins.run("SESSION.CREATE ann DATA {\"role\":1} DEVICE phone");
    let (token, tag) = (token("ann", 1), &token("ann", 1)[44..]);
    assert_eq!(reply, format!("[{token} AQEBAQEBAQEBAQEBAQEBAQ.{tag} 3600000]"));
    let id = format!("AQEBAQEBAQEBAQEBAQEBAQ.{tag}");
    let wanted = format!("[{id} ann 1 3600000 2592000000 {{\"role\":1}}]");
    assert_eq!(logins.run(&format!("SESSION.VALIDATE {token}")), wanted);
    assert_eq!(logins.run(&format!("SESSION.TOUCH {token}")), "3600000");
    assert_eq!(logins.run("SESSION.COUNT ann"), "1");
    let now = START_US / 1000;
    let row = format!("[[{id} phone {now} {now} {}]]", now + 3_780_000);
    assert_eq!(logins.run("SESSION.LIST ann"), row);
    assert_eq!(logins.run(&format!("SESSION.DESTROY {token}")), "1");
    assert_eq!(logins.run(&format!("SESSION.DESTROY {token}")), "0");
    assert_eq!(logins.run(&format!("SESSION.VALIDATE {token}")), "~");
    assert_eq!(logins.run(&format!("SESSION.TOUCH {token}")), "~");
    assert_eq!(logins.run("SESSION.LIST ann"), "[]");
    assert_eq!(logins.redis("DBSIZE"), "0", "nothing is left");
}

#[test]
fn what_is_no_token_is_no_session_and_writes_nothing() {
    let mut logins = Logins::start();
    for text in ["x", "{}", ".AAAAAAAA", &"a".repeat(5000), &token("ann", 9)] {
        assert_eq!(logins.run(&format!("SESSION.VALIDATE {text}")), "~");
        assert_eq!(logins.run(&format!("SESSION.TOUCH {text}")), "~");
        assert_eq!(logins.run(&format!("SESSION.SET {text} 1")), "NOSESSION no such session");
        assert_eq!(logins.run(&format!("SESSION.ROTATE {text}")), "NOSESSION no such session");
        assert_eq!(logins.run(&format!("SESSION.DESTROY {text}")), "0");
        assert_eq!(logins.run(&format!("SESSION.REVOKE {text}")), "0");
        assert_eq!(logins.run(&format!("SESSION.DESTROYALL ann EXCEPT {text}")), "0");
    }
    assert_eq!(logins.redis("DBSIZE"), "0");
}

#[test]
fn an_unused_session_ends_after_its_idle_time_and_never_earlier() {
    let mut logins = Logins::start();
    let (token, _) = logins.create("ann", "IDLE 20000");
    // The last use just before it would be written down again: a whole idle time is left all the same.
    logins.store.pass_ms(999);
    assert_eq!(logins.validate(&token), Some((20_000, 2_592_000_000 - 999)));
    logins.store.pass_ms(19_999);
    assert!(logins.is_live(&token));
    logins.store.pass_ms(1002);
    assert!(!logins.is_live(&token), "at most idle/20 later");
    assert_eq!(logins.run("SESSION.COUNT ann"), "0");
    assert_eq!(logins.run(&format!("SESSION.TOUCH {token}")), "~");
    assert_eq!(logins.run(&format!("SESSION.SET {token} 1")), "NOSESSION no such session");
}

#[test]
fn uses_are_written_down_once_per_twentieth_of_the_idle_time() {
    let mut logins = Logins::start();
    let (token, _) = logins.create("ann", "IDLE 20000");
    let key = logins.redis("KEYS session:*");
    let key = key.trim_matches(['[', ']']).to_owned();
    let mut writes = 0;
    let mut used = logins.redis(&format!("HGET {key} used_ms"));
    for _ in 0..100 {
        logins.store.pass_ms(100);
        assert_eq!(logins.validate(&token).unwrap().0, 20_000);
        let now = logins.redis(&format!("HGET {key} used_ms"));
        writes += usize::from(now != used);
        used = now;
    }
    assert_eq!(writes, 10, "ten seconds of use, one write a second");
    let before = logins.store.contents();
    logins.store.pass_ms(500);
    logins.run(&format!("SESSION.VALIDATE {token} NOTOUCH"));
    logins.run(&format!("SESSION.TOUCH {token}"));
    assert_eq!(logins.store.contents(), before);
}

#[test]
fn constant_touching_does_not_outlive_the_absolute_cap() {
    let mut logins = Logins::start();
    let (token, _) = logins.create("ann", "IDLE 10000 ABSOLUTE 30000");
    for second in 1..30 {
        logins.store.pass_ms(1000);
        let (idle, absolute) = logins.validate(&token).expect("a live session");
        assert_eq!((idle, absolute), ((30_000 - second * 1000).min(10_000), 30_000 - second * 1000));
        let left = logins.redis("KEYS session:*");
        assert!(logins.store.pttl(left.trim_matches(['[', ']'])) <= absolute);
    }
    logins.store.pass_ms(1000);
    assert_eq!(logins.validate(&token), None);
    let short = logins.run("SESSION.CREATE ann IDLE 10000 ABSOLUTE 5000");
    assert!(short.ends_with(" 5000]"), "{short}");
}

#[test]
fn data_has_a_version_and_a_stale_writer_is_refused() {
    let mut logins = Logins::start();
    let (token, _) = logins.create("ann", "");
    assert_eq!(logins.run(&format!("SESSION.SET {token} [1]")), "2");
    assert_eq!(logins.run(&format!("SESSION.SET {token} [2] IFVER 2")), "3");
    let before = logins.store.contents();
    assert_eq!(logins.run(&format!("SESSION.SET {token} [9] IFVER 2")), "STALE the session has version 3");
    assert_eq!(logins.store.contents(), before);
    assert!(logins.run(&format!("SESSION.VALIDATE {token}")).ends_with(" [2]]"));
}

#[test]
fn a_slow_write_behind_a_logout_brings_nothing_back() {
    let mut logins = Logins::start();
    let (token, id) = logins.create("ann", "");
    let late = ["SET {} [1]", "SET {} [1] IFVER 1", "ROTATE {}", "TOUCH {}"]
        .map(|line| logins.call(&format!("SESSION.{}", line.replace("{}", &token))));
    assert_eq!(logins.run(&format!("SESSION.REVOKE {id}")), "1");
    let replies = late.map(|call| logins.store.run(call));
    let gone = "NOSESSION no such session";
    assert_eq!(replies, [gone, gone, gone, "~"]);
    assert_eq!(logins.redis("DBSIZE"), "0");
}

#[test]
fn rotation_keeps_the_id_and_the_old_token_ends_at_once_without_grace() {
    let mut logins = Logins::start();
    let (old, id) = logins.create("ann", "DATA [7] DEVICE phone IDLE 20000 ABSOLUTE 60000");
    logins.store.pass_ms(5000);
    let new = token("ann", 2);
    assert_eq!(logins.run(&format!("SESSION.ROTATE {old}")), format!("[{new} {id} 20000]"));
    assert!(!logins.is_live(&old));
    assert_eq!(logins.run(&format!("SESSION.VALIDATE {new}")), format!("[{id} ann 1 20000 55000 [7]]"));
    assert_eq!(logins.run("SESSION.COUNT ann"), "1");
    assert!(logins.run("SESSION.LIST ann").contains(" phone "));
    assert_eq!(logins.run(&format!("SESSION.ROTATE {old} GRACE 5")), "NOSESSION no such session");
    assert_eq!(logins.redis("DBSIZE"), "3");
}

#[test]
fn within_its_grace_an_old_token_in_flight_still_works_but_cannot_rotate() {
    let mut logins = Logins::start();
    let (old, id) = logins.create("ann", "DATA [1] IDLE 20000");
    logins.run(&format!("SESSION.ROTATE {old} GRACE 10000"));
    let new = token("ann", 2);
    assert_eq!(
        logins.run(&format!("SESSION.ROTATE {old} GRACE 10000")),
        "STALE the token was rotated before"
    );
    assert_eq!(
        logins.run(&format!("SESSION.SET {old} [2] IFVER 1")),
        "2",
        "a write with the old token counts"
    );
    assert!(logins.run(&format!("SESSION.VALIDATE {new}")).ends_with("ann 2 20000 2592000000 [2]]"));
    assert_eq!(logins.run(&format!("SESSION.SET {new} [3]")), "3");
    let wanted = format!("[{id} ann 3 10000 10000 [3]]");
    assert_eq!(logins.run(&format!("SESSION.VALIDATE {old}")), wanted, "what the new token wrote is seen");
    assert_eq!(logins.run("SESSION.COUNT ann"), "1");
    logins.store.pass_ms(9999);
    assert_eq!(logins.run(&format!("SESSION.TOUCH {old}")), "1", "the session is touched, the grace is not");
    assert_eq!(logins.run(&format!("SESSION.VALIDATE {new} NOTOUCH")).split(' ').nth(3), Some("20000"));
    logins.store.pass_ms(1);
    assert!(!logins.is_live(&old));
    assert!(logins.is_live(&new));
    assert!(logins.run(&format!("SESSION.ROTATE {new}")).contains(&id));
}

#[test]
fn every_logout_ends_the_new_and_the_old_token() {
    for logout in ["DESTROY {old}", "DESTROY {new}", "REVOKE {id}", "DESTROYALL ann"] {
        let mut logins = Logins::start();
        let (old, id) = logins.create("ann", "");
        logins.run(&format!("SESSION.ROTATE {old} GRACE 10000"));
        let new = token("ann", 2);
        let line = logout.replace("{old}", &old).replace("{new}", &new).replace("{id}", &id);
        assert_eq!(logins.run(&format!("SESSION.{line}")), "1", "{logout}");
        assert!(!logins.is_live(&old) && !logins.is_live(&new), "{logout}");
        assert_eq!(logins.redis("DBSIZE"), "0", "{logout}");
    }
    let mut logins = Logins::start();
    let (first, _) = logins.create("ann", "");
    logins.run(&format!("SESSION.ROTATE {first} GRACE 10000"));
    logins.run(&format!("SESSION.ROTATE {} GRACE 10000", token("ann", 2)));
    assert!(!logins.is_live(&first), "there is one old token at most");
    assert!(logins.is_live(&token("ann", 2)) && logins.is_live(&token("ann", 3)));
}

#[test]
fn a_user_has_as_many_sessions_as_max_allows() {
    let mut logins = Logins::start();
    let (first, _) = logins.create("ann", "MAX 2 REJECT");
    logins.store.pass_ms(10);
    let (second, _) = logins.create("ann", "MAX 2 REJECT");
    logins.create("bob", "");
    let before = logins.store.contents();
    assert_eq!(logins.run("SESSION.CREATE ann MAX 2 REJECT"), "MAXSESSIONS the user has 2 sessions");
    assert_eq!(logins.store.contents(), before);
    logins.store.pass_ms(600_000);
    assert!(logins.validate(&first).is_some());
    let (third, _) = logins.create("ann", "MAX 2 EVICT");
    assert!(!logins.is_live(&second), "the one that would have ended first");
    assert!(logins.is_live(&first) && logins.is_live(&third));
    let (fourth, _) = logins.create("ann", "MAX 1 EVICT");
    assert!(!logins.is_live(&first) && !logins.is_live(&third) && logins.is_live(&fourth));
    // Those that have ended do not count.
    logins.store.pass_ms(4_000_000);
    logins.create("ann", "MAX 1 REJECT");
    assert_eq!(logins.run("SESSION.COUNT ann"), "1");
}

#[test]
fn destroyall_ends_all_sessions_of_the_user_but_the_one_excepted() {
    let mut logins = Logins::start();
    let tokens: Vec<_> = (0..5).map(|_| logins.create("ann", "").0).collect();
    let (bob, _) = logins.create("bob", "");
    assert_eq!(logins.run(&format!("SESSION.DESTROYALL ann EXCEPT {}", tokens[3])), "4");
    let live: Vec<_> = tokens.iter().map(|token| logins.is_live(token)).collect();
    assert_eq!(live, [false, false, false, true, false]);
    assert_eq!(logins.run(&format!("SESSION.DESTROYALL ann EXCEPT {bob}")), "1", "no token of this user");
    assert_eq!(logins.run("SESSION.DESTROYALL ann"), "0");
    assert!(logins.is_live(&bob));
}

#[test]
fn users_who_share_a_tag_share_no_session() {
    let mut logins = Logins::start();
    let (ann, _) = logins.create("ann", "");
    // Nobody finds two such names, so the index is told that another user's session is in this slot.
    let id = "other.".to_owned() + &ann[44..];
    let key = logins.redis("KEYS session:*").trim_matches(['[', ']']).to_owned();
    logins.redis(&format!("COPY {key} session:other"));
    logins.redis(&format!("HSET session:other id {id} user eve"));
    let [index, names] = ["index", "names"].map(|what| format!("x:session:{{{}}}:{what}", &ann[44..]));
    logins.redis(&format!("ZADD {index} 1880000000000 {id}"));
    logins.store.client.call(&["HSET", &names, &id, "other eve"]);
    assert_eq!(logins.run("SESSION.COUNT ann"), "1");
    logins.create("ann", "MAX 2 REJECT");
    logins.create("ann", "MAX 1 EVICT");
    assert_eq!(logins.run("SESSION.DESTROYALL ann"), "1");
    assert_eq!(logins.redis("EXISTS session:other"), "1");
    assert_eq!(logins.run(&format!("SESSION.REVOKE {id}")), "1");
}

#[test]
fn a_logout_racing_logins_and_rotations_leaves_only_what_came_after_it() {
    let logins = Logins::start();
    let client = || logins.store.redis.client();
    let settings = Settings::default();
    let run = |client: &mut Client, call: Call| {
        client.send_raw(&call.eval()).unwrap();
        shown(&parse(&client.read_frame()).unwrap())
    };
    let Command::Create(create) = command("SESSION.CREATE ann") else { panic!() };
    let Command::DestroyAll(all) = command("SESSION.DESTROYALL ann") else { panic!() };
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (create, settings) = (&create, &settings);
            let mut client = client();
            scope.spawn(move || {
                for number in 0..50u8 {
                    let mut secret = [thread; 32];
                    secret[0] = number;
                    let mut id = [thread; 16];
                    id[0] = number;
                    run(&mut client, create.call(settings, &secret, &id));
                    let token = Token::from(Fresh::new(&secret, &Tag::of_user(b"ann")));
                    secret[1] = 255;
                    let rotate = madcache::state::session::Rotate { token, grace_ms: 100_000 };
                    run(&mut client, rotate.call(settings, &secret));
                }
            });
        }
        let mut client = client();
        for _ in 0..100 {
            run(&mut client, all.call(&settings));
        }
    });
    let mut client = client();
    run(&mut client, all.call(&settings));
    assert_eq!(
        shown(&parse(&client.call(&["KEYS", "*"])).unwrap()),
        "[]",
        "no session without an entry in the index"
    );
}

#[test]
fn neither_keys_nor_values_nor_lists_show_a_token_unless_the_mode_is_plain() {
    let mut logins = Logins::start();
    let (old, _) = logins.create("ann", "DEVICE phone");
    logins.run(&format!("SESSION.ROTATE {old} GRACE 5000"));
    let all = |logins: &mut Logins| {
        let Some(Value::Array(keys)) = parse(&logins.store.client.call(&["KEYS", "*"])) else { panic!() };
        let mut text = logins.run("SESSION.LIST ann");
        for key in keys.iter().map(shown) {
            text += &key;
            text += &logins.redis(&format!("HGETALL {key}"));
        }
        text
    };
    let text = all(&mut logins);
    assert!(!text.contains(&old[..43]) && !text.contains(&token("ann", 2)[..43]), "{text}");
    logins.settings.key_mode = KeyMode::Plain;
    let (plain, _) = logins.create("ann", "DATA [1]");
    assert_eq!(logins.redis(&format!("HMGET session:{plain} user data")), "[ann [1]]");
    assert!(logins.is_live(&plain));
}

#[test]
fn a_clock_that_steps_back_ends_no_session_and_prolongs_none_past_its_idle_time() {
    let mut logins = Logins::start();
    logins.store.pass_ms(30_000);
    let (token, _) = logins.create("ann", "IDLE 20000");
    logins.store.now_us -= 30_000_000;
    assert!(logins.is_live(&token));
    assert_eq!(logins.run(&format!("SESSION.TOUCH {token}")), "20000");
    logins.store.pass_ms(30_000 + 21_000);
    assert!(!logins.is_live(&token));
    // A day ahead, and back: the use is not believed, and the idle time runs from the next one that is written.
    logins.store.pass_ms(86_400_000);
    let (token, _) = logins.create("ann", "IDLE 20000");
    logins.store.now_us -= 86_400_000_000;
    assert_eq!(logins.validate(&token).map(|(idle, _)| idle), Some(20_000));
    logins.store.pass_ms(21_000);
    assert!(!logins.is_live(&token));
}

#[test]
fn a_tracked_link_is_told_of_every_change_also_by_scripts_that_do_not_declare_the_key() {
    let mut logins = Logins::start();
    let mut link = logins.store.redis.client();
    link.call(&["HELLO", "3"]);
    link.call(&["CLIENT", "TRACKING", "ON"]);
    let now = logins.store.now_us;
    let settings = logins.settings.clone();
    let mut told = |logins: &mut Logins, token: &str, change: &str| {
        let Command::Validate(validate) = command(&format!("SESSION.VALIDATE {token} NOTOUCH")) else {
            panic!()
        };
        link.send_raw(&validate.call(&settings).at(now).eval()).unwrap();
        let frame = link.read_frame();
        assert!(Validated::parse(&frame).unwrap().is_some(), "{change}: {frame:?}");
        let reply = logins.run(change);
        assert!(!reply.contains("SESSION "), "{change}: {reply}");
        let push = String::from_utf8_lossy(&link.read_frame()).into_owned();
        let key = String::from_utf8(validate.call(&settings).keys().next().unwrap().to_vec()).unwrap();
        assert!(push.starts_with(">2") && push.contains("invalidate") && push.contains(&key), "{push}");
    };
    let (old, _) = logins.create("ann", "");
    told(&mut logins, &old, &format!("SESSION.ROTATE {old} GRACE 60000"));
    let new = token("ann", 2);
    told(&mut logins, &old, &format!("SESSION.SET {new} [1]"));
    told(&mut logins, &new, &format!("SESSION.SET {old} [2]"));
    told(&mut logins, &new, &format!("SESSION.DESTROY {old}"));
    let (second, id) = logins.create("ann", "");
    told(&mut logins, &second, &format!("SESSION.REVOKE {id}"));
    let (third, _) = logins.create("ann", "");
    told(&mut logins, &third, "SESSION.DESTROYALL ann");
    let (fourth, _) = logins.create("ann", "");
    told(&mut logins, &fourth, "SESSION.CREATE ann MAX 1 EVICT");
}

#[test]
fn on_a_cluster_all_scripts_reach_all_sessions_of_a_user() {
    let mut logins = Logins::start();
    logins.store = Store::start_with(&["--cluster-enabled", "yes"]);
    assert_eq!(logins.redis("CLUSTER ADDSLOTSRANGE 0 16383"), "OK");
    let mut client = logins.store.redis.client();
    eventually("the cluster is up", || client.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    logins.settings.naming = Naming { prefix: b"app:".to_vec(), tagged: true };
    let (old, id) = logins.create("ann", "");
    logins.run(&format!("SESSION.ROTATE {old} GRACE 60000"));
    let new = token("ann", 2);
    assert_eq!(logins.run(&format!("SESSION.SET {old} [1]")), "2");
    assert_eq!(logins.run(&format!("SESSION.TOUCH {new}")), "3600000");
    let (bob, _) = logins.create("bob", "");
    assert_eq!(logins.run(&format!("SESSION.DESTROYALL ann EXCEPT {bob}")), "1");
    let tokens: Vec<_> = (0..3).map(|_| logins.create("ann", "").0).collect();
    assert_eq!(logins.run("SESSION.COUNT ann"), "3");
    assert_eq!(logins.run(&format!("SESSION.REVOKE {id}")), "0");
    assert_eq!(logins.run(&format!("SESSION.DESTROYALL ann EXCEPT {}", tokens[0])), "2");
    logins.create("ann", "MAX 1 EVICT");
    assert!(!logins.is_live(&tokens[0]));
    assert_eq!(logins.run(&format!("SESSION.DESTROY {bob}")), "1");
    let keys = logins.redis("KEYS session*");
    assert_eq!(keys, "[]", "all primary keys carry the prefix and a tag");
}

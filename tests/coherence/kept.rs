//! What L1 keeps of shared-state commands: VALIDATE's answers and denials of CHECK are as coherent as reads, and what
//! they say is true at the moment when it is said.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::kit::{
    HitsCount, SOON, Scripted, Setup, all_see_despite, elements, frame_within, is_request, number, ok, owned,
    pipeline, rounds, show, two_workers, warm, words,
};
use crate::support::fake_l2::{Frame, Links, Side, Way, invalidate};
use crate::support::{Client, PATIENCE};

const NIL: &str = "$-1\r\n";

/// A user session's token.
fn login(session: &mut Client, options: &str) -> String {
    let line = format!("SESSION.CREATE ann {options}");
    elements(&session.call(&words(line.trim_end())))[0].clone()
}

fn validate(token: &str) -> Vec<String> {
    owned(&["SESSION.VALIDATE", token])
}

fn kept(setup: &Setup, session: &mut Client, request: &[String]) -> Vec<u8> {
    let request: Vec<&str> = request.iter().map(String::as_str).collect();
    warm(&setup.daemon, session, &request)
}

/// The integers of a flat reply.
fn integers(frame: &[u8]) -> Vec<i64> {
    elements(frame).iter().filter_map(|line| line.strip_prefix(':')?.parse().ok()).collect()
}

/// The lines of a frame, times left out.
fn without_times(frame: &[u8]) -> Vec<String> {
    let is_time = |line: &str| line.starts_with(':') && line.len() > 5;
    show(frame).split("\r\n").map(|line| if is_time(line) { "time" } else { line }.to_string()).collect()
}

fn check(limit: &str) -> Vec<String> {
    words(&format!("RATELIMIT.CHECK job s {limit}"))
}

/// Checks until one is answered from L1: a denial.
fn exhaust(setup: &Setup, session: &mut Client, check: &[String]) -> Vec<i64> {
    integers(&kept(setup, session, check))
}

#[test]
fn a_validated_session_is_told_from_l1_as_redis_tells_it() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    let mut resp3 = setup.daemon.client();
    resp3.call(&words("HELLO 3"));
    let token = login(&mut session, "DATA {\"role\":\"admin\"}");
    let bare = login(&mut session, "");
    for token in [&token, &bare] {
        for options in [&[][..], &["NOTOUCH"]] {
            let request = [&["SESSION.VALIDATE", token][..], options].concat();
            let strict = [&request[..], &["STRICT"]].concat();
            for client in [&mut session, &mut resp3] {
                warm(&setup.daemon, client, &request);
                let hits = HitsCount::from_now(&setup.daemon);
                let (from_l1, from_redis) = (client.call(&request), client.call(&strict));
                assert_eq!(hits.seen(), 1);
                assert_eq!(without_times(&from_l1), without_times(&from_redis));
            }
        }
    }
}

#[test]
fn a_token_that_nobody_has_is_remembered_as_such_until_there_is_one() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    let token = login(&mut session, "");
    let another = if token.as_bytes()[10] == b'x' { 'y' } else { 'x' };
    let foreign = format!("{}{another}{}", &token[..10], &token[11..]);
    assert_eq!(show(&kept(&setup, &mut session, &validate(&foreign))), NIL);
    assert_ne!(show(&session.call(&validate(&token))), NIL);
}

#[test]
fn a_logout_is_seen_by_every_session_of_its_daemon_once_it_is_answered() {
    let setup = Setup::new();
    let mut sessions = setup.sessions(8);
    for i in 0..rounds(300, 10_000) {
        let token = login(&mut sessions[i % 8], "");
        let warm = validate(&token);
        for session in &mut sessions {
            assert_ne!(show(&session.call(&warm)), NIL);
        }
        let end = match i % 4 {
            0 => owned(&["SESSION.DESTROY", &token]),
            1 => owned(&["SESSION.DESTROYALL", "ann"]),
            2 => owned(&["SESSION.ROTATE", &token]),
            _ => {
                let id = elements(&sessions[0].call(&warm))[0].clone();
                owned(&["SESSION.REVOKE", &id])
            }
        };
        sessions[(i + 3) % 8].call(&end);
        for session in &mut sessions {
            assert_eq!(show(&session.call(&warm)), NIL, "after {end:?} in round {i}");
        }
    }
}

#[test]
fn a_logout_through_another_daemon_ends_what_this_one_kept() {
    let setup = Setup::new();
    let other = two_workers(&setup.redis.url(), &[]);
    let (mut here, mut there) = (setup.daemon.client(), other.client());
    for i in 0..rounds(50, 1_000) {
        let token = login(&mut there, "");
        kept(&setup, &mut here, &validate(&token));
        there.call(&owned(&["SESSION.DESTROY", &token]));
        let end = Instant::now() + SOON;
        while show(&here.call(&validate(&token))) != NIL {
            assert!(Instant::now() < end, "still valid in round {i}");
        }
    }
}

#[test]
fn a_session_that_ends_while_its_answer_is_on_its_way_to_l1_is_not_kept() {
    let l2 = Scripted::new();
    let mut session = l2.daemon.client();
    for _ in 0..10 {
        let token = login(&mut session, "");
        session.call(&validate(&token));
        let fills = l2.fake.hold(Side::Reply, |frame| frame.tracked && frame.named("PTTL"));
        let mut reader = l2.daemon.client();
        reader.send(&validate(&token));
        let fill = fills.next();
        let key = String::from_utf8(fill.frame.args[1].clone()).expect("a key of hexadecimal digits");
        assert_eq!(show(&l2.direct().call(&["DEL", &key])), ":1\r\n");
        fill.pass_between(&invalidate(&[&key]), b"");
        drop(fills);
        reader.read_frame();
        for _ in 0..3 {
            assert_eq!(show(&reader.call(&validate(&token))), NIL);
        }
    }
}

#[test]
fn nothing_is_told_of_a_session_past_its_end() {
    let setup = Setup::new();
    let (mut session, mut other) = (setup.daemon.client(), setup.daemon.client());
    let hits = HitsCount::from_now(&setup.daemon);
    let look = |token: &str| owned(&["SESSION.VALIDATE", token, "NOTOUCH"]);
    let strict = |token: &str| owned(&["SESSION.VALIDATE", token, "NOTOUCH", "STRICT"]);
    for _ in 0..4 {
        let token = login(&mut session, "IDLE 300");
        let began = Instant::now();
        loop {
            // Redis's word from before: what it says is over may not be told as valid after it.
            let over = show(&other.call(&strict(&token))) == NIL;
            // It was created before, and its end lies a twentieth later than the idle time.
            let left_at_most = 316 - began.elapsed().as_millis() as i64;
            let told = session.call(&look(&token));
            if over {
                assert_eq!(show(&told), NIL);
                break;
            }
            if let [_, idle_left, _] = integers(&told)[..] {
                assert!((1..=left_at_most).contains(&idle_left), "{idle_left} of at most {left_at_most}");
            }
        }
    }
    hits.at_least(20, "a second of looks");
}

#[test]
fn a_session_that_is_used_from_l1_alone_stays() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    let token = login(&mut session, "IDLE 400");
    let hits = HitsCount::from_now(&setup.daemon);
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert_ne!(show(&session.call(&validate(&token))), NIL, "its uses were not written down");
    }
    hits.at_least(100, "its uses");
}

#[test]
fn user_sessions_of_another_database_are_not_told() {
    let setup = Setup::new();
    let (mut first, mut second) = (setup.daemon.client(), setup.daemon.client());
    let token = login(&mut first, "");
    kept(&setup, &mut first, &validate(&token));
    ok(&mut second, "SELECT 1");
    for _ in 0..4 {
        assert_eq!(show(&second.call(&validate(&token))), NIL);
    }
}

#[test]
fn what_is_kept_waits_for_its_turn_in_a_pipeline() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    for i in 0..rounds(200, 5_000) {
        let token = login(&mut session, "");
        kept(&setup, &mut session, &validate(&token));
        let denied = words(&format!("RATELIMIT.CHECK job p{i} LIMIT 1 WINDOW 60000"));
        kept(&setup, &mut session, &denied);
        let key = format!("k{i}");
        let commands = [
            owned(&["GET", &key]),
            validate(&token),
            denied.clone(),
            owned(&["SET", &key, "v"]),
            owned(&["SESSION.DESTROY", &token]),
            validate(&token),
            words(&format!("RATELIMIT.RESET job p{i}")),
            denied.clone(),
            denied.clone(),
        ];
        let replies = pipeline(&mut session, &commands);
        assert_eq!(show(&replies[0]), NIL);
        assert_eq!(elements(&replies[1])[1], "ann");
        assert_eq!(integers(&replies[2])[0], 0, "denied before");
        assert_eq!(show(&replies[4]), ":1\r\n");
        assert_eq!(show(&replies[5]), NIL, "logged out before");
        assert_eq!(integers(&replies[7])[0], 1, "reset before");
        assert_eq!(integers(&replies[8])[0], 0, "used up before");
    }
}

#[test]
fn a_denial_is_told_from_l1_with_the_time_that_is_left() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    let check = check("LIMIT 3 WINDOW 60000");
    let first = exhaust(&setup, &mut session, &check);
    assert_eq!(first[..3], [0, 3, 0]);
    assert_eq!(number(&setup.direct().call(&words("HLEN ratelimit:job:s"))), Some(2));
    let hits = HitsCount::from_now(&setup.daemon);
    let end = Instant::now() + PATIENCE;
    loop {
        let next = integers(&session.call(&check));
        assert!(next[3] <= first[3] && next[4] <= first[4], "{next:?} after {first:?}");
        if next[3] < first[3] && next[4] < first[4] {
            break;
        }
        assert!(Instant::now() < end, "the time that is left stands still");
    }
    hits.at_least(1, "the checks");
    // Another cost, another limit and PEEK are other questions.
    let other = words("RATELIMIT.CHECK job s LIMIT 4 WINDOW 60000");
    assert_eq!(integers(&session.call(&other))[0], 1);
    assert_eq!(integers(&session.call(&words("RATELIMIT.PEEK job s LIMIT 9 WINDOW 60000")))[0], 1);
}

#[test]
fn a_denial_ends_with_any_write_of_its_key() {
    let setup = Setup::new();
    let other = two_workers(&setup.redis.url(), &[]);
    let (mut here, mut there) = (setup.daemon.client(), other.client());
    let check = check("LIMIT 2 WINDOW 60000");
    let writes =
        ["RATELIMIT.RESET job s", "RATELIMIT.REFUND job s 1 LIMIT 2 WINDOW 60000", "DEL ratelimit:job:s"];
    for write in writes {
        exhaust(&setup, &mut here, &check);
        here.call(&words(write));
        assert_eq!(integers(&here.call(&check))[0], 1, "after {write} here");
        exhaust(&setup, &mut here, &check);
        there.call(&words(write));
        let end = Instant::now() + SOON;
        while integers(&here.call(&check))[0] == 0 {
            assert!(Instant::now() < end, "denied after {write} elsewhere");
        }
    }
}

#[test]
fn no_denial_from_l1_denies_what_redis_would_allow() {
    let setup = Setup::new();
    let uncached = two_workers(&setup.redis.url(), &[("MADCACHE_CACHE_L1", "false")]);
    let (mut session, mut peeks) = (setup.daemon.client(), uncached.client());
    let hits = HitsCount::from_now(&setup.daemon);
    for algorithm in ["sliding", "gcra", "fixed", "log"] {
        let terms = format!("LIMIT 5 WINDOW 100 ALGO {algorithm}");
        let (check, peek) = (
            words(&format!("RATELIMIT.CHECK job {algorithm} {terms}")),
            words(&format!("RATELIMIT.PEEK job {algorithm} {terms}")),
        );
        let (mut allowed, mut denied) = (0, 0);
        let end = Instant::now() + PATIENCE;
        while allowed < 40 || denied < 200 {
            // Nobody else uses it up between the look and the check.
            let would = integers(&peeks.call(&peek))[0];
            let may = integers(&session.call(&check))[0];
            assert!(may >= would, "{algorithm}: denied though Redis would allow it");
            if may == 1 {
                allowed += 1
            } else {
                denied += 1
            }
            assert!(Instant::now() < end, "{algorithm}: {allowed} allowed, {denied} denied");
        }
    }
    hits.at_least(100, "the denials");
}

#[test]
fn no_check_is_executed_twice_or_answered_for_another() {
    let setup = Setup::new();
    let mut sessions = setup.sessions(16);
    for i in 0..rounds(100, 2_000) {
        let check = words(&format!("RATELIMIT.CHECK job c{i} LIMIT 5 WINDOW 60000"));
        let mut allowed = 0;
        for _ in 0..2 {
            sessions.iter_mut().for_each(|session| session.send(&check));
            for session in &mut sessions {
                allowed += integers(&session.read_frame())[0];
            }
        }
        assert_eq!(allowed, 5, "round {i}");
    }
}

#[test]
fn a_lost_tracked_link_ends_what_is_kept() {
    let l2 = Scripted::new();
    let mut session = l2.daemon.client();
    let token = login(&mut session, "");
    let hits = HitsCount::from_now(&l2.daemon);
    let end = Instant::now() + PATIENCE;
    while hits.seen() == 0 {
        session.call(&validate(&token));
        assert!(Instant::now() < end, "never kept");
    }
    l2.fake.freeze(Way::Down, Links::Tracked);
    l2.direct().call(&["FLUSHALL"]);
    l2.fake.cut(Links::Tracked);
    l2.fake.thaw();
    let end = Instant::now() + SOON;
    loop {
        session.send(&validate(&token));
        let reply = frame_within(&mut session, PATIENCE).expect("an answer");
        if show(&reply) == NIL {
            break;
        }
        assert!(Instant::now() < end, "kept past its link");
    }
}

#[test]
fn a_denial_that_ends_before_its_turn_is_asked_for_again() {
    // No command has told this daemon yet whether keys carry hash tags.
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    let slow = "local t = redis.call('TIME') local till = t[1] * 1000000 + t[2] + 400000 \
                repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > till return 1";
    let check = words("RATELIMIT.CHECK job s LIMIT 1 WINDOW 300 ALGO fixed");
    for _ in 0..3 {
        exhaust(&setup, &mut session, &check);
        let commands = [owned(&["EVAL", slow, "0"]), check.clone(), words("PING")];
        let replies = pipeline(&mut session, &commands);
        assert_eq!(integers(&replies[1])[0], 1, "its window has ended");
        assert_eq!(show(&replies[2]), "+PONG\r\n");
    }
}

#[test]
fn a_session_that_ends_before_its_turn_is_asked_for_again() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    let late = "local t repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > ARGV[1] + 0 return 1";
    for _ in 0..3 {
        let token = login(&mut session, "IDLE 400");
        let created = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        // Its key outlives what stands in it, and so does the entry.
        let mut direct = setup.direct();
        for key in elements(&direct.call(&words("KEYS session:*"))) {
            direct.call(&owned(&["PERSIST", &key]));
        }
        let look = owned(&["SESSION.VALIDATE", &token, "NOTOUCH"]);
        kept(&setup, &mut session, &look);
        let end_ms = (created.as_millis() + 450).to_string();
        let commands = [owned(&["EVAL", late, "0", &end_ms]), look, words("PING")];
        let replies = pipeline(&mut session, &commands);
        assert_eq!(show(&replies[1]), NIL, "it ended before");
        assert_eq!(show(&replies[2]), "+PONG\r\n");
    }
}

#[test]
fn behind_a_write_of_its_key_a_check_goes_to_redis_without_waiting_for_the_reply() {
    let l2 = Scripted::new();
    let mut session = l2.daemon.client();
    let check = words("RATELIMIT.CHECK job s LIMIT 1 WINDOW 60000");
    warm(&l2.daemon, &mut session, &check.iter().map(String::as_str).collect::<Vec<_>>());
    // The key is the first word behind script and count; RESET has no argument but the time.
    let is_reset = |words: usize| words == 5;
    let of_key = |frame: &Frame| frame.args.get(3).is_some_and(|key| key == b"ratelimit:job:s");
    let is_check = move |frame: &Frame| is_request(frame) && of_key(frame) && !is_reset(frame.args.len());
    let checks = l2.fake.count(is_check);
    let resets = l2.fake.hold(Side::Reply, move |frame| of_key(frame) && is_reset(frame.args.len()));
    session.send(&words("RATELIMIT.RESET job s"));
    session.send(&check);
    let reset = resets.next();
    l2.fake.await_count("the check", checks + 1, is_check);
    reset.pass();
    assert_eq!(show(&session.read_frame()), ":1\r\n");
    assert_eq!(integers(&session.read_frame())[0], 1, "reset before");
}

#[test]
fn what_is_kept_is_no_older_than_what_its_session_has_read() {
    let l2 = Scripted::new();
    let mut session = l2.daemon.client();
    for _ in 0..10 {
        let token = login(&mut session, "");
        let look = ["SESSION.VALIDATE", &token, "NOTOUCH"];
        warm(&l2.daemon, &mut session, &look);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        let mut direct = l2.direct();
        for key in elements(&direct.call(&words("KEYS session:*"))) {
            direct.call(&owned(&["DEL", &key]));
        }
        let strict = [&look[..], &["STRICT"]].concat();
        assert_eq!(show(&session.call(&strict)), NIL);
        let after = "a strict validation";
        all_see_despite(pushes, std::slice::from_mut(&mut session), &look, NIL.as_bytes(), after);
    }
}

#[test]
fn a_session_that_watches_keys_follows_nobodys_validation() {
    let l2 = Scripted::new();
    let (mut session, mut watching) = (l2.daemon.client(), l2.daemon.client());
    let token = login(&mut session, "");
    session.call(&validate(&token));
    ok(&mut watching, "WATCH k");
    let fills = l2.fake.hold(Side::Reply, |frame| frame.tracked && frame.named("PTTL"));
    session.send(&validate(&token));
    let fill = fills.next();
    assert_eq!(elements(&watching.call(&validate(&token)))[1], "ann");
    fill.pass();
    assert_eq!(elements(&session.read_frame())[1], "ann");
}

//! Promise 4: writes whose keys are not known for sure (scripts, functions, foreign commands) are seen by every
//! session once they are answered.

use crate::kit::{
    HitsCount, Scripted, Setup, all_see, all_see_despite, bulk, number, ok, owned, pipeline, rounds, show,
    words,
};
use crate::support::Client;
use crate::support::fake_l2::{Frame, Links, Side};

const SCRIPT: &str = "redis.call('SET', 'k' .. ARGV[1], ARGV[2]) return ARGV[2]";
const FAILING: &str =
    "redis.call('SET', 'k' .. ARGV[1], ARGV[2]) return redis.error_reply('ERR after the write')";
const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) \
                       redis.call('SET', 'k' .. args[1], args[2]) return args[2] end)";

/// The ways to write a key that the request does not declare.
fn forms(direct: &mut Client) -> Vec<Vec<String>> {
    let sha = direct.text(&["SCRIPT", "LOAD", SCRIPT]);
    assert_eq!(direct.text(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]), "lib");
    let form = |args: &[&str]| args.iter().map(|arg| arg.to_string()).collect();
    vec![
        form(&["EVAL", SCRIPT, "0"]),
        form(&["EVALSHA", &sha, "0"]),
        form(&["FCALL", "put", "0"]),
        form(&["EVAL", FAILING, "0"]),
        form(&["EVAL", SCRIPT, "1", "declared"]),
    ]
}

#[test]
fn what_a_script_wrote_without_declaring_it_is_seen_by_every_session() {
    const KEYS: usize = 16;
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(8));
    let forms = forms(&mut direct);
    let hits = HitsCount::from_now(&setup.daemon);
    let count = rounds(4_000, 100_000);
    for i in 1..=count {
        let key = format!("k{}", i % KEYS);
        for reader in 0..3 {
            sessions[(i + reader) % 8].call(&["GET", &key]);
        }
        let mut write = forms[i % forms.len()].clone();
        write.extend([(i % KEYS).to_string(), i.to_string()]);
        let reply = sessions[i % 8].call(&write);
        assert!(reply[0] == b'$' || show(&reply).starts_with("-ERR after the write"), "{}", show(&reply));
        for (nth, session) in sessions.iter_mut().enumerate() {
            let seen = number(&session.call(&["GET", &key]));
            assert_eq!(seen, Some(i as i64), "{:?} in round {i}, seen by session {nth}", &write[..1]);
        }
    }
    hits.at_least(count as u64 / 2, count);
}

#[test]
fn a_script_inside_a_transaction_is_seen_by_every_session_once_exec_is_answered() {
    let setup = Setup::new();
    let (mut direct, mut sessions) = (setup.direct(), setup.sessions(8));
    let forms = forms(&mut direct);
    for i in 1..=rounds(500, 10_000) {
        let key = format!("k{}", i % 16);
        (0..3).for_each(|reader| drop(sessions[(i + reader) % 8].call(&["GET", &key])));
        let writer = &mut sessions[i % 8];
        if i % 2 == 0 {
            ok(writer, "WATCH other");
        }
        ok(writer, "MULTI");
        let mut write = forms[i % 3].clone();
        write.extend([(i % 16).to_string(), i.to_string()]);
        assert_eq!(writer.text(&write), "+QUEUED");
        writer.call(&["EXEC"]);
        for session in &mut sessions {
            assert_eq!(number(&session.call(&["GET", &key])), Some(i as i64), "round {i}");
        }
    }
}

/// The push of the script's write is stuck on its way; the script's reply must not be of use before it.
fn despite_a_slow_push(run: impl Fn(&mut Client, usize, Vec<String>)) {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(8));
    for i in 0..20 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        l2.warm(&mut sessions[i % 8], &["GET", &key]);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        run(&mut sessions[(i + 1) % 8], i, owned(&["EVAL", SCRIPT, "0", &i.to_string(), "new"]));
        all_see_despite(pushes, &mut sessions, &["GET", &key], &bulk("new"), "the script's reply");
    }
    // The links are of use again once they answer.
    l2.warm(&mut sessions[0], &["GET", "k0"]);
}

#[test]
fn a_scripts_reply_waits_for_a_slow_push_or_fences_the_link() {
    despite_a_slow_push(|session, _, script| assert_eq!(session.text(&script), "new"));
}

#[test]
fn execs_reply_waits_for_a_slow_push_of_a_script_or_fences_the_link() {
    despite_a_slow_push(|session, i, script| match i % 3 {
        0 => drop(pipeline(session, &[words("MULTI"), script, words("EXEC")])),
        watched => {
            if watched == 1 {
                ok(session, "WATCH other");
            }
            ok(session, "MULTI");
            assert_eq!(session.text(&script), "+QUEUED");
            assert!(show(&session.call(&["EXEC"])).contains("new"));
        }
    });
}

#[test]
fn a_barrier_asks_every_tracked_link_that_has_entries() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(8);
    l2.direct().call(&["SET", "k", "v"]);
    l2.warm(&mut sessions[0], &["GET", "k"]);
    assert!(l2.fake.open(Links::Tracked) > 0);
    let asks = |frame: &Frame| frame.named("PING") || frame.named("TIME");
    let asked = || l2.fake.count(|frame| frame.side == Side::Request && frame.tracked && asks(frame));
    // The sessions of the worker whose link it is, and those of the other.
    for (nth, session) in sessions.iter_mut().enumerate() {
        let (barriers, before) = (l2.daemon.stat("barriers"), asked());
        session.call(&words("EVAL return(1) 0"));
        assert!(l2.daemon.stat("barriers") > barriers, "EVAL of session {nth} without a barrier");
        assert!(asked() > before, "a barrier of session {nth} that asked no tracked link");
    }
}

#[test]
fn a_barrier_runs_beside_its_script() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    setup.direct().call(&["SET", "k", "v"]);
    crate::kit::warm(&setup.daemon, &mut session, &["GET", "k"]);
    let (barriers, repeated) = (setup.daemon.stat("barriers"), setup.daemon.stat("barriers_repeated"));
    for _ in 0..500 {
        session.call(&words("EVAL return(1) 0"));
    }
    assert!(setup.daemon.stat("barriers") - barriers >= 500);
    let repeated = setup.daemon.stat("barriers_repeated") - repeated;
    assert!(repeated < 250, "{repeated} of 500 scripts waited for a second round trip");
}

/// What a tracked link tells before the script is executed proves nothing of its pushes. `mark` is what L2's TIME
/// behind the script answers instead of the truth.
fn a_barrier_ahead_of_its_script(mark: Option<&'static [u8]>) {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(8));
    for i in 0..20 {
        let key = format!("k{i}");
        direct.call(&["SET", &key, "old"]);
        l2.warm(&mut sessions[i % 8], &["GET", &key]);
        let writer = &mut sessions[(i + 1) % 8];
        // The next mark is held against this one's.
        writer.call(&words("EVAL return(1) 0"));
        let told = |frame: &Frame| frame.side == Side::Reply && frame.tracked && frame.named("TIME");
        let before = l2.fake.count(told);
        let scripts = l2.fake.hold(Side::Request, |frame| frame.named("EVAL"));
        writer.send(&owned(&["EVAL", SCRIPT, "0", &i.to_string(), "new"]));
        let script = scripts.next();
        l2.fake.await_count("a tracked link that tells the time", before + 1, told);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        let marks =
            mark.map(|time| (l2.fake.hold(Side::Reply, |frame| !frame.tracked && frame.named("TIME")), time));
        script.pass();
        if let Some((marks, time)) = marks {
            marks.next().answer(time);
        }
        assert_eq!(show(&sessions[(i + 1) % 8].read_frame()), "$3\r\nnew\r\n");
        all_see_despite(pushes, &mut sessions, &["GET", &key], &bulk("new"), "the script's reply");
    }
}

#[test]
fn a_barrier_that_was_answered_before_its_script_proves_nothing() {
    a_barrier_ahead_of_its_script(None);
}

#[test]
fn a_barrier_does_not_trust_a_clock_that_was_set_back() {
    a_barrier_ahead_of_its_script(Some(b"*2\r\n$1\r\n1\r\n$1\r\n0\r\n"));
}

#[test]
fn a_script_that_keeps_redis_busy_does_not_end_early_barriers() {
    let l2 = Scripted::new();
    let mut session = l2.daemon.client();
    l2.direct().call(&words("CONFIG SET busy-reply-threshold 50"));
    l2.direct().call(&["SET", "k", "v"]);
    l2.warm(&mut session, &["GET", "k"]);
    let slow = "local t = redis.call('TIME') local till = t[1] * 1000000 + t[2] + 300000 \
                repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > till return 1";
    session.call(&owned(&["EVAL", slow, "0"]));
    l2.warm(&mut session, &["GET", "k"]);
    let asked = || l2.fake.count(|frame| frame.side == Side::Request && frame.tracked && frame.named("TIME"));
    let before = asked();
    (0..20).for_each(|_| drop(session.call(&words("EVAL return(1) 0"))));
    assert!(asked() - before >= 20, "{} of 20 scripts had their barrier beside them", asked() - before);
}

#[test]
fn what_a_command_finds_by_an_index_inside_a_transaction_is_seen_once_exec_is_answered() {
    let l2 = Scripted::new();
    let mut sessions = l2.sessions(8);
    for i in 0..8 {
        let users = format!("presence:channel:room{i}:users");
        ok(&mut sessions[0], &format!("PRESENCE.JOIN room{i} ann c1"));
        l2.warm(&mut sessions[i], &["SMEMBERS", &users]);
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        let writer = &mut sessions[(i + 1) % 8];
        ok(writer, "MULTI");
        assert_eq!(writer.text(&words("PRESENCE.LEAVEALL c1")), "+QUEUED");
        assert_eq!(show(&writer.call(&["EXEC"])), "*1\r\n:1\r\n");
        all_see_despite(pushes, &mut sessions, &["SMEMBERS", &users], b"*0\r\n", "EXEC's reply");
    }
}

#[test]
fn read_only_scripts_need_no_barrier() {
    let setup = Setup::new();
    let mut session = setup.daemon.client();
    setup.direct().call(&["SET", "k", "v"]);
    crate::kit::warm(&setup.daemon, &mut session, &["GET", "k"]);
    let barriers = setup.daemon.stat("barriers");
    for _ in 0..50 {
        assert_eq!(number(&session.call(&words("EVAL_RO return(7) 0"))), Some(7));
    }
    assert_eq!(setup.daemon.stat("barriers"), barriers);
}

#[test]
fn a_command_that_redis_does_not_list_counts_as_a_write_of_any_key() {
    let l2 = Scripted::new();
    let (mut direct, mut sessions) = (l2.direct(), l2.sessions(8));
    for i in 0..20 {
        let (key, new) = (format!("k{i}"), format!("new{i}"));
        direct.call(&["SET", &key, "old"]);
        l2.warm(&mut sessions[i % 8], &["GET", &key]);
        let gate = l2.fake.hold(Side::Request, |frame| frame.named("FOO.PUT"));
        let pushes = l2.fake.hold(Side::Push, |frame| frame.tracked);
        sessions[0].send(&["FOO.PUT", &key, &new]);
        let request = gate.next();
        // What a module would do before it answers.
        direct.call(&["SET", &key, &new]);
        let stuck = pushes.next();
        request.answer(b"+DONE\r\n");
        // Its answer comes when the link is fenced, at the latest; the push is still stuck then.
        assert_eq!(show(&sessions[0].read_frame()), "+DONE\r\n");
        for session in &mut sessions {
            session.send(&["GET", &key]);
        }
        stuck.pass();
        drop(pushes);
        for (nth, session) in sessions.iter_mut().enumerate() {
            assert_eq!(show(&session.read_frame()), show(&bulk(&new)), "session {nth}");
        }
        all_see(&mut sessions, &["GET", &key], &bulk(&new), "a foreign command");
    }
}

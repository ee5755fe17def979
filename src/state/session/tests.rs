//! What a request to SESSION is understood as, and what a reply of VALIDATE says at later moments.
use super::*;
use crate::state;

fn fault(request: &str) -> String {
    let argv: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    state::parse(&argv).expect_err(request).into_owned()
}

fn command(request: &str) -> Command {
    let argv: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    match state::parse(&argv) {
        Ok(state::Command::Session(command)) => command,
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn requests_are_understood_with_all_their_options_in_any_case_and_order() {
    let create = command("session.create ann max 3 evict DEVICE phone data {} ABSOLUTE 9 idle 5");
    let max = Some(Max { sessions: 3, surplus: Surplus::Evict });
    let (data, device) = (Some(b"{}".to_vec()), Some(b"phone".to_vec()));
    let wanted = Create { user: b"ann".to_vec(), idle_ms: Some(5), absolute_ms: Some(9), data, device, max };
    assert_eq!(create, Command::Create(wanted));
    let token = Token::new(b"t");
    let validate = Validate { token: token.clone(), counts: Use::Not, strict: true };
    assert_eq!(command("SESSION.VALIDATE t STRICT NOTOUCH"), Command::Validate(validate));
    let set = Set { token: token.clone(), data: b"[1]".to_vec(), if_version: Some(7) };
    assert_eq!(command("SESSION.SET t [1] IFVER 7"), Command::Set(set));
    let rotate = Rotate { token: token.clone(), grace_ms: 30 };
    assert_eq!(command("SESSION.ROTATE t GRACE 30"), Command::Rotate(rotate));
    let all = DestroyAll { user: b"ann".to_vec(), except: Some(token) };
    assert_eq!(command("SESSION.DESTROYALL ann EXCEPT t"), Command::DestroyAll(all));
}

#[test]
fn what_is_wrong_is_said_as_redis_says_it() {
    for request in
        ["SESSION.CREATE", "SESSION.VALIDATE", "SESSION.TOUCH t x", "SESSION.SET t", "SESSION.LIST a b"]
    {
        let name = request.split(' ').next().unwrap().to_lowercase();
        assert_eq!(fault(request), format!("ERR wrong number of arguments for '{name}' command"));
    }
    for request in [
        "SESSION.CREATE ann IDLE",
        "SESSION.CREATE ann MAX 3",
        "SESSION.CREATE ann MAX 3 DROP",
        "SESSION.CREATE ann WHAT",
        "SESSION.VALIDATE t NOW",
        "SESSION.SET t {} IFVER 1 x",
        "SESSION.ROTATE t GRACE",
        "SESSION.DESTROYALL ann BUT t",
    ] {
        assert_eq!(fault(request), SYNTAX_ERROR, "{request}");
    }
    for request in
        ["SESSION.CREATE ann IDLE x", "SESSION.CREATE ann MAX 0 EVICT", "SESSION.SET t {} IFVER -1"]
    {
        assert_eq!(fault(request), NOT_AN_INTEGER, "{request}");
    }
    assert_eq!(fault("SESSION.CREATE ann IDLE 0"), "ERR invalid expire time in 'session.create' command");
    assert_eq!(fault("SESSION.CREATE ann DATA {"), "ERR invalid JSON");
    assert_eq!(fault("SESSION.WHAT ann"), "ERR unknown command 'SESSION.WHAT'");
    assert_eq!(fault("SESSION.COUNT "), "ERR a user id cannot be empty");
}

#[test]
fn in_a_cluster_all_keys_of_a_users_sessions_are_in_one_slot() {
    let naming = Naming { prefix: b"p:".to_vec(), tagged: true };
    let settings = Settings { naming, ..Settings::default() };
    let Command::Create(create) = command("SESSION.CREATE ann") else { panic!() };
    let call = create.call(&settings, &[1; 32], &[2; 16]);
    let token = Token::from(Fresh::new(&[1; 32], &Tag::of_user(b"ann")));
    let rotate = Rotate { token: token.clone(), grace_ms: 1 }.call(&settings, &[3; 32]);
    let id = token::id(&[2; 16], &Tag::of_user(b"ann"));
    let revoke = Revoke { id }.call(&settings);
    let all = DestroyAll { user: b"ann".to_vec(), except: Some(token.clone()) }.call(&settings);
    assert_eq!(all.keys().count(), 3);
    let keys: Vec<_> = [&call, &rotate, &revoke, &all].into_iter().flat_map(Call::keys).collect();
    let slot = crate::command::slot;
    assert!(keys.iter().all(|key| slot(key) == slot(keys[0])), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with(b"p:")));
    // Another user's token is not among the keys: it may be in another slot.
    let all = DestroyAll { user: b"bob".to_vec(), except: Some(token) }.call(&settings);
    assert_eq!(all.keys().count(), 2);
}

#[test]
fn no_argument_of_a_script_shows_a_token_where_keys_are_hashed() {
    let settings = Settings::default();
    let Command::Create(create) = command("SESSION.CREATE ann") else { panic!() };
    let fresh = Fresh::new(&[1; 32], &Tag::of_user(b"ann"));
    let rotate = Rotate { token: fresh.into(), grace_ms: 1 };
    let next = Fresh::new(&[3; 32], &Tag::of_user(b"ann"));
    let calls = [create.call(&settings, &[1; 32], &[2; 16]), rotate.call(&settings, &[3; 32])];
    for call in calls {
        for token in [fresh, next] {
            let shown = call.evalsha().windows(43).any(|part| part == &token.as_bytes()[..43]);
            assert!(!shown && !format!("{call:?}").contains("AQEBAQEB"), "{call:?}");
        }
    }
}

const NOW: i64 = 1_780_000_000_000;

/// Idle time 20 s, used a second ago, with a cap in a minute.
fn frame(data: &str) -> Vec<u8> {
    let numbers = [NOW, NOW - 1000, 20_000, NOW + 20_000, NOW + 60_000].map(|n| format!(":{n}\r\n")).concat();
    format!("*9\r\n$2\r\ni1\r\n$3\r\nann\r\n:4\r\n{numbers}{data}").into_bytes()
}

fn answer(later_ms: u64, counts: Use, resp3: bool) -> (String, Verdict) {
    let frame = frame("$2\r\n{}\r\n");
    let session = Validated::parse(&frame).unwrap().expect("a session");
    let mut out = Vec::new();
    let verdict = session.answer(later_ms, counts, resp3, &mut out);
    (String::from_utf8(out).unwrap(), verdict)
}

fn lefts(later_ms: u64, counts: Use) -> (i64, i64) {
    let text = answer(later_ms, counts, false).0;
    let numbers: Vec<i64> =
        text.lines().filter_map(|line| line.strip_prefix(':')).map(|n| n.parse().unwrap()).collect();
    (numbers[1], numbers[2])
}

#[test]
fn times_left_are_counted_from_the_moment_of_the_script() {
    let text = "*6\r\n$2\r\ni1\r\n$3\r\nann\r\n:4\r\n:20000\r\n:60000\r\n$2\r\n{}\r\n";
    assert_eq!(answer(0, Use::Counts, false), (text.into(), Verdict::Answered { touch: true }));
    assert_eq!(lefts(5000, Use::Counts), (20_000, 55_000), "a use leaves the whole idle time");
    assert_eq!(lefts(5000, Use::Not), (15_000, 55_000));
    assert_eq!(lefts(19_999, Use::Not), (1, 40_001));
    assert_eq!(answer(20_000, Use::Not, false), (String::new(), Verdict::Unknown));
    assert_eq!(answer(u64::MAX, Use::Counts, false).1, Verdict::Unknown);
    assert_eq!(answer(0, Use::Not, false).1, Verdict::Answered { touch: false });
}

#[test]
fn a_touch_is_wanted_once_per_twentieth_of_the_idle_time() {
    let frame = frame("_\r\n");
    let mut session = Validated::parse(&frame).unwrap().expect("a session");
    session.used_ms = NOW;
    assert_eq!([0, 999, 1000, 5000].map(|later| session.wants_touch(later)), [false, false, true, true]);
    session.used_ms = NOW + 86_400_000;
    assert!(session.wants_touch(0), "a clock that was far ahead");
}

#[test]
fn in_resp3_the_reply_of_validate_has_names() {
    let wanted = "%6\r\n$2\r\nid\r\n$2\r\ni1\r\n$4\r\nuser\r\n$3\r\nann\r\n$7\r\nversion\r\n:4\r\n\
                  $12\r\nidle_left_ms\r\n:20000\r\n$16\r\nabsolute_left_ms\r\n:60000\r\n$4\r\ndata\r\n_\r\n";
    let mut out = Vec::new();
    Reply::Validated(Use::Counts).convert(&frame("_\r\n"), true, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
    for (frame, resp3, wanted) in [
        ("$-1\r\n", false, "$-1\r\n"),
        ("_\r\n", false, "$-1\r\n"),
        ("$-1\r\n", true, "_\r\n"),
        ("-ERR x\r\n", true, "-ERR x\r\n"),
    ] {
        let mut out = Vec::new();
        Reply::Validated(Use::Counts).convert(frame.as_bytes(), resp3, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}

#[test]
fn what_is_no_reply_of_validate_is_a_fault() {
    assert_eq!(Validated::parse(b"_\r\n"), Ok(None));
    assert_eq!(Validated::parse(b"-READONLY no\r\n"), Err("READONLY no".into()));
    let whole = frame("_\r\n");
    for bad in [&b"*9\r\n"[..], b":1\r\n", b"*1\r\n:1\r\n", &whole[..whole.len() - 3], b""] {
        assert_eq!(Validated::parse(bad), Err(UNEXPECTED.into()));
    }
}

#[test]
fn a_new_token_stands_before_what_the_script_says() {
    let fresh = Fresh::new(&[1; 32], &Tag::of_user(b"ann"));
    let token = String::from_utf8(fresh.as_bytes().to_vec()).unwrap();
    let convert = |frame: &str, resp3: bool| {
        let mut out = Vec::new();
        Reply::Granted(fresh).convert(frame.as_bytes(), resp3, &mut out);
        String::from_utf8(out).unwrap()
    };
    let frame = "*2\r\n$1\r\ni\r\n:9\r\n";
    assert_eq!(convert(frame, false), format!("*3\r\n$52\r\n{token}\r\n$1\r\ni\r\n:9\r\n"));
    let named = format!(
        "%3\r\n$5\r\ntoken\r\n$52\r\n{token}\r\n$2\r\nid\r\n$1\r\ni\r\n$13\r\nexpires_in_ms\r\n:9\r\n"
    );
    assert_eq!(convert(frame, true), named);
    assert_eq!(convert("-NOSESSION no such session\r\n", true), "-NOSESSION no such session\r\n");
}

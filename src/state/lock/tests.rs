//! What LOCK requests are taken for, and how their calls read. The scripts themselves: `tests/state_lock.rs`.
use super::*;

fn command(line: &str) -> Result<Command, String> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    match crate::state::parse(&words) {
        Ok(crate::state::Command::Lock(command)) => Ok(command),
        Ok(other) => panic!("{line}: {other:?}"),
        Err(fault) => Err(fault.into_owned()),
    }
}

#[test]
fn an_acquire_takes_its_options_in_any_order_and_case() {
    let found = command("lock.acquire a 1500 bind wait 20 OWNER me FAIR token t Renew REENTRANT");
    let expected = Acquire {
        name: b"a".to_vec(),
        ttl_ms: 1500,
        token: Some(b"t".to_vec()),
        wait_ms: Some(20),
        fair: true,
        reentrant: true,
        renew: true,
        bind: true,
        owner: Some(b"me".to_vec()),
    };
    assert_eq!(found, Ok(Command::Acquire(expected)));
    let release = Release { name: b"a".to_vec(), token: b"t".to_vec() };
    assert_eq!(command("LOCK.RELEASE a t"), Ok(Command::Release(release)));
}

#[test]
fn wrong_requests_are_answered_in_redis_words() {
    let arity = |name: &str| format!("ERR wrong number of arguments for '{name}' command");
    let expire = |name: &str| format!("ERR invalid expire time in '{name}' command");
    for (line, fault) in [
        ("LOCK.ACQUIRE a", arity("lock.acquire")),
        ("LOCK.RELEASE a", arity("lock.release")),
        ("LOCK.RELEASE a t x", arity("lock.release")),
        ("LOCK.EXTEND a t", arity("lock.extend")),
        ("LOCK.INFO a b", arity("lock.info")),
        ("LOCK.ACQUIRE a x", NOT_AN_INTEGER.to_owned()),
        ("LOCK.ACQUIRE a 0", expire("lock.acquire")),
        ("LOCK.EXTEND a t -5", expire("lock.extend")),
        ("LOCK.ACQUIRE a 315360000001", expire("lock.acquire")),
        ("LOCK.ACQUIRE a 1 TOKEN", SYNTAX_ERROR.to_owned()),
        ("LOCK.ACQUIRE a 1 NX", SYNTAX_ERROR.to_owned()),
        ("LOCK.ACQUIRE a 1 TOKEN ", "ERR a token cannot be empty".to_owned()),
        ("LOCK.ACQUIRE a 1 WAIT -1", "ERR timeout is not an integer or out of range".to_owned()),
        ("LOCK.INFO a{b}", "ERR the name of a lock cannot hold { or }".to_owned()),
        ("LOCK.STEAL a", "ERR unknown command 'LOCK.STEAL'".to_owned()),
    ] {
        assert_eq!(command(line), Err(fault), "{line}");
    }
}

#[test]
fn keys_of_a_lock_share_a_slot_and_the_primary_one_is_plain() {
    for prefix in ["", "app:", "{app}"] {
        let naming = Naming { prefix: prefix.as_bytes().to_vec(), tagged: true };
        let call = cancel(&naming, b"a b", &[7; 16]);
        assert_eq!(call.keys().next(), Some(format!("{prefix}lock:a b").as_bytes()));
        let slots: Vec<u16> = call.keys().map(crate::command::slot).collect();
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
    }
}

#[test]
fn a_wake_names_the_lock_and_perhaps_the_only_waiter_that_can_have_it() {
    let nonce = *b"0123456789abcdef";
    let message = [&hexadecimal(&nonce)[..], b" a b"].concat();
    assert_eq!(Wake::parse(&message), Some(Wake { name: b"a b", next: Some(nonce) }));
    assert_eq!(Wake::parse(b"* "), Some(Wake { name: b"", next: None }));
    assert_eq!(Wake::parse(b"a"), None);
    assert_eq!(Wake::parse(b"+0000000 a"), None);
}

#[test]
fn a_grant_and_a_denial_are_told_apart() {
    let granted = Acquired::Granted { token: b"t".to_vec(), fence: 1_700_000_000_000_000, ttl_ms: 9 };
    assert_eq!(Acquired::parse(b"*4\r\n:1\r\n$1\r\nt\r\n:1700000000000000\r\n:9\r\n"), Ok(granted));
    let denied = |fence| Ok(Acquired::Denied { fence, retry_ms: 5 });
    assert_eq!(Acquired::parse(b"*4\r\n:0\r\n_\r\n_\r\n:5\r\n"), denied(None));
    assert_eq!(Acquired::parse(b"*4\r\n:0\r\n$-1\r\n:3\r\n:5\r\n"), denied(Some(3)));
    assert_eq!(Acquired::parse(b"-LOCKLOST x\r\n"), Err("LOCKLOST x".into()));
    assert_eq!(Acquired::parse(b"*1\r\n:1\r\n"), Err(UNEXPECTED.into()));
}

#[test]
fn a_waiter_looks_again_within_a_second() {
    assert_eq!(look_again(0), Duration::from_millis(1));
    assert_eq!(look_again(400), Duration::from_millis(400));
    assert_eq!(look_again(30_000), Duration::from_secs(1));
}

#[test]
fn a_loss_is_told_by_push_and_event() {
    let mut push = Vec::new();
    lost_push(b"a", b"t", &mut push);
    assert_eq!(push, b">3\r\n$9\r\nlock-lost\r\n$1\r\na\r\n$1\r\nt\r\n");
    let event = lost_event(&Naming::default(), b"a", Some(7));
    assert_eq!(event, encode_request(&[b"PUBLISH", b"events:lock:a", br#"{"type":"lost","fence":7}"#]));
}

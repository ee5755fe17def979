//! What a request to PRESENCE is understood as, and in which keys and calls it results.
use super::*;
use crate::state;

fn parsed(request: &str) -> Result<state::Command, Fault> {
    let argv: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    state::parse(&argv)
}

fn fault(request: &str) -> String {
    parsed(request).expect_err(request).into_owned()
}

fn command(request: &str) -> Command {
    match parsed(request) {
        Ok(state::Command::Presence(command)) => command,
        other => panic!("{request}: {other:?}"),
    }
}

fn entry(channel: &str, user: &str, connection: &str) -> Entry {
    let [channel, user, connection] = [channel, user, connection].map(|name| name.as_bytes().to_vec());
    Entry { channel, user, connection }
}

#[test]
fn requests_are_understood_with_all_their_options_in_any_case_and_order() {
    let join = command("presence.join room ann c1 bind ttl 5000 META [1]");
    let entry1 = entry("room", "ann", "c1");
    let wanted = Join { entry: entry1.clone(), meta: Some(b"[1]".to_vec()), ttl_ms: Some(5000), bind: true };
    assert_eq!(join, Command::Join(wanted));
    let beat = command("PRESENCE.HEARTBEAT c1 room ann hall bob");
    assert_eq!(beat, Command::Heartbeat { entries: vec![entry1.clone(), entry("hall", "bob", "c1")] });
    let update = Update { entry: entry1, meta: b"{}".to_vec() };
    assert_eq!(command("PRESENCE.UPDATE room ann c1 meta {}"), Command::Update(update));
    let members = Command::Members { channel: b"room".to_vec(), with_meta: true };
    assert_eq!(command("PRESENCE.MEMBERS room withmeta"), members);
}

#[test]
fn what_is_wrong_is_said_as_redis_says_it() {
    for request in [
        "PRESENCE.JOIN room ann",
        "PRESENCE.LEAVE room ann c1 x",
        "PRESENCE.HEARTBEAT c1",
        "PRESENCE.HEARTBEAT c1 room",
        "PRESENCE.UPDATE room ann c1 META",
        "PRESENCE.STATE",
        "PRESENCE.CHANNELS a b",
    ] {
        let name = request.split(' ').next().unwrap().to_lowercase();
        assert_eq!(fault(request), format!("ERR wrong number of arguments for '{name}' command"));
    }
    for request in [
        "PRESENCE.JOIN room ann c1 TTL",
        "PRESENCE.JOIN room ann c1 FOREVER",
        "PRESENCE.UPDATE room ann c1 DATA {}",
        "PRESENCE.MEMBERS room WITHMETA x",
    ] {
        assert_eq!(fault(request), SYNTAX_ERROR, "{request}");
    }
    assert_eq!(fault("PRESENCE.JOIN room ann c1 TTL x"), NOT_AN_INTEGER);
    assert_eq!(
        fault("PRESENCE.JOIN room ann c1 TTL -1"),
        "ERR invalid expire time in 'presence.join' command"
    );
    assert_eq!(fault("PRESENCE.JOIN room ann c1 META {x}"), "ERR invalid JSON");
    assert_eq!(fault("PRESENCE.COUNT a{b"), "ERR the name of a channel cannot hold { or }");
    for channel in ["a:user", "a:users"] {
        let wanted = "ERR the name of a channel cannot end in :user or :users";
        assert_eq!(fault(&format!("PRESENCE.COUNT {channel}")), wanted);
    }
    assert_eq!(fault("PRESENCE.COUNT "), "ERR a channel cannot be empty");
    assert_eq!(fault("PRESENCE.LEAVEALL "), "ERR a connection cannot be empty");
}

#[test]
fn primary_keys_are_named_for_plain_readers_and_share_a_slot_in_a_cluster() {
    let plain = entry("a:b", "x:{y}", "c").keys(&Naming::default());
    let shown: Vec<_> = plain.iter().map(|key| String::from_utf8_lossy(key)).collect();
    assert_eq!(shown[0], "presence:channel:a:b:users");
    assert_eq!(shown[1], "presence:channel:a:b:user:x%3A%7By%7D");
    assert_eq!(shown[2], "x:presence:{a:b}:connections");
    let naming = Naming { prefix: b"p:".to_vec(), tagged: true };
    let tagged = entry("a:b", "x:{y}", "c").keys(&naming);
    assert_eq!(tagged[1], b"p:presence:channel:{a:b}:user:x%3A%7By%7D");
    assert!(tagged.iter().all(|key| crate::command::slot(key) == crate::command::slot(b"{a:b}")));
}

#[test]
fn heartbeats_are_one_call_but_one_per_slot_in_a_cluster() {
    let entries = [entry("a", "u", "c"), entry("b", "u", "c"), entry("a", "v", "c")];
    let beats: Vec<(&Entry, &[u8])> = entries.iter().map(|entry| (entry, &b""[..])).collect();
    let places = |naming: &Naming| -> Vec<Vec<usize>> {
        heartbeats(naming, &beats).into_iter().map(|beats| beats.places).collect()
    };
    assert_eq!(places(&Naming::default()), [vec![0, 1, 2]]);
    assert_eq!(places(&Naming { prefix: Vec::new(), tagged: true }), [vec![0, 2], vec![1]]);
    let many: Vec<_> = (0..450).map(|_| beats[0]).collect();
    let sizes: Vec<_> =
        heartbeats(&Naming::default(), &many).iter().map(|beats| beats.call.keys().count()).collect();
    assert_eq!(sizes, [1000, 1000, 250]);
}

#[test]
fn hints_are_one_call_but_one_per_key_in_a_cluster() {
    let entry = entry("a", "u", "c");
    assert_eq!(entry.hints(&Naming::default(), 1000).len(), 1);
    let calls = entry.hints(&Naming { prefix: Vec::new(), tagged: true }, 1000);
    assert_eq!(calls.iter().map(|call| call.keys().count()).collect::<Vec<_>>(), [1, 1, 1]);
}

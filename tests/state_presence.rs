//! The presence scripts against a real Redis, at injected times: who is announced when, expiry, sweepers beside each other
//! and beside joins, bindings, hints, steps of the clock, keys that are left. Timers are the daemon's and tested with it.
#[path = "state_presence/history.rs"]
mod history;
#[path = "state_presence/room.rs"]
mod room;
mod support;

use madcache::state::presence::{Beat, heartbeats};
use room::{Room, entry};

#[test]
fn only_the_first_connection_joins_and_only_the_last_one_leaves() {
    let mut room = Room::start();
    assert_eq!(room.run("PRESENCE.JOIN public ann tab1"), "[1 1 0]");
    assert_eq!(room.run("PRESENCE.JOIN public ann tab2"), "[0 1 0]");
    assert_eq!(room.run("PRESENCE.JOIN public bob phone"), "[1 2 1]");
    assert_eq!(room.run("PRESENCE.COUNT public"), "[2 3]");
    assert_eq!(room.run("PRESENCE.LEAVE public ann tab1"), "[0 2 1]");
    assert_eq!(room.run("PRESENCE.LEAVE public ann tab2"), "[1 1 2]");
    assert_eq!(room.events(), ["join ann 0 client", "join bob 1 client", "leave ann 2 client"]);
    assert_eq!(room.redis("SMEMBERS presence:channel:public:users"), "[bob]");
}

#[test]
fn a_repeated_join_or_leave_answers_the_same_and_announces_nothing() {
    let mut room = Room::start();
    for _ in 0..2 {
        assert_eq!(room.run("PRESENCE.JOIN room ann c1 META {\"a\":1}"), "[1 1 0]");
    }
    assert_eq!(room.run("PRESENCE.JOIN room ann c2"), "[0 1 0]");
    assert_eq!(room.run("PRESENCE.JOIN room ann c1 META {\"a\":1}"), "[1 1 0]");
    room.run("PRESENCE.LEAVE room ann c2");
    for _ in 0..2 {
        assert_eq!(room.run("PRESENCE.LEAVE room ann c1"), "[1 0 1]");
    }
    assert_eq!(room.run("PRESENCE.LEAVE room bob c9"), "[1 0 1]");
    assert_eq!(room.events(), ["join ann 0 client", "leave ann 1 client"]);
    room.store.pass_ms(5);
    assert_eq!(room.run("PRESENCE.LEAVE hall bob c9"), "[1 0 0]", "a channel that never was");
    assert_eq!(room.run("PRESENCE.JOIN hall bob c9"), "[1 1 5000]", "a new record starts at TIME");
}

#[test]
fn meta_is_the_users_and_whoever_changes_it_announces_an_update() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 META {\"x\":1}");
    assert_eq!(room.run("PRESENCE.JOIN room ann c2"), "[0 1 0]");
    assert_eq!(room.run("PRESENCE.JOIN room ann c2 META [2]"), "[0 1 1]");
    assert_eq!(room.run("PRESENCE.UPDATE room ann c1 META \"three\""), "2");
    assert_eq!(room.run("PRESENCE.UPDATE room ann c1 META \"three\""), "2");
    assert_eq!(room.run("PRESENCE.UPDATE room ann c3 META 4"), "0", "never joined");
    room.run("PRESENCE.JOIN room bob c4");
    assert_eq!(room.run("PRESENCE.MEMBERS room"), "ann bob");
    assert_eq!(room.run("PRESENCE.MEMBERS room WITHMETA"), "ann \"three\" bob ~");
    assert_eq!(room.run("PRESENCE.STATE room"), "[3 [ann 2 \"three\"] [bob 1 ~]]");
    assert_eq!(room.run("PRESENCE.STATE hall"), "[0]");
    let user = room.redis("HMGET presence:channel:room:user:ann connections meta joined_ms");
    assert_eq!(user, format!("[2 \"three\" {}]", support::scripts::START_US / 1000));
    let events = ["join ann 0 client", "update ann 1 client", "update ann 2 client", "join bob 3 client"];
    assert_eq!(room.events(), events);
}

#[test]
fn of_two_tabs_the_one_that_crashed_expires_and_the_user_stays() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann tab1 TTL 60000");
    room.run("PRESENCE.JOIN room ann tab2 TTL 60000");
    for _ in 0..3 {
        room.store.pass_ms(20_000);
        assert_eq!(room.run("PRESENCE.HEARTBEAT tab2 room ann"), "1");
    }
    room.store.pass_ms(1);
    assert_eq!(room.sweep(), 1);
    assert_eq!(room.run("PRESENCE.COUNT room"), "[1 1]");
    room.check_the_invariant("room");
    assert_eq!(room.run("PRESENCE.LEAVE room ann tab2"), "[1 0 1]");
    assert_eq!(room.events(), ["join ann 0 client", "leave ann 1 client"]);
}

#[test]
fn a_heartbeat_after_the_deadline_says_gone_and_revives_nothing() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 TTL 1000");
    room.store.pass_ms(999);
    assert_eq!(room.run("PRESENCE.HEARTBEAT c1 room ann room bob hall ann"), "1 0 0");
    room.store.pass_ms(1000);
    assert_eq!(room.run("PRESENCE.HEARTBEAT c1 room ann"), "0", "expired, not swept yet");
    assert_eq!(room.run("PRESENCE.UPDATE room ann c1 META 1"), "0");
    assert_eq!(room.sweep(), 1);
    let before = room.store.contents();
    assert_eq!(room.run("PRESENCE.HEARTBEAT c1 room ann"), "0", "expired and swept");
    assert_eq!(room.store.contents(), before);
    assert_eq!(room.events(), ["join ann 0 client", "leave ann 1 expired"]);
}

#[test]
fn who_joins_again_before_the_sweeper_came_never_left() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 TTL 1000");
    room.store.pass_ms(1500);
    assert_eq!(room.run("PRESENCE.JOIN room ann c1 TTL 1000"), "[1 1 0]");
    room.store.pass_ms(500);
    assert_eq!(room.sweep(), 0);
    assert_eq!(room.events(), ["join ann 0 client"]);
    room.store.pass_ms(501);
    assert_eq!(room.sweep(), 1);
    assert_eq!(room.events(), ["leave ann 1 expired"]);
}

#[test]
fn two_sweepers_at_once_announce_one_leave() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 TTL 1000");
    room.store.pass_ms(1000);
    let (first, second) = (room.due(), room.due());
    assert_eq!(first, second);
    let looks = [room.look(&first[0], &[]), room.look(&second[0], &[])];
    assert_eq!((looks[0].expired.len(), &looks[0]), (1, &looks[1]));
    let expired = looks[0].expired.clone();
    let looks = [room.look(&first[0], &expired), room.look(&second[0], &expired)];
    assert_eq!(looks.each_ref().map(|look| look.removed.len()), [1, 0]);
    assert_eq!(looks.each_ref().map(|look| look.gone.len()), [1, 0]);
    assert!(room.settle(&first[0], None) && !room.settle(&second[0], None));
    assert_eq!(room.events(), ["join ann 0 client", "leave ann 1 expired"]);
    assert!(room.due().is_empty());
}

#[test]
fn a_sweeper_beside_a_heartbeat_or_a_join_leaves_them_alone() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 TTL 1000");
    room.run("PRESENCE.JOIN room bob c2 TTL 1000");
    room.store.pass_ms(1000);
    let due = room.due().remove(0);
    let look = room.look(&due, &[]);
    assert_eq!(look.expired.len(), 2);
    room.run("PRESENCE.JOIN room ann c1 TTL 1000");
    let look = room.look(&due, &look.expired);
    assert_eq!(look.gone, [b"bob"]);
    assert_eq!(look.next_ms, Some(1000));
    assert!(!room.settle(&due, look.next_ms), "the join has written the hint since it was read");
    room.store.pass_ms(1000);
    assert_eq!(room.sweep(), 1);
    assert_eq!(room.run("PRESENCE.COUNT room"), "[0 0]");
}

#[test]
fn a_join_whose_hint_is_settled_before_its_script_runs_is_found_all_the_same() {
    let mut room = Room::start();
    let room::Join(join) = room::join("PRESENCE.JOIN room ann c1 TTL 60000");
    room.run("PRESENCE.JOIN room bob c2 TTL 1000");
    room.store.pass_ms(1000);
    // The hint of the join is written onto one that is due, so a sweeper may take it away: it says "again".
    assert!(room.hint(&join), "a sweeper may look at any moment");
    assert_eq!(room.sweep(), 1);
    assert!(room.due().is_empty());
    room.enter(&join);
    room.hint(&join);
    room.store.pass_ms(60_000);
    assert_eq!(room.sweep(), 1);
    // Where none is due within five seconds, no sweeper looks before: once is enough.
    let room::Join(join) = room::join("PRESENCE.JOIN hall ann c1 TTL 60000");
    assert!(!room.hint(&join));
}

#[test]
fn a_shorter_join_shortens_no_deadline_and_no_ttl_of_a_key() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 TTL 3600000");
    room.run("PRESENCE.JOIN room ann c1 TTL 1000");
    room.run("PRESENCE.JOIN room ann c2 TTL 1000");
    room.run("PRESENCE.JOIN room bob c3 TTL 1000");
    for key in ["presence:channel:room:users", "presence:channel:room:user:ann", "x:presence:{room}:roster"] {
        assert!(room.store.pttl(key) > 3_590_000, "{key}");
    }
    let bob = room.store.pttl("presence:channel:room:user:bob");
    assert!((1..=1000).contains(&bob), "{bob}");
    room.store.pass_ms(3_599_000);
    room.run("PRESENCE.HEARTBEAT c1 room ann");
    room.store.pass_ms(3_599_000);
    assert_eq!(room.sweep(), 2, "a heartbeat goes by the ttl of the longer join");
    assert_eq!(room.run("PRESENCE.COUNT room"), "[1 1]");
}

#[test]
fn without_daemons_the_users_expire_with_the_last_entry_and_everything_soon() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1 TTL 5000");
    room.run("PRESENCE.JOIN room bob c2 TTL 90000");
    let left = room.store.pttl("presence:channel:room:users");
    assert!((80_000..=90_000).contains(&left), "{left}");
    room.run("PRESENCE.LEAVE room bob c2");
    let left = room.store.pttl("presence:channel:room:users");
    assert!((1..=5000).contains(&left), "the last entry is ann's: {left}");
    room.run("PRESENCE.LEAVE room ann c1");
    let Some(keys) = madcache::resp::parse(&room.store.client.call(&["KEYS", "*"])) else { panic!("KEYS") };
    for key in keys.elements().unwrap().iter().map(support::scripts::shown) {
        let left = room.store.pttl(&key);
        assert!((1..=3_700_000).contains(&left), "{key} would live {left} ms");
    }
}

#[test]
fn a_user_set_that_somebody_deleted_is_made_again_by_the_next_join() {
    let mut room = Room::start();
    room.run("PRESENCE.JOIN room ann c1");
    room.run("PRESENCE.JOIN room bob c2");
    room.redis("DEL presence:channel:room:users");
    room.run("PRESENCE.JOIN room ann c1");
    room.check_the_invariant("room");
}

#[test]
fn a_connection_that_joined_again_elsewhere_stays_when_its_old_session_closes() {
    let mut room = Room::start();
    room.run_bound("PRESENCE.JOIN room ann c1 BIND", "old");
    assert_eq!(room.run_bound("PRESENCE.JOIN room ann c1 BIND", "new"), "[1 1 0]");
    let ann = entry("room", "ann", "c1");
    let beat = |room: &mut Room, binding: &str| {
        let call = heartbeats(&room.naming, &[(&ann, binding.as_bytes())]).remove(0).call;
        Beat::parse_all(&room.store.frame(call)).unwrap()[0]
    };
    assert_eq!(beat(&mut room, "old"), Beat::Moved);
    assert_eq!(beat(&mut room, "new"), Beat::Refreshed);
    assert!(!room.close("room", "ann", "c1", "old"));
    assert_eq!(room.run("PRESENCE.COUNT room"), "[1 1]");
    assert!(room.close("room", "ann", "c1", "new"));
    assert!(!room.close("room", "ann", "c1", "new"), "a repeated clean-up");
    assert_eq!(beat(&mut room, "new"), Beat::Gone);
    assert_eq!(room.events(), ["join ann 0 client", "leave ann 1 closed"]);
    room.run_bound("PRESENCE.JOIN room ann c1 BIND", "old");
    room.run("PRESENCE.JOIN room ann c1");
    assert!(!room.close("room", "ann", "c1", "old"), "joined again without BIND");
}

#[test]
fn leaveall_and_channels_go_by_hints_and_believe_only_what_they_verify() {
    let mut room = Room::start();
    for channel in ["a", "b", "c"] {
        room.run(&format!("PRESENCE.JOIN {channel} ann c1"));
    }
    room.run("PRESENCE.JOIN a ann c2");
    room.run("PRESENCE.JOIN a bob c1");
    assert_eq!(room.run("PRESENCE.CHANNELS ann"), "a b c");
    room.run("PRESENCE.LEAVE b ann c1");
    assert_eq!(room.run("PRESENCE.CHANNELS ann"), "a c", "a hint that is left over is not believed");
    room.store.pass_ms(10_000);
    assert_eq!(room.run("PRESENCE.LEAVEALL c1"), "3");
    assert_eq!(room.run("PRESENCE.LEAVEALL c1"), "0");
    assert_eq!(room.run("PRESENCE.CHANNELS ann"), "a");
    assert_eq!(room.run("PRESENCE.CHANNELS bob"), "");
    assert_eq!(room.redis("EXISTS x:presence:connection:c1 x:presence:user:bob"), "0");
    assert_eq!(room.redis("ZRANGE x:presence:user:ann 0 -1"), "[a]");
}

#[test]
fn a_hint_written_since_or_shortly_before_is_not_removed() {
    let mut room = Room::start();
    let room::Join(join) = room::join("PRESENCE.JOIN a ann c2");
    room.run("PRESENCE.JOIN a ann c1");
    room.store.pass_ms(60_000);
    room.hint(&join);
    room.store.pass_ms(4000);
    // Another tab of the user is about to enter, while its last one leaves.
    assert_eq!(room.run("PRESENCE.LEAVE a ann c1"), "[1 0 1]");
    room.enter(&join);
    assert_eq!(room.run("PRESENCE.CHANNELS ann"), "a");
    assert_eq!(room.redis("EXISTS x:presence:connection:c1"), "0");
}

#[test]
fn a_large_channel_is_swept_in_pieces_of_five_hundred() {
    let mut room = Room::start();
    for number in 0..1100 {
        let room::Join(join) = room::join(&format!("PRESENCE.JOIN room u{} c{number} TTL 1000", number / 2));
        room.enter(&join);
    }
    let room::Join(join) = room::join("PRESENCE.JOIN room u0 c0 TTL 1000");
    room.hint(&join);
    room.store.pass_ms(1000);
    let due = room.due().remove(0);
    let look = room.look(&due, &[]);
    assert_eq!(look.expired.len(), 500);
    assert_eq!(room.sweep(), 1100);
    assert_eq!(room.run("PRESENCE.COUNT room"), "[0 0]");
    assert_eq!(room.events().len(), 1100, "550 joined and left");
}

#[test]
fn a_clock_that_steps_back_neither_expires_nor_prolongs_nor_counts_backwards() {
    let mut room = Room::start();
    room.store.pass_ms(30_000);
    assert_eq!(room.run("PRESENCE.JOIN room ann c1 TTL 60000"), "[1 1 30000000]");
    room.store.now_us -= 30_000_000;
    assert_eq!(room.run("PRESENCE.HEARTBEAT c1 room ann"), "1");
    assert_eq!(room.run("PRESENCE.JOIN room bob c2 TTL 1000"), "[1 2 30000001]");
    room.store.pass_ms(31_000);
    assert_eq!(room.sweep(), 1, "bob's second ran from the newest time seen");
    // A time far ahead is not believed: what it has set comes back to one ttl from now.
    room.store.pass_ms(86_400_000);
    room.run("PRESENCE.JOIN room ann c1 TTL 60000");
    room.store.now_us -= 86_400_000_000;
    room.run("PRESENCE.JOIN room carl c3 TTL 1000");
    room.store.pass_ms(1000);
    assert_eq!(room.sweep(), 1);
    room.store.pass_ms(60_001);
    assert_eq!(room.sweep(), 1);
    assert_eq!(room.run("PRESENCE.COUNT room"), "[0 0]");
}

#[test]
fn on_a_cluster_every_script_stays_in_one_slot() {
    let mut room = Room::on_a_cluster();
    assert_eq!(room.run("PRESENCE.JOIN public x:y c1 META [1] TTL 1000"), "[1 1 0]");
    room.run("PRESENCE.JOIN hall x:y c1 TTL 1000");
    room.run("PRESENCE.JOIN hall bob c2 TTL 90000");
    assert_eq!(room.run("PRESENCE.HEARTBEAT c1 hall x:y public x:y attic x:y"), "1 1 0");
    assert_eq!(room.run("PRESENCE.UPDATE public x:y c1 META 2"), "1");
    assert_eq!(room.run("PRESENCE.CHANNELS x:y"), "hall public");
    assert_eq!(room.run("PRESENCE.STATE public"), "[1 [x:y 1 2]]");
    assert_eq!(room.run("PRESENCE.MEMBERS hall"), "bob x:y");
    assert_eq!(room.redis("SMEMBERS app:presence:channel:{public}:users"), "[x:y]");
    assert_eq!(room.redis("EXISTS app:presence:channel:{public}:user:x%3Ay"), "1");
    room.store.pass_ms(1000);
    assert_eq!(room.sweep(), 2);
    assert_eq!(room.run("PRESENCE.LEAVEALL c2"), "1");
    assert_eq!(room.run("PRESENCE.COUNT hall"), "[0 0]");
}

//! Random histories of joins, leaves, heartbeats, updates and sweeps against a model written from the rules alone.
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::room::Room;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[derive(Debug, Clone)]
enum Step {
    Join { user: u8, connection: u8, ttl_ms: u64 },
    Leave { user: u8, connection: u8 },
    Heartbeat { user: u8, connection: u8 },
    LeaveAll { connection: u8 },
    Pass { ms: u64 },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let (users, connections) = (0..3u8, 0..3u8);
    let ttl_ms = prop::sample::select(vec![1000u64, 3000, 20_000]);
    prop_oneof![
        4 => (users.clone(), connections.clone(), ttl_ms)
            .prop_map(|(user, connection, ttl_ms)| Step::Join { user, connection, ttl_ms }),
        2 => (users.clone(), connections.clone()).prop_map(|(user, connection)| Step::Leave { user, connection }),
        3 => (users, connections.clone()).prop_map(|(user, connection)| Step::Heartbeat { user, connection }),
        1 => connections.prop_map(|connection| Step::LeaveAll { connection }),
        3 => (1..4000u64).prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::Sweep),
    ]
}

/// Entries by (user, connection) with deadline and ttl, and who was announced as present.
#[derive(Default)]
struct Model {
    entries: BTreeMap<(u8, u8), (u64, u64)>,
    present: BTreeSet<u8>,
    announced: Vec<String>,
}

impl Model {
    fn has(&self, user: u8) -> bool {
        self.entries.keys().any(|(owner, _)| *owner == user)
    }

    fn settle(&mut self) {
        let users: BTreeSet<u8> = self.entries.keys().map(|(user, _)| *user).collect();
        self.announced.extend(users.difference(&self.present).map(|user| format!("join u{user}")));
        self.announced.extend(self.present.difference(&users).map(|user| format!("leave u{user}")));
        self.present = users;
    }
}

fn play(room: &mut Room, channel: &str, steps: &[Step]) {
    let mut model = Model::default();
    room.events();
    for step in steps {
        let now = room.store.now_us / 1000;
        match *step {
            Step::Join { user, connection, ttl_ms } => {
                let enters = !model.has(user);
                let (deadline, ttl) = model.entries.get(&(user, connection)).copied().unwrap_or_default();
                let ttl = ttl.max(ttl_ms);
                model.entries.insert((user, connection), (deadline.max(now + ttl), ttl));
                let reply = room.run(&format!("PRESENCE.JOIN {channel} u{user} c{connection} TTL {ttl_ms}"));
                assert!(!enters || reply.starts_with("[1 "), "{reply}");
            }
            Step::Leave { user, connection } => {
                model.entries.remove(&(user, connection));
                let reply = room.run(&format!("PRESENCE.LEAVE {channel} u{user} c{connection}"));
                assert!(reply.starts_with(if model.has(user) { "[0 " } else { "[1 " }), "{reply}");
            }
            Step::Heartbeat { user, connection } => {
                let entry =
                    model.entries.get_mut(&(user, connection)).filter(|(deadline, _)| *deadline > now);
                let wanted = if entry.is_some() { "1" } else { "0" };
                if let Some((deadline, ttl)) = entry {
                    *deadline = (*deadline).max(now + *ttl);
                }
                assert_eq!(room.run(&format!("PRESENCE.HEARTBEAT c{connection} {channel} u{user}")), wanted);
            }
            Step::LeaveAll { connection } => {
                let before = model.entries.len();
                model.entries.retain(|(_, other), _| *other != connection);
                let left = before - model.entries.len();
                assert_eq!(room.run(&format!("PRESENCE.LEAVEALL c{connection}")), left.to_string());
            }
            Step::Pass { ms } => room.store.pass_ms(ms),
            Step::Sweep => {
                model.entries.retain(|_, (deadline, _)| *deadline > now);
                room.sweep();
            }
        }
        model.settle();
        let users = model.present.len();
        assert_eq!(
            room.run(&format!("PRESENCE.COUNT {channel}")),
            format!("[{users} {}]", model.entries.len())
        );
        room.check_the_invariant(channel);
    }
    let said = room.events().into_iter().map(|event| event.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let (mut said, mut wanted) = (said.collect::<Vec<_>>(), model.announced);
    // Each user's events in their order; those who left by one sweep are announced in any.
    let user_of = |event: &String| event.split(' ').nth(1).map(str::to_owned);
    said.sort_by_key(user_of);
    wanted.sort_by_key(user_of);
    assert_eq!(said, wanted);
}

#[test]
fn in_any_history_counts_are_those_of_the_connection_set_and_joins_alternate_with_leaves() {
    let room = RefCell::new(Room::start());
    let cases = 60;
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 50, ..Config::default() })
        .run(&prop::collection::vec(step(), 1..40), |steps| {
            let mut room = room.borrow_mut();
            room.redis("FLUSHALL");
            play(&mut room, "room", &steps);
            Ok(())
        })
        .unwrap();
}

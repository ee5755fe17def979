//! Performs PRESENCE commands the way a daemon does, hints and sweeping included, at injected times against a real Redis.
use std::time::Duration;

use super::support::Client;
use super::support::scripts::{START_US, Store, shown};
use madcache::resp::{Value, parse};
use madcache::state::presence::hints::{self, Hint};
use madcache::state::presence::sweep::{self, Due, Look};
use madcache::state::presence::{self, Cause, Command, Entry, Left, TTL_MS_DEFAULT};
use madcache::state::{self, Naming};

pub struct Room {
    pub store: Store,
    pub naming: Naming,
    listener: Client,
}

pub fn command(line: &str) -> Command {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    match state::parse(&words) {
        Ok(state::Command::Presence(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

impl Room {
    pub fn start() -> Room {
        Room::over(Store::start(), Naming::default())
    }

    /// On a cluster of one node: it refuses scripts whose keys are in several slots.
    pub fn on_a_cluster() -> Room {
        let mut store = Store::start_with(&["--cluster-enabled", "yes"]);
        assert_eq!(store.client.text(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
        super::support::eventually("the cluster is up", || {
            store.client.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
        Room::over(store, Naming { prefix: b"app:".to_vec(), tagged: true })
    }

    fn over(store: Store, naming: Naming) -> Room {
        let mut listener = store.redis.client();
        listener.call(&["PSUBSCRIBE", "*events:presence:*"]);
        Room { store, naming, listener }
    }

    /// The events since the last time, as `<type> <user> <seq, counted from the start of the test> <cause>`.
    pub fn events(&mut self) -> Vec<String> {
        self.store.client.call(&["PUBLISH", "events:presence:end", "end"]);
        let mut events = Vec::new();
        loop {
            let message = parse(&self.listener.read_frame()).expect("a message");
            let text = shown(&message.elements().expect("an array")[3]);
            if text == "end" {
                return events;
            }
            let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let word = |field: &str| event[field].as_str().expect(field).to_owned();
            let seq = event["seq"].as_u64().expect("seq");
            assert_eq!(event.as_object().map(serde_json::Map::len), Some(4), "{text}");
            events.push(format!(
                "{} {} {} {}",
                word("type"),
                word("user"),
                seq as i64 - START_US as i64,
                word("cause")
            ));
        }
    }

    fn forget(&mut self, hints: &[Hint]) {
        for call in Hint::forget(&self.naming, hints, Duration::ZERO) {
            self.store.run(call);
        }
    }

    /// One command, by a session whose binding is `binding`. Sequence numbers read as counted from the start of the test.
    pub fn run_bound(&mut self, line: &str, binding: &str) -> String {
        let naming = self.naming.clone();
        let reply = match command(line) {
            Command::Join(join) => {
                let mut again = false;
                for call in join.hints(&naming, TTL_MS_DEFAULT) {
                    again |= hints::again(&self.store.frame(call)).unwrap();
                }
                let binding = if join.bind { binding.as_bytes() } else { b"" };
                let reply = self.store.value(join.call(&naming, TTL_MS_DEFAULT, binding));
                for call in join.hints(&naming, TTL_MS_DEFAULT).into_iter().filter(|_| again) {
                    self.store.run(call);
                }
                reply
            }
            Command::Leave(entry) => {
                let reply = self.store.value(entry.call(&naming));
                self.forget(&hints_of(&entry, reply.elements().unwrap()[0].int() == Some(1)));
                reply
            }
            Command::LeaveAll { connection } => return self.leave_all(&connection).to_string(),
            Command::Heartbeat { entries } => {
                let beats: Vec<_> = entries.iter().map(|entry| (entry, binding.as_bytes())).collect();
                let mut results = vec![String::new(); beats.len()];
                for beats in presence::heartbeats(&naming, &beats) {
                    let reply = self.store.value(beats.call);
                    for (place, result) in beats.places.iter().zip(reply.elements().expect("an array")) {
                        results[*place] = shown(result);
                    }
                }
                return results.join(" ");
            }
            Command::Update(update) => {
                let seq = self.store.value(update.call(&naming)).int().expect("a number");
                return (if seq == 0 { 0 } else { seq - START_US as i64 }).to_string();
            }
            Command::Members { channel, with_meta } => {
                return sorted(&self.store.value(presence::members(&naming, &channel, with_meta)), with_meta);
            }
            Command::State { channel } => self.store.value(presence::state(&naming, &channel)),
            Command::Count { channel } => return self.store.run(presence::count(&naming, &channel)),
            Command::Channels { user } => return self.channels(&user),
        };
        relative(reply)
    }

    pub fn run(&mut self, line: &str) -> String {
        self.run_bound(line, "")
    }

    fn leave_all(&mut self, connection: &[u8]) -> usize {
        let frame = self.store.frame(hints::of_connection(&self.naming, connection));
        let mut count = 0;
        for entry in hints::entries_of_connection(connection, &frame).unwrap() {
            let frame = self.store.frame(entry.left(&self.naming, Cause::Client, b""));
            let left = Left::parse(&frame).unwrap();
            count += usize::from(left.removed);
            self.forget(&hints_of(&entry, left.last));
        }
        count
    }

    fn channels(&mut self, user: &[u8]) -> String {
        let frame = self.store.frame(hints::of_user(&self.naming, user));
        let mut channels = Vec::new();
        for channel in hints::channels_of_user(&frame).unwrap() {
            if self.store.run(presence::present(&self.naming, &channel, user)) == "1" {
                channels.push(String::from_utf8(channel).unwrap());
            } else {
                self.forget(&[Hint::User { user: user.to_vec(), channel }]);
            }
        }
        channels.sort();
        channels.join(" ")
    }

    /// What a daemon does for an entry of a session that was closed.
    pub fn close(&mut self, channel: &str, user: &str, connection: &str, binding: &str) -> bool {
        let entry = entry(channel, user, connection);
        let frame = self.store.frame(entry.left(&self.naming, Cause::Closed, binding.as_bytes()));
        Left::parse(&frame).unwrap().removed
    }

    pub fn due(&mut self) -> Vec<Due> {
        let frame = self.store.frame(sweep::due(&self.naming));
        Due::parse_all(&frame).unwrap()
    }

    pub fn look(&mut self, due: &Due, members: &[presence::Member]) -> Look {
        let frame = self.store.frame(due.look(&self.naming, members));
        Look::parse(&frame).unwrap()
    }

    pub fn settle(&mut self, due: &Due, next_ms: Option<u64>) -> bool {
        self.store.run(due.settle(&self.naming, next_ms)) == "1"
    }

    /// One sweeper's whole round; the number of connections that it removed.
    pub fn sweep(&mut self) -> usize {
        let mut removed = 0;
        for due in self.due() {
            let mut look = self.look(&due, &[]);
            while !look.expired.is_empty() {
                look = self.look(&due, &look.expired.clone());
                removed += look.removed.len();
                self.forget(&look.hints(&due.channel));
            }
            self.settle(&due, look.next_ms);
        }
        removed
    }

    pub fn redis(&mut self, line: &str) -> String {
        let reply = self.store.client.call(&line.split(' ').collect::<Vec<_>>());
        shown(&parse(&reply).expect("a reply"))
    }

    /// A user's count is the number of its members in the connection set, in the roster and in the user's HASH, and the
    /// SET holds those who have one.
    pub fn check_the_invariant(&mut self, channel: &str) {
        let key = |what: &str| format!("x:presence:{{{channel}}}:{what}");
        let mut counts = std::collections::BTreeMap::new();
        let members = self.store.client.call(&["ZRANGE", &key("connections"), "0", "-1"]);
        for member in parse(&members).unwrap().elements().unwrap() {
            let member = presence::Member::parse(member.text().unwrap()).expect("a member");
            *counts.entry(String::from_utf8(member.user).unwrap()).or_insert(0) += 1;
        }
        let roster = parse(&self.store.client.call(&["HGETALL", &key("roster")])).unwrap();
        let flat = roster.elements().unwrap();
        let of_roster = flat.chunks_exact(2).map(|pair| {
            let count = shown(&pair[1]).split(' ').next().unwrap().parse::<i32>().unwrap();
            (shown(&pair[0]), count)
        });
        assert_eq!(of_roster.collect::<std::collections::BTreeMap<_, _>>(), counts);
        let users = self.store.client.call(&["SMEMBERS", &format!("presence:channel:{channel}:users")]);
        let mut users: Vec<_> = parse(&users).unwrap().elements().unwrap().iter().map(shown).collect();
        users.sort();
        // It expires with the last deadline by Redis's own clock; the roster is there until the sweeper came.
        assert!(
            users.is_empty() || users == counts.keys().cloned().collect::<Vec<_>>(),
            "{users:?} for {counts:?}"
        );
        for (user, count) in counts {
            let shown = self.redis(&format!("HGET presence:channel:{channel}:user:{user} connections"));
            assert!(shown == count.to_string() || shown == "~", "{user}: {shown} for {count}");
        }
    }
}

fn hints_of(entry: &Entry, last: bool) -> Vec<Hint> {
    let user = Hint::User { user: entry.user.clone(), channel: entry.channel.clone() };
    let mut hints = vec![Hint::Connection(entry.clone())];
    hints.extend(last.then_some(user));
    hints
}

pub fn entry(channel: &str, user: &str, connection: &str) -> Entry {
    let [channel, user, connection] = [channel, user, connection].map(|name| name.as_bytes().to_vec());
    Entry { channel, user, connection }
}

/// Sequence numbers, which begin at the time, as counted from the start of the test.
fn relative(value: Value) -> String {
    let Value::Array(mut elements) = value else { return shown(&value) };
    for element in &mut elements {
        if let Value::Int(number) = element
            && *number > 1_000_000_000_000
        {
            *number -= START_US as i64;
        }
    }
    elements.sort_by_key(|element| matches!(element, Value::Array(_)).then(|| shown(element)));
    shown(&Value::Array(elements))
}

fn sorted(value: &Value, pairs: bool) -> String {
    let elements = value.elements().expect("an array");
    let mut texts: Vec<String> = elements
        .chunks(if pairs { 2 } else { 1 })
        .map(|some| some.iter().map(shown).collect::<Vec<_>>().join(" "))
        .collect();
    texts.sort();
    texts.join(" ")
}

/// A JOIN that is performed step by step.
pub struct Join(pub presence::Join);

pub fn join(line: &str) -> Join {
    match command(line) {
        Command::Join(join) => Join(join),
        other => panic!("{line}: {other:?}"),
    }
}

impl Room {
    /// Only the hints of a JOIN; whether they are to be written again.
    pub fn hint(&mut self, join: &presence::Join) -> bool {
        let calls = join.hints(&self.naming, TTL_MS_DEFAULT);
        calls.into_iter().fold(false, |again, call| again | hints::again(&self.store.frame(call)).unwrap())
    }

    /// Only the script of a JOIN.
    pub fn enter(&mut self, join: &presence::Join) -> String {
        relative(self.store.value(join.call(&self.naming, TTL_MS_DEFAULT, b"")))
    }
}

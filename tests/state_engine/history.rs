//! One random history: requests of all kinds by a few clients over a few names, performed as a daemon performs them.

use std::collections::BTreeMap;
use std::time::Duration;

use madcache::config::{LimitOnL2Down, Policy};
use madcache::state::lock::{self, Waits};
use madcache::state::presence::hints::{self, Hint};
use madcache::state::presence::sweep::{self, Due, Look};
use madcache::state::presence::{self, Cause, Entry, Left, TTL_MS_DEFAULT};
use madcache::state::ratelimit::{self, Limits, Plan};
use madcache::state::session::{self, Settings};
use madcache::state::{self, Call, Command, Naming};

use crate::sides::Sides;
use crate::support::scripts::shown;

const MINUTE_MS: u64 = 60_000;
/// The small steps of a history add up to less than this, so that whatever lives still lives for long.
const SMALL_STEPS_MS_MAX: u64 = 15_000;

pub struct History {
    random: Random,
    naming: Naming,
    settings: Settings,
    policies: BTreeMap<String, Policy>,
    drawn: u8,
    tokens: Vec<String>,
    ids: Vec<String>,
    small_steps_ms: u64,
}

impl History {
    pub fn new(seed: u64, tagged: bool) -> History {
        let policy = |limit, minutes| Policy { limit, window_ms: minutes * MINUTE_MS, ..Policy::default() };
        let policies = [("short", policy(3, 1)), ("long", policy(6, 60))];
        let naming = Naming { prefix: if tagged { b"app:".to_vec() } else { Vec::new() }, tagged };
        History {
            random: Random(seed),
            settings: Settings { naming: naming.clone(), ..Settings::default() },
            naming,
            policies: policies.map(|(name, policy)| (name.to_owned(), policy)).into(),
            drawn: 0,
            tokens: vec!["none".to_owned()],
            ids: vec!["none".to_owned()],
            small_steps_ms: 0,
        }
    }

    pub fn step(&mut self, sides: &mut Sides) {
        match self.random.below(12) {
            0 => self.pass(sides),
            1..5 => self.lock(sides),
            5..7 => self.limit(sides),
            7..10 => self.presence(sides),
            _ => self.session(sides),
        }
    }

    fn pass(&mut self, sides: &mut Sides) {
        match self.random.below(8) {
            0 => sides.now_us -= 1000 * MINUTE_MS * self.random.below(3),
            1..4 => sides.now_us += 1000 * MINUTE_MS * self.random.below(4),
            _ => {
                let ms = self.random.below(1500);
                if self.small_steps_ms + ms < SMALL_STEPS_MS_MAX {
                    self.small_steps_ms += ms;
                    sides.now_us += 1000 * ms + self.random.below(1000);
                }
            }
        }
    }

    fn minutes(&mut self) -> u64 {
        MINUTE_MS * (1 + self.random.below(3))
    }

    fn lock(&mut self, sides: &mut Sides) {
        let name = self.random.pick(&["a", "a", "b"]);
        let token = format!("t{}", self.random.below(5));
        let minutes = self.minutes();
        let line = match self.random.below(12) {
            0..5 => {
                let options =
                    ["", "WAIT 9", "WAIT 9 FAIR", "REENTRANT", "BIND OWNER me", "RENEW WAIT 9 FAIR BIND"];
                format!("LOCK.ACQUIRE {name} {minutes} TOKEN {token} {}", self.random.pick(&options))
            }
            5 => format!("LOCK.EXTEND {name} {token} {minutes}"),
            6..8 => format!("LOCK.RELEASE {name} {token}"),
            8 => format!("LOCK.CHECK {name} {token}"),
            9 => format!("LOCK.INFO {name}"),
            10 if self.random.below(3) == 0 => format!("LOCK.FORCE {name}"),
            10 if self.random.below(8) == 0 && !self.naming.tagged => {
                return sides.plain(&["SET", &format!("lock:{name}"), "theirs"]);
            }
            _ => {
                let nonce = self.nonce();
                let call = lock::cancel(&self.naming, name.as_bytes(), &nonce);
                return drop(sides.run("cancel", call));
            }
        };
        let Command::Lock(command) = parsed(&line) else { panic!("{line}") };
        let nonce = self.nonce();
        let naming = &self.naming;
        let call = match command {
            lock::Command::Acquire(acquire) => {
                let waits = if acquire.wait_ms.is_some() { Waits::InLine } else { Waits::No };
                acquire.call(naming, token.as_bytes(), &nonce, waits)
            }
            lock::Command::Extend(extend) => extend.call(naming),
            lock::Command::Release(release) => release.call(naming),
            lock::Command::Check(check) => check.call(naming),
            lock::Command::Info(info) => info.call(naming),
            lock::Command::Force(force) => force.call(naming),
        };
        sides.run(&line, call);
    }

    /// A few, so that attempts are repeated.
    fn nonce(&mut self) -> lock::Nonce {
        [self.random.below(12) as u8; 16]
    }

    fn limit(&mut self, sides: &mut Sides) {
        let minutes = self.random.pick(&["60000", "180000", "3600000"]);
        let (subject, limit) = (self.random.below(3), 1 + self.random.below(6));
        let algorithm = self.random.pick(&["sliding", "gcra", "gcra", "fixed", "log"]);
        let burst = if algorithm == "gcra" && self.random.below(2) == 0 { " BURST 4" } else { "" };
        let terms = match self.random.below(3) {
            0 => format!("POLICY {}", self.random.pick(&["short", "long"])),
            _ => format!("LIMIT {limit} WINDOW {minutes} ALGO {algorithm}{burst}"),
        };
        let cost = self.random.below(4);
        let shadow = self.random.pick(&["", "", " SHADOW"]);
        let line = match self.random.below(10) {
            0..5 => format!("RATELIMIT.CHECK user {{7}}{subject} {terms} COST {cost}{shadow}"),
            5 => format!("RATELIMIT.PEEK user {{7}}{subject} {terms} COST {cost}"),
            6 => format!("RATELIMIT.REFUND user {{7}}{subject} {cost} {terms}"),
            7 => format!("RATELIMIT.MULTI 2 user {{7}}{subject} short {cost} user {{7}}1 long 2"),
            8 => format!("CL.THROTTLE k{subject} {limit} 2 120 {cost}"),
            _ => format!("RATELIMIT.RESET user {{7}}{subject}"),
        };
        let limits = Limits {
            naming: &self.naming,
            policies: &self.policies,
            ipv6_prefix_bits: 64,
            on_l2_down: LimitOnL2Down::Open,
        };
        let call = match parsed(&line) {
            Command::Throttle(throttle) => throttle.call(&self.naming),
            Command::Ratelimit(ratelimit::Command::Check(check)) => check.resolve(&limits).unwrap().check(),
            Command::Ratelimit(ratelimit::Command::Peek(check)) => check.resolve(&limits).unwrap().peek(),
            Command::Ratelimit(ratelimit::Command::Reset(subject)) => subject.reset(&limits),
            Command::Ratelimit(ratelimit::Command::Refund(refund)) => refund.call(&limits).unwrap(),
            Command::Ratelimit(ratelimit::Command::Multi(multi)) => match multi.plan(&limits).unwrap() {
                Plan::Whole(call) => call,
                Plan::OneByOne(_) => panic!("{line}: several slots"),
            },
            other => panic!("{other:?}"),
        };
        sides.run(&line, call);
    }

    fn session(&mut self, sides: &mut Sides) {
        let user = self.random.pick(&["ann", "ann", "bob"]);
        let token = self.recent(|history| &history.tokens);
        let id = self.recent(|history| &history.ids);
        let line = match self.random.below(16) {
            0..4 => {
                let options = [
                    "",
                    "IDLE 1200000 ABSOLUTE 3600000",
                    "DATA {\"a\":1} DEVICE phone",
                    "IDLE 2400000 MAX 2 EVICT",
                    "MAX 2 REJECT",
                ];
                format!("SESSION.CREATE {user} {}", self.random.pick(&options))
            }
            4..7 => format!("SESSION.VALIDATE {token}"),
            7 => format!("SESSION.TOUCH {token}"),
            8 => format!("SESSION.SET {token} [1]"),
            9 => format!("SESSION.SET {token} [2] IFVER {}", 1 + self.random.below(3)),
            10..12 => format!("SESSION.ROTATE {token} GRACE {}", self.minutes()),
            12 => format!("SESSION.DESTROY {token}"),
            13 => format!("SESSION.REVOKE {id}"),
            14 if self.random.below(3) == 0 => format!("SESSION.DESTROYALL {user} EXCEPT {token}"),
            14 => format!("SESSION.COUNT {user}"),
            _ => format!("SESSION.LIST {user}"),
        };
        let Command::Session(command) = parsed(line.trim_end()) else { panic!("{line}") };
        let settings = &self.settings;
        self.drawn = self.drawn.wrapping_add(1);
        let call = match command {
            session::Command::Create(create) => create.call(settings, &[self.drawn; 32], &[self.drawn; 16]),
            session::Command::Rotate(rotate) => rotate.call(settings, &[self.drawn; 32]),
            session::Command::Validate(validate) => validate.call(settings),
            session::Command::Touch(touch) => touch.call(settings),
            session::Command::Set(set) => set.call(settings),
            session::Command::Destroy(destroy) => destroy.call(settings),
            session::Command::Revoke(revoke) => revoke.call(settings),
            session::Command::DestroyAll(all) => all.call(settings),
            session::Command::List(list) => list.call(settings),
            session::Command::Count(count) => count.call(settings),
        };
        let makes_a_token = line.contains(".CREATE") || line.contains(".ROTATE");
        let reply = call.reply;
        let frame = sides.run(&line, call);
        if makes_a_token && frame[0] == b'*' {
            let mut told = Vec::new();
            reply.convert(&frame, false, &mut told);
            let value = madcache::resp::parse(&told).expect("a reply");
            let [token, id, ..] = value.elements().expect("an array") else { panic!("{value:?}") };
            self.tokens.push(shown(token));
            self.ids.push(shown(id));
        }
    }

    /// One of the last few, mostly.
    fn recent(&mut self, of: impl Fn(&History) -> &Vec<String>) -> String {
        let back = 1 + self.random.below(6) as usize;
        let all = of(self);
        all[all.len().saturating_sub(back)].clone()
    }

    fn presence(&mut self, sides: &mut Sides) {
        let channel = self.random.pick(&["room", "hall"]);
        let user = self.random.pick(&["ann", "bob", "c{i}:d"]);
        let connection = format!("c{}", self.random.below(4));
        let entry = Entry {
            channel: channel.as_bytes().to_vec(),
            user: user.as_bytes().to_vec(),
            connection: connection.as_bytes().to_vec(),
        };
        let told = format!("{channel} {user} {connection}");
        let naming = self.naming.clone();
        match self.random.below(14) {
            0..4 => self.join(sides, &told),
            4 => drop(sides.run(&told, entry.call(&naming))),
            5 => {
                let binding = self.random.pick(&["", "b0", "b1"]);
                let left = entry.left(&naming, Cause::Closed, binding.as_bytes());
                self.leave(sides, &told, entry, left);
            }
            6 => {
                let found = sides.run(&connection, hints::of_connection(&naming, connection.as_bytes()));
                for entry in hints::entries_of_connection(connection.as_bytes(), &found).unwrap() {
                    let left = entry.left(&naming, Cause::Client, b"");
                    self.leave(sides, &told, entry, left);
                }
            }
            7 => {
                let binding = self.random.pick(&["", "b0", "b1"]).as_bytes();
                for beats in presence::heartbeats(&naming, &[(&entry, binding)]) {
                    sides.run(&told, beats.call);
                }
            }
            8 => {
                let line = format!("PRESENCE.UPDATE {told} META {}", self.random.below(3));
                let Command::Presence(presence::Command::Update(update)) = parsed(&line) else { panic!() };
                sides.run(&line, update.call(&naming));
            }
            9 => self.sweep(sides),
            10 => {
                sides.run(channel, presence::members(&naming, &entry.channel, self.random.below(2) == 0));
                sides.run(channel, presence::state(&naming, &entry.channel));
            }
            11 => drop(sides.run(&connection, hints::leave_all(&naming, connection.as_bytes()))),
            12 => drop(sides.run(user, hints::channels(&naming, &entry.user))),
            _ => {
                sides.run(channel, presence::count(&naming, &entry.channel));
                let found = sides.run(user, hints::of_user(&naming, &entry.user));
                for channel in hints::channels_of_user(&found).unwrap() {
                    sides.run(user, presence::present(&naming, &channel, &entry.user));
                }
            }
        }
    }

    fn join(&mut self, sides: &mut Sides, told: &str) {
        let minutes = self.minutes();
        let options = self.random.pick(&["", "META 1", "META {\"x\":[]}"]);
        let line = format!("PRESENCE.JOIN {told} TTL {minutes} {options}");
        let Command::Presence(presence::Command::Join(join)) = parsed(line.trim_end()) else { panic!() };
        let binding = self.random.pick(&["", "b0", "b1"]);
        for call in join.hints(&self.naming, TTL_MS_DEFAULT) {
            sides.run(&line, call);
        }
        sides.run(&line, join.call(&self.naming, TTL_MS_DEFAULT, binding.as_bytes()));
    }

    fn leave(&mut self, sides: &mut Sides, told: &str, entry: Entry, call: Call) {
        let left = Left::parse(&sides.run(told, call)).unwrap();
        let user = Hint::User { user: entry.user.clone(), channel: entry.channel.clone() };
        let wrong = [Some(Hint::Connection(entry)), left.last.then_some(user)];
        self.forget(sides, &wrong.into_iter().flatten().collect::<Vec<_>>());
    }

    fn forget(&mut self, sides: &mut Sides, wrong: &[Hint]) {
        for call in Hint::forget(&self.naming, wrong, Duration::ZERO) {
            sides.run("forget", call);
        }
    }

    fn sweep(&mut self, sides: &mut Sides) {
        let found = sides.run("due", sweep::due(&self.naming));
        for due in Due::parse_all(&found).unwrap() {
            let look = |sides: &mut Sides, members: &[presence::Member]| {
                Look::parse(&sides.run("look", due.look(&self.naming, members))).unwrap()
            };
            let mut found = look(sides, &[]);
            while !found.expired.is_empty() {
                let expired = std::mem::take(&mut found.expired);
                found = look(sides, &expired);
                let wrong = found.hints(&due.channel);
                for call in Hint::forget(&self.naming, &wrong, Duration::ZERO) {
                    sides.run("forget", call);
                }
            }
            sides.run("settle", due.settle(&self.naming, found.next_ms));
        }
    }
}

fn parsed(line: &str) -> Command {
    let words: Vec<&[u8]> = line.trim_end().split(' ').map(str::as_bytes).collect();
    state::parse(&words).unwrap_or_else(|fault| panic!("{line}: {fault}"))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[self.below(among.len() as u64) as usize]
    }
}

//! One connection of the swarm: what it asks, what it must get, and how it leaves. Every kind of talk may be left at any
//! moment: before the request is whole, after it, in the middle of a reply, in the middle of a transaction.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::check::{Check, stamped};
use crate::support::encode;
use crate::swarm::{BIG_KEYS, CHANNELS, DATABASES, HASHES, Rng, SHARED_KEYS, Swarm, hash_value};
use crate::wire::{Value, Wire, bulk, status};

/// Why a talk ended before its time.
pub enum End {
    /// The client left on purpose.
    Left,
    /// A reply was wrong, or the connection broke.
    Fault(String),
}

type Talk = Result<(), End>;

pub const ECHO_SCRIPT: &str = "return {KEYS[1], ARGV[1]}";
/// Some milliseconds of Redis's only thread.
const SLOW_SCRIPT: &str = "local n = 0 for i = 1, 100000 do n = n + i end return {KEYS[1], ARGV[1]}";

/// Opens a connection, talks, and leaves in one of many ways.
pub fn one(swarm: &Swarm, rng: &mut Rng) -> Talk {
    let mut session = Session::open(swarm, Rng(rng.below(u64::MAX)))?;
    let kind = rng.below(100);
    match kind {
        0..70 => session.plain(),
        70..80 => session.transaction(),
        80..88 => session.blocking(),
        88..93 => session.subscriber(),
        93..96 => session.tracking(),
        _ => session.big(),
    }
    .map_err(|end| match end {
        End::Fault(what) => End::Fault(format!("kind {kind}, {}: {what}", session.describe())),
        left => left,
    })?;
    session.part()
}

struct Session<'a> {
    swarm: &'a Swarm,
    rng: Rng,
    wire: Wire,
    id: u64,
    db: u8,
    resp3: bool,
    /// The sequence numbers of this session's own keys; 0: not written yet.
    own: [u64; 4],
    counter: i64,
    /// The last message seen of each subscribed channel.
    channels: HashMap<String, Option<u64>>,
    /// The keys that this session has read while tracking; `None`: not tracking.
    tracked: Option<HashSet<String>>,
    bytes: Vec<u8>,
    checks: Vec<Check>,
}

impl<'a> Session<'a> {
    fn open(swarm: &'a Swarm, mut rng: Rng) -> Result<Session<'a>, End> {
        let wire = Wire::connect(swarm.port).map_err(|e| End::Fault(format!("connect: {e}")))?;
        let (id, db, resp3) = (swarm.unique(), rng.below(DATABASES as u64) as u8, rng.one_in(2));
        let mut session = Session {
            swarm,
            rng,
            wire,
            id,
            db,
            resp3,
            own: [0; 4],
            counter: 0,
            channels: HashMap::new(),
            tracked: None,
            bytes: Vec::new(),
            checks: Vec::new(),
        };
        if resp3 {
            session.bytes.extend(encode(&["HELLO", "3"]));
            session.flush()?;
            match session.next_reply()? {
                Value::Map(items) if items.windows(2).any(|pair| pair == [bulk("proto"), Value::Int(3)]) => {}
                other => return Err(End::Fault(format!("HELLO 3 got {other:?}"))),
            }
        }
        if db != 0 {
            session.say(&["SELECT", &db.to_string()], Check::Is(status("OK")));
        }
        Ok(session)
    }

    fn describe(&self) -> String {
        format!("session {}, db {}, RESP{}", self.id, self.db, if self.resp3 { 3 } else { 2 })
    }

    fn say<A: AsRef<[u8]>>(&mut self, args: &[A], check: Check) {
        self.bytes.extend(encode(args));
        self.checks.push(check);
    }

    fn flush(&mut self) -> Talk {
        let bytes = std::mem::take(&mut self.bytes);
        self.wire.send(&bytes).map_err(|e| End::Fault(format!("send: {e}")))
    }

    /// Sends what was said and checks every reply, or leaves on the way.
    fn exchange(&mut self) -> Talk {
        if self.rng.one_in(25) {
            return self.leave();
        }
        self.flush()?;
        for check in std::mem::take(&mut self.checks) {
            let reply = self.next_reply()?;
            if !check.passes(self.db, &reply) {
                return Err(End::Fault(format!("wanted {check:?}, got {reply:?}")));
            }
            self.swarm.replies.fetch_add(check.replies(), Relaxed);
        }
        Ok(())
    }

    /// Cancels: a part of the requests is written, a part of the replies read, the end is a close or a reset.
    fn leave(&mut self) -> Talk {
        let len = match self.rng.below(3) {
            0 => self.bytes.len(),
            _ => self.rng.below(self.bytes.len() as u64 + 1) as usize,
        };
        let _ = self.wire.send(&self.bytes[..len]);
        if self.rng.one_in(2) {
            let bytes = self.rng.below(3000) as usize;
            self.wire.waste(bytes, Duration::from_millis(self.rng.below(10) + 1));
        }
        if self.rng.one_in(2) {
            self.wire.reset_on_drop();
        }
        Err(End::Left)
    }

    fn part(&mut self) -> Talk {
        match self.rng.below(4) {
            0 => {
                self.say(&["QUIT"], Check::Is(status("OK")));
                self.exchange()
            }
            1 => {
                self.wire.reset_on_drop();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The next value that answers a request; messages before it are checked on their own.
    fn next_reply(&mut self) -> Result<Value, End> {
        loop {
            let value = self.wire.read_value().map_err(|e| End::Fault(format!("read: {e}")))?;
            if !self.is_message(&value)? {
                return Ok(value);
            }
            self.swarm.replies.fetch_add(1, Relaxed);
        }
    }

    /// Whether this is a message or an invalidation; one that is not for this session is a fault.
    fn is_message(&mut self, value: &Value) -> Result<bool, End> {
        let items = match value {
            Value::Push(items) => items,
            Value::List(items) if !self.resp3 && !self.channels.is_empty() => items,
            _ => return Ok(false),
        };
        let foreign = || Err(End::Fault(format!("not for this session: {value:?}")));
        match &items[..] {
            [Value::Bulk(kind), Value::Bulk(channel), Value::Bulk(text)] if kind == b"message" => {
                let (channel, text) = (String::from_utf8_lossy(channel), String::from_utf8_lossy(text));
                let seq = text
                    .split_once('|')
                    .filter(|(name, _)| *name == channel)
                    .and_then(|(_, n)| n.parse().ok());
                let (Some(last), Some(seq)) = (self.channels.get_mut(&*channel), seq) else {
                    return foreign();
                };
                if last.replace(seq).is_some_and(|last: u64| last + 1 != seq) {
                    return foreign();
                }
                Ok(true)
            }
            [Value::Bulk(kind), Value::List(keys)] if kind == b"invalidate" => {
                let Some(tracked) = &self.tracked else { return foreign() };
                let read = |key: &Value| matches!(key, Value::Bulk(key) if tracked.contains(&*String::from_utf8_lossy(key)));
                if keys.iter().all(read) { Ok(true) } else { foreign() }
            }
            _ => Ok(false),
        }
    }

    fn nil(&self) -> Value {
        Value::Nil(if self.resp3 { b'_' } else { b'$' })
    }

    fn shared_key(&mut self) -> String {
        // Low numbers are hot.
        let bound = self.rng.below(SHARED_KEYS) + 1;
        let key = format!("k:{}", self.rng.below(bound));
        if let Some(tracked) = &mut self.tracked {
            tracked.insert(key.clone());
        }
        key
    }

    fn say_read(&mut self) {
        let key = self.shared_key();
        self.say(&["GET", &key], Check::Stamped(key.clone()));
    }

    fn say_own_write(&mut self) {
        let slot = self.rng.below(4) as usize;
        let seq = self.swarm.unique();
        self.own[slot] = seq;
        let key = format!("own:{}:{slot}", self.id);
        self.say(&[&b"SET"[..], key.as_bytes(), &stamped(self.db, &key, seq, 10)], Check::Is(status("OK")));
    }

    fn own_read(&mut self) -> (String, Check) {
        let slot = self.rng.below(4) as usize;
        let key = format!("own:{}:{slot}", self.id);
        let wanted = match self.own[slot] {
            0 => self.nil(),
            seq => bulk(stamped(self.db, &key, seq, 10)),
        };
        if let Some(tracked) = &mut self.tracked {
            tracked.insert(key.clone());
        }
        (key, Check::Is(wanted))
    }

    fn say_script(&mut self, script: &str) {
        let (key, token) = (format!("s:{}", self.id), self.swarm.unique().to_string());
        let wanted = Value::List(vec![bulk(&key), bulk(&token)]);
        self.say(&["EVAL", script, "1", &key, &token], Check::Is(wanted));
    }

    fn say_hash(&mut self) {
        let hash = self.rng.below(HASHES);
        let key = format!("h:{hash}");
        let items =
            (0..4).flat_map(|f| [bulk(format!("f{f}")), bulk(hash_value(self.db, hash, f))]).collect();
        let wanted = if self.resp3 { Value::Map(items) } else { Value::List(items) };
        self.say(&["HGETALL", &key], Check::Is(wanted));
    }

    /// One request of any kind that a shared link may carry.
    fn say_any(&mut self) {
        match self.rng.below(1000) {
            0..330 => self.say_read(),
            330..400 => {
                let key = format!("none:{}", self.rng.below(100));
                let nil = self.nil();
                self.say(&["GET", &key], Check::Is(nil));
            }
            400..450 => self.say_own_write(),
            450..560 => {
                let (key, check) = self.own_read();
                self.say(&["GET", &key], check);
            }
            560..640 => {
                let token = format!("echo:{}", self.swarm.unique());
                self.say(&["ECHO", &token], Check::Is(bulk(&token)));
            }
            640..720 => {
                let keys = [self.shared_key(), self.shared_key(), self.shared_key()];
                let checks = keys.iter().cloned().map(Check::Stamped).collect();
                self.say(&["MGET", &keys[0], &keys[1], &keys[2]], Check::Each(checks));
            }
            720..800 => self.say_hash(),
            800..880 => {
                self.counter += 1;
                self.say(&["INCR", &format!("n:{}", self.id)], Check::Is(Value::Int(self.counter)));
            }
            880..930 => {
                let key = self.shared_key();
                let value = stamped(self.db, &key, self.swarm.unique(), 20);
                self.say(&[&b"SET"[..], key.as_bytes(), &value], Check::Is(status("OK")));
            }
            930..970 => {
                let (hash, field) = (self.rng.below(HASHES), self.rng.below(4));
                let wanted = Check::Is(bulk(hash_value(self.db, hash, field)));
                self.say(&["HGET", &format!("h:{hash}"), &format!("f{field}")], wanted);
            }
            970..998 => self.say_script(ECHO_SCRIPT),
            998 => self.say_script(SLOW_SCRIPT),
            _ => {
                let token = self.swarm.unique();
                let text = format!("ERR unknown command 'NOSUCH', with args beginning with: '{token}' ");
                self.say(&["NOSUCH", &token.to_string()], Check::Is(Value::Error(text.into_bytes())));
            }
        }
    }

    fn plain(&mut self) -> Talk {
        for _ in 0..self.rng.below(10) + 1 {
            for _ in 0..self.rng.below(64) + 1 {
                self.say_any();
            }
            self.exchange()?;
        }
        Ok(())
    }

    fn big(&mut self) -> Talk {
        for _ in 0..self.rng.below(5) + 1 {
            let key = format!("big:{}", self.rng.below(BIG_KEYS));
            self.say(&["GET", &key], Check::Stamped(key.clone()));
            self.say_read();
        }
        self.exchange()
    }

    /// Pinned by WATCH and MULTI, sometimes in one write and sometimes in several.
    fn transaction(&mut self) -> Talk {
        for _ in 0..self.rng.below(4) + 1 {
            let in_pieces = self.rng.one_in(2);
            if self.rng.one_in(2) {
                self.say(&["WATCH", &format!("own:{}:0", self.id)], Check::Is(status("OK")));
                self.say_read();
            }
            self.say(&["MULTI"], Check::Is(status("OK")));
            if in_pieces {
                self.exchange()?;
            }
            let mut results = Vec::new();
            for _ in 0..self.rng.below(5) + 1 {
                self.say_any();
                let result = self.checks.pop().expect("just said");
                // A command that is refused when it is queued would abort the rest.
                if matches!(&result, Check::Is(Value::Error(_))) {
                    self.bytes.truncate(self.bytes.len() - unknown_len(&self.bytes));
                    continue;
                }
                self.checks.push(Check::Is(status("QUEUED")));
                results.push(result);
            }
            if in_pieces {
                self.exchange()?;
            }
            self.say(&["EXEC"], Check::Each(results));
            self.exchange()?;
            self.say_any();
        }
        self.exchange()
    }

    fn blocking(&mut self) -> Talk {
        let queue = format!("q:{}", self.id);
        for _ in 0..self.rng.below(3) + 1 {
            let token = self.swarm.unique().to_string();
            let popped = Check::Is(Value::List(vec![bulk(&queue), bulk(&token)]));
            match self.rng.below(4) {
                0 => {
                    self.say(&["RPUSH", &queue, &token], Check::Is(Value::Int(1)));
                    self.say(&["BLPOP", &queue, "5"], popped);
                }
                1 => {
                    let nil = Value::Nil(if self.resp3 { b'_' } else { b'*' });
                    self.say(&["BLPOP", &queue, "0.01"], Check::Is(nil));
                }
                2 => {
                    self.say(&["BLPOP", &queue, "20"], popped);
                    self.push_from_elsewhere(&queue, &token)?;
                }
                _ if self.rng.one_in(4) => {
                    self.say(&["BLPOP", "q:never", "0"], Check::Is(Value::Int(0)));
                    return self.leave();
                }
                _ => {}
            }
            self.say_any();
            self.exchange()?;
        }
        Ok(())
    }

    /// Sends the blocking pop that was said, then pushes its element over another connection.
    fn push_from_elsewhere(&mut self, queue: &str, token: &str) -> Talk {
        self.flush()?;
        let mut other = Session::open(self.swarm, Rng(self.rng.below(u64::MAX)))?;
        other.say(&["SELECT", &self.db.to_string()], Check::Is(status("OK")));
        other.db = self.db;
        let pushed = encode(&["RPUSH", queue, token]);
        other.bytes.extend(pushed);
        other.flush()?;
        // How many elements wait is not sure: the pop may be quicker than the push's reply.
        for _ in 0..other.checks.len() + 1 {
            other.next_reply()?;
        }
        Ok(())
    }

    fn say_subscription(&mut self, verb: &str, channels: &[String; 2], counts: [i64; 2]) {
        let confirm = |channel: &String, count| {
            let items = vec![bulk(verb), bulk(channel), Value::Int(count)];
            Check::Is(if self.resp3 { Value::Push(items) } else { Value::List(items) })
        };
        let checks = [confirm(&channels[0], counts[0]), confirm(&channels[1], counts[1])];
        self.bytes.extend(encode(&[verb.to_uppercase().as_str(), &channels[0], &channels[1]]));
        self.checks.extend(checks);
    }

    fn subscriber(&mut self) -> Talk {
        let first = self.rng.below(CHANNELS);
        let channels = [format!("ch:{first}"), format!("ch:{}", (first + 1) % CHANNELS)];
        for _ in 0..self.rng.below(3) + 1 {
            self.channels = channels.iter().map(|channel| (channel.clone(), None)).collect();
            self.say_subscription("subscribe", &channels, [1, 2]);
            self.exchange()?;
            for _ in 0..self.rng.below(6) {
                let value = self.wire.read_value().map_err(|e| End::Fault(format!("read a message: {e}")))?;
                if !self.is_message(&value)? {
                    return Err(End::Fault(format!("wanted a message, got {value:?}")));
                }
                self.swarm.replies.fetch_add(1, Relaxed);
            }
            if self.resp3 {
                self.say_any();
                self.say_read();
            } else {
                self.say(&["PING"], Check::Is(Value::List(vec![bulk("pong"), bulk("")])));
            }
            self.exchange()?;
            self.say_subscription("unsubscribe", &channels, [1, 0]);
            self.exchange()?;
            self.channels.clear();
            self.say_any();
            self.exchange()?;
        }
        Ok(())
    }

    /// CLIENT TRACKING of the client's own: invalidations must be of keys that it read.
    fn tracking(&mut self) -> Talk {
        if !self.resp3 {
            return self.plain();
        }
        self.say(&["CLIENT", "TRACKING", "ON"], Check::Is(status("OK")));
        self.tracked = Some(HashSet::new());
        for _ in 0..self.rng.below(8) + 1 {
            for _ in 0..self.rng.below(10) + 1 {
                match self.rng.one_in(4) {
                    true => self.say_own_write(),
                    false => self.say_read(),
                }
                let (key, check) = self.own_read();
                self.say(&["GET", &key], check);
            }
            self.exchange()?;
        }
        self.say(&["CLIENT", "TRACKING", "OFF"], Check::Is(status("OK")));
        self.say_any();
        self.exchange()
    }
}

/// The length of the last request, which is the unknown command `say_any` may end with.
fn unknown_len(bytes: &[u8]) -> usize {
    let start = bytes.windows(4).rposition(|four| four == b"*2\r\n").expect("NOSUCH has one argument");
    bytes.len() - start
}

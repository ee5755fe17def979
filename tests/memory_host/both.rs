//! A redis-server and an engine that are told the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use madcache::memory::{Caller, Delivery, Engine, Executed, Settings};

use crate::support::{Client, Redis, eventually, frame_len};

/// Both sides; connections are called by names.
pub struct Both {
    redis: Redis,
    pub engine: Engine,
    delivered: Arc<Mutex<Vec<Delivery>>>,
    clients: HashMap<&'static str, (Client, Caller)>,
    resp3: bool,
    next_id: u64,
    differences: Vec<String>,
}

impl Both {
    pub fn start(resp3: bool) -> Both {
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&delivered);
        let deliver = move |delivery| sink.lock().unwrap().push(delivery);
        Both {
            redis: Redis::start(),
            engine: Engine::new(Settings::default(), Box::new(deliver)),
            delivered,
            clients: HashMap::new(),
            resp3,
            next_id: 1,
            differences: Vec::new(),
        }
    }

    fn client(&mut self, name: &'static str) -> &mut (Client, Caller) {
        if !self.clients.contains_key(name) {
            let mut client = self.redis.client();
            let mut caller = self.engine.connect(self.next_id);
            self.next_id += 1;
            if self.resp3 {
                client.call(&["HELLO", "3"]);
                self.engine.speak(&mut caller, true);
            }
            self.clients.insert(name, (client, caller));
        }
        self.clients.get_mut(name).unwrap()
    }

    /// The same request to both; their replies are compared later, in `finish`.
    pub fn tell(&mut self, name: &'static str, request: &[&[u8]]) {
        self.client(name);
        let (client, caller) = self.clients.get_mut(name).unwrap();
        let mut ours = Vec::new();
        assert_eq!(self.engine.execute(caller, request, &mut ours), Executed::Replied, "{}", shown(request));
        client.send(request);
        // As many frames as ours has; at least one.
        let mut frames = 0;
        let mut at = 0;
        while at < ours.len() {
            at += frame_len(&ours[at..]).expect("whole frames");
            frames += 1;
        }
        let mut theirs = Vec::new();
        for _ in 0..frames.max(1) {
            theirs.extend(client.read_frame());
        }
        if ours != theirs {
            let (ours, theirs) = (printable(&ours), printable(&theirs));
            self.differences.push(format!("{}\n  redis:  {theirs}\n  engine: {ours}", shown(request)));
        }
    }

    pub fn say(&mut self, request: &str) {
        self.say_as("a", request);
    }

    /// Words are parted by blanks.
    pub fn say_as(&mut self, name: &'static str, request: &str) {
        let words: Vec<&[u8]> = request.split_whitespace().map(str::as_bytes).collect();
        self.tell(name, &words);
    }

    /// The script with one key and two arguments.
    pub fn eval(&mut self, script: &str) {
        self.tell("a", &[b"EVAL", script.as_bytes(), b"1", b"key", b"one", b"2"]);
    }

    /// A request that waits on both sides.
    pub fn block(&mut self, name: &'static str, request: &str) {
        let words: Vec<&[u8]> = request.split_whitespace().map(str::as_bytes).collect();
        let before = self.blocked_at_redis();
        self.client(name);
        let (client, caller) = self.clients.get_mut(name).unwrap();
        client.send(&words);
        let mut ours = Vec::new();
        assert_eq!(self.engine.execute(caller, &words, &mut ours), Executed::Blocked, "{request}");
        assert!(ours.is_empty());
        eventually("it waits at Redis too", || self.blocked_at_redis() == before + 1);
    }

    fn blocked_at_redis(&self) -> usize {
        let info = String::from_utf8(self.redis.client().call(&["INFO", "clients"])).unwrap();
        let line = info.lines().find(|line| line.starts_with("blocked_clients:")).unwrap();
        line["blocked_clients:".len()..].parse().unwrap()
    }

    /// Compares what was delivered to a connection without its asking with what Redis sent it.
    pub fn receive(&mut self, name: &'static str) {
        self.client(name);
        let (client, caller) = self.clients.get_mut(name).unwrap();
        let mut delivered = self.delivered.lock().unwrap();
        let at = delivered.iter().position(|delivery| recipient(delivery) == caller.id);
        let ours = at.map(|at| match delivered.remove(at) {
            Delivery::Push { frame, .. } => frame,
            Delivery::Unblocked { reply, .. } => reply,
        });
        let ours = ours.unwrap_or_default();
        let theirs = client.read_frame();
        if *ours != *theirs {
            let (ours, theirs) = (printable(&ours), printable(&theirs));
            self.differences.push(format!("to {name}\n  redis:  {theirs}\n  engine: {ours}"));
        }
    }

    /// The same for all that was delivered to connections that are still there.
    pub fn receive_all(&mut self) {
        loop {
            let next = self.delivered.lock().unwrap().first().map(recipient);
            let Some(id) = next else { return };
            let named = self.clients.iter().find(|(_, (_, caller))| caller.id == id);
            let name = *named.expect("a connection that is there").0;
            self.receive(name);
        }
    }

    /// Fails at the first difference, with the seed that shows it.
    pub fn check(&self, seed: u64) {
        assert!(self.differences.is_empty(), "seed {seed}, RESP3 {}: {}", self.resp3, self.differences[0]);
    }

    /// Nothing was delivered that nobody received, and all replies were the same.
    pub fn finish(self) {
        let left = self.delivered.lock().unwrap().clone();
        assert!(left.is_empty(), "{left:?}");
        assert!(
            self.differences.is_empty(),
            "RESP{}:\n{}",
            if self.resp3 { 3 } else { 2 },
            self.differences.join("\n")
        );
    }

    pub fn disconnect(&mut self, name: &'static str) {
        if let Some((_, mut caller)) = self.clients.remove(name) {
            self.engine.disconnect(&mut caller);
        }
    }

    /// CLIENT UNBLOCK, by somebody else, on both sides.
    pub fn unblock(&mut self, redis_id: u64, name: &'static str, with_error: bool) {
        let how = if with_error { "ERROR" } else { "TIMEOUT" };
        let reply = self.redis.client().call(&["CLIENT", "UNBLOCK", &redis_id.to_string(), how]);
        let id = self.id_of(name);
        assert_eq!((&*reply, self.engine.unblock(id, with_error)), (b":1\r\n".as_slice(), true));
    }

    /// How Redis calls a connection that does not wait.
    pub fn redis_id(&mut self, name: &'static str) -> u64 {
        let reply = self.client(name).0.call(&["CLIENT", "ID"]);
        String::from_utf8(reply).unwrap()[1..].trim_end().parse().unwrap()
    }

    pub fn id_of(&mut self, name: &'static str) -> u64 {
        self.client(name).1.id
    }
}

/// The same in both protocols.
pub fn in_both_protocols(test: impl Fn(&mut Both)) {
    for resp3 in [false, true] {
        let mut both = Both::start(resp3);
        test(&mut both);
        both.finish();
    }
}

fn recipient(delivery: &Delivery) -> u64 {
    match delivery {
        Delivery::Push { caller, .. } | Delivery::Unblocked { caller, .. } => *caller,
    }
}

fn shown(request: &[&[u8]]) -> String {
    request.iter().map(|word| printable(word)).collect::<Vec<_>>().join(" ")
}

fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

//! A Redis and an engine that run the same scripts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madcache::memory::{Caller, Delivery, Engine, Executed, Settings};
use madcache::resp::{Value, parse};
use madcache::state::{self, Call, Known};

use crate::support::scripts::{START_US, shown};
use crate::support::{Client, Redis};

/// What the two real clocks may have come apart by, in milliseconds.
const TTL_TOLERANCE_MS: i64 = 10_000;
const LISTENER: u64 = 7;

pub struct Sides {
    client: Client,
    listener: Client,
    engine: Engine,
    caller: Caller,
    delivered: Arc<Mutex<Vec<Delivery>>>,
    pub now_us: u64,
    /// By their names, once they answered something else than an error.
    run: BTreeSet<&'static str>,
    /// For messages: how to repeat the history, and what was asked lately.
    title: String,
    trail: Vec<String>,
    _redis: Redis,
}

impl Sides {
    pub fn start() -> Sides {
        let redis = Redis::start();
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&delivered);
        let deliver = move |delivery| sink.lock().unwrap().push(delivery);
        let engine = Engine::new(Settings::default(), Box::new(deliver));
        let mut listener = redis.client();
        listener.call(&["PSUBSCRIBE", "*"]);
        let mut ours = engine.connect(LISTENER);
        engine.execute(&mut ours, &[b"PSUBSCRIBE", b"*"], &mut Vec::new());
        let caller = engine.connect(1);
        Sides {
            client: redis.client(),
            listener,
            engine,
            caller,
            delivered,
            now_us: START_US,
            run: BTreeSet::new(),
            title: String::new(),
            trail: Vec::new(),
            _redis: redis,
        }
    }

    /// Empties both.
    pub fn begin(&mut self, title: String) {
        self.title = title;
        self.trail.clear();
        self.now_us = START_US;
        self.plain(&["FLUSHALL"]);
    }

    /// Runs a script in both at the present time; what both answer.
    pub fn run(&mut self, told: &str, call: Call) -> Vec<u8> {
        let call = call.at(self.now_us);
        self.trail.push(format!("{} at {}: {told}", call.script.name, self.now_us as i64 - START_US as i64));
        self.client.send_raw(&call.evalsha()).unwrap();
        let mut theirs = self.client.read_frame();
        if theirs.starts_with(b"-NOSCRIPT") {
            self.client.send_raw(&call.eval()).unwrap();
            theirs = self.client.read_frame();
        }
        let ours = call.with_argv(Known::No, |argv| {
            let mut out = Vec::new();
            assert_eq!(self.engine.execute(&mut self.caller, argv, &mut out), Executed::Replied);
            out
        });
        self.check(&theirs, &ours);
        if theirs[0] != b'-' {
            self.run.insert(call.script.name);
        }
        theirs
    }

    /// A plain command on both.
    pub fn plain(&mut self, words: &[&str]) {
        self.trail.push(words.join(" "));
        let theirs = self.client.call(words);
        let ours = self.ours(words);
        self.check(&theirs, &ours);
    }

    fn ours(&mut self, words: &[&str]) -> Vec<u8> {
        let argv: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut out = Vec::new();
        assert_eq!(self.engine.execute(&mut self.caller, &argv, &mut out), Executed::Replied);
        out
    }

    /// Sets and hashes are shown in any order.
    fn check(&self, theirs: &[u8], ours: &[u8]) {
        let same = theirs == ours || unordered(theirs) == unordered(ours);
        let text = |frame: &[u8]| frame.escape_ascii().to_string();
        assert!(same, "{}\nRedis  {}\nengine {}", self.told(), text(theirs), text(ours));
    }

    fn told(&self) -> String {
        let from = self.trail.len().saturating_sub(30);
        format!("{}\n{}", self.title, self.trail[from..].join("\n"))
    }

    /// Both have the same keys, which hold the same and live about as long, and announced the same.
    pub fn compare_keys_and_events(&mut self) {
        self.plain(&["PUBLISH", "end", "end"]);
        let mut theirs = Vec::new();
        while theirs.last().is_none_or(|last: &Vec<u8>| !last.ends_with(b"$3\r\nend\r\n$3\r\nend\r\n")) {
            theirs.push(self.listener.read_frame());
        }
        let ours: Vec<Vec<u8>> = std::mem::take(&mut *self.delivered.lock().unwrap())
            .into_iter()
            .map(|delivery| match delivery {
                Delivery::Push { caller: LISTENER, frame } => frame.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        let text = |frames: &[Vec<u8>]| -> Vec<String> {
            frames.iter().map(|frame| shown(&parse(frame).unwrap())).collect()
        };
        assert_eq!(text(&theirs), text(&ours), "{}", self.told());

        // Where only entries are left that nobody has swept yet, their keys are given a millisecond: it passes here.
        std::thread::sleep(Duration::from_millis(5));
        self.plain(&["KEYS", "*"]);
        let Some(Value::Array(keys)) = parse(&self.client.call(&["KEYS", "*"])) else { panic!("KEYS") };
        for key in keys.iter().map(shown) {
            self.plain(&["TYPE", &key]);
            let kind = self.client.text(&["TYPE", &key]);
            match kind.trim_start_matches('+') {
                "string" => self.plain(&["GET", &key]),
                "hash" => self.plain(&["HGETALL", &key]),
                "set" => self.plain(&["SMEMBERS", &key]),
                "zset" => self.plain(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]),
                other => panic!("{key} is a {other}"),
            }
            let number = |frame: Vec<u8>| parse(&frame).and_then(|value| value.int()).expect("a number");
            let theirs = number(self.client.call(&["PTTL", &key]));
            let ours = number(self.ours(&["PTTL", &key]));
            let near = theirs > 0 && ours > 0 && (theirs - ours).abs() < TTL_TOLERANCE_MS;
            assert!(near || theirs == ours, "{}: {key} lives {theirs} ms and {ours} ms", self.title);
        }
    }

    /// Every script must have been met.
    pub fn scripts_not_run(&self) -> Vec<&'static str> {
        state::scripts().map(|script| script.name).filter(|name| !self.run.contains(name)).collect()
    }
}

/// All that stands in a reply, in order of its text.
fn unordered(frame: &[u8]) -> Vec<String> {
    fn gather(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Array(elements) => {
                into.push(format!("array of {}", elements.len()));
                elements.iter().for_each(|element| gather(element, into));
            }
            other => into.push(format!("{other:?}")),
        }
    }
    let mut all = Vec::new();
    gather(&parse(frame).expect("a sound reply"), &mut all);
    all.sort();
    all
}

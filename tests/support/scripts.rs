//! Runs the shared-state scripts against a real Redis at injected times, and shows replies as short text.
use super::{Client, Redis};
use madcache::resp::{Value, parse};
use madcache::state::Call;

/// A Redis of its own, a connection to it, and the time that scripts see.
pub struct Store {
    pub redis: Redis,
    pub client: Client,
    pub now_us: u64,
}

/// An hour of 2026, at the start of an hour, in microseconds.
pub const START_US: u64 = 1_780_000_000_000_000 / 3_600_000_000 * 3_600_000_000;

impl Store {
    pub fn start() -> Store {
        Store::start_with(&[])
    }

    pub fn start_with(args: &[&str]) -> Store {
        let redis = Redis::start_with(args);
        let client = redis.client();
        Store { redis, client, now_us: START_US }
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now_us += ms * 1000;
    }

    /// The frame that the script answers at `now_us`.
    pub fn frame(&mut self, call: Call) -> Vec<u8> {
        let call = call.at(self.now_us);
        self.client.send_raw(&call.evalsha()).unwrap();
        let frame = self.client.read_frame();
        if !frame.starts_with(b"-NOSCRIPT") {
            return frame;
        }
        self.client.text(&["SCRIPT", "LOAD", call.script.text]);
        self.client.send_raw(&call.evalsha()).unwrap();
        self.client.read_frame()
    }

    pub fn value(&mut self, call: Call) -> Value {
        parse(&self.frame(call)).expect("a sound reply")
    }

    /// The reply as text: `[1 t ~ 30]`, where `~` is a null; the line of an error.
    pub fn run(&mut self, call: Call) -> String {
        shown(&self.value(call))
    }

    /// All keys with their values as DUMP shows them, sorted: for "nothing changed".
    pub fn contents(&mut self) -> Vec<(String, Vec<u8>)> {
        let Some(Value::Array(keys)) = parse(&self.client.call(&["KEYS", "*"])) else { panic!("KEYS") };
        let mut keys: Vec<String> = keys.iter().map(shown).collect();
        keys.sort();
        keys.into_iter().map(|key| (key.clone(), self.client.call(&["DUMP", &key]))).collect()
    }

    /// Milliseconds that the key lives still, as Redis counts them.
    pub fn pttl(&mut self, key: &str) -> i64 {
        parse(&self.client.call(&["PTTL", key])).and_then(|value| value.int()).expect("a number")
    }
}

/// A value as short text.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "~".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Value::Error(text) | Value::Bulk(text) | Value::Simple(text) => {
            String::from_utf8_lossy(text).into_owned()
        }
        other => format!("{other:?}"),
    }
}

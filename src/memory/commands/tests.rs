//! A keyspace to try handlers on, without an engine: `Probe::new().run("SET k v")`.
use super::{Caller, Keyspace, call};
use crate::memory::keyspace::Settings;

/// One connection and a clock that stands still until it is set.
pub(crate) struct Probe {
    pub(crate) keyspace: Keyspace,
    pub(crate) caller: Caller,
    pub(crate) now_ms: u64,
}

impl Probe {
    pub(crate) fn new() -> Probe {
        Probe::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Probe {
        Probe { keyspace: Keyspace::new(settings), caller: Caller::default(), now_ms: 1_700_000_000_000 }
    }

    /// Words are separated by blanks. The reply as it stands on the wire, with "\r\n" as " ".
    pub(crate) fn run(&mut self, request: &str) -> String {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        call(&mut self.keyspace, &mut self.caller, self.now_ms, &words, &mut out);
        String::from_utf8_lossy(&out).trim_end().replace("\r\n", " ")
    }
}

#[test]
fn what_was_set_is_got_until_it_is_deleted_or_expires() {
    let mut probe = Probe::new();
    assert_eq!(probe.run("SET k v PX 100"), "+OK");
    assert_eq!(probe.run("GET k"), "$1 v");
    probe.now_ms += 101;
    assert_eq!(probe.run("GET k"), "$-1");
    assert_eq!(probe.run("SET k 12"), "+OK");
    assert_eq!(probe.run("GET k"), "$2 12");
    assert_eq!(probe.run("DEL k nothing"), ":1");
    assert_eq!(probe.run("GET k"), "$-1");
    assert_eq!(probe.keyspace.bytes(), 0);
    assert_eq!(probe.run("GET"), "-ERR wrong number of arguments for 'get' command");
}

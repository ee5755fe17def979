//! HyperLogLogs that APPEND made longer: what follows the runs is left there, and only counting minds it.

use super::both::Both;

#[test]
fn a_hyperloglog_with_bytes_behind_its_runs_takes_elements_as_in_redis() {
    let mut both = Both::start(false);
    for tail in [&b"v"[..], b"7", b"-3", b"w\xFF", b"\xFF\xFF", b"\x80v", b"99999999999999999999"] {
        both.say("DEL k");
        both.say("PFADD k a b");
        both.tell("a", &[b"APPEND", b"k", tail]);
        for element in 0..300 {
            both.say(&format!("PFADD k {element}"));
            both.say("GET k");
        }
        for request in
            ["PFADD k a", "PFCOUNT k", "PFMERGE k other", "PFMERGE other k", "GET k", "PFDEBUG DECODE k"]
        {
            both.say(request);
        }
    }
    both.finish();
}

//! Kinds of shared state that live elsewhere than L2: in this process, in a Redis of their own, nowhere.

use crate::support::Daemon;
use crate::{fields, shown};

#[test]
fn without_a_redis_every_command_runs_in_the_selected_database() {
    let daemon = Daemon::start_with("", &[]);
    let (mut here, mut there) = (daemon.client(), daemon.client());
    assert_eq!(shown(&mut here, "SELECT 3"), "+OK");
    assert_eq!(fields(&mut here, "LOCK.ACQUIRE a 30000 TOKEN t WAIT 100")[0], "1");
    assert_eq!(shown(&mut here, "GET lock:a"), "'t'");
    assert_eq!(shown(&mut there, "GET lock:a"), "nil");
    assert_eq!(fields(&mut here, "PRESENCE.JOIN room ann c1")[0], "1");
    assert_eq!(shown(&mut here, "PRESENCE.CHANNELS ann"), "['room']");
    assert_eq!(shown(&mut there, "PRESENCE.CHANNELS ann"), "[]");
    assert_eq!(shown(&mut here, "LOCK.RELEASE a t"), "0");
}

//! Locks over several independent masters (Redlock): which scripts run there, and which masters count. What their answers
//! mean together is in `votes`.
//!
//! What is left to the caller:
//!
//! - Before anything, and each half a second: `standing` of every master, then `admit` for those that do not count yet, with
//!   `floor`. A master is asked for its vote with the run id that it had then (`counted`).
//! - ACQUIRE: `acquire` at all masters at once. Where enough grant it: `agree` at those that did, with the largest fence, and
//!   the lock is held once enough have said 1. The others, and all where it failed: `yields`.
//! - RELEASE, FORCE and `cancel` at all masters, as on one. EXTEND, CHECK and INFO are `counted`.
use super::super::script::{Script, digits};
use super::super::{Call, Naming, Reply};
use super::votes::Quorum;
use super::{Acquire, Keys, Nonce, Waits, hexadecimal, wake_channel};

/// A script that only a master that counts executes.
macro_rules! counted {
    ($name:literal, $flags:literal, $file:literal) => {
        Script::new(
            $name,
            concat!(
                "#!lua flags=",
                $flags,
                "\n",
                include_str!("../../../lua/lock_shared.lua"),
                include_str!("../../../lua/lock_member.lua"),
                include_str!(concat!("../../../lua/", $file, ".lua")),
            ),
        )
    };
}

/// A script that any master executes.
macro_rules! uncounted {
    ($name:literal, $flags:literal) => {
        Script::new(
            $name,
            concat!(
                "#!lua flags=",
                $flags,
                "\n",
                include_str!("../../../lua/lock_shared.lua"),
                include_str!(concat!("../../../lua/", $name, ".lua")),
            ),
        )
    };
}

static ACQUIRE: Script = counted!("lock_acquire_counted", "", "lock_acquire");
static AGREE: Script = counted!("lock_agree_counted", "allow-oom", "lock_agree");
static EXTEND: Script = counted!("lock_extend_counted", "allow-oom", "lock_extend");
static CHECK: Script = counted!("lock_check_counted", "no-writes", "lock_check");
static INFO: Script = counted!("lock_info_counted", "no-writes", "lock_info");
static YIELD: Script = uncounted!("lock_yield", "allow-oom");
static STANDING: Script = uncounted!("lock_standing", "no-writes");
static ADMIT: Script = uncounted!("lock_admit", "allow-oom");

/// Apart from `state::scripts`: they run on masters alone, never in the embedded engine.
pub static SCRIPTS: &[&Script] = &[&ACQUIRE, &AGREE, &EXTEND, &CHECK, &INFO, &YIELD, &STANDING, &ADMIT];

/// What a master knows of its membership.
fn member_key(naming: &Naming) -> Vec<u8> {
    naming.key([b"x:lock:member"])
}

/// The same run on a master that must be the process with this run id, and must count. Only the scripts of ACQUIRE, EXTEND,
/// CHECK, INFO and `agree` are votes; any other call stays as it is.
pub fn counted(call: Call, naming: &Naming, run_id: &[u8]) -> Call {
    let script = match call.script.name {
        "lock_acquire" => &ACQUIRE,
        "lock_extend" => &EXTEND,
        "lock_check" => &CHECK,
        "lock_info" => &INFO,
        name if name == AGREE.name => &AGREE,
        _ => return call,
    };
    call.with_one_more(script, &member_key(naming), run_id)
}

/// One attempt. Masters publish nothing of it: it is an event once they have agreed.
pub fn acquire(acquire: &Acquire, naming: &Naming, token: &[u8], nonce: &Nonce, waits: Waits) -> Call {
    let call = acquire.call(naming, token, nonce, waits);
    let channel = call.args()[EVENTS_OF_ACQUIRE];
    debug_assert!(channel.starts_with(&naming.prefix) && channel.ends_with(&acquire.name), "the channel");
    call.with_arg(EVENTS_OF_ACQUIRE, b"")
}

const EVENTS_OF_ACQUIRE: usize = 5;

/// Writes the fence that was agreed on back to a master that granted the lock.
pub fn agree(acquire: &Acquire, naming: &Naming, token: &[u8], nonce: &Nonce, fence: u64) -> Call {
    let keys = Keys::new(naming, &acquire.name);
    let args = vec![
        token.to_vec(),
        hexadecimal(nonce),
        digits(fence).to_vec(),
        naming.events("lock", &acquire.name),
        acquire.owner.clone().unwrap_or_default(),
    ];
    Call::new(&AGREE, vec![keys.lock, keys.grant], args, Reply::AsIs)
}

/// Whether an ACQUIRE goes on after it gave back what single masters granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    /// It stays in line, and tries again.
    On,
    Away,
}

/// Gives back what a master granted of an ACQUIRE that failed, or that has enough without it.
pub fn yields(acquire: &Acquire, naming: &Naming, nonce: &Nonce, goes: Goes) -> Call {
    let mut letters = Vec::new();
    letters.extend((goes == Goes::Away).then_some(b'x'));
    letters.extend(acquire.reentrant.then_some(b'r'));
    let args = vec![hexadecimal(nonce), letters, wake_channel(naming), acquire.name.clone()];
    Call::new(&YIELD, Keys::new(naming, &acquire.name).all(), args, Reply::AsIs)
}

/// Asks a master what it is.
pub fn standing(naming: &Naming) -> Call {
    Call::new(&STANDING, vec![member_key(naming)], Vec::new(), Reply::AsIs)
}

/// What the script of `standing` answers, element by element.
pub type Told = (Vec<u8>, Vec<u8>, Vec<u8>, i64, i64, i64, i64);

/// What a master says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub run_id: Vec<u8>,
    /// What makes it useless as one of several independent masters.
    pub unfit: Option<&'static str>,
    /// It counts.
    pub is_ready: bool,
    /// None: its probation has not begun.
    pub probation_left_ms: Option<u64>,
    /// The largest fence that it knows of.
    pub floor: u64,
    /// The longest ttl that any daemon has announced to it.
    pub window_ms: u64,
}

impl Standing {
    pub fn of((run_id, role, mode, ready, left, floor, window): Told) -> Standing {
        Standing {
            run_id,
            unfit: match (role.as_slice(), mode.as_slice()) {
                (b"master", b"cluster") => Some("it is in cluster mode"),
                (b"master", _) => None,
                _ => Some("it is a replica"),
            },
            is_ready: ready == 1,
            probation_left_ms: u64::try_from(left).ok(),
            floor: u64::try_from(floor).unwrap_or_default(),
            window_ms: u64::try_from(window).unwrap_or_default(),
        }
    }

    pub fn is_over_probation(&self) -> bool {
        self.probation_left_ms == Some(0)
    }
}

/// Makes a master count: begins its probation, and ends it where its time is over and `floor` is known.
pub fn admit(naming: &Naming, window_ms: u64, floor: Option<u64>) -> Call {
    let floor = floor.map_or_else(Vec::new, |floor| digits(floor).to_vec());
    Call::new(&ADMIT, vec![member_key(naming)], vec![digits(window_ms).to_vec(), floor], Reply::AsIs)
}

/// The fence above which a master that may have lost what it knew gives its own, by what all masters say (None: no
/// answer). They must be asked after that master's probation: by then nobody agrees on a fence any more that was begun
/// before.
///
/// A fence that was agreed on is known to a majority. Of a majority of masters that count, one at least is among those, and
/// it has not lost it, or has learned it since in this way. Where a majority does not count, everything was lost at once, or
/// is new: then there is nothing better than the largest that anybody knows, and the clocks.
pub fn floor(quorum: Quorum, standings: &[Option<Standing>]) -> Option<u64> {
    let answers = || standings.iter().flatten().filter(|standing| standing.unfit.is_none());
    let ready = answers().filter(|standing| standing.is_ready).count();
    let new = answers().count() - ready;
    let is_known = ready >= quorum.needed() || new >= quorum.needed();
    is_known.then(|| answers().map(|standing| standing.floor).max()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMING: Naming = Naming { prefix: Vec::new(), tagged: false };

    fn standing(is_ready: bool, floor: u64) -> Option<Standing> {
        Some(Standing {
            run_id: b"r".to_vec(),
            unfit: None,
            is_ready,
            probation_left_ms: Some(0),
            floor,
            window_ms: 0,
        })
    }

    #[test]
    fn a_vote_names_the_process_that_is_meant_before_the_time() {
        let super::super::super::Command::Lock(super::super::Command::Acquire(wanted)) =
            super::super::super::parse(&[b"LOCK.ACQUIRE", b"a", b"1000"]).expect("a sound request")
        else {
            panic!("an ACQUIRE")
        };
        let call = counted(acquire(&wanted, &NAMING, b"t", &[0; 16], Waits::No), &NAMING, b"abc");
        assert_eq!(call.script.name, "lock_acquire_counted");
        assert_eq!(call.keys().last(), Some(&b"x:lock:member"[..]));
        assert_eq!(call.args()[5..], [&b""[..], b"abc"]);
        let release = super::super::cancel(&NAMING, b"a", &[0; 16]);
        assert_eq!(counted(release, &NAMING, b"abc").script.name, "lock_cancel");
    }

    #[test]
    fn a_floor_is_known_by_a_majority_that_counts_or_where_a_majority_is_new() {
        let five = Quorum::of(5);
        let (old, new, away) = (standing(true, 7), standing(false, 9), None);
        let cases: [(Vec<&Option<Standing>>, Option<u64>); 5] = [
            (vec![&old, &old, &old, &new, &new], Some(9)),
            (vec![&old, &old, &old, &new, &away], Some(9)),
            (vec![&old, &old, &new, &new, &away], None),
            (vec![&old, &new, &new, &new, &away], Some(9)),
            (vec![&new, &new, &away, &away, &away], None),
        ];
        for (standings, expected) in cases {
            let standings: Vec<_> = standings.into_iter().cloned().collect();
            assert_eq!(floor(five, &standings), expected, "{standings:?}");
        }
    }

    #[test]
    fn a_replica_and_a_cluster_are_unfit() {
        let told = |role: &[u8], mode: &[u8]| {
            Standing::of((b"r".to_vec(), role.to_vec(), mode.to_vec(), 1, -1, 5, 60_000))
        };
        let fit = told(b"master", b"standalone");
        assert_eq!((fit.unfit, fit.probation_left_ms, fit.floor), (None, None, 5));
        assert!(told(b"slave", b"standalone").unfit.is_some());
        assert!(told(b"master", b"cluster").unfit.is_some());
    }
}

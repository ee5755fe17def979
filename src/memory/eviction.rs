//! What goes when memory is short. Notes how keys are used as the policy needs it, and picks, among a sample, the key that
//! is missed least. Never a protected key.

use super::context::{Fault, Outcome};
use super::keyspace::Keyspace;
use super::random::Random;

/// CONFIG's maxmemory-policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    NoEviction,
    AllKeysLru,
    AllKeysLfu,
    AllKeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl Policy {
    pub const ALL: [Policy; 8] = [
        Policy::NoEviction,
        Policy::AllKeysLru,
        Policy::AllKeysLfu,
        Policy::AllKeysRandom,
        Policy::VolatileLru,
        Policy::VolatileLfu,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
    ];

    /// As Redis calls it.
    pub fn name(self) -> &'static str {
        match self {
            Policy::NoEviction => "noeviction",
            Policy::AllKeysLru => "allkeys-lru",
            Policy::AllKeysLfu => "allkeys-lfu",
            Policy::AllKeysRandom => "allkeys-random",
            Policy::VolatileLru => "volatile-lru",
            Policy::VolatileLfu => "volatile-lfu",
            Policy::VolatileRandom => "volatile-random",
            Policy::VolatileTtl => "volatile-ttl",
        }
    }

    pub fn named(name: &str) -> Option<Policy> {
        Policy::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    /// Whether uses are counted (LFU), not dated (LRU).
    #[inline]
    pub fn counts_uses(self) -> bool {
        matches!(self, Policy::AllKeysLfu | Policy::VolatileLfu)
    }

    /// Whether it matters how each key was used.
    pub fn notes_uses(self) -> bool {
        self.counts_uses() || matches!(self, Policy::AllKeysLru | Policy::VolatileLru)
    }

    /// Whether only keys with a deadline may go.
    fn takes_volatile_only(self) -> bool {
        matches!(
            self,
            Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
        )
    }
}

/// How fast uses count, as lfu-log-factor and lfu-decay-time.
#[derive(Clone, Copy, Debug)]
pub struct Lfu {
    pub log_factor: u32,
    pub decay_minutes: u32,
}

impl Default for Lfu {
    fn default() -> Lfu {
        Lfu { log_factor: 10, decay_minutes: 1 }
    }
}

/// What a new key's counter begins with, so that it is not the first to go.
const COUNTER_AT_FIRST: u32 = 5;
const COUNTER_BITS: u32 = 8;
const COUNTER_MAX: u32 = 255;
const MINUTES_MASK: u32 = u32::MAX >> COUNTER_BITS;
/// Keys that are compared for each that goes.
const SAMPLE: usize = 8;
/// Keys that one call takes away at most.
const EVICTED_MAX: usize = 10_000;

fn minutes(now_ms: u64) -> u32 {
    (now_ms / 60_000) as u32 & MINUTES_MASK
}

/// Tenths of a second; they come round after 13 years.
fn tenths(now_ms: u64) -> u32 {
    (now_ms / 100) as u32
}

impl Lfu {
    /// The counter as it is now, less one for each decay time that passed.
    fn counter(self, access: u32, now_ms: u64) -> u32 {
        let passed = minutes(now_ms).wrapping_sub(access >> COUNTER_BITS) & MINUTES_MASK;
        let periods = passed.checked_div(self.decay_minutes).unwrap_or(0);
        (access & COUNTER_MAX).saturating_sub(periods)
    }

    /// Counts a use with a probability that falls with the counter.
    fn used(self, access: u32, now_ms: u64, random: &mut Random) -> u32 {
        let mut counter = self.counter(access, now_ms);
        if counter < COUNTER_MAX {
            let above = counter.saturating_sub(COUNTER_AT_FIRST) as usize;
            counter += u32::from(random.below(above * self.log_factor as usize + 1) == 0);
        }
        minutes(now_ms) << COUNTER_BITS | counter
    }
}

impl Keyspace {
    /// What a new key notes.
    #[inline]
    pub(super) fn first_access(&self, now_ms: u64) -> u32 {
        match self.settings.policy.counts_uses() {
            true => minutes(now_ms) << COUNTER_BITS | COUNTER_AT_FIRST,
            false => tenths(now_ms),
        }
    }

    #[inline]
    pub(super) fn note_use(&mut self, db: u32, at: usize, now_ms: u64) {
        let object = self.databases[db as usize].dict.value_mut(at);
        object.access = match self.settings.policy.counts_uses() {
            true => self.settings.lfu.used(object.access, now_ms, &mut self.random),
            false => tenths(now_ms),
        };
    }

    /// Seconds since the access was noted (by its date).
    pub(super) fn idle_seconds(&self, access: u32, now_ms: u64) -> u64 {
        u64::from(tenths(now_ms).wrapping_sub(access)) / 10
    }

    /// How often it was used, from 0 to 255 (where uses are counted).
    pub(super) fn frequency(&self, access: u32, now_ms: u64) -> u32 {
        self.settings.lfu.counter(access, now_ms)
    }

    pub fn is_over_limit(&self) -> bool {
        self.settings.bytes_max != 0 && self.bytes as u64 > self.settings.bytes_max
    }

    /// Before a command that may need memory: evicts keys until there is room. An error if there is none to be made.
    #[inline]
    pub fn make_room(&mut self, now_ms: u64) -> Outcome {
        if self.is_over_limit() { self.evict(now_ms) } else { Ok(()) }
    }

    fn evict(&mut self, now_ms: u64) -> Outcome {
        for _ in 0..EVICTED_MAX {
            let Some((db, at)) = self.least_missed(now_ms) else { return Err(Fault::OUT_OF_MEMORY) };
            let key = self.databases[db].dict.key(at).to_vec();
            self.remove_at(db as u32, at);
            self.stats.evicted += 1;
            self.note_change(db as u32, &key);
            if !self.is_over_limit() {
                break;
            }
        }
        Ok(())
    }

    /// Samples the databases in turn, those that have something to give.
    fn least_missed(&mut self, now_ms: u64) -> Option<(usize, usize)> {
        if self.settings.policy == Policy::NoEviction {
            return None;
        }
        let volatile_only = self.settings.policy.takes_volatile_only();
        let is_random = matches!(self.settings.policy, Policy::AllKeysRandom | Policy::VolatileRandom);
        let count = self.databases.len();
        let db = (0..count).map(|step| (self.evicting + step) % count).find(|&db| {
            let database = &self.databases[db];
            match volatile_only {
                true => database.volatile.len() > database.protected_volatile,
                false => database.dict.len() > database.protected,
            }
        })?;
        self.evicting = (db + 1) % count;
        let mut best: Option<(u64, usize)> = None;
        for _ in 0..if is_random { 1 } else { SAMPLE } {
            let at = self.candidate(db, volatile_only);
            let worth = self.worth(db, at, now_ms);
            if best.is_none_or(|(least, _)| worth < least) {
                best = Some((worth, at));
            }
        }
        best.map(|(_, at)| (db, at))
    }

    /// A random key that may go. There is one. Where nearly all are protected it is looked for in a row.
    fn candidate(&mut self, db: usize, volatile_only: bool) -> usize {
        let database = &self.databases[db];
        let len = if volatile_only { database.volatile.len() } else { database.dict.len() };
        let picks: [usize; SAMPLE] = std::array::from_fn(|_| self.random.below(len));
        let position = |index: usize| match volatile_only {
            true => database.volatile[index] as usize,
            false => index,
        };
        let may_go = |at: usize| !self.is_protected(database.dict.key(at));
        if let Some(at) = picks.into_iter().map(position).find(|&at| may_go(at)) {
            return at;
        }
        let first = database.hand % len;
        let step = (0..len).find(|step| may_go(position((first + step) % len)));
        let found = (first + step.expect("the counts say that one may go")) % len;
        let at = position(found);
        self.databases[db].hand = found;
        at
    }

    /// The smaller, the sooner it goes.
    fn worth(&self, db: usize, at: usize, now_ms: u64) -> u64 {
        let object = self.databases[db].dict.value(at);
        match self.settings.policy {
            Policy::VolatileTtl => object.deadline().unwrap_or(u64::MAX),
            policy if policy.counts_uses() => u64::from(self.frequency(object.access, now_ms)),
            _ => u64::MAX - u64::from(tenths(now_ms).wrapping_sub(object.access)),
        }
    }
}

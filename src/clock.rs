//! The clock that freshness is measured with: it goes on while the machine sleeps (CLOCK_BOOTTIME).

use std::time::Duration;

/// A moment, in nanoseconds since boot. Comparable across threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    pub fn now() -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Moment(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// Time from `earlier` to here; zero if it is not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// The same in nanoseconds, for what is counted with every reply: a `Duration` is divided and checked at each step.
    #[inline]
    pub fn nanos_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub fn after(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(time.as_nanos() as u64))
    }
}

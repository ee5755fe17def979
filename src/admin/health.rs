//! Whether the daemon works, and whether it can serve. Decides from what is known; asks nobody.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::Moment;
use crate::shared::Shared;

/// Workers tell that they run ten times a second.
const TICK_SILENCE_MAX: Duration = Duration::from_secs(5);

/// Every worker runs. Otherwise what is wrong: only a new process helps.
pub(super) fn health(shared: &Shared, now: Moment) -> Result<(), String> {
    for (id, (mailbox, metrics)) in shared.mailboxes.iter().zip(&shared.metrics).enumerate() {
        if mailbox.is_closed() {
            return Err(format!("worker {id} has ended: restart the daemon"));
        }
        let silence = now.since(metrics.ticked().max(shared.started));
        if silence > TICK_SILENCE_MAX {
            return Err(format!("worker {id} has not run for {} s: restart the daemon", silence.as_secs()));
        }
    }
    Ok(())
}

/// New clients are welcome. Otherwise why not; this may pass.
pub(super) fn readiness(shared: &Shared, now: Moment) -> Result<(), String> {
    health(shared, now)?;
    if shared.draining.load(Relaxed) {
        return Err("draining: the daemon is about to end".into());
    }
    if !shared.l2.is_reachable.load(Relaxed) {
        return Err(shared.l2.lack());
    }
    if !shared.tracking_is_alive(now) {
        let silence = shared.staleness(now).as_millis();
        return Err(format!("a tracked link has proven nothing for {silence} ms, so L1 cannot be used"));
    }
    Ok(())
}

/// What of the shared state cannot be served although the daemon is ready: a Redis of its own is away.
pub(super) fn lacking(shared: &Shared) -> Vec<String> {
    let away = shared.places.own.iter().filter(|remote| !remote.is_reachable.load(Relaxed));
    away.map(|remote| format!("{remote} does not answer")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::cache::Lease;
    use crate::config::{Config, Secret};
    use crate::shared::{Live, Mail};

    /// What one worker with a tracked link would share.
    struct Setup {
        shared: Shared,
        lease: Arc<Lease>,
        mailbox: mpsc::Receiver<Mail>,
        now: Moment,
    }

    impl Setup {
        fn new() -> Setup {
            let mut config = Config::default();
            config.upstream.url = Some(Secret::new("redis://127.0.0.1:6379"));
            let residences = config.residences().unwrap();
            let (sender, mailbox) = mpsc::channel(1);
            let shared = Shared::new(Live::new(config), residences, Default::default(), vec![sender]);
            let lease = shared.new_lease(0, 0);
            let now = shared.started.after(Duration::from_secs(60));
            shared.metrics[0].tick(now);
            Setup { shared, lease, mailbox, now }
        }

        fn later(&self, seconds: u64) -> Moment {
            let now = self.now.after(Duration::from_secs(seconds));
            self.shared.metrics[0].tick(now);
            now
        }
    }

    #[test]
    fn a_worker_that_stands_still_makes_the_daemon_sick() {
        let setup = Setup::new();
        assert_eq!(health(&setup.shared, setup.now.after(Duration::from_secs(4))), Ok(()));
        let sick = health(&setup.shared, setup.now.after(Duration::from_secs(6))).unwrap_err();
        assert!(sick.starts_with("worker 0 has not run for 6 s"), "{sick}");
        assert_eq!(readiness(&setup.shared, setup.now.after(Duration::from_secs(6))), Err(sick));
    }

    #[test]
    fn a_worker_that_has_just_been_started_is_well() {
        let setup = Setup::new();
        setup.shared.metrics[0].tick(Moment(0));
        assert_eq!(health(&setup.shared, setup.shared.started.after(Duration::from_secs(1))), Ok(()));
    }

    #[test]
    fn a_worker_that_has_ended_makes_the_daemon_sick() {
        let Setup { shared, mailbox, now, .. } = Setup::new();
        drop(mailbox);
        assert!(health(&shared, now).unwrap_err().starts_with("worker 0 has ended"));
    }

    #[test]
    fn readiness_ends_with_redis_and_with_the_drain() {
        let setup = Setup::new();
        assert_eq!(readiness(&setup.shared, setup.now), Ok(()));
        setup.shared.l2.is_reachable.store(false, Relaxed);
        assert!(readiness(&setup.shared, setup.now).unwrap_err().contains("127.0.0.1:6379 does not answer"));
        setup.shared.draining.store(true, Relaxed);
        assert!(readiness(&setup.shared, setup.now).unwrap_err().starts_with("draining"));
        assert_eq!(health(&setup.shared, setup.now), Ok(()));
    }

    #[test]
    fn readiness_ends_when_proofs_stop_and_entries_depend_on_them() {
        let setup = Setup::new();
        setup.lease.prove(setup.now);
        assert_eq!(readiness(&setup.shared, setup.later(60)), Ok(()), "there are no entries");
        setup.lease.mark_filled();
        assert_eq!(readiness(&setup.shared, setup.later(3)), Ok(()));
        assert!(readiness(&setup.shared, setup.later(4)).unwrap_err().contains("proven nothing for 4000 ms"));
        setup.lease.end();
        assert_eq!(readiness(&setup.shared, setup.later(5)), Ok(()), "its entries are gone");
    }

    #[test]
    fn a_link_that_filled_but_was_never_proven_is_not_stale() {
        let setup = Setup::new();
        setup.lease.mark_filled();
        assert_eq!(readiness(&setup.shared, setup.now), Ok(()));
    }
}

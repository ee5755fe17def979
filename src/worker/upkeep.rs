//! What a worker does on its own: heartbeats on tracked links, probes of idle ones, silence, idle clients, limits on
//! memory, keeping hot keys warm in L2.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Worker;
use crate::command::Group;
use crate::resp;
use crate::session::Session;
use crate::upstream::{Expect, Link, Phase, Upstream, User};

/// Between heartbeats on a tracked link whose entries are hit.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Where nobody looks, every so many.
const IDLE_BEATS: u64 = 5;
/// Between looks at limits that grow fast.
const LOOK: Duration = Duration::from_millis(100);
/// How long a node of a cluster may be silent that another one has replaced.
const REPLACED_SILENCE_MAX: Duration = Duration::from_secs(1);
/// Keys of one TOUCH, and of all in one round.
const TOUCH_KEYS: usize = 64;
const TOUCH_KEYS_MAX: usize = 4096;

thread_local! {
    /// Databases that L2 is known to have.
    static DATABASES: RefCell<HashSet<u32>> = RefCell::new(HashSet::from([0]));
}

impl Worker {
    pub fn knows_database(&self, db: u32) -> bool {
        DATABASES.with_borrow(|known| known.contains(&db))
    }
    pub fn learn_database(&self, db: u32) {
        DATABASES.with_borrow_mut(|known| known.insert(db));
    }

    /// Proves that pushes still arrive, as long as anybody looks at what they keep fresh.
    pub(super) async fn heartbeats(self: Rc<Self>) {
        let mut beats = 0u64;
        loop {
            let pace = HEARTBEAT.min(self.freshness() / 4).max(Duration::from_millis(2));
            tokio::time::sleep(pace).await;
            let now = self.tick_clock();
            beats += 1;
            for link in self.filled_links() {
                let Some(lease) = &link.lease else { continue };
                let quiet = now.since(lease.proof()) >= pace / 2;
                let answered = link.pending_len() == 0;
                let wanted = lease.take_used() || beats.is_multiple_of(IDLE_BEATS);
                if wanted && quiet && answered && link.phase() == Phase::Ready {
                    link.send(&self, link.set.user.sign_of_life(), Expect::Nobody, Group::Other);
                }
            }
        }
    }

    pub(super) async fn housekeeping(self: Rc<Self>) {
        let mut rounds = 0u64;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.tick_clock();
            self.metrics.tick(now);
            rounds += 1;
            self.upstreams().iter().for_each(|upstream| self.look_for_silence(upstream));
            self.close_largest_readers();
            self.end_links_to_removed_nodes();
            if rounds.is_multiple_of(10) {
                let live = self.live();
                for upstream in self.upstreams() {
                    upstream.close_unused(now, Duration::from_secs(live.config.upstream.links_idle_seconds));
                    let pause = Duration::from_secs(live.config.upstream.probe_seconds);
                    self.probe_idle_links(&upstream, pause);
                }
                self.leave_nodes();
                self.close_idle_clients();
                let touch = live.config.cache.touch_seconds;
                if touch > 0 && (rounds / 10).is_multiple_of(touch) && self.shared.l2_evicts.load(Relaxed) {
                    self.touch_hot_keys();
                }
                // Replaced and evicted entries give their memory back.
                if rounds.is_multiple_of(600) {
                    self.front.borrow_mut().clear();
                }
                self.huge.borrow_mut().retain(|_, seen| now.since(*seen) < Duration::from_secs(60));
            }
        }
    }

    /// L2 is silent when requests wait and no link has received anything for a while: all links close.
    fn look_for_silence(self: &Rc<Self>, upstream: &Rc<Upstream>) {
        let live = self.live();
        let mut limit = Duration::from_millis(live.config.upstream.silence_max_ms);
        if self.replaced_for(upstream) > REPLACED_SILENCE_MAX {
            limit = limit.min(REPLACED_SILENCE_MAX);
        }
        let deadline = live.config.upstream.request_timeout_ms;
        let now = self.now();
        let links: Vec<Rc<Link>> = upstream.links.borrow().values().cloned().collect();
        let waited =
            |link: &Rc<Link>| if link.is_waited_for() { link.oldest_wait(now) } else { Duration::ZERO };
        let longest = links.iter().map(waited).max().unwrap_or_default();
        let silent = now.since(upstream.last_heard());
        if longest > limit && silent > limit {
            tracing::warn!(?silent, "{} is silent: all links are closed", upstream.remote);
            for link in &links {
                link.shutdown();
            }
            return;
        }
        // Is it L2, or only that command? Another link asks.
        if longest > limit / 4 && silent > limit / 4 {
            let set = upstream.own_set();
            if let Ok(link) = set.spare(self)
                && link.pending_len() == 0
            {
                link.send(self, link.set.user.sign_of_life(), Expect::Nobody, Group::Other);
            }
        }
        if deadline > 0 {
            for link in links.iter().filter(|link| waited(link) > Duration::from_millis(deadline)) {
                tracing::warn!(
                    link = link.id,
                    "a request took longer than upstream.request_timeout_ms: link closed"
                );
                link.shutdown();
            }
        }
    }

    /// No middlebox shall cut an idle link under a write.
    fn probe_idle_links(self: &Rc<Self>, upstream: &Rc<Upstream>, pause: Duration) {
        let now = self.now();
        let links: Vec<Rc<Link>> = upstream.links.borrow().values().cloned().collect();
        for link in links {
            let idle = link.phase() == Phase::Ready
                && link.pending_len() == 0
                && now.since(link.last_byte()) > pause;
            if idle && !link.purpose.is_own() {
                link.probe(self);
            }
        }
    }

    fn close_idle_clients(self: &Rc<Self>) {
        let live = self.live();
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        let idle_max = Duration::from_secs(live.config.server.timeout_seconds);
        let login_max = Duration::from_secs(live.config.limits.unauth_seconds_max);
        for session in sessions {
            session.check_idle(self, idle_max, login_max);
        }
    }

    /// All buffers together have a bound: over it, whoever reads slowest is closed.
    pub fn close_largest_readers(&self) {
        let max = self.buffers_bytes_max();
        if self.shared.buffered_bytes.load(Relaxed) <= max {
            return;
        }
        let sessions = self.sessions.borrow();
        let Some(largest) = sessions.values().max_by_key(|s| s.buffered_bytes()) else { return };
        // The largest of all is somebody's: each worker closes one that is at least a fair share.
        if largest.buffered_bytes() as u64 > max / (4 * self.shared.metrics.len() as u64).max(8) {
            self.metrics.closed_slow_readers.add(1);
            let bytes = largest.buffered_bytes();
            tracing::warn!(client = largest.id, bytes, "closed: limits.buffers_bytes_max reached");
            largest.give_up(self);
        }
    }

    /// L2 does not see hits, so it would evict the hottest keys first.
    fn touch_hot_keys(self: &Rc<Self>) {
        let mut by_db: std::collections::HashMap<u32, Vec<Vec<u8>>> = Default::default();
        let mut count = 0;
        for entry in self.front.borrow().iter() {
            if entry.scope.user == User::OWN && entry.take_hit() && count < TOUCH_KEYS_MAX {
                by_db.entry(entry.scope.db).or_default().push(entry.key().to_vec());
                count += 1;
            }
        }
        for (db, keys) in by_db {
            let Ok(link) = self.links_of(self.own_user(), db).plain(self, false) else { continue };
            for batch in keys.chunks(TOUCH_KEYS) {
                let mut args: Vec<&[u8]> = vec![b"TOUCH"];
                args.extend(batch.iter().map(Vec::as_slice));
                link.send(self, &resp::encode_request(&args), Expect::Nobody, Group::Other);
            }
        }
    }
}

impl Worker {
    /// The daemon ends: what was read is answered, then connections close.
    pub fn drain(self: &Rc<Self>) {
        let sessions: Vec<Rc<Session>> = self.sessions.borrow().values().cloned().collect();
        for session in sessions {
            session.drain(self);
        }
    }
}

//! A run of hits: requests of one command, one behind the other in what a client has sent, that L1 answers together.
//!
//! A hit waits for memory more than for anything else: the stamp of its key, its place in the front table, the entry. So
//! all of that is prefetched for many requests before the first of them is looked at. And what held for the request before
//! them (its command, what its user may, that nothing of the session is under way) holds for them without another look. Nor
//! do they turn to the nodes of a cluster: an entry is valid by its lease, whoever serves its slot now. There is no run where
//! that is otherwise (stale entries while L2 is away), nor beside a link of the session's own, to which any of them might go.

use std::rc::Rc;

use smallvec::SmallVec;

use super::dispatch::Request;
use super::input::OUTPUT_BYTES_PER_TICK;
use super::{Session, State};
use crate::cache::{Cache, RequestId};
use crate::command::Row;
use crate::resp::{self, Args};
use crate::worker::Worker;

/// For so many requests memory is prefetched together.
const PREFETCHED_MAX: usize = 16;

impl Session {
    /// Behind `request`, which was a hit: answers what follows as long as it is hits of the same command, and leaves the
    /// rest to be looked at as usual. `st.taken_ahead` tells how many bytes were answered.
    pub(super) fn show_run(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        st: &mut State,
        cache: &Cache,
        request: Request<'_>,
        row: &Row,
    ) {
        let prefix = &request.wire[..request.args.tail_at()];
        if !request.rest.starts_with(prefix)
            || st.is_waiting()
            || st.is_mute()
            || st.pin.is_some()
            || cache.is_l2_down()
        {
            return;
        }
        let mut ranges = SmallVec::<[(u32, u32); 8]>::from(request.args.ranges());
        let scope = Self::scope(st);
        let (mut rest, mut shown) = (request.rest, 0);
        while st.out.len() <= OUTPUT_BYTES_PER_TICK {
            let mut ids = SmallVec::<[RequestId<'_>; PREFETCHED_MAX]>::new();
            let mut ahead = rest;
            while ids.len() < PREFETCHED_MAX
                && let Some(len) = resp::next_alike(ahead, prefix, &mut ranges, &st.limits)
                && len <= worker.cached_request_bytes_max()
                && let (wire, behind) = ahead.split_at(len)
                && let Some(key) = Args::new(wire, &ranges).get(1)
            {
                let key_hash = worker.shared.hash(key);
                ids.push(worker.request_id(cache, scope, row, wire, prefix.len(), key_hash));
                ahead = behind;
            }
            worker.prefetch(cache, &ids);
            let before = shown;
            for id in &ids {
                if st.out.len() > OUTPUT_BYTES_PER_TICK || !self.show(worker, st, cache, id) {
                    break;
                }
                shown += 1;
                rest = &rest[id.wire.len()..];
            }
            if shown - before < PREFETCHED_MAX {
                break;
            }
        }
        worker.metrics.commands_of(row.group(), shown as u64);
        st.taken_ahead = request.rest.len() - rest.len();
    }
}

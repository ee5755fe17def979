//! Requests of one command, one behind the other in what a client has sent: how the next one is found that is written like the
//! last (`Model`), and runs of hits, which L1 answers together.
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
use crate::resp::{self, Args, RequestLimits};
use crate::worker::Worker;

/// For so many requests memory is prefetched together.
const PREFETCHED_MAX: usize = 16;

/// A request that the scanner found: those behind it that are written like it need neither the scanner nor the command table.
pub(super) struct Model<'a> {
    prefix: &'a [u8],
    ranges: SmallVec<[(u32, u32); MODEL_ARGS_MAX]>,
    row: &'static Row,
}

/// Requests of more arguments are no models.
const MODEL_ARGS_MAX: usize = 8;

impl<'a> Model<'a> {
    /// `wire` is the request, `args` its arguments.
    pub(super) fn of(wire: &'a [u8], args: &Args<'_>, row: &'static Row) -> Option<Model<'a>> {
        let ranges = args.ranges();
        ((2..=MODEL_ARGS_MAX).contains(&ranges.len()) && row.is_of_one_word()).then(|| Model {
            prefix: &wire[..args.tail_at()],
            ranges: ranges.into(),
            row,
        })
    }

    /// The request at the start of `bytes`, if it is written like this one. What the scanner might refuse is left to it.
    #[inline]
    pub(super) fn next<'b>(
        &'b mut self,
        bytes: &'b [u8],
        limits: &RequestLimits,
    ) -> Option<(Request<'b>, &'static Row)> {
        let len = resp::next_alike(bytes, self.prefix, &mut self.ranges)?;
        (len as i64 <= limits.bulk_bytes_max).then(|| (Request::new(bytes, len, &self.ranges), self.row))
    }
}

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
        if st.is_waiting() || st.is_mute() || st.pin.is_some() || cache.is_l2_down() {
            return;
        }
        let prefix = &request.wire[..request.args.tail_at()];
        let mut ranges = SmallVec::<[(u32, u32); 4]>::from(request.args.ranges());
        let scope = Self::scope(st);
        let (mut rest, mut shown) = (request.rest, 0);
        while st.out.len() <= OUTPUT_BYTES_PER_TICK {
            let mut ids = SmallVec::<[RequestId<'_>; PREFETCHED_MAX]>::new();
            let mut ahead = rest;
            while ids.len() < PREFETCHED_MAX
                && let Some(len) = resp::next_alike(ahead, prefix, &mut ranges)
                && len <= worker.cached_request_bytes_max()
                // What the scanner might refuse is left to it.
                && len as i64 <= st.limits.bulk_bytes_max
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    const LIMITS: RequestLimits = RequestLimits { bulk_bytes_max: 40, ..RequestLimits::NONE };

    /// The keys of what is found behind `first` in `rest`.
    fn found(first: &[u8], rest: &[u8]) -> Vec<Vec<u8>> {
        let mut scanner = resp::RequestScanner::default();
        scanner.scan(first, &LIMITS);
        let args = Args::new(first, scanner.ranges());
        let model = command::lookup(&args).and_then(|row| Model::of(first, &args, row));
        let (Some(mut model), mut rest, mut keys) = (model, rest, Vec::new()) else { return Vec::new() };
        while let Some((request, row)) = model.next(rest, &LIMITS) {
            assert_eq!(row.name, "GET");
            keys.extend(request.args.get(1).map(<[u8]>::to_vec));
            rest = &rest[request.wire.len()..];
        }
        keys
    }

    #[test]
    fn what_follows_is_found_up_to_what_the_scanner_might_refuse() {
        let get = |len: usize| resp::encode_request(&[b"GET", &vec![b'k'; len]]);
        assert_eq!(found(&get(1), &[get(2), get(3)].concat()), [b"kk".to_vec(), b"kkk".to_vec()]);
        // 20 bytes are around the key.
        let (fits, longer) = (get(20), get(21));
        assert_eq!((fits.len(), longer.len()), (40, 41));
        assert_eq!(found(&get(1), &[fits, longer, get(1)].concat()), [vec![b'k'; 20]]);
    }

    #[test]
    fn what_takes_more_than_its_name_to_be_known_is_no_model() {
        let again = |args: &[&[u8]]| found(&resp::encode_request(args), &resp::encode_request(args));
        assert_eq!(again(&[b"GET", b"k"]), [b"k"]);
        for args in
            [&[&b"CLIENT"[..], b"SETNAME", b"n"][..], &[b"CLIENT", b"NOSUCH"], &[b"NOSUCH", b"k"], &[b"PING"]]
        {
            assert!(again(args).is_empty());
        }
    }
}

//! What happens when a shared link's reply or push arrives, or will not arrive any more.

use std::rc::Rc;

use super::link::Link;
use super::pending::Frame;
use super::pending::{Aftermath, Expect, Failure, Fill, Pending};
use super::{FillEach, block, pinned, redirects};
use crate::cache::{Entry, StripeSet, Terms};
use crate::resp;
use crate::worker::{Told, Worker};

const DEMOTED: &str = "the master of Redis has become a replica";

/// A push. On a tracked link: keys that were written somewhere, or (null) all of them. On another shared link it
/// belongs to the request that L2 is answering (DEBUG PROTOCOL PUSH, modules), and goes with its reply.
pub fn push(worker: &Rc<Worker>, link: &Rc<Link>, frame: &[u8]) -> Result<(), &'static str> {
    let Some(lease) = &link.lease else {
        link.with_first_pending(|pending| {
            if pending.expect.is_handed_over() {
                pending.pushed.get_or_insert_default().extend_from_slice(frame);
            }
        });
        return Ok(());
    };
    let Some(elements) = resp::array_elements(frame) else { return Err("a push that cannot be read") };
    if elements.first().and_then(|name| resp::bulk_text(name)) != Some(b"invalidate") {
        return Ok(());
    }
    let Some(cache) = &worker.shared.cache else { return Ok(()) };
    match elements.get(1) {
        Some(keys) if keys.starts_with(b"*") => {
            for key in resp::array_elements(keys).ok_or("an invalidation that cannot be read")? {
                let key = resp::bulk_text(key).ok_or("an invalidated key that is no string")?;
                cache.stamps.bump(cache.stamps.stripe(worker.shared.hash(key)));
                worker.metrics.l1_invalidations.add(1);
            }
        }
        _ => {
            lease.revoke();
            worker.metrics.l1_invalidations.add(1);
        }
    }
    Ok(())
}

/// Makes entries of these keys invalid. Unknown keys are the barrier's task.
pub fn invalidate(worker: &Rc<Worker>, stripes: &StripeSet) {
    worker.bump(stripes);
}

pub fn reply(worker: &Rc<Worker>, link: &Rc<Link>, mut pending: Pending, frame: Frame<'_>) {
    let frame = match pending.pushed.take() {
        None => frame,
        Some(mut frames) => {
            frames.extend_from_slice(frame.as_slice());
            Frame::Owned((*frames).into())
        }
    };
    if let Some(lease) = &link.lease {
        lease.prove(pending.sent);
    }
    if link.is_of_a_cluster && frame.as_slice().starts_with(b"-") {
        if let Some(pending) = redirects::follow(worker, link, pending, &frame) {
            hand_over(worker, link, pending, frame);
        }
    } else {
        hand_over(worker, link, pending, frame);
    }
}

/// To whoever waits for it.
#[inline]
pub(super) fn hand_over(worker: &Rc<Worker>, link: &Rc<Link>, pending: Pending, frame: Frame<'_>) {
    let sent = pending.sent;
    let demoted = link.is_demoted(frame.as_slice());
    match pending.expect {
        Expect::Reply(asker) => asker.session.answer(worker, asker.seq, frame),
        Expect::Read(asker, read) => {
            let len = frame.as_slice().len();
            if len >= worker.huge_bytes() {
                worker.note_huge(read.key);
            }
            if let (true, Some(cache)) = (read.cacheable, &worker.shared.cache) {
                asker.session.passed_read(worker, cache, cache.stamps.stripe(read.key));
                if len > worker.reply_bytes_max() {
                    cache.sketch.too_large(read.key, worker.now());
                }
            }
            asker.session.answer(worker, asker.seq, frame);
        }
        Expect::ReadEach(asker, stripes) => {
            if let Some(cache) = &worker.shared.cache {
                stripes.iter().for_each(|&stripe| asker.session.passed_read(worker, cache, stripe));
            }
            asker.session.answer(worker, asker.seq, frame);
        }
        Expect::Write(asker, stripes) => {
            worker.bump(&stripes);
            match demoted {
                // A command of Redis's own has not run then.
                true => asker.session.fail(worker, asker.seq, Failure::NotSent(DEMOTED.into())),
                false => asker.session.answer(worker, asker.seq, frame),
            }
        }
        Expect::Executed(asker, stripes) => {
            worker.bump(&stripes);
            asker.session.passed_reads(worker);
            asker.session.answer(worker, asker.seq, frame);
        }
        Expect::WriteUnknown(asker, stripes, aftermath) => {
            worker.bump(&stripes);
            if aftermath == Aftermath::RevokeLeases {
                worker.shared.revoke_leases();
            }
            if worker.caches() && aftermath == Aftermath::Barrier {
                worker.hold_for_barrier(link, asker, frame.into_bytes());
            } else {
                asker.session.answer(worker, asker.seq, frame);
            }
        }
        Expect::Turn(asker, turn) => asker.session.take_turn(worker, asker.seq, *turn, Ok(frame)),
        Expect::Info(asker) => {
            let mut text = Vec::with_capacity(frame.as_slice().len() + 1024);
            worker.append_info(frame.as_slice(), &mut text);
            asker.session.answer(worker, asker.seq, Frame::Borrowed(&text));
        }
        Expect::Described(asker, asked) => {
            let mut text = Vec::with_capacity(frame.as_slice().len() + 1024);
            asked.complete(frame.as_slice(), &mut text);
            asker.session.answer(worker, asker.seq, Frame::Borrowed(&text));
        }
        Expect::FillValue(mut fill) => {
            fill_value(worker, &mut fill, frame.as_slice());
            // Its PTTL is the next request of the link; the value waits there.
            let fill = std::cell::Cell::new(Some(fill));
            let placed = link.with_first_pending(|next| {
                if matches!(next.expect, Expect::Nobody)
                    && let Some(fill) = fill.take()
                {
                    next.expect = Expect::FillTtl(fill);
                }
            });
            debug_assert!(placed.is_some(), "a fill's PTTL follows its read");
        }
        Expect::FillTtl(fill) => fill_done(worker, link, *fill, frame.as_slice(), sent),
        Expect::FillEach(each) => {
            if let Some(each) = each.frame(worker, link, frame.as_slice()) {
                link.with_first_pending(|next| next.expect = Expect::FillEach(each));
            }
        }
        Expect::FillEachTtl => {}
        Expect::Barrier(round) => worker.barrier_returned(round, link.told(frame.as_slice())),
        Expect::BarrierFor { worker: to, round } => {
            worker.barrier_answered(to, round, link.told(frame.as_slice()));
        }
        Expect::Mark(round) => worker.mark_returned(link, round, link.told(frame.as_slice()), sent),
        Expect::Scanned(asker, slot) => {
            let cluster = worker.shared.l2.cluster.as_ref();
            let whole = cluster.and_then(|c| crate::session::scanned(&c.topology(), slot, frame.as_slice()));
            let frame = whole.map_or(frame, |whole| Frame::Owned(whole.into()));
            asker.session.answer(worker, asker.seq, frame);
        }
        Expect::Block(block) => block::block_reply(worker, link, &block, frame),
        Expect::OneScript(script) => script.answered(link, frame),
        Expect::UserRights => link.user_rights(frame.as_slice()),
        Expect::Batch(scripts) => {
            link.batch_reply(worker, scripts, worker.now().nanos_since(sent), frame.as_slice());
        }
        Expect::Script(to) => drop(to.send(Ok(frame.into_bytes()))),
        Expect::Internal(to) => {
            // The one who asked may have gone.
            let _ = to.send(frame.into_bytes());
        }
        Expect::Pinned(..) | Expect::Nobody => {}
    }
}

fn fill_value(worker: &Rc<Worker>, fill: &mut Fill, frame: &[u8]) {
    let id = fill.flight.id();
    if !id.scope.resp3 && !frame.starts_with(b"-") {
        fill.reply.reserve(frame.len());
        fill.keep = resp::resp3_to_resp2(frame, fill.shape, &mut fill.reply).is_ok();
    } else {
        fill.reply.extend_from_slice(frame);
        fill.keep = true;
    }
    if frame.starts_with(b"-") {
        fill.keep = false;
    }
    if fill.reply.len() > worker.reply_bytes_max() {
        fill.keep = false;
        if let Some(cache) = &worker.shared.cache {
            cache.sketch.too_large(id.key_hash, worker.now());
        }
    }
}

/// The read and its PTTL are in: the reply goes to all who wait, and into L1 if its stamps still hold.
fn fill_done(worker: &Rc<Worker>, link: &Rc<Link>, fill: Fill, ttl: &[u8], sent: crate::clock::Moment) {
    let Some(cache) = worker.shared.cache.clone() else { return };
    let Some(lease) = &link.lease else { return };
    let flight = &fill.flight;
    let id = flight.id();
    let life =
        resp::parse_integer(ttl).filter(|_| fill.keep).and_then(|ttl| worker.life_of(&id, &fill.reply, ttl));
    if let Some(life) = life {
        let terms = Terms {
            stamp: flight.stamp,
            incarnation: fill.incarnation,
            lease: lease.clone(),
            deadline: sent.after(life.time),
            stale_ms_max: life.stale_ms_max,
        };
        let entry = Entry::new(&id, &fill.reply, terms);
        worker.store(&cache, flight, entry);
    }
    worker.land(flight, Some(&fill.reply));
    fill.asker.session.answer(worker, fill.asker.seq, Frame::Borrowed(&fill.reply));
}

/// A request whose reply will not come.
pub fn failed(worker: &Rc<Worker>, expect: Expect, failure: Failure) {
    match expect {
        Expect::Reply(asker)
        | Expect::Read(asker, ..)
        | Expect::ReadEach(asker, ..)
        | Expect::Described(asker, ..)
        | Expect::Scanned(asker, ..)
        | Expect::Info(asker) => {
            asker.session.fail(worker, asker.seq, failure);
        }
        Expect::Write(asker, stripes) | Expect::Executed(asker, stripes) => {
            worker.bump(&stripes);
            asker.session.fail(worker, asker.seq, failure);
        }
        Expect::WriteUnknown(asker, stripes, aftermath) => {
            worker.bump(&stripes);
            if aftermath == Aftermath::RevokeLeases {
                worker.shared.revoke_leases();
            }
            if worker.caches() && aftermath == Aftermath::Barrier && matches!(failure, Failure::Unknown) {
                worker.hold_failure_for_barrier(asker, failure);
            } else {
                asker.session.fail(worker, asker.seq, failure);
            }
        }
        Expect::Block(block) => block::block_failed(worker, &block, failure),
        Expect::OneScript(script) => script.failed(failure),
        Expect::Batch(scripts) => scripts.into_iter().for_each(|script| script.failed(failure.clone())),
        // The one who asked may have gone.
        Expect::Script(to) => drop(to.send(Err(failure))),
        Expect::Turn(asker, turn) => asker.session.take_turn(worker, asker.seq, *turn, Err(failure)),
        Expect::FillValue(fill) | Expect::FillTtl(fill) => fill_failed(worker, *fill),
        Expect::FillEach(each) => FillEach::failed(*each, worker),
        Expect::Pinned(asker, expect) => pinned::failed(worker, asker, *expect, failure),
        Expect::Barrier(round) => worker.barrier_returned(round, Told::ALL),
        Expect::BarrierFor { worker: to, round } => worker.barrier_answered(to, round, Told::ALL),
        Expect::Mark(round) => worker.mark_lost(round),
        Expect::Internal(_) | Expect::UserRights | Expect::FillEachTtl | Expect::Nobody => {}
    }
}

/// A read may be sent again: every one who waits for the flight reads by itself over a plain link.
pub(super) fn fill_failed(worker: &Rc<Worker>, fill: Fill) {
    worker.land(&fill.flight, None);
    fill.asker.session.read_again(worker, fill.asker.seq, fill.flight.id().wire);
}

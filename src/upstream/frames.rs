//! Whole frames out of what a shared link has read, in order. Decides nothing about them.

use std::rc::Rc;

use bytes::BytesMut;

use super::link::Link;
use super::pending::Frame;
use super::replies;
use crate::clock::Moment;
use crate::net::BIG_PIECE_BYTES;
use crate::resp::{ReplyScan, ReplyScanner};
use crate::worker::Worker;

impl Link {
    /// Handles the whole frames of a buffer that is not kept; returns how much of it is done with.
    pub(super) fn small_frames(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        bytes: &[u8],
        scanner: &mut ReplyScanner,
        now: Moment,
    ) -> Result<usize, &'static str> {
        let mut at = 0;
        loop {
            match scanner.scan(&bytes[at..]) {
                ReplyScan::Complete(frame) => {
                    let whole = &bytes[at..at + frame.len];
                    self.frame(worker, frame.kind, Frame::Borrowed(whole), now)?;
                    at += frame.len;
                }
                ReplyScan::Incomplete => return Ok(at),
                ReplyScan::Malformed => return Err("bytes that are no reply"),
            }
        }
    }

    /// The same for a buffer that has grown over several reads; large frames are taken out of it without a copy.
    pub(super) fn large_frames(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        input: &mut BytesMut,
        scanner: &mut ReplyScanner,
        now: Moment,
    ) -> Result<(), &'static str> {
        loop {
            match scanner.scan(input) {
                ReplyScan::Complete(frame) => {
                    let whole = input.split_to(frame.len);
                    match frame.len < BIG_PIECE_BYTES {
                        true => self.frame(worker, frame.kind, Frame::Borrowed(&whole), now)?,
                        false => self.frame(worker, frame.kind, Frame::Owned(whole.freeze()), now)?,
                    }
                }
                ReplyScan::Incomplete => return Ok(()),
                ReplyScan::Malformed => return Err("bytes that are no reply"),
            }
        }
    }

    fn frame(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        kind: u8,
        frame: Frame<'_>,
        now: Moment,
    ) -> Result<(), &'static str> {
        if kind == b'>' {
            return replies::push(worker, self, frame.as_slice());
        }
        let pending = self.pop_pending().ok_or("a reply that nobody asked for")?;
        let took_ns = now.nanos_since(pending.sent);
        self.note_round_trip(took_ns);
        worker.metrics.latency(pending.group, took_ns);
        replies::reply(worker, self, pending, frame);
        Ok(())
    }
}

//! The words of a script: what a frame is, what may become of it, and the gate that hands out the held ones.
//! Moves no bytes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Instant;

use super::super::{PATIENCE, encode};
use super::Shared;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// On its way to Redis.
    Request,
    /// Redis's answer to a request.
    Reply,
    /// Out of band (RESP3 `>`): invalidations, and on subscribed links everything.
    Push,
}

/// A direction of forwarding, as seen from the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// Which links something is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    All,
    /// Those that have sent CLIENT TRACKING ON.
    Tracked,
}

/// One frame at the fake.
#[derive(Debug, Clone)]
pub struct Frame {
    pub side: Side,
    /// Counted from 0 in the order of connecting.
    pub link: usize,
    pub tracked: bool,
    /// Of a request its arguments, of a reply those of its request, of a push nothing.
    pub args: Arc<Vec<Vec<u8>>>,
    pub bytes: Vec<u8>,
    pub at: Instant,
}

impl Frame {
    /// Whether the request has exactly these arguments (the command's name in any case).
    pub fn is<A: AsRef<[u8]>>(&self, args: &[A]) -> bool {
        self.args.len() == args.len()
            && self.args.iter().zip(args).enumerate().all(|(i, (have, want))| match i {
                0 => have.eq_ignore_ascii_case(want.as_ref()),
                _ => have == want.as_ref(),
            })
    }

    /// Whether the request is this command.
    pub fn named(&self, name: &str) -> bool {
        self.args.first().is_some_and(|have| have.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether the request has the argument somewhere after its name.
    pub fn carries(&self, arg: &str) -> bool {
        self.args.iter().skip(1).any(|have| have == arg.as_bytes())
    }
}

pub(super) enum Verdict {
    Pass { before: Vec<u8>, after: Vec<u8> },
    Answer(Vec<u8>),
    Drop,
    Cut,
}

pub(super) const PASS: Verdict = Verdict::Pass { before: Vec::new(), after: Vec::new() };

/// A frame that waits at the fake, with everything behind it in its direction. Dropped, it passes.
pub struct Held {
    pub frame: Frame,
    pub(super) verdict: Sender<Verdict>,
}

impl Held {
    pub fn pass(self) {
        self.decide(PASS);
    }
    /// A reply or push passes with other bytes around it, all in one write.
    pub fn pass_between(self, before: &[u8], after: &[u8]) {
        self.decide(Verdict::Pass { before: before.to_vec(), after: after.to_vec() });
    }
    /// Of a reply: these bytes instead. Of a request: Redis never sees it, the fake answers so in its turn.
    pub fn answer(self, bytes: &[u8]) {
        self.decide(Verdict::Answer(bytes.to_vec()));
    }
    pub fn drop_it(self) {
        self.decide(Verdict::Drop);
    }
    /// Closes the link instead, in both directions.
    pub fn cut(self) {
        self.decide(Verdict::Cut);
    }
    fn decide(self, verdict: Verdict) {
        let _ = self.verdict.send(verdict);
    }
}

pub(super) type Matcher = Box<dyn Fn(&Frame) -> bool + Send>;

pub(super) enum Action {
    Hold(Sender<Held>),
    Answer(Vec<u8>),
    Drop,
}

pub(super) struct Rule {
    pub(super) id: usize,
    pub(super) matches: Matcher,
    pub(super) action: Action,
}

/// A standing instruction; it ends when this is dropped. Frames held by it come out of `next`.
pub struct Gate {
    pub(super) id: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) held: Receiver<Held>,
}

impl Gate {
    /// The next frame that it holds.
    pub fn next(&self) -> Held {
        match self.held.recv_timeout(PATIENCE) {
            Ok(held) => held,
            Err(RecvTimeoutError::Timeout) => panic!("no such frame came to the fake within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the rule lives as long as its gate"),
        }
    }

    pub fn try_next(&self) -> Option<Held> {
        match self.held.try_recv() {
            Ok(held) => Some(held),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => unreachable!("the rule lives as long as its gate"),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

/// The arguments of a request frame.
pub(super) fn arguments(frame: &[u8]) -> Vec<Vec<u8>> {
    if frame[0] != b'*' {
        let line = String::from_utf8_lossy(frame);
        return line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    }
    let line = |at: usize| at + frame[at..].windows(2).position(|w| w == b"\r\n").expect("a whole frame") + 2;
    let mut at = line(0);
    let mut args = Vec::new();
    while at < frame.len() {
        let body = line(at);
        let len: usize = std::str::from_utf8(&frame[at + 1..body - 2]).unwrap().parse().unwrap();
        args.push(frame[body..body + len].to_vec());
        at = body + len + 2;
    }
    args
}

/// The push that names these keys.
pub fn invalidate<K: AsRef<[u8]>>(keys: &[K]) -> Vec<u8> {
    [b">2\r\n$10\r\ninvalidate\r\n".to_vec(), encode(keys)].concat()
}

/// The push that means all keys.
pub fn invalidate_all() -> Vec<u8> {
    b">2\r\n$10\r\ninvalidate\r\n_\r\n".to_vec()
}

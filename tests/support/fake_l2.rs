//! A scripted L2: a relay in front of a real redis-server that understands the frames of both directions. A test
//! holds, replaces, drops or injects single frames and learns of them through channels, so it never waits by time.
//! It decides nothing by itself: without a script every byte passes.
#![allow(dead_code, unused_imports)]

mod script;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{PATIENCE, Redis, frame_len};
use script::{Action, Matcher, PASS, Rule, Verdict, arguments};
pub use script::{Frame, Gate, Held, Links, Side, Way, invalidate, invalidate_all};

struct Pending {
    args: Arc<Vec<Vec<u8>>>,
    /// What the fake answers by itself.
    answer: Option<Vec<u8>>,
}

/// The way down of one link: whole frames only, replies in the order of the requests.
struct Down {
    stream: TcpStream,
    pending: VecDeque<Pending>,
    /// Subscribed and monitoring links answer in other numbers; there replies carry no request.
    counted: bool,
}

impl Down {
    fn answer_what_is_due(&mut self) -> io::Result<()> {
        while let Some(answer) = self.pending.front_mut().and_then(|pending| pending.answer.take()) {
            self.stream.write_all(&answer)?;
            self.pending.pop_front();
        }
        Ok(())
    }
}

struct Link {
    id: usize,
    up: TcpStream,
    down: Mutex<Down>,
}

impl Link {
    /// A failed test still has to end its daemon: poison is no reason to stop.
    fn down(&self) -> MutexGuard<'_, Down> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        let _ = self.up.shutdown(Shutdown::Both);
        let _ = self.down().stream.shutdown(Shutdown::Both);
    }
}

#[derive(Default)]
struct State {
    links: Vec<Arc<Link>>,
    tracked: Vec<bool>,
    open: Vec<bool>,
    rules: Vec<Rule>,
    rules_made: usize,
    seen: Vec<Frame>,
    frozen: Vec<(Way, Links)>,
    refusing: bool,
    closing: bool,
}

struct Shared {
    upstream_port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

/// The relay; see the module's head.
pub struct FakeL2 {
    pub port: u16,
    shared: Arc<Shared>,
}

impl FakeL2 {
    pub fn start(redis: &Redis) -> FakeL2 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared =
            Arc::new(Shared { upstream_port: redis.port, state: Mutex::default(), changed: Condvar::new() });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = accepting.lock();
                if state.closing {
                    return;
                }
                let refusing = state.refusing;
                drop(state);
                if let (false, Ok(stream)) = (refusing, stream) {
                    let _ = accepting.relay(stream);
                }
            }
        });
        FakeL2 { port, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Every matching frame waits until the test decides on it.
    pub fn hold(&self, side: Side, matches: impl Fn(&Frame) -> bool + Send + 'static) -> Gate {
        let (sender, receiver) = channel();
        self.rule(side, matches, Action::Hold(sender), receiver)
    }

    /// Matching replies are replaced; matching requests are answered so without Redis.
    pub fn answer(
        &self,
        side: Side,
        matches: impl Fn(&Frame) -> bool + Send + 'static,
        bytes: &[u8],
    ) -> Gate {
        self.rule(side, matches, Action::Answer(bytes.to_vec()), channel().1)
    }

    /// Matching frames vanish.
    pub fn drop_all(&self, side: Side, matches: impl Fn(&Frame) -> bool + Send + 'static) -> Gate {
        self.rule(side, matches, Action::Drop, channel().1)
    }

    /// No invalidation arrives at the daemon until the gate is dropped.
    pub fn drop_pushes(&self) -> Gate {
        self.drop_all(Side::Push, |frame| frame.tracked)
    }

    fn rule(
        &self,
        side: Side,
        matches: impl Fn(&Frame) -> bool + Send + 'static,
        action: Action,
        held: Receiver<Held>,
    ) -> Gate {
        let mut state = self.shared.lock();
        state.rules_made += 1;
        let id = state.rules_made;
        let matches: Matcher = Box::new(move |frame| frame.side == side && matches(frame));
        state.rules.push(Rule { id, matches, action });
        Gate { id, shared: self.shared.clone(), held }
    }

    /// Writes to the daemon on every open link of the kind, between two frames.
    pub fn inject(&self, links: Links, bytes: &[u8]) {
        for link in self.shared.links(links) {
            let _ = link.down().stream.write_all(bytes);
        }
    }

    /// Closes every open link of the kind.
    pub fn cut(&self, links: Links) {
        self.shared.links(links).iter().for_each(|link| link.cut());
    }

    /// Stops forwarding in one direction, like a network that loses packets: nothing is lost, nothing arrives.
    pub fn freeze(&self, way: Way, links: Links) {
        self.shared.lock().frozen.push((way, links));
    }

    /// Forwards everything again.
    pub fn thaw(&self) {
        self.shared.lock().frozen.clear();
        self.shared.changed.notify_all();
    }

    /// New connections are closed at once, or accepted again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// How many links of the kind are open.
    pub fn open(&self, links: Links) -> usize {
        self.shared.links(links).len()
    }

    /// How many such frames have come so far: requests and pushes when they arrived at the fake, replies when
    /// they did, whatever became of them.
    pub fn count(&self, matches: impl Fn(&Frame) -> bool) -> usize {
        self.shared.lock().seen.iter().filter(|frame| matches(frame)).count()
    }

    /// Waits until at least `count` such frames have come.
    pub fn await_count(&self, what: &str, count: usize, matches: impl Fn(&Frame) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            let seen = state.seen.iter().filter(|frame| matches(frame)).count();
            if seen >= count {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{seen} of {count} came to the fake: {what}");
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for FakeL2 {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        self.cut(Links::All);
        // Wakes the accepting thread, so that it sees `closing`.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn forget(&self, rule: usize) {
        self.lock().rules.retain(|known| known.id != rule);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self, links: Links) -> Vec<Arc<Link>> {
        let state = self.lock();
        let wanted =
            |link: &Arc<Link>| state.open[link.id] && (links == Links::All || state.tracked[link.id]);
        state.links.iter().filter(|link| wanted(link)).cloned().collect()
    }

    fn relay(self: &Arc<Shared>, daemon: TcpStream) -> io::Result<()> {
        let up = TcpStream::connect(("127.0.0.1", self.upstream_port))?;
        up.set_nodelay(true)?;
        daemon.set_nodelay(true)?;
        let down = Down { stream: daemon.try_clone()?, pending: VecDeque::new(), counted: true };
        let replies = up.try_clone()?;
        let mut state = self.lock();
        let link = Arc::new(Link { id: state.links.len(), up, down: Mutex::new(down) });
        state.links.push(link.clone());
        state.tracked.push(false);
        state.open.push(true);
        drop(state);
        for way in [Way::Up, Way::Down] {
            let (shared, link) = (self.clone(), link.clone());
            let source = if way == Way::Up { daemon.try_clone()? } else { replies.try_clone()? };
            std::thread::spawn(move || {
                let _ = shared.pump(&link, way, source);
                link.cut();
                shared.lock().open[link.id] = false;
                shared.changed.notify_all();
            });
        }
        Ok(())
    }

    /// Forwards one direction, frame by frame.
    fn pump(&self, link: &Link, way: Way, mut source: TcpStream) -> io::Result<()> {
        let (mut buffer, mut piece) = (Vec::new(), vec![0; 65536]);
        loop {
            while let Some(len) = frame_len(&buffer) {
                let bytes: Vec<u8> = buffer.drain(..len).collect();
                match way {
                    Way::Up => self.request(link, bytes)?,
                    Way::Down => self.reply(link, bytes)?,
                }
            }
            match source.read(&mut piece)? {
                0 => return Ok(()),
                n => buffer.extend_from_slice(&piece[..n]),
            }
        }
    }

    fn request(&self, link: &Link, bytes: Vec<u8>) -> io::Result<()> {
        let args = Arc::new(arguments(&bytes));
        let named =
            |i: usize, name: &str| args.get(i).is_some_and(|arg| arg.eq_ignore_ascii_case(name.as_bytes()));
        if named(0, "CLIENT") && named(1, "TRACKING") && named(2, "ON") {
            self.lock().tracked[link.id] = true;
        }
        let verdict = self.judge(link, Side::Request, args.clone(), &bytes, Way::Up);
        let mut down = link.down();
        match verdict {
            Verdict::Pass { .. } => {
                down.counted &=
                    !["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR"].iter().any(|n| named(0, n));
                if down.counted {
                    down.pending.push_back(Pending { args, answer: None });
                }
                drop(down);
                (&link.up).write_all(&bytes)
            }
            Verdict::Answer(answer) => {
                down.pending.push_back(Pending { args, answer: Some(answer) });
                down.answer_what_is_due()
            }
            Verdict::Drop => Ok(()),
            Verdict::Cut => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn reply(&self, link: &Link, bytes: Vec<u8>) -> io::Result<()> {
        let side = if bytes[0] == b'>' { Side::Push } else { Side::Reply };
        let args = match side {
            Side::Reply => link.down().pending.front().map(|pending| pending.args.clone()),
            _ => None,
        };
        let verdict = self.judge(link, side, args.unwrap_or_default(), &bytes, Way::Down);
        let mut down = link.down();
        if side == Side::Reply {
            down.pending.pop_front();
        }
        match verdict {
            Verdict::Pass { before, after } => down.stream.write_all(&[before, bytes, after].concat())?,
            Verdict::Answer(answer) => down.stream.write_all(&answer)?,
            Verdict::Drop => {}
            Verdict::Cut => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        down.answer_what_is_due()
    }

    /// Notes the frame, asks the script, and waits while the direction is frozen.
    fn judge(&self, link: &Link, side: Side, args: Arc<Vec<Vec<u8>>>, bytes: &[u8], way: Way) -> Verdict {
        let mut state = self.lock();
        let tracked = state.tracked[link.id];
        let frame = Frame { side, link: link.id, tracked, args, bytes: bytes.to_vec(), at: Instant::now() };
        state.seen.push(frame.clone());
        self.changed.notify_all();
        let rule = state.rules.iter().find(|rule| (rule.matches)(&frame)).map(|rule| match &rule.action {
            Action::Hold(gate) => {
                let (verdict, decision) = channel();
                let _ = gate.send(Held { frame: frame.clone(), verdict });
                Err(decision)
            }
            Action::Answer(answer) => Ok(Verdict::Answer(answer.clone())),
            Action::Drop => Ok(Verdict::Drop),
        });
        drop(state);
        let verdict = match rule {
            None => PASS,
            Some(Ok(verdict)) => verdict,
            Some(Err(decision)) => decision.recv().unwrap_or(PASS),
        };
        let mut state = self.lock();
        let frozen = |state: &State| {
            let stands = |&(w, l): &(Way, Links)| w == way && (l == Links::All || tracked);
            !state.closing && state.frozen.iter().any(stands)
        };
        while frozen(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        verdict
    }
}

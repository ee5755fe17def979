//! What every test here stands on: Redis, the scripted relay, a daemon with two workers, and the words for reading,
//! warming and comparing. Owns the turn: tests that measure time run alone, the others beside each other.

use std::ops::Deref;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::support::fake_l2::{FakeL2, Frame, Gate, Held, Side};
use crate::support::{Client, Daemon, PATIENCE, Redis, encode};

static TURN: RwLock<()> = RwLock::new(());

/// How late a write made straight at Redis may be seen in these tests: a push's way, on a busy machine.
/// The measured bound of 50 ms stands in `everything.rs`, which runs alone.
pub const SOON: Duration = Duration::from_millis(250);

/// A read that took longer than this says nothing about ages: its thread, or the machine, was held up.
pub const HELD_UP: Duration = Duration::from_millis(25);

#[allow(dead_code)]
enum Turn {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

fn beside() -> Turn {
    Turn::Beside(TURN.read().unwrap_or_else(PoisonError::into_inner))
}

fn alone() -> Turn {
    Turn::Alone(TURN.write().unwrap_or_else(PoisonError::into_inner))
}

/// A daemon in front of a Redis. The fields are in the order in which they must end.
pub struct Setup {
    pub daemon: Daemon,
    pub redis: Redis,
    _turn: Turn,
}

impl Setup {
    pub fn new() -> Setup {
        Setup::over(beside(), Redis::start(), &[])
    }
    pub fn with(redis: &[&str], daemon: &[(&str, &str)]) -> Setup {
        Setup::over(beside(), Redis::start_with(redis), daemon)
    }
    /// For tests that measure time.
    pub fn alone() -> Setup {
        Setup::over(alone(), Redis::start(), &[])
    }
    fn over(turn: Turn, redis: Redis, settings: &[(&str, &str)]) -> Setup {
        let daemon = two_workers(&redis.url(), settings);
        Setup { daemon, redis, _turn: turn }
    }
    /// A client of Redis itself.
    pub fn direct(&self) -> Client {
        self.redis.client()
    }
    pub fn sessions(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| self.daemon.client()).collect()
    }
}

/// A daemon whose way to Redis is scripted.
pub struct Scripted {
    pub daemon: Daemon,
    pub fake: FakeL2,
    pub redis: Redis,
    _turn: Turn,
}

impl Scripted {
    pub fn new() -> Scripted {
        Scripted::over(beside(), &[])
    }
    pub fn with(settings: &[(&str, &str)]) -> Scripted {
        Scripted::over(beside(), settings)
    }
    pub fn alone(settings: &[(&str, &str)]) -> Scripted {
        Scripted::over(alone(), settings)
    }
    fn over(turn: Turn, settings: &[(&str, &str)]) -> Scripted {
        let redis = Redis::start();
        let fake = FakeL2::start(&redis);
        let daemon = two_workers(&fake.url(), settings);
        Scripted { daemon, fake, redis, _turn: turn }
    }
    /// A client of Redis itself, past the relay.
    pub fn direct(&self) -> Client {
        self.redis.client()
    }
    pub fn sessions(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| self.daemon.client()).collect()
    }

    /// Reads through the session until the read does not reach L2; the last reply.
    pub fn warm(&self, session: &mut Client, read: &[&str]) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            let before = self.requests(read);
            let reply = session.call(read);
            if self.requests(read) == before {
                return reply;
            }
            assert!(Instant::now() < end, "{read:?} is never answered from L1");
        }
    }

    /// How many such requests have reached L2.
    pub fn requests(&self, request: &[&str]) -> usize {
        let request = owned(request);
        self.fake.count(|frame| is_request(frame) && frame.is(&request))
    }

    /// Reads, on a session of its own, until one of the reads is a fill of which the gate has caught a frame.
    pub fn begin_fill(&self, read: &[&str], gate: &Gate) -> (Held, Asked) {
        let end = Instant::now() + PATIENCE;
        let mut asked = Asked { session: self.daemon.client(), unanswered: false };
        loop {
            if let Some(held) = gate.try_next() {
                return (held, asked);
            }
            if !asked.unanswered {
                asked.session.send(read);
            }
            // The reply may come before the gate was looked at: then there is nothing to wait for any more.
            asked.unanswered = frame_within(&mut asked.session, Duration::from_millis(1)).is_none();
            assert!(Instant::now() < end, "{read:?} never became a fill");
        }
    }
}

/// The session whose read began a fill.
pub struct Asked {
    session: Client,
    unanswered: bool,
}

impl Asked {
    /// Waits for the read's answer, where it has not come yet.
    pub fn answer(mut self) {
        if self.unanswered {
            let _ = self.session.try_read_frame();
        }
    }
}

pub fn is_request(frame: &Frame) -> bool {
    frame.side == Side::Request
}

/// A matcher for `hold` and its kin: this request, or the reply to it, on a tracked link.
pub fn tracked(request: &[&str]) -> impl Fn(&Frame) -> bool + Send + 'static {
    let request = owned(request);
    move |frame| frame.tracked && frame.is(&request)
}

pub fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| arg.to_string()).collect()
}

pub fn two_workers(url: &str, settings: &[(&str, &str)]) -> Daemon {
    Daemon::start_with(url, &[&[("MADCACHE_SERVER_WORKERS", "2")], settings].concat())
}

/// Reads through the session until L1 answered one; the last reply. Only while nothing else reads.
pub fn warm(daemon: &Daemon, session: &mut Client, read: &[&str]) -> Vec<u8> {
    let end = Instant::now() + PATIENCE;
    loop {
        let before = daemon.stat("l1_hits");
        let reply = session.call(read);
        if daemon.stat("l1_hits") > before {
            return reply;
        }
        assert!(Instant::now() < end, "{read:?} is never answered from L1");
    }
}

/// One reply, if it comes in time.
pub fn frame_within(client: &mut Client, time: Duration) -> Option<Vec<u8>> {
    let time = time.max(Duration::from_millis(1));
    client.stream().set_read_timeout(Some(time)).unwrap();
    let frame = client.try_read_frame();
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    match frame {
        Ok(frame) => Some(frame),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => None,
        Err(e) => panic!("the session ended: {e}"),
    }
}

/// The commands in one write, then their replies.
pub fn pipeline<A: AsRef<[u8]>>(client: &mut Client, commands: &[Vec<A>]) -> Vec<Vec<u8>> {
    let wire: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
    client.send_raw(&wire).expect("send");
    commands.iter().map(|_| client.read_frame()).collect()
}

/// A command written as words.
pub fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_string).collect()
}

pub fn ok(client: &mut Client, line: &str) {
    let reply = client.text(&words(line));
    assert!(!reply.starts_with('-'), "{line}: {reply}");
}

/// The integer in a bulk string, simple string or integer reply; nil is none.
pub fn number(frame: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(frame).expect("a number is text");
    let mut lines = text.split("\r\n");
    let first = lines.next().expect("a frame has a line");
    let digits = match first.as_bytes()[0] {
        b'$' if first == "$-1" => return None,
        b'_' => return None,
        b'$' => lines.next().expect("a bulk string has a body"),
        _ => &first[1..],
    };
    Some(digits.parse().unwrap_or_else(|_| panic!("not a number: {text:?}")))
}

/// The lines of a frame that are not headers: the elements of a flat array of bulk strings.
pub fn elements(frame: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(frame).into_owned();
    let header = |line: &&str| !line.starts_with(['*', '$', '>', '%', '~']) && !line.is_empty();
    text.split("\r\n").filter(header).map(str::to_string).collect()
}

pub fn show(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame).into_owned()
}

/// All sessions see `expected`, now and again (so that what the first look stored is looked at too).
pub fn all_see(sessions: &mut [Client], read: &[&str], expected: &[u8], after: &str) {
    for again in 0..3 {
        for (i, session) in sessions.iter_mut().enumerate() {
            let reply = session.call(read);
            assert_eq!(show(&reply), show(expected), "{after}: {read:?} by session {i}, look {again}");
        }
    }
}

/// All sessions see `expected` within `SOON` of `since`, and nothing else from then on.
pub fn all_see_soon(sessions: &mut [Client], read: &[&str], expected: &[u8], since: Instant, after: &str) {
    for session in sessions.iter_mut() {
        loop {
            let began = Instant::now();
            let reply = session.call(read);
            if reply == expected {
                break;
            }
            let age = began.saturating_duration_since(since);
            let told = began.elapsed() > HELD_UP || age < SOON;
            assert!(told, "{after}: {read:?} is {} and not {}, {age:?} later", show(&reply), show(expected));
        }
    }
    all_see(sessions, read, expected, after);
}

/// While pushes are held: what is answered at once is not old, and neither is what had to wait for the stuck links.
pub fn all_see_despite(pushes: Gate, sessions: &mut [Client], read: &[&str], expected: &[u8], after: &str) {
    sessions.iter_mut().for_each(|session| session.send(read));
    let end = Instant::now() + Duration::from_millis(30);
    let left = || end.saturating_duration_since(Instant::now());
    let early: Vec<_> = sessions.iter_mut().map(|session| frame_within(session, left())).collect();
    drop(pushes);
    for (nth, (session, early)) in sessions.iter_mut().zip(early).enumerate() {
        let reply = early.unwrap_or_else(|| session.read_frame());
        assert_eq!(show(&reply), show(expected), "{read:?} seen by session {nth} after {after}");
    }
}

/// Bulk string reply.
pub fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

pub const NIL: &[u8] = b"$-1\r\n";

/// Rounds in the suite, or the full number where `COHERENCE_ROUNDS=full`.
pub fn rounds(suite: usize, full: usize) -> usize {
    match std::env::var("COHERENCE_ROUNDS") {
        Ok(value) if value == "full" => full,
        _ => suite,
    }
}

/// Fails a test that would have passed because nothing came from L1.
pub struct HitsCount<'a> {
    daemon: &'a Daemon,
    before: u64,
}

impl<'a> HitsCount<'a> {
    pub fn from_now(daemon: &'a Daemon) -> HitsCount<'a> {
        HitsCount { daemon, before: daemon.stat("l1_hits") }
    }
    pub fn seen(&self) -> u64 {
        self.daemon.stat("l1_hits") - self.before
    }
    pub fn at_least(&self, hits: u64, of: impl std::fmt::Display) {
        let seen = self.seen();
        assert!(seen >= hits, "only {seen} of {of} came from L1: the test saw nothing");
    }
}

/// xorshift64*: the same numbers in every run.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// Sets a flag when it goes, so that the threads beside a failing one end.
pub struct Ends<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Deref for Ends<'_> {
    type Target = std::sync::atomic::AtomicBool;
    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

//! Clients of a daemon, and one that goes to the nodes by itself, which write and read while slots and masters change; and
//! the account of it.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::STALENESS_MAX;
use crate::support::cluster::RedisCluster;
use crate::support::{Client, Daemon, encode};

/// Keys that are read all the time; some are born later.
pub const HOT: usize = 24;
const TRANSACTIONS: usize = 16;

pub fn key(n: usize) -> String {
    format!("hot:{n}")
}

/// The numbers that a key held: when each was confirmed. Only who holds the lock writes the key.
#[derive(Default)]
struct History {
    number: u64,
    confirmed: Vec<(Instant, u64)>,
}

impl History {
    fn confirmed_before(&self, then: Instant) -> u64 {
        let at = self.confirmed.partition_point(|(at, _)| *at < then);
        at.checked_sub(1).map_or(0, |at| self.confirmed[at].1)
    }
}

pub struct Load {
    /// Not that of any other.
    number: usize,
    port: u16,
    /// The ports of the nodes.
    nodes: Vec<u16>,
    over: AtomicBool,
    writing: [Mutex<()>; HOT],
    histories: [Mutex<History>; HOT],
    reads: AtomicU64,
    writes: AtomicU64,
    /// Tokens that were pushed: whether that was confirmed.
    tokens: Mutex<HashMap<String, bool>>,
    faults: Mutex<Vec<String>>,
}

/// What no client of a plain Redis ever sees.
const ASTRAY: [&str; 4] = ["-MOVED", "-ASK", "-CROSSSLOT", "-TRYAGAIN"];

impl Load {
    pub fn run(cluster: &RedisCluster, daemon: &Daemon, disturb: impl FnOnce(&Load)) -> Load {
        Load::run_with(cluster.peers(), daemon, disturb)
    }

    /// Runs while `disturb` does its work. `nodes`: the ports of all nodes.
    pub fn run_with(nodes: Vec<u16>, daemon: &Daemon, disturb: impl FnOnce(&Load)) -> Load {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let load = Load {
            number: NEXT.fetch_add(1, Relaxed),
            port: daemon.port,
            nodes,
            over: AtomicBool::default(),
            writing: Default::default(),
            histories: Default::default(),
            reads: AtomicU64::default(),
            writes: AtomicU64::default(),
            tokens: Mutex::default(),
            faults: Mutex::default(),
        };
        std::thread::scope(|scope| {
            let load = &load;
            scope.spawn(move || load.write_here());
            scope.spawn(move || load.write_there());
            (0..2).for_each(|_| drop(scope.spawn(move || load.read())));
            scope.spawn(move || load.transact());
            let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(load)));
            load.over.store(true, Relaxed);
            if let Err(panic) = disturbed {
                eprintln!("{:?}", load.faults.lock().unwrap());
                std::panic::resume_unwind(panic);
            }
        });
        load
    }

    /// Waits until so much time has been loaded further, and as many reads as a hit takes.
    pub fn go_on_for(&self, time: Duration) {
        let (begin, reads) = (Instant::now(), self.reads.load(Relaxed));
        crate::support::eventually("clients read and write on", || {
            begin.elapsed() >= time && self.reads.load(Relaxed) > reads
        });
    }

    fn fault(&self, text: String) {
        self.faults.lock().unwrap().push(text);
    }

    fn each(&self, mut step: impl FnMut(u64)) {
        let mut n = 0;
        while !self.over.load(Relaxed) {
            step(n);
            n += 1;
        }
    }

    /// Writes through the daemon; a replica confirms; the session reads it back.
    fn write_here(&self) {
        let mut daemon = Line::to(self.port);
        self.each(|n| {
            let at = (n as usize * 7) % HOT;
            let _only = self.writing[at].lock().unwrap();
            let number = self.next(at);
            let token = format!("here:{}:{n}", self.number);
            let set = daemon.ask(&["SET", &key(at), &number.to_string()]);
            self.look_at(&set);
            if set.as_deref() == Some("+OK") {
                let read = daemon.ask(&["GET", &key(at)]);
                self.look_at(&read);
                if read.as_ref().is_some_and(|read| read.starts_with('$') && number_of(read) < number) {
                    self.fault(format!("{} is {read:?} behind its own write of {number}", key(at)));
                }
            }
            self.confirm(&mut daemon, at, number, set);
            let pushed = daemon.ask(&["RPUSH", &format!("tokens:{}", n % 16), &token]);
            self.look_at(&pushed);
            let said = pushed.is_some_and(|reply| reply.starts_with(':'));
            self.tokens.lock().unwrap().insert(token, said);
        });
    }

    /// Writes at the nodes.
    fn write_there(&self) {
        let mut nodes = Nodes::new(&self.nodes);
        self.each(|n| {
            let at = (n as usize * 5 + 1) % HOT;
            let _only = self.writing[at].lock().unwrap();
            let number = self.next(at);
            if nodes.set_and_wait(&key(at), &number.to_string()) {
                self.note(at, number);
            }
        });
    }

    fn next(&self, at: usize) -> u64 {
        let mut history = self.histories[at].lock().unwrap();
        history.number += 1;
        history.number
    }

    fn note(&self, at: usize, number: u64) {
        self.writes.fetch_add(1, Relaxed);
        self.histories[at].lock().unwrap().confirmed.push((Instant::now(), number));
    }

    fn confirm(&self, daemon: &mut Line, at: usize, number: u64, set: Option<String>) {
        if set.as_deref() != Some("+OK") {
            return;
        }
        let confirmed = daemon.ask(&["WAIT", "1", "300"]);
        self.look_at(&confirmed);
        if confirmed.is_some_and(|reply| reply != ":0" && reply.starts_with(':')) {
            self.note(at, number);
        }
    }

    fn look_at(&self, reply: &Option<String>) {
        if let Some(reply) = reply
            && ASTRAY.iter().any(|word| reply.starts_with(word))
        {
            self.fault(format!("a client was told {reply}"));
        }
    }

    fn read(&self) {
        let mut daemon = Line::to(self.port);
        self.each(|n| {
            let at = (n as usize * 11) % HOT;
            let began = Instant::now();
            let reply = daemon.ask(&["GET", &key(at)]);
            self.look_at(&reply);
            let Some(reply) = reply.filter(|reply| reply.starts_with('$')) else { return };
            self.reads.fetch_add(1, Relaxed);
            let Some(then) = began.checked_sub(STALENESS_MAX) else { return };
            let least = self.histories[at].lock().unwrap().confirmed_before(then);
            if number_of(&reply) < least {
                self.fault(format!("{} is {reply}, and {least} was written long before", key(at)));
            }
        });
    }

    /// Two counters that are one slot's, and only counted together.
    fn transact(&self) {
        let mut daemon = Line::to(self.port);
        self.each(|n| {
            let tag = n as usize % TRANSACTIONS;
            let both = [format!("{{hot:{tag}}}a"), format!("{{hot:{tag}}}b")];
            let block: Vec<u8> = [&["MULTI"][..], &["INCR", &both[0]], &["INCR", &both[1]], &["EXEC"]]
                .iter()
                .flat_map(|words| encode(words))
                .collect();
            let Some(replies) = daemon.ask_all(&block, 4) else { return };
            replies.iter().for_each(|reply| self.look_at(&Some(reply.clone())));
            let counts: Vec<&str> = replies[3].split("\r\n").skip(1).collect();
            if replies[3].starts_with('*') && counts[0] != counts[1] {
                self.fault(format!("counted apart: {counts:?}"));
            }
        });
    }

    /// Nothing was wrong, and what was confirmed is there, once.
    pub fn expect_sound(&self, cluster: &RedisCluster, daemon: &Daemon) {
        let faults = self.faults.lock().unwrap();
        assert!(faults.is_empty(), "{} faults: {:?}", faults.len(), &faults[..faults.len().min(8)]);
        assert!(self.reads.load(Relaxed) > 100 && self.writes.load(Relaxed) > 20, "there was no load");
        cluster.settle();
        let mut client = daemon.client();
        let mut there: HashMap<String, usize> = HashMap::new();
        for list in 0..16 {
            let reply = client.text(&["LRANGE", &format!("tokens:{list}"), "0", "-1"]);
            for token in reply.split("\r\n").filter(|word| word.starts_with("here:")) {
                *there.entry(token.to_owned()).or_default() += 1;
            }
        }
        let twice: Vec<_> = there.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "pushed twice: {twice:?}");
        for at in 0..HOT {
            let least = self.histories[at].lock().unwrap().confirmed_before(Instant::now());
            let now = client.text(&["GET", &key(at)]);
            assert!(number_of(&now) >= least, "{} is {now}, and {least} was confirmed", key(at));
        }
        eprintln!("{} reads, {} confirmed writes", self.reads.load(Relaxed), self.writes.load(Relaxed));
    }
}

fn number_of(reply: &str) -> u64 {
    reply.trim_start_matches('$').parse().unwrap_or(0)
}

/// A connection that is opened again when it was lost.
struct Line {
    port: u16,
    client: Option<Client>,
}

impl Line {
    fn to(port: u16) -> Line {
        Line { port, client: None }
    }

    fn ask(&mut self, words: &[&str]) -> Option<String> {
        self.ask_all(&encode(words), 1).map(|mut replies| replies.remove(0))
    }

    /// `None`: the connection was lost, and what became of the requests is not known.
    fn ask_all(&mut self, bytes: &[u8], count: usize) -> Option<Vec<String>> {
        let replies = self.try_ask(bytes, count);
        if replies.is_err() {
            self.client = None;
            std::thread::sleep(Duration::from_millis(10));
        }
        replies.ok()
    }

    fn try_ask(&mut self, bytes: &[u8], count: usize) -> io::Result<Vec<String>> {
        let client = match &mut self.client {
            Some(client) => client,
            None => {
                let stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
                self.client.insert(Client::over(stream))
            }
        };
        client.send_raw(bytes)?;
        (0..count).map(|_| client.try_read_frame().map(|frame| text_of(&frame))).collect()
    }
}

/// Without the length of a bulk string.
fn text_of(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame).trim_end().to_owned();
    match text.strip_prefix('$').and_then(|rest| rest.split_once("\r\n")) {
        Some((_, bulk)) => format!("${bulk}"),
        None => text,
    }
}

/// A client that follows redirections by itself.
struct Nodes {
    lines: HashMap<u16, Line>,
    ports: Vec<u16>,
    known: HashMap<String, u16>,
}

impl Nodes {
    fn new(ports: &[u16]) -> Nodes {
        let lines = ports.iter().map(|&port| (port, Line::to(port))).collect();
        Nodes { lines, ports: ports.to_vec(), known: HashMap::new() }
    }

    /// Whether a replica has it.
    fn set_and_wait(&mut self, key: &str, value: &str) -> bool {
        let mut port = self.known.get(key).copied().unwrap_or(self.ports[0]);
        let mut asking = false;
        for _ in 0..16 {
            let Some(line) = self.lines.get_mut(&port) else { return false };
            let mut bytes = if asking { encode(&["ASKING"]) } else { Vec::new() };
            bytes.extend(encode(&["SET", key, value]));
            let Some(reply) = line.ask_all(&bytes, 1 + usize::from(asking)).and_then(|mut all| all.pop())
            else {
                // Another node may know who serves the slot now.
                let at = self.ports.iter().position(|other| *other == port).unwrap_or(0);
                self.known.insert(key.to_owned(), self.ports[(at + 1) % self.ports.len()]);
                return false;
            };
            if reply == "+OK" {
                self.known.insert(key.to_owned(), port);
                let replicas = line.ask(&["WAIT", "1", "300"]);
                return replicas.is_some_and(|reply| reply.starts_with(':') && reply != ":0");
            }
            let Some(to) = reply.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) else {
                std::thread::sleep(Duration::from_millis(10));
                return false;
            };
            asking = reply.starts_with("-ASK");
            port = to;
        }
        false
    }
}

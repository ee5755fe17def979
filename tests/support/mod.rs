//! What integration tests start and talk to: a real redis-server, the daemon, and a raw RESP client.
//! Everything started here listens on a free loopback port, lives in a temporary directory and is ended on drop.
#![allow(dead_code)]

pub mod cluster;
pub mod fake_l2;
pub mod fenced;
pub mod scripts;
pub mod sentinel;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody listens on at this moment, and that no other caller in this process gets. It lies below those that
/// the system gives to outgoing connections, and the search begins anywhere: other test programs run at the same time.
pub fn free_port() -> u16 {
    const FIRST: usize = 10_000;
    const COUNT: usize = 22_000;
    static START: OnceLock<usize> = OnceLock::new();
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let start = START.get_or_init(|| RandomState::new().hash_one(std::process::id()) as usize % COUNT);
    for _ in 0..COUNT {
        let port = (FIRST + (start + TAKEN.fetch_add(1, Relaxed)) % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Polls until the condition holds; fails the test with `what` after `PATIENCE`.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A child process that is killed (by its own id) and reaped on drop.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        Process { child: command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}")) }
    }
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.pid());
    }
    /// Stops it, and waits until none of its threads runs any more; `signal("CONT")` lets it go on.
    pub fn stop(&self) {
        self.signal("STOP");
        eventually("the process has stopped", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            let mut statuses =
                threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")));
            statuses.all(|status| status.is_ok_and(|status| status.contains("\nState:\tT (stopped)")))
        });
    }
    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "process {} did not end", self.pid());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    /// The memory it holds now, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }
    /// The most memory that it ever held, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }
    fn memory_bytes(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).expect(what);
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The configuration file of a `Redis` that has one, in its directory.
pub const CONFIG_FILE: &str = "redis.conf";

/// A redis-server without persistence, in a directory of its own.
pub struct Redis {
    pub port: u16,
    pub process: Process,
    args: Vec<String>,
    dir: tempfile::TempDir,
    sentinel: OnceLock<sentinel::Sentinel>,
}

impl Redis {
    pub fn start() -> Redis {
        Redis::start_with(&[])
    }

    /// With further `--option value` arguments.
    pub fn start_with(args: &[&str]) -> Redis {
        Redis::start_in(tempfile::tempdir().unwrap(), args)
    }

    /// With a configuration file of these lines, which CONFIG REWRITE can write.
    pub fn start_from_file(lines: &str) -> Redis {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG_FILE), lines).unwrap();
        Redis::start_in(dir, &[])
    }

    fn start_in(dir: tempfile::TempDir, args: &[&str]) -> Redis {
        let args: Vec<String> = args.iter().map(|s| s.to_string()).collect();
        for _ in 0..20 {
            let port = free_port();
            if let Some(process) = Redis::launch(port, dir.path(), &args) {
                return Redis { port, process, args, dir, sentinel: OnceLock::new() };
            }
        }
        panic!("redis-server did not start");
    }

    fn launch(port: u16, dir: &std::path::Path, args: &[String]) -> Option<Process> {
        let file = Some(dir.join(CONFIG_FILE)).filter(|file| file.exists());
        let mut process = Process::spawn(
            Command::new("redis-server")
                .args(file)
                .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
                .args(["--bind", "127.0.0.1", "--enable-debug-command", "yes"])
                .args(args)
                .current_dir(dir)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let end = Instant::now() + PATIENCE;
        while process.running() && Instant::now() < end {
            match process_behind(port) {
                Behind::Nobody => {}
                Behind::Process(pid) if pid != process.pid() => return None,
                Behind::Process(_) | Behind::Unknown => return Some(process),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Where it runs and keeps its files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How a daemon finds it: with SENTINEL_BEFORE_REDIS in the environment by a sentinel that is started for that.
    pub fn url_for_daemon(&self) -> String {
        match std::env::var_os("SENTINEL_BEFORE_REDIS") {
            Some(_) => self.sentinel.get_or_init(|| sentinel::Sentinel::start(self.port, 1, "")).url(),
            None => self.url(),
        }
    }

    /// Starts it again on the same port after it was killed; only what it persisted is still there.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process =
            Redis::launch(self.port, self.dir.path(), &self.args).expect("redis-server starts again");
    }
}

/// Which Redis answers on a port.
enum Behind {
    Nobody,
    Process(u32),
    /// It does not say before AUTH.
    Unknown,
}

/// Another program may have taken the port just before: its Redis must not be taken for one's own.
fn process_behind(port: u16) -> Behind {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return Behind::Nobody };
    let mut client = Client::over(stream);
    let asked = client.send_raw(&encode(&["INFO", "server"]));
    let Ok(info) = asked.and_then(|()| client.try_read_frame()) else { return Behind::Nobody };
    let info = String::from_utf8_lossy(&info);
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok());
    pid.map_or(Behind::Unknown, Behind::Process)
}

/// Whether something on the port answers PING (with whatever: an error is an answer too).
fn ping(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut client = Client::over(stream);
    client.send_raw(b"PING\r\n").is_ok() && client.try_read_frame().is_ok()
}

/// The daemon under test.
pub struct Daemon {
    pub port: u16,
    pub admin_port: u16,
    pub process: Process,
    stderr: PathBuf,
    _dir: tempfile::TempDir,
}

impl Daemon {
    /// In front of `redis`, with an empty deny list.
    pub fn start(redis: &Redis) -> Daemon {
        Daemon::start_with(&redis.url_for_daemon(), &[])
    }

    /// With `MADCACHE_*` settings, e.g. `("MADCACHE_CACHE_L1", "false")`.
    pub fn start_with(url: &str, settings: &[(&str, &str)]) -> Daemon {
        Daemon::spawn(url, settings).ready()
    }

    /// Waits until it answers.
    pub fn ready(mut self) -> Daemon {
        let end = Instant::now() + PATIENCE;
        while !ping(self.port) {
            assert!(self.process.running(), "the daemon ended: {}", self.stderr());
            assert!(Instant::now() < end, "the daemon does not answer: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Starts it without waiting for an answer.
    pub fn spawn(url: &str, settings: &[(&str, &str)]) -> Daemon {
        Daemon::spawn_as(url, settings, |_| {})
    }

    /// The same, with the command changed at last: further arguments, or a setting taken away.
    pub fn spawn_as(url: &str, settings: &[(&str, &str)], change: impl FnOnce(&mut Command)) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let stderr = dir.path().join("stderr");
        let (port, admin_port) = (free_port(), free_port());
        let binary = std::env::var("MADCACHE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_madcache").into());
        let mut command = Command::new(binary);
        // The tests' own variables are no settings: the daemon would refuse them.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MADCACHE_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--port", &port.to_string(), "--admin-bind", &format!("127.0.0.1:{admin_port}")])
            .env_remove("REDIS_URL")
            .env("MADCACHE_UPSTREAM_URL", url)
            .env("MADCACHE_SERVER_DENY_COMMANDS", "")
            .envs(settings.iter().copied())
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&stderr).unwrap());
        change(&mut command);
        let process = Process::spawn(&mut command);
        Daemon { port, admin_port, process, stderr, _dir: dir }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// A number from `INFO madcache`, e.g. `l1_hits`.
    pub fn stat(&self, name: &str) -> u64 {
        let info = self.client().text(&["INFO", "madcache"]);
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
            .unwrap_or_else(|| panic!("INFO madcache has no {name}: {info}"))
    }

    /// GET of the admin server: the status and the body.
    pub fn http(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default();
        (status, body)
    }
}

/// A client that shows the very bytes of each reply.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        Client::over(TcpStream::connect(("127.0.0.1", port)).expect("connect"))
    }

    pub fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_raw(&encode(args)).expect("send");
    }

    /// Sends one command and reads one frame.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(args);
        self.read_frame()
    }

    /// The reply as lossy text: of a bulk string its payload, otherwise the frame as it is.
    pub fn text<A: AsRef<[u8]>>(&mut self, args: &[A]) -> String {
        text_of(&self.call(args))
    }

    /// One whole frame, of any RESP version, as bytes.
    pub fn read_frame(&mut self) -> Vec<u8> {
        self.try_read_frame().expect("read a reply")
    }

    pub fn try_read_frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(len) = frame_len(&self.buffer) {
                return Ok(self.buffer.drain(..len).collect());
            }
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// So many bytes, whatever they mean.
    pub fn read_bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes: Vec<u8> = self.buffer.drain(..len.min(self.buffer.len())).collect();
        let had = bytes.len();
        bytes.resize(len, 0);
        self.stream.read_exact(&mut bytes[had..])?;
        Ok(bytes)
    }

    /// Everything that arrives until the peer closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.buffer);
        let _ = self.stream.read_to_end(&mut all);
        all
    }

    /// Fails if anything arrives within the time.
    pub fn expect_silence(&mut self, time: Duration) {
        assert!(self.buffer.is_empty(), "unexpected {:?}", String::from_utf8_lossy(&self.buffer));
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut piece = [0; 4096];
        let read = self.stream.read(&mut piece);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if let Ok(n) = read {
            panic!("expected silence, read {:?}", String::from_utf8_lossy(&piece[..n]));
        }
    }
}

/// A reply as lossy text: of a bulk string its payload, otherwise the frame as it is.
pub fn text_of(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame).into_owned();
    match frame[0] {
        b'$' | b'=' if !frame.starts_with(b"$-1") => {
            text.split_once("\r\n").unwrap().1.trim_end_matches("\r\n").to_string()
        }
        _ => text.trim_end_matches("\r\n").to_string(),
    }
}

/// The array request of these arguments.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        wire.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        wire.extend_from_slice(arg.as_ref());
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// The length of the first frame, if it is whole. Written apart from the daemon's scanner on purpose.
pub fn frame_len(buf: &[u8]) -> Option<usize> {
    let line_end = buf.windows(2).position(|w| w == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&buf[1..line_end - 2]).ok()?.parse::<i64>().ok();
    let nested = |count: i64| {
        let mut at = line_end;
        for _ in 0..count {
            at += frame_len(&buf[at..])?;
        }
        Some(at)
    };
    match buf[0] {
        b'$' | b'=' | b'!' => match number()? {
            n if n < 0 => Some(line_end),
            n => Some(line_end + n as usize + 2).filter(|&len| len <= buf.len()),
        },
        b'*' | b'~' | b'>' => nested(number()?),
        b'%' => nested(number()? * 2),
        b'|' => {
            let attributes = nested(number()? * 2)?;
            Some(attributes + frame_len(&buf[attributes..])?)
        }
        _ => Some(line_end),
    }
}

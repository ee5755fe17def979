//! Sentinels: real ones, and one that says what a test tells it to.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use madcache::resp::{Value, parse};

use super::{Client, PATIENCE, Process, Redis, encode, free_port, ping};

pub const SERVICE: &str = "test-state";
/// How long elections may take on a busy machine: one that fails is repeated twelve seconds later.
const PATIENCE_WITH_ELECTIONS: Duration = Duration::from_secs(60);

/// Polls until the condition holds that an election brings about.
pub fn eventually_elected(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE_WITH_ELECTIONS;
    while !condition() {
        assert!(Instant::now() < end, "still not so after {PATIENCE_WITH_ELECTIONS:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A real redis-sentinel, in a directory of its own.
pub struct Sentinel {
    pub port: u16,
    pub process: Process,
    password: Option<String>,
    dir: tempfile::TempDir,
}

impl Sentinel {
    /// One that watches the master on this port; `quorum` of them find it down. `lines` end its configuration.
    pub fn start(master_port: u16, quorum: usize, lines: &str) -> Sentinel {
        Sentinel::start_at(free_port(), master_port, quorum, lines)
    }

    pub fn start_at(port: u16, master_port: u16, quorum: usize, lines: &str) -> Sentinel {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {master_port} {quorum}\n\
             sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 6000\n\
             sentinel parallel-syncs {SERVICE} 2\n{lines}\n"
        );
        std::fs::write(dir.path().join("sentinel.conf"), text).unwrap();
        let password = lines.lines().find_map(|line| line.strip_prefix("requirepass ")).map(str::to_owned);
        let process = launch(&dir);
        let mut sentinel = Sentinel { port, process, password, dir };
        sentinel.ready();
        sentinel
    }

    fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !ping(self.port) {
            assert!(self.process.running() && Instant::now() < end, "redis-sentinel did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        // They tell each other more often what they know, so that nobody waits for that.
        self.client().call(&["SENTINEL", "DEBUG", "publish-period", "400"]);
    }

    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/{SERVICE}", self.port)
    }

    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.port);
        if let Some(password) = &self.password {
            assert_eq!(client.text(&["AUTH", password]), "+OK");
        }
        client
    }

    /// The reply to SENTINEL with these words.
    pub fn ask(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = ["SENTINEL"].into_iter().chain(words.iter().copied()).collect();
        parse(&self.client().call(&words)).expect("a sound reply")
    }

    pub fn master_port(&self) -> Option<u16> {
        text(self.ask(&["GET-MASTER-ADDR-BY-NAME", SERVICE]).elements()?.get(1)?)?.parse().ok()
    }

    /// A field of what it knows of the master.
    pub fn field(&self, name: &str) -> String {
        self.ask(&["MASTER", SERVICE]).field(name).and_then(text).unwrap_or_default()
    }
}

fn launch(dir: &tempfile::TempDir) -> Process {
    Process::spawn(
        // Not every system has redis-sentinel, which is the same program, where it has redis-server.
        Command::new("redis-server")
            .args(["sentinel.conf", "--sentinel"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
}

pub fn text(value: &Value) -> Option<String> {
    value.text().map(|text| String::from_utf8_lossy(text).into_owned())
}

/// What a `FakeSentinel` says.
#[derive(Debug, Clone)]
pub struct Word {
    pub master_port: u16,
    pub epoch: u64,
    /// The step of a failover that it is at.
    pub step: Option<&'static str>,
}

#[derive(Default)]
struct Told {
    word: Option<Word>,
    subscribers: Vec<TcpStream>,
}

/// A sentinel that says what it is told to, and publishes it when that changes. It knows no others.
pub struct FakeSentinel {
    pub port: u16,
    told: Arc<Mutex<Told>>,
}

impl FakeSentinel {
    pub fn naming(redis: &Redis, epoch: u64) -> FakeSentinel {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let told: Arc<Mutex<Told>> = Arc::default();
        let fake = FakeSentinel { port, told: told.clone() };
        fake.say(redis, epoch, None);
        // It ends with the test's process; a daemon under test is gone before.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let told = told.clone();
                std::thread::spawn(move || serve(stream, port, &told));
            }
        });
        fake
    }

    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/{SERVICE}", self.port)
    }

    pub fn say(&self, redis: &Redis, epoch: u64, step: Option<&'static str>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.word = Some(Word { master_port: redis.port, epoch, step });
        let message = encode(&["pmessage", "*", "+switch-master", SERVICE]);
        told.subscribers.retain_mut(|stream| stream.write_all(&message).is_ok());
    }
}

fn serve(stream: TcpStream, port: u16, told: &Mutex<Told>) -> Option<()> {
    let mut client = Client::over(stream.try_clone().ok()?);
    client.stream().set_read_timeout(None).ok()?;
    loop {
        let request = parse(&client.try_read_frame().ok()?)?;
        let words: Vec<String> = request.elements()?.iter().filter_map(text).collect();
        let name = words.iter().take(2).map(|word| word.to_ascii_uppercase()).collect::<Vec<_>>().join(" ");
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let word = told.word.clone()?;
        let answer = match name.as_str() {
            _ if name.starts_with("PSUBSCRIBE") => {
                told.subscribers.push(stream.try_clone().ok()?);
                let confirm = |(at, channel): (usize, &String)| {
                    format!("*3\r\n$10\r\npsubscribe\r\n${}\r\n{channel}\r\n:{}\r\n", channel.len(), at + 1)
                        .into_bytes()
                };
                words[1..].iter().enumerate().flat_map(confirm).collect()
            }
            "SENTINEL MYID" => encode(&[&format!("id{port}")])[4..].to_vec(),
            "SENTINEL MASTER" => {
                let epoch = word.epoch.to_string();
                let mut fields = vec!["name", SERVICE, "config-epoch", &epoch];
                fields.extend(word.step.iter().flat_map(|step| ["failover-state", step]));
                encode(&fields)
            }
            "SENTINEL GET-MASTER-ADDR-BY-NAME" => encode(&["127.0.0.1", &word.master_port.to_string()]),
            "SENTINEL SENTINELS" => b"*0\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        };
        drop(told);
        client.send_raw(&answer).ok()?;
    }
}

/// A master with replicas, and three sentinels that watch them.
pub struct Service {
    pub nodes: Vec<Redis>,
    pub sentinels: Vec<Sentinel>,
}

impl Service {
    /// One master, two replicas.
    pub fn start() -> Service {
        let master = Redis::start_from_file("repl-diskless-sync-delay 0\n");
        let lines = format!("repl-diskless-sync-delay 0\nreplicaof 127.0.0.1 {}\n", master.port);
        let replicas: Vec<Redis> = (0..2).map(|_| Redis::start_from_file(&lines)).collect();
        let nodes: Vec<Redis> = [master].into_iter().chain(replicas).collect();
        let mut service = Service { nodes, sentinels: Vec::new() };
        // A sentinel looks for replicas at its start, and then only ten seconds later.
        super::eventually("two replicas", || service.replicas(0) == 2);
        service.sentinels = (0..3).map(|_| Sentinel::start(service.nodes[0].port, 2, "")).collect();
        eventually_elected("the sentinels know each other", || {
            service.sentinels.iter().all(Sentinel::knows_all)
        });
        service
    }

    fn replicas(&self, at: usize) -> usize {
        let role = parse(&self.nodes[at].client().call(&["ROLE"]));
        let replicas = role.as_ref().and_then(|role| role.elements()?.get(2)?.elements());
        replicas.map_or(0, <[Value]>::len)
    }

    pub fn url(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis-sentinel://{}/{SERVICE}", addresses.join(","))
    }

    /// The number of the node that this sentinel names.
    pub fn named_by(&self, sentinel: usize) -> Option<usize> {
        let port = self.sentinels[sentinel].master_port()?;
        self.nodes.iter().position(|node| node.port == port)
    }

    /// The number of the node that all sentinels name.
    pub fn named(&self) -> Option<usize> {
        let first = self.named_by(0)?;
        (1..self.sentinels.len()).all(|sentinel| self.named_by(sentinel) == Some(first)).then_some(first)
    }

    /// Waits until there is one master that all sentinels name, whom the others follow.
    pub fn settled(&self) -> usize {
        let mut found = None;
        eventually_elected("one master with two replicas", || {
            found = self.named().filter(|at| self.replicas(*at) == 2);
            found.is_some() && self.sentinels.iter().all(Sentinel::knows_all)
        });
        found.unwrap()
    }
}

impl Sentinel {
    fn knows_all(&self) -> bool {
        self.field("flags") == "master"
            && self.field("num-slaves") == "2"
            && self.field("num-other-sentinels") == "2"
    }
}

/// What a node says of itself: its role, and how often it has run each of these commands.
pub fn role_and_calls(client: &mut Client, commands: &[&str]) -> io::Result<(String, u64)> {
    let block = [&["MULTI"][..], &["ROLE"], &["INFO", "commandstats"], &["EXEC"]];
    client.send_raw(&block.map(encode).concat())?;
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.push(client.try_read_frame()?);
    }
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let reply = parse(&frames[3]).ok_or_else(broken)?;
    let [role, stats] = reply.elements().ok_or_else(broken)? else { return Err(broken()) };
    let role = role.elements().and_then(|role| text(&role[0])).ok_or_else(broken)?;
    let stats = text(stats).ok_or_else(broken)?;
    let calls = |command: &&str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok((role, commands.iter().map(calls).sum()))
}

//! Locks over several independent masters: real Redis servers that are killed, restarted with and without what they had,
//! stopped and let go on, under real daemons.
#[path = "redlock/chaos.rs"]
mod chaos;
#[path = "redlock/commands.rs"]
mod commands;
#[path = "redlock/failures.rs"]
mod failures;
#[path = "redlock/kept_up.rs"]
mod kept_up;
#[path = "redlock/lost.rs"]
mod lost;
#[path = "redlock/start.rs"]
mod start;
mod support;
#[path = "shared_state/transcript.rs"]
#[allow(dead_code)]
mod transcript;
#[path = "shared_state/transcripts.rs"]
#[allow(dead_code)]
mod transcripts;

use support::{Client, Daemon, Redis, eventually};

/// What a master knows of its membership.
const MEMBER: &str = "x:lock:member";
const KEEPS_ALL: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Several masters of locks.
struct Masters(Vec<Redis>);

impl Masters {
    /// They count from the beginning.
    fn start(count: usize) -> Masters {
        Masters::start_with(count, &[])
    }

    fn start_with(count: usize, arguments: &[&str]) -> Masters {
        let masters = Masters::new_ones(count, arguments);
        masters.0.iter().for_each(season);
        masters
    }

    /// They count only after their probation.
    fn new_ones(count: usize, arguments: &[&str]) -> Masters {
        Masters((0..count).map(|_| Redis::start_with(arguments)).collect())
    }

    /// The settings of a daemon that keeps its locks there.
    fn settings(&self, lines: &str) -> String {
        let urls: Vec<String> = self.0.iter().map(Redis::url).collect();
        // What a busy machine may take to answer.
        let patience = if lines.contains("redlock_timeout_ms") { "" } else { "redlock_timeout_ms = 400" };
        format!("[lock]\nredlock = {urls:?}\n{patience}\n{lines}\n")
    }

    /// A daemon with an engine in the place of the cache's Redis.
    fn daemon(&self, lines: &str) -> Daemon {
        self.daemon_before("", lines)
    }

    fn daemon_before(&self, url: &str, lines: &str) -> Daemon {
        let file = self.0[0].dir().join(format!("madcache-{}.toml", support::free_port()));
        std::fs::write(&file, self.settings(lines)).unwrap();
        Daemon::spawn_as(url, &[], |command| {
            command.arg("--config").arg(&file);
        })
        .ready()
    }

    fn pause(&self, which: &[usize]) {
        which.iter().for_each(|at| self.0[*at].process.signal("STOP"));
    }

    fn wake(&self, which: &[usize]) {
        which.iter().for_each(|at| self.0[*at].process.signal("CONT"));
    }

    fn kill(&mut self, which: &[usize]) {
        which.iter().for_each(|at| self.0[*at].process.kill());
    }

    fn restart(&mut self, which: &[usize]) {
        which.iter().for_each(|at| self.0[*at].restart());
    }

    /// How many hold the lock with this token.
    fn holding(&self, name: &str, token: &str) -> usize {
        let key = format!("lock:{name}");
        self.0.iter().filter(|master| master.client().text(&["GET", &key]) == token).count()
    }
}

/// A master that counts already, with nothing to remember.
fn season(master: &Redis) {
    let mut client = master.client();
    let info = client.text(&["INFO", "server"]);
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim().to_owned();
    let fields = ["run_id", &run_id, "since", "1", "window", "1", "ready", "1", "floor", "0"];
    client.call(&[&["HSET", MEMBER][..], &fields].concat());
}

/// Waits until so many masters count for a daemon.
fn until_counting(daemon: &Daemon, count: u64) {
    eventually("so many masters count", || daemon.stat("lock_masters") == count);
}

/// Waits until a master says of itself that it counts.
fn until_member(masters: &Masters, at: usize) {
    let mut client = masters.0[at].client();
    let info = client.text(&["INFO", "server"]);
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim().to_owned();
    eventually("it counts again", || {
        client.text(&["HGET", MEMBER, "run_id"]) == run_id && client.text(&["HGET", MEMBER, "ready"]) == "1"
    });
}

/// A client that speaks RESP3.
fn resp3(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    assert!(client.call(&["HELLO", "3"]).starts_with(b"%"));
    client
}

fn send(client: &mut Client, line: &str) {
    client.send(&line.split(' ').collect::<Vec<_>>());
}

/// The reply to a line as short text, see `transcript`.
fn shown(client: &mut Client, line: &str) -> String {
    send(client, line);
    transcript::shown(&client.read_frame())
}

/// The elements of a reply in RESP2 as short texts.
fn fields(client: &mut Client, line: &str) -> Vec<String> {
    let text = shown(client, line);
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.unwrap_or_else(|| panic!("{line}: {text}"));
    inner.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect()
}

/// The fence of a grant; the lock must be had.
fn granted(client: &mut Client, line: &str) -> u64 {
    let fields = fields(client, line);
    assert_eq!(fields[0], "1", "{line}: {fields:?}");
    fields[2].parse().unwrap()
}

/// As long as too few masters answer or count, nobody is granted anything; then the fence of the grant.
fn granted_at_last(client: &mut Client, line: &str) -> u64 {
    let mut fence = None;
    eventually("a majority grants it", || {
        let reply = shown(client, line);
        assert!(reply.starts_with("[1 ") || reply.starts_with("-NOQUORUM"), "{line}: {reply}");
        fence = reply.split(' ').nth(2).filter(|_| reply.starts_with('[')).map(|word| word.parse().unwrap());
        fence.is_some()
    });
    fence.unwrap()
}

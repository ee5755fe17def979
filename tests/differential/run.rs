//! Plays one section to one side and notes what came back. Judges nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::coverage::CACHED;
use super::side::Side;
use super::transcript::{Action, Request, Section, Step};
use super::{rdb, value};
use crate::support::{Client, PATIENCE};

/// How long a reply may take before the section is given up.
pub const REPLY_TIME_MAX: Duration = Duration::from_secs(5);

/// A cacheable read is sent so often: it passes through, it fills, it hits.
const READS: usize = 4;

/// What one request, or one step, brought back.
#[derive(Clone)]
pub struct Outcome {
    pub line: usize,
    pub client: u8,
    /// The transcript's text.
    pub text: String,
    /// The upper-cased arguments of a request; empty for other steps.
    pub words: Vec<String>,
    /// 1, or higher for a read's repetitions.
    pub time: usize,
    /// The frames, or what went wrong after these bytes; a section ends there.
    pub reply: Vec<u8>,
    pub failure: Option<String>,
    /// How many reads of this request L1 answered.
    pub hits: u64,
}

impl Outcome {
    fn new(line: usize, client: u8, text: &str) -> Outcome {
        Outcome {
            line,
            client,
            text: text.to_string(),
            words: Vec::new(),
            time: 1,
            reply: Vec::new(),
            failure: None,
            hits: 0,
        }
    }

    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// Never panics: what breaks is the last outcome's failure, so that the other sections are still compared.
pub fn play(section: &Section, protocol: u8, side: &Side) -> Vec<Outcome> {
    let played = catch_unwind(AssertUnwindSafe(|| play_steps(section, protocol, side)));
    let mut outcomes = played.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic; see above".to_string());
        let mut outcome = Outcome::new(0, 0, "between or around the section's steps");
        outcome.failure = Some(why);
        vec![outcome]
    });
    // A digest may hold the digits of a port by chance.
    let said = outcomes.iter_mut().filter(|outcome| outcome.line > 0 || outcome.client > 0);
    said.for_each(|outcome| side.hide_values(&mut outcome.reply));
    outcomes
}

fn play_steps(section: &Section, protocol: u8, side: &Side) -> Vec<Outcome> {
    side.reset();
    let greeting = (protocol == 3 && !section.bare).then_some(3);
    let mut player = Player {
        side,
        greeting,
        clients: BTreeMap::new(),
        saved: side.values.iter().map(|(name, v)| (name.to_string(), v.clone().into_bytes())).collect(),
        outcomes: Vec::new(),
        server_ended: false,
    };
    for step in &section.steps {
        player.step(step);
        if player.outcomes.last().is_some_and(|outcome| outcome.failure.is_some()) {
            return player.outcomes;
        }
    }
    player.end();
    player.outcomes
}

struct Player<'a> {
    side: &'a Side,
    greeting: Option<u8>,
    clients: BTreeMap<u8, Client>,
    saved: HashMap<String, Vec<u8>>,
    outcomes: Vec<Outcome>,
    /// As the transcript wanted it: there is nothing to compare in the end.
    server_ended: bool,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) {
        let outcome = |text: &str| Outcome::new(step.line, step.client, text);
        match &step.action {
            Action::Send(requests) => self.send(step.client, requests),
            Action::Read(frames) => {
                let mut outcome = outcome("what arrives unasked");
                read(self.client(step.client), *frames, &mut outcome);
                self.outcomes.push(outcome);
            }
            Action::ReadUntil(wanted) => {
                let mut outcome = outcome("what arrives in the end");
                outcome.words = vec!["MONITOR".to_string()];
                read_until(self.client(step.client), wanted, &mut outcome);
                self.outcomes.push(outcome);
            }
            Action::ReadToEnd => {
                let mut outcome = outcome("what arrives until the connection is closed");
                read_to_end(self.client(step.client), &mut outcome);
                self.clients.remove(&step.client);
                self.outcomes.push(outcome);
            }
            Action::ReadRdb => {
                let mut outcome = outcome("a data set in RDB form");
                match rdb::read(self.client(step.client)) {
                    Ok(data) => outcome.reply = data,
                    Err(error) => outcome.failure = Some(why(&error)),
                }
                self.outcomes.push(outcome);
            }
            Action::Leave => drop(self.clients.remove(&step.client)),
            Action::ReadFile(name) => {
                let mut outcome = outcome(&format!("the lines of {name}, sorted"));
                let text = std::fs::read_to_string(self.side.file(name)).expect("a file of Redis");
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                outcome.reply = lines.join("\n").into_bytes();
                self.outcomes.push(outcome);
            }
            Action::WaitForInfo { section, line } => {
                let outcome = outcome(&format!("INFO {section} of Redis has {line}"));
                self.wait(outcome, |side| side.info_has(section, line));
            }
            Action::WaitForEnd => {
                self.wait(outcome("Redis has ended"), Side::has_ended);
                self.server_ended = true;
            }
            Action::Sleep(time) => std::thread::sleep(*time),
        }
    }

    fn wait(&mut self, mut outcome: Outcome, condition: impl Fn(&Side) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition(self.side) && outcome.failure.is_none() {
            outcome.failure = (Instant::now() > end).then(|| format!("not after {PATIENCE:?}"));
            std::thread::sleep(Duration::from_millis(2));
        }
        self.outcomes.push(outcome);
    }

    fn client(&mut self, number: u8) -> &mut Client {
        let (port, greeting) = (self.side.port, self.greeting);
        self.clients.entry(number).or_insert_with(|| {
            let mut client = Client::connect(port);
            client.stream().set_read_timeout(Some(REPLY_TIME_MAX)).expect("a timeout");
            if let Some(protocol) = greeting {
                let reply = client.call(&["HELLO".to_string(), protocol.to_string()]);
                assert_eq!(reply[0], b'%', "HELLO 3: {}", String::from_utf8_lossy(&reply));
            }
            client
        })
    }

    fn send(&mut self, client: u8, requests: &[Request]) {
        let [request] = requests else { return self.send_once(client, requests, 1) };
        if request.once || !CACHED.contains(&request.words()[0].as_str()) {
            return self.send_once(client, requests, 1);
        }
        let before = self.side.hits();
        for time in 1..=READS {
            self.send_once(client, requests, time);
            let outcome = self.outcomes.last().expect("send_once gave one");
            if outcome.failure.is_some() || outcome.reply == b"+QUEUED\r\n" {
                return;
            }
        }
        let hits = self.side.hits().saturating_sub(before);
        self.outcomes.last_mut().expect("as above").hits = hits;
    }

    fn send_once(&mut self, number: u8, requests: &[Request], time: usize) {
        let bytes: Vec<u8> =
            requests.iter().flat_map(|request| request.bytes(|arg| fill(arg, &self.saved))).collect();
        // A server that closed already shows in what is read.
        let _ = self.client(number).send_raw(&bytes);
        for request in requests {
            let mut outcome =
                Outcome { time, words: request.words(), ..Outcome::new(request.line, number, &request.text) };
            read(self.client(number), request.frames, &mut outcome);
            if let Some(name) = &request.save {
                let reply = value::parse_all(&outcome.reply).unwrap_or_default();
                let payload = reply.first().map_or(&[][..], |value| value.payload());
                self.saved.insert(name.clone(), payload.to_vec());
            }
            let failed = outcome.failure.is_some();
            self.outcomes.push(outcome);
            if failed {
                return;
            }
        }
    }

    /// QUIT shows whether more frames had come than the transcript says; the digest, whether the data is the same.
    fn end(&mut self) {
        for (number, mut client) in std::mem::take(&mut self.clients) {
            let mut outcome = Outcome::new(0, number, "QUIT at the end of the section");
            client.send(&["QUIT"]);
            read_to_end(&mut client, &mut outcome);
            self.outcomes.push(outcome);
        }
        if self.server_ended {
            return;
        }
        let mut outcome = Outcome::new(0, 0, "DEBUG DIGEST of Redis at the end of the section");
        outcome.reply = self.side.digest().into_bytes();
        self.outcomes.push(outcome);
    }
}

/// `$(name)` becomes what was saved, `$(1000*x)` a thousand x.
fn fill(arg: &[u8], saved: &HashMap<String, Vec<u8>>) -> Vec<u8> {
    let Some(start) = arg.windows(2).position(|pair| pair == b"$(") else { return arg.to_vec() };
    let Some(len) = arg[start..].iter().position(|&byte| byte == b')') else { return arg.to_vec() };
    let inside = String::from_utf8_lossy(&arg[start + 2..start + len]).into_owned();
    let mut filled = arg[..start].to_vec();
    match inside.split_once('*') {
        Some((count, text)) => filled.extend(text.repeat(count.parse().expect("a count")).bytes()),
        None => filled.extend(saved.get(&inside).unwrap_or_else(|| panic!("nothing saved as {inside}"))),
    }
    filled.extend(fill(&arg[start + len + 1..], saved));
    filled
}

fn read(client: &mut Client, frames: usize, outcome: &mut Outcome) {
    for got in 0..frames {
        match client.try_read_frame() {
            Ok(frame) => outcome.reply.extend(frame),
            Err(error) => {
                outcome.failure = Some(format!("{} after {got} of {frames} frames", why(&error)));
                return;
            }
        }
    }
}

fn read_until(client: &mut Client, wanted: &[u8], outcome: &mut Outcome) {
    loop {
        match client.try_read_frame() {
            Ok(frame) if frame.windows(wanted.len()).any(|window| window == wanted) => {
                outcome.reply = frame;
                return;
            }
            Ok(_) => {}
            Err(error) => {
                outcome.failure = Some(format!("{} before the frame that was awaited", why(&error)));
                return;
            }
        }
    }
}

fn read_to_end(client: &mut Client, outcome: &mut Outcome) {
    let start = Instant::now();
    loop {
        match client.try_read_frame() {
            Ok(frame) => outcome.reply.extend(frame),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                outcome.failure = Some(format!("not closed after {:?}", start.elapsed()));
                return;
            }
            Err(_) => {
                outcome.reply.extend(client.read_to_end());
                return;
            }
        }
    }
}

fn why(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => format!("nothing more in {REPLY_TIME_MAX:?}"),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "closed".to_string(),
        _ => error.to_string(),
    }
}

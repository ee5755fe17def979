//! Runs transcripts: lines `command => reply`. A reply is written as RESP3 shows it, `{name=value ..}`, and means `[value ..]`
//! in RESP2; where that is not so, what RESP2 shows follows behind ` | `. In replies `#` is any number, `~n` one up to `n` that
//! is at most ten seconds less, `$x` whatever stood for it first, which later lines send.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::support::{Client, frame_len};

/// How the lines are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// One by one, by each client in turn.
    InTurn,
    /// One by one, each in a transaction of its own.
    InMulti,
    /// The same in front of a cluster, where `IN_SEVERAL_SLOTS` go without one.
    InMultiOfCluster,
    /// As many at once as do not need an earlier reply.
    Pipelined,
}

/// How long what another daemon changed may stay unseen.
const LAG_MAX: Duration = Duration::from_secs(1);

/// These follow hints to keys in any slot.
const IN_SEVERAL_SLOTS: [&str; 2] = ["PRESENCE.LEAVEALL", "PRESENCE.CHANNELS"];

pub struct Run<'a> {
    pub clients: &'a mut [Client],
    pub resp3: bool,
    pub manner: Manner,
    /// For messages.
    pub title: String,
}

struct Line<'a> {
    command: Vec<String>,
    text: &'a str,
    reply: String,
}

impl Run<'_> {
    pub fn play(&mut self, transcript: &str) {
        let mut known = HashMap::new();
        let mut under_way = Vec::new();
        let lines = transcript.lines().map(str::trim).filter(|line| !line.is_empty());
        for (number, text) in lines.enumerate() {
            let (command, reply) = text.split_once(" => ").expect("a reply");
            let reply = self.expected(reply.trim());
            let free = command.split(' ').any(|word| word.starts_with('$') && !known.contains_key(word));
            if free || self.manner != Manner::Pipelined {
                self.gather(&mut under_way, &mut known);
            }
            let word = |word: &str| known.get(word).cloned().unwrap_or_else(|| word.to_owned());
            let line = Line { command: command.split_whitespace().map(word).collect(), text, reply };
            let client = number % self.clients.len();
            let whole = !IN_SEVERAL_SLOTS.contains(&line.command[0].as_str());
            if self.manner == Manner::InMulti || self.manner == Manner::InMultiOfCluster && whole {
                in_multi(&self.title, &mut self.clients[client], &line, &mut known);
            } else {
                self.clients[client].send(&line.command);
                under_way.push((client, line));
            }
        }
        self.gather(&mut under_way, &mut known);
    }

    fn gather(&mut self, under_way: &mut Vec<(usize, Line)>, known: &mut HashMap<String, String>) {
        let several = self.clients.len() > 1;
        for (client, line) in under_way.drain(..) {
            let client = &mut self.clients[client];
            let mut frame = client.read_frame();
            let end = Instant::now() + LAG_MAX;
            while several && may_lag(&line, &frame) && Instant::now() < end {
                if matches(&line.reply, &shown(&frame), &mut known.clone()) {
                    break;
                }
                frame = client.call(&line.command);
            }
            compare(&self.title, &line, &frame, known);
        }
    }

    /// The pattern of this protocol.
    fn expected(&self, reply: &str) -> String {
        let (in_resp3, in_resp2) = match reply.split_once(" | ") {
            Some((in_resp3, in_resp2)) => (in_resp3, Some(in_resp2)),
            None => (reply, None),
        };
        if self.resp3 || reply.starts_with('-') {
            return in_resp3.replace("nil", "null");
        }
        let nameless = || {
            let tokens = tokens(in_resp3);
            let is_name = |at: usize| tokens.get(at + 1) == Some(&"=");
            let kept = tokens.iter().enumerate().filter(|(at, token)| **token != "=" && !is_name(*at));
            kept.map(|(_, token)| *token).collect::<String>().replace('{', "[").replace('}', "]")
        };
        in_resp2.map_or_else(nameless, str::to_owned)
    }
}

/// What a daemon may answer from L1, where a change through another one is seen a moment later: sessions that are valid, and
/// denials. Asked again, neither uses anything up.
fn may_lag(line: &Line, frame: &[u8]) -> bool {
    match line.command[0].as_str() {
        "SESSION.VALIDATE" => true,
        "RATELIMIT.CHECK" => {
            shown(frame).trim_start_matches("{allowed=").trim_start_matches('[').starts_with('0')
        }
        _ => false,
    }
}

fn in_multi(title: &str, client: &mut Client, line: &Line, known: &mut HashMap<String, String>) {
    assert_eq!(client.text(&["MULTI"]), "+OK", "{}", line.text);
    let queued = client.call(&line.command);
    let done = client.call(&["EXEC"]);
    if queued.starts_with(b"-") {
        compare(title, line, &queued, known);
        assert!(done.starts_with(b"-EXECABORT"), "{}: {}", line.text, shown(&done));
        return;
    }
    assert_eq!(queued, b"+QUEUED\r\n", "{}", line.text);
    let inner = done.strip_prefix(b"*1\r\n").unwrap_or_else(|| panic!("{}: {}", line.text, shown(&done)));
    compare(title, line, inner, known);
}

fn compare(title: &str, line: &Line, frame: &[u8], known: &mut HashMap<String, String>) {
    let got = shown(frame);
    let is_as_written = matches(&line.reply, &got, known);
    assert!(is_as_written, "{title}: {}\nexpected {}\ngot      {got}", line.text, line.reply);
}

/// Whether a reply is as written; learns what `$x` stands for.
fn matches(pattern: &str, got: &str, known: &mut HashMap<String, String>) -> bool {
    let (pattern, got) = (tokens(pattern), tokens(got));
    let one = |(pattern, got): (&&str, &&str)| {
        let number = || got.parse::<i64>().ok();
        if *pattern == "#" {
            return number().is_some_and(|number| number >= 0);
        }
        if let Some(most) = pattern.strip_prefix('~') {
            let most: i64 = most.parse().unwrap();
            return number().is_some_and(|number| (most - 10_000..=most).contains(&number) && number > 0);
        }
        if pattern.starts_with('$') {
            let got = got.trim_matches('\'').to_owned();
            return *known.entry(pattern.to_string()).or_insert_with(|| got.clone()) == got;
        }
        pattern == got
    };
    pattern.len() == got.len() && pattern.iter().zip(&got).all(one)
}

fn tokens(text: &str) -> Vec<&str> {
    text.split_inclusive(|c| " []{}=".contains(c))
        .flat_map(|piece| {
            let end = piece.char_indices().next_back().filter(|(_, c)| " []{}=".contains(*c));
            let (word, separator) = piece.split_at(end.map_or(piece.len(), |(at, _)| at));
            [word, separator]
        })
        .filter(|token| !token.is_empty())
        .collect()
}

/// A frame as short text: `[1 'bulk' nil]`, `{name=+OK}`; `null` is RESP3's.
pub fn shown(frame: &[u8]) -> String {
    let (text, rest) = first(frame);
    assert!(rest.is_empty(), "more than one frame: {:?}", String::from_utf8_lossy(frame));
    text
}

fn first(frame: &[u8]) -> (String, &[u8]) {
    let head = frame.windows(2).position(|pair| pair == b"\r\n").expect("a whole line") + 2;
    let line = String::from_utf8_lossy(&frame[1..head - 2]).into_owned();
    let mut rest = &frame[head..];
    let mut next = || {
        let (text, behind) = first(rest);
        rest = behind;
        text
    };
    let count = || line.parse::<usize>().expect("a length");
    let text = match frame[0] {
        _ if frame.starts_with(b"$-1\r\n") || frame.starts_with(b"*-1\r\n") => "nil".to_owned(),
        b'$' => {
            let len = frame_len(frame).expect("a whole frame");
            let text = String::from_utf8_lossy(&frame[head..len - 2]).into_owned();
            return (format!("'{text}'"), &frame[len..]);
        }
        b'_' => "null".to_owned(),
        b':' => line,
        b'*' | b'>' => format!("[{}]", (0..count()).map(|_| next()).collect::<Vec<_>>().join(" ")),
        b'%' => {
            let pair = |_| format!("{}={}", next().trim_matches('\''), next());
            format!("{{{}}}", (0..count()).map(pair).collect::<Vec<_>>().join(" "))
        }
        kind => format!("{}{line}", kind as char),
    };
    (text, rest)
}

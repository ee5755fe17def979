//! Reads the transcripts: text to sections and steps. The format is told in `tests/transcripts/README.md`.
//! Sends nothing.

use std::path::Path;
use std::time::Duration;

use super::side::Server;
use crate::support::encode;

/// A part of a transcript that starts with an empty server and new clients.
#[derive(Clone)]
pub struct Section {
    pub file: String,
    pub title: String,
    pub protocols: Vec<u8>,
    pub server: Server,
    /// Clients of a RESP3 run say HELLO 3 themselves.
    pub bare: bool,
    pub steps: Vec<Step>,
}

#[derive(Clone)]
pub struct Step {
    pub line: usize,
    pub client: u8,
    pub action: Action,
}

#[derive(Clone)]
pub enum Action {
    /// All of them in one write, then their replies.
    Send(Vec<Request>),
    /// So many frames that the client did not ask for just now.
    Read(usize),
    /// Frames are skipped until one holds the text; that one is compared.
    ReadUntil(Vec<u8>),
    /// Everything until the server closes.
    ReadToEnd,
    /// Until INFO of Redis itself has the line.
    WaitForInfo {
        section: String,
        line: String,
    },
    /// Until Redis itself has ended.
    WaitForEnd,
    /// What follows the replies of SYNC and PSYNC.
    ReadRdb,
    /// The lines of a file in the directory of Redis, sorted: Redis writes them in the order of a hash table.
    ReadFile(String),
    /// The client closes its connection without a word.
    Leave,
    Sleep(Duration),
}

#[derive(Clone)]
pub struct Request {
    pub line: usize,
    pub text: String,
    /// Before `$(name)` is filled in.
    pub args: Vec<Vec<u8>>,
    pub wire: Wire,
    /// How many frames answer it.
    pub frames: usize,
    /// Sent once, though it is a read.
    pub once: bool,
    /// The name under which later lines use the reply.
    pub save: Option<String>,
}

#[derive(Clone)]
pub enum Wire {
    Array,
    /// These bytes as they are.
    Raw(Vec<u8>),
}

/// Every section that is played with both protocols, L1 off and on, one after the other.
pub fn load_all() -> Vec<Section> {
    load("")
}

/// The sections that need servers of their own, each.
pub fn load_special() -> Vec<Section> {
    load("special/")
}

/// The sections of a folder of `tests/transcripts`, in the order of the files' names.
fn load(under: &str) -> Vec<Section> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(under);
    let entries = std::fs::read_dir(&folder).expect("tests/transcripts");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    // For work on one transcript: DIFFERENTIAL_ONLY=zset plays the files that have this in their names.
    let only = std::env::var("DIFFERENTIAL_ONLY").unwrap_or_default();
    let mut sections = Vec::new();
    for path in paths {
        let file = format!("{under}{}", path.file_name().expect("a name").to_str().expect("in UTF-8"));
        if file.contains(&only) {
            let text = std::fs::read_to_string(&path).expect("a transcript in UTF-8");
            parse(&file, &text, &mut sections);
        }
    }
    sections
}

fn parse(file: &str, text: &str, sections: &mut Vec<Section>) {
    let mut pipeline: Option<Step> = None;
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
        let fail = |what: &str| -> ! { panic!("tests/transcripts/{file}:{number}: {what}: {line}") };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            sections.push(Section {
                file: file.to_string(),
                title: title.to_string(),
                protocols: vec![2, 3],
                server: Server::Plain,
                bare: false,
                steps: Vec::new(),
            });
            continue;
        }
        let Some(section) = sections.last_mut().filter(|s| s.file == file) else {
            fail("before any section")
        };
        match line.split_once(' ').unwrap_or((line, "")) {
            (":only", "RESP2") => section.protocols = vec![2],
            (":only", "RESP3") => section.protocols = vec![3],
            (":server", name) => {
                section.server = Server::named(name).unwrap_or_else(|| fail("no such server"))
            }
            (":bare", "") => section.bare = true,
            (":end", "") => section.steps.push(pipeline.take().unwrap_or_else(|| fail("no pipeline"))),
            _ => {
                let step = parse_step(line, number).unwrap_or_else(|what| fail(&what));
                match (&mut pipeline, step.action) {
                    (None, Action::Send(requests)) if requests.is_empty() => {
                        pipeline = Some(Step { action: Action::Send(requests), ..step });
                    }
                    (None, action) => section.steps.push(Step { action, ..step }),
                    (Some(Step { action: Action::Send(all), .. }), Action::Send(more)) => all.extend(more),
                    _ => fail("not in a pipeline"),
                }
            }
        }
    }
    assert!(pipeline.is_none(), "tests/transcripts/{file}: a pipeline without :end");
}

/// `2> [3] name := COMMAND ...`, `2< 1`, `2<? text`, or a directive; `:pipeline` gives a Send of nothing.
fn parse_step(text: &str, line: usize) -> Result<Step, String> {
    let (client, rest) = match text.as_bytes() {
        [digit @ b'1'..=b'9', b'>' | b'<', ..] => (digit - b'0', &text[1..]),
        _ => (1, text),
    };
    if let Some(wanted) = rest.strip_prefix("<? ") {
        return Ok(Step { line, client, action: Action::ReadUntil(unescape(wanted)?) });
    }
    if let Some(count) = rest.strip_prefix("< ") {
        let frames = count.parse().map_err(|_| "not a number of frames")?;
        return Ok(Step { line, client, action: Action::Read(frames) });
    }
    let rest = rest.strip_prefix("> ").unwrap_or(rest);
    let action = match rest.split_once(' ').unwrap_or((rest, "")) {
        (":pipeline", "") => Action::Send(Vec::new()),
        (":closes", "") => Action::ReadToEnd,
        (":leaves", "") => Action::Leave,
        (":rdb", "") => Action::ReadRdb,
        (":file", name) => Action::ReadFile(name.into()),
        (":server-ends", "") => Action::WaitForEnd,
        (":blocked", count) => {
            Action::WaitForInfo { section: "clients".into(), line: format!("blocked_clients:{count}") }
        }
        (":wait-info", what) => {
            let (section, line) = what.split_once(' ').ok_or(":wait-info SECTION LINE")?;
            Action::WaitForInfo { section: section.into(), line: line.into() }
        }
        (":sleep-ms", time) => Action::Sleep(Duration::from_millis(time.parse().map_err(|_| "not a time")?)),
        _ => Action::Send(vec![parse_request(rest, line)?]),
    };
    Ok(Step { line, client, action })
}

fn parse_request(text: &str, line: usize) -> Result<Request, String> {
    let (mut frames, mut save, mut once, mut rest) = (1, None, false, text);
    if let Some((count, after)) = rest.strip_prefix('[').and_then(|r| r.split_once("] ")) {
        frames = count.parse().map_err(|_| "not a number of frames")?;
        rest = after;
    }
    if let Some((name, after)) = rest.split_once(" := ").filter(|(name, _)| !name.contains(' ')) {
        save = Some(name.to_string());
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(":once ") {
        once = true;
        rest = after;
    }
    let wire = match rest.split_once(' ').unwrap_or((rest, "")) {
        (":inline", words) => Wire::Raw(format!("{words}\r\n").into_bytes()),
        (":raw", escaped) => Wire::Raw(split(escaped)?.concat()),
        (directive, _) if directive.starts_with(':') => return Err("no such directive".into()),
        _ => Wire::Array,
    };
    let args = match (&wire, rest.split_once(' ')) {
        (Wire::Raw(_), Some((":raw", _))) => Vec::new(),
        (Wire::Raw(_), Some((_, words))) => split(words).unwrap_or_default(),
        _ => split(rest)?,
    };
    let once = once || frames != 1 || matches!(wire, Wire::Raw(_));
    Ok(Request { line, text: text.to_string(), args, wire, frames, once, save })
}

impl Request {
    pub fn bytes(&self, fill: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        match &self.wire {
            Wire::Array => encode(&self.args.iter().map(|arg| fill(arg)).collect::<Vec<_>>()),
            Wire::Raw(bytes) => fill(bytes),
        }
    }

    /// The upper-cased words that a name or an option could be.
    pub fn words(&self) -> Vec<String> {
        self.args.iter().map(|arg| String::from_utf8_lossy(arg).to_ascii_uppercase()).collect()
    }
}

/// Words in the manner of redis-cli: blanks separate, `"..."` with escapes and `'...'` hold together.
fn split(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let end = match rest.as_bytes()[0] {
            quote @ (b'"' | b'\'') => closing(rest, quote).ok_or("an unbalanced quote")?,
            _ => rest.find(' ').unwrap_or(rest.len()),
        };
        let word = &rest[..end];
        words.push(match word.as_bytes()[0] {
            b'"' => unescape(&word[1..end - 1])?,
            b'\'' => word.as_bytes()[1..end - 1].to_vec(),
            _ => word.as_bytes().to_vec(),
        });
        if !rest[end..].is_empty() && !rest[end..].starts_with(' ') {
            return Err("a quote ends inside a word".into());
        }
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

/// The index after the quote that closes the one at 0.
fn closing(text: &str, quote: u8) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quote == b'"' => drop(bytes.next()),
            byte if byte == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// `\r \n \t \0 \\ \" \xHH`; everything else stands for itself.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'x') => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).map_err(|_| "two hex digits belong after \\x")?
            }
            Some(byte) => byte,
            None => return Err("a backslash at the end".into()),
        });
    }
    Ok(bytes)
}

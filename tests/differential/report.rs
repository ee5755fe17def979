//! Compares what the two sides answered and tells the differences readably.

use super::mask;
use super::run::Outcome;
use super::side::Behind;
use super::transcript::Section;

/// So many differences are shown in full.
const SHOWN: usize = 60;

/// So many of one section: after a reply too many or too few all others differ.
const SHOWN_OF_SECTION: usize = 3;

/// So many bytes of a reply are shown, around the first difference.
const SHOWN_BYTES: usize = 600;

pub struct Difference {
    pub place: String,
    redis: String,
    daemon: String,
}

pub fn compare(
    section: &Section,
    protocol: u8,
    redis: &[Outcome],
    daemon: &[Outcome],
    all: &mut Vec<Difference>,
) {
    for ours in redis {
        if ours.failure.is_some() || !ends_well(ours) {
            all.push(Difference {
                place: place(section, protocol, ours),
                redis: format!("the transcript does not fit Redis itself: {}", shown(ours, 0)),
                daemon: "not compared".to_string(),
            });
            return;
        }
    }
    if let [Outcome { line: 0, failure: Some(failure), .. }] = daemon {
        let place = format!("tests/transcripts/{}  RESP{protocol}, \"{}\"", section.file, section.title);
        all.push(Difference { place, redis: "plays it".to_string(), daemon: failure.clone() });
        return;
    }
    let mut here = 0;
    for (ours, theirs) in redis.iter().zip(daemon) {
        if theirs.failure.is_none() && mask::equal(&ours.words, &ours.reply, &theirs.reply) {
            continue;
        }
        here += 1;
        if here > SHOWN_OF_SECTION && theirs.failure.is_none() {
            continue;
        }
        let from = ours.reply.iter().zip(&theirs.reply).take_while(|(a, b)| a == b).count();
        all.push(Difference {
            place: place(section, protocol, ours),
            redis: shown(ours, from),
            daemon: shown(theirs, from),
        });
    }
}

/// What QUIT brings must be its own reply alone, otherwise a line of the transcript counts its frames wrongly.
fn ends_well(outcome: &Outcome) -> bool {
    let quit = outcome.line == 0 && outcome.client > 0;
    !quit || outcome.reply.is_empty() || outcome.reply == b"+OK\r\n"
}

fn place(section: &Section, protocol: u8, outcome: &Outcome) -> String {
    let again = if outcome.time > 1 { format!(" (read {})", outcome.time) } else { String::new() };
    let at =
        if outcome.line > 0 { format!("{}:{}", section.file, outcome.line) } else { section.file.clone() };
    format!(
        "tests/transcripts/{at}  RESP{protocol}, \"{}\", client {}{again}: {}",
        section.title, outcome.client, outcome.text
    )
}

fn shown(outcome: &Outcome, difference: usize) -> String {
    let start = difference.saturating_sub(SHOWN_BYTES / 4);
    let end = outcome.reply.len().min(start + SHOWN_BYTES);
    let before = if start > 0 { format!("({start} bytes) ... ") } else { String::new() };
    let after = match outcome.reply.len() - end {
        0 => String::new(),
        more => format!(" ... ({more} bytes)"),
    };
    let text = format!("{before}{}{after}", outcome.reply[start..end].escape_ascii());
    match &outcome.failure {
        Some(failure) if outcome.reply.is_empty() => failure.clone(),
        Some(failure) => format!("{failure}; before that {text}"),
        None => text,
    }
}

pub fn render(differences: &[Difference], behind: Behind) -> String {
    let mut text = format!(
        "{} differences (at most {SHOWN_OF_SECTION} of a section) with {behind:?}\n",
        differences.len()
    );
    for difference in differences.iter().take(SHOWN) {
        text += &format!(
            "\n{}\n  Redis:  {}\n  daemon: {}\n",
            difference.place, difference.redis, difference.daemon
        );
    }
    if differences.len() > SHOWN {
        text += &format!("\nand {} more\n", differences.len() - SHOWN);
    }
    text
}

//! Registers as runs: `00nnnnnn` up to 64 zeros, `01nnnnnn nnnnnnnn` up to 16384, `1vvvvvnn` up to four of a rank up to 32.
//! Splits and joins runs exactly as Redis does, so that the bytes are the same.

use super::{Corrupted, HEADER, REGISTERS, SPARSE_LEN_MAX};

/// One run of zeros.
pub(super) const EMPTY: [u8; 2] = [0x7F, 0xFF];

const SHORT_ZEROS_MAX: usize = 64;
const RANK_MAX: u8 = 32;
const RUN_MAX: usize = 4;
/// Neighbours are looked at for joining in so many runs.
const JOINING_RUNS: usize = 5;

pub(super) enum Raised {
    /// Whether the register changed.
    Done(bool),
    DoesNotFit,
}

/// A run: its rank (0: zeros), how many registers, and how many bytes.
#[derive(Clone, Copy)]
struct Run {
    rank: u8,
    len: usize,
    bytes: usize,
}

/// Half a run at the end, which APPEND may have put there, is read with a zero behind it, as Redis reads what ends its string.
fn run_at(text: &[u8], at: usize) -> Result<Run, Corrupted> {
    match *text.get(at).ok_or(Corrupted)? {
        byte @ 0x80.. => Ok(Run { rank: (byte >> 2 & 31) + 1, len: usize::from(byte & 3) + 1, bytes: 1 }),
        byte @ 0x40.. => {
            let low = *text.get(at + 1).unwrap_or(&0);
            Ok(Run { rank: 0, len: (usize::from(byte & 63) << 8 | usize::from(low)) + 1, bytes: 2 })
        }
        byte => Ok(Run { rank: 0, len: usize::from(byte) + 1, bytes: 1 }),
    }
}

/// Rank and length of each run; an error where they do not make all the registers.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = Result<(u8, usize), Corrupted>> + '_ {
    let (mut at, mut registers) = (0, 0);
    std::iter::from_fn(move || {
        if at >= text.len() {
            let is_whole = registers == REGISTERS;
            registers = REGISTERS;
            return (!is_whole).then_some(Err(Corrupted));
        }
        let run = run_at(text, at).and_then(|run| {
            let is_inside = registers + run.len <= REGISTERS;
            if is_inside { Ok(run) } else { Err(Corrupted) }
        });
        match run {
            Ok(run) => {
                at += run.bytes;
                registers += run.len;
                Some(Ok((run.rank, run.len)))
            }
            Err(Corrupted) => {
                (at, registers) = (text.len(), REGISTERS);
                Some(Err(Corrupted))
            }
        }
    })
}

fn valued(rank: u8, len: usize) -> u8 {
    0x80 | (rank - 1) << 2 | (len - 1) as u8
}

fn push_zeros(out: &mut Vec<u8>, len: usize) {
    match len {
        0 => {}
        1..=SHORT_ZEROS_MAX => out.push((len - 1) as u8),
        _ => out.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]),
    }
}

fn push_valued(out: &mut Vec<u8>, rank: u8, len: usize) {
    if len > 0 {
        out.push(valued(rank, len));
    }
}

/// `text` with its header.
pub(super) fn raise(text: &mut Vec<u8>, register: usize, rank: u8) -> Result<Raised, Corrupted> {
    if rank > RANK_MAX {
        return Ok(Raised::DoesNotFit);
    }
    let (mut at, mut first, mut before) = (HEADER, 0, None);
    let run = loop {
        let run = run_at(text, at)?;
        if register < first + run.len {
            break run;
        }
        before = Some(at);
        at += run.bytes;
        first += run.len;
    };
    if at + run.bytes > text.len() {
        return Err(Corrupted);
    }
    if run.rank >= rank {
        return Ok(Raised::Done(false));
    }
    let (left, right) = (register - first, first + run.len - 1 - register);
    let mut split = Vec::with_capacity(5);
    if run.rank == 0 {
        push_zeros(&mut split, left);
        push_valued(&mut split, rank, 1);
        push_zeros(&mut split, right);
    } else {
        push_valued(&mut split, run.rank, left);
        push_valued(&mut split, rank, 1);
        push_valued(&mut split, run.rank, right);
    }
    if split.len() > run.bytes && text.len() + split.len() - run.bytes > SPARSE_LEN_MAX {
        return Ok(Raised::DoesNotFit);
    }
    text.splice(at..at + run.bytes, split);
    join(text, before.unwrap_or(HEADER));
    super::invalidate(text);
    Ok(Raised::Done(true))
}

/// Joins neighbours of the same rank where a run can hold both.
fn join(text: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINING_RUNS {
        let Ok(run) = run_at(text, at) else { break };
        if run.rank > 0
            && let Ok(next) = run_at(text, at + 1)
            && next.rank == run.rank
            && run.len + next.len <= RUN_MAX
        {
            text[at + 1] = valued(run.rank, run.len + next.len);
            text.remove(at);
        } else {
            at += run.bytes;
        }
    }
}

/// The runs in Redis's words.
pub(super) fn decode(text: &[u8]) -> Result<String, Corrupted> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let run = run_at(text, at)?;
        words.push(match (run.rank, run.bytes) {
            (0, 1) => format!("z:{}", run.len),
            (0, _) => format!("Z:{}", run.len),
            (rank, _) => format!("v:{rank},{}", run.len),
        });
        at += run.bytes;
    }
    Ok(words.join(" "))
}

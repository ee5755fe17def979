//! LCS: the longest common subsequence of two strings, by the textbook's table, walked from the ends.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::number::integer_argument;
use super::super::object::Text;
use super::arguments::is;
use super::substrings::STRING_BYTES_MAX;
use std::ops::RangeInclusive;

pub(super) const COMMANDS: &[(&str, Handler)] = &[("LCS", lcs)];

#[derive(Default)]
struct Options {
    len: bool,
    indexes: bool,
    with_len: bool,
    len_min: i64,
}

impl Options {
    fn parse(arguments: &[&[u8]]) -> Result<Options, Fault> {
        let mut options = Options::default();
        let mut left = arguments.iter();
        while let Some(option) = left.next() {
            match () {
                _ if is(option, "IDX") => options.indexes = true,
                _ if is(option, "LEN") => options.len = true,
                _ if is(option, "WITHMATCHLEN") => options.with_len = true,
                _ if is(option, "MINMATCHLEN") => {
                    options.len_min = integer_argument(left.next().ok_or(Fault::SYNTAX)?)?;
                }
                _ => return Err(Fault::SYNTAX),
            }
        }
        if options.indexes && options.len {
            return Err(Fault::of("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

fn lcs(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let no_strings = Fault::of("ERR The specified keys must contain string values");
    let mut texts = [Vec::new(), Vec::new()];
    for (text, key) in texts.iter_mut().zip(&argv[1..3]) {
        if let Some(found) = ctx.keys.read_as::<Text>(key).map_err(|_| no_strings.clone())? {
            *text = found.to_vec();
        }
    }
    let options = Options::parse(&argv[3..])?;
    let [a, b] = texts;
    let cells = (a.len() + 1).saturating_mul(b.len() + 1);
    if cells.saturating_mul(size_of::<u32>()) > STRING_BYTES_MAX {
        let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        return Err(Fault::of(text));
    }
    let table = Table::build(&a, &b);
    if options.len {
        ctx.reply.count(table.len());
    } else if options.indexes {
        reply_matches(ctx, &table, &options);
    } else {
        let mut common: Vec<u8> = Vec::with_capacity(table.len());
        table.walk(&mut |matched| common.extend(matched.a.rev().map(|at| a[at])));
        common.reverse();
        ctx.reply.bulk(&common);
    }
    Ok(())
}

fn reply_matches(ctx: &mut Context<'_>, table: &Table<'_>, options: &Options) {
    let mut matches = Vec::new();
    table.walk(&mut |matched| {
        if matched.len() as i64 >= options.len_min {
            matches.push(matched);
        }
    });
    ctx.reply.map(2);
    ctx.reply.bulk(b"matches");
    ctx.reply.array(matches.len());
    for matched in matches {
        ctx.reply.array(2 + usize::from(options.with_len));
        for part in [&matched.a, &matched.b] {
            ctx.reply.array(2);
            ctx.reply.count(*part.start());
            ctx.reply.count(*part.end());
        }
        if options.with_len {
            ctx.reply.count(matched.len());
        }
    }
    ctx.reply.bulk(b"len");
    ctx.reply.count(table.len());
}

/// A part of both texts that is the same.
struct Match {
    a: RangeInclusive<usize>,
    b: RangeInclusive<usize>,
}

impl Match {
    fn len(&self) -> usize {
        self.a.end() - self.a.start() + 1
    }
}

struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// For each pair of beginnings the length of what they have in common.
    cells: Vec<u32>,
}

impl<'a> Table<'a> {
    fn build(a: &'a [u8], b: &'a [u8]) -> Table<'a> {
        let width = b.len() + 1;
        let mut cells = vec![0; (a.len() + 1) * width];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                cells[i * width + j] = if a[i - 1] == b[j - 1] {
                    cells[(i - 1) * width + j - 1] + 1
                } else {
                    cells[(i - 1) * width + j].max(cells[i * width + j - 1])
                };
            }
        }
        Table { a, b, cells }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * (self.b.len() + 1) + j]
    }

    fn len(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The matches from the last to the first.
    fn walk(&self, f: &mut dyn FnMut(Match)) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut open: Option<Match> = None;
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                let (a_end, b_end) = open.map_or((i, j), |matched| (*matched.a.end(), *matched.b.end()));
                open = Some(Match { a: i..=a_end, b: j..=b_end });
            } else {
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1
                } else {
                    j -= 1
                }
                open.take().into_iter().for_each(&mut *f);
            }
        }
        open.into_iter().for_each(f);
    }
}

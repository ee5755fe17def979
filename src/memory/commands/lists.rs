//! Handlers of lists, but for those that move elements between keys or wait: these are in `list_moves`.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::types::{End, List};
use super::arguments;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("LINDEX", lindex),
    ("LINSERT", linsert),
    ("LLEN", llen),
    ("LPOP", lpop),
    ("LPOS", lpos),
    ("LPUSH", lpush),
    ("LPUSHX", lpushx),
    ("LRANGE", lrange),
    ("LREM", lrem),
    ("LSET", lset),
    ("LTRIM", ltrim),
    ("RPOP", rpop),
    ("RPUSH", rpush),
    ("RPUSHX", rpushx),
];

fn lpush(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    push(ctx, argv, End::Left)
}

fn rpush(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    push(ctx, argv, End::Right)
}

fn push(ctx: &mut Context<'_>, argv: &Argv<'_>, end: End) -> Outcome {
    let list = ctx.keys.make_as::<List>(argv[1])?;
    argv[2..].iter().for_each(|element| list.push(end, element));
    let len = list.len();
    ctx.keys.changed(argv[1]);
    ctx.reply.count(len);
    Ok(())
}

fn lpushx(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    push_if_there(ctx, argv, End::Left)
}

fn rpushx(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    push_if_there(ctx, argv, End::Right)
}

fn push_if_there(ctx: &mut Context<'_>, argv: &Argv<'_>, end: End) -> Outcome {
    if ctx.keys.write_as::<List>(argv[1])?.is_some() {
        return push(ctx, argv, end);
    }
    ctx.reply.integer(0);
    Ok(())
}

fn lpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop(ctx, argv, End::Left, "lpop")
}

fn rpop(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    pop(ctx, argv, End::Right, "rpop")
}

fn pop(ctx: &mut Context<'_>, argv: &Argv<'_>, end: End, name: &str) -> Outcome {
    if argv.len() > 3 {
        return Err(Fault::arity(name));
    }
    let count = argv.get(2).map(|count| arguments::count(count)).transpose()?;
    let Some(list) = ctx.keys.write_as::<List>(argv[1])? else {
        match count {
            Some(_) => ctx.reply.null_array(),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    match count {
        None => ctx.reply.bulk_or_null(list.pop(end).as_deref()),
        Some(count) => {
            let count = count.min(list.len());
            ctx.reply.array(count);
            (0..count).filter_map(|_| list.pop(end)).for_each(|element| ctx.reply.bulk(&element));
        }
    }
    if count != Some(0) {
        ctx.keys.changed(argv[1]);
    }
    Ok(())
}

fn llen(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let list = ctx.keys.read_as::<List>(argv[1])?;
    ctx.reply.count(list.map_or(0, List::len));
    Ok(())
}

fn lindex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let Some(list) = ctx.keys.read_as::<List>(argv[1])? else {
        ctx.reply.null();
        return Ok(());
    };
    let index = index_in(list, arguments::integer(argv[2])?);
    ctx.reply.bulk_or_null(index.and_then(|index| list.get(index)));
    Ok(())
}

fn lset(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let list = ctx.keys.write_as::<List>(argv[1])?.ok_or(Fault::NO_SUCH_KEY)?;
    let index = index_in(list, arguments::integer(argv[2])?).ok_or(Fault::OUT_OF_RANGE)?;
    list.set(index, argv[3]);
    ctx.keys.changed(argv[1]);
    ctx.reply.ok();
    Ok(())
}

/// Negative indexes count from the end.
fn index_in(list: &List, index: i64) -> Option<usize> {
    let index = if index < 0 { index.checked_add(list.len() as i64)? } else { index };
    usize::try_from(index).ok().filter(|&index| index < list.len())
}

fn linsert(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let after = match argv[2] {
        place if arguments::is(place, "AFTER") => 1,
        place if arguments::is(place, "BEFORE") => 0,
        _ => return Err(Fault::SYNTAX),
    };
    let Some(list) = ctx.keys.write_as::<List>(argv[1])? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let Some(pivot) = list.iter().position(|element| element == argv[3]) else {
        ctx.reply.integer(-1);
        return Ok(());
    };
    list.insert(pivot + after, argv[4]);
    let len = list.len();
    ctx.keys.changed(argv[1]);
    ctx.reply.count(len);
    Ok(())
}

fn lrange(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (start, stop) = (arguments::integer(argv[2])?, arguments::integer(argv[3])?);
    let list = ctx.keys.read_as::<List>(argv[1])?;
    let span = arguments::span(start, stop, list.map_or(0, List::len));
    ctx.reply.array(span.len());
    list.iter().flat_map(|list| list.range(span.clone())).for_each(|element| ctx.reply.bulk(element));
    Ok(())
}

fn ltrim(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (start, stop) = (arguments::integer(argv[2])?, arguments::integer(argv[3])?);
    if let Some(list) = ctx.keys.write_as::<List>(argv[1])? {
        list.trim(arguments::span(start, stop, list.len()));
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.ok();
    Ok(())
}

fn lrem(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let count = arguments::integer(argv[2])?;
    let Some(list) = ctx.keys.write_as::<List>(argv[1])? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let end = if count < 0 { End::Right } else { End::Left };
    let max = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let removed = list.remove(end, argv[3], max);
    if removed > 0 {
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.count(removed);
    Ok(())
}

/// What LPOS looks for.
struct Search {
    /// The first match that counts, from 1; negative from the end.
    rank: i64,
    /// 0: all of them. `None`: one, and the reply is no array.
    count: Option<usize>,
    /// Elements to look at, 0 for all.
    len_max: usize,
}

impl Search {
    fn parse(mut options: &[&[u8]]) -> Result<Search, Fault> {
        let mut search = Search { rank: 1, count: None, len_max: 0 };
        while let [option, value, rest @ ..] = options {
            match option {
                option if arguments::is(option, "RANK") => search.rank = Search::parse_rank(value)?,
                option if arguments::is(option, "COUNT") => {
                    search.count = Some(arguments::at_least(0, value, "ERR COUNT can't be negative")?);
                }
                option if arguments::is(option, "MAXLEN") => {
                    search.len_max = arguments::at_least(0, value, "ERR MAXLEN can't be negative")?;
                }
                _ => return Err(Fault::SYNTAX),
            }
            options = rest;
        }
        if !options.is_empty() {
            return Err(Fault::SYNTAX);
        }
        if search.rank == i64::MIN {
            // Redis 7.0 negates it and gets it again: every match from the end is far enough, and none is the last one.
            search.rank = -1;
            search.count = search.count.map(|_| 0);
        }
        Ok(search)
    }

    fn parse_rank(value: &[u8]) -> Result<i64, Fault> {
        match arguments::integer(value)? {
            0 => Err(Fault::of(
                "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                 or use negative to start from the end of the list",
            )),
            rank => Ok(rank),
        }
    }

    /// The indexes where `element` is, in the order they are met.
    fn run(&self, list: &List, element: &[u8]) -> Vec<usize> {
        let len = list.len();
        let len_max = if self.len_max == 0 { len } else { self.len_max };
        let skipped = self.rank.unsigned_abs() as usize - 1;
        let count = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let fits = |(_, other): &(usize, &[u8])| *other == element;
        if self.rank > 0 {
            let elements = list.iter().enumerate().take(len_max);
            elements.filter(fits).skip(skipped).take(count).map(|(index, _)| index).collect()
        } else {
            let elements = list.iter().rev().enumerate().take(len_max);
            elements.filter(fits).skip(skipped).take(count).map(|(index, _)| len - 1 - index).collect()
        }
    }
}

fn lpos(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let search = Search::parse(&argv[3..])?;
    let list = ctx.keys.read_as::<List>(argv[1])?;
    let found = list.map_or(Vec::new(), |list| search.run(list, argv[2]));
    match (search.count, found.first()) {
        (Some(_), _) => {
            ctx.reply.array(found.len());
            found.iter().for_each(|&index| ctx.reply.count(index));
        }
        (None, Some(&index)) => ctx.reply.count(index),
        (None, None) => ctx.reply.null(),
    }
    Ok(())
}

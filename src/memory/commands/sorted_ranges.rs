//! Handlers of ranges of sorted sets: showing, counting, storing and removing them.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::types::Sorted;
use super::arguments;
use super::ranges::{Interval, Unit, limited};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("ZCOUNT", zcount),
    ("ZLEXCOUNT", zlexcount),
    ("ZRANGE", zrange),
    ("ZRANGEBYLEX", zrangebylex),
    ("ZRANGEBYSCORE", zrangebyscore),
    ("ZRANGESTORE", zrangestore),
    ("ZREMRANGEBYLEX", zremrangebylex),
    ("ZREMRANGEBYRANK", zremrangebyrank),
    ("ZREMRANGEBYSCORE", zremrangebyscore),
    ("ZREVRANGE", zrevrange),
    ("ZREVRANGEBYLEX", zrevrangebylex),
    ("ZREVRANGEBYSCORE", zrevrangebyscore),
];

/// `min max [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`, where older commands fix some of it.
struct Query<'a> {
    interval: Interval<'a>,
    reverse: bool,
    offset: i64,
    count: i64,
    with_scores: bool,
}

/// What the name of a command says already.
struct Fixed {
    unit: Option<Unit>,
    reverse: Option<bool>,
    stores: bool,
}

impl<'a> Query<'a> {
    fn parse(arguments: &[&'a [u8]], fixed: Fixed) -> Result<Query<'a>, Fault> {
        let Fixed { mut unit, mut reverse, stores } = fixed;
        let (mut offset, mut count, mut with_scores) = (0, -1, false);
        let mut options = &arguments[2..];
        while let [option, rest @ ..] = options {
            options = rest;
            match (*option, rest) {
                (word, _) if !stores && arguments::is(word, "WITHSCORES") => with_scores = true,
                (word, [first, second, rest @ ..]) if arguments::is(word, "LIMIT") => {
                    (offset, count) = (arguments::integer(first)?, arguments::integer(second)?);
                    options = rest;
                }
                (word, _) if reverse.is_none() && arguments::is(word, "REV") => reverse = Some(true),
                (word, _) if unit.is_none() && arguments::is(word, "BYLEX") => unit = Some(Unit::Member),
                (word, _) if unit.is_none() && arguments::is(word, "BYSCORE") => unit = Some(Unit::Score),
                _ => return Err(Fault::SYNTAX),
            }
        }
        let (unit, reverse) = (unit.unwrap_or(Unit::Rank), reverse.unwrap_or(false));
        if count != -1 && unit == Unit::Rank {
            return Err(Fault::of(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && unit == Unit::Member {
            return Err(Fault::of("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        // Backwards, the higher limit comes first.
        let is_swapped = reverse && unit != Unit::Rank;
        let (min, max) = if is_swapped { (arguments[1], arguments[0]) } else { (arguments[0], arguments[1]) };
        let interval = Interval::parse(unit, min, max)?;
        // Ranks know no LIMIT; an offset alone is overlooked.
        let offset = if unit == Unit::Rank { 0 } else { offset };
        Ok(Query { interval, reverse, offset, count, with_scores })
    }

    fn ranks(&self, sorted: &Sorted) -> std::ops::Range<usize> {
        limited(self.interval.ranks(sorted, self.reverse), self.offset, self.count, self.reverse)
    }
}

fn zrange(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Fixed { unit: None, reverse: None, stores: false })
}

fn zrevrange(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Fixed { unit: Some(Unit::Rank), reverse: Some(true), stores: false })
}

fn zrangebyscore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Fixed { unit: Some(Unit::Score), reverse: Some(false), stores: false })
}

fn zrevrangebyscore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Fixed { unit: Some(Unit::Score), reverse: Some(true), stores: false })
}

fn zrangebylex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Fixed { unit: Some(Unit::Member), reverse: Some(false), stores: false })
}

fn zrevrangebylex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Fixed { unit: Some(Unit::Member), reverse: Some(true), stores: false })
}

fn show(ctx: &mut Context<'_>, argv: &Argv<'_>, fixed: Fixed) -> Outcome {
    let query = Query::parse(&argv[2..], fixed)?;
    let Some(sorted) = ctx.keys.read_as::<Sorted>(argv[1])? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let entries = sorted.range(query.ranks(sorted));
    if query.reverse {
        ctx.reply.entries(entries.rev(), query.with_scores);
    } else {
        ctx.reply.entries(entries, query.with_scores);
    }
    Ok(())
}

fn zrangestore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let query = Query::parse(&argv[3..], Fixed { unit: None, reverse: None, stores: true })?;
    let mut result = Sorted::default();
    if let Some(sorted) = ctx.keys.read_as::<Sorted>(argv[2])? {
        let ranks = query.ranks(sorted);
        // Only of a range of ranks Redis knows beforehand how long it is: then the sign of zero is kept.
        if matches!(query.interval, Interval::Ranks(..)) {
            result = Sorted::with_room(ranks.len());
        }
        for entry in sorted.range(ranks) {
            result.set(&entry.member, entry.score);
        }
    }
    ctx.store_sorted(argv[1], result);
    Ok(())
}

fn zcount(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    count(ctx, argv, Unit::Score)
}

fn zlexcount(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    count(ctx, argv, Unit::Member)
}

fn count(ctx: &mut Context<'_>, argv: &Argv<'_>, unit: Unit) -> Outcome {
    let interval = Interval::parse(unit, argv[2], argv[3])?;
    let sorted = ctx.keys.read_as::<Sorted>(argv[1])?;
    ctx.reply.count(sorted.map_or(0, |sorted| interval.ranks(sorted, false).len()));
    Ok(())
}

fn zremrangebyrank(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    remove(ctx, argv, Unit::Rank)
}

fn zremrangebyscore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    remove(ctx, argv, Unit::Score)
}

fn zremrangebylex(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    remove(ctx, argv, Unit::Member)
}

fn remove(ctx: &mut Context<'_>, argv: &Argv<'_>, unit: Unit) -> Outcome {
    let interval = Interval::parse(unit, argv[2], argv[3])?;
    let mut removed = 0;
    if let Some(sorted) = ctx.keys.write_as::<Sorted>(argv[1])? {
        let ranks = interval.ranks(sorted, false);
        removed = ranks.len();
        for _ in 0..removed {
            sorted.remove_at(ranks.start);
        }
    }
    if removed > 0 {
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.count(removed);
    Ok(())
}

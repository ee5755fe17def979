//! Handlers of single members of sorted sets: adding, removing, scores, ranks, scanning, sampling.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::float;
use super::super::number::Digits;
use super::super::types::Sorted;
use super::scanning::Found;
use super::{arguments, sampling, scanning};

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("ZADD", zadd),
    ("ZCARD", zcard),
    ("ZINCRBY", zincrby),
    ("ZMSCORE", zmscore),
    ("ZRANDMEMBER", zrandmember),
    ("ZRANK", zrank),
    ("ZREM", zrem),
    ("ZREVRANK", zrevrank),
    ("ZSCAN", zscan),
    ("ZSCORE", zscore),
];

/// 2^62: Redis takes no greater scores for integers.
const INTEGER_MAX: f64 = 4_611_686_018_427_387_904.0;

/// Which members ZADD sets, and what it replies.
#[derive(Default)]
struct Rules {
    /// Only new members (NX), only those that are there (XX).
    new_only: bool,
    old_only: bool,
    /// Only to a greater (GT) or a lesser (LT) score.
    greater_only: bool,
    lesser_only: bool,
    /// Replies how many were changed (CH).
    counts_changed: bool,
    /// Adds to the score and replies it (INCR).
    increments: bool,
}

/// What became of a member.
enum Fate {
    Added(f64),
    Changed(f64),
    Same(f64),
    /// The rules forbid it.
    Left,
}

impl Rules {
    /// Takes options from the front; gives how many there are.
    fn parse(&mut self, arguments: &[&[u8]]) -> usize {
        let is_option = |argument: &&&[u8]| {
            let option = match argument.to_ascii_uppercase().as_slice() {
                b"NX" => &mut self.new_only,
                b"XX" => &mut self.old_only,
                b"GT" => &mut self.greater_only,
                b"LT" => &mut self.lesser_only,
                b"CH" => &mut self.counts_changed,
                b"INCR" => &mut self.increments,
                _ => return false,
            };
            *option = true;
            true
        };
        arguments.iter().take_while(is_option).count()
    }

    fn check(&self, pairs: usize) -> Outcome {
        let (gt, lt, nx) = (self.greater_only, self.lesser_only, self.new_only);
        if nx && self.old_only {
            return Err(Fault::of("ERR XX and NX options at the same time are not compatible"));
        }
        if [gt, lt, nx].into_iter().filter(|&set| set).count() > 1 {
            return Err(Fault::of("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increments && pairs > 1 {
            return Err(Fault::of("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    fn apply(&self, sorted: &mut Sorted, member: &[u8], score: f64) -> Result<Fate, Fault> {
        let Some(old) = sorted.score(member) else {
            if self.old_only {
                return Ok(Fate::Left);
            }
            sorted.set(member, score);
            return Ok(Fate::Added(score));
        };
        if self.new_only {
            return Ok(Fate::Left);
        }
        let new = if self.increments { old + score } else { score };
        if new.is_nan() {
            return Err(Fault::of("ERR resulting score is not a number (NaN)"));
        }
        if self.lesser_only && new >= old || self.greater_only && new <= old {
            return Ok(Fate::Left);
        }
        if new == old {
            return Ok(Fate::Same(new));
        }
        sorted.set(member, new);
        Ok(Fate::Changed(new))
    }
}

fn zadd(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    add(ctx, argv, Rules::default())
}

fn zincrby(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    add(ctx, argv, Rules { increments: true, ..Rules::default() })
}

fn add(ctx: &mut Context<'_>, argv: &Argv<'_>, mut rules: Rules) -> Outcome {
    let key = argv[1];
    let options = rules.parse(&argv[2..]);
    let (pairs, []) = argv[2 + options..].as_chunks::<2>() else { return Err(Fault::SYNTAX) };
    if pairs.is_empty() {
        return Err(Fault::SYNTAX);
    }
    rules.check(pairs.len())?;
    let scores = pairs.iter().map(|[score, _]| arguments::double(score)).collect::<Result<Vec<_>, _>>()?;
    let is_there = ctx.keys.write_as::<Sorted>(key)?.is_some();
    let (mut added, mut changed, mut last) = (0, 0, None);
    if is_there || !rules.old_only {
        let sorted = ctx.keys.make_as::<Sorted>(key)?;
        for ([_, member], score) in pairs.iter().zip(scores) {
            last = match rules.apply(sorted, member, score)? {
                Fate::Added(score) => {
                    added += 1;
                    Some(score)
                }
                Fate::Changed(score) => {
                    changed += 1;
                    Some(score)
                }
                Fate::Same(score) => Some(score),
                Fate::Left => None,
            };
        }
    }
    if added + changed > 0 {
        ctx.keys.changed(key);
    }
    match (rules.increments, last) {
        (true, Some(score)) => ctx.reply.score(score),
        (true, None) => ctx.reply.null(),
        (false, _) => ctx.reply.integer(if rules.counts_changed { added + changed } else { added }),
    }
    Ok(())
}

fn zrem(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut removed = 0;
    if let Some(sorted) = ctx.keys.write_as::<Sorted>(argv[1])? {
        removed = argv[2..].iter().filter(|member| sorted.remove(member).is_some()).count();
    }
    if removed > 0 {
        ctx.keys.changed(argv[1]);
    }
    ctx.reply.count(removed);
    Ok(())
}

fn zcard(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let sorted = ctx.keys.read_as::<Sorted>(argv[1])?;
    ctx.reply.count(sorted.map_or(0, Sorted::len));
    Ok(())
}

fn zscore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let sorted = ctx.keys.read_as::<Sorted>(argv[1])?;
    ctx.reply.score_or_null(sorted.and_then(|sorted| sorted.score(argv[2])));
    Ok(())
}

fn zmscore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let sorted = ctx.keys.read_as::<Sorted>(argv[1])?;
    ctx.reply.array(argv.len() - 2);
    for member in &argv[2..] {
        ctx.reply.score_or_null(sorted.and_then(|sorted| sorted.score(member)));
    }
    Ok(())
}

fn zrank(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    rank(ctx, argv, "zrank", |rank, _| rank)
}

fn zrevrank(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    rank(ctx, argv, "zrevrank", |rank, len| len - 1 - rank)
}

fn rank(ctx: &mut Context<'_>, argv: &Argv<'_>, name: &str, counted: fn(usize, usize) -> usize) -> Outcome {
    // The command table also knows the WITHSCORE of later versions.
    if argv.len() > 3 {
        return Err(Fault::arity(name));
    }
    let sorted = ctx.keys.read_as::<Sorted>(argv[1])?;
    match sorted.and_then(|sorted| Some(counted(sorted.rank(argv[2])?, sorted.len()))) {
        Some(rank) => ctx.reply.count(rank),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn zscan(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let cursor = scanning::cursor(argv[2])?;
    let Some(sorted) = ctx.keys.read_as::<Sorted>(argv[1])? else {
        scanning::reply_nothing(&mut ctx.reply);
        return Ok(());
    };
    let options = scanning::options(&argv[3..])?;
    let text = |score: f64| match score as i64 {
        // What Redis keeps as integers in a small set, it shows as such.
        integer if sorted.is_small() && integer as f64 == score && score.abs() < INTEGER_MAX => {
            Digits::of(integer).to_vec()
        }
        _ => float::double_text(score),
    };
    let scan = |cursor, found: &mut Found<'_>| {
        sorted.scan(cursor, &mut |member, score| found(member, Some(&text(score))))
    };
    scanning::reply(&mut ctx.reply, cursor, &options, scan);
    Ok(())
}

fn zrandmember(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let seed = ctx.keys.keyspace.random.next_u64();
    let options = sampling::parse(argv, "WITHSCORES")?;
    let sorted = ctx.keys.read_as::<Sorted>(argv[1])?;
    let Some(options) = options else {
        let entry = sorted.and_then(|sorted| sorted.get(sampling::below(seed, sorted.len())));
        ctx.reply.bulk_or_null(entry.map(|entry| &*entry.member));
        return Ok(());
    };
    let positions = sampling::positions(seed, sorted.map_or(0, Sorted::len), options.count);
    let entries: Vec<_> = positions.into_iter().filter_map(|rank| sorted?.get(rank)).collect();
    ctx.reply.entries(entries.into_iter(), options.with_more);
    Ok(())
}

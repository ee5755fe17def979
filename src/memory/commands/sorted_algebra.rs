//! Handlers that combine sorted sets, and plain sets as such whose scores are all 1.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::dict::Dict;
use super::super::keys::Keys;
use super::super::object::Value;
use super::super::types::{Set, Sorted};
use super::arguments;
use std::borrow::Cow;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("ZDIFF", zdiff),
    ("ZDIFFSTORE", zdiffstore),
    ("ZINTER", zinter),
    ("ZINTERCARD", zintercard),
    ("ZINTERSTORE", zinterstore),
    ("ZUNION", zunion),
    ("ZUNIONSTORE", zunionstore),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
    /// How large the intersection is.
    Cardinality,
}

/// `numkeys key.. [WEIGHTS weight..] [AGGREGATE SUM|MIN|MAX] [WITHSCORES] [LIMIT limit]`, as far as the operation knows them.
struct Query<'a, 'b> {
    operation: Operation,
    keys: &'b [&'a [u8]],
    weights: Vec<f64>,
    aggregate: fn(f64, f64) -> f64,
    with_scores: bool,
    limit: usize,
}

/// A source; one that is not there is empty.
#[derive(Clone, Copy)]
enum Source<'a> {
    Nothing,
    Plain(&'a Set),
    Sorted(&'a Sorted),
}

fn zunion(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Operation::Union)
}

fn zinter(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Operation::Intersection)
}

fn zdiff(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, Operation::Difference)
}

fn zunionstore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store(ctx, argv, Operation::Union)
}

fn zinterstore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store(ctx, argv, Operation::Intersection)
}

fn zdiffstore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store(ctx, argv, Operation::Difference)
}

fn show(ctx: &mut Context<'_>, argv: &Argv<'_>, operation: Operation) -> Outcome {
    let query = Query::parse(&mut ctx.keys, argv[0], &argv[1..], operation, false)?;
    let result = query.run(&ctx.keys);
    ctx.reply.entries(result.iter(), query.with_scores);
    Ok(())
}

fn store(ctx: &mut Context<'_>, argv: &Argv<'_>, operation: Operation) -> Outcome {
    let query = Query::parse(&mut ctx.keys, argv[0], &argv[2..], operation, true)?;
    let result = query.run(&ctx.keys).compacted();
    ctx.store_sorted(argv[1], result);
    Ok(())
}

fn zintercard(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let query = Query::parse(&mut ctx.keys, argv[0], &argv[1..], Operation::Cardinality, false)?;
    let (sources, keys) = (query.sources(&ctx.keys), query.limit);
    let limit = if keys == 0 { usize::MAX } else { keys };
    let is_common = |member: &[u8]| sources[1..].iter().all(|(source, _)| source.score(member).is_some());
    let common = sources[0].0.iter().filter(|(member, _)| is_common(member)).take(limit).count();
    ctx.reply.count(common);
    Ok(())
}

impl<'a, 'b> Query<'a, 'b> {
    /// Looks at the keys before the options, as Redis does: WRONGTYPE comes before a syntax error behind it.
    fn parse(
        keyspace: &mut Keys<'_>,
        name: &[u8],
        arguments: &'b [&'a [u8]],
        operation: Operation,
        stores: bool,
    ) -> Result<Query<'a, 'b>, Fault> {
        let count = arguments::integer(arguments[0])?;
        if count < 1 {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            return Err(Fault::with(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let (keys, options) = arguments[1..].split_at_checked(count as usize).ok_or(Fault::SYNTAX)?;
        for key in keys {
            match keyspace.read(key).map(|object| &object.value) {
                None | Some(Value::Set(_) | Value::Sorted(_)) => {}
                Some(_) => return Err(Fault::WRONG_TYPE),
            }
        }
        let mut query = Query {
            operation,
            keys,
            weights: vec![1.0; keys.len()],
            aggregate: sum,
            with_scores: false,
            limit: 0,
        };
        query.parse_options(options, stores)?;
        Ok(query)
    }

    fn parse_options(&mut self, mut options: &[&[u8]], stores: bool) -> Outcome {
        let counts = self.operation == Operation::Cardinality;
        let weighs = matches!(self.operation, Operation::Union | Operation::Intersection);
        while let [option, rest @ ..] = options {
            options = match rest {
                _ if weighs && arguments::is(option, "WEIGHTS") => {
                    let (weights, rest) = rest.split_at_checked(self.keys.len()).ok_or(Fault::SYNTAX)?;
                    for (weight, text) in self.weights.iter_mut().zip(weights) {
                        let no_float = Fault::of("ERR weight value is not a float");
                        *weight = arguments::double(text).map_err(|_| no_float)?;
                    }
                    rest
                }
                [how, rest @ ..] if weighs && arguments::is(option, "AGGREGATE") => {
                    self.aggregate = match how.to_ascii_uppercase().as_slice() {
                        b"SUM" => sum,
                        b"MIN" => |own, other| if other < own { other } else { own },
                        b"MAX" => |own, other| if other > own { other } else { own },
                        _ => return Err(Fault::SYNTAX),
                    };
                    rest
                }
                rest if !stores && !counts && arguments::is(option, "WITHSCORES") => {
                    self.with_scores = true;
                    rest
                }
                [limit, rest @ ..] if counts && arguments::is(option, "LIMIT") => {
                    self.limit = arguments::at_least(0, limit, "ERR LIMIT can't be negative")?;
                    rest
                }
                _ => return Err(Fault::SYNTAX),
            };
        }
        Ok(())
    }

    /// With their weights. The smallest comes first, except for a difference; sums depend on the order.
    fn sources<'c>(&self, keys: &'c Keys<'_>) -> Vec<(Source<'c>, f64)> {
        let source = |key: &&[u8]| match keys.look(key).map(|object| &object.value) {
            Some(Value::Set(set)) => Source::Plain(set),
            Some(Value::Sorted(sorted)) => Source::Sorted(sorted),
            _ => Source::Nothing,
        };
        let mut sources: Vec<_> = self.keys.iter().map(source).zip(self.weights.iter().copied()).collect();
        if self.operation != Operation::Difference {
            sources.sort_by_key(|(source, _)| source.len());
        }
        sources
    }

    fn run(&self, keys: &Keys<'_>) -> Sorted {
        let sources = self.sources(keys);
        match self.operation {
            Operation::Union => self.union(&sources),
            Operation::Intersection | Operation::Cardinality => self.intersection(&sources),
            Operation::Difference => difference(&sources),
        }
    }

    fn union(&self, sources: &[(Source<'_>, f64)]) -> Sorted {
        let mut scores: Dict<f64> = Dict::new();
        for (source, weight) in sources {
            for (member, score) in source.iter() {
                let score = number_or_zero(weight * score);
                match scores.get_mut(&member) {
                    Some(sum) => *sum = (self.aggregate)(*sum, score),
                    None => {
                        scores.insert(&member, score);
                    }
                }
            }
        }
        collected(scores.iter().map(|(member, score)| (member, *score)))
    }

    fn intersection(&self, sources: &[(Source<'_>, f64)]) -> Sorted {
        let [(first, weight), others @ ..] = sources else { return Sorted::default() };
        let mut result = Sorted::with_table();
        for (member, score) in first.iter() {
            let first = Some(number_or_zero(weight * score));
            let total = others.iter().fold(first, |total, (source, weight)| {
                Some((self.aggregate)(total?, source.score(&member)? * weight))
            });
            if let Some(total) = total {
                result.set(&member, total);
            }
        }
        result
    }
}

fn difference(sources: &[(Source<'_>, f64)]) -> Sorted {
    let [(first, _), others @ ..] = sources else { return Sorted::default() };
    let mut result = Sorted::with_table();
    for (member, score) in first.iter() {
        if others.iter().all(|(source, _)| source.score(&member).is_none()) {
            result.set(&member, score);
        }
    }
    result
}

fn collected<'m>(members: impl Iterator<Item = (&'m [u8], f64)>) -> Sorted {
    let mut sorted = Sorted::with_table();
    members.for_each(|(member, score)| {
        sorted.set(member, score);
    });
    sorted
}

/// Infinity and minus infinity give 0.
fn sum(own: f64, other: f64) -> f64 {
    number_or_zero(own + other)
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Source::Nothing => 0,
            Source::Plain(set) => set.len(),
            Source::Sorted(sorted) => sorted.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Nothing => None,
            Source::Plain(set) => set.contains(member).then_some(1.0),
            Source::Sorted(sorted) => sorted.score(member),
        }
    }

    fn iter(self) -> impl Iterator<Item = (Cow<'a, [u8]>, f64)> {
        let (plain, sorted) = match self {
            Source::Nothing => (None, None),
            Source::Plain(set) => (Some(set), None),
            Source::Sorted(sorted) => (None, Some(sorted)),
        };
        let plain = plain.into_iter().flat_map(Set::iter).map(|member| (member, 1.0));
        let sorted = sorted.into_iter().flat_map(Sorted::iter);
        plain.chain(sorted.map(|entry| (Cow::Borrowed(&*entry.member), entry.score)))
    }
}

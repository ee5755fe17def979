//! Handlers that combine sets: intersections, unions, differences.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::keys::Keys;
use super::super::types::Set;
use super::arguments;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("SDIFF", sdiff),
    ("SDIFFSTORE", sdiffstore),
    ("SINTER", sinter),
    ("SINTERCARD", sintercard),
    ("SINTERSTORE", sinterstore),
    ("SUNION", sunion),
    ("SUNIONSTORE", sunionstore),
];

type Combination = fn(&[Option<&Set>]) -> Set;

fn sinter(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, intersection)
}

fn sunion(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, union)
}

fn sdiff(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    show(ctx, argv, difference)
}

fn sinterstore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store(ctx, argv, intersection)
}

fn sunionstore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store(ctx, argv, union)
}

fn sdiffstore(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    store(ctx, argv, difference)
}

fn show(ctx: &mut Context<'_>, argv: &Argv<'_>, combine: Combination) -> Outcome {
    let result = combine(&sets(&mut ctx.keys, &argv[1..])?);
    ctx.reply.set(result.len());
    result.iter().for_each(|member| ctx.reply.bulk(&member));
    Ok(())
}

fn store(ctx: &mut Context<'_>, argv: &Argv<'_>, combine: Combination) -> Outcome {
    let result = combine(&sets(&mut ctx.keys, &argv[2..])?);
    ctx.reply.count(result.len());
    if result.is_empty() {
        ctx.keys.remove(argv[1]);
    } else {
        ctx.keys.insert(argv[1], result);
    }
    Ok(())
}

fn sintercard(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let too_many = Fault::of("ERR Number of keys can't be greater than number of args");
    let (keys, mut options) = arguments::counted_keys(&argv[1..], too_many)?;
    let mut limit = 0;
    while let [option, value, rest @ ..] = options
        && arguments::is(option, "LIMIT")
    {
        limit = arguments::at_least(0, value, "ERR LIMIT can't be negative")?;
        options = rest;
    }
    if !options.is_empty() {
        return Err(Fault::SYNTAX);
    }
    let sets = sets(&mut ctx.keys, keys)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let common = smallest(&sets).map_or(0, |smallest| {
        smallest.iter().filter(|member| are_all_with(&sets, member)).take(limit).count()
    });
    ctx.reply.count(common);
    Ok(())
}

/// The sets of these keys; every key is looked at before it is said that one is of another kind.
fn sets<'c>(keys: &'c mut Keys<'_>, names: &[&[u8]]) -> Result<Vec<Option<&'c Set>>, Fault> {
    for name in names {
        keys.read_as::<Set>(name)?;
    }
    let keys = &*keys;
    Ok(names.iter().map(|name| keys.look(name).and_then(|object| object.as_kind())).collect())
}

/// `None` if one of them is not there.
fn smallest<'a>(sets: &[Option<&'a Set>]) -> Option<&'a Set> {
    sets.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().min_by_key(|set| set.len())
}

fn are_all_with(sets: &[Option<&Set>], member: &[u8]) -> bool {
    sets.iter().flatten().all(|set| set.contains(member))
}

fn intersection(sets: &[Option<&Set>]) -> Set {
    let mut result = Set::default();
    if let Some(smallest) = smallest(sets) {
        for member in smallest.iter().filter(|member| are_all_with(sets, member)) {
            result.add(&member);
        }
    }
    result
}

fn union(sets: &[Option<&Set>]) -> Set {
    let mut result = Set::default();
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        result.add(&member);
    }
    result
}

/// Members of the first without those of the others: by looking each of them up in the others, or, where these are
/// smaller, by taking theirs away.
fn difference(sets: &[Option<&Set>]) -> Set {
    let [Some(first), others @ ..] = sets else { return Set::default() };
    let mut result = Set::default();
    let looking_up = first.len() * sets.iter().flatten().count() / 2;
    let taking_away: usize = sets.iter().flatten().map(|set| set.len()).sum();
    if looking_up <= taking_away {
        for member in first.iter().filter(|member| !others.iter().flatten().any(|set| set.contains(member))) {
            result.add(&member);
        }
    } else {
        first.iter().for_each(|member| {
            result.add(&member);
        });
        for member in others.iter().flatten().flat_map(|set| set.iter()) {
            result.remove(&member);
        }
    }
    result
}

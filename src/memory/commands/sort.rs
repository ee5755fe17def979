//! SORT and SORT_RO: elements of a list, a set or a sorted set by themselves or by other keys, and what other keys hold
//! for them.

use super::super::compact::Compact;
use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::float;
use super::super::keys::Keys;
use super::super::object::Value;
use super::super::types::{End, List};
use super::arguments;
use std::cmp::Ordering;
use std::ops::Range;

pub(super) const COMMANDS: &[(&str, Handler)] = &[("SORT", sort), ("SORT_RO", sort_ro)];

#[derive(Default)]
struct Query<'a> {
    /// A pattern whose `*` is the element. Without a `*` nothing is sorted.
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    offset: i64,
    /// Negative: all.
    count: i64,
    by_text: bool,
    descending: bool,
    store: Option<&'a [u8]>,
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

fn sort(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let query = Query::parse(&argv[2..], true)?;
    run(ctx, argv[1], query)
}

fn sort_ro(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let query = Query::parse(&argv[2..], false)?;
    run(ctx, argv[1], query)
}

impl<'a> Query<'a> {
    fn parse(mut options: &[&'a [u8]], may_store: bool) -> Result<Query<'a>, Fault> {
        let mut query = Query { count: -1, ..Query::default() };
        loop {
            options = match options {
                [] => return Ok(query),
                [option, rest @ ..] if arguments::is(option, "ASC") => {
                    query.descending = false;
                    rest
                }
                [option, rest @ ..] if arguments::is(option, "DESC") => {
                    query.descending = true;
                    rest
                }
                [option, rest @ ..] if arguments::is(option, "ALPHA") => {
                    query.by_text = true;
                    rest
                }
                [option, offset, count, rest @ ..] if arguments::is(option, "LIMIT") => {
                    query.offset = arguments::integer(offset)?;
                    query.count = arguments::integer(count)?;
                    rest
                }
                [option, key, rest @ ..] if may_store && arguments::is(option, "STORE") => {
                    query.store = Some(key);
                    rest
                }
                [option, pattern, rest @ ..] if arguments::is(option, "BY") => {
                    query.by = Some(pattern);
                    rest
                }
                [option, pattern, rest @ ..] if arguments::is(option, "GET") => {
                    query.get.push(pattern);
                    rest
                }
                _ => return Err(Fault::SYNTAX),
            };
        }
    }

    /// What LIMIT leaves of `len` elements.
    fn span(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(len);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX).min(len - start);
        start..start + count
    }
}

fn run(ctx: &mut Context<'_>, key: &[u8], mut query: Query<'_>) -> Outcome {
    let keeps_order = query.by.is_some_and(|pattern| !pattern.contains(&b'*'));
    let object = ctx.keys.read(key).map(|object| &object.value);
    // A set has no order to keep, and what is stored or shown to a script should not depend on chance.
    let is_set = matches!(object, Some(Value::Set(_)));
    let sorts_set = keeps_order && is_set && (query.store.is_some() || !ctx.may_block);
    let mut elements: Vec<Compact> = match object {
        None => Vec::new(),
        Some(Value::List(list)) => list.iter().map(Compact::from).collect(),
        Some(Value::Set(set)) => set.iter().map(|member| Compact::from(&*member)).collect(),
        Some(Value::Sorted(sorted)) => sorted.iter().map(|entry| entry.member.clone()).collect(),
        Some(_) => return Err(Fault::WRONG_TYPE),
    };
    if keeps_order && query.descending && !is_set {
        elements.reverse();
    }
    if sorts_set {
        (query.by, query.by_text) = (None, true);
    }
    if !keeps_order || sorts_set {
        elements = sorted(&mut ctx.keys, elements, &query)?;
    }
    let shown = &elements[query.span(elements.len())];
    let texts = shown.iter().flat_map(|element| match query.get.is_empty() {
        true => vec![Some(element.to_vec())],
        false => query.get.iter().map(|pattern| looked_up(&mut ctx.keys, pattern, element)).collect(),
    });
    let texts: Vec<Option<Vec<u8>>> = texts.collect();
    match query.store {
        Some(target) => store(ctx, target, &texts),
        None => {
            ctx.reply.array(texts.len());
            texts.iter().for_each(|text| ctx.reply.bulk_or_null(text.as_deref()));
        }
    }
    Ok(())
}

fn store(ctx: &mut Context<'_>, target: &[u8], texts: &[Option<Vec<u8>>]) {
    let mut list = List::default();
    texts.iter().for_each(|text| list.push(End::Right, text.as_deref().unwrap_or_default()));
    if list.is_empty() {
        ctx.keys.remove(target);
    } else {
        ctx.keys.insert(target, list);
    }
    ctx.reply.count(texts.len());
}

fn sorted(keys: &mut Keys<'_>, elements: Vec<Compact>, query: &Query<'_>) -> Result<Vec<Compact>, Fault> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let text = match query.by {
            Some(pattern) => looked_up(keys, pattern, &element),
            None => Some(element.to_vec()),
        };
        let weight = match text {
            text if query.by_text => Weight::Text(text),
            None => Weight::Number(0.0),
            Some(text) => {
                let no_double = Fault::of("ERR One or more scores can't be converted into double");
                Weight::Number(float::parse_weight(&text).ok_or(no_double)?)
            }
        };
        weighed.push((weight, element));
    }
    weighed.sort_by(|one, other| {
        let order = compare(one, other);
        if query.descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// Equal numbers are ordered by their elements; equal texts are not.
fn compare(one: &(Weight, Compact), other: &(Weight, Compact)) -> Ordering {
    match (&one.0, &other.0) {
        (Weight::Number(own), Weight::Number(number)) => {
            let numbers = own.partial_cmp(number).expect("a weight is never NaN");
            numbers.then_with(|| one.1.cmp(&other.1))
        }
        (Weight::Text(own), Weight::Text(text)) => own.cmp(text),
        _ => unreachable!("all are weighed alike"),
    }
}

/// What the pattern says of an element: `#` the element itself, `prefix*suffix` the string of that key,
/// `prefix*suffix->field` a field of the hash there.
fn looked_up(keys: &mut Keys<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let (prefix, suffix) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = suffix.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < suffix.len());
    let (suffix, field) = match arrow {
        Some(at) => (&suffix[..at], Some(&suffix[at + 2..])),
        None => (suffix, None),
    };
    let key = [prefix, element, suffix].concat();
    match (&keys.read(&key)?.value, field) {
        (Value::String(text), None) => Some(text.to_vec()),
        (Value::Hash(hash), Some(field)) => hash.get(field).map(<[u8]>::to_vec),
        _ => None,
    }
}

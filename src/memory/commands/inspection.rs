//! What is known of a key's value besides it: OBJECT and MEMORY USAGE.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::number::integer_argument;
use super::super::object::{Text, Value};
use super::arguments::is;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("MEMORY|HELP", memory_help),
    ("MEMORY|USAGE", usage),
    ("OBJECT|ENCODING", encoding),
    ("OBJECT|FREQ", frequency),
    ("OBJECT|HELP", object_help),
    ("OBJECT|IDLETIME", idle_time),
    ("OBJECT|REFCOUNT", references),
];

/// Small integers are one shared object in Redis, counted so often.
const SHARED: i64 = i32::MAX as i64;
const SHARED_INTEGERS: i64 = 10_000;

fn encoding(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let encoding = ctx.keys.peek(argv[2]).map(|object| object.value.encoding());
    ctx.reply.bulk_or_null(encoding.map(str::as_bytes));
    Ok(())
}

fn references(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let settings = ctx.keys.keyspace.settings();
    let shares = settings.bytes_max == 0 || !settings.policy.notes_uses();
    match ctx.keys.peek(argv[2]).map(|object| &object.value) {
        Some(Value::String(Text::Integer(0..SHARED_INTEGERS))) if shares => ctx.reply.integer(SHARED),
        Some(_) => ctx.reply.integer(1),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn idle_time(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    reply_use(ctx, argv[2], false)
}

fn frequency(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    reply_use(ctx, argv[2], true)
}

/// When it was used, or how often: the policy knows one of the two.
fn reply_use(ctx: &mut Context<'_>, key: &[u8], counts: bool) -> Outcome {
    let Some(access) = ctx.keys.peek(key).map(|object| object.access) else {
        ctx.reply.null();
        return Ok(());
    };
    let (keyspace, now_ms) = (&ctx.keys.keyspace, ctx.keys.now_ms);
    match (counts, keyspace.settings().policy.counts_uses()) {
        (true, true) => ctx.reply.integer(i64::from(keyspace.frequency(access, now_ms))),
        (false, false) => ctx.reply.integer(keyspace.idle_seconds(access, now_ms) as i64),
        (true, false) => {
            return Err(Fault::of(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        (false, true) => {
            return Err(Fault::of(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

fn usage(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let mut options = argv[3..].iter();
    while let Some(option) = options.next() {
        let samples = options.next().filter(|_| is(option, "SAMPLES")).ok_or(Fault::SYNTAX)?;
        if integer_argument(samples)? < 0 {
            return Err(Fault::SYNTAX);
        }
    }
    match ctx.keys.bytes_of(argv[2]) {
        Some(bytes) => ctx.reply.count(bytes),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn object_help(ctx: &mut Context<'_>, _: &Argv<'_>) -> Outcome {
    ctx.reply.help(&[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}

fn memory_help(ctx: &mut Context<'_>, _: &Argv<'_>) -> Outcome {
    ctx.reply.help(&[
        "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value. Nested values are",
        "    sampled up to <count> times (default: 5, 0 means sample all).",
        "HELP",
        "    Prints this help.",
    ]);
    Ok(())
}

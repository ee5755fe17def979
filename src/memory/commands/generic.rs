//! Commands on keys of any kind: DEL, EXISTS, TYPE, TOUCH, RENAME, COPY, MOVE.

use super::super::context::{Argv, Context, Fault, Handler, Outcome};
use super::super::object::Object;
use super::arguments::is;

pub(super) const COMMANDS: &[(&str, Handler)] = &[
    ("COPY", copy),
    ("DEL", del),
    ("EXISTS", exists),
    ("MOVE", move_key),
    ("RENAME", rename),
    ("RENAMENX", renamenx),
    ("TOUCH", touch),
    ("TYPE", kind),
    ("UNLINK", del),
];

const SAME: Fault = Fault::of("ERR source and destination objects are the same");

fn del(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let removed = argv[1..].iter().filter(|key| ctx.keys.remove(key)).count();
    ctx.reply.count(removed);
    Ok(())
}

fn exists(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let found = argv[1..].iter().filter(|key| ctx.keys.read_untouched(key).is_some()).count();
    ctx.reply.count(found);
    Ok(())
}

fn touch(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let found = argv[1..].iter().filter(|key| ctx.keys.read(key).is_some()).count();
    ctx.reply.count(found);
    Ok(())
}

fn kind(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let kind = ctx.keys.read_untouched(argv[1]).map_or("none", |object| object.value.kind());
    ctx.reply.simple(kind);
    Ok(())
}

fn rename(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (from, to) = (argv[1], argv[2]);
    if !ctx.keys.exists(from) {
        return Err(Fault::NO_SUCH_KEY);
    }
    if from != to {
        move_within(ctx, from, to);
    }
    ctx.reply.ok();
    Ok(())
}

fn renamenx(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (from, to) = (argv[1], argv[2]);
    if !ctx.keys.exists(from) {
        return Err(Fault::NO_SUCH_KEY);
    }
    // Also where both are the same key.
    let is_free = !ctx.keys.exists(to);
    if is_free {
        move_within(ctx, from, to);
    }
    ctx.reply.flag(is_free);
    Ok(())
}

fn move_within(ctx: &mut Context<'_>, from: &[u8], to: &[u8]) {
    let object = ctx.keys.take(from).expect("the source was there above");
    ctx.keys.put(to, object);
}

/// The number of a database.
fn database(ctx: &Context<'_>, argument: &[u8]) -> Result<u32, Fault> {
    let db = super::int(argument)?;
    u32::try_from(db)
        .ok()
        .filter(|&db| db < ctx.keys.keyspace.databases())
        .ok_or(Fault::of("ERR DB index is out of range"))
}

fn copy(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let (from, to) = (argv[1], argv[2]);
    let (mut db, mut replaces) = (ctx.keys.db, false);
    let mut options = argv[3..].iter();
    while let Some(option) = options.next() {
        match () {
            _ if is(option, "REPLACE") => replaces = true,
            _ if is(option, "DB") => db = database(ctx, options.next().ok_or(Fault::SYNTAX)?)?,
            _ => return Err(Fault::SYNTAX),
        }
    }
    if db == ctx.keys.db && from == to {
        return Err(SAME);
    }
    let copied = ctx.keys.read(from).map(Object::duplicate);
    let mut target = ctx.keys.of_database(db);
    let copied = copied.filter(|_| replaces || !target.exists(to));
    let is_copied = copied.is_some();
    if let Some(object) = copied {
        target.put(to, object);
    }
    ctx.reply.flag(is_copied);
    Ok(())
}

fn move_key(ctx: &mut Context<'_>, argv: &Argv<'_>) -> Outcome {
    let key = argv[1];
    let db = database(ctx, argv[2])?;
    if db == ctx.keys.db {
        return Err(SAME);
    }
    let moves = ctx.keys.exists(key) && !ctx.keys.of_database(db).exists(key);
    if moves {
        let object = ctx.keys.take(key).expect("the key was there above");
        ctx.keys.of_database(db).put(key, object);
    }
    ctx.reply.flag(moves);
    Ok(())
}

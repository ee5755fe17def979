//! Understands PRESENCE requests. Names no key and chooses no script.
use super::{Arguments, Command, Entry, Fault, Join, NOT_AN_INTEGER, SYNTAX_ERROR, Update, json};
use crate::state::arguments::integer;

/// Thirty years: deadlines in microseconds stay whole numbers in Lua.
const TTL_MS_MAX: u64 = 30 * 365 * 24 * 3600 * 1000;

/// Most pairs in one HEARTBEAT.
const PAIRS_MAX: usize = 100_000;

/// `None` for a verb that does not exist.
pub fn parse(verb: &[u8], args: &mut Arguments) -> Result<Option<Command>, Fault> {
    let command = match verb {
        b"JOIN" => Command::Join(join(args)?),
        b"LEAVE" => {
            let entry = entry(args)?;
            args.end()?;
            Command::Leave(entry.checked()?)
        }
        b"LEAVEALL" => Command::LeaveAll { connection: filled(only(args)?, "connection")? },
        b"HEARTBEAT" => Command::Heartbeat { entries: heartbeat(args)? },
        b"UPDATE" => {
            let entry = entry(args)?;
            let (word, meta) = (args.required()?, args.required()?);
            args.end()?;
            if !word.eq_ignore_ascii_case(b"META") {
                return Err(SYNTAX_ERROR.into());
            }
            Command::Update(Update { entry: entry.checked()?, meta: json::checked(meta)? })
        }
        b"MEMBERS" => {
            let channel = channel(args.required()?)?;
            let with_meta = match args.option().as_deref() {
                None => false,
                Some(b"WITHMETA") if args.is_empty() => true,
                Some(_) => return Err(SYNTAX_ERROR.into()),
            };
            Command::Members { channel, with_meta }
        }
        b"STATE" => Command::State { channel: channel(only(args)?)? },
        b"COUNT" => Command::Count { channel: channel(only(args)?)? },
        b"CHANNELS" => Command::Channels { user: filled(only(args)?, "user id")? },
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn join(args: &mut Arguments) -> Result<Join, Fault> {
    let entry = entry(args)?.checked()?;
    let mut join = Join { entry, meta: None, ttl_ms: None, bind: false };
    while let Some(option) = args.option() {
        match option.as_slice() {
            b"META" => join.meta = Some(json::checked(args.value()?)?),
            b"TTL" => join.ttl_ms = Some(ttl_ms(args.value()?, args)?),
            b"BIND" => join.bind = true,
            _ => return Err(SYNTAX_ERROR.into()),
        }
    }
    Ok(join)
}

fn heartbeat(args: &mut Arguments) -> Result<Vec<Entry>, Fault> {
    let connection = filled(args.required()?, "connection")?;
    let pairs = args.take_rest();
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(args.wrong_number());
    }
    if pairs.len() / 2 > PAIRS_MAX {
        return Err("ERR too many pairs in one HEARTBEAT".into());
    }
    let beat = |pair: &[&[u8]]| {
        let connection = connection.clone();
        Ok(Entry { channel: channel(pair[0])?, user: filled(pair[1], "user id")?, connection })
    };
    pairs.chunks_exact(2).map(beat).collect()
}

/// An entry whose names are still to be checked, so that a wrong number of arguments is found first.
struct Unchecked<'a> {
    channel: &'a [u8],
    user: &'a [u8],
    connection: &'a [u8],
}

fn entry<'a>(args: &mut Arguments<'a>) -> Result<Unchecked<'a>, Fault> {
    Ok(Unchecked { channel: args.required()?, user: args.required()?, connection: args.required()? })
}

impl Unchecked<'_> {
    fn checked(&self) -> Result<Entry, Fault> {
        Ok(Entry {
            channel: channel(self.channel)?,
            user: filled(self.user, "user id")?,
            connection: filled(self.connection, "connection")?,
        })
    }
}

fn only<'a>(args: &mut Arguments<'a>) -> Result<&'a [u8], Fault> {
    let only = args.required()?;
    args.end()?;
    Ok(only)
}

fn filled(name: &[u8], what: &str) -> Result<Vec<u8>, Fault> {
    if name.is_empty() { Err(format!("ERR a {what} cannot be empty").into()) } else { Ok(name.to_vec()) }
}

/// A channel stands in a hash tag, which cannot be empty or hold braces. One that ended in `:user` or `:users` would share
/// keys with another.
fn channel(name: &[u8]) -> Result<Vec<u8>, Fault> {
    if name.iter().any(|byte| matches!(byte, b'{' | b'}')) {
        return Err("ERR the name of a channel cannot hold { or }".into());
    }
    if name.ends_with(b":user") || name.ends_with(b":users") {
        return Err("ERR the name of a channel cannot end in :user or :users".into());
    }
    filled(name, "channel")
}

fn ttl_ms(text: &[u8], args: &Arguments) -> Result<u64, Fault> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let value = integer(unsigned, 0..=i64::MAX as u64).map_err(|_| NOT_AN_INTEGER)?;
    if unsigned.len() < text.len() || !(1..=TTL_MS_MAX).contains(&value) {
        return Err(format!("ERR invalid expire time in '{}' command", args.command()).into());
    }
    Ok(value)
}

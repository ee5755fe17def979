//! Commands about the server and the connection that need little: PING, ECHO, SELECT, TIME, MEMORY, SLOWLOG, LATENCY,
//! ACL, DEBUG and what clients ask for at their start. What the engine has nothing of (replicas, a slow log, users)
//! is answered as an empty Redis answers.

use std::time::Duration;

use super::super::context::{Argv, Fault, Outcome};
use super::super::number;
use super::calls::Call;
use super::dispatch::{Turn, ok};
use crate::resp;

pub(super) const CALLS: &[(&str, Call)] = &[
    ("PING", ping),
    ("ECHO", echo),
    ("SELECT", select),
    ("TIME", time),
    ("LASTSAVE", last_save),
    ("LOLWUT", |turn, _| verbatim(turn, "Redis ver. 7.0.15, as madcache keeps it in memory\n")),
    ("ROLE", role),
    ("WAIT", wait),
    ("MODULE|LIST", empty_array),
    ("MEMORY|DOCTOR", |turn, _| {
        verbatim(turn, "Nothing to report: this engine has no allocator of its own.")
    }),
    ("MEMORY|MALLOC-STATS", |turn, _| verbatim(turn, "Stats not supported for the current allocator")),
    ("MEMORY|PURGE", |turn, _| ok(turn)),
    ("MEMORY|STATS", memory_stats),
    ("SLOWLOG|GET", slowlog_get),
    ("SLOWLOG|LEN", |turn, _| zero(turn)),
    ("SLOWLOG|RESET", |turn, _| ok(turn)),
    ("LATENCY|LATEST", empty_array),
    ("LATENCY|HISTORY", empty_array),
    ("LATENCY|RESET", |turn, _| zero(turn)),
    ("LATENCY|HISTOGRAM", empty_map),
    ("LATENCY|DOCTOR", |turn, _| {
        verbatim(turn, "Latencies are not recorded here; the daemon's metrics show them.")
    }),
    ("LATENCY|GRAPH", latency_graph),
    ("ACL|WHOAMI", whoami),
    ("ACL|USERS", users),
    ("ACL|LIST", |turn, _| list(turn, &["user default on nopass ~* &* +@all"])),
    ("DEBUG", debug),
];

/// As subcommands with a wrong number of arguments are answered where the table allows any number.
pub(super) fn wrong_subcommand(argv: &Argv<'_>) -> Fault {
    let sub = String::from_utf8_lossy(argv.get(1).copied().unwrap_or_default()).into_owned();
    let name = String::from_utf8_lossy(&argv[0].to_ascii_uppercase()).into_owned();
    Fault::with(format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."))
}

fn ping(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() > 2 {
        return Err(Fault::arity("ping"));
    }
    if turn.caller.is_subscriber() && !turn.caller.resp3 {
        resp::array_header(turn.out, 2);
        resp::bulk(turn.out, b"pong");
        resp::bulk(turn.out, argv.get(1).copied().unwrap_or_default());
        return Ok(());
    }
    match argv.get(1) {
        Some(word) => resp::bulk(turn.out, word),
        None => resp::simple(turn.out, "PONG"),
    }
    Ok(())
}

fn echo(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    resp::bulk(turn.out, argv[1]);
    Ok(())
}

fn select(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let index = number::integer_argument(argv[1])?;
    let databases = turn.core.borrow().keyspace.databases();
    match u32::try_from(index) {
        Ok(db) if db < databases => turn.caller.db = db,
        _ if i32::try_from(index).is_err() => {
            let text = "ERR value is out of range, value must between -2147483648 and 2147483647";
            return Err(Fault::of(text));
        }
        _ => return Err(Fault::of("ERR DB index is out of range")),
    }
    ok(turn)
}

fn time(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let (seconds, us) = (turn.now_us / 1_000_000, turn.now_us % 1_000_000);
    resp::array_header(turn.out, 2);
    turn.reply().bulk_integer(seconds as i64);
    turn.reply().bulk_integer(us as i64);
    Ok(())
}

/// Nothing is ever saved; the time of the start is what Redis answers then.
fn last_save(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let started = (turn.now_us / 1_000_000).saturating_sub(turn.inner.started.elapsed().as_secs());
    turn.reply().integer(started as i64);
    Ok(())
}

fn role(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let mut reply = turn.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(())
}

/// There are no replicas to wait for.
fn wait(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    number::integer_argument(argv[1])?;
    let timeout =
        number::integer(argv[2]).ok_or(Fault::of("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(Fault::of("ERR timeout is negative"));
    }
    zero(turn)
}

fn zero(turn: &mut Turn<'_>) -> Outcome {
    turn.reply().integer(0);
    Ok(())
}

fn verbatim(turn: &mut Turn<'_>, text: &str) -> Outcome {
    turn.reply().verbatim(text.as_bytes());
    Ok(())
}

fn empty_array(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().array(0);
    Ok(())
}

fn empty_map(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().map(0);
    Ok(())
}

fn list(turn: &mut Turn<'_>, words: &[&str]) -> Outcome {
    let mut reply = turn.reply();
    reply.array(words.len());
    words.iter().for_each(|word| reply.bulk(word.as_bytes()));
    Ok(())
}

fn slowlog_get(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    if argv.len() > 3 {
        return Err(wrong_subcommand(argv));
    }
    if let Some(count) = argv.get(2)
        && number::integer(count).is_none_or(|count| count < -1)
    {
        return Err(Fault::of("ERR count should be greater than or equal to -1"));
    }
    empty_array(turn, argv)
}

fn latency_graph(_: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let event = String::from_utf8_lossy(argv[2]);
    Err(Fault::with(format!("ERR No samples available for event '{event}'")))
}

fn whoami(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    resp::bulk(turn.out, b"default");
    Ok(())
}

fn users(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    list(turn, &["default"])
}

fn memory_stats(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    let core = turn.core.borrow();
    let keys: usize = (0..core.keyspace.databases()).map(|db| core.keyspace.len(db)).sum();
    let data = core.keyspace.bytes();
    let lua = core.host.as_ref().map_or(0, |host| host.memory_bytes());
    let numbers = [
        ("peak.allocated", core.counters.peak_bytes.max(data + lua)),
        ("total.allocated", data + lua),
        ("lua.caches", lua),
        ("keys.count", keys),
        ("keys.bytes-per-key", data.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", data),
    ];
    drop(core);
    let mut reply = turn.reply();
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(number as i64);
    }
    Ok(())
}

/// For tests of clients: SLEEP holds everything up, as in Redis.
fn debug(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let word = argv[1].to_ascii_lowercase();
    match (word.as_slice(), argv.len()) {
        (b"sleep", 3) => {
            let seconds: f64 = std::str::from_utf8(argv[2]).ok().and_then(|s| s.parse().ok()).unwrap_or(0.0);
            if seconds > 0.0 && seconds <= DEBUG_SLEEP_SECONDS_MAX {
                std::thread::sleep(Duration::from_secs_f64(seconds));
            }
        }
        (b"set-active-expire", 3) => {
            turn.core.borrow_mut().counters.active_expiry_off = argv[2] == b"0";
        }
        // As Redis: the client is shown this error.
        (b"error", 3) => {
            resp::error(turn.out, &String::from_utf8_lossy(argv[2]));
            return Ok(());
        }
        (b"jmap" | b"quicklist-packed-threshold" | b"change-repl-id", _) => {}
        _ => return Err(wrong_subcommand(argv)),
    }
    ok(turn)
}

const DEBUG_SLEEP_SECONDS_MAX: f64 = 60.0;

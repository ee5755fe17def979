//! EVAL and its family, SCRIPT, and the commands that scripts call. Lua itself is `script`'s.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::caller::Caller;
use super::super::context::{Argv, Fault, Outcome};
use super::super::number;
use super::super::script::{Chosen, Host};
use super::calls::Call;
use super::dispatch::{self, Place, Turn, Unknown};
use super::{Core, Inner};
use crate::resp;

pub(super) const CALLS: &[(&str, Call)] = &[
    ("EVAL", |turn, argv| eval(turn, argv, false)),
    ("EVAL_RO", |turn, argv| eval(turn, argv, true)),
    ("EVALSHA", |turn, argv| evalsha(turn, argv, false)),
    ("EVALSHA_RO", |turn, argv| evalsha(turn, argv, true)),
    ("SCRIPT|LOAD", load),
    ("SCRIPT|EXISTS", exists),
    ("SCRIPT|FLUSH", flush),
    ("SCRIPT|KILL", |_, _| Err(Fault::of("NOTBUSY No scripts in execution right now."))),
    ("SCRIPT|HELP", help),
];

const NO_SCRIPT: Fault = Fault::of("NOSCRIPT No matching script. Please use EVAL.");

/// The script that runs, as the commands that it calls see it.
pub(super) struct Frame {
    /// Stands for the script: its database may differ from the session's.
    caller: Caller,
    now_us: u64,
    reads_only: bool,
    allows_oom: bool,
    /// Before the script began: it is not stopped in the middle of its writes.
    was_out_of_memory: bool,
    has_written: bool,
    /// Messages of the script to the session that runs it.
    pub own_messages: Vec<u8>,
}

/// The host, made now if this is the first script.
fn host<'a>(core: &'a mut Core, inner: &Arc<Inner>) -> &'a mut Host {
    core.host.get_or_insert_with(|| {
        let engine = Arc::downgrade(inner);
        let execute = move |argv: &[&[u8]], resp3: bool, out: &mut Vec<u8>| match engine.upgrade() {
            Some(inner) => call(&inner, argv, resp3, out),
            None => Err("The engine has ended".into()),
        };
        Host::new(Arc::new(execute)).expect("a fresh Lua state takes the prelude")
    })
}

fn eval(turn: &mut Turn<'_>, argv: &Argv<'_>, reads_only: bool) -> Outcome {
    let keys = key_count(argv)?;
    let chosen = host(&mut turn.core.borrow_mut(), turn.inner).prepare(argv[1]);
    match chosen {
        Ok(chosen) => run(turn, &chosen, &argv[3..], keys, reads_only),
        Err(line) => {
            resp::error_bytes(turn.out, &line);
            Ok(())
        }
    }
}

fn evalsha(turn: &mut Turn<'_>, argv: &Argv<'_>, reads_only: bool) -> Outcome {
    if argv[1].len() != 40 {
        return Err(NO_SCRIPT);
    }
    let keys = key_count(argv)?;
    let chosen = host(&mut turn.core.borrow_mut(), turn.inner).find(argv[1]).ok_or(NO_SCRIPT)?;
    run(turn, &chosen, &argv[3..], keys, reads_only)
}

fn key_count(argv: &Argv<'_>) -> Result<usize, Fault> {
    let count = number::integer_argument(argv[2])?;
    if count > (argv.len() - 3) as i64 {
        return Err(Fault::of("ERR Number of keys can't be greater than number of args"));
    }
    usize::try_from(count).map_err(|_| Fault::of("ERR Number of keys can't be negative"))
}

fn run(turn: &mut Turn<'_>, chosen: &Chosen, words: &[&[u8]], keys: usize, reads_only: bool) -> Outcome {
    let flags = chosen.flags;
    let was_out_of_memory = turn.core.borrow().is_out_of_memory;
    if flags.declared {
        if reads_only && !flags.no_writes {
            return Err(Fault::of("ERR Can not execute a script with write flag using *_ro command."));
        }
        if was_out_of_memory && !flags.allow_oom && !flags.no_writes {
            return Err(Fault::OUT_OF_MEMORY);
        }
    }
    let ready = {
        let core = &mut *turn.core.borrow_mut();
        let caller = Caller { id: turn.caller.id, db: turn.caller.db, ..Caller::default() };
        core.frame = Some(Frame {
            caller,
            now_us: turn.now_us,
            reads_only: reads_only || flags.no_writes,
            allows_oom: flags.allow_oom,
            was_out_of_memory,
            has_written: false,
            own_messages: Vec::new(),
        });
        let (keys, args) = words.split_at(keys);
        host(core, turn.inner).start(chosen, keys, args)
    };
    let begin = turn.out.len();
    match ready {
        Ok(run) => run.finish(turn.caller.resp3, turn.out),
        Err(error) => resp::error(turn.out, &format!("ERR Error running script: {error}")),
    }
    if let Some(frame) = turn.core.borrow_mut().frame.take()
        && !frame.own_messages.is_empty()
    {
        turn.out.splice(begin..begin, frame.own_messages);
    }
    Ok(())
}

/// A command of the running script. `Err` refuses it before it runs; an error of its own is its reply.
fn call(inner: &Arc<Inner>, argv: &[&[u8]], resp3: bool, out: &mut Vec<u8>) -> Result<(), Cow<'static, str>> {
    let guard = inner.lock.lock();
    let known = dispatch::know(argv).map_err(|unknown| match unknown {
        Unknown::Arity(_) => "Wrong number of args calling Redis command from script".into(),
        Unknown::Lacking => Cow::from(unknown.text(argv)),
        _ => "Unknown Redis command called from script".into(),
    })?;
    let traits = known.traits;
    if traits.in_no_script {
        return Err("This Redis command is not allowed from script".into());
    }
    let (mut caller, now_us) = {
        let core = &mut *guard.borrow_mut();
        let frame = core.frame.as_mut().ok_or("No script runs")?;
        if frame.reads_only && (traits.writes || traits.is_passed_on) {
            return Err("Write commands are not allowed from read-only scripts.".into());
        }
        let is_checked = frame.was_out_of_memory && !frame.allows_oom && !frame.has_written;
        if is_checked && traits.denies_oom {
            return Err("-OOM command not allowed when used memory > 'maxmemory'.".into());
        }
        frame.has_written |= traits.writes;
        core.counters.commands += 1;
        (std::mem::take(&mut frame.caller), frame.now_us)
    };
    caller.resp3 = resp3;
    let mut own = |_: &mut Caller, argv: &[&[u8]], out: &mut Vec<u8>| dispatch::answer_unknown(argv, out);
    let mut turn =
        Turn { inner, core: &guard, caller: &mut caller, out, now_us, place: Place::Script, own: &mut own };
    dispatch::run(&mut turn, known, argv);
    if let Some(frame) = &mut guard.borrow_mut().frame {
        frame.caller = caller;
    }
    Ok(())
}

// SCRIPT.

fn load(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let loaded = host(&mut turn.core.borrow_mut(), turn.inner).load(argv[2]);
    match loaded {
        Ok(sha) => resp::bulk(turn.out, sha.as_bytes()),
        Err(line) => resp::error_bytes(turn.out, &line),
    }
    Ok(())
}

fn exists(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let core = &mut *turn.core.borrow_mut();
    let host = host(core, turn.inner);
    resp::array_header(turn.out, argv.len() - 2);
    for sha in &argv[2..] {
        resp::integer(turn.out, i64::from(host.find(sha).is_some()));
    }
    Ok(())
}

fn flush(turn: &mut Turn<'_>, argv: &Argv<'_>) -> Outcome {
    let is_mode = |word: &[u8]| word.eq_ignore_ascii_case(b"sync") || word.eq_ignore_ascii_case(b"async");
    if argv.len() > 3 || argv.get(2).is_some_and(|word| !is_mode(word)) {
        return Err(Fault::of("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    if let Some(host) = &mut turn.core.borrow_mut().host {
        host.flush();
    }
    dispatch::ok(turn)
}

fn help(turn: &mut Turn<'_>, _: &Argv<'_>) -> Outcome {
    turn.reply().help(&[
        "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "EXISTS <sha1> [<sha1> ...]",
        "    Which of these scripts are known.",
        "FLUSH [ASYNC|SYNC]",
        "    Forget all scripts.",
        "KILL",
        "    End the script that runs: here none runs while another command is read.",
        "LOAD <script>",
        "    Compile a script and keep it; the reply is its checksum.",
        "HELP",
        "    This text.",
    ]);
    Ok(())
}

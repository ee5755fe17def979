//! What scripts call: the library `redis`, and the functions that the prelude builds on. Commands are run by the
//! engine, through `Execute`; this file knows none.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mlua::{Lua, MultiValue, Table, Value};
use smallvec::SmallVec;

use super::arguments::number_at;
use super::convert;
use super::number::push_general;
use super::raised::{Raised, bad_argument, raise, raise_at, with_code};
use super::{TIME_MAX, bits, json, layout, limit_memory, msgpack, sha1_hex};

/// Runs one command for the running script, its reply in RESP3 if asked so. `Err` refuses it: the text of the error,
/// with or without a code (`-OOM ...`).
pub(in crate::memory) type Execute =
    dyn Fn(&[&[u8]], bool, &mut Vec<u8>) -> Result<(), Cow<'static, str>> + Send + Sync;

/// The version that the engine follows.
pub(in crate::memory) const REDIS_VERSION: &str = "7.0.15";
const REDIS_VERSION_NUM: u32 = 7 << 16 | 15;

/// What the running script has set, and when it must end.
pub(super) struct Running {
    resp3: AtomicBool,
    over: AtomicBool,
    started: Mutex<Instant>,
    random: AtomicU64,
    /// Arguments and replies of commands, kept for the next ones.
    buffers: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl Running {
    pub fn new() -> Running {
        Running {
            resp3: AtomicBool::new(false),
            over: AtomicBool::new(false),
            started: Mutex::new(Instant::now()),
            random: AtomicU64::new(RANDOM_AT_START),
            buffers: Mutex::default(),
        }
    }

    /// Before each script.
    pub fn reset(&self) {
        self.resp3.store(false, Relaxed);
        self.over.store(false, Relaxed);
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn speaks_resp3(&self) -> bool {
        self.resp3.load(Relaxed)
    }

    /// Called every so many instructions: `Err` once the time is up, from then on at every call.
    pub fn check(&self) -> mlua::Result<()> {
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started.elapsed() > TIME_MAX {
            self.over.store(true, Relaxed);
            return Err(too_long());
        }
        Ok(())
    }
}

fn too_long() -> mlua::Error {
    let text = format!("ERR Script stopped: it ran for more than {} ms", TIME_MAX.as_millis());
    raise(Raised::Over(text))
}

/// The functions that the prelude turns into what scripts see.
pub(super) fn host(
    lua: &Lua,
    running: &Arc<Running>,
    settings: &json::Shared,
    execute: Arc<Execute>,
) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    host.raw_set("redis", library(lua, running, execute)?)?;
    host.raw_set("cjson", json::library(lua, settings)?)?;
    host.raw_set("bit", bits::library(lua)?)?;
    host.raw_set("cmsgpack", msgpack::library(lua)?)?;
    host.raw_set("struct", layout::library(lua)?)?;
    let state = Arc::clone(running);
    let plain = lua.create_function(move |lua, error: Value| match error {
        _ if state.over.load(Relaxed) => Err(too_long()),
        Value::Error(error) => Raised::of(&error).into_value(lua),
        other => Ok(other),
    })?;
    host.raw_set("plain", plain)?;
    let last = lua.create_function(|lua, error: Value| match error {
        Value::Error(error) => match Raised::of(&error) {
            Raised::Over(text) => Raised::Reply(text.into_bytes()).into_value(lua),
            raised => raised.into_value(lua),
        },
        other => Ok(other),
    })?;
    host.raw_set("final", last)?;
    host.raw_set("origin", lua.create_function(|lua, ()| Ok(origin(lua)))?)?;
    let deny = lua.create_function(|_, ()| -> mlua::Result<()> {
        Err(raise(Raised::Text(b"Attempt to modify a readonly table".to_vec())))
    })?;
    host.raw_set("deny", deny)?;
    host.raw_set("collect", lua.create_function(|lua, what: MultiValue| collect(lua, &what))?)?;
    let state = Arc::clone(running);
    let random = lua.create_function(move |lua, args: MultiValue| random(lua, &args, &state.random))?;
    host.raw_set("random", random)?;
    let state = Arc::clone(running);
    let seed = lua.create_function(move |lua, args: MultiValue| {
        let seed = number_at(lua, &args, 0, "randomseed")?;
        state.random.store(seeded(seed as i64 as u32), Relaxed);
        Ok(())
    })?;
    host.raw_set("randomseed", seed)?;
    Ok(host)
}

/// Source and line of the code that raised the error which is being handled: of the function itself, or of the caller
/// of a library function. What the prelude stands for does not count.
fn origin(lua: &Lua) -> (Option<String>, i64) {
    let mut level = 2;
    let mut passed_library = false;
    loop {
        let found = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let name = source.source.unwrap_or_default().into_owned();
            let line = frame.current_line().map_or(-1, |line| line as i64);
            // With a memory limit mlua raises errors of Rust functions from a frame of its own, without a name.
            let is_passing = source.what == "C" && level == 2 && frame.names().name.is_none();
            (name, source.what == "C", line, is_passing)
        });
        let Some((name, is_library, line, is_passing)) = found else { return (None, 0) };
        level += 1;
        if name == super::PRELUDE_NAME || is_passing {
            continue;
        }
        if is_library && !passed_library {
            passed_library = true;
            continue;
        }
        return (Some(name), line);
    }
}

fn collect(lua: &Lua, args: &MultiValue) -> mlua::Result<Value> {
    let what = match args.front() {
        Some(Value::String(word)) => word.as_bytes().to_vec(),
        _ => b"collect".to_vec(),
    };
    match what.as_slice() {
        b"count" => Ok(Value::Number(lua.used_memory() as f64 / 1024.0)),
        b"collect" | b"step" => {
            lua.gc_collect()?;
            Ok(Value::Number(0.0))
        }
        b"stop" | b"restart" | b"setpause" | b"setstepmul" => Ok(Value::Number(0.0)),
        other => {
            let why = format!("invalid option '{}'", String::from_utf8_lossy(other));
            Err(bad_argument(lua, 1, "collectgarbage", &why))
        }
    }
}

// Random numbers: the 48-bit generator of the C library. It begins as that one does and goes on from script to script.

const RANDOM_AT_START: u64 = 0x1234_ABCD_330E;

fn seeded(seed: u32) -> u64 {
    u64::from(seed) << 16 | 0x330E
}

fn random(lua: &Lua, args: &MultiValue, state: &AtomicU64) -> mlua::Result<f64> {
    const MASK: u64 = (1 << 48) - 1;
    let next = state.load(Relaxed).wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
    state.store(next, Relaxed);
    let max = i32::MAX as u64;
    let unit = ((next >> 17) % max) as f64 / max as f64;
    let (from, to) = match args.len() {
        0 => return Ok(unit),
        1 => (1.0, number_at(lua, args, 0, "random")?.trunc()),
        2 => (number_at(lua, args, 0, "random")?.trunc(), number_at(lua, args, 1, "random")?.trunc()),
        _ => return Err(raise_at(lua, "wrong number of arguments")),
    };
    if from > to {
        return Err(bad_argument(lua, args.len(), "random", "interval is empty"));
    }
    Ok((unit * (to - from + 1.0)).floor() + from)
}

// The library `redis`.

fn library(lua: &Lua, running: &Arc<Running>, execute: Arc<Execute>) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    for (name, value) in [
        ("LOG_DEBUG", 0),
        ("LOG_VERBOSE", 1),
        ("LOG_NOTICE", 2),
        ("LOG_WARNING", 3),
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
        ("REDIS_VERSION_NUM", REDIS_VERSION_NUM),
    ] {
        redis.raw_set(name, value)?;
    }
    redis.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    for (name, raises) in [("call", true), ("pcall", false)] {
        let (state, execute) = (Arc::clone(running), Arc::clone(&execute));
        let call = lua.create_function(move |lua, args: MultiValue| {
            command(lua, args, &state, &*execute).and_then(|answer| match answer {
                Answer::Value(value) => Ok(value),
                Answer::Error(text) if raises => Err(raise(Raised::Reply(text))),
                Answer::Error(text) => Raised::Reply(text).into_value(lua),
            })
        })?;
        redis.raw_set(name, call)?;
    }
    add_replies(lua, &redis)?;
    add_settings(lua, &redis, running)?;
    let log = lua.create_function(|_, args: MultiValue| log(&args))?;
    redis.raw_set("log", log)?;
    let sha = lua.create_function(|_, args: MultiValue| {
        if args.len() != 1 {
            return Err(refuse("wrong number of arguments"));
        }
        Ok(sha1_hex(&text_of(&args[0]).unwrap_or_default()))
    })?;
    redis.raw_set("sha1hex", sha)?;
    Ok(redis)
}

fn refuse(text: &str) -> mlua::Error {
    raise(Raised::Reply([b"ERR ", text.as_bytes()].concat()))
}

fn add_replies(lua: &Lua, redis: &Table) -> mlua::Result<()> {
    const WRONG: &[u8] = b"ERR wrong number or type of arguments";
    let error_reply = lua.create_function(|lua, args: MultiValue| {
        let text = match args.front() {
            Some(Value::String(text)) if args.len() == 1 => {
                // A first word counts as the code, with its dash or without.
                let text = text.as_bytes();
                let bare = text.strip_prefix(b"-").unwrap_or(&text);
                with_code(&[b"-", bare].concat())
            }
            _ => return Raised::Reply(WRONG.to_vec()).into_value(lua),
        };
        let table = lua.create_table()?;
        table.raw_set("err", lua.create_string(text)?)?;
        Ok(Value::Table(table))
    })?;
    redis.raw_set("error_reply", error_reply)?;
    let status_reply = lua.create_function(|lua, args: MultiValue| match args.front() {
        Some(text @ Value::String(_)) if args.len() == 1 => {
            let table = lua.create_table()?;
            table.raw_set("ok", text)?;
            Ok(Value::Table(table))
        }
        _ => Raised::Reply(WRONG.to_vec()).into_value(lua),
    })?;
    redis.raw_set("status_reply", status_reply)
}

fn add_settings(lua: &Lua, redis: &Table, running: &Arc<Running>) -> mlua::Result<()> {
    let state = Arc::clone(running);
    let setresp = lua.create_function(move |_, args: MultiValue| {
        if args.len() != 1 {
            return Err(refuse("redis.setresp() requires one argument."));
        }
        match number_of(&args[0]) {
            Some(version) if version == 2.0 || version == 3.0 => state.resp3.store(version == 3.0, Relaxed),
            _ => return Err(refuse("RESP version must be 2 or 3.")),
        }
        Ok(())
    })?;
    redis.raw_set("setresp", setresp)?;
    // There are no replicas and no log: what is asked for is checked and has no effect.
    let set_repl = lua.create_function(|_, args: MultiValue| {
        if args.len() != 1 {
            return Err(refuse("redis.set_repl() requires two arguments."));
        }
        match number_of(&args[0]) {
            Some(flags) if (0.0..=3.0).contains(&flags) => Ok(()),
            _ => Err(refuse("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")),
        }
    })?;
    redis.raw_set("set_repl", set_repl)?;
    redis.raw_set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    redis.raw_set("breakpoint", lua.create_function(|_, ()| Ok(false))?)?;
    redis.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    let may = lua.create_function(|_, args: MultiValue| {
        let Some(name) = args.front() else {
            return Err(refuse("Please specify at least one argument for this redis lib call"));
        };
        let name = text_of(name).unwrap_or_default();
        match std::str::from_utf8(&name).ok().and_then(crate::command::lookup_name) {
            Some(_) => Ok(true),
            None => Err(refuse("Invalid command passed to redis.acl_check_cmd()")),
        }
    })?;
    redis.raw_set("acl_check_cmd", may)
}

fn log(args: &MultiValue) -> mlua::Result<()> {
    if args.len() < 2 {
        return Err(refuse("redis.log() requires two arguments or more."));
    }
    let Some(level) = number_of(&args[0]).filter(|_| !matches!(args[0], Value::String(_))) else {
        return Err(refuse("First argument must be a number (log level)."));
    };
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .filter_map(|word| Some(String::from_utf8_lossy(&text_of(word)?).into_owned()))
        .collect();
    let text = words.join(" ");
    match level as i64 {
        0 => tracing::trace!("script: {text}"),
        1 => tracing::debug!("script: {text}"),
        2 => tracing::info!("script: {text}"),
        3 => tracing::warn!("script: {text}"),
        _ => return Err(refuse("Invalid debug level.")),
    }
    Ok(())
}

/// A string, or a number as Lua writes it.
fn text_of(value: &Value) -> Option<Vec<u8>> {
    let number = match value {
        Value::String(text) => return Some(text.as_bytes().to_vec()),
        Value::Integer(number) => *number as f64,
        Value::Number(number) => *number,
        _ => return None,
    };
    let mut text = Vec::new();
    push_general(&mut text, number, 14);
    Some(text)
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(text) => text.to_string_lossy().trim().parse().ok(),
        _ => None,
    }
}

enum Answer {
    Value(Value),
    /// With its code.
    Error(Vec<u8>),
}

fn command(lua: &Lua, args: MultiValue, running: &Running, execute: &Execute) -> mlua::Result<Answer> {
    // Lua calls the engine, the engine never Lua: nobody else uses the buffers meanwhile.
    let mut buffers = running.buffers.lock().unwrap_or_else(PoisonError::into_inner);
    let (words, reply) = &mut *buffers;
    words.clear();
    reply.clear();
    if args.is_empty() {
        return Ok(Answer::Error(
            b"ERR Please specify at least one argument for this redis lib call".to_vec(),
        ));
    }
    let mut ends: SmallVec<[usize; 16]> = SmallVec::new();
    for arg in &args {
        match arg {
            Value::String(text) => words.extend_from_slice(&text.as_bytes()),
            Value::Integer(number) if number.unsigned_abs() < 1 << 50 => {
                words.extend_from_slice(number.to_string().as_bytes());
            }
            Value::Integer(number) => push_general(words, *number as f64, 17),
            Value::Number(number) => push_general(words, *number, 17),
            _ => {
                let text = b"ERR Lua redis lib command arguments must be strings or integers";
                return Ok(Answer::Error(text.to_vec()));
            }
        }
        ends.push(words.len());
    }
    // Each string held a place of which there are few; the reply needs some.
    drop(args);
    let mut argv: SmallVec<[&[u8]; 16]> = SmallVec::with_capacity(ends.len());
    let mut start = 0;
    for end in ends {
        argv.push(&words[start..end]);
        start = end;
    }
    if let Err(refusal) = execute(&argv, running.resp3.load(Relaxed), reply) {
        return Ok(Answer::Error(with_code(refusal.as_bytes())));
    }
    if reply.first() == Some(&b'-') {
        let text = reply[1..].strip_suffix(b"\r\n").unwrap_or(&reply[1..]);
        return Ok(Answer::Error(text.to_vec()));
    }
    limit_memory(lua, false);
    let value = convert::to_lua(lua, reply);
    limit_memory(lua, true);
    value.map(Answer::Value)
}

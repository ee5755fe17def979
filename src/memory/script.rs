//! Scripts: one Lua state for the engine, what is compiled in it, and the running of one script at a time. Commands are
//! run by the engine, through the function it gives. Performs no I/O; knows no key.
//!
//! The state belongs to whoever holds the engine's lock. A script is stopped after `TIME_MAX`, and Lua gets no more
//! than `MEMORY_BYTES_MAX`; a script that uses library functions which take long on their own (patterns that go
//! back and forth over a long string) is looked at only between them, as in Redis.

mod api;
mod arguments;
mod bits;
mod convert;
mod json;
mod layout;
mod msgpack;
mod number;
mod raised;
mod shebang;

use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};

pub(super) use api::{Execute, REDIS_VERSION};
pub(super) use shebang::Flags;

use crate::resp;
use convert::{Names, Protocols};

/// A script that runs longer is stopped; what it wrote stays.
const TIME_MAX: Duration = Duration::from_secs(5);
/// All that Lua may allocate, for compiled scripts and what they make.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// Scripts that only EVAL brought are forgotten, the least recently used first, when they are more; those of SCRIPT
/// LOAD stay.
const EVALUATED_LEN_MAX: usize = 1000;
/// So often is the time looked at.
const INSTRUCTIONS_PER_CHECK: u32 = 10_000;

const PRELUDE: &str = include_str!("script/prelude.lua");
const PRELUDE_NAME: &str = "=engine";

/// A compiled script.
pub(super) struct Script {
    /// Where its function stands in `Host::functions`.
    slot: i64,
    pub flags: Flags,
    pub text: Arc<[u8]>,
    pub sha: Arc<str>,
    loaded: bool,
    used: u64,
}

/// A script that is about to be run.
#[derive(Clone)]
pub(super) struct Chosen {
    slot: i64,
    sha: Arc<str>,
    pub flags: Flags,
}

pub(super) struct Host {
    lua: Lua,
    /// What the names KEYS and ARGV are set in.
    globals: Table,
    keys: LuaString,
    argv: LuaString,
    names: Arc<Names>,
    run: Function,
    functions: Table,
    running: Arc<api::Running>,
    json: json::Shared,
    scripts: HashMap<Arc<str>, Script, RandomState>,
    /// By its text, so that EVAL of a known script need not compute a checksum.
    shas: HashMap<Arc<[u8]>, Arc<str>, RandomState>,
    evaluated: usize,
    next_slot: i64,
    clock: u64,
}

impl Host {
    pub fn new(execute: Arc<Execute>) -> mlua::Result<Host> {
        let options = LuaOptions::new().catch_rust_panics(false);
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, options)?;
        let (running, json) = (Arc::new(api::Running::new()), json::Shared::new());
        let host = api::host(&lua, &running, &json, execute)?;
        let prelude = lua.load(PRELUDE).set_name(PRELUDE_NAME);
        let (face, globals, run): (Table, Table, Function) = prelude.call(host)?;
        lua.set_globals(face)?;
        let state = Arc::clone(&running);
        let triggers = HookTriggers::new().every_nth_instruction(INSTRUCTIONS_PER_CHECK);
        lua.set_global_hook(triggers, move |_, _| state.check().map(|()| VmState::Continue))?;
        let names = Arc::new(Names::new(&lua)?);
        let (keys, argv) = (lua.create_string("KEYS")?, lua.create_string("ARGV")?);
        let functions = lua.create_table()?;
        let (scripts, shas) = (HashMap::default(), HashMap::default());
        Ok(Host {
            lua,
            globals,
            keys,
            argv,
            names,
            run,
            functions,
            running,
            json,
            scripts,
            shas,
            evaluated: 0,
            next_slot: 1,
            clock: 0,
        })
    }

    pub fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    /// The script of this checksum, in any case.
    pub fn find(&mut self, sha: &[u8]) -> Option<Chosen> {
        let sha = std::str::from_utf8(sha).ok().filter(|sha| sha.len() == 40)?;
        self.clock += 1;
        let script = match self.scripts.get_mut(sha) {
            Some(script) => script,
            None => self.scripts.get_mut(sha.to_ascii_lowercase().as_str())?,
        };
        script.used = self.clock;
        Some(Chosen { slot: script.slot, sha: Arc::clone(&script.sha), flags: script.flags })
    }

    /// The script of this text, compiled now if it is new. `Err`: the error's line.
    pub fn prepare(&mut self, text: &[u8]) -> Result<Chosen, Vec<u8>> {
        if let Some(sha) = self.shas.get(text).cloned()
            && let Some(script) = self.find(sha.as_bytes())
        {
            return Ok(script);
        }
        let sha = sha1_hex(text);
        self.compile(text, &sha)?;
        self.evaluated += 1;
        if self.evaluated > EVALUATED_LEN_MAX {
            self.forget_oldest();
        }
        Ok(self.find(sha.as_bytes()).expect("it was compiled just now"))
    }

    /// SCRIPT LOAD: as `prepare`, and kept until SCRIPT FLUSH. Gives the checksum.
    pub fn load(&mut self, text: &[u8]) -> Result<Arc<str>, Vec<u8>> {
        let sha = sha1_hex(text);
        if !self.scripts.contains_key(sha.as_str()) {
            self.compile(text, &sha)?;
            self.evaluated += 1;
        }
        let script = self.scripts.get_mut(sha.as_str()).expect("it is compiled");
        if !std::mem::replace(&mut script.loaded, true) {
            self.evaluated -= 1;
        }
        Ok(Arc::clone(&script.sha))
    }

    pub fn flush(&mut self) {
        self.scripts.clear();
        self.shas.clear();
        self.evaluated = 0;
        if let Ok(functions) = self.lua.create_table() {
            self.functions = functions;
        }
        // Memory that cannot be collected now is collected later.
        let _ = self.lua.gc_collect();
    }

    fn compile(&mut self, text: &[u8], sha: &str) -> Result<(), Vec<u8>> {
        let (flags, start) = shebang::read(text).map_err(|why| format!("ERR {why}").into_bytes())?;
        let chunk = self.lua.load(&text[start..]).set_name("@user_script").set_mode(ChunkMode::Text);
        let stored = chunk.into_function().and_then(|f| self.functions.raw_set(self.next_slot, f));
        if let Err(error) = stored {
            let why = match error {
                mlua::Error::SyntaxError { message, .. } => message,
                other => other.to_string(),
            };
            return Err(format!("ERR Error compiling script (new function): {why}").into_bytes());
        }
        let (sha, text): (Arc<str>, Arc<[u8]>) = (sha.into(), text.into());
        let (slot, used) = (self.next_slot, self.clock);
        let (name, body) = (Arc::clone(&sha), Arc::clone(&text));
        self.shas.insert(body, Arc::clone(&sha));
        self.scripts.insert(name, Script { slot, flags, text, sha, loaded: false, used });
        self.next_slot += 1;
        Ok(())
    }

    fn forget_oldest(&mut self) {
        let brought = self.scripts.values().filter(|script| !script.loaded);
        let Some(oldest) = brought.min_by_key(|script| script.used) else { return };
        let (slot, sha, text) = (oldest.slot, Arc::clone(&oldest.sha), Arc::clone(&oldest.text));
        self.scripts.remove(&sha);
        self.shas.remove(&text);
        self.evaluated -= 1;
        // Without memory for this the function stays; it does no harm.
        let _ = self.functions.raw_set(slot, Value::Nil);
    }

    /// Readies everything for a run, which must follow: `Run` is used while commands come back to the engine.
    pub fn start(&self, script: &Chosen, keys: &[&[u8]], args: &[&[u8]]) -> mlua::Result<Run> {
        self.running.reset();
        self.json.reset();
        self.globals.raw_set(&self.keys, self.list(keys)?)?;
        self.globals.raw_set(&self.argv, self.list(args)?)?;
        let function = self.functions.raw_get(script.slot)?;
        let (lua, run, running) = (self.lua.clone(), self.run.clone(), Arc::clone(&self.running));
        let names = Arc::clone(&self.names);
        Ok(Run { lua, run, running, names, function, sha: Arc::clone(&script.sha) })
    }

    fn list(&self, words: &[&[u8]]) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(words.len(), 0)?;
        for (at, word) in words.iter().enumerate() {
            table.raw_set(at + 1, self.lua.create_string(word)?)?;
        }
        Ok(table)
    }
}

/// One run of a script, which borrows nothing: the engine's parts stay free for the commands that it calls.
pub(super) struct Run {
    lua: Lua,
    run: Function,
    running: Arc<api::Running>,
    names: Arc<Names>,
    function: Function,
    sha: Arc<str>,
}

impl Run {
    /// Runs the script and appends its reply, or its error.
    pub fn finish(self, resp3: bool, out: &mut Vec<u8>) {
        let start = out.len();
        limit_memory(&self.lua, true);
        let ended = self.run.call::<(bool, Value)>(&self.function);
        limit_memory(&self.lua, false);
        let error = match ended {
            Ok((true, value)) => {
                let protocols =
                    Protocols { names: &self.names, resp3, script_resp3: self.running.speaks_resp3() };
                match convert::to_reply(&value, protocols, out) {
                    Ok(()) => return,
                    Err(error) => self.describe(&raised::Raised::of(&error).to_string()),
                }
            }
            Ok((false, value)) => self.blame(value),
            Err(error) => self.describe(&raised::Raised::of(&error).to_string()),
        };
        out.truncate(start);
        resp::error_bytes(out, &error);
    }

    /// The error's line for what the prelude's handler made of an error.
    fn blame(&self, value: Value) -> Vec<u8> {
        let Value::Table(table) = value else {
            // Without memory no handler runs.
            let _ = self.lua.gc_collect();
            let text = value.to_string().unwrap_or_default();
            return self.describe(&text);
        };
        let field = |name: &str| table.raw_get::<Option<mlua::LuaString>>(name).ok().flatten();
        let mut line = field("err").map_or(b"ERR unknown error".to_vec(), |text| text.as_bytes().to_vec());
        line.extend_from_slice(b" script: ");
        line.extend_from_slice(self.sha.as_bytes());
        if let (Some(source), Ok(Some(at))) = (field("source"), table.raw_get::<Option<i64>>("line")) {
            line.extend_from_slice(b", on ");
            line.extend_from_slice(&source.as_bytes());
            line.extend_from_slice(format!(":{at}").as_bytes());
        }
        line.push(b'.');
        line
    }

    fn describe(&self, text: &str) -> Vec<u8> {
        format!("ERR {text} script: {}.", self.sha).into_bytes()
    }
}

/// Only what scripts do themselves is limited: with a limit each step of the conversions here would be guarded, and they
/// make no more than the keyspace has.
fn limit_memory(lua: &Lua, on: bool) {
    let bytes_max = if on { MEMORY_BYTES_MAX } else { 0 };
    lua.set_memory_limit(bytes_max).expect("this process made the Lua state");
}

/// The checksum in hexadecimal digits, by which scripts are known.
pub(super) fn sha1_hex(text: &[u8]) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}

#[cfg(test)]
mod tests;

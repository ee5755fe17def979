//! The library `cjson`: what it exports, its settings, and the writing of JSON. `json/decode.rs` reads it.
//! Conventions and words of errors are those of lua-cjson 2.1.0 as Redis has it: 14 digits, `cjson.null`, an empty
//! table is an object. Settings last for one script, so that none can disturb another.

mod decode;

use std::sync::{Arc, Mutex, PoisonError};

use mlua::{Lua, MultiValue, Table, Value};

use super::arguments::number_at;
use super::number::push_general;
use super::raised::{Raised, bad_argument, raise, raise_at, type_name};

/// Scripts may ask for more, but this process has no stack for it.
const DEPTH_MAX: usize = 1000;

#[derive(Clone, Copy, PartialEq)]
pub(super) struct Settings {
    sparse_convert: bool,
    sparse_ratio: usize,
    sparse_safe: usize,
    encode_depth_max: usize,
    decode_depth_max: usize,
    /// Whether infinities and NaN are written: no, yes, or as null.
    encode_invalid: Invalid,
    decode_invalid: bool,
    digits: usize,
    keep_buffer: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

impl Settings {
    const DEFAULT: Settings = Settings {
        sparse_convert: false,
        sparse_ratio: 2,
        sparse_safe: 10,
        encode_depth_max: 1000,
        decode_depth_max: 1000,
        encode_invalid: Invalid::Refused,
        decode_invalid: true,
        digits: 14,
        keep_buffer: true,
    };
}

/// The settings of the running script.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Settings>>);

impl Shared {
    pub fn new() -> Shared {
        Shared(Arc::new(Mutex::new(Settings::DEFAULT)))
    }

    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Settings::DEFAULT;
    }

    fn get(&self) -> Settings {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, f: impl FnOnce(&mut Settings) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn library(lua: &Lua, shared: &Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    table.raw_set("null", Value::NULL)?;
    let settings = shared.clone();
    let encode = lua.create_function(move |lua, args: MultiValue| {
        if args.len() != 1 {
            return Err(bad_argument(lua, 1, "encode", "expected 1 argument"));
        }
        let mut writer = Writer { settings: settings.get(), out: Vec::with_capacity(128) };
        // Inside of tables the stack is another: the place in the script is added here.
        writer.value(&args[0], 0).map_err(|error| raise_at(lua, Raised::of(&error).to_string()))?;
        lua.create_string(writer.out)
    })?;
    table.raw_set("encode", encode)?;
    let settings = shared.clone();
    let decode =
        lua.create_function(move |lua, args: MultiValue| decode::decode(lua, settings.get(), &args))?;
    table.raw_set("decode", decode)?;
    add_settings(lua, &table, shared)?;
    // A module of its own with settings of its own, which these are already.
    let whole = table.clone();
    table.raw_set("new", lua.create_function(move |_, ()| Ok(whole.clone()))?)?;
    Ok(table)
}

fn add_settings(lua: &Lua, table: &Table, shared: &Shared) -> mlua::Result<()> {
    type Field = fn(&mut Settings) -> &mut usize;
    let numbers: [(&'static str, usize, Field); 3] = [
        ("encode_max_depth", i32::MAX as usize, |s| &mut s.encode_depth_max),
        ("decode_max_depth", i32::MAX as usize, |s| &mut s.decode_depth_max),
        ("encode_number_precision", 14, |s| &mut s.digits),
    ];
    for (name, max, field) in numbers {
        let shared = shared.clone();
        let function = lua.create_function(move |lua, args: MultiValue| {
            if let Some(number) = whole_number(lua, &args, 0, name, 1, max)? {
                shared.change(|settings| *field(settings) = number);
            }
            Ok(shared.change(|settings| *field(settings) as f64))
        })?;
        table.raw_set(name, function)?;
    }
    type Switch = fn(&mut Settings) -> &mut bool;
    let switches: [(&'static str, Switch); 2] = [
        ("encode_keep_buffer", |s| &mut s.keep_buffer),
        ("decode_invalid_numbers", |s| &mut s.decode_invalid),
    ];
    for (name, field) in switches {
        let shared = shared.clone();
        let function = lua.create_function(move |lua, args: MultiValue| {
            if let Some(on) = switch(lua, &args, 0, name)? {
                shared.change(|settings| *field(settings) = on);
            }
            Ok(shared.change(|settings| *field(settings)))
        })?;
        table.raw_set(name, function)?;
    }
    let sparse = shared.clone();
    let function = lua.create_function(move |lua, args: MultiValue| {
        const NAME: &str = "encode_sparse_array";
        let convert = switch(lua, &args, 0, NAME)?;
        let ratio = whole_number(lua, &args, 1, NAME, 0, i32::MAX as usize)?;
        let safe = whole_number(lua, &args, 2, NAME, 0, i32::MAX as usize)?;
        Ok(sparse.change(|settings| {
            settings.sparse_convert = convert.unwrap_or(settings.sparse_convert);
            settings.sparse_ratio = ratio.unwrap_or(settings.sparse_ratio);
            settings.sparse_safe = safe.unwrap_or(settings.sparse_safe);
            (settings.sparse_convert, settings.sparse_ratio as f64, settings.sparse_safe as f64)
        }))
    })?;
    table.raw_set("encode_sparse_array", function)?;
    let invalid = shared.clone();
    let function = lua.create_function(move |lua, args: MultiValue| {
        let asked = match args.front() {
            None | Some(Value::Nil) => None,
            Some(Value::String(word)) if word.as_bytes() == b"null".as_slice() => Some(Invalid::Null),
            _ => switch(lua, &args, 0, "encode_invalid_numbers")?
                .map(|on| if on { Invalid::Written } else { Invalid::Refused }),
        };
        let now = invalid.change(|settings| {
            settings.encode_invalid = asked.unwrap_or(settings.encode_invalid);
            settings.encode_invalid
        });
        Ok(match now {
            Invalid::Refused => Value::Boolean(false),
            Invalid::Written => Value::Boolean(true),
            Invalid::Null => Value::String(lua.create_string("null")?),
        })
    })?;
    table.raw_set("encode_invalid_numbers", function)
}

fn whole_number(
    lua: &Lua,
    args: &MultiValue,
    at: usize,
    name: &str,
    min: usize,
    max: usize,
) -> mlua::Result<Option<usize>> {
    if args.get(at).is_none_or(Value::is_nil) {
        return Ok(None);
    }
    let number = number_at(lua, args, at, name)?;
    if number < min as f64 || number > max as f64 {
        let why = format!("expected integer between {min} and {max}");
        return Err(bad_argument(lua, at + 1, name, &why));
    }
    Ok(Some(number as usize))
}

fn switch(lua: &Lua, args: &MultiValue, at: usize, name: &str) -> mlua::Result<Option<bool>> {
    match args.get(at) {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Boolean(on)) => Ok(Some(*on)),
        Some(Value::String(word)) if word.as_bytes() == b"on".as_slice() => Ok(Some(true)),
        Some(Value::String(word)) if word.as_bytes() == b"off".as_slice() => Ok(Some(false)),
        Some(Value::String(word)) => {
            let why = format!("invalid option '{}'", word.to_string_lossy());
            Err(bad_argument(lua, at + 1, name, &why))
        }
        Some(other) => {
            let why = format!("string expected, got {}", type_name(other));
            Err(bad_argument(lua, at + 1, name, &why))
        }
    }
}

struct Writer {
    settings: Settings,
    out: Vec<u8>,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Integer(number) => self.number(*number as f64)?,
            Value::Number(number) => self.number(*number)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Table(table) => return self.table(table, depth + 1),
            Value::Nil => self.out.extend_from_slice(b"null"),
            other if other.is_null() => self.out.extend_from_slice(b"null"),
            other => return Err(self.refuse(type_name(other), "type not supported")),
        }
        Ok(())
    }

    fn refuse(&self, kind: &str, why: &str) -> mlua::Error {
        raise(Raised::Text(format!("Cannot serialise {kind}: {why}").into_bytes()))
    }

    fn number(&mut self, number: f64) -> mlua::Result<()> {
        if !number.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refused => return Err(self.refuse("number", "must not be NaN or Inf")),
                Invalid::Null => self.out.extend_from_slice(b"null"),
                Invalid::Written if number.is_nan() => self.out.extend_from_slice(b"nan"),
                Invalid::Written => push_general(&mut self.out, number, 14),
            }
            return Ok(());
        }
        push_general(&mut self.out, number, self.settings.digits);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for &byte in text {
            let escaped: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                0x08 => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                0x0c => b"\\f",
                b'\r' => b"\\r",
                0..0x20 | 0x7f => {
                    self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                _ => {
                    self.out.push(byte);
                    continue;
                }
            };
            self.out.extend_from_slice(escaped);
        }
        self.out.push(b'"');
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        if depth > self.settings.encode_depth_max.min(DEPTH_MAX) {
            let text = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(raise(Raised::Text(text.into_bytes())));
        }
        match self.array_len(table)? {
            Some(len) if len > 0 => self.array(table, len, depth),
            _ => self.object(table, depth),
        }
    }

    fn array(&mut self, table: &Table, len: usize, depth: usize) -> mlua::Result<()> {
        self.out.push(b'[');
        for at in 1..=len {
            if at > 1 {
                self.out.push(b',');
            }
            let element: Value = table.raw_get(at)?;
            self.value(&element, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        self.out.push(b'{');
        let mut first = true;
        // A closure called by Lua would nest with the tables, and Lua's C stack ends before JSON's depth.
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match &key {
                Value::String(name) => self.string(&name.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.value(&key, depth)?;
                    self.out.push(b'"');
                }
                other => {
                    return Err(self.refuse(type_name(other), "table key must be a number or string"));
                }
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    /// The largest index, if all keys are positive whole numbers and not too many are missing.
    fn array_len(&self, table: &Table) -> mlua::Result<Option<usize>> {
        let (mut max, mut items, mut is_array) = (0_i64, 0_usize, true);
        for pair in table.pairs::<Value, Value>() {
            match pair?.0 {
                Value::Integer(at) if at > 0 => {
                    max = max.max(at);
                    items += 1;
                }
                _ => {
                    is_array = false;
                    break;
                }
            }
        }
        if !is_array {
            return Ok(None);
        }
        let max = max as usize;
        let Settings { sparse_convert, sparse_ratio, sparse_safe, .. } = self.settings;
        if sparse_ratio > 0 && max > items.saturating_mul(sparse_ratio) && max > sparse_safe {
            return match sparse_convert {
                true => Ok(None),
                false => Err(self.refuse("table", "excessively sparse array")),
            };
        }
        Ok(Some(max))
    }
}

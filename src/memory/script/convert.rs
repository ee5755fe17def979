//! Replies of commands as Lua values, and what a script returns as a reply. Trusts the replies: this process wrote them.

use mlua::{Lua, LuaString, Table, Value};

use super::number::{push_general, read_number};
use super::raised::error_table;
use crate::resp;

/// Tables in tables, deeper than this, are cut off with an error, as Redis does when its Lua stack ends.
const DEPTH_MAX: usize = 128;

/// The value of the whole frame `reply`. In RESP3 nulls become nil, maps, sets and so on tables that say what they are.
pub(super) fn to_lua(lua: &Lua, reply: &[u8]) -> mlua::Result<Value> {
    Reader { lua, rest: reply }.value()
}

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> mlua::Result<Value> {
        let lua = self.lua;
        let line = self.line();
        let (kind, text) = line.split_first().expect("a reply has a type");
        match kind {
            b':' => Ok(Value::Number(integer(text) as f64)),
            b'$' if text == b"-1" => Ok(Value::Boolean(false)),
            b'$' => Ok(Value::String(lua.create_string(self.blob(text))?)),
            b'+' => single(lua, "ok", Value::String(lua.create_string(text)?)),
            b'-' => error_table(lua, text),
            b'*' if text == b"-1" => Ok(Value::Boolean(false)),
            b'*' | b'>' => self.array(count(text)),
            b'%' => {
                let inner = lua.create_table()?;
                for _ in 0..count(text) {
                    let key = self.value()?;
                    let value = self.value()?;
                    inner.raw_set(key, value)?;
                }
                single(lua, "map", Value::Table(inner))
            }
            b'~' => {
                let inner = lua.create_table()?;
                for _ in 0..count(text) {
                    inner.raw_set(self.value()?, true)?;
                }
                single(lua, "set", Value::Table(inner))
            }
            b',' => {
                let (number, _) = read_number(text).unwrap_or((f64::NAN, 0));
                single(lua, "double", Value::Number(number))
            }
            b'(' => single(lua, "big_number", Value::String(lua.create_string(text)?)),
            b'#' => Ok(Value::Boolean(text == b"t")),
            b'=' => {
                let blob = self.blob(text);
                let inner = lua.create_table()?;
                inner.raw_set("format", lua.create_string(blob.get(..3).unwrap_or_default())?)?;
                inner.raw_set("string", lua.create_string(blob.get(4..).unwrap_or_default())?)?;
                single(lua, "verbatim_string", Value::Table(inner))
            }
            _ => Ok(Value::Nil),
        }
    }

    fn array(&mut self, len: usize) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(len, 0)?;
        for at in 1..=len {
            table.raw_set(at, self.value()?)?;
        }
        Ok(Value::Table(table))
    }

    fn line(&mut self) -> &'a [u8] {
        let end = memchr::memchr(b'\r', self.rest).expect("a line of a reply ends");
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        line
    }

    fn blob(&mut self, len: &[u8]) -> &'a [u8] {
        let len = count(len);
        let blob = &self.rest[..len];
        self.rest = &self.rest[len + 2..];
        blob
    }
}

fn single(lua: &Lua, name: &str, value: Value) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

fn integer(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn count(text: &[u8]) -> usize {
    usize::try_from(integer(text)).unwrap_or(0)
}

/// The fields that tables with a meaning have, made once: each table that a script returns is asked for them.
pub(super) struct Names {
    err: LuaString,
    ok: LuaString,
    double: LuaString,
    map: LuaString,
    set: LuaString,
    big_number: LuaString,
    verbatim_string: LuaString,
}

impl Names {
    pub fn new(lua: &Lua) -> mlua::Result<Names> {
        Ok(Names {
            err: lua.create_string("err")?,
            ok: lua.create_string("ok")?,
            double: lua.create_string("double")?,
            map: lua.create_string("map")?,
            set: lua.create_string("set")?,
            big_number: lua.create_string("big_number")?,
            verbatim_string: lua.create_string("verbatim_string")?,
        })
    }
}

/// Who talks to whom.
#[derive(Clone, Copy)]
pub(super) struct Protocols<'a> {
    pub names: &'a Names,
    /// The client's.
    pub resp3: bool,
    /// The one that the script asked for with `setresp`: only in RESP3 is false something else than nothing.
    pub script_resp3: bool,
}

/// Appends what a script returned.
pub(super) fn to_reply(value: &Value, protocols: Protocols<'_>, out: &mut Vec<u8>) -> mlua::Result<()> {
    append(value, protocols, DEPTH_MAX, out)
}

fn append(value: &Value, protocols: Protocols<'_>, depth_left: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    let Protocols { resp3, script_resp3, .. } = protocols;
    match value {
        Value::String(text) => resp::bulk(out, &text.as_bytes()),
        Value::Boolean(truth) if script_resp3 => resp::boolean(out, *truth, resp3),
        Value::Boolean(true) => resp::integer(out, 1),
        Value::Integer(number) => resp::integer(out, *number),
        // As C converts: towards zero; what does not fit becomes the smallest number.
        Value::Number(number) => resp::integer(out, truncate(*number)),
        Value::Table(_) if depth_left == 0 => resp::error(out, "ERR reached lua stack limit"),
        Value::Table(table) => return append_table(table, protocols, depth_left - 1, out),
        _ => resp::null(out, resp3),
    }
    Ok(())
}

pub(super) fn truncate(number: f64) -> i64 {
    if number >= 9_223_372_036_854_775_808.0 || number.is_nan() { i64::MIN } else { number as i64 }
}

/// The fields are looked for in Redis's order; a table without any of them is an array up to its first nil.
fn append_table(
    table: &Table,
    protocols: Protocols<'_>,
    depth_left: usize,
    out: &mut Vec<u8>,
) -> mlua::Result<()> {
    let Protocols { names, resp3, .. } = protocols;
    if let Some(text) = text_of(table.raw_get(&names.err)?) {
        resp::error_bytes(out, &text);
        return Ok(());
    }
    if let Some(text) = text_of(table.raw_get(&names.ok)?) {
        out.push(b'+');
        out.extend_from_slice(&one_line(&text));
        out.extend_from_slice(b"\r\n");
        return Ok(());
    }
    match table.raw_get(&names.double)? {
        Value::Number(number) => return append_double(number, resp3, out),
        Value::Integer(number) => return append_double(number as f64, resp3, out),
        _ => {}
    }
    if let Value::Table(map) = table.raw_get(&names.map)? {
        let start = out.len();
        let mut len = 0;
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            len += 1;
            append(&key, protocols, depth_left, out)?;
            append(&value, protocols, depth_left, out)?;
        }
        insert_header(out, start, |header| resp::map_header(header, len, resp3));
        return Ok(());
    }
    if let Value::Table(set) = table.raw_get(&names.set)? {
        let start = out.len();
        let mut len = 0;
        for pair in set.pairs::<Value, Value>() {
            len += 1;
            append(&pair?.0, protocols, depth_left, out)?;
        }
        insert_header(out, start, |header| resp::set_header(header, len, resp3));
        return Ok(());
    }
    if let Some(digits) = text_of(table.raw_get(&names.big_number)?) {
        let digits = one_line(&digits);
        if resp3 {
            out.push(b'(');
            out.extend_from_slice(&digits);
            out.extend_from_slice(b"\r\n");
        } else {
            resp::bulk(out, &digits);
        }
        return Ok(());
    }
    if let Value::Table(verbatim) = table.raw_get(&names.verbatim_string)?
        && let Some(format) = text_of(verbatim.raw_get("format")?)
        && let Some(text) = text_of(verbatim.raw_get("string")?)
    {
        append_verbatim(&format, &text, resp3, out);
        return Ok(());
    }
    let start = out.len();
    let mut len = 0;
    loop {
        let element: Value = table.raw_get(len + 1)?;
        if element.is_nil() {
            break;
        }
        append(&element, protocols, depth_left, out)?;
        len += 1;
    }
    insert_header(out, start, |header| resp::array_header(header, len));
    Ok(())
}

/// Lengths are known only afterwards.
fn insert_header(out: &mut Vec<u8>, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let mut header = Vec::with_capacity(16);
    write(&mut header);
    out.splice(at..at, header);
}

fn text_of(value: Value) -> Option<Vec<u8>> {
    value.as_string().map(|text| text.as_bytes().to_vec())
}

fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
}

fn append_double(number: f64, resp3: bool, out: &mut Vec<u8>) -> mlua::Result<()> {
    let mut text = Vec::new();
    push_general(&mut text, number, 17);
    if resp3 {
        out.push(b',');
        out.extend_from_slice(&text);
        out.extend_from_slice(b"\r\n");
    } else {
        resp::bulk(out, &text);
    }
    Ok(())
}

/// The format has three letters; longer ones are cut, shorter ones filled up.
fn append_verbatim(format: &[u8], text: &[u8], resp3: bool, out: &mut Vec<u8>) {
    if !resp3 {
        return resp::bulk(out, text);
    }
    out.extend_from_slice(format!("={}\r\n", text.len() + 4).as_bytes());
    let mut letters = *b"   ";
    for (letter, given) in letters.iter_mut().zip(format) {
        *letter = *given;
    }
    out.extend_from_slice(&letters);
    out.push(b':');
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

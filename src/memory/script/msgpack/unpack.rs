//! Reads MessagePack: `unpack`, `unpack_one` and `unpack_limit`.

use mlua::{Lua, MultiValue, Table, Value};

use super::super::arguments::{number_at, text_at};
use super::super::raised::raise_at;

/// Deeper input would need more stack than there is.
const DEPTH_MAX: usize = 500;
/// As many results as a Lua function may give.
const RESULTS_MAX: usize = 7000;

/// What is wrong with the input.
enum Bad {
    Ends,
    Format,
    TooMany,
    Lua(mlua::Error),
}

impl From<mlua::Error> for Bad {
    fn from(error: mlua::Error) -> Bad {
        Bad::Lua(error)
    }
}

impl Bad {
    fn raised(self, lua: &Lua) -> mlua::Error {
        match self {
            Bad::Ends => raise_at(lua, "Missing bytes in input."),
            Bad::Format => raise_at(lua, "Bad data format in input."),
            Bad::TooMany => raise_at(lua, "too many results to unpack"),
            Bad::Lua(error) => error,
        }
    }
}

pub(super) fn add_functions(lua: &Lua, table: &Table) -> mlua::Result<()> {
    table.raw_set("unpack", lua.create_function(|lua, args: MultiValue| read_all(lua, &args))?)?;
    let one = lua.create_function(|lua, args: MultiValue| {
        let offset = optional(lua, &args, 1, "unpack_one")?;
        read_some(lua, &args, "unpack_one", 1, offset)
    })?;
    table.raw_set("unpack_one", one)?;
    let limit = lua.create_function(|lua, args: MultiValue| {
        let limit = number_at(lua, &args, 1, "unpack_limit")? as i64;
        let offset = optional(lua, &args, 2, "unpack_limit")?;
        read_some(lua, &args, "unpack_limit", limit, offset)
    })?;
    table.raw_set("unpack_limit", limit)
}

fn optional(lua: &Lua, args: &MultiValue, at: usize, function: &str) -> mlua::Result<i64> {
    match args.get(at) {
        None | Some(Value::Nil) => Ok(0),
        Some(_) => Ok(number_at(lua, args, at, function)? as i64),
    }
}

fn read_all(lua: &Lua, args: &MultiValue) -> mlua::Result<MultiValue> {
    let bytes = text_at(lua, args, 0, "unpack")?;
    let mut reader = Reader { lua, left: &bytes };
    reader.values(usize::MAX).map(MultiValue::from_vec).map_err(|bad| bad.raised(lua))
}

/// The place behind what was read, or -1 at the end, and what was read.
fn read_some(
    lua: &Lua,
    args: &MultiValue,
    function: &str,
    limit: i64,
    offset: i64,
) -> mlua::Result<MultiValue> {
    let bytes = text_at(lua, args, 0, function)?;
    let (Ok(count), Ok(start)) = (usize::try_from(limit), usize::try_from(offset)) else {
        // That it tells the length as the limit is lua-cmsgpack's own.
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {}.", bytes.len());
        return Err(raise_at(lua, text));
    };
    if start > bytes.len() {
        let text = format!("Start offset {offset} greater than input length {}.", bytes.len());
        return Err(raise_at(lua, text));
    }
    // Without both, everything is asked for, and no place is told.
    let is_all = limit == 0 && offset == 0;
    let mut reader = Reader { lua, left: &bytes[start..] };
    let mut values = reader.values(if is_all { usize::MAX } else { count }).map_err(|bad| bad.raised(lua))?;
    if !is_all {
        let next = if reader.left.is_empty() { -1.0 } else { (bytes.len() - reader.left.len()) as f64 };
        values.insert(0, Value::Number(next));
    }
    Ok(MultiValue::from_vec(values))
}

struct Reader<'a> {
    lua: &'a Lua,
    left: &'a [u8],
}

impl Reader<'_> {
    fn values(&mut self, count: usize) -> Result<Vec<Value>, Bad> {
        let mut values = Vec::new();
        while !self.left.is_empty() && values.len() < count {
            if values.len() == RESULTS_MAX {
                return Err(Bad::TooMany);
            }
            values.push(self.value(0)?);
        }
        Ok(values)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], Bad> {
        let (taken, left) = self.left.split_at_checked(len).ok_or(Bad::Ends)?;
        self.left = left;
        Ok(taken)
    }

    /// A whole number without a sign, of so many bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64, Bad> {
        Ok(self.take(len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, len: usize) -> Result<f64, Bad> {
        let unused = 64 - 8 * len as u32;
        Ok(((self.unsigned(len)? << unused) as i64 >> unused) as f64)
    }

    fn string(&mut self, len: u64) -> Result<Value, Bad> {
        let lua = self.lua;
        let text = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        Ok(Value::String(lua.create_string(text)?))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Bad> {
        if depth > DEPTH_MAX {
            return Err(Bad::Format);
        }
        let mark = self.take(1)?[0];
        let number = match mark {
            0xc0 => return Ok(Value::Nil),
            0xc2 | 0xc3 => return Ok(Value::Boolean(mark == 0xc3)),
            0xa0..=0xbf => return self.string(u64::from(mark & 31)),
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (mark - 0xd9))?;
                return self.string(len);
            }
            0x90..=0x9f => return self.array(u64::from(mark & 15), depth),
            0xdc | 0xdd => {
                let len = self.unsigned(if mark == 0xdc { 2 } else { 4 })?;
                return self.array(len, depth);
            }
            0x80..=0x8f => return self.map(u64::from(mark & 15), depth),
            0xde | 0xdf => {
                let len = self.unsigned(if mark == 0xde { 2 } else { 4 })?;
                return self.map(len, depth);
            }
            0x00..=0x7f => f64::from(mark),
            0xe0..=0xff => f64::from(mark as i8),
            0xcc..=0xcf => self.unsigned(1 << (mark - 0xcc))? as f64,
            0xd0..=0xd3 => self.signed(1 << (mark - 0xd0))?,
            0xca => f64::from(f32::from_bits(self.unsigned(4)? as u32)),
            0xcb => f64::from_bits(self.unsigned(8)?),
            _ => return Err(Bad::Format),
        };
        Ok(Value::Number(number))
    }

    fn array(&mut self, len: u64, depth: usize) -> Result<Value, Bad> {
        let table = self.lua.create_table()?;
        for at in 1..=len {
            let element = self.value(depth + 1)?;
            table.raw_set(at as f64, element)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: u64, depth: usize) -> Result<Value, Bad> {
        let table = self.lua.create_table()?;
        for _ in 0..len {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            table.raw_set(key, value)?;
        }
        Ok(Value::Table(table))
    }
}

//! The library `cmsgpack`: MessagePack as lua-cmsgpack 0.4.0 has it in Redis 7.0: whole numbers in the shortest form, tables with
//! the keys 1 to n as arrays, what nests deeper than 16 tables as nil.

mod unpack;

use mlua::{Lua, MultiValue, Table, Value};

use super::raised::{Raised, bad_argument, raise, raise_at};

const NESTING_MAX: usize = 16;
/// Tables that hold each other many times are written many times; this ends that.
const PACKED_BYTES_MAX: usize = 64 << 20;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    unpack::add_functions(lua, &table)?;
    Ok(table)
}

/// All arguments, one behind the other.
fn pack(lua: &Lua, args: MultiValue) -> mlua::Result<mlua::LuaString> {
    if args.is_empty() {
        return Err(bad_argument(lua, 0, "pack", "MessagePack pack needs input."));
    }
    let mut out = Vec::with_capacity(64);
    for value in &args {
        write(&mut out, value, 0).map_err(|error| raise_at(lua, Raised::of(&error).to_string()))?;
    }
    lua.create_string(out)
}

fn write(out: &mut Vec<u8>, value: &Value, depth: usize) -> mlua::Result<()> {
    if out.len() > PACKED_BYTES_MAX {
        return Err(raise(Raised::Text(b"not enough memory".to_vec())));
    }
    match value {
        Value::String(text) => write_string(out, &text.as_bytes()),
        Value::Boolean(on) => out.push(if *on { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => write_integer(out, *number),
        Value::Number(number) => write_number(out, *number),
        Value::Table(table) if depth < NESTING_MAX => return write_table(out, table, depth),
        _ => out.push(0xc0),
    }
    Ok(())
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..0x100 => out.extend([0xd9, len as u8]),
        len => write_len(out, len, [0xda, 0xdb]),
    }
    out.extend_from_slice(text);
}

/// With 16 bits behind the first mark, or 32 behind the second.
fn write_len(out: &mut Vec<u8>, len: usize, marks: [u8; 2]) {
    match u16::try_from(len) {
        Ok(len) => {
            out.push(marks[0]);
            out.extend(len.to_be_bytes());
        }
        Err(_) => {
            out.push(marks[1]);
            out.extend((len as u32).to_be_bytes());
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: f64) {
    // 2^63 itself is no longer an integer.
    let limit = -(i64::MIN as f64);
    if number.trunc() == number && (-limit..limit).contains(&number) {
        write_integer(out, number as i64);
    } else if f64::from(number as f32) == number {
        out.push(0xca);
        out.extend((number as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend(number.to_be_bytes());
    }
}

fn write_integer(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    let (mark, len) = match number {
        -32..128 => return out.push(bytes[7]),
        128..0x100 => (0xcc, 1),
        0x100..0x1_0000 => (0xcd, 2),
        0x1_0000..0x1_0000_0000 => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..-32 => (0xd0, 1),
        -0x8000..-0x80 => (0xd1, 2),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    out.push(mark);
    out.extend_from_slice(&bytes[8 - len..]);
}

fn write_table(out: &mut Vec<u8>, table: &Table, depth: usize) -> mlua::Result<()> {
    let (mut items, mut max, mut is_array) = (0_usize, 0_i64, true);
    for pair in table.pairs::<Value, Value>() {
        items += 1;
        match whole(&pair?.0) {
            Some(at) if at > 0 => max = max.max(at),
            _ => is_array = false,
        }
    }
    if is_array && max as usize == items {
        match items {
            0..16 => out.push(0x90 | items as u8),
            _ => write_len(out, items, [0xdc, 0xdd]),
        }
        for at in 1..=items {
            write(out, &table.raw_get(at)?, depth + 1)?;
        }
        return Ok(());
    }
    match items {
        0..16 => out.push(0x80 | items as u8),
        _ => write_len(out, items, [0xde, 0xdf]),
    }
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        write(out, &key, depth + 1)?;
        write(out, &value, depth + 1)?;
    }
    Ok(())
}

fn whole(key: &Value) -> Option<i64> {
    match key {
        Value::Integer(number) => Some(*number),
        Value::Number(number) if number.trunc() == *number => Some(*number as i64),
        _ => None,
    }
}

//! The library `bit`: 32-bit arithmetic, worded and rounded as LuaBitOp. Pure but for the tables it makes.

use mlua::{Lua, MultiValue, Table};

use super::arguments::number_at;

type Args = MultiValue;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    unary(lua, &table, "tobit", |a| a)?;
    unary(lua, &table, "bnot", |a| !a)?;
    unary(lua, &table, "bswap", u32::swap_bytes)?;
    fold(lua, &table, "band", |a, b| a & b)?;
    fold(lua, &table, "bor", |a, b| a | b)?;
    fold(lua, &table, "bxor", |a, b| a ^ b)?;
    shift(lua, &table, "lshift", |a, n| a << n)?;
    shift(lua, &table, "rshift", |a, n| a >> n)?;
    shift(lua, &table, "arshift", |a, n| ((a as i32) >> n) as u32)?;
    shift(lua, &table, "rol", u32::rotate_left)?;
    shift(lua, &table, "ror", u32::rotate_right)?;
    table.raw_set("tohex", lua.create_function(|lua, args: Args| tohex(lua, &args))?)?;
    Ok(table)
}

fn unary(lua: &Lua, table: &Table, name: &'static str, f: fn(u32) -> u32) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, args: Args| Ok(signed(f(bits(lua, &args, 0, name)?))))?;
    table.raw_set(name, function)
}

fn fold(lua: &Lua, table: &Table, name: &'static str, f: fn(u32, u32) -> u32) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, args: Args| {
        let mut result = bits(lua, &args, 0, name)?;
        for at in 1..args.len() {
            result = f(result, bits(lua, &args, at, name)?);
        }
        Ok(signed(result))
    })?;
    table.raw_set(name, function)
}

fn shift(lua: &Lua, table: &Table, name: &'static str, f: fn(u32, u32) -> u32) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, args: Args| {
        let value = bits(lua, &args, 0, name)?;
        Ok(signed(f(value, bits(lua, &args, 1, name)? & 31)))
    })?;
    table.raw_set(name, function)
}

/// Eight digits, or as many as said; a negative count asks for capitals.
fn tohex(lua: &Lua, args: &Args) -> mlua::Result<String> {
    let value = bits(lua, args, 0, "tohex")?;
    let count = if args.len() < 2 { 8 } else { bits(lua, args, 1, "tohex")? as i32 };
    let digits = count.unsigned_abs().min(8) as usize;
    let text = if count < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
    Ok(text[8 - digits..].to_owned())
}

fn signed(value: u32) -> f64 {
    f64::from(value as i32)
}

/// The low 32 bits of a number, taken from the sum with 2^52 + 2^51, as LuaBitOp does: rounds to even, wraps.
fn bits(lua: &Lua, args: &Args, at: usize, function: &str) -> mlua::Result<u32> {
    let number = number_at(lua, args, at, function)?;
    Ok((number + 6_755_399_441_055_744.0).to_bits() as u32)
}

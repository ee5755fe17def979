//! The arguments of library functions, taken and refused as Lua's own C API does. Knows no library.

use mlua::{Lua, MultiValue, Value};

use super::number::read_number;
use super::raised::{bad_argument, type_name};

/// The number at `at`, also one that is written as a string.
pub(super) fn number_at(lua: &Lua, args: &MultiValue, at: usize, function: &str) -> mlua::Result<f64> {
    let found = match args.get(at) {
        Some(Value::Integer(number)) => return Ok(*number as f64),
        Some(Value::Number(number)) => return Ok(*number),
        Some(Value::String(text)) => {
            if let Some(number) = number_in(&text.as_bytes()) {
                return Ok(number);
            }
            "string"
        }
        other => found(other),
    };
    Err(bad_argument(lua, at + 1, function, format!("number expected, got {found}")))
}

/// The string at `at`, also a number as it is written.
pub(super) fn text_at(lua: &Lua, args: &MultiValue, at: usize, function: &str) -> mlua::Result<Vec<u8>> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text.as_bytes().to_vec()),
        Some(number @ (Value::Integer(_) | Value::Number(_))) => {
            let text = lua.coerce_string(number.clone())?;
            Ok(text.map(|text| text.as_bytes().to_vec()).unwrap_or_default())
        }
        other => {
            let found = found(other);
            Err(bad_argument(lua, at + 1, function, format!("string expected, got {found}")))
        }
    }
}

fn found(value: Option<&Value>) -> &'static str {
    value.map_or("no value", type_name)
}

/// The number that a string is, blanks around it left out.
pub(super) fn number_in(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let (number, len) = read_number(text)?;
    (len == text.len()).then_some(number)
}

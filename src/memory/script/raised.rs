//! Errors that Rust functions raise in scripts, and how they come out of Lua again. Knows no command.

use std::fmt;
use std::sync::Arc;

use mlua::{Error, Lua, Value};

/// What a Rust function raised.
#[derive(Debug, Clone)]
pub(super) enum Raised {
    /// As `error("text")` would, with the position in it if there is to be one.
    Text(Vec<u8>),
    /// As `error({err = "..."})` would: a refused or failed command, with its code.
    Reply(Vec<u8>),
    /// The script's time is up. No script may catch this.
    Over(String),
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raised::Text(text) | Raised::Reply(text) => f.write_str(&String::from_utf8_lossy(text)),
            Raised::Over(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Raised {}

impl Raised {
    /// What the error was that Lua hands back.
    pub fn of(error: &Error) -> Raised {
        match error {
            Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => Raised::of(cause),
            Error::ExternalError(cause) => match cause.downcast_ref::<Raised>() {
                Some(raised) => raised.clone(),
                None => Raised::Text(cause.to_string().into_bytes()),
            },
            Error::RuntimeError(text) | Error::MemoryError(text) => {
                let text = text.split("\nstack traceback:").next().unwrap_or_default();
                Raised::Text(text.as_bytes().to_vec())
            }
            Error::StackError => Raised::Text(b"stack overflow".to_vec()),
            other => Raised::Text(other.to_string().into_bytes()),
        }
    }

    /// The string or table that a script finds.
    pub fn into_value(self, lua: &Lua) -> mlua::Result<Value> {
        match self {
            Raised::Text(text) => Ok(Value::String(lua.create_string(text)?)),
            Raised::Reply(text) => error_table(lua, &text),
            over @ Raised::Over(_) => Err(raise(over)),
        }
    }
}

/// For `Err` of a function that scripts call.
pub(super) fn raise(raised: Raised) -> Error {
    Error::ExternalError(Arc::new(raised))
}

/// An error with the place in the script where the raising function was called, as the C API's `luaL_error`.
pub(super) fn raise_at(lua: &Lua, text: impl AsRef<[u8]>) -> Error {
    let place = lua.inspect_stack(1, |frame| {
        let line = frame.current_line()?;
        Some(format!("{}:{line}: ", frame.source().short_src.unwrap_or_default()))
    });
    let mut whole = place.flatten().unwrap_or_default().into_bytes();
    whole.extend_from_slice(text.as_ref());
    raise(Raised::Text(whole))
}

/// A wrong argument of a library function, worded as Lua words it.
pub(super) fn bad_argument(lua: &Lua, at: usize, function: &str, why: impl AsRef<[u8]>) -> Error {
    let mut text = format!("bad argument #{at} to '{function}' (").into_bytes();
    text.extend_from_slice(why.as_ref());
    text.push(b')');
    raise_at(lua, text)
}

/// The type's name as Lua's `type` gives it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) => "userdata",
        other => other.type_name(),
    }
}

/// `redis.error_reply`'s table, as failed commands raise and return it.
pub(super) fn error_table(lua: &Lua, text: &[u8]) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("err", lua.create_string(text)?)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// The text of an error as scripts see it: a code first. `-CODE text` loses its dash; where no code stands, ERR does.
pub(super) fn with_code(text: &[u8]) -> Vec<u8> {
    let text = trim_line(text);
    match text.strip_prefix(b"-") {
        Some(coded) if coded.contains(&b' ') => coded.to_vec(),
        Some(bare) => [b"ERR ", bare].concat(),
        None => [b"ERR ", text].concat(),
    }
}

fn trim_line(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

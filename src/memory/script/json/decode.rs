//! `cjson.decode`: reads JSON into tables, with lua-cjson's tokens, leniency and errors.

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::{DEPTH_MAX, Settings};
use crate::memory::script::number::{push_general, read_number};
use crate::memory::script::raised::{bad_argument, raise_at, type_name};

pub(super) fn decode(lua: &Lua, settings: Settings, args: &MultiValue) -> mlua::Result<Value> {
    if args.len() != 1 {
        return Err(bad_argument(lua, 1, "decode", "expected 1 argument"));
    }
    let text = match &args[0] {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Integer(number) => written(*number as f64),
        Value::Number(number) => written(*number),
        other => {
            let why = format!("string expected, got {}", type_name(other));
            return Err(bad_argument(lua, 1, "decode", &why));
        }
    };
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(raise_at(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut parser = Parser { lua, settings, text: &text, at: 0, depth: 0 };
    let first = parser.token();
    let value = parser.value(first)?;
    match parser.token() {
        Token { kind: Kind::End, .. } => Ok(value),
        other => Err(parser.expected("the end", &other)),
    }
}

fn written(number: f64) -> Vec<u8> {
    let mut text = Vec::new();
    push_general(&mut text, number, 14);
    text
}

struct Token {
    kind: Kind,
    /// Where it begins, or where it went wrong.
    at: usize,
}

enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    End,
    Null,
    Boolean(bool),
    Number(f64),
    String(Vec<u8>),
    Wrong(&'static str),
}

impl Kind {
    /// As errors call it.
    fn name(&self) -> &'static str {
        match self {
            Kind::ObjectBegin => "T_OBJ_BEGIN",
            Kind::ObjectEnd => "T_OBJ_END",
            Kind::ArrayBegin => "T_ARR_BEGIN",
            Kind::ArrayEnd => "T_ARR_END",
            Kind::Colon => "T_COLON",
            Kind::Comma => "T_COMMA",
            Kind::End => "T_END",
            Kind::Null => "T_NULL",
            Kind::Boolean(_) => "T_BOOLEAN",
            Kind::Number(_) => "T_NUMBER",
            Kind::String(_) => "T_STRING",
            Kind::Wrong(why) => why,
        }
    }
}

struct Parser<'a> {
    lua: &'a Lua,
    settings: Settings,
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn value(&mut self, token: Token) -> mlua::Result<Value> {
        match token.kind {
            Kind::String(text) => Ok(Value::String(self.lua.create_string(text)?)),
            Kind::Number(number) => Ok(Value::Number(number)),
            Kind::Boolean(truth) => Ok(Value::Boolean(truth)),
            Kind::Null => Ok(Value::NULL),
            Kind::ObjectBegin => self.object().map(Value::Table),
            Kind::ArrayBegin => self.array().map(Value::Table),
            _ => Err(self.expected("value", &token)),
        }
    }

    fn expected(&self, what: &str, found: &Token) -> mlua::Error {
        let text = format!("Expected {what} but found {} at character {}", found.kind.name(), found.at + 1);
        raise_at(self.lua, text)
    }

    fn descend(&mut self) -> mlua::Result<()> {
        self.depth += 1;
        if self.depth > self.settings.decode_depth_max.min(DEPTH_MAX) {
            let (depth, at) = (self.depth, self.at);
            return Err(raise_at(
                self.lua,
                format!("Found too many nested data structures ({depth}) at character {at}"),
            ));
        }
        Ok(())
    }

    fn object(&mut self) -> mlua::Result<Table> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if !matches!(token.kind, Kind::ObjectEnd) {
            loop {
                let Kind::String(key) = token.kind else {
                    return Err(self.expected("object key string", &token));
                };
                let key: LuaString = self.lua.create_string(key)?;
                token = self.token();
                if !matches!(token.kind, Kind::Colon) {
                    return Err(self.expected("colon", &token));
                }
                token = self.token();
                table.raw_set(key, self.value(token)?)?;
                token = self.token();
                match token.kind {
                    Kind::ObjectEnd => break,
                    Kind::Comma => token = self.token(),
                    _ => return Err(self.expected("comma or object end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(table)
    }

    fn array(&mut self) -> mlua::Result<Table> {
        self.descend()?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if !matches!(token.kind, Kind::ArrayEnd) {
            for at in 1.. {
                table.raw_set(at, self.value(token)?)?;
                token = self.token();
                match token.kind {
                    Kind::ArrayEnd => break,
                    Kind::Comma => token = self.token(),
                    _ => return Err(self.expected("comma or array end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(table)
    }

    // Tokens.

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let single = match self.peek(0) {
            b'{' => Some(Kind::ObjectBegin),
            b'}' => Some(Kind::ObjectEnd),
            b'[' => Some(Kind::ArrayBegin),
            b']' => Some(Kind::ArrayEnd),
            b':' => Some(Kind::Colon),
            b',' => Some(Kind::Comma),
            _ => None,
        };
        if let Some(kind) = single {
            self.at += 1;
            return Token { kind, at };
        }
        match self.peek(0) {
            0 => Token { kind: Kind::End, at },
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    return Token { kind: Kind::Wrong("invalid number"), at };
                }
                self.number()
            }
            _ if self.takes(b"true") => Token { kind: Kind::Boolean(true), at },
            _ if self.takes(b"false") => Token { kind: Kind::Boolean(false), at },
            _ if self.takes(b"null") => Token { kind: Kind::Null, at },
            _ if self.settings.decode_invalid && self.is_invalid_number() => self.number(),
            _ => Token { kind: Kind::Wrong("invalid token"), at },
        }
    }

    fn takes(&mut self, word: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn number(&mut self) -> Token {
        let at = self.at;
        match read_number(&self.text[at..]) {
            Some((number, len)) => {
                self.at += len;
                Token { kind: Kind::Number(number), at }
            }
            None => Token { kind: Kind::Wrong("invalid number"), at },
        }
    }

    /// What C reads as a number but JSON does not know: signs, leading zeros, hexadecimals, infinities, NaN.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let from = usize::from(self.peek(0) == b'-');
        match self.peek(from) {
            b'0' => matches!(self.peek(from + 1), b'x' | b'X' | b'0'..=b'9'),
            b'1'..=b'9' => false,
            _ => {
                let word = self.text.get(self.at + from..self.at + from + 3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    fn string(&mut self) -> Token {
        let start = self.at;
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let wrong = |why, at| Token { kind: Kind::Wrong(why), at };
            match self.peek(0) {
                b'"' => break,
                0 => return wrong("unexpected end of string", self.at),
                b'\\' => match self.peek(1) {
                    b'u' => match self.unicode(&mut text) {
                        Some(len) => self.at += len,
                        None => return wrong("invalid unicode escape code", self.at),
                    },
                    escape => {
                        let byte = match escape {
                            b'"' | b'\\' | b'/' => escape,
                            b'b' => 0x08,
                            b'f' => 0x0c,
                            b'n' => b'\n',
                            b'r' => b'\r',
                            b't' => b'\t',
                            _ => return wrong("invalid escape code", self.at),
                        };
                        text.push(byte);
                        self.at += 2;
                    }
                },
                byte => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Token { kind: Kind::String(text), at: start }
    }

    /// Appends the character of an escape (or of two, for a pair of surrogates); gives the escape's length.
    fn unicode(&self, text: &mut Vec<u8>) -> Option<usize> {
        let code = self.hex(2)?;
        let (code, len) = match code {
            0xD800..=0xDBFF => {
                if self.peek(6) != b'\\' || self.peek(7) != b'u' {
                    return None;
                }
                let low = self.hex(8)?;
                if low & 0xFC00 != 0xDC00 {
                    return None;
                }
                (0x10000 + ((code & 0x3FF) << 10 | low & 0x3FF), 12)
            }
            _ => (code, 6),
        };
        let mut buffer = [0; 4];
        text.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
        Some(len)
    }

    fn hex(&self, ahead: usize) -> Option<u32> {
        (0..4).try_fold(0, |code, i| Some(code << 4 | (self.peek(ahead + i) as char).to_digit(16)?))
    }
}

//! Reads replies as values, keeping apart what RESP2 and RESP3 write differently.
//! Knows nothing of what a reply should be; that is `check`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::PATIENCE;

#[derive(Clone, PartialEq)]
pub enum Value {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// With the type byte it came as: `$`, `*` or `_`.
    Nil(u8),
    List(Vec<Value>),
    Map(Vec<Value>),
    Push(Vec<Value>),
}

impl std::fmt::Debug for Value {
    /// Short, since a mismatch may show a large value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            format!("{shown:?} ({} bytes)", bytes.len())
        };
        match self {
            Value::Status(bytes) => write!(f, "status {}", text(bytes)),
            Value::Error(bytes) => write!(f, "error {}", text(bytes)),
            Value::Bulk(bytes) => write!(f, "bulk {}", text(bytes)),
            Value::Int(n) => write!(f, "int {n}"),
            Value::Nil(kind) => write!(f, "nil {}", *kind as char),
            Value::List(items) => write!(f, "list {items:?}"),
            Value::Map(items) => write!(f, "map {items:?}"),
            Value::Push(items) => write!(f, "push {items:?}"),
        }
    }
}

pub fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::Bulk(text.as_ref().to_vec())
}

pub fn status(text: &str) -> Value {
    Value::Status(text.as_bytes().to_vec())
}

/// A connection whose replies are read one value at a time.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
}

impl Wire {
    pub fn connect(port: u16) -> io::Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire { stream, buffer: Vec::new(), at: 0 })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn read_value(&mut self) -> io::Result<Value> {
        loop {
            if let Some((value, end)) = parse(&self.buffer, self.at)? {
                self.at = end;
                return Ok(value);
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// Reads up to so many bytes, within a moment, and throws them away.
    pub fn waste(&mut self, bytes: usize, moment: Duration) {
        let _ = self.stream.set_read_timeout(Some(moment));
        let _ = self.stream.read(&mut vec![0; bytes.max(1)]);
    }

    /// Lets the connection end with RST when it is dropped, as a crashed client's kernel may.
    pub fn reset_on_drop(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// The value at `at` and where the next begins; `None` if it is not whole yet.
fn parse(buf: &[u8], at: usize) -> io::Result<Option<(Value, usize)>> {
    let Some(len) = buf[at..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = &buf[at + 1..at + len];
    let next = at + len + 2;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("no reply: {:?}", &buf[at..at + len]));
    let number = || std::str::from_utf8(line).ok().and_then(|n| n.parse::<i64>().ok()).ok_or_else(bad);
    let kind = buf[at];
    let value = match kind {
        b'+' => Value::Status(line.to_vec()),
        b'-' => Value::Error(line.to_vec()),
        b':' => Value::Int(number()?),
        b'_' => Value::Nil(kind),
        b'$' | b'*' if number()? < 0 => Value::Nil(kind),
        b'$' => {
            let end = next + number()? as usize;
            if buf.len() < end + 2 {
                return Ok(None);
            }
            return Ok(Some((Value::Bulk(buf[next..end].to_vec()), end + 2)));
        }
        b'*' | b'%' | b'>' | b'~' => {
            let count = number()? * if kind == b'%' { 2 } else { 1 };
            let Some((items, end)) = parse_items(buf, next, count)? else { return Ok(None) };
            let value = match kind {
                b'%' => Value::Map(items),
                b'>' => Value::Push(items),
                _ => Value::List(items),
            };
            return Ok(Some((value, end)));
        }
        _ => return Err(bad()),
    };
    Ok(Some((value, next)))
}

fn parse_items(buf: &[u8], mut at: usize, count: i64) -> io::Result<Option<(Vec<Value>, usize)>> {
    let mut items = Vec::new();
    for _ in 0..count {
        let Some((item, end)) = parse(buf, at)? else { return Ok(None) };
        items.push(item);
        at = end;
    }
    Ok(Some((items, at)))
}

//! Reads the data set that SYNC and PSYNC send and keeps what a replica would load of it. Which process wrote it, and
//! when, is left out.

use std::io;

use crate::support::Client;

/// Starts every data set; the version follows in four digits.
const MAGIC: &[u8] = b"REDIS";

/// A field about the writer: two strings follow.
const ABOUT: u8 = 0xfa;

/// So many bytes of checksum end it.
const CHECKSUM_BYTES: usize = 8;

/// How it was announced, the version, and the keys in RDB form.
pub fn read(client: &mut Client) -> io::Result<Vec<u8>> {
    let mut line = read_line(client)?;
    // Signs of life while Redis writes its file.
    while line == b"\n" {
        line = read_line(client)?;
    }
    let announced = String::from_utf8_lossy(&line).trim_end().to_string();
    let (form, data) = if let Some(mark) = announced.strip_prefix("$EOF:") {
        ("$EOF", read_until(client, mark.as_bytes())?)
    } else {
        let len = announced.strip_prefix('$').and_then(|len| len.parse().ok());
        ("$length", client.read_bytes(len.ok_or_else(|| unfit(&announced))?)?)
    };
    let keys = keys(&data).ok_or_else(|| unfit(&data.escape_ascii().to_string()))?;
    Ok([form.as_bytes(), b" ", &data[..MAGIC.len() + 4], b" ", keys].concat())
}

fn unfit(text: &str) -> io::Error {
    io::Error::other(format!("no data set in RDB form: {text}"))
}

fn read_line(client: &mut Client) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(client.read_bytes(1)?);
    }
    Ok(line)
}

fn read_until(client: &mut Client, mark: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(mark) {
        bytes.extend(client.read_bytes(1)?);
    }
    bytes.truncate(bytes.len() - mark.len());
    Ok(bytes)
}

/// What stands between the fields about the writer and the checksum.
fn keys(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data.strip_prefix(MAGIC)?.get(4..)?;
    while rest.first() == Some(&ABOUT) {
        rest = behind_string(behind_string(&rest[1..])?)?;
    }
    rest.get(..rest.len().checked_sub(CHECKSUM_BYTES)?)
}

/// The first two bits of a string say how its length, or the number that it is, was written.
fn behind_string(bytes: &[u8]) -> Option<&[u8]> {
    let low = usize::from(bytes.first()? & 0x3f);
    let len = match bytes[0] >> 6 {
        0 => 1 + low,
        1 => 2 + (low << 8 | usize::from(*bytes.get(1)?)),
        // A number of 1, 2 or 4 bytes.
        3 if low < 3 => 1 + (1 << low),
        _ => return None,
    };
    bytes.get(len..)
}

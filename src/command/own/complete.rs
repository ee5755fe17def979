//! Puts our own commands into what another server answers about commands. Its reply stays byte for byte what it is beside
//! them; an error passes.

use super::super::Row;
use super::{Own, describe};
use crate::resp::{Args, array_elements, array_header, bulk_text, error, map_header};

/// A request about commands, some of which are ours.
#[derive(Debug, Clone)]
pub struct Asked {
    about: About,
    resp3: bool,
}

#[derive(Debug, Clone)]
enum About {
    /// COMMAND INFO of these names.
    Info(Vec<Vec<u8>>),
    /// COMMAND DOCS of these names.
    Docs(Vec<Vec<u8>>),
    /// COMMAND DOCS of all.
    AllDocs,
    /// COMMAND GETKEYS or GETKEYSANDFLAGS of a request of ours.
    Keys,
}

impl Asked {
    /// `None`: the request has nothing to do with commands of ours, and the reply is whole as it is.
    pub fn of(row: &Row, args: &Args, resp3: bool) -> Option<Asked> {
        let names: Vec<Vec<u8>> = args.iter().skip(2).map(<[u8]>::to_vec).collect();
        let about = match row.name {
            "COMMAND|DOCS" if names.is_empty() => About::AllDocs,
            "COMMAND|GETKEYS" | "COMMAND|GETKEYSANDFLAGS" => {
                Own::named(names.first()?)?;
                About::Keys
            }
            _ if !names.iter().any(|name| Own::named(name).is_some()) => return None,
            "COMMAND|INFO" => About::Info(names),
            "COMMAND|DOCS" => About::Docs(names),
            _ => return None,
        };
        Some(Asked { about, resp3 })
    }

    /// Appends the reply with our commands in it.
    pub fn complete(&self, reply: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let done = match &self.about {
            About::Info(names) => self.info(names, reply, out),
            About::Docs(names) => self.docs(names, reply, out),
            About::AllDocs => self.all_docs(reply, out),
            About::Keys if reply.starts_with(b"-ERR Invalid command specified") => {
                error(out, "ERR The command has no key arguments");
                Some(())
            }
            About::Keys => None,
        };
        if done.is_none() {
            out.truncate(begin);
            out.extend_from_slice(reply);
        }
    }

    /// One element per name; null for those that are not known there.
    fn info(&self, names: &[Vec<u8>], reply: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let elements = array_elements(reply).filter(|elements| elements.len() == names.len())?;
        array_header(out, elements.len());
        for (name, element) in names.iter().zip(elements) {
            match Own::named(name) {
                Some(own) if matches!(element, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n") => {
                    describe::info(own, self.resp3, out);
                }
                _ => out.extend_from_slice(element),
            }
        }
        Some(())
    }

    /// One pair per name that is known there, in the order asked.
    fn docs(&self, names: &[Vec<u8>], reply: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (pairs, body) = self.head(reply)?;
        let mut flat = Vec::with_capacity(reply.len() + 8);
        array_header(&mut flat, 2 * pairs);
        flat.extend_from_slice(body);
        let elements = array_elements(&flat)?;
        let mut theirs = elements.chunks_exact(2).peekable();
        let (mut all, mut count) = (Vec::new(), 0);
        for name in names {
            let is_next = |pair: &&[&[u8]]| bulk_text(pair[0]).is_some_and(|n| n.eq_ignore_ascii_case(name));
            if let Some(pair) = theirs.next_if(is_next) {
                all.extend_from_slice(&pair.concat());
                count += 1;
            } else if let Some(own) = Own::named(name) {
                describe::docs(own, self.resp3, &mut all);
                count += 1;
            }
        }
        for pair in theirs {
            all.extend_from_slice(&pair.concat());
            count += 1;
        }
        map_header(out, count, self.resp3);
        out.extend_from_slice(&all);
        Some(())
    }

    /// Ours behind theirs, but for what they have themselves (a module's).
    fn all_docs(&self, reply: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (pairs, body) = self.head(reply)?;
        let is_there = |own: &Own| {
            let name = format!("\r\n{}\r\n", own.name());
            memchr::memmem::find(reply, name.as_bytes()).is_some()
        };
        let ours: Vec<&Own> = Own::all().filter(|own| !is_there(own)).collect();
        map_header(out, pairs + ours.len(), self.resp3);
        out.extend_from_slice(body);
        ours.into_iter().for_each(|own| describe::docs(own, self.resp3, out));
        Some(())
    }

    /// How many pairs a map has, and what stands behind that number. RESP2 has it as an array.
    fn head<'a>(&self, reply: &'a [u8]) -> Option<(usize, &'a [u8])> {
        let end = memchr::memmem::find(reply, b"\r\n")?;
        let len: usize = std::str::from_utf8(reply.get(1..end)?).ok()?.parse().ok()?;
        match (reply.first()?, self.resp3) {
            (b'%', true) => Some((len, &reply[end + 2..])),
            (b'*', false) if len.is_multiple_of(2) => Some((len / 2, &reply[end + 2..])),
            _ => None,
        }
    }
}

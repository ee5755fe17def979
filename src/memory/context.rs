//! What a command's handler is given and gives back. Holds nothing beyond one command.
//!
//! The parts are fields of their own, so that a handler may write its reply while it holds a value of the keyspace:
//! `if let Some(hash) = ctx.keys.read_as::<Hash>(key)? { ctx.reply.integer(hash.len() as i64) }`.

use super::caller::Caller;
use super::keys::Keys;
use super::number::Digits;
use crate::resp;
use std::borrow::Cow;

/// A request's arguments, its name first.
pub type Argv<'a> = [&'a [u8]];

/// What went wrong: the error line without its `-` and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub Cow<'static, str>);

pub type Outcome = Result<(), Fault>;

/// Called with arguments of the right number only. It either replies and gives Ok, or gives the error to reply.
pub type Handler = fn(&mut Context<'_>, &Argv<'_>) -> Outcome;

pub struct Context<'a> {
    /// The selected database at the moment of the command.
    pub keys: Keys<'a>,
    pub reply: Reply<'a>,
    /// False in EXEC and in scripts: blocking commands then answer at once, as in Redis.
    pub may_block: bool,
    /// Where a request that waited runs again: the key that changed. The handler looks at no other key of those it
    /// waited for.
    pub woken_by: Option<&'a [u8]>,
    /// Where a handler that may block finds nothing, it replies nothing and says here what the caller waits for. When
    /// it was woken in vain, it says so again; the deadline that counts is the first one.
    pub wait: Option<Wait>,
    /// The connection that asked.
    pub caller: &'a mut Caller,
}

/// What a blocking command waits for. The request is to run again when one of these keys has changed; when the time
/// is up the reply is a null array.
pub struct Wait {
    pub keys: Vec<Vec<u8>>,
    /// Unix ms; `None`: for ever.
    pub deadline_ms: Option<u64>,
}

impl Fault {
    pub const WRONG_TYPE: Fault =
        Fault::of("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const SYNTAX: Fault = Fault::of("ERR syntax error");
    pub const NOT_AN_INTEGER: Fault = Fault::of("ERR value is not an integer or out of range");
    pub const NOT_A_FLOAT: Fault = Fault::of("ERR value is not a valid float");
    pub const NO_SUCH_KEY: Fault = Fault::of("ERR no such key");
    pub const OUT_OF_RANGE: Fault = Fault::of("ERR index out of range");
    pub const OUT_OF_MEMORY: Fault = Fault::of("OOM command not allowed when used memory > 'maxmemory'.");

    pub const fn of(text: &'static str) -> Fault {
        Fault(Cow::Borrowed(text))
    }

    /// "ERR wrong number of arguments for 'get' command".
    pub fn arity(name: &str) -> Fault {
        Fault(format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()).into())
    }

    /// "ERR invalid expire time in 'set' command".
    pub fn expire_time(name: &[u8]) -> Fault {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        Fault(format!("ERR invalid expire time in '{name}' command").into())
    }

    /// For texts with parts of the request in them; ends of lines at their end go.
    pub fn with(mut text: String) -> Fault {
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Fault(text.into())
    }
}

/// Writes the reply in the caller's protocol.
pub struct Reply<'a> {
    pub out: &'a mut Vec<u8>,
    pub resp3: bool,
}

impl Reply<'_> {
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// For texts of our own, without ends of lines.
    pub fn simple(&mut self, text: &str) {
        resp::simple(self.out, text);
    }

    pub fn error(&mut self, fault: &Fault) {
        resp::error(self.out, &fault.0);
    }

    #[inline]
    pub fn integer(&mut self, value: i64) {
        resp::integer(self.out, value);
    }

    /// A count.
    #[inline]
    pub fn count(&mut self, count: usize) {
        resp::integer(self.out, count as i64);
    }

    /// 1 or 0.
    #[inline]
    pub fn flag(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b":1\r\n" } else { b":0\r\n" });
    }

    #[inline]
    pub fn bulk(&mut self, text: &[u8]) {
        resp::bulk(self.out, text);
    }

    /// The digits as a bulk string.
    pub fn bulk_integer(&mut self, value: i64) {
        resp::bulk(self.out, &Digits::of(value));
    }

    pub fn bulk_or_null(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => self.bulk(text),
            None => self.null(),
        }
    }

    #[inline]
    pub fn null(&mut self) {
        resp::null(self.out, self.resp3);
    }

    pub fn null_array(&mut self) {
        resp::null_array(self.out, self.resp3);
    }

    pub fn array(&mut self, len: usize) {
        resp::array_header(self.out, len);
    }

    /// So many pairs.
    pub fn map(&mut self, len: usize) {
        resp::map_header(self.out, len, self.resp3);
    }

    pub fn set(&mut self, len: usize) {
        resp::set_header(self.out, len, self.resp3);
    }

    pub fn verbatim(&mut self, text: &[u8]) {
        resp::verbatim(self.out, text, self.resp3);
    }

    /// The lines of a HELP subcommand.
    pub fn help(&mut self, lines: &[&str]) {
        self.array(lines.len());
        for line in lines {
            self.simple(line);
        }
    }
}

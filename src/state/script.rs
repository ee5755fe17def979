//! A Lua script and one run of it. Knows no script by name.
use std::sync::OnceLock;

use smallvec::SmallVec;

use super::Reply;
use crate::resp::{array_header, bulk, bulks};

/// The text of a file in `lua/`. Its first line says by its flags whether it writes.
#[derive(Debug)]
pub struct Script {
    pub name: &'static str,
    pub text: &'static str,
    /// Whether it writes keys that it finds by an index and cannot declare.
    pub finds_keys: bool,
    /// Whether one run takes the keys and arguments of several calls one behind the other, and answers each by itself. All calls
    /// have as many of them.
    pub batches: bool,
    sha: OnceLock<String>,
    writes: OnceLock<bool>,
}

impl Script {
    pub const fn new(name: &'static str, text: &'static str) -> Script {
        Script {
            name,
            text,
            finds_keys: false,
            batches: false,
            sha: OnceLock::new(),
            writes: OnceLock::new(),
        }
    }

    pub const fn finding_keys(mut self) -> Script {
        self.finds_keys = true;
        self
    }

    pub const fn batched(mut self) -> Script {
        self.batches = true;
        self
    }

    /// The SHA-1 of the text in hexadecimal digits: its name in EVALSHA.
    pub fn sha(&'static self) -> &'static str {
        self.sha.get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string())
    }

    /// Whether the first line lacks `no-writes`.
    pub fn writes(&self) -> bool {
        *self.writes.get_or_init(|| !self.text.lines().next().is_some_and(|line| line.contains("no-writes")))
    }
}

/// The script of a file in `lua/`, by its name without the ending. With a second and third argument: the flags of its
/// first line, and the file that stands between that line and it, for scripts that share their beginning.
macro_rules! script {
    ($name:literal) => {
        $crate::state::Script::new($name, include_str!(concat!("../../lua/", $name, ".lua")))
    };
    ($name:literal, $flags:literal, $shared:literal) => {
        $crate::state::Script::new(
            $name,
            concat!(
                "#!lua flags=",
                $flags,
                "\n",
                include_str!(concat!("../../lua/", $shared, ".lua")),
                include_str!(concat!("../../lua/", $name, ".lua")),
            ),
        )
    };
}

pub(super) use script;

/// An argument of a script. Numbers and words need no memory of their own.
pub type Word = SmallVec<[u8; 16]>;

/// A number as it stands in an argument.
pub fn digits(mut value: u64) -> Word {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return Word::from_slice(&text[at..]);
        }
    }
}

/// One run of a script, all of whose request is there but the words that name the script.
#[derive(Debug, Clone)]
pub struct Call {
    pub script: &'static Script,
    /// How the script's array reads for a client.
    pub reply: Reply,
    /// Whether it may share a run of its script with others.
    pub batches: bool,
    /// The number of keys, the keys and the arguments, as they are sent. The last argument is the time in microseconds
    /// that a test injects; empty for the clock of L2.
    tail: Vec<u8>,
    words: usize,
    keys: usize,
    /// Where the keys begin in `tail`, and where the arguments do.
    keys_at: usize,
    args_at: usize,
}

/// That most calls need no more.
const TAIL_BYTES: usize = 160;
const NO_TIME: &[u8] = b"$0\r\n\r\n";

impl Call {
    /// Adds the argument of the time to `args`, empty.
    pub fn new(script: &'static Script, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>>, reply: Reply) -> Call {
        Call::with_words(script, keys.iter().map(Vec::as_slice), args.iter().map(Vec::as_slice), reply)
    }

    /// The same of words that others own.
    pub fn with_words<'a>(
        script: &'static Script,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        args: impl IntoIterator<Item = &'a [u8]>,
        reply: Reply,
    ) -> Call {
        let count = keys.len();
        let tail = Vec::with_capacity(TAIL_BYTES);
        let batches = script.batches;
        let mut call =
            Call { script, reply, batches, tail, words: 1 + count, keys: count, keys_at: 0, args_at: 0 };
        bulk(&mut call.tail, &digits(count as u64));
        call.keys_at = call.tail.len();
        keys.for_each(|key| bulk(&mut call.tail, key));
        call.args_at = call.tail.len();
        for arg in args {
            bulk(&mut call.tail, arg);
            call.words += 1;
        }
        call.tail.extend_from_slice(NO_TIME);
        call.words += 1;
        call
    }

    /// The same run at a given time (microseconds since 1970) instead of the clock of L2. For tests only: no RESP command
    /// takes a time.
    #[must_use]
    pub fn at(mut self, now_us: u64) -> Call {
        if self.tail.ends_with(NO_TIME) {
            self.tail.truncate(self.tail.len() - NO_TIME.len());
            bulk(&mut self.tail, &digits(now_us));
        }
        self
    }

    /// It may take long: others shall not wait for it in one run.
    #[must_use]
    pub fn alone(self) -> Call {
        Call { batches: false, ..self }
    }

    #[must_use]
    pub fn read_as(self, reply: Reply) -> Call {
        Call { reply, ..self }
    }

    /// The same run by another script, with a key and an argument behind the others.
    #[must_use]
    pub fn with_one_more(&self, script: &'static Script, key: &[u8], arg: &[u8]) -> Call {
        let keys: Vec<&[u8]> = self.keys().chain([key]).collect();
        let (args, time) = self.args_and_time();
        Call::rebuilt(script, self.reply, &keys, args.into_iter().chain([arg]), time)
    }

    /// The same with another argument at this position.
    #[must_use]
    pub fn with_arg(&self, at: usize, arg: &[u8]) -> Call {
        let keys: Vec<&[u8]> = self.keys().collect();
        let (mut args, time) = self.args_and_time();
        args[at] = arg;
        Call::rebuilt(self.script, self.reply, &keys, args.into_iter(), time)
    }

    fn args_and_time(&self) -> (Vec<&[u8]>, &[u8]) {
        let mut args: Vec<&[u8]> = bulks(&self.tail).skip(1 + self.keys).collect();
        let time = args.pop().unwrap_or_default();
        (args, time)
    }

    fn rebuilt<'a>(
        script: &'static Script,
        reply: Reply,
        keys: &[&'a [u8]],
        args: impl Iterator<Item = &'a [u8]>,
        time: &[u8],
    ) -> Call {
        let mut call = Call::with_words(script, keys.iter().copied(), args, reply);
        call.tail.truncate(call.tail.len() - NO_TIME.len());
        bulk(&mut call.tail, time);
        call
    }

    /// The arguments of the script, without the time.
    pub fn args(&self) -> Vec<&[u8]> {
        self.args_and_time().0
    }

    /// The keys that the script is told.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        bulks(&self.tail).skip(1).take(self.keys)
    }

    /// The size of its keys and arguments, in bytes.
    pub fn bytes(&self) -> usize {
        self.tail.len()
    }

    /// The hash slot that its keys share in a cluster.
    pub fn slot(&self) -> Option<u16> {
        self.keys().next().map(crate::command::slot)
    }

    /// EVALSHA, or EVALSHA_RO for a script that only reads.
    pub fn evalsha(&self) -> Vec<u8> {
        self.request(Known::Yes)
    }

    /// EVAL or EVAL_RO with the whole text: where the script may be unknown and nobody could repeat the request.
    pub fn eval(&self) -> Vec<u8> {
        self.request(Known::No)
    }

    fn request(&self, known: Known) -> Vec<u8> {
        let mut request = Vec::new();
        self.append_to(known, &mut request);
        request
    }

    /// Appends the request.
    pub fn append_to(&self, known: Known, out: &mut Vec<u8>) {
        let head = self.head(known);
        array_header(out, head.len() + self.words);
        head.iter().for_each(|word| bulk(out, word));
        out.extend_from_slice(&self.tail);
    }

    /// Appends one request for all of these calls of one script that takes batches.
    pub fn append_batch<'a>(calls: impl Iterator<Item = &'a Call> + Clone, known: Known, out: &mut Vec<u8>) {
        let Some(first) = calls.clone().next() else { return };
        debug_assert!(calls.clone().all(|call| (call.keys, call.words) == (first.keys, first.words)));
        let head = first.head(known);
        let (keys, words) =
            calls.clone().fold((0, 1), |(keys, words), call| (keys + call.keys, words + call.words - 1));
        array_header(out, head.len() + words);
        head.iter().for_each(|word| bulk(out, word));
        bulk(out, &digits(keys as u64));
        calls.clone().for_each(|call| out.extend_from_slice(&call.tail[call.keys_at..call.args_at]));
        calls.for_each(|call| out.extend_from_slice(&call.tail[call.args_at..]));
    }

    /// Hands the words of the request to `f`.
    pub fn with_argv<T>(&self, known: Known, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        let head = self.head(known);
        let argv: SmallVec<[&[u8]; 16]> = head.into_iter().chain(bulks(&self.tail)).collect();
        f(&argv)
    }

    /// What names the script.
    fn head(&self, known: Known) -> [&'static [u8]; 2] {
        let Script { text, .. } = self.script;
        match (known, self.script.writes()) {
            (Known::Yes, true) => [b"EVALSHA", self.script.sha().as_bytes()],
            (Known::Yes, false) => [b"EVALSHA_RO", self.script.sha().as_bytes()],
            (Known::No, true) => [b"EVAL", text.as_bytes()],
            (Known::No, false) => [b"EVAL_RO", text.as_bytes()],
        }
    }
}

/// Whether the one who runs a script has its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    static WRITES: Script = Script::new("writes", "#!lua\nreturn 1");
    static READS: Script = Script::new("reads", "#!lua flags=no-writes\nreturn 1");

    fn call(script: &'static Script) -> Call {
        Call::new(script, vec![b"k".to_vec()], vec![b"a".to_vec()], Reply::AsIs)
    }

    #[test]
    fn a_call_names_its_script_by_digest_and_ends_with_the_time() {
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(sha1_smol::Sha1::from("return 1").digest().to_string(), sha);
        let request = String::from_utf8(call(&WRITES).evalsha()).expect("text");
        assert!(request.starts_with("*6\r\n$7\r\nEVALSHA\r\n$40\r\n"), "{request}");
        assert!(request.ends_with("\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\na\r\n$0\r\n\r\n"), "{request}");
        let timed = String::from_utf8(call(&WRITES).at(1_700_000_000_000_000).eval()).expect("text");
        assert!(timed.starts_with("*6\r\n$4\r\nEVAL\r\n$14\r\n#!lua\nreturn 1\r\n"), "{timed}");
        assert!(timed.ends_with("$16\r\n1700000000000000\r\n"), "{timed}");
    }

    #[test]
    fn a_call_tells_its_keys_and_all_its_words() {
        let (keys, args) = (vec![b"k".to_vec(), b"a\r\nb".to_vec()], vec![b"".to_vec(), b"$1\r\n".to_vec()]);
        let call = Call::new(&READS, keys, args, Reply::AsIs).at(7);
        assert_eq!(call.keys().collect::<Vec<_>>(), [&b"k"[..], b"a\r\nb"]);
        let words: [&[u8]; 8] =
            [b"EVAL_RO", READS.text.as_bytes(), b"2", b"k", b"a\r\nb", b"", b"$1\r\n", b"7"];
        call.with_argv(Known::No, |argv| assert_eq!(argv, words));
        assert_eq!(call.eval(), crate::resp::encode_request(&words));
    }

    #[test]
    fn calls_of_a_batch_have_their_keys_first_and_then_their_arguments() {
        let of = |key: &str, args: &[&str]| {
            let args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            Call::new(&WRITES, vec![key.into()], args, Reply::AsIs)
        };
        let calls = [of("k1", &["a", "b"]), of("k2", &["c", "d"]).at(7)];
        let mut batch = Vec::new();
        Call::append_batch(calls.iter(), Known::No, &mut batch);
        let words: [&[u8]; 11] =
            [b"EVAL", WRITES.text.as_bytes(), b"2", b"k1", b"k2", b"a", b"b", b"", b"c", b"d", b"7"];
        assert_eq!(batch, crate::resp::encode_request(&words));
        let mut alone = Vec::new();
        Call::append_batch(calls[..1].iter(), Known::Yes, &mut alone);
        assert_eq!(alone, calls[0].evalsha());
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for value in [0, 7, 10, 1_700_000_000_000_000, u64::MAX] {
            assert_eq!(digits(value).as_slice(), value.to_string().as_bytes());
        }
    }

    #[test]
    fn a_script_that_only_reads_runs_by_the_read_only_commands() {
        assert!(call(&READS).evalsha().windows(10).any(|part| part == b"EVALSHA_RO"));
        assert!(call(&READS).eval().windows(7).any(|part| part == b"EVAL_RO"));
    }
}

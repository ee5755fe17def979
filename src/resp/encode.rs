//! Appends requests and replies to an output buffer. Knows nothing of who asked or why.
use super::number::push_decimal;

const CRLF: &[u8] = b"\r\n";

/// One request as an array of bulk strings.
pub fn encode_request(args: &[&[u8]]) -> Vec<u8> {
    let bytes: usize = args.iter().map(|arg| arg.len() + 16).sum();
    let mut out = Vec::with_capacity(bytes + 16);
    append_request(&mut out, args);
    out
}

/// The same, appended to `out`.
pub fn append_request(out: &mut Vec<u8>, args: &[&[u8]]) {
    array_header(out, args.len());
    for arg in args {
        bulk(out, arg);
    }
}

/// `+text`. For texts of our own, without CR or LF.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(CRLF);
}

/// `-text`, where the text begins with its code (`ERR no such key`). CR and LF in it become blanks.
pub fn error(out: &mut Vec<u8>, text: &str) {
    error_bytes(out, text.as_bytes());
}

/// The same for texts that carry bytes of a client or a script.
pub fn error_bytes(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(CRLF);
}

/// `:n`.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    header(out, b':', value);
}

/// `$len` and the bytes.
#[inline]
pub fn bulk(out: &mut Vec<u8>, text: &[u8]) {
    header(out, b'$', text.len() as i64);
    out.extend_from_slice(text);
    out.extend_from_slice(CRLF);
}

/// `_`, or `$-1` in RESP2.
pub fn null(out: &mut Vec<u8>, proto3: bool) {
    out.extend_from_slice(if proto3 { b"_\r\n" } else { b"$-1\r\n" });
}

/// `_`, or `*-1` in RESP2, where an array was expected.
pub fn null_array(out: &mut Vec<u8>, proto3: bool) {
    out.extend_from_slice(if proto3 { b"_\r\n" } else { b"*-1\r\n" });
}

/// The head of an array of `len` elements.
#[inline]
pub fn array_header(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len as i64);
}

/// The head of a map of `len` pairs, in RESP2 an array of twice as many elements.
pub fn map_header(out: &mut Vec<u8>, len: usize, proto3: bool) {
    if proto3 { header(out, b'%', len as i64) } else { array_header(out, 2 * len) }
}

/// The head of a set of `len` elements, in RESP2 an array.
pub fn set_header(out: &mut Vec<u8>, len: usize, proto3: bool) {
    header(out, if proto3 { b'~' } else { b'*' }, len as i64);
}

/// The head of a push of `len` elements, in RESP2 an array.
pub fn push_header(out: &mut Vec<u8>, len: usize, proto3: bool) {
    header(out, if proto3 { b'>' } else { b'*' }, len as i64);
}

/// Plain text to be shown as it is, in RESP2 a bulk string.
pub fn verbatim(out: &mut Vec<u8>, text: &[u8], proto3: bool) {
    if !proto3 {
        return bulk(out, text);
    }
    header(out, b'=', text.len() as i64 + 4);
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(text);
    out.extend_from_slice(CRLF);
}

/// A floating point number in its shortest form, in RESP2 as a bulk string.
pub fn double(out: &mut Vec<u8>, value: f64, proto3: bool) {
    // Rust's texts for these are "inf", "-inf" and "NaN"; the wire wants the last in lower case.
    let text = if value.is_nan() { "nan".to_owned() } else { value.to_string() };
    if !proto3 {
        return bulk(out, text.as_bytes());
    }
    out.push(b',');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(CRLF);
}

/// `#t` or `#f`, in RESP2 1 or 0.
pub fn boolean(out: &mut Vec<u8>, value: bool, proto3: bool) {
    match (proto3, value) {
        (true, true) => out.extend_from_slice(b"#t\r\n"),
        (true, false) => out.extend_from_slice(b"#f\r\n"),
        (false, value) => integer(out, i64::from(value)),
    }
}

/// A type byte, a number and the end of the line.
#[inline]
pub(super) fn header(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    push_decimal(out, value);
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("these replies are text")
    }

    #[test]
    fn a_request_is_an_array_of_bulk_strings() {
        assert_eq!(encode_request(&[b"GET", b"", b"a\r\n"]), b"*3\r\n$3\r\nGET\r\n$0\r\n\r\n$3\r\na\r\n\r\n");
    }

    #[test]
    fn an_error_is_one_line_whatever_it_carries() {
        assert_eq!(written(|out| error(out, "ERR a\r\nb")), "-ERR a  b\r\n");
    }

    #[test]
    fn each_reply_reads_as_its_protocol_writes_it() {
        for (proto3, expected) in [
            (
                false,
                "$-1\r\n*-1\r\n*4\r\n*2\r\n*3\r\n$2\r\nhi\r\n$3\r\n1.5\r\n$4\r\n-inf\r\n$3\r\nnan\r\n:1\r\n:0\r\n",
            ),
            (true, "_\r\n_\r\n%2\r\n~2\r\n>3\r\n=6\r\ntxt:hi\r\n,1.5\r\n,-inf\r\n,nan\r\n#t\r\n#f\r\n"),
        ] {
            let found = written(|out| {
                null(out, proto3);
                null_array(out, proto3);
                map_header(out, 2, proto3);
                set_header(out, 2, proto3);
                push_header(out, 3, proto3);
                verbatim(out, b"hi", proto3);
                double(out, 1.5, proto3);
                double(out, f64::NEG_INFINITY, proto3);
                double(out, f64::NAN, proto3);
                boolean(out, true, proto3);
                boolean(out, false, proto3);
            });
            assert_eq!(found, expected);
        }
        assert_eq!(written(|out| simple(out, "OK")), "+OK\r\n");
        assert_eq!(written(|out| integer(out, -12)), ":-12\r\n");
    }
}

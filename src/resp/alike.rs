//! Requests that are written like the one before them, as a pipeline's mostly are.

use super::number::short_count;
use super::request::{RequestLimits, RequestScanner};

/// The length of the request at the start of `buf`, if it is written like another one: it begins with `prefix` (everything of
/// that before its first argument), is there to its end, and has the usual form. What the scanner might refuse is left to it.
///
/// `ranges` are the other request's. Those behind the name become this one's; after `None` they mean nothing.
#[inline]
pub fn next_alike(
    buf: &[u8],
    prefix: &[u8],
    ranges: &mut [(u32, u32)],
    limits: &RequestLimits,
) -> Option<usize> {
    if !buf.starts_with(prefix) {
        return None;
    }
    let mut at = prefix.len();
    for range in ranges.iter_mut().skip(1) {
        let (len, cr) = short_count(buf, at + 1)?;
        let (start, end) = (cr + 2, cr + 2 + len as usize);
        if buf.get(end..end + 2)? != b"\r\n" || buf[at] != b'$' || buf[cr + 1] != b'\n' {
            return None;
        }
        *range = (start as u32, end as u32);
        at = end + 2;
    }
    // Ranges are of 32 bits. And limits change while a client logs in or is reset.
    let fits = at <= u32::MAX as usize
        && at as i64 <= limits.bulk_bytes_max
        && ranges.len() as i64 <= limits.args_max;
    fits.then_some(at)
}

impl RequestScanner {
    /// Right behind a `Complete` of which `prefix` is everything before the first argument: the length of the request at the
    /// start of `buf`, if it is written like that one. Then `ranges` are its arguments, and it may be asked for the next one.
    /// Otherwise the next scan finds what there is.
    #[inline]
    pub fn next_alike(&mut self, buf: &[u8], prefix: &[u8], limits: &RequestLimits) -> Option<usize> {
        next_alike(buf, prefix, &mut self.ranges, limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Args, RequestScan};

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n";

    /// The length of what is found, and its arguments behind the name.
    fn alike<'a>(buf: &'a [u8], prefix: &[u8], count: usize) -> Option<(usize, Vec<&'a [u8]>)> {
        let mut ranges = vec![(0, 0); count];
        let len = next_alike(buf, prefix, &mut ranges, &RequestLimits::NONE)?;
        Some((len, ranges[1..].iter().map(|&(start, end)| &buf[start as usize..end as usize]).collect()))
    }

    #[test]
    fn a_request_of_the_same_name_and_count_is_found_whatever_comes_behind_it() {
        for rest in [&b""[..], b"*2\r\n", b"PING\r\n"] {
            let buf = [GET, b"$2\r\nk1\r\n", rest].concat();
            assert_eq!(alike(&buf, GET, 2), Some((buf.len() - rest.len(), vec![&b"k1"[..]])));
        }
        let hget = b"*3\r\n$4\r\nhget\r\n$1\r\nh\r\n$0\r\n\r\n";
        assert_eq!(alike(hget, &hget[..14], 3), Some((hget.len(), vec![&b"h"[..], b""])));
        let empty = [GET, b"$0\r\n\r\n"].concat();
        assert_eq!(alike(&empty, GET, 2), Some((empty.len(), vec![&b""[..]])));
    }

    #[test]
    fn no_beginning_of_a_request_is_taken_for_the_whole() {
        let whole = [GET, b"$12\r\nabcdefghijkl\r\n"].concat();
        for len in 0..whole.len() {
            assert_eq!(alike(&whole[..len], GET, 2), None, "{len} bytes of it");
        }
        assert!(alike(&whole, GET, 2).is_some());
    }

    #[test]
    fn what_is_found_is_what_the_scanner_finds() {
        let mut random = 7u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % bound
        };
        let mut found = 0;
        for _ in 0..200_000 {
            let count = 2 + below(2);
            let name = [&b"GET"[..], b"get", b"HGET"][below(3)];
            let prefix = [format!("*{count}\r\n${}\r\n", name.len()).as_bytes(), name, b"\r\n"].concat();
            let mut buf = prefix.clone();
            for _ in 1..count {
                let len = [0, 1, 3, 12][below(4)];
                buf.extend_from_slice(format!("${len}\r\n{}\r\n", "k".repeat(len)).as_bytes());
            }
            buf.extend_from_slice([&b""[..], b"*2\r\n", b"\r\n"][below(3)]);
            for _ in 0..below(3) {
                let at = below(buf.len());
                buf[at] = b"*$-0129\r\nk\0"[below(11)];
            }
            buf.truncate(buf.len() - below(2) * below(buf.len()));
            let Some((len, own)) = alike(&buf, &prefix, count) else { continue };
            let mut scanner = RequestScanner::default();
            let RequestScan::Complete { len: theirs } = scanner.scan(&buf, &RequestLimits::NONE) else {
                panic!("only found here: {}", buf.escape_ascii());
            };
            let args = Args::new(&buf, scanner.ranges());
            let theirs = (theirs, args.len(), args.iter().skip(1).collect(), args.tail_at());
            assert_eq!((len, count, own, prefix.len()), theirs, "{}", buf.escape_ascii());
            found += 1;
        }
        assert!(found > 10_000, "{found} were found");
    }

    #[test]
    fn what_the_limits_forbid_by_now_is_left_to_the_scanner() {
        let buf = [GET, b"$20\r\n", &[b'k'; 20][..], b"\r\n"].concat();
        let found = |limits| next_alike(&buf, GET, &mut [(8, 11), (0, 0)], &limits).is_some();
        let (len, none) = (buf.len() as i64, RequestLimits::NONE);
        assert!(found(RequestLimits { bulk_bytes_max: len, args_max: 2, ..none }));
        assert!(!found(RequestLimits { bulk_bytes_max: len - 1, ..none }));
        assert!(!found(RequestLimits { args_max: 1, ..none }));
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_scanner() {
        let others: [&[u8]; 9] = [
            b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n",
            b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\n",
            b"*2\r\n$3\r\nGET\r\n:1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\n\r",
            b"*2\r\n$3\r\nGET\r\n$1\rxk\r\n",
            b"*2\r\n$3\r\nGET\r\n$4294967297\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$x\r\nk\r\n",
        ];
        for other in others {
            assert_eq!(alike(other, GET, 2), None, "{}", other.escape_ascii());
        }
    }
}

//! Hash slots of Redis Cluster: of a key, and of a request.

use super::{KeySet, Keys, Route, Row, keys, lookup};
use crate::resp::{Args, RequestLimits, RequestScan, RequestScanner};

/// Hash slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// The hash slot of a key, as the specification of Redis Cluster defines it: CRC16 (XMODEM) of the hash tag, or of the
/// whole key where it has none, modulo 16384.
pub fn slot(key: &[u8]) -> u16 {
    let (crc, has_brace) = crc16(key);
    let tag = if has_brace { hash_tag(key) } else { None };
    tag.map_or(crc, |tag| crc16(tag).0) % SLOTS
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let inner = &key[open + 1..];
    memchr::memchr(b'}', inner).filter(|&len| len > 0).map(|len| &inner[..len])
}

/// The CRC, and whether there is an opening brace: most keys have none, and it costs little to see that here.
fn crc16(bytes: &[u8]) -> (u16, bool) {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (eights, rest) = bytes.as_chunks::<8>();
    let (mut crc, mut zeros) = (0u16, 0);
    for eight in eights {
        let word = u64::from_le_bytes(*eight);
        // A byte that is a brace becomes zero, and of a zero byte the subtraction borrows into its highest bit.
        let zero_if_brace = word ^ (ONES * u64::from(b'{'));
        zeros |= zero_if_brace.wrapping_sub(ONES) & !zero_if_brace;
        let mixed = word ^ u64::from(crc.swap_bytes());
        crc = (0..8).fold(0, |crc, at| crc ^ CRC16[7 - at][usize::from((mixed >> (8 * at)) as u8)]);
    }
    let crc = rest.iter().fold(crc, with_byte);
    (crc, zeros & (ONES << 7) != 0 || rest.contains(&b'{'))
}

fn with_byte(crc: u16, byte: &u8) -> u16 {
    (crc << 8) ^ CRC16[0][usize::from((crc >> 8) as u8 ^ byte)]
}

/// By the number of bytes that follow it: what a byte does to the CRC. So eight bytes are looked up beside each other, not
/// one behind the other.
static CRC16: [[u16; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut table = 0;
        while table < 8 {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
                bit += 1;
            }
            tables[table][byte] = crc;
            table += 1;
        }
        byte += 1;
    }
    tables
};

/// The slots that a request's keys are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// It names no key.
    None,
    One(u16),
    /// Several; the first key's.
    Many(u16),
}

impl Row {
    /// The slots of the keys that this request names, a script's declared ones among them.
    pub fn slots(&self, args: &Args) -> Slots {
        if let Keys::Range { first, last, .. } = self.keys
            && i16::from(last) == i16::from(first)
        {
            return args.get(usize::from(first)).map_or(Slots::None, |key| Slots::One(slot(key)));
        }
        let mut slots = Slots::None;
        let mut add = |key: &[u8]| {
            let slot = slot(key);
            slots = match slots {
                Slots::None => Slots::One(slot),
                Slots::One(first) if first != slot => Slots::Many(first),
                same => same,
            };
        };
        match (self.route, self.keys) {
            (Route::Script, Keys::Unknown) => drop(keys::counted(args, 2, false, &mut add)),
            _ => drop::<KeySet>(self.for_each_key(args, &mut add)),
        }
        slots
    }
}

/// The slot of the first key of a whole request.
pub fn slot_of_request(wire: &[u8]) -> Option<u16> {
    let mut scanner = RequestScanner::default();
    let RequestScan::Complete { len } = scanner.scan(wire, &RequestLimits::NONE) else { return None };
    let args = Args::new(&wire[..len], scanner.ranges());
    match lookup(&args)?.slots(&args) {
        Slots::None => None,
        Slots::One(slot) | Slots::Many(slot) => Some(slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        let bytewise = |bytes: &[u8]| bytes.iter().fold(0, with_byte);
        let bytes: Vec<u8> = (0..100u8).map(|byte| byte.wrapping_mul(101)).collect();
        (0..bytes.len()).for_each(|len| assert_eq!(crc16(&bytes[..len]).0, bytewise(&bytes[..len])));
        for len in 0..40 {
            for (at, byte) in (0..len).flat_map(|at| [b'z', b'{', b'|', 0xfb, 0].map(|byte| (at, byte))) {
                let mut bytes = vec![b'{' + 1; len];
                bytes[at] = byte;
                assert_eq!(crc16(&bytes).1, byte == b'{', "{byte} at {at} of {len}");
            }
        }
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), slot(b"foo{}{bar}"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn a_request_is_in_the_slot_of_its_first_key() {
        let request = |words: &[&str]| {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            slot_of_request(&crate::resp::encode_request(&words))
        };
        assert_eq!(request(&["GET", "foo"]), Some(slot(b"foo")));
        assert_eq!(request(&["eval", "return 1", "2", "foo", "bar"]), Some(slot(b"foo")));
        assert_eq!(request(&["EVAL", "return 1", "0", "foo"]), None);
        assert_eq!(request(&["XREAD", "COUNT", "1", "STREAMS", "foo", "0"]), Some(slot(b"foo")));
        assert_eq!(request(&["PING"]), None);
    }
}

//! HyperLogLogs as Redis keeps them in strings: a header with the cached count, then 16384 registers, dense (6 bits each) or
//! sparse (runs). The bytes, and so the counts, are Redis's. Pure; knows no keys.
//!
//! The estimate is Otmar Ertl's (arXiv:1702.01284), as in Redis.

mod sparse;

const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that ranks are counted in.
const RANK_BITS: u32 = 64 - INDEX_BITS;
const HEADER: usize = 16;
const MAGIC: &[u8; 4] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;
/// A sparse one that would become longer becomes dense (hll-sparse-max-bytes).
const SPARSE_LEN_MAX: usize = 3000;

/// The runs do not add up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Corrupted;

/// The highest rank of each register, of one or of several.
pub(super) struct Registers([u8; REGISTERS]);

/// An empty one.
pub(super) fn empty() -> Vec<u8> {
    let mut text = Vec::with_capacity(HEADER + 2);
    text.extend_from_slice(MAGIC);
    text.extend_from_slice(&[SPARSE, 0, 0, 0]);
    text.extend_from_slice(&[0; 8]);
    text.extend_from_slice(&sparse::EMPTY);
    text
}

/// Whether the string looks like one.
pub(super) fn is_valid(text: &[u8]) -> bool {
    text.len() >= HEADER
        && text.starts_with(MAGIC)
        && (text[4] == SPARSE || text[4] == DENSE && text.len() == DENSE_LEN)
}

pub(super) fn is_dense(text: &[u8]) -> bool {
    text[4] == DENSE
}

/// Gives whether a register changed.
pub(super) fn add(text: &mut Vec<u8>, element: &[u8]) -> Result<bool, Corrupted> {
    let hash = murmur64a(element, 0xADC8_3B19);
    let register = hash as usize & (REGISTERS - 1);
    // A bit above ends the count at the latest.
    let rank = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    raise(text, register, rank as u8)
}

/// Raises a register to a rank, if it is lower.
fn raise(text: &mut Vec<u8>, register: usize, rank: u8) -> Result<bool, Corrupted> {
    if is_dense(text) {
        return Ok(dense_raise(&mut text[HEADER..], register, rank));
    }
    match sparse::raise(text, register, rank)? {
        sparse::Raised::Done(changed) => Ok(changed),
        sparse::Raised::DoesNotFit => {
            make_dense(text)?;
            Ok(dense_raise(&mut text[HEADER..], register, rank))
        }
    }
}

pub(super) fn make_dense(text: &mut Vec<u8>) -> Result<(), Corrupted> {
    if is_dense(text) {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_LEN];
    dense[..HEADER].copy_from_slice(&text[..HEADER]);
    dense[4] = DENSE;
    let mut register = 0;
    for run in sparse::runs(&text[HEADER..]) {
        let (rank, len) = run?;
        if rank > 0 {
            for at in register..register + len {
                dense_raise(&mut dense[HEADER..], at, rank);
            }
        }
        register += len;
    }
    *text = dense;
    Ok(())
}

/// Forgets the cached count.
pub(super) fn invalidate(text: &mut [u8]) {
    text[HEADER - 1] |= 0x80;
}

/// The cached count, if it is still right.
pub(super) fn cached(text: &[u8]) -> Option<u64> {
    let count = u64::from_le_bytes(text[8..HEADER].try_into().expect("eight bytes"));
    (count >> 63 == 0).then_some(count)
}

pub(super) fn cache(text: &mut [u8], count: u64) {
    text[8..HEADER].copy_from_slice(&count.to_le_bytes());
}

impl Registers {
    pub(super) fn new() -> Registers {
        Registers([0; REGISTERS])
    }

    pub(super) fn ranks(&self) -> &[u8] {
        &self.0
    }

    /// Takes over what is higher there.
    pub(super) fn merge(&mut self, text: &[u8]) -> Result<(), Corrupted> {
        if is_dense(text) {
            for (register, rank) in self.0.iter_mut().enumerate() {
                *rank = (*rank).max(dense_rank(&text[HEADER..], register));
            }
            return Ok(());
        }
        let mut register = 0;
        for run in sparse::runs(&text[HEADER..]) {
            let (rank, len) = run?;
            self.0[register..register + len].iter_mut().for_each(|own| *own = (*own).max(rank));
            register += len;
        }
        Ok(())
    }

    /// Raises the registers of `text` to these.
    pub(super) fn raise_all(&self, text: &mut Vec<u8>) -> Result<(), Corrupted> {
        for (register, &rank) in self.0.iter().enumerate().filter(|(_, rank)| **rank > 0) {
            raise(text, register, rank)?;
        }
        Ok(())
    }

    /// How many different elements there were, about.
    pub(super) fn estimate(&self) -> u64 {
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let mut histogram = [0u32; 64];
        self.0.iter().for_each(|&rank| histogram[usize::from(rank & 63)] += 1);
        let all = REGISTERS as f64;
        let highest = RANK_BITS as usize + 1;
        let mut sum = all * tau((all - f64::from(histogram[highest])) / all);
        for &count in histogram[1..highest].iter().rev() {
            sum += f64::from(count);
            sum *= 0.5;
        }
        sum += all * sigma(f64::from(histogram[0]) / all);
        (ALPHA * all * all / sum).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if before == sum {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x).powi(2) * weight;
        if before == sum {
            return sum / 3.0;
        }
    }
}

// Dense registers: six bits each, the low ones first.

fn dense_rank(registers: &[u8], register: usize) -> u8 {
    let (byte, shift) = (register * 6 / 8, register * 6 % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], next]) >> shift) as u8 & 63
}

fn dense_raise(registers: &mut [u8], register: usize, rank: u8) -> bool {
    if dense_rank(registers, register) >= rank {
        return false;
    }
    let (byte, shift) = (register * 6 / 8, register * 6 % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    let pair = u16::from_le_bytes([registers[byte], next]) & !(63 << shift) | u16::from(rank) << shift;
    let [low, high] = pair.to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
    true
}

/// Austin Appleby's MurmurHash2, the 64 bit variant A, little endian.
fn murmur64a(text: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xC6A4_A793_5BD1_E995;
    const SHIFT: u32 = 47;
    let mut hash = seed ^ (text.len() as u64).wrapping_mul(FACTOR);
    let (words, tail) = text.as_chunks::<8>();
    for word in words {
        let mut mixed = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        mixed = (mixed ^ mixed >> SHIFT).wrapping_mul(FACTOR);
        hash = (hash ^ mixed).wrapping_mul(FACTOR);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, &byte| rest << 8 | u64::from(byte));
        hash = (hash ^ rest).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

// For PFDEBUG.

/// The runs in Redis's words: `Z:100 v:1,2 Z:16282`.
pub(super) fn decode(text: &[u8]) -> Result<String, Corrupted> {
    sparse::decode(&text[HEADER..])
}

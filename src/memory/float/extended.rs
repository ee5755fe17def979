//! The long double of x87 in integers: 64 bits of mantissa, 15 of exponent, ties to even. INCRBYFLOAT and HINCRBYFLOAT show
//! its digits, so a double would not do. Knows only what they need: to read, to add, to write.

use std::cmp::Ordering;

/// The exponents of the smallest and the largest mantissa.
const EXPONENT_MIN: i32 = -16445;
const EXPONENT_MAX: i32 = 16383 - 63;
/// Decimal exponents beyond are surely out of range.
const DECIMAL_MAX: i64 = 5000;
/// Redis takes no longer texts for long doubles.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;

/// mantissa * 2^exponent, or infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extended {
    is_negative: bool,
    /// The highest bit is set unless the value is zero or denormal.
    mantissa: u64,
    exponent: i32,
    is_infinite: bool,
}

impl From<i64> for Extended {
    fn from(value: i64) -> Extended {
        rounded(value < 0, u128::from(value.unsigned_abs()), 0, false)
    }
}

impl Extended {
    pub const ZERO: Extended = Extended { is_negative: false, mantissa: 0, exponent: 0, is_infinite: false };

    /// A number as C's `strtold` takes it, if all of the text is one and it is neither NaN nor out of range.
    pub fn parse(text: &[u8]) -> Option<Extended> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        if let Some(hexadecimal) = Extended::parse_hexadecimal(text) {
            return hexadecimal;
        }
        let (is_negative, text) = signed(text);
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended { is_negative, is_infinite: true, ..Extended::ZERO });
        }
        let (digits, exponent) = scanned(text, 10, b"eE")?;
        from_decimal(is_negative, &digits, exponent)
    }

    /// The outer `None`: it does not begin as a hexadecimal number. The inner one: it is none, or out of range.
    pub(super) fn parse_hexadecimal(text: &[u8]) -> Option<Option<Extended>> {
        let (is_negative, text) = signed(text);
        let [b'0', b'x' | b'X', text @ ..] = text else { return None };
        let read = || {
            let (digits, exponent) = scanned(text, 16, b"pP")?;
            let shown = digits.len().min(31);
            let mantissa = digits[..shown].iter().fold(0, |sum, &digit| sum << 4 | u128::from(digit));
            let exponent = exponent + 4 * (digits.len() - shown) as i64;
            let sticky = digits[shown..].iter().any(|&digit| digit != 0);
            let exponent = exponent.clamp(-4 * DECIMAL_MAX, 4 * DECIMAL_MAX) as i32;
            in_range(rounded(is_negative, mantissa, exponent, sticky), mantissa == 0)
        };
        Some(read())
    }

    /// The nearest double; `None` if it is out of their range.
    pub fn to_double(self) -> Option<f64> {
        if self.is_infinite {
            return Some(if self.is_negative { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        let half = self.exponent / 2;
        let value = self.mantissa as f64 * 2f64.powi(half) * 2f64.powi(self.exponent - half);
        let fits = value.is_finite() && (value != 0.0 || self.mantissa == 0);
        fits.then_some(if self.is_negative { -value } else { value })
    }

    pub fn is_finite(self) -> bool {
        !self.is_infinite
    }

    /// The sum, rounded; what is no number is infinite here, since neither may be stored.
    pub fn plus(self, other: Extended) -> Extended {
        if self.is_infinite || other.is_infinite {
            return Extended { is_infinite: true, ..self };
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        if high.mantissa == 0 || low.mantissa == 0 {
            return if high.mantissa == 0 { low } else { high };
        }
        let apart = (high.exponent - low.exponent) as u32;
        // Beyond 63 bits the low one only says how to round.
        let up = apart.min(63);
        let down = apart - up;
        let (mut a, mut b) = (u128::from(high.mantissa) << up, u128::from(low.mantissa));
        let sticky = down > 0 && (down >= 64 || b & ((1 << down) - 1) != 0);
        b = if down >= 64 { 0 } else { b >> down };
        let exponent = high.exponent - up as i32;
        if high.is_negative == low.is_negative {
            return rounded(high.is_negative, a + b, exponent, sticky);
        }
        let mut is_negative = high.is_negative;
        if a < b {
            (a, b, is_negative) = (b, a, low.is_negative);
        }
        rounded(is_negative && a != b, a - b - u128::from(sticky), exponent, sticky)
    }

    /// As `%.17Lf` writes it, without zeros behind the last digit of the fraction.
    pub fn human(self) -> Vec<u8> {
        if self.is_infinite {
            return if self.is_negative { b"-inf".to_vec() } else { b"inf".to_vec() };
        }
        let (whole, fraction) = self.decimals();
        let mut text = whole;
        if fraction > 0 {
            let digits = format!("{fraction:017}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        if self.is_negative && text != "0" {
            text.insert(0, '-');
        }
        text.into_bytes()
    }

    /// The digits before the point, and 17 behind it as a number.
    fn decimals(self) -> (String, u64) {
        const SCALE: u128 = 100_000_000_000_000_000;
        if self.exponent >= 0 {
            return (decimal(self.mantissa, self.exponent as u32), 0);
        }
        let down = self.exponent.unsigned_abs();
        let mantissa = u128::from(self.mantissa);
        let whole = if down < 64 { mantissa >> down } else { 0 };
        let fraction = if down < 64 { mantissa & ((1 << down) - 1) } else { mantissa };
        // Less than 2^121: it is cut to an integer, ties to even.
        let scaled = fraction * SCALE;
        let fraction = if down > 125 { 0 } else { shifted(scaled, down, false) };
        ((whole + fraction / SCALE).to_string(), (fraction % SCALE) as u64)
    }
}

fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    }
}

/// Digits around one point and an exponent behind a mark. Gives the digits without leading zeros, and the exponent that
/// makes them a whole number: of ten for base 10, of two for base 16.
fn scanned(text: &[u8], base: u32, mark: &[u8]) -> Option<(Vec<u8>, i64)> {
    let end = text.iter().position(|byte| mark.contains(byte)).unwrap_or(text.len());
    let (mantissa, tail) = text.split_at(end);
    let mut digits = Vec::with_capacity(mantissa.len());
    let (mut behind, mut has_point, mut any) = (0, false, false);
    for &byte in mantissa {
        if byte == b'.' && !has_point {
            has_point = true;
            continue;
        }
        let digit = char::from(byte).to_digit(base)? as u8;
        any = true;
        behind += i64::from(has_point);
        if digit != 0 || !digits.is_empty() {
            digits.push(digit);
        }
    }
    let step = if base == 16 { 4 } else { 1 };
    let exponent = match tail.split_first() {
        Some((_, written)) => {
            let (is_negative, written) = signed(written);
            if written.is_empty() || !written.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let size =
                written.iter().fold(0i64, |sum, byte| (sum * 10 + i64::from(byte - b'0')).min(1 << 40));
            if is_negative { -size } else { size }
        }
        None => 0,
    };
    any.then_some((digits, exponent - behind * step))
}

fn from_decimal(is_negative: bool, digits: &[u8], exponent: i64) -> Option<Extended> {
    if digits.is_empty() {
        return Some(Extended { is_negative, ..Extended::ZERO });
    }
    if !(-DECIMAL_MAX..DECIMAL_MAX).contains(&(exponent + digits.len() as i64)) {
        return None;
    }
    let mut numerator = Whole::default();
    for &digit in digits {
        numerator.multiply_add(10, u32::from(digit));
    }
    let mut denominator = Whole(vec![1]);
    let scaled = if exponent < 0 { &mut denominator } else { &mut numerator };
    for _ in 0..exponent.unsigned_abs() {
        scaled.multiply_add(10, 0);
    }
    let (quotient, exponent, sticky) = divided(numerator, denominator);
    in_range(rounded(is_negative, quotient, exponent, sticky), false)
}

fn in_range(value: Extended, is_zero: bool) -> Option<Extended> {
    (value.is_finite() && (value.mantissa != 0 || is_zero)).then_some(value)
}

/// The top 67 bits of a quotient, the exponent of their last, and whether there is more behind them.
fn divided(mut numerator: Whole, mut denominator: Whole) -> (u128, i32, bool) {
    const BITS: i32 = 67;
    let shift = numerator.bits() as i32 - denominator.bits() as i32;
    if shift > 0 {
        denominator.shift_left(shift as u32);
    } else {
        numerator.shift_left(shift.unsigned_abs());
    }
    let mut quotient = 0;
    for _ in 0..BITS {
        quotient <<= 1;
        if numerator.compare(&denominator).is_ge() {
            numerator.subtract(&denominator);
            quotient |= 1;
        }
        numerator.shift_left(1);
    }
    (quotient, shift - (BITS - 1), numerator.bits() > 0)
}

/// The nearest value; `sticky` stands for something less than the last bit.
fn rounded(is_negative: bool, mantissa: u128, exponent: i32, sticky: bool) -> Extended {
    if mantissa == 0 {
        return Extended { is_negative, ..Extended::ZERO };
    }
    let bits = 128 - mantissa.leading_zeros() as i32;
    let down = (bits - 64).max(EXPONENT_MIN - exponent);
    let (mut mantissa, mut exponent) = if down >= 0 {
        (shifted(mantissa, down as u32, sticky), exponent + down)
    } else {
        (mantissa << -down, exponent + down)
    };
    if mantissa >> 64 != 0 {
        (mantissa, exponent) = (mantissa >> 1, exponent + 1);
    }
    Extended {
        is_negative,
        mantissa: mantissa as u64,
        exponent: if mantissa == 0 { 0 } else { exponent },
        is_infinite: exponent > EXPONENT_MAX,
    }
}

/// Without its lowest bits, ties to even.
fn shifted(value: u128, down: u32, sticky: bool) -> u128 {
    if down == 0 || down >= 128 {
        return if down == 0 { value } else { 0 };
    }
    let (kept, cut, half) = (value >> down, value & ((1 << down) - 1), 1 << (down - 1));
    let goes_up = cut > half || cut == half && (sticky || kept & 1 == 1);
    kept + u128::from(goes_up)
}

/// mantissa * 2^exponent in decimal.
fn decimal(mantissa: u64, exponent: u32) -> String {
    const LIMB: u64 = 1_000_000_000;
    const STEP: u32 = 29;
    let mut limbs = Vec::new();
    let mut left = mantissa;
    while left > 0 {
        limbs.push(left % LIMB);
        left /= LIMB;
    }
    let mut exponent = exponent;
    while exponent > 0 {
        let step = exponent.min(STEP);
        let mut carry = 0;
        for limb in &mut limbs {
            let value = (*limb << step) + carry;
            (*limb, carry) = (value % LIMB, value / LIMB);
        }
        if carry > 0 {
            limbs.push(carry);
        }
        exponent -= step;
    }
    let mut text = limbs.pop().unwrap_or(0).to_string();
    text.extend(limbs.iter().rev().map(|limb| format!("{limb:09}")));
    text
}

/// A whole number of any size, its lowest limb first, without zero limbs on top.
#[derive(Default)]
struct Whole(Vec<u32>);

impl Whole {
    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.0 {
            let value = u64::from(*limb) * u64::from(factor) + carry;
            (*limb, carry) = (value as u32, value >> 32);
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn bits(&self) -> u32 {
        self.0.last().map_or(0, |top| self.0.len() as u32 * 32 - top.leading_zeros())
    }

    fn shift_left(&mut self, by: u32) {
        if self.0.is_empty() {
            return;
        }
        if !by.is_multiple_of(32) {
            self.multiply_add(1 << (by % 32), 0);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, by as usize / 32));
    }

    fn compare(&self, other: &Whole) -> Ordering {
        let lens = self.0.len().cmp(&other.0.len());
        lens.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes away what is not larger.
    fn subtract(&mut self, other: &Whole) {
        let mut borrow = 0;
        for (at, limb) in self.0.iter_mut().enumerate() {
            let taken = i64::from(other.0.get(at).copied().unwrap_or(0)) + borrow;
            let value = i64::from(*limb) - taken;
            borrow = i64::from(value < 0);
            *limb = value as u32;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let (a, b) = (Extended::parse(a.as_bytes()).unwrap(), Extended::parse(b.as_bytes()).unwrap());
        String::from_utf8(a.plus(b).human()).unwrap()
    }

    #[test]
    fn sums_show_the_digits_of_a_long_double() {
        // From INCRBYFLOAT of redis-server 7.0.15.
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("0", "-0", "0"),
            ("1", "-1.0", "0"),
            ("17179869184", "1.5", "17179869185.5"),
            ("0x10", "0x.8", "16.5"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", " 1", "1 ", "1e", "e1", ".", "-", "0x", "0x1p", "nan", "1e5000", "1e-5000", "--1", "1..2"]
        {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
        }
        assert!(!Extended::parse(b"-INF").unwrap().is_finite());
        assert!(Extended::parse(b"1e4932").unwrap().is_finite());
        assert_eq!(Extended::parse(b"1e4933"), None);
    }

    #[test]
    fn whole_numbers_survive() {
        for value in [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, 123_456_789_012_345_678] {
            assert_eq!(Extended::from(value).human(), value.to_string().into_bytes());
            assert_eq!(Extended::parse(value.to_string().as_bytes()), Some(Extended::from(value)));
        }
    }
}

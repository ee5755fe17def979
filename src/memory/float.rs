//! Floating point numbers as Redis reads and writes them: `strtod` and `%.17g` for scores, x87's long doubles (in
//! `extended`) for the commands that add to a value. Text in, text out.
mod extended;

pub use extended::Extended;

/// A double as C's `strtod` takes it, hexadecimal ones included; nothing may stand before or after it. Neither NaN nor
/// what is too large or too small for a double is one.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    if let Some(hexadecimal) = Extended::parse_hexadecimal(text) {
        return hexadecimal?.to_double();
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let names_infinity = text.iter().any(|byte| byte.eq_ignore_ascii_case(&b'n'));
    let is_zero = || !text.iter().take_while(|byte| !b"eE".contains(byte)).any(|&b| matches!(b, b'1'..=b'9'));
    let is_out_of_range = value.is_infinite() && !names_infinity || value == 0.0 && !is_zero();
    (!value.is_nan() && !is_out_of_range).then_some(value)
}

/// The limit of a range of scores: blanks may stand before it, nothing at all is 0, and what is out of range is the
/// nearest double.
pub fn parse_limit(text: &[u8]) -> Option<f64> {
    let text = c_number(text)?;
    if let Some(hexadecimal) = Extended::parse_hexadecimal(text) {
        return hexadecimal?.to_double();
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

/// What SORT compares: blanks may stand before it, and nothing at all is 0.
pub fn parse_weight(text: &[u8]) -> Option<f64> {
    parse_double(c_number(text)?)
}

/// Up to the end of a C string, without blanks before it; 0 for an empty one.
fn c_number(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    if end == 0 {
        return Some(b"0");
    }
    let text = &text[..end];
    let first = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    Some(&text[first..])
}

/// Appends `value` as `%.17g` writes it, the form of every score.
pub fn push_double(out: &mut Vec<u8>, value: f64) {
    const DIGITS: i32 = 17;
    if value.is_infinite() || value == 0.0 || value.is_nan() {
        let text: &[u8] = match value {
            _ if value.is_nan() => b"nan",
            _ if value == f64::INFINITY => b"inf",
            _ if value == f64::NEG_INFINITY => b"-inf",
            _ if value.is_sign_negative() => b"-0",
            _ => b"0",
        };
        return out.extend_from_slice(text);
    }
    // Small whole numbers, nearly all there are, need no digits to be found.
    if value.trunc() == value && value.abs() < 1e15 {
        return out.extend_from_slice((value as i64).to_string().as_bytes());
    }
    let scientific = format!("{:.*e}", DIGITS as usize - 1, value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("the form has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let significant = digits.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    if value < 0.0 {
        out.push(b'-');
    }
    if (-4..DIGITS).contains(&exponent) {
        push_plain(out, &digits, significant, exponent);
    } else {
        push_with_point(out, &digits[..significant], 1);
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
    }
}

/// The same as text of its own.
pub fn double_text(value: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(24);
    push_double(&mut text, value);
    text
}

fn push_plain(out: &mut Vec<u8>, digits: &[u8], significant: usize, exponent: i32) {
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        return out.extend_from_slice(&digits[..significant]);
    }
    let whole = exponent as usize + 1;
    push_with_point(out, &digits[..significant.max(whole)], whole);
}

/// The digits with a point behind the first `whole`, if there are more.
fn push_with_point(out: &mut Vec<u8>, digits: &[u8], whole: usize) {
    let (whole, fraction) = digits.split_at(whole);
    out.extend_from_slice(whole);
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: f64) -> String {
        String::from_utf8(double_text(value)).unwrap()
    }

    #[test]
    fn doubles_are_written_with_seventeen_digits() {
        // From printf("%.17g").
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.10000000000000001"),
            (3.3, "3.2999999999999998"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e-300, "1e-300"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (1234.5678, "1234.5678"),
            (100.25, "100.25"),
        ] {
            assert_eq!(written(value), text);
        }
    }

    #[test]
    fn doubles_are_read_as_strictly_as_redis_reads_them() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("+1.5e3", Some(1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("0x10", Some(16.0)),
            ("-0x1.8p1", Some(-3.0)),
            ("0x", None),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("nan", None),
            ("1e400", None),
            ("1e-400", None),
            ("0e400", Some(0.0)),
            ("5e-324", Some(5e-324)),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1e", None),
            ("(1", None),
        ] {
            assert_eq!(parse_double(text.as_bytes()), value, "{text}");
        }
    }
}

//! Numbers as C's `%.14g` and `%.17g` write them, and as its `strtod` reads them. Pure.

/// `%.<digits>g`.
pub(super) fn push_general(out: &mut Vec<u8>, value: f64, digits: usize) {
    if !value.is_finite() {
        let text = match (value.is_nan(), value < 0.0) {
            // C tells the sign of a NaN; x86 makes negative ones.
            (true, _) if value.is_sign_negative() => "-nan",
            (true, _) => "nan",
            (false, true) => "-inf",
            (false, false) => "inf",
        };
        return out.extend_from_slice(text.as_bytes());
    }
    // Whole numbers of few digits, which is what scripts mostly have, are written as integers.
    if value == value.trunc() && value.abs() < 1e14 && (value != 0.0 || value.is_sign_positive()) {
        return out.extend_from_slice((value as i64).to_string().as_bytes());
    }
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').expect("an exponent follows the digits");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(positive) => ("-", positive),
        None => ("", mantissa),
    };
    let plain: String = mantissa.chars().filter(|c| *c != '.').collect();
    let plain = plain.trim_end_matches('0');
    out.extend_from_slice(sign.as_bytes());
    if exponent < -4 || exponent >= digits as i32 {
        let (first, rest) = plain.split_at(plain.len().min(1));
        out.extend_from_slice(first.as_bytes());
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest.as_bytes());
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(plain.as_bytes());
    } else {
        let whole = exponent as usize + 1;
        let (before, after) = plain.split_at(plain.len().min(whole));
        out.extend_from_slice(before.as_bytes());
        out.extend(std::iter::repeat_n(b'0', whole - before.len()));
        if before.is_empty() {
            out.truncate(out.len() - whole);
            out.push(b'0');
        }
        if !after.is_empty() {
            out.push(b'.');
            out.extend_from_slice(after.as_bytes());
        }
    }
}

/// The number at the start of `text` and its length: decimal, hexadecimal, infinities and NaN in any case.
pub(super) fn read_number(text: &[u8]) -> Option<(f64, usize)> {
    let (negative, signs) = match text.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let body = &text[signs..];
    let word = |word: &str| body.get(..word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word.as_bytes()));
    let (value, len) = if word("infinity") {
        (f64::INFINITY, 8)
    } else if word("inf") {
        (f64::INFINITY, 3)
    } else if word("nan") {
        (f64::NAN, 3)
    } else if word("0x") && body.get(2).is_some_and(u8::is_ascii_hexdigit) {
        let digits = body[2..].iter().take_while(|b| b.is_ascii_hexdigit());
        let number = |b: &u8| f64::from((*b as char).to_digit(16).unwrap_or(0));
        let (value, count) = digits.fold((0.0, 0), |(value, n), b| (value * 16.0 + number(b), n + 1));
        (value, 2 + count)
    } else {
        decimal(body)?
    };
    Some((if negative { -value } else { value }, signs + len))
}

fn decimal(body: &[u8]) -> Option<(f64, usize)> {
    let digits = |from: usize| body[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(0);
    let mut end = whole;
    let mut fraction = 0;
    if body.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(body.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(body.get(end + 1), Some(b'+' | b'-')));
        let exponent = if end + 1 + sign <= body.len() { digits(end + 1 + sign) } else { 0 };
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let text = std::str::from_utf8(&body[..end]).expect("digits are ASCII");
    Some((text.parse().ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_c_writes_them() {
        for (value, digits, text) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.5, 14, "1.5"),
            (1e15, 14, "1e+15"),
            (123_456_789_012_345.0, 14, "1.2345678901234e+14"),
            (1e100, 14, "1e+100"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (0.1, 17, "0.10000000000000001"),
            (1e16, 17, "10000000000000000"),
            (1e17, 17, "1e+17"),
            (1e-5, 17, "1.0000000000000001e-05"),
            (0.0001, 14, "0.0001"),
            (100.25, 14, "100.25"),
            (f64::NEG_INFINITY, 14, "-inf"),
        ] {
            let mut out = Vec::new();
            push_general(&mut out, value, digits);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        for (text, value, len) in [
            ("12,", 12.0, 2),
            ("-1.5e3x", -1500.0, 6),
            ("1e", 1.0, 1),
            ("0x1Fz", 31.0, 4),
            ("1.", 1.0, 2),
            (".5", 0.5, 2),
            ("-inf", f64::NEG_INFINITY, 4),
        ] {
            assert_eq!(read_number(text.as_bytes()), Some((value, len)), "{text}");
        }
        assert_eq!(read_number(b"-"), None);
        assert!(read_number(b"NaN").is_some_and(|(value, len)| value.is_nan() && len == 3));
    }
}

//! The library `struct` of scripts: formats, values and mistakes, chosen and at random.

use super::both::{Both, in_both_protocols};

/// Replies have no fractions and no strings of numbers beside numbers: all is shown as text.
const SHOW: &str = "local function show(...) local t = {} for i = 1, select('#', ...) do local v = select(i, ...) \
    t[i] = type(v) == 'number' and string.format('%.17g', v) or '\"' .. tostring(v) .. '\"' end return t end ";

fn show(both: &mut Both, value: &str) {
    both.eval(&format!("{SHOW}return show({value})"));
}

#[test]
fn strings_are_laid_out_and_read_as_in_redis() {
    in_both_protocols(|both| {
        for value in [
            "struct.pack('bBhHlLTiI', -1, 255, -2, 65535, -3, 4, 5, -6, 7)",
            "struct.pack('>bBhHlLTiI', -1, 255, -2, 65535, -3, 4, 5, -6, 7)",
            "struct.pack('<hhL>hl', 1, 2, 3, 4, 5)",
            "struct.pack('i1i2i3i5i8i9i16i32', 1, -2, 3, -4, 5, -6, 7, -8)",
            "struct.pack('>i1i2i3i5i8i9i16i32', 1, -2, 3, -4, 5, -6, 7, -8)",
            "struct.pack('i0I0', 1, 2)",
            "struct.pack('b', 300)",
            "struct.pack('BB', 3.99, -3.99)",
            "struct.pack('lL', 2^63, 2^64)",
            "struct.pack('lL', -2^63, -2^65)",
            "struct.pack('llll', 0/0, 1/0, -1/0, 1e300)",
            "struct.pack('L', 2^63 + 2048)",
            "struct.pack('fd', 1.5, 0.1)",
            "struct.pack('>fd', 1.5, 0.1)",
            "struct.pack('fffd', 1e300, -1e300, 1e-50, -0.0)",
            "struct.pack('bxb', 1, 2)",
            "struct.pack('!bi', 1, 2)",
            "struct.pack('!4bd!2bd!1bd', 1, 2, 3, 4, 5, 6)",
            "struct.pack('!16bi16bi3bi5', 1, 2, 3, 4, 5, 6)",
            "struct.pack('!8 bs!8b', 1, 'text', 2)",
            "struct.pack('sc0cc3', 'zero', 'all', 'first', 'three')",
            "struct.pack('s', 'a\\0b')",
            "struct.pack('s', 12)",
            "struct.pack('c0', '')",
            "struct.pack('i', '12')",
            "struct.pack('i', ' 0x10 ')",
            "struct.pack('i', 1, 2, 3)",
            "struct.pack('')",
            "struct.pack('b\\0z', 1)",
            "struct.pack(' ')",
            "struct.size('bBhHlLTiIfdx')",
            "struct.size('!bd')",
            "struct.size('!4bdi3')",
            "struct.size('c10c')",
            "struct.size('z5')",
            "struct.size('')",
            "struct.unpack('bBhHlLTiI', struct.pack('bBhHlLTiI', -1, 255, -2, 65535, -3, 4, 5, -6, 7))",
            "struct.unpack('>bBhHlLTiI', struct.pack('>bBhHlLTiI', -1, 255, -2, 65535, -3, 4, 5, -6, 7))",
            "struct.unpack('i1i2i3i5i8', string.rep('\\200\\127\\255', 8))",
            "struct.unpack('>i1i2i3i5i8', string.rep('\\200\\127\\255', 8))",
            "struct.unpack('i9I9i16I16', string.rep('\\1\\128', 40))",
            "struct.unpack('>i9I9i16I16', string.rep('\\1\\128', 40))",
            "struct.unpack('i0I0', 'x')",
            "struct.unpack('L', string.rep('\\255', 8))",
            "struct.unpack('fd', struct.pack('fd', 1.1, 1.1))",
            "struct.unpack('>f<d', struct.pack('>f<d', -2.5, 1e300))",
            "struct.unpack('!bi', struct.pack('!bi', 1, 2))",
            "struct.unpack('xxb', 'abc')",
            "struct.unpack('sss', 'one\\0\\0three\\0')",
            "struct.unpack('bc0b', '\\3abcd')",
            "struct.unpack('bc0', '\\0')",
            "struct.unpack('sc0', '2\\0abc')",
            "struct.unpack('dc0', struct.pack('d', 2.9) .. 'abc')",
            "struct.unpack('dc0', struct.pack('d', 2^64) .. 'abc')",
            "struct.unpack('c2c', 'abc')",
            "struct.unpack('b', 'abc', 3)",
            "struct.unpack('b', 'abc', '2')",
            "struct.unpack('b', 'abc', nil)",
            "struct.unpack('b', 'abc', 2.9)",
            "struct.unpack('', 'abc', 9)",
            "struct.unpack('', 'abc', -9)",
            "struct.unpack('', 'abc', 1e300)",
            "struct.unpack('!i', 'abcdefgh', -6)",
            "struct.unpack('', '')",
            "struct.unpack('b', 5)",
            "select('#', struct.unpack(string.rep('b', 7000), string.rep('x', 7000)))",
            "type(struct.pack), type(struct.unpack), type(struct.size)",
        ] {
            show(both, value);
        }
        both.eval("struct.x = 1");
        both.eval("return struct.nosuch");
    });
}

#[test]
fn mistakes_in_formats_are_told_in_the_same_words() {
    in_both_protocols(|both| {
        for call in [
            "pack()",
            "pack(nil)",
            "pack({})",
            "pack('z')",
            "pack('z', 1)",
            "pack('\\200')",
            "pack(12)",
            "pack('b')",
            "pack('bb', 1)",
            "pack('b', 'x')",
            "pack('b', {})",
            "pack('b', true)",
            "pack('s')",
            "pack('s', {})",
            "pack('f', 'x')",
            "pack('c5', 'four')",
            "pack('bc5', 1, 'four')",
            "pack('i33', 1)",
            "pack('I4294967296', 1)",
            "pack('i2147483647', 1)",
            "pack('c2147483648', 'x')",
            "pack('!3', 1)",
            "pack('!0')",
            "pack('!99999999999')",
            "pack('5')",
            "unpack()",
            "unpack('b')",
            "unpack('b', {})",
            "unpack('b', '')",
            "unpack('z', '')",
            "unpack('z', '', 5)",
            "unpack('b', 'x', 0)",
            "unpack('b', 'x', 0.5)",
            "unpack('b', 'x', -1)",
            "unpack('b', 'x', 2)",
            "unpack('b', 'x', 'y')",
            "unpack('b', 'x', {})",
            "unpack('i', 'abc')",
            "unpack('s', 'abc')",
            "unpack('c0', 'abc')",
            "unpack('sc0', 'x\\0abc')",
            "unpack('bc0', '\\5abc')",
            "unpack('bc0', '\\255abc')",
            "unpack('bbc0', '\\255\\255abc')",
            "unpack('c4', 'abc')",
            "unpack('!3', 'abc')",
            "unpack('i33', 'abc')",
            "size()",
            "size({})",
            "size('s')",
            "size('c0')",
            "size('i33')",
            "size('!3')",
            "size('-')",
            "size('\\200')",
        ] {
            both.eval(&format!("return struct.{call}"));
        }
    });
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick(&mut self, among: &[&'static str]) -> &'static str {
        among[self.below(among.len() as u64) as usize]
    }
}

const NUMBERS: &[&str] = &[
    "0", "1", "-1", "127", "128", "255", "-129", "65536", "2^31", "-2^31", "2^53", "2^63", "-2^63", "2^64",
    "1e300", "0.5", "-0.5", "1/3", "1/0", "'7'", "'x'",
];
const STRINGS: &[&str] = &["''", "'a'", "'text'", "'with\\0zero'", "7", "string.rep('y', 40)"];

/// A format, and the arguments that it asks for.
fn layout(random: &mut Random) -> (String, String) {
    let (mut format, mut arguments) = (String::new(), String::new());
    for _ in 0..random.below(8) {
        let option = random.pick(&[
            "b", "B", "h", "H", "l", "L", "T", "i", "I", "i", "I", "f", "d", "x", "c", "s", ">", "<", "!",
            " ",
        ]);
        format.push_str(option);
        if matches!(option, "i" | "I" | "c") && random.below(2) == 0 {
            format.push_str(&random.below(18).to_string());
        }
        if option == "!" && random.below(2) == 0 {
            format.push_str(random.pick(&["1", "2", "4", "8", "16"]));
        }
        let argument = match option {
            "x" | ">" | "<" | "!" | " " => continue,
            "c" | "s" => random.pick(STRINGS),
            _ => random.pick(NUMBERS),
        };
        arguments.push_str(", ");
        arguments.push_str(argument);
    }
    (format, arguments)
}

#[test]
fn random_formats_give_what_they_give_in_redis() {
    let mut random = Random(1);
    let mut both = Both::start(false);
    for round in 0..1500 {
        let (format, arguments) = layout(&mut random);
        let (other, _) = layout(&mut random);
        both.eval(&format!("return struct.pack('{format}'{arguments})"));
        show(&mut both, &format!("struct.size('{format}')"));
        show(&mut both, &format!("struct.unpack('{format}', struct.pack('{format}'{arguments}))"));
        let bytes: String = (0..random.below(60))
            .map(|_| format!("\\{}", random.pick(&["0", "1", "3", "127", "128", "255"])))
            .collect();
        show(
            &mut both,
            &format!("struct.unpack('{other}', '{bytes}', {})", random.pick(&["1", "2", "7", "-3"])),
        );
        both.check(round);
    }
    both.finish();
}

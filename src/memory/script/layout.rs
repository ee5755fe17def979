//! The library `struct`: strings laid out like C's structures, by a format, as Redis 7.0 packs and reads them. Sizes are those
//! of a 64-bit machine; where C leaves open what comes of a number that does not fit, it is what x86-64 makes of it.

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::arguments::{number_at, number_in, text_at};
use super::raised::{Raised, bad_argument, raise, raise_at};

const PACK: &str = "pack";
const UNPACK: &str = "unpack";
const SIZE: &str = "size";

const INTEGER_BYTES_MAX: usize = 32;
/// What `!` alone says.
const ALIGNMENT: usize = 8;
/// One argument may be asked for any number of times; this ends that.
const PACKED_BYTES_MAX: usize = 64 << 20;
/// Arguments and results of a function in C.
const STACK_LEN_MAX: usize = 8000;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set(PACK, lua.create_function(pack)?)?;
    table.raw_set(UNPACK, lua.create_function(|lua, args: MultiValue| unpack(lua, &args))?)?;
    table.raw_set(SIZE, lua.create_function(|lua, args: MultiValue| size(lua, &args))?)?;
    Ok(table)
}

/// One letter of a format, and how many bytes it takes; zero where its value says so, or where it takes none.
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    size: usize,
}

/// A format that is being read.
struct Format<'a> {
    lua: &'a Lua,
    function: &'static str,
    left: &'a [u8],
    big_endian: bool,
    alignment: usize,
}

impl<'a> Format<'a> {
    /// It ends at a zero, as strings of C do.
    fn new(lua: &'a Lua, function: &'static str, text: &'a [u8]) -> Format<'a> {
        let left = text.split(|byte| *byte == 0).next().unwrap_or_default();
        Format { lua, function, left, big_endian: false, alignment: 1 }
    }

    fn next(&mut self) -> mlua::Result<Option<Item>> {
        let Some((&option, left)) = self.left.split_first() else { return Ok(None) };
        self.left = left;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'i' | b'I' => self.number(4)?,
            _ => 0,
        };
        if size > INTEGER_BYTES_MAX && matches!(option, b'i' | b'I') {
            let text = format!("integral size {size} is larger than limit of {INTEGER_BYTES_MAX}");
            return Err(raise_at(self.lua, text));
        }
        Ok(Some(Item { option, size }))
    }

    /// The number that stands here.
    fn number(&mut self, default: usize) -> mlua::Result<usize> {
        let len = self.left.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, left) = self.left.split_at(len);
        self.left = left;
        if digits.is_empty() {
            return Ok(default);
        }
        let add = |number: i32, digit: &u8| number.checked_mul(10)?.checked_add(i32::from(digit - b'0'));
        match digits.iter().try_fold(0, add) {
            Some(number) => Ok(number as usize),
            None => Err(raise_at(self.lua, "integral size overflow")),
        }
    }

    /// How many bytes stand before an item that begins at `at`.
    fn padding(&self, at: usize, item: Item) -> usize {
        if item.size == 0 || item.option == b'c' {
            return 0;
        }
        let size = item.size.min(self.alignment);
        // Sizes that are no powers of two are not aligned to themselves: so it is in the original.
        (size - (at & (size - 1))) & (size - 1)
    }

    /// What says how the items behind it are laid out.
    fn control(&mut self, option: u8) -> mlua::Result<()> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let alignment = self.number(ALIGNMENT)?;
                if !alignment.is_power_of_two() {
                    let text = format!("alignment {alignment} is not a power of 2");
                    return Err(raise_at(self.lua, text));
                }
                self.alignment = alignment;
            }
            _ => return Err(self.bad(1, [b"invalid format option '", &[option][..], b"'"].concat())),
        }
        Ok(())
    }

    fn bad(&self, argument: usize, why: impl AsRef<[u8]>) -> mlua::Error {
        bad_argument(self.lua, argument, self.function, why)
    }

    /// Bytes of a number that stand in the order of this machine turned to the order asked for, or back.
    fn ordered(&self, bytes: &mut [u8]) {
        if self.big_endian == cfg!(target_endian = "little") {
            bytes.reverse();
        }
    }
}

fn pack(lua: &Lua, mut args: MultiValue) -> mlua::Result<LuaString> {
    let text = text_at(lua, &args, 0, PACK)?;
    let mut format = Format::new(lua, PACK, &text);
    // In the original the first argument that is missing is nil.
    args.push_back(Value::Nil);
    let (mut at, mut out) = (1, Vec::new());
    while let Some(item) = format.next()? {
        out.resize(out.len() + format.padding(out.len(), item), 0);
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut bytes = [0; INTEGER_BYTES_MAX];
                bytes[..8].copy_from_slice(&unsigned(number_at(lua, &args, at, PACK)?).to_le_bytes());
                let bytes = &mut bytes[..item.size];
                if format.big_endian {
                    bytes.reverse();
                }
                out.extend_from_slice(bytes);
            }
            b'x' => out.push(0),
            b'f' => {
                let mut bytes = (number_at(lua, &args, at, PACK)? as f32).to_ne_bytes();
                format.ordered(&mut bytes);
                out.extend_from_slice(&bytes);
            }
            b'd' => {
                let mut bytes = number_at(lua, &args, at, PACK)?.to_ne_bytes();
                format.ordered(&mut bytes);
                out.extend_from_slice(&bytes);
            }
            b'c' | b's' => {
                let text = text_at(lua, &args, at, PACK)?;
                let len = if item.size == 0 { text.len() } else { item.size };
                // That it names the argument behind this one is the original's own.
                let taken = text.get(..len).ok_or_else(|| format.bad(at + 2, "string too short"))?;
                out.extend_from_slice(taken);
                if item.option == b's' {
                    out.push(0);
                }
            }
            control => format.control(control)?,
        }
        if takes_argument(item.option) {
            at += 1;
        }
        if out.len() > PACKED_BYTES_MAX {
            return Err(raise(Raised::Text(b"not enough memory".to_vec())));
        }
    }
    lua.create_string(out)
}

fn takes_argument(option: u8) -> bool {
    option != b'x' && option.is_ascii_alphabetic()
}

/// The values, and the place behind them.
fn unpack(lua: &Lua, args: &MultiValue) -> mlua::Result<MultiValue> {
    let text = text_at(lua, args, 0, UNPACK)?;
    let packed = text_at(lua, args, 1, UNPACK)?;
    let first = match args.get(2) {
        None | Some(Value::Nil) => 1,
        Some(_) => signed(number_at(lua, args, 2, UNPACK)?) as usize,
    };
    let mut format = Format::new(lua, UNPACK, &text);
    if first == 0 {
        return Err(format.bad(3, "offset must be 1 or greater"));
    }
    let mut at = first - 1;
    let mut values = Vec::new();
    while let Some(item) = format.next()? {
        at = at.wrapping_add(format.padding(at, item));
        let found = part(&format, &packed, at, item.size)?;
        if args.len() + values.len() + 2 > STACK_LEN_MAX {
            return Err(raise_at(lua, "stack overflow (too many results)"));
        }
        let mut size = item.size;
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let is_signed = item.option.is_ascii_lowercase();
                values.push(Value::Number(integer(found, format.big_endian, is_signed)));
            }
            b'x' => {}
            b'f' | b'd' => {
                let mut bytes = [0; 8];
                let bytes = &mut bytes[..size];
                bytes.copy_from_slice(found);
                format.ordered(bytes);
                values.push(Value::Number(float(bytes)));
            }
            b'c' => {
                let mut found = found;
                if size == 0 {
                    size = previous_size(lua, &mut values)?;
                    found = part(&format, &packed, at, size)?;
                }
                values.push(Value::String(lua.create_string(found)?));
            }
            b's' => {
                let rest = packed.get(at..).unwrap_or_default();
                let end = rest.iter().position(|byte| *byte == 0);
                let end = end.ok_or_else(|| raise_at(lua, "unfinished string in data"))?;
                values.push(Value::String(lua.create_string(&rest[..end])?));
                size = end + 1;
            }
            control => format.control(control)?,
        }
        at = at.wrapping_add(size);
    }
    values.push(Value::Number(at.wrapping_add(1) as i64 as f64));
    Ok(MultiValue::from_vec(values))
}

fn part<'p>(format: &Format<'_>, packed: &'p [u8], at: usize, size: usize) -> mlua::Result<&'p [u8]> {
    let end = at.checked_add(size);
    end.and_then(|end| packed.get(at..end)).ok_or_else(|| format.bad(2, "data string too short"))
}

/// `c0`: the value before it, which is taken back, says how long the string is.
fn previous_size(lua: &Lua, values: &mut Vec<Value>) -> mlua::Result<usize> {
    let size = match values.pop() {
        Some(Value::Number(number)) => Some(number),
        Some(Value::String(text)) => number_in(&text.as_bytes()),
        _ => None,
    };
    let size = size.ok_or_else(|| raise_at(lua, "format 'c0' needs a previous size"))?;
    Ok(unsigned(size) as usize)
}

fn size(lua: &Lua, args: &MultiValue) -> mlua::Result<f64> {
    let text = text_at(lua, args, 0, SIZE)?;
    let mut format = Format::new(lua, SIZE, &text);
    let mut at: usize = 0;
    while let Some(item) = format.next()? {
        at += format.padding(at, item);
        match item.option {
            b's' => return Err(format.bad(1, "option 's' has no fixed size")),
            b'c' if item.size == 0 => return Err(format.bad(1, "option 'c0' has no fixed size")),
            option if option.is_ascii_alphanumeric() => {}
            control => format.control(control)?,
        }
        at += item.size;
    }
    Ok(at as f64)
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// What does not fit is the smallest number.
fn signed(number: f64) -> i64 {
    if (-TWO_TO_63..TWO_TO_63).contains(&number) { number as i64 } else { i64::MIN }
}

fn unsigned(number: f64) -> u64 {
    match number >= TWO_TO_63 {
        true => signed(number - TWO_TO_63) as u64 ^ 1 << 63,
        false => signed(number) as u64,
    }
}

/// Of more than eight bytes the last ones read count.
fn integer(bytes: &[u8], big_endian: bool, is_signed: bool) -> f64 {
    let shift = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    let number = match big_endian {
        true => bytes.iter().fold(0, shift),
        false => bytes.iter().rev().fold(0, shift),
    };
    if !is_signed {
        return number as f64;
    }
    let sign = u64::MAX.wrapping_shl((8 * bytes.len() as u32).wrapping_sub(1));
    let number = if number & sign == 0 { number } else { number | sign };
    number as i64 as f64
}

/// Of four bytes or eight, in the order of this machine.
fn float(bytes: &[u8]) -> f64 {
    match *bytes {
        [a, b, c, d] => f64::from(f32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => 0.0,
    }
}

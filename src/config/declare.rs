//! The form of the declaration: `section!` turns one list of keys into a struct, its defaults and its table of
//! keys; `choice!` makes closed choices. Knows no key by name.
use std::ops::RangeInclusive;

use super::value::Raw;

/// Whether a changed key takes effect at SIGHUP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    Now,
    Restart,
}

/// One key of a section.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// The lines of its documentation.
    pub doc: &'static [&'static str],
    pub live: Live,
    pub secret: bool,
    pub(super) range: Option<RangeInclusive<u64>>,
    /// How the default is written down where the value in force depends on the machine.
    pub(super) shown: Option<&'static str>,
}

/// Ten years: what no duration needs to exceed, so that adding one to a clock cannot overflow.
const YEARS_TEN_SECONDS: u64 = 10 * 365 * 24 * 3600;

impl Key {
    /// Keys that count bytes take sizes such as `256MiB`.
    pub fn is_size(&self) -> bool {
        self.name.split('_').any(|part| part == "bytes")
    }

    /// The name of the environment variable that sets this key.
    pub fn variable(&self, section: &str) -> String {
        format!("MADCACHE_{section}_{}", self.name).to_ascii_uppercase()
    }

    pub(super) fn range(&self) -> RangeInclusive<u64> {
        match &self.range {
            Some(range) => range.clone(),
            None if self.name.ends_with("_seconds") || self.name.ends_with("seconds_max") => {
                0..=YEARS_TEN_SECONDS
            }
            None if self.name.ends_with("_ms") => 0..=YEARS_TEN_SECONDS * 1000,
            None => 0..=i64::MAX as u64,
        }
    }
}

/// A struct whose fields are keys.
pub trait Section {
    fn keys(&self) -> &'static [Key];

    /// The lines of the section's documentation.
    fn doc(&self) -> &'static [&'static str];

    /// Sets one of `keys()`. The error says what is expected, and holds no secret.
    fn set(&mut self, key: &Key, raw: &Raw) -> Result<(), String>;

    /// The value as TOML. Secrets too: for comparison and for defaults only, never for logs.
    fn show(&self, key: &Key) -> String;
}

/// `name: Type = default, live in range => "shown default";` per key; range and shown default may be absent.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $Section:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident : $ty:ty = $default:expr, $live:ident $(in $range:expr)? $(=> $shown:literal)? ;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Section {
            $( $(#[doc = $doc])* pub $key: $ty, )*
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }

        impl $Section {
            /// Takes over from `running` what only a restart changes.
            #[allow(dead_code, unused_variables)]
            pub(in $crate::config) fn keep_until_restart(&mut self, running: &Self) {
                $( if $crate::config::declare::Live::$live == $crate::config::declare::Live::Restart {
                    self.$key.clone_from(&running.$key);
                } )*
            }
        }

        impl $crate::config::declare::Section for $Section {
            fn keys(&self) -> &'static [$crate::config::declare::Key] {
                static KEYS: &[$crate::config::declare::Key] = &[
                    $( $crate::config::declare::Key {
                        name: stringify!($key),
                        doc: &[$($doc),*],
                        live: $crate::config::declare::Live::$live,
                        secret: <$ty as $crate::config::value::Value>::SECRET,
                        range: $crate::config::declare::optional!($($range)?),
                        shown: $crate::config::declare::optional!($($shown)?),
                    }, )*
                ];
                KEYS
            }

            fn doc(&self) -> &'static [&'static str] {
                &[$($about),*]
            }

            fn set(
                &mut self,
                key: &$crate::config::declare::Key,
                raw: &$crate::config::value::Raw,
            ) -> Result<(), String> {
                match key.name {
                    $( stringify!($key) => self.$key = $crate::config::value::Value::read(raw, key)?, )*
                    other => unreachable!("{other} is not among the keys of this section"),
                }
                Ok(())
            }

            fn show(&self, key: &$crate::config::declare::Key) -> String {
                match key.name {
                    $( stringify!($key) => $crate::config::value::Value::show(&self.$key, key), )*
                    other => unreachable!("{other} is not among the keys of this section"),
                }
            }
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

/// An enum whose variants are written as the given words; the first is the default.
macro_rules! choice {
    ($(#[$meta:meta])* $Choice:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Choice {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $Choice {
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            pub fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl $crate::config::value::Value for $Choice {
            fn read(
                raw: &$crate::config::value::Raw,
                _key: &$crate::config::declare::Key,
            ) -> Result<Self, String> {
                match raw.word() {
                    $( Some($word) => Ok(Self::$variant), )*
                    _ => Err($crate::config::value::one_of(Self::WORDS)),
                }
            }

            fn show(&self, _key: &$crate::config::declare::Key) -> String {
                format!("\"{}\"", self.word())
            }
        }
    };
}

pub(super) use {choice, optional, section};

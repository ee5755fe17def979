//! The only place that knows the wire: scanning requests and replies, encoding, RESP3 to RESP2.
//! Performs no I/O and allocates nothing from an announced length alone.
mod alike;
mod convert;
mod element;
mod encode;
mod inline;
mod number;
mod reply;
mod request;
mod value;

pub use alike::next_alike;
pub use convert::*;
pub use element::{bulk_text, bulks, parse_integer};
pub use encode::*;
pub use number::strict_integer;
pub use reply::{ReplyFrame, ReplyScan, ReplyScanner};
pub use request::*;
pub use value::{Value, parse};

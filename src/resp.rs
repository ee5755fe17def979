//! The only place that knows the wire: scanning requests and replies, encoding, RESP3 to RESP2.
//! Performs no I/O and allocates nothing from an announced length alone.
mod convert;
mod encode;
mod reply;
mod request;

pub use convert::*;
pub use encode::*;
pub use reply::*;
pub use request::*;

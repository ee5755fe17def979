//! madcache: a coherent caching proxy that speaks the Redis protocol.
//!
//! Modules, in reading order (dependencies point upwards only):
pub mod resp;
pub mod command;
pub mod config;
pub mod metrics;

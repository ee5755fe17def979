//! madcache: a coherent caching proxy that speaks the Redis protocol. ARCHITECTURE.md is the map.
//!
//! In reading order, from what knows nothing to what knows all:
//!
//! 1. `clock`; `resp` (the wire) and `command` (the table), which share the reply's `Shape`
//! 2. `config`, `logging`, `rules`, `metrics`; `tls` (certificates), `net` (byte streams)
//! 3. `cache`: L1, which knows nobody who uses it; `memory`: the embedded engine, likewise
//! 4. `state`: the shared-state commands as scripts, for daemon and client alike
//! 5. `client`: the typed API for Rust programs, over a daemon or a Redis
//! 6. `shared`, `upstream`, `session`, `worker`, `server`: the serving of clients; they know each other
//! 7. `l2`, `admin`, `app`: what is no client's business
//!
//! `tests/structure.rs` holds the table of who may import whom.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cache;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod l2;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod resp;
pub mod rules;
pub mod server;
pub mod session;
pub mod shared;
pub mod state;
pub mod tls;
pub mod upstream;
pub mod worker;

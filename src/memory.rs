//! The embedded engine: a keyspace in the process, with the semantics and texts of Redis 7.0. Synchronous; it performs no
//! I/O, and sessions drive it.
//!
//! In reading order:
//!
//! 1. `compact`, `dict`, `random`, `glob`, `number`, `float`: tools that know nothing of keys
//! 2. `types`: the collections; `object`: what a key holds
//! 3. `keyspace`, `expiry`, `eviction`: all databases; `keys`: one of them as handlers see it
//! 4. `context`: what a handler is given; `commands`: the handlers
//! 5. `script`: Lua; `traits`: what Redis says of its commands
//! 6. `engine`: the lock around it all, transactions, messages, waiting callers; what sessions use
mod caller;
mod commands;
mod compact;
mod context;
mod dict;
mod engine;
mod eviction;
mod expiry;
mod float;
mod glob;
mod hyperloglog;
mod keys;
mod keyspace;
mod number;
mod object;
mod random;
mod script;
mod traits;
mod types;

pub use caller::Caller;
pub use commands::{call, handler};
pub use compact::Compact;
pub use context::{Argv, Context, Fault, Handler, Outcome, Reply, Wait};
pub use dict::Dict;
pub use engine::{Delivery, Engine, Executed, Own, answer_unknown};
pub use eviction::{Lfu, Policy};
pub use keys::Keys;
pub use keyspace::{Keyspace, Settings, Stats};
pub use object::{Kind, Object, Text, Value};

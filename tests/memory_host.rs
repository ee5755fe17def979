//! The engine's own parts (scripts, transactions, messages, waiting, the server's commands) beside a real redis-server:
//! the same requests to both, in RESP2 and RESP3, and the same bytes back. Keys and their commands have tests of their
//! own; here they only serve.

mod support;
mod memory_host {
    pub mod both;
    pub mod hyperloglogs;
    pub mod layouts;
    pub mod many;
    pub mod messages;
    pub mod random;
    pub mod sandbox;
    pub mod scripts;
    pub mod server;
    pub mod touched;
    pub mod transactions;
    pub mod waiting;
}

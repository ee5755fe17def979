//! The promises of the coherence of L1, one module each, checked from outside on a daemon with two workers.
//! tests/README.md says which test keeps which promise, and what to take out to see it fail.
mod support;

#[path = "coherence/everything.rs"]
mod everything;
#[path = "coherence/fake.rs"]
mod fake;
#[path = "coherence/fills.rs"]
mod fills;
#[path = "coherence/flights.rs"]
mod flights;
#[path = "coherence/kept.rs"]
mod kept;
#[path = "coherence/kit.rs"]
mod kit;
#[path = "coherence/losing_links.rs"]
mod losing_links;
#[path = "coherence/mget.rs"]
mod mget;
#[path = "coherence/own_writes.rs"]
mod own_writes;
#[path = "coherence/provisional.rs"]
mod provisional;
#[path = "coherence/regressions.rs"]
mod regressions;
#[path = "coherence/runs.rs"]
mod runs;
#[path = "coherence/scripts.rs"]
mod scripts;
#[path = "coherence/staleness.rs"]
mod staleness;
#[path = "coherence/told.rs"]
mod told;
#[path = "coherence/transactions.rs"]
mod transactions;
#[path = "coherence/ttl.rs"]
mod ttl;
#[path = "coherence/users.rs"]
mod users;
#[path = "coherence/writes.rs"]
mod writes;

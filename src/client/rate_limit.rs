//! Rate limits that hold over all processes. Owns what a limit and a decision are for Rust callers; HTTP is in `layer`.

mod layer;

pub use crate::config::LimitAlgorithm as Algorithm;
pub use layer::{Caller, RateLimitMiddleware, RateLimited, WhenAway};

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::{Client, Error, Repeat, command, millis};
use crate::config::LimitOnL2Down;
use crate::state;
use crate::state::ratelimit::{Command, Limits, Outcome};

/// IPv6 callers are counted by their network of so many bits, as the daemon does where its settings say nothing else.
const IPV6_PREFIX_BITS: u64 = 64;

/// How much a subject may do within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    limit: u64,
    window: Duration,
    burst: Option<u64>,
    algorithm: Option<Algorithm>,
}

impl Limit {
    /// So many within each window (of whole milliseconds), counted by a sliding window.
    #[must_use]
    pub fn new(limit: u64, window: Duration) -> Limit {
        Limit { limit, window, burst: None, algorithm: None }
    }

    /// So many a second.
    #[must_use]
    pub fn per_second(limit: u64) -> Limit {
        Limit::new(limit, Duration::from_secs(1))
    }

    /// So many a minute.
    #[must_use]
    pub fn per_minute(limit: u64) -> Limit {
        Limit::new(limit, Duration::from_secs(60))
    }

    /// Evenly spaced instead (GCRA), with so many at once.
    #[must_use]
    pub fn burst(self, burst: u64) -> Limit {
        Limit { burst: Some(burst), ..self }
    }

    /// Counted in another way.
    #[must_use]
    pub fn algorithm(self, algorithm: Algorithm) -> Limit {
        Limit { algorithm: Some(algorithm), ..self }
    }

    fn words(&self) -> Vec<String> {
        let mut words =
            vec!["LIMIT".to_owned(), self.limit.to_string(), "WINDOW".to_owned(), millis(self.window)];
        words.extend(self.burst.into_iter().flat_map(|burst| ["BURST".to_owned(), burst.to_string()]));
        words.extend(self.algorithm.into_iter().flat_map(|algorithm| {
            let word = match algorithm {
                Algorithm::Sliding => "sliding",
                Algorithm::Gcra => "gcra",
                Algorithm::Fixed => "fixed",
                Algorithm::Log => "log",
            };
            ["ALGO".to_owned(), word.to_owned()]
        }));
        words
    }
}

/// What a check answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may go on. Only then was anything consumed.
    pub allowed: bool,
    /// What fits at once.
    pub limit: u64,
    /// What fits still.
    pub remaining: u64,
    /// When the same would be allowed. None: it is, or never will be (its cost is above the limit).
    pub retry_after: Option<Duration>,
    /// Until nothing of the limit is used.
    pub reset_after: Duration,
}

impl From<Outcome> for Decision {
    fn from(outcome: Outcome) -> Decision {
        Decision {
            allowed: outcome.allowed,
            limit: outcome.limit,
            remaining: outcome.remaining,
            retry_after: u64::try_from(outcome.retry_ms).ok().map(Duration::from_millis),
            reset_after: Duration::from_millis(outcome.reset_ms),
        }
    }
}

/// Counts what subjects do, over all processes that use the same Redis.
///
/// ```no_run
/// # use madcache::client::{Client, Error, Limit, RateLimiter};
/// # async fn example(client: Client) -> Result<(), Error> {
/// let limiter = RateLimiter::new(client);
/// let decision = limiter.check("export", "ann", &Limit::per_minute(3)).await?;
/// if let Some(wait) = decision.retry_after {
///     println!("try again in {wait:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RateLimiter {
    client: Client,
}

impl RateLimiter {
    /// Counters on this server.
    pub fn new(client: impl Into<Client>) -> RateLimiter {
        RateLimiter { client: client.into() }
    }

    /// Counts one for the subject in the scope (letters, digits, `_` and `-`), if it is allowed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a scope with other characters, a limit of 0, or one too large to count exactly;
    /// [`Error::Unreachable`]: it may have been counted.
    pub async fn check(&self, scope: &str, subject: impl Display, limit: &Limit) -> Result<Decision, Error> {
        self.check_cost(scope, subject, limit, 1).await
    }

    /// The same for what counts as more than one.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn check_cost(
        &self,
        scope: &str,
        subject: impl Display,
        limit: &Limit,
        cost: u64,
    ) -> Result<Decision, Error> {
        self.decide("RATELIMIT.CHECK", scope, &subject.to_string(), limit, cost).await
    }

    /// What a check would answer now. Consumes nothing.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn peek(&self, scope: &str, subject: impl Display, limit: &Limit) -> Result<Decision, Error> {
        self.decide("RATELIMIT.PEEK", scope, &subject.to_string(), limit, 1).await
    }

    /// Checks an address: IPv6 by its /64 network.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn check_ip(&self, ip: impl Display, limit: &Limit) -> Result<Decision, Error> {
        self.check("ip", ip, limit).await
    }

    /// Checks a user.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn check_user(&self, user: impl Display, limit: &Limit) -> Result<Decision, Error> {
        self.check("user", user, limit).await
    }

    /// Forgets what the subject has used. `false`: nothing.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn reset(&self, scope: &str, subject: impl Display) -> Result<bool, Error> {
        let subject = subject.to_string();
        let command = command(&[b"RATELIMIT.RESET", scope.as_bytes(), subject.as_bytes()])?;
        let state::Command::Ratelimit(Command::Reset(subject)) = command else {
            unreachable!("RATELIMIT.RESET")
        };
        let naming = self.client.naming().await?;
        Ok(self.client.number(&subject.reset(&limits(&naming)), Repeat::Safe).await? == 1)
    }

    /// Gives back what was consumed for something that did not happen. Answers how much it was.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn refund(
        &self,
        scope: &str,
        subject: impl Display,
        limit: &Limit,
        cost: u64,
    ) -> Result<u64, Error> {
        // BURST changes what fits, not what was used: REFUND does not take it.
        let algorithm = limit.algorithm.or(limit.burst.map(|_| Algorithm::Gcra));
        let options = Limit { burst: None, algorithm, ..*limit }.words();
        let (subject, cost) = (subject.to_string(), cost.to_string());
        let mut words: Vec<&[u8]> =
            vec![b"RATELIMIT.REFUND", scope.as_bytes(), subject.as_bytes(), cost.as_bytes()];
        words.extend(options.iter().map(String::as_bytes));
        let state::Command::Ratelimit(Command::Refund(refund)) = command(&words)? else {
            unreachable!("RATELIMIT.REFUND")
        };
        let naming = self.client.naming().await?;
        let call = refund.call(&limits(&naming)).map_err(Error::Invalid)?;
        let given = self.client.number(&call, Repeat::Once).await?;
        given.try_into().map_err(|_| Error::unexpected())
    }

    async fn decide(
        &self,
        name: &str,
        scope: &str,
        subject: &str,
        limit: &Limit,
        cost: u64,
    ) -> Result<Decision, Error> {
        let (options, cost) = (limit.words(), cost.to_string());
        let mut words: Vec<&[u8]> = vec![name.as_bytes(), scope.as_bytes(), subject.as_bytes()];
        words.extend(options.iter().map(String::as_bytes));
        words.extend([&b"COST"[..], cost.as_bytes()]);
        let naming = self.client.naming().await?;
        let call = match command(&words)? {
            state::Command::Ratelimit(Command::Check(check)) => {
                check.resolve(&limits(&naming)).map(|it| it.check())
            }
            state::Command::Ratelimit(Command::Peek(check)) => {
                check.resolve(&limits(&naming)).map(|it| it.peek())
            }
            _ => unreachable!("CHECK or PEEK"),
        };
        let frame = self.client.run(&call.map_err(Error::Invalid)?, Repeat::Once).await?;
        Outcome::parse(&frame).map(Decision::from).map_err(Error::Unexpected)
    }
}

/// No policies: those are the daemon's configuration, which is not here.
fn limits(naming: &state::Naming) -> Limits<'_> {
    Limits {
        naming,
        policies: const { &BTreeMap::new() },
        ipv6_prefix_bits: IPV6_PREFIX_BITS,
        on_l2_down: LimitOnL2Down::Open,
    }
}

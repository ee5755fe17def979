//! Rate limits before an HTTP service: a tower `Layer` that answers 429, and the headers that say why and for how long.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use http::header::{HeaderName, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use super::{Decision, Limit, RateLimiter};
use crate::client::Error;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const UNKNOWN_CALLER: &str = "the caller's address is not known: serve with into_make_service_with_connect_info, \
    or say who calls with RateLimitMiddleware::callers\n";

/// Whose limit a request counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// An address, against the limit of addresses.
    Ip(String),
    /// A user, against the limit of users.
    User(String),
    /// Nobody's: the request passes.
    Exempt,
}

/// What becomes of requests while the counters cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// They pass, without headers.
    #[default]
    Open,
    /// They are answered with 503.
    Closed,
}

type Callers = dyn Fn(&Parts) -> Option<Caller> + Send + Sync;

/// Checks by address and by user; as a tower [`Layer`], answers 429 Too Many Requests before a service, with `Retry-After`,
/// and each answer with `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` (seconds) and `RateLimit-Policy`.
///
/// ```no_run
/// # use madcache::client::{Client, Error, Limit, RateLimitMiddleware, RateLimiter};
/// # async fn example(client: Client, user_ip: String) -> Result<(), Error> {
/// let middleware = RateLimitMiddleware::new(RateLimiter::new(client), Limit::per_minute(60));
/// if !middleware.check_ip(&user_ip).await? {
///     println!("Rate limit exceeded");
/// }
/// // Or before all routes of a router:
/// let app: axum::Router = axum::Router::new().layer(middleware);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimitMiddleware {
    limiter: RateLimiter,
    ip_limit: Limit,
    user_limit: Limit,
    when_away: WhenAway,
    callers: Arc<Callers>,
}

impl fmt::Debug for RateLimitMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitMiddleware")
            .field("ip_limit", &self.ip_limit)
            .field("user_limit", &self.user_limit)
            .field("when_away", &self.when_away)
            .finish_non_exhaustive()
    }
}

impl RateLimitMiddleware {
    /// The limit of each address, and of each user. As a layer, counts by the peer's address, which axum knows where it is
    /// served with `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub fn new(limiter: RateLimiter, limit: Limit) -> RateLimitMiddleware {
        RateLimitMiddleware {
            limiter,
            ip_limit: limit,
            user_limit: limit,
            when_away: WhenAway::Open,
            callers: Arc::new(peer),
        }
    }

    /// Another limit for users.
    #[must_use]
    pub fn with_user_limit(self, limit: Limit) -> RateLimitMiddleware {
        RateLimitMiddleware { user_limit: limit, ..self }
    }

    /// What the layer does while the counters cannot be reached.
    #[must_use]
    pub fn when_away(self, when_away: WhenAway) -> RateLimitMiddleware {
        RateLimitMiddleware { when_away, ..self }
    }

    /// Says who calls: by a header of a proxy that can be trusted, or by a user that an outer layer has put into the
    /// request's extensions. `None` is answered with 500, as an unknown caller cannot be limited.
    #[must_use]
    pub fn callers(
        self,
        callers: impl Fn(&Parts) -> Option<Caller> + Send + Sync + 'static,
    ) -> RateLimitMiddleware {
        RateLimitMiddleware { callers: Arc::new(callers), ..self }
    }

    /// Counts one for the address. `false`: its limit is exceeded.
    ///
    /// # Errors
    /// As [`RateLimiter::check`]; the caller decides what an unreachable server means.
    pub async fn check_ip(&self, ip: impl Display) -> Result<bool, Error> {
        Ok(self.limiter.check_ip(ip, &self.ip_limit).await?.allowed)
    }

    /// Counts one for the user. `false`: its limit is exceeded.
    ///
    /// # Errors
    /// As [`check_ip`](Self::check_ip).
    pub async fn check_user(&self, user: impl Display) -> Result<bool, Error> {
        Ok(self.limiter.check_user(user, &self.user_limit).await?.allowed)
    }

    /// What becomes of a request.
    async fn judge(&self, caller: Option<Caller>) -> Verdict {
        let (outcome, limit) = match caller {
            Some(Caller::Ip(ip)) => (self.limiter.check_ip(ip, &self.ip_limit).await, self.ip_limit),
            Some(Caller::User(user)) => {
                (self.limiter.check_user(user, &self.user_limit).await, self.user_limit)
            }
            Some(Caller::Exempt) => return Verdict::Passes(HeaderMap::new()),
            None => return Verdict::Unknown,
        };
        match (outcome, self.when_away) {
            (Ok(decision), _) if decision.allowed => Verdict::Passes(headers(&decision, &limit)),
            (Ok(decision), _) => Verdict::Denied(headers(&decision, &limit)),
            (Err(_), WhenAway::Open) => Verdict::Passes(HeaderMap::new()),
            (Err(_), WhenAway::Closed) => Verdict::Away,
        }
    }
}

enum Verdict {
    /// With these headers added to the answer.
    Passes(HeaderMap),
    Denied(HeaderMap),
    Away,
    Unknown,
}

impl Verdict {
    /// The answer in place of the service's, or the headers for that.
    fn answer<R: From<String>>(self) -> Result<HeaderMap, Response<R>> {
        let (status, text, headers) = match self {
            Verdict::Passes(headers) => return Ok(headers),
            Verdict::Denied(headers) => (StatusCode::TOO_MANY_REQUESTS, "rate limit exceeded\n", headers),
            Verdict::Away => {
                let soon = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(1))]);
                (StatusCode::SERVICE_UNAVAILABLE, "rate limits cannot be checked now\n", soon)
            }
            Verdict::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, UNKNOWN_CALLER, HeaderMap::new()),
        };
        let mut response = Response::new(R::from(text.to_owned()));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Err(response)
    }
}

fn headers(decision: &Decision, limit: &Limit) -> HeaderMap {
    let policy = format!("{};w={}", decision.limit, seconds(limit.window));
    let mut headers = HeaderMap::from_iter([
        (LIMIT, HeaderValue::from(decision.limit)),
        (REMAINING, HeaderValue::from(decision.remaining)),
        (RESET, HeaderValue::from(seconds(decision.reset_after))),
        (POLICY, HeaderValue::try_from(policy).expect("digits and ;w=")),
    ]);
    if let Some(wait) = decision.retry_after.filter(|_| !decision.allowed) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
    }
    headers
}

/// Whole seconds, rounded up: who waits as long as a header says is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn peer(request: &Parts) -> Option<Caller> {
    let ConnectInfo(peer) = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(Caller::Ip(peer.ip().to_string()))
}

impl<S> Layer<S> for RateLimitMiddleware {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> RateLimited<S> {
        RateLimited { inner, middleware: self.clone() }
    }
}

/// A service behind a rate limit.
#[derive(Debug, Clone)]
pub struct RateLimited<S> {
    inner: S,
    middleware: RateLimitMiddleware,
}

impl<S, B, R> Service<Request<B>> for RateLimited<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that said it is ready goes into the future, its clone stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let middleware = self.middleware.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let caller = (middleware.callers)(&parts);
            let headers = match middleware.judge(caller).await.answer() {
                Ok(headers) => headers,
                Err(response) => return Ok(response),
            };
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            response.headers_mut().extend(headers);
            Ok(response)
        })
    }
}

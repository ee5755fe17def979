//! HTTP for operators: /metrics, /healthz, /readyz and a status page. Answers nothing that is a client's business, and
//! shows no key, value or secret.

mod connection;
mod exposition;
mod health;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::app::Error;
use crate::clock::Moment;
use crate::config::Config;
use crate::shared::Shared;

const PATHS: &str = "/         status: every number and what it means\n\
                     /metrics  the same in Prometheus text form, with latencies\n\
                     /healthz  200 while this process works\n\
                     /readyz   200 while it can serve\n";

pub async fn listen(config: &Config) -> Result<Option<TcpListener>, Error> {
    let Some(address) = config.admin.address()? else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.map_err(|e| crate::server::bind_error(address.to_string(), e))?))
}

pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    if let Err(error) = axum::serve(connection::Bounded::new(listener), router(shared)).await {
        tracing::error!(%error, "the admin server ended");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/", get(status))
        .route("/metrics", get(metrics))
        .route("/readyz", get(readyz))
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(shared.clone(), authorize));
    // What restarts a daemon that hangs seldom has a token.
    Router::new().route("/healthz", get(healthz)).merge(guarded).with_state(shared)
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    verdict(health::health(&shared, Moment::now()), "ok")
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let mut words = vec!["ready".to_owned()];
    words.extend(health::lacking(&shared));
    verdict(health::readiness(&shared, Moment::now()), &words.join("\n"))
}

fn verdict(well: Result<(), String>, word: &str) -> Response {
    match well {
        Ok(()) => (StatusCode::OK, format!("{word}\n")).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::render(&shared)).into_response()
}

async fn status(State(shared): State<Arc<Shared>>) -> String {
    status::page(&shared, Moment::now()) + "\n" + PATHS
}

async fn nowhere() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("There is no such page. There are:\n{PATHS}"))
}

/// Where a token is set, nothing behind this is answered without it.
async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let live = shared.live.load_full();
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let allowed = match &live.config.admin.token {
        Some(token) => given.and_then(bearer).is_some_and(|given| same(token.expose().as_bytes(), given)),
        None => true,
    };
    match allowed {
        true => next.run(request).await,
        false => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer realm=\"madcache\"")],
            "Send the header \"Authorization: Bearer\" with admin.token.\n",
        )
            .into_response(),
    }
}

/// The token of an Authorization header.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether two secrets are the same, in a time that tells only their lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_taken_out_of_its_header() {
        assert_eq!(bearer(b"Bearer secret"), Some(&b"secret"[..]));
        assert_eq!(bearer(b"bearer  secret "), Some(&b"secret"[..]));
        assert_eq!(bearer(b"Basic c2VjcmV0"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }

    #[test]
    fn only_equal_tokens_are_the_same() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secret", b"secreT") && !same(b"secret", b"secret1") && !same(b"secret", b""));
    }
}

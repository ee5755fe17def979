//! A gateway that puts the four together. Start any number of them beside a daemon or a Redis; they are one:
//!
//! ```text
//! LISTEN=127.0.0.1:8000 REDIS_URL=redis://127.0.0.1:6379 cargo run --example gateway
//! TOKEN=$(curl -s -X POST http://127.0.0.1:8000/login/ann)
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/whoami
//! curl -H "Authorization: Bearer $TOKEN" -i http://127.0.0.1:8000/search     # 429 when it is too often
//! curl http://127.0.0.1:8000/online
//! curl -X POST http://127.0.0.1:8000/jobs/report                            # 409 while another gateway does it
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use madcache::client::{
    Caller, Client, DistributedLock, Error, Limit, PresenceManager, RateLimitMiddleware, RateLimiter,
    Session, SessionManager,
};
use serde_json::json;

const CHANNEL: &str = "gateway";

struct Gateway {
    client: Client,
    sessions: SessionManager,
    presence: PresenceManager,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let client = Client::open(&url)?;
    let gateway = Arc::new(Gateway {
        sessions: SessionManager::new(client.clone()),
        presence: PresenceManager::new(client.clone()),
        client: client.clone(),
    });
    // Requests are the heartbeats: a user is online for a minute after the last one, on whichever gateway. This one keeps
    // nobody online, it only sweeps.
    let _sweeper = PresenceManager::new(client.clone()).keep_alive();

    let limiter = RateLimiter::new(client);
    // Logins by address; searches by user, whom `authenticated` has put into the request.
    let logins = RateLimitMiddleware::new(limiter.clone(), Limit::per_minute(20));
    let searches = RateLimitMiddleware::new(limiter, Limit::per_minute(60))
        .callers(|request| Some(Caller::User(request.extensions.get::<Session>()?.user_id.clone())));

    let members = Router::new()
        .route("/search", get(|| async { "found\n" }))
        .layer(searches)
        .route("/whoami", get(whoami))
        .route("/logout", post(logout))
        .layer(from_fn_with_state(gateway.clone(), authenticated));
    let app = Router::new()
        .route("/login/{user}", post(login))
        .layer(logins)
        .route("/online", get(online))
        .route("/jobs/report", post(report))
        .merge(members)
        .with_state(gateway);

    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    Ok(())
}

/// What a failure of the shared state is to a client of the gateway. The log says what to do about it.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        let status = match self.0 {
            Error::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, "try again later\n").into_response()
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Lets those in who are logged in, on whichever gateway they were.
async fn authenticated(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let session = match token(request.headers()) {
        Some(token) => gateway.sessions.validate_session(token).await?,
        None => None,
    };
    let Some(session) = session else {
        return Ok((StatusCode::UNAUTHORIZED, "log in first\n").into_response());
    };
    gateway.presence.for_connection(&session.id).join_channel(&session.user_id, CHANNEL, None).await?;
    request.extensions_mut().insert(session);
    Ok(next.run(request).await)
}

/// A real gateway asks for a password here.
async fn login(State(gateway): State<Arc<Gateway>>, Path(user): Path<String>) -> Result<String, Failure> {
    let email = format!("{user}@example.com");
    Ok(gateway.sessions.create_session(&user, email, "authenticated").await?)
}

async fn whoami(axum::Extension(session): axum::Extension<Session>) -> String {
    json!({ "user": session.user_id, "email": session.email, "role": session.role }).to_string()
}

async fn logout(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(session): axum::Extension<Session>,
    headers: HeaderMap,
) -> Result<String, Failure> {
    gateway.sessions.destroy(token(&headers).unwrap_or_default()).await?;
    gateway.presence.for_connection(&session.id).leave(&session.user_id, CHANNEL).await?;
    Ok(format!("goodbye {}\n", session.user_id))
}

async fn online(State(gateway): State<Arc<Gateway>>) -> Result<String, Failure> {
    let members = gateway.presence.members(CHANNEL).await?;
    let users: Vec<String> = members.into_iter().map(|member| member.user).collect();
    Ok(json!({ "count": users.len(), "users": users }).to_string())
}

/// One gateway at a time does the job, and stops if it lost the lock.
async fn report(State(gateway): State<Arc<Gateway>>) -> Result<(StatusCode, String), Failure> {
    let lock = DistributedLock::new(gateway.client.clone(), "report", 10);
    let Some(guard) = lock.guard().await? else {
        return Ok((StatusCode::CONFLICT, "another gateway is at it\n".to_owned()));
    };
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
        () = guard.lost() => return Ok((StatusCode::CONFLICT, "lost the lock: stopped\n".to_owned())),
    }
    let fence = guard.fence();
    guard.release().await?;
    Ok((StatusCode::OK, format!("done under fence {fence}\n")))
}

//! What `RateLimiter` and the layer promise.
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use madcache::client::{Algorithm, Caller, Client, Error, Limit, RateLimitMiddleware, RateLimiter, WhenAway};
use tower_service::Service;

use crate::open;
use crate::support::{Redis, free_port};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_limit_holds_over_all_clients_and_a_denial_consumes_nothing() {
    let redis = Redis::start();
    let (here, there) = (RateLimiter::new(open(&redis)), RateLimiter::new(open(&redis)));
    let limit = Limit::new(3, HOUR).algorithm(Algorithm::Log);
    for left in [2, 1] {
        let decision = here.check("export", "ann", &limit).await.unwrap();
        assert_eq!((decision.allowed, decision.limit, decision.remaining), (true, 3, left));
        assert_eq!(decision.retry_after, None);
    }
    assert!(!there.check_cost("export", "ann", &limit, 2).await.unwrap().allowed);
    assert!(there.peek("export", "ann", &limit).await.unwrap().allowed);
    assert!(there.check("export", "ann", &limit).await.unwrap().allowed);
    let denied = here.check("export", "ann", &limit).await.unwrap();
    assert!(!denied.allowed && denied.remaining == 0);
    assert!(denied.retry_after.unwrap() <= HOUR && denied.reset_after <= HOUR);
    assert!(here.check("export", "ben", &limit).await.unwrap().allowed);
    let never = here.check_cost("export", "ann", &limit, 4).await.unwrap();
    assert_eq!((never.allowed, never.retry_after), (false, None));

    assert_eq!(here.refund("export", "ann", &limit, 1).await.unwrap(), 1);
    assert!(here.check("export", "ann", &limit).await.unwrap().allowed);
    assert!(here.reset("export", "ann").await.unwrap());
    assert_eq!(here.check("export", "ann", &limit).await.unwrap().remaining, 2);
    assert!(matches!(here.check("a b", "ann", &limit).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn addresses_of_one_network_and_users_have_limits_of_their_own() {
    let redis = Redis::start();
    let middleware = RateLimitMiddleware::new(RateLimiter::new(open(&redis)), Limit::new(1, HOUR))
        .with_user_limit(Limit::new(2, HOUR).burst(2));
    assert!(middleware.check_ip(&"2001:db8::1".to_string()).await.unwrap());
    assert!(!middleware.check_ip("2001:db8::2").await.unwrap());
    assert!(middleware.check_ip("192.0.2.1").await.unwrap());
    assert!(!middleware.check_ip("::ffff:192.0.2.1").await.unwrap());
    assert!(middleware.check_user("ann").await.unwrap());
    assert!(middleware.check_user("ann").await.unwrap());
    assert!(!middleware.check_user("ann").await.unwrap());
    assert_eq!(redis.client().call(&["EXISTS", "ratelimit:ip:192.0.2.1", "ratelimit:user:ann"]), b":2\r\n");
}

fn app(middleware: RateLimitMiddleware) -> Router {
    Router::new().route("/", get(|| async { "served" })).layer(middleware)
}

fn from(peer: &str) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    request
}

async fn ask(app: &mut Router, request: Request<Body>) -> Response<Body> {
    app.call(request).await.unwrap()
}

fn number(response: &Response<Body>, name: &str) -> u64 {
    response.headers()[name].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_layer_answers_429_with_its_headers() {
    let redis = Redis::start();
    let limiter = RateLimiter::new(open(&redis));
    let mut app = app(RateLimitMiddleware::new(limiter, Limit::new(2, HOUR).algorithm(Algorithm::Log)));
    for left in [1, 0] {
        let response = ask(&mut app, from("192.0.2.1:1")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(number(&response, "ratelimit-limit"), 2);
        assert_eq!(number(&response, "ratelimit-remaining"), left);
        assert!(!response.headers().contains_key("retry-after"));
    }
    let response = ask(&mut app, from("192.0.2.1:2")).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(number(&response, "ratelimit-remaining"), 0);
    assert_eq!(response.headers()["ratelimit-policy"], "2;w=3600");
    for name in ["retry-after", "ratelimit-reset"] {
        assert!((3590..=3600).contains(&number(&response, name)), "{name}: {response:?}");
    }
    assert_eq!(ask(&mut app, from("192.0.2.2:1")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_is_not_known_does_not_pass_and_who_is_exempt_does() {
    let redis = Redis::start();
    let middleware = RateLimitMiddleware::new(RateLimiter::new(open(&redis)), Limit::new(1, HOUR));
    let mut by_peer = app(middleware.clone());
    let unknown = ask(&mut by_peer, Request::new(Body::empty())).await;
    assert_eq!(unknown.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let mut by_header = app(middleware.callers(|request| match request.headers.get("x-user") {
        Some(user) => Some(Caller::User(user.to_str().ok()?.to_owned())),
        None => Some(Caller::Exempt),
    }));
    for status in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        let request = Request::builder().header("x-user", "ann").body(Body::empty()).unwrap();
        assert_eq!(ask(&mut by_header, request).await.status(), status);
    }
    for _ in 0..3 {
        let response = ask(&mut by_header, Request::new(Body::empty())).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("ratelimit-limit"));
    }
}

#[tokio::test]
async fn without_counters_requests_pass_or_not_as_it_was_wanted() {
    let away = Client::open(&format!("redis://127.0.0.1:{}", free_port())).unwrap();
    let middleware = RateLimitMiddleware::new(RateLimiter::new(away), Limit::new(1, HOUR));
    assert!(middleware.check_ip("192.0.2.1").await.is_err());
    for (when_away, status) in
        [(WhenAway::Open, StatusCode::OK), (WhenAway::Closed, StatusCode::SERVICE_UNAVAILABLE)]
    {
        let response = ask(&mut app(middleware.clone().when_away(when_away)), from("192.0.2.1:1")).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key("retry-after"), when_away == WhenAway::Closed);
    }
}

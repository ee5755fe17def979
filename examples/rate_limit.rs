//! Limits that hold for all processes together. Run beside a daemon or a Redis:
//! `REDIS_URL=redis://127.0.0.1:6379 cargo run --example rate_limit`

use std::time::Duration;

use madcache::client::{Client, Error, Limit, RateLimitMiddleware, RateLimiter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let limiter = RateLimiter::new(Client::open(&url)?);

    let exports = Limit::new(3, Duration::from_secs(10));
    for attempt in 1..=5 {
        let decision = limiter.check("export", "ann", &exports).await?;
        match decision.retry_after {
            None => println!("export {attempt}: allowed, {} left", decision.remaining),
            Some(wait) => println!("export {attempt}: denied, try again in {wait:?}"),
        }
    }

    // What the layer does before each request; examples/gateway.rs has it before a router.
    let middleware = RateLimitMiddleware::new(limiter, Limit::per_minute(60).burst(5));
    println!("203.0.113.7 may: {}", middleware.check_ip("203.0.113.7").await?);
    println!("ann may: {}", middleware.check_user("ann").await?);
    Ok(())
}

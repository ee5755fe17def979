//! A login that two nodes share. Run beside a daemon or a Redis: `REDIS_URL=redis://127.0.0.1:6379 cargo run --example sessions`

use std::time::Duration;

use madcache::client::{Client, Error, SessionManager};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let (here, elsewhere) =
        (SessionManager::new(Client::open(&url)?), SessionManager::new(Client::open(&url)?));

    let token = here.create_session_on("firefox", "ann", "ann@example.com", "authenticated").await?;
    let session = elsewhere.validate_session(&token).await?.expect("it was just made");
    println!("{} ({}) is {} for {:?}", session.user_id, session.email, session.role, session.idle_left);

    // After a change of rights the client gets another token; requests under way may use the old one a little longer.
    let rotated = here.rotate(&token, Duration::from_secs(10)).await?;
    for session in here.list("ann").await? {
        println!("session {} on {:?}", session.id, session.device);
    }

    println!("ended {} sessions", elsewhere.destroy_all("ann").await?);
    println!("logged in still: {}", here.validate_session(&rotated.token).await?.is_some());
    Ok(())
}

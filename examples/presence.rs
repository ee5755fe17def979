//! Who is online in a channel, and the news of it. Run beside a daemon or a Redis:
//! `REDIS_URL=redis://127.0.0.1:6379 cargo run --example presence`

use madcache::client::{Client, Error, PresenceManager};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let presence = PresenceManager::new(Client::open(&url)?);
    // Beats for all that join here, and sweeps those whose process is gone.
    let _alive = presence.keep_alive();

    let mut events = presence.events("public-chat").await?;
    presence.join_channel("ann", "public-chat", Some(json!({ "name": "Ann" }))).await?;
    // Ann's second tab is no second Ann.
    let tab = presence.for_connection("tab-2");
    tab.join_channel("ann", "public-chat", None).await?;
    presence.join_channel("ben", "public-chat", None).await?;

    println!("{} online", presence.get_channel_online_count("public-chat").await?);
    for member in presence.members("public-chat").await? {
        println!("{} over {} connections: {:?}", member.user, member.connections, member.meta);
    }
    presence.leave("ann", "public-chat").await?;
    tab.leave("ann", "public-chat").await?;
    presence.leave("ben", "public-chat").await?;

    for _ in 0..4 {
        let Some(event) = events.next().await else { break };
        println!("{} {:?} ({})", event.user, event.kind, event.cause);
    }
    Ok(())
}

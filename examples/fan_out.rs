//! One event, every vendor: the configuration says which.
//!
//! ```text
//! cargo run -- sandbox > analytics.toml     # in another terminal
//! cargo run -p analytics-examples --all-features --bin fan_out
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use analytics_kit::{Calls, Configuration, Error, Group, Identify, Track};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let path = std::env::var("ANALYTICS_CONFIG").unwrap_or_else(|_| "analytics.toml".to_owned());
    let analytics = Configuration::from_file(path)?
        .engine()
        .await?
        .on_settled(|settled| println!("{settled}"))
        .build()
        .await?;

    // Each call returns when the event is accepted; the engine delivers it.
    analytics
        .identify(
            Identify::new()
                .user_id("u1")
                .trait_("email", "ada@example.com"),
        )
        .await?;
    analytics
        .group(Group::new("g1").user_id("u1").trait_("name", "Analytical"))
        .await?;
    let receipt = analytics
        .track(Track::new("Order Completed").user_id("u1"))
        .await?;
    println!("the order goes to {:?}", receipt.queued);

    for left in analytics.close(Duration::from_secs(30)).await.lost {
        println!("{}: {} was not delivered", left.integration, left.kind);
    }
    Ok(())
}

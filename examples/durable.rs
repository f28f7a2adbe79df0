//! A directory instead of memory: what is accepted is delivered, by this
//! process or the next one. Stop the vendor, or the program, and run it again.
//!
//! ```text
//! SEGMENT_WRITE_KEY=... ANALYTICS_DATA_DIR=kept \
//!     cargo run -p analytics-examples --bin durable
//! analytics status --data-dir kept
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use analytics_kit::{Calls, Engine, Error, SqliteStore, Track, segment};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let var = |name: &str| std::env::var(name).ok();
    let mut config = segment::Config::new(var("SEGMENT_WRITE_KEY").unwrap_or_default());
    if let Some(url) = var("SEGMENT_BASE_URL") {
        config = config.base_url(url.parse()?);
    }
    let dir = var("ANALYTICS_DATA_DIR").unwrap_or_else(|| "analytics-data".to_owned());
    let store = SqliteStore::options(dir).max_bytes(1 << 30).open().await?;
    let analytics = Engine::builder()
        .integration(Arc::new(config.build()?))
        .store(Arc::new(store))
        .on_settled(|settled| println!("{settled}"))
        .build()
        .await?;
    for integration in analytics.health().await?.integrations {
        let pending = integration.status.pending;
        if pending > 0 {
            println!("{pending} from earlier runs");
        }
    }

    // On disk, when the call returns.
    let receipt = analytics
        .track(Track::new("Order Completed").user_id("u1"))
        .await?;
    println!("accepted as number {}", receipt.seq.unwrap_or_default());

    // A vendor that was down is asked again when its pause is over, and the
    // pause outlives the program.
    let wait = var("WAIT_SECONDS").and_then(|seconds| seconds.parse().ok());
    let left = analytics
        .close(Duration::from_secs(wait.unwrap_or(10)))
        .await;
    println!("{} kept for the next run", left.kept);
    Ok(())
}

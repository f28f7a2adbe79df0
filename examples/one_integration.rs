//! One integration alone: no engine, and still time-outs, retries and typed
//! errors.
//!
//! ```text
//! SEGMENT_WRITE_KEY=... cargo run -p analytics-examples --bin one_integration
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use analytics_segment::{Calls, Config, Error, ErrorKind, Identify, Track};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut config = Config::new(std::env::var("SEGMENT_WRITE_KEY").unwrap_or_default());
    // For trying it out without an account: see `analytics sandbox`.
    if let Ok(url) = std::env::var("SEGMENT_BASE_URL") {
        config = config.base_url(url.parse()?);
    }
    let segment = config.build()?;

    segment
        .identify(Identify::new().user_id("u1").trait_("plan", "trial"))
        .await?;
    let order = Track::new("Order Completed")
        .user_id("u1")
        .property("revenue", 42.5);
    match segment.track(order).await {
        Ok(output) => println!("the order: {}", output.status),
        Err(error) if error.kind() == ErrorKind::Unauthorized => {
            println!("is the write key right? {error}");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

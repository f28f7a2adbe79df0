//! Swapping vendors: another feature and another constructor; what is said
//! about users stays.
//!
//! ```text
//! SEGMENT_WRITE_KEY=... \
//!     cargo run -p analytics-examples --bin swap_vendors
//! MIXPANEL_PROJECT_TOKEN=... \
//!     cargo run -p analytics-examples --bin swap_vendors --no-default-features --features mixpanel
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use analytics_kit::{Calls, Error, Identify, Integration, Track};

#[cfg(feature = "mixpanel")]
fn vendor() -> Result<analytics_kit::mixpanel::Mixpanel, Error> {
    let token = std::env::var("MIXPANEL_PROJECT_TOKEN").unwrap_or_default();
    let mut config = analytics_kit::mixpanel::Config::new(token);
    if let Ok(url) = std::env::var("MIXPANEL_BASE_URL") {
        config = config.base_url(url.parse()?);
    }
    config.build()
}

#[cfg(all(feature = "segment", not(feature = "mixpanel")))]
fn vendor() -> Result<analytics_kit::segment::Segment, Error> {
    let write_key = std::env::var("SEGMENT_WRITE_KEY").unwrap_or_default();
    let mut config = analytics_kit::segment::Config::new(write_key);
    if let Ok(url) = std::env::var("SEGMENT_BASE_URL") {
        config = config.base_url(url.parse()?);
    }
    config.build()
}

#[cfg(not(any(feature = "segment", feature = "mixpanel")))]
compile_error!("turn on a vendor: --features segment, or --features mixpanel");

#[tokio::main]
async fn main() -> Result<(), Error> {
    let vendor = vendor()?;
    // From here on, nothing depends on which vendor it is.
    vendor
        .identify(Identify::new().user_id("u1").trait_("plan", "trial"))
        .await?;
    vendor
        .track(Track::new("Trial Started").user_id("u1"))
        .await?;
    println!("delivered to {}", vendor.name());
    Ok(())
}

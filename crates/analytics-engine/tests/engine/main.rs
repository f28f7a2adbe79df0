//! The engine with scripted integrations. Time is tokio's, paused: nothing
//! really sleeps.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod backpressure;
mod clock;
mod delivery;
#[cfg(feature = "sqlite")]
mod durable;
mod ending;
mod erasure;
mod failures;
mod health;
mod patience;
mod preparing;
mod scale;
mod stores;
mod support;
mod waking;
mod workflows;

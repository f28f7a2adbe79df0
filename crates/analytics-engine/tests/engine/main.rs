//! The engine with scripted integrations. Time is tokio's, paused: nothing
//! really sleeps.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop, and say how long it took"
)]

mod backpressure;
mod delivery;
mod ending;
mod failures;
mod scale;
mod stores;
mod support;
mod workflows;

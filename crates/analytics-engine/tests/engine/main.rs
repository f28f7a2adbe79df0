//! The engine with scripted integrations. Time is tokio's, paused: nothing
//! really sleeps.

mod backpressure;
mod delivery;
mod ending;
mod failures;
mod scale;
mod stores;
mod support;
mod workflows;

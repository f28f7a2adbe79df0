//! The store in a directory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop"
)]

mod basics;
mod erasing;
mod figures;
mod letters;
mod model;
mod opening;
mod power;
mod room;
mod support;

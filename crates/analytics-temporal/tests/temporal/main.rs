//! On a real Temporal server, with scripted vendors on loopback.
//!
//! `cargo xtask test` starts the server and says where it is.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod batch;
mod bounds;
mod examples;
mod failures;
mod identity;
mod kill;
mod kinds;
mod puppet;
mod queues;
mod replay;
mod throughput;
mod tls;
mod world;

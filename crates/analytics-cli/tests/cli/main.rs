//! The command as people and scripts use it: the real binary, against vendors
//! that answer on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests, also where they are helpers"
)]

mod support;

mod demo;
mod usage;
mod validate;

#[cfg(feature = "segment")]
mod dead_letters;
#[cfg(all(feature = "mailchimp", feature = "mixpanel", feature = "segment"))]
mod documents;
#[cfg(feature = "segment")]
mod dry_run;
#[cfg(all(feature = "segment", unix))]
mod durable;
#[cfg(all(feature = "segment", unix))]
mod interrupt;
#[cfg(feature = "segment")]
mod large;
#[cfg(all(feature = "mailchimp", feature = "mixpanel", feature = "segment"))]
mod secrets;
#[cfg(feature = "segment")]
mod send;

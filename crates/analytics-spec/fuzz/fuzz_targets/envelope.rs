//! Feeds arbitrary bytes to the readers of inputs and outputs.
//!
//! ```sh
//! cd crates/analytics-spec
//! mkdir -p fuzz/corpus/envelope
//! cargo fuzz run envelope --sanitizer none fuzz/corpus/envelope fuzz/seeds/envelope -- -max_total_time=30
//! ```
//!
//! There is no unsafe code to sanitise, so any toolchain does, and fast; with
//! `cargo +nightly` and without `--sanitizer none`, dependencies are watched.
//!
//! The property tests run the same checks over the seeds and their mutations,
//! on any toolchain.

#![no_main]

#[path = "../checks/envelope.rs"]
mod envelope;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| envelope::check(bytes));

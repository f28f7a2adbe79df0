//! `cargo xtask test`

use crate::{Outcome, cargo};

/// Runs every test of the workspace, documentation and examples included, and
/// those of the benchmarks.
pub(crate) fn run(args: &[String]) -> Outcome {
    let mut all = vec!["test", "--workspace", "--all-features"];
    all.extend(args.iter().map(String::as_str));
    cargo::run(&all)?;
    // With every feature on, the example sends to the other vendor.
    let mut segment = vec!["test", "--package", "analytics-examples"];
    segment.extend([
        "--no-default-features",
        "--features",
        "segment",
        "--test",
        "run",
    ]);
    cargo::run(&segment)?;
    cargo::run_bench("test", &[])
}

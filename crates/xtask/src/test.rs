//! `cargo xtask test`

use std::{fs, io, path::Path, process::Command};

use crate::{Outcome, cargo, temporal, warn};

/// Leaves out the tests that need a Temporal server.
const SKIP_TEMPORAL: &str = "--skip-temporal";

/// Runs every test of the workspace, documentation and examples included, and
/// those of the benchmarks.
pub(crate) fn run(args: &[String]) -> Outcome {
    let skips = |arg: &&String| *arg == SKIP_TEMPORAL;
    let skips_temporal = args.iter().any(|arg| skips(&arg));
    let args: Vec<_> = args.iter().filter(|arg| !skips(arg)).cloned().collect();
    // Every feature but `temporal`: each program would link Temporal's SDK.
    let mut all = vec!["test", "--workspace", "--exclude", "analytics-temporal"];
    all.extend([
        "--features",
        "analytics-spec/tokio,analytics-examples/mixpanel",
    ]);
    all.extend(args.iter().map(String::as_str));
    cargo::run(&all)?;
    if skips_temporal {
        warn(&format!(
            "left out, by {SKIP_TEMPORAL}: the tests of analytics-temporal, of `analytics worker`, \
             and of docs/temporal.md"
        ));
    } else {
        temporal::test(&args)?;
    }
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
    small_disks()?;
    cargo::run_bench("test", &[])
}

/// Disks that are full, or read-only, are mounted for it.
fn small_disks() -> Outcome {
    if !may_mount().map_err(|error| error.to_string())? {
        warn("left out: the tests of full and read-only disks, which only root may mount");
        return Ok(());
    }
    // Not every feature of the command: it would link Temporal's SDK.
    for (package, features, test) in [
        ("analytics-engine", "sqlite", "sqlite"),
        ("analytics-cli", "default", "cli"),
    ] {
        let test = [
            "test",
            "--package",
            package,
            "--features",
            features,
            "--test",
            test,
        ];
        let ignored = ["--", "--ignored", "disk"];
        cargo::run(&[&test[..], &ignored[..]].concat())?;
    }
    Ok(())
}

fn may_mount() -> io::Result<bool> {
    if !cfg!(target_os = "linux") {
        return Ok(false);
    }
    let place = Path::new("target").join("may-mount");
    fs::create_dir_all(&place)?;
    let mut mount = Command::new("mount");
    let mount = mount.args(["-t", "tmpfs", "tmpfs"]).arg(&place).output();
    let may_mount = mount.is_ok_and(|mount| mount.status.success());
    if may_mount {
        Command::new("umount").arg(&place).status()?;
    }
    Ok(may_mount)
}

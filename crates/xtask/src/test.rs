//! `cargo xtask test`

use std::{fs, io, path::Path, process::Command};

use crate::{Outcome, cargo, temporal, warn};

/// Leaves out the tests that need a Temporal server.
const SKIP_TEMPORAL: &str = "--skip-temporal";

const EXAMPLES: &str = "analytics-examples";

/// Runs every test of the workspace, documentation and examples included, and
/// those of the benchmarks.
pub(crate) fn run(args: &[String]) -> Outcome {
    let skips = |arg: &&String| *arg == SKIP_TEMPORAL;
    let skips_temporal = args.iter().any(|arg| skips(&arg));
    let args: Vec<_> = args.iter().filter(|arg| !skips(arg)).cloned().collect();
    run_all(&["mixpanel", "segment"], &args)?;
    if skips_temporal {
        warn(&format!(
            "left out, by {SKIP_TEMPORAL}: the tests of analytics-temporal, of `analytics worker`, \
             and of docs/temporal.md"
        ));
    } else {
        temporal::test(&args)?;
    }
    // With both, the example sends to Mixpanel.
    run_all(&["segment"], &["--test", "run"])?;
    cargo::run(&["test", "--package", "xtask"])?;
    small_disks()?;
    cargo::run_bench("test", &[])
}

/// Runs tests of the workspace without Temporal, whose SDK each program would
/// link, and without this package, whose dependencies have features of their
/// own. Whatever is to be run, the same packages are chosen and, but for the
/// examples', the same features: otherwise what they depend on would be built
/// once more.
fn run_all(examples: &[&str], args: &[impl AsRef<str>]) -> Outcome {
    let mut features = vec!["analytics-spec/tokio".to_owned()];
    features.extend(examples.iter().map(|it| format!("{EXAMPLES}/{it}")));
    for package in cargo::metadata()?.packages {
        if package.features.contains_key("default") && package.name != EXAMPLES {
            features.push(format!("{}/default", package.name));
        }
    }
    let features = features.join(",");
    let mut test = vec!["test", "--workspace"];
    test.extend(["--exclude", "analytics-temporal", "--exclude", "xtask"]);
    test.extend(["--no-default-features", "--features", &features]);
    test.extend(args.iter().map(AsRef::as_ref));
    cargo::run(&test)
}

/// Disks that are full, or read-only, are mounted for it.
fn small_disks() -> Outcome {
    if !may_mount().map_err(|error| error.to_string())? {
        warn("left out: the tests of full and read-only disks, which only root may mount");
        return Ok(());
    }
    let tests = ["--test", "sqlite", "--test", "cli"];
    let ignored = ["--", "--ignored", "disk"];
    run_all(
        &["mixpanel", "segment"],
        &[&tests[..], &ignored[..]].concat(),
    )
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

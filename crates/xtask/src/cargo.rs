//! Calling cargo.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Outcome, warn};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The benchmarks: a workspace of its own.
const BENCH: &str = "crates/analytics-bench/Cargo.toml";

/// Runs cargo on the benchmarks and shows what it says. What they share with
/// the project is not built twice.
pub(crate) fn run_bench(command: &str, args: &[&str]) -> Outcome {
    let mut all = vec![command, "--manifest-path", BENCH];
    if command != "fmt" && std::env::var_os("CARGO_TARGET_DIR").is_none() {
        all.extend(["--target-dir", "target"]);
    }
    all.extend(args);
    run(&all)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args).stdin(Stdio::null());
    command
}

/// Runs cargo and shows what it says.
pub(crate) fn run(args: &[&str]) -> Outcome {
    run_with(args, &[])
}

/// Runs cargo with environment variables, and shows what it says.
pub(crate) fn run_with(args: &[&str], env: &[(&str, &str)]) -> Outcome {
    let line = format!("cargo {}", args.join(" "));
    warn(&format!("> {line}"));
    let status = command(args)
        .envs(env.iter().copied())
        .status()
        .map_err(|error| format!("{line}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}"))
    }
}

/// Runs cargo; what it writes to stdout.
pub(crate) fn output(args: &[&str]) -> Result<String, String> {
    let line = format!("cargo {}", args.join(" "));
    let output = command(args)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{line}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{line}: its output is not text"))
}

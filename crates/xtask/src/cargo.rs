//! Calling cargo.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cargo_metadata::{Metadata, MetadataCommand};

use crate::{Outcome, warn};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The workspace's packages, without their dependencies.
pub(crate) fn metadata() -> Result<Metadata, String> {
    let mut command = MetadataCommand::new();
    let command = command.current_dir(root()).no_deps();
    command
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))
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
    // What `cargo run` says of this program. Some build scripts look at it, ring's
    // for one: it and all that needs it would be built again after each change
    // between `cargo xtask` and cargo itself.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Runs cargo and shows what it says.
pub(crate) fn run(args: &[&str]) -> Outcome {
    run_with(args, &[])
}

/// Runs cargo with environment variables, and shows what it says.
pub(crate) fn run_with(args: &[&str], env: &[(&str, &str)]) -> Outcome {
    let line = format!("cargo {}", args.join(" "));
    show(&line, command(args).envs(env.iter().copied()))
}

/// Runs a command, which is called `line`, and shows what it says.
pub(crate) fn show(line: &str, command: &mut Command) -> Outcome {
    warn(&format!("> {line}"));
    let status = command
        .status()
        .map_err(|error| format!("{line}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}"))
    }
}

/// Runs cargo on the workspace of a manifest; shows what it says if it fails.
pub(crate) fn quietly(manifest: &Path, args: &[&str]) -> Outcome {
    let said = said(manifest, args)?;
    if said.is_success {
        Ok(())
    } else {
        Err(format!("cargo {} failed:\n{}", args.join(" "), said.text))
    }
}

/// What a run of cargo came to.
pub(crate) struct Said {
    pub(crate) is_success: bool,
    /// Its output, errors first.
    pub(crate) text: String,
}

/// Runs cargo on the workspace of a manifest; what is built there shares our
/// target directory.
pub(crate) fn said(manifest: &Path, args: &[&str]) -> Result<Said, String> {
    let line = format!("cargo {}", args.join(" "));
    let folder = manifest.parent().unwrap_or(manifest);
    let mut command = command(args);
    // Where a failure is expected, its backtrace says nothing.
    command.current_dir(folder).env("RUST_BACKTRACE", "0");
    if std::env::var_os("CARGO_TARGET_DIR").is_none() {
        command.env("CARGO_TARGET_DIR", root().join("target"));
    }
    let output = command
        .output()
        .map_err(|error| format!("{line}: {error}"))?;
    let text = [output.stderr, output.stdout].concat();
    Ok(Said {
        is_success: output.status.success(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
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

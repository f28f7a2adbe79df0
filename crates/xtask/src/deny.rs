//! Licences, versions, sources and advisories of what we depend on: deny.toml.

use std::process::{Command, Stdio};

use crate::{Outcome, cargo, tool::Tool, warn};

const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    args: &[],
};

pub(crate) fn check() -> Outcome {
    run(&["check", "bans", "licenses", "sources"])?;
    // The advisories are not in a registry, but on GitHub.
    if let Err(problem) = run(&["fetch", "db"]) {
        warn(&format!(
            "left out: nobody looked for advisories, whose database could not be fetched ({problem})"
        ));
        return Ok(());
    }
    run(&["check", "advisories"])
}

fn run(args: &[&str]) -> Outcome {
    let mut command = Command::new(CARGO_DENY.path()?);
    let command = command.args(args).current_dir(cargo::root());
    let line = format!("cargo-deny {}", args.join(" "));
    cargo::show(&line, command.stdin(Stdio::null()))
}

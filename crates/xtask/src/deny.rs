//! Licences, versions, sources and advisories of what we depend on: deny.toml.

use std::process::{Command, Stdio};

use crate::{Outcome, cargo, tool::Tool, warn};

const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    args: &[],
};

/// `1`: where their database cannot be reached, nobody looks for advisories.
const WITHOUT_ADVISORIES: &str = "WITHOUT_ADVISORIES";

pub(crate) fn check() -> Outcome {
    run(&["check", "bans", "licenses", "sources"])?;
    // The advisories are not in a registry, but on GitHub.
    if let Err(problem) = run(&["fetch", "db"]) {
        let is_allowed = std::env::var_os(WITHOUT_ADVISORIES).is_some_and(|value| value == "1");
        return unlooked(&problem, is_allowed);
    }
    run(&["check", "advisories"])
}

/// Nobody has looked for advisories: whoever may go on without, says so.
fn unlooked(problem: &str, is_allowed: bool) -> Outcome {
    let unlooked = format!(
        "NOT CHECKED: nobody looked for advisories, whose database could not be fetched ({problem})"
    );
    if is_allowed {
        warn(&format!("{unlooked}; {WITHOUT_ADVISORIES}=1 lets it pass"));
        Ok(())
    } else {
        Err(format!(
            "{unlooked}; with {WITHOUT_ADVISORIES}=1 in the environment, the check goes on without"
        ))
    }
}

fn run(args: &[&str]) -> Outcome {
    let mut command = Command::new(CARGO_DENY.path()?);
    let command = command.args(args).current_dir(cargo::root());
    let line = format!("cargo-deny {}", args.join(" "));
    cargo::show(&line, command.stdin(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_looked_at_is_no_success_unless_that_is_asked_for() {
        assert!(unlooked("no network", true).is_ok());
        let error = unlooked("no network", false).unwrap_err();
        assert!(error.contains("no network"), "{error}");
        assert!(error.contains("WITHOUT_ADVISORIES=1"), "{error}");
    }
}

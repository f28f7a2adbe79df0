//! `cargo xtask table`: the README's table, which comes from the code.

use std::path::PathBuf;

use crate::{Outcome, cargo};

const BEGIN: &str = "<!-- written by `cargo xtask table` -->\n";
const END: &str = "<!-- end -->\n";

/// Writes the table anew.
pub(crate) fn write() -> Outcome {
    let (path, _, wanted) = readme()?;
    std::fs::write(&path, wanted).map_err(|error| format!("{}: {error}", path.display()))
}

/// Says if the table is not what the code says.
pub(crate) fn check() -> Outcome {
    let (_, is, wanted) = readme()?;
    if is == wanted {
        Ok(())
    } else {
        Err("the README's table is out of date: run `cargo xtask table`".to_owned())
    }
}

/// The README's path, its text, and its text with the table as it should be.
fn readme() -> Result<(PathBuf, String, String), String> {
    let path = cargo::root().join("README.md");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table = cargo::output(&[
        "run",
        "--quiet",
        "--package",
        "analytics-cli",
        "--",
        "integrations",
        "--markdown",
    ])?;
    let table = linked(&table);
    let marks = "the README has lost the marks around its table";
    let (before, rest) = text.split_once(BEGIN).ok_or(marks)?;
    let (_, after) = rest.split_once(END).ok_or(marks)?;
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    Ok((path, text, wanted))
}

/// The table with each vendor's name leading to its page.
fn linked(table: &str) -> String {
    let line = |line: &str| {
        let name = line
            .strip_prefix("| ")
            .and_then(|rest| rest.split(' ').next());
        match name.filter(|name| folder(name).is_dir()) {
            Some(name) => {
                let link = format!("| [{name}](integrations/{name}/README.md) ");
                let rest = line.get(2 + name.len()..).unwrap_or_default();
                let rest = rest.trim_start();
                format!("{link}{rest}\n")
            }
            None => format!("{line}\n"),
        }
    };
    table.lines().map(line).collect()
}

fn folder(vendor: &str) -> PathBuf {
    cargo::root().join("integrations").join(vendor)
}

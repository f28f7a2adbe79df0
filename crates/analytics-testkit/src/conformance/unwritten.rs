//! What the scaffold left open.

use std::{fs, path::Path};

use super::{report::Check, trial::Run};

/// What a comment begins with where something is to be filled in. In two
/// pieces: this file has nothing to be filled in.
const MARK: &str = concat!("FILL ", "IN:");

/// Where integrations have what they are made of.
const PLACES: [&str; 3] = ["README.md", "src", "tests"];

/// Where this project's scripted vendors are, from an integration.
const SCRIPTED: &str = "../../crates/analytics-testkit/src/vendors";

/// Each file that has something left open, with what that is.
pub(crate) fn check(run: &Run<'_>) {
    let package = &run.suite.package;
    for place in PLACES {
        look(run, package, &package.join(place));
    }
    // Only where it is one of this project's.
    let scripted = format!("{SCRIPTED}/{}.rs", run.suite.vendor.replace('-', "_"));
    look(run, package, &package.join(scripted));
}

fn look(run: &Run<'_>, package: &Path, path: &Path) {
    if let Ok(entries) = fs::read_dir(path) {
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            look(run, package, &path);
        }
        return;
    }
    // What is not text has no comments.
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let lines: Vec<_> = text.lines().collect();
    let open: Vec<_> = lines
        .iter()
        .enumerate()
        .filter_map(|(index, line)| {
            let (before, what) = line.split_once(MARK)?;
            // The comment's other lines begin as this one does.
            let more = lines.iter().skip(index + 1);
            let more = more.map_while(|line| line.strip_prefix(before));
            let more = more.take_while(|line| !line.is_empty() && !line.contains(MARK));
            let what: Vec<_> = std::iter::once(what).chain(more).map(str::trim).collect();
            Some(format!("line {}: {}", index + 1, what.join(" ")))
        })
        .collect();
    if !open.is_empty() {
        let file = path.strip_prefix(package).unwrap_or(path);
        let file = file.to_string_lossy();
        let expected = format!("nothing left to fill in in {file}");
        run.fail_in(
            Check::Unwritten,
            &file,
            expected,
            open.join("\n             "),
        );
    }
}

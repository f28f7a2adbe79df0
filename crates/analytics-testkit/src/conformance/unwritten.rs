//! What the scaffold left open.

use std::{fs, path::Path};

use super::{report::Check, trial::Run};

/// What a comment begins with where something is to be filled in. In two
/// pieces: this file has nothing to be filled in.
const MARK: &str = concat!("FILL ", "IN:");

/// Where integrations have what they are made of.
const PLACES: [&str; 3] = ["README.md", "src", "tests"];

/// Each file that has something left open, with what that is.
pub(crate) fn check(run: &Run<'_>) {
    let package = &run.suite.package;
    for place in PLACES {
        look(run, package, &package.join(place));
    }
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
    let open: Vec<_> = text
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| {
            let (_, what) = line.split_once(MARK)?;
            Some(format!("line {number}: {}", what.trim()))
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

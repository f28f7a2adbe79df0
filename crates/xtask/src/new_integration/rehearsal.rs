//! The scaffold, tried in a copy of the project: what it makes compiles and
//! says what is missing; filled in, as docs/new-integration.md has it, it
//! conforms.

use std::{collections::BTreeSet, fs, path::Path};

use super::{at, make, name::Name};
use crate::{Outcome, book::page::Page, cargo, files_below, guide::GUIDE};

/// What docs/new-integration.md arrives at: a small vendor, file by file.
const FINISHED: &str = "crates/xtask/heap";

/// What of the project is copied.
const PARTS: [&str; 7] = [
    "Cargo.toml",
    "clippy.toml",
    "Cargo.lock",
    "README.md",
    "crates",
    "integrations",
    "examples",
];

/// Makes integrations in a copy of the project, and finishes one.
pub(crate) fn run() -> Outcome {
    let root = cargo::root();
    let copy = root.join("target").join("rehearsal");
    let manifest = copy.join("Cargo.toml");
    let heap = Name::new("heap", None)?;
    let package = heap.package();

    refresh(&root, &copy)?;
    make(&copy, &Name::new("two-words", Some("TwoWords"))?)?;
    make(&copy, &heap)?;
    if make(&copy, &heap).is_ok() {
        return Err("it can be made twice".to_owned());
    }
    for package in [package.as_str(), "analytics-two-words"] {
        sound(&manifest, package)?;
    }
    missing(&manifest, &package)?;

    finish(&root, &copy, &heap)?;
    sound(&manifest, &package)?;
    let run = |args: &[&str]| cargo::quietly(&manifest, args);
    run(&["test", "--quiet", "--package", &package])?;
    // The facade, the command and the demonstration know it.
    let mut demo = vec!["run", "--quiet", "--package", "analytics-cli"];
    demo.extend(["--no-default-features", "--features", "heap", "--", "demo"]);
    run(&demo)
}

/// Formatted, and without a warning.
fn sound(manifest: &Path, package: &str) -> Outcome {
    cargo::quietly(manifest, &["fmt", "--check", "--package", package])?;
    let mut clippy = vec!["clippy", "--quiet", "--package", package, "--all-targets"];
    clippy.extend(["--", "-D", "warnings"]);
    cargo::quietly(manifest, &clippy)
}

/// What is only made says what is missing, and where.
fn missing(manifest: &Path, package: &str) -> Outcome {
    let test = [
        "test",
        "--quiet",
        "--package",
        package,
        "--test",
        "conformance",
    ];
    let said = cargo::said(manifest, &test)?;
    if said.is_success {
        return Err(format!("{package} conforms before anything is filled in"));
    }
    let files = [
        "crates/analytics-testkit/src/vendors/heap.rs",
        "README.md",
        "src/config.rs",
        "src/delete.rs",
        "src/identify.rs",
        "src/outcome.rs",
        "src/track.rs",
        "src/vendor.rs",
        "tests/conformance.rs",
    ];
    if let Some(file) = files.iter().find(|file| !said.text.contains(**file)) {
        return Err(format!(
            "{package}: {file} is not named among what is missing:\n{}",
            said.text
        ));
    }
    shown(&said.text)
}

/// What the guide shows of it, is so.
fn shown(said: &str) -> Outcome {
    let guide = Page::read(&cargo::root(), Path::new(GUIDE))?;
    let blocks = &guide.blocks;
    let block = blocks
        .iter()
        .find(|block| block.code.contains("does not conform"));
    let block = block.ok_or_else(|| format!("{GUIDE} does not show what is missing"))?;
    let lines = block.code.lines().map(str::trim);
    let wrong = lines
        .filter(|line| *line != "...")
        .find(|line| !said.contains(line));
    match wrong {
        Some(line) => Err(format!(
            "{GUIDE} shows {line:?}, and this was said:\n{said}"
        )),
        None => Ok(()),
    }
}

/// The files of the finished vendor, instead of all that the template made.
fn finish(root: &Path, copy: &Path, name: &Name) -> Outcome {
    let finished = root.join(FINISHED);
    let folder = copy.join(name.folder());
    for part in ["src", "tests"] {
        let made = folder.join(part);
        fs::remove_dir_all(&made).map_err(|error| at(&made, &error))?;
    }
    for from in files_below(&finished).map_err(|error| at(&finished, &error))? {
        let inside = from.strip_prefix(&finished).unwrap_or(&from);
        let to = if inside == Path::new("scripted.rs") {
            copy.join(name.scripted())
        } else {
            folder.join(inside)
        };
        let text = fs::read(&from).map_err(|error| at(&from, &error))?;
        write(text, &to)?;
    }
    Ok(())
}

/// The copy as the project is now. What has not changed is not written again,
/// and so not built again.
fn refresh(root: &Path, copy: &Path) -> Outcome {
    let mut wanted = BTreeSet::new();
    for part in PARTS {
        let from = root.join(part);
        let files = if from.is_dir() {
            files_below(&from).map_err(|error| at(&from, &error))?
        } else {
            vec![from]
        };
        for from in files {
            let inside = from.strip_prefix(root).unwrap_or(&from);
            // Of workspaces of their own.
            if inside.components().any(|part| part.as_os_str() == "target") {
                continue;
            }
            let to = copy.join(inside);
            let text = fs::read(&from).map_err(|error| at(&from, &error))?;
            let is_manifest = inside == Path::new("Cargo.toml");
            let text = if is_manifest {
                of_its_own(&String::from_utf8_lossy(&text))?.into_bytes()
            } else {
                text
            };
            write(text, &to)?;
            wanted.insert(to);
        }
    }
    for old in files_below(copy).map_err(|error| at(copy, &error))? {
        if !wanted.contains(&old) {
            fs::remove_file(&old).map_err(|error| at(&old, &error))?;
            // A folder that still has something in it stays.
            for folder in old.ancestors().skip(1) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The workspace's manifest with another version. Cargo tells what it has built by
/// name, version and the place in the workspace: with the same one, what is built of
/// the copy would be taken for the project's own, also after that was changed.
fn of_its_own(manifest: &str) -> Result<String, String> {
    let table = "[workspace.package]\nversion = \"";
    let lost = || format!("Cargo.toml does not begin a table with {table:?}");
    let (before, after) = manifest.split_once(table).ok_or_else(lost)?;
    let (version, after) = after.split_once('"').ok_or_else(lost)?;
    let (minor, _) = version.rsplit_once('.').ok_or_else(lost)?;
    // Whoever needs the project's version may have a later patch.
    Ok(format!("{before}{table}{minor}.9999\"{after}"))
}

fn write(text: Vec<u8>, to: &Path) -> Outcome {
    if fs::read(to).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    }
    fs::write(to, text).map_err(|error| at(to, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_a_version_that_whoever_needs_the_projects_takes() {
        let manifest = fs::read_to_string(cargo::root().join("Cargo.toml")).unwrap();
        let own = of_its_own(&manifest).unwrap();
        assert_eq!(own.lines().count(), manifest.lines().count());
        let pairs = own.lines().zip(manifest.lines());
        let changed: Vec<_> = pairs.filter(|(own, before)| own != before).collect();
        let [(own, before)] = changed[..] else {
            panic!("{changed:?}");
        };
        let minor = before.rsplit_once('.').unwrap().0;
        assert_eq!(own, format!("{minor}.9999\""));
        assert!(of_its_own("[workspace]").is_err());
    }
}

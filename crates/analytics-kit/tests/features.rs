//! Every feature compiles alone, and so does none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, path::Path, process::Command};

/// Whoever does not ask for Temporal does not build it. How many crates each
/// package is built from is printed: `cargo test -p analytics-kit --test features
/// temporal -- --nocapture`.
#[test]
fn temporal_is_in_no_default_build() {
    let packages = tree(&["--workspace", "--depth", "0"]);
    let packages = packages.iter().map(|package| name(package));
    let packages: Vec<_> = packages.filter(|p| *p != "analytics-temporal").collect();
    assert!(packages.contains(&"analytics-cli"), "{packages:?}");
    for package in packages {
        let crates = tree(&["--package", package]);
        let mut names = crates.iter().map(|line| name(line));
        assert!(names.any(|name| name == package), "no tree: {crates:?}");
        println!("{package}: {} crates", crates.len());
        let temporal = crates.iter().find(|line| name(line).contains("temporal"));
        assert_eq!(temporal, None, "{package}");
    }
}

/// The crates that are built, each once: `name vVERSION ...`.
fn tree(args: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--edges", "normal,build", "--prefix", "none"])
        .args(["--no-dedupe", "--format", "{p}"])
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates = tree.lines().filter(|line| !line.is_empty());
    crates.map(str::to_owned).collect()
}

fn name(line: &str) -> &str {
    line.split(' ').next().unwrap()
}

#[test]
fn every_feature_compiles_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    let alone: Vec<&str> = std::iter::once("")
        .chain(
            features
                .keys()
                .map(String::as_str)
                .filter(|f| *f != "default"),
        )
        .collect();
    assert!(alone.len() >= 5, "{alone:?}");
    for feature in alone {
        let output = Command::new(env!("CARGO"))
            .args(["check", "--quiet", "--lib", "--no-default-features"])
            .args(["--features", feature])
            .current_dir(folder)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "feature `{feature}`:\n{errors}");
    }
}

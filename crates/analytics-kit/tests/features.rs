//! Every feature compiles alone, and so does none.

use std::{path::Path, process::Command};

/// Whoever does not ask for Temporal does not build it.
#[test]
fn temporal_is_in_no_default_build() {
    for package in ["analytics-cli", "analytics-kit"] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--package", package, "--prefix", "none"])
            .args(["--edges", "normal,build", "--format", "{p}"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let tree = String::from_utf8(output.stdout).unwrap();
        assert!(tree.contains("analytics-spec"), "this is no tree: {tree}");
        assert!(!tree.contains("temporal"), "{tree}");
    }
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

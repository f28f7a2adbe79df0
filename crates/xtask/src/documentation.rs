//! The documentation of the packages, as docs.rs makes it.

use std::{
    env, fs,
    process::{Command, ExitCode},
};

use crate::{Outcome, cargo, library, published};

/// Says that this process stands for rustdoc, and what the real one is.
const AS_RUSTDOC: &str = "XTASK_AS_RUSTDOC";

/// What docs.rs is told of every package.
const METADATA: &str = "
[package.metadata.docs.rs]
all-features = true
rustdoc-args = [\"--cfg\", \"docsrs\"]
";

/// By this it says which feature an item needs.
const SAYS_FEATURES: &str = "#![cfg_attr(docsrs, feature(doc_cfg))]";

/// What the scaffold copies is held to the same.
const TEMPLATE: &str = "integrations/_template/Cargo.toml";

/// Every page of it builds without a warning, and docs.rs is told how.
pub(crate) fn check() -> Outcome {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mut manifests = vec![cargo::root().join(TEMPLATE).display().to_string()];
    for package in published()? {
        manifests.push(package.manifest_path.to_string());
        let Some(library) = library(&package) else {
            continue;
        };
        let library = library.src_path.as_str();
        let says_features = read(library)?.contains(SAYS_FEATURES);
        let has_features = package.features.keys().any(|feature| feature != "default");
        if has_features && !says_features {
            return Err(format!("{library} has no `{SAYS_FEATURES}`"));
        }
    }
    for manifest in manifests {
        if !read(&manifest)?.contains(METADATA) {
            return Err(format!("{manifest} does not have{METADATA}"));
        }
    }
    const FLAGS: &str = "-D warnings --cfg docsrs";
    build(FLAGS, &[])?;
    rustdoc(FLAGS, &["--package", "xtask"])
}

/// Runs rustdoc on every package but this one, whose dependencies have features
/// of their own: with other ones, all that depends on them is built anew.
pub(crate) fn build(flags: &str, args: &[&str]) -> Outcome {
    let mut all = vec!["--workspace", "--exclude", "xtask", "--all-features"];
    all.extend(args);
    rustdoc(flags, &all)
}

/// Runs rustdoc, which may use what is not stable yet, as on docs.rs.
fn rustdoc(flags: &str, args: &[&str]) -> Outcome {
    let mut doc = vec!["doc", "--quiet", "--no-deps"];
    doc.extend(args);
    let rustdoc = env::var("RUSTDOC").unwrap_or_else(|_| "rustdoc".to_owned());
    let here = env::current_exe().map_err(|error| error.to_string())?;
    let env = [
        ("RUSTDOCFLAGS", flags),
        ("RUSTDOC", &here.display().to_string()),
        (AS_RUSTDOC, &rustdoc),
    ];
    cargo::run_with(&doc, &env)
}

/// Stands for rustdoc, if it was called to. Only rustdoc is allowed what is not
/// stable: if cargo's environment said so, every dependency whose build script
/// looks there would be built anew.
pub(crate) fn as_rustdoc() -> Option<ExitCode> {
    let rustdoc = env::var_os(AS_RUSTDOC)?;
    let status = Command::new(rustdoc)
        .args(env::args_os().skip(1))
        .env("RUSTC_BOOTSTRAP", "1")
        .status();
    Some(match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

//! `cargo xtask check`

use crate::{
    Outcome, api, book, cargo, deny, documentation, guide, is_published,
    new_integration::{self, rehearsal},
    published, table, warn,
};

type Check = fn() -> Outcome;

/// In the order in which they are made.
const CHECKS: [(&str, Check); 15] = [
    ("toolchain", toolchain),
    ("format", || cargo::run(&["fmt", "--all", "--check"])),
    ("clippy", || clippy(&[])),
    ("benchmarks", benchmarks),
    ("documentation", documentation::check),
    ("api", api::check),
    ("book", book::check),
    ("tables", table::check),
    ("files", files),
    ("scaffold", rehearsal::run),
    ("guide", guide::check),
    ("out-of-tree", out_of_tree),
    ("package", package),
    ("deny", deny::check),
    ("fuzz", fuzz),
];

/// Whether there is such a check.
pub(crate) fn is_known(name: &str) -> bool {
    CHECKS.iter().any(|(known, _)| *known == name)
}

/// Everything that CI checks besides the tests, or what is named of it. All of
/// it is run, so that one run shows everything that is wrong.
pub(crate) fn run(names: &[String]) -> Outcome {
    if let [first, packages @ ..] = names
        && first == "clippy"
        && packages.iter().any(|package| !is_known(package))
    {
        return clippy(packages);
    }
    if let Some(other) = names.iter().find(|name| !is_known(name)) {
        let known = CHECKS.map(|(name, _)| name).join(", ");
        return Err(format!("there is no check `{other}`; there are {known}"));
    }
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        warn(&format!("== {name}"));
        if let Err(problem) = check() {
            warn(&format!("{name}: {problem}"));
            failed.push(name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

/// The toolchain is the one that `rust-version` promises.
fn toolchain() -> Outcome {
    other_toolchain()?.map_or(Ok(()), |other| {
        Err(format!("{other}: what is promised has to be tested"))
    })
}

/// What is wrong with the toolchain, if it is not the promised one.
pub(crate) fn other_toolchain() -> Result<Option<String>, String> {
    let manifest = std::fs::read_to_string(cargo::root().join("Cargo.toml"))
        .map_err(|error| format!("Cargo.toml: {error}"))?;
    let promised = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|version| version.trim_matches('"').to_owned())
        .ok_or("Cargo.toml has no rust-version")?;
    let version = cargo::output(&["--version"])?;
    let is_promised = version
        .split_whitespace()
        .nth(1)
        .is_some_and(|version| version.starts_with(&format!("{promised}.")));
    let other = || format!("rust-version is {promised}, but this is {}", version.trim());
    Ok((!is_promised).then(other))
}

/// Package by package, and those that are published with each feature alone,
/// with none and with all: together, one would hide what another one lacks. All
/// packages, unless some are named.
fn clippy(names: &[String]) -> Outcome {
    let mut packages = cargo::metadata()?.packages;
    let is_package = |name: &&String| packages.iter().any(|package| *package.name == **name);
    if let Some(other) = names.iter().find(|name| !is_package(name)) {
        return Err(format!("there is no package `{other}`"));
    }
    packages.retain(|package| names.is_empty() || names.iter().any(|name| *package.name == *name));
    for package in packages {
        let mut selections = vec![vec![]];
        let features: Vec<_> = package
            .features
            .keys()
            .filter(|f| *f != "default")
            .collect();
        if is_published(&package) && !features.is_empty() {
            selections.push(vec!["--no-default-features"]);
            for feature in features {
                selections.push(vec!["--no-default-features", "--features", feature]);
            }
            selections.push(vec!["--all-features"]);
        }
        for selection in selections {
            let mut args = vec!["clippy", "--quiet", "--package", &package.name];
            args.push("--all-targets");
            args.extend(selection);
            args.extend(["--", "-D", "warnings"]);
            cargo::run(&args)?;
        }
    }
    Ok(())
}

/// The benchmarks are outside of the workspace, and held to the same.
fn benchmarks() -> Outcome {
    cargo::run_bench("fmt", &["--check"])?;
    let args = ["--quiet", "--all-targets", "--", "-D", "warnings"];
    cargo::run_bench("clippy", &args)
}

/// Files that stand twice, because a package needs its own, are the same; and
/// every integration meets the conformance suite.
fn files() -> Outcome {
    let root = cargo::root();
    let read =
        |path: &str| std::fs::read(root.join(path)).map_err(|error| format!("{path}: {error}"));
    let (ours, copy) = ("examples/events.jsonl", "crates/analytics-cli/events.jsonl");
    if read(ours)? != read(copy)? {
        return Err(format!("{copy} is not {ours}: copy it"));
    }
    // Both licences ask for their text in what is passed on.
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let ours = read(licence)?;
        for package in published()? {
            let copy = package.manifest_path.with_file_name(licence);
            if std::fs::read(&copy).ok().as_ref() != Some(&ours) {
                return Err(format!("{copy} is not {licence}: link it"));
            }
        }
    }
    let folders = std::fs::read_dir(root.join("integrations")).map_err(|e| e.to_string())?;
    for folder in folders {
        let folder = folder.map_err(|error| error.to_string())?.path();
        if folder.ends_with("_template") {
            continue;
        }
        for needed in ["tests/conformance.rs", "README.md"] {
            if !folder.join(needed).is_file() {
                return Err(format!("{} has no {needed}", folder.display()));
            }
        }
    }
    new_integration::nothing_left_open(&root)
}

/// A vendor in a workspace of its own, as it is outside of this project.
fn out_of_tree() -> Outcome {
    let manifest = cargo::root().join("examples/out_of_tree/Cargo.toml");
    cargo::quietly(&manifest, &["fmt", "--check"])?;
    let clippy = ["clippy", "--quiet", "--locked", "--all-targets"];
    cargo::quietly(
        &manifest,
        &[&clippy[..], &["--", "-D", "warnings"]].concat(),
    )?;
    cargo::quietly(&manifest, &["test", "--quiet", "--locked"])
}

/// Every published crate is packaged as it will be published. It is not built
/// from the package: `cargo publish` does that before it publishes anything, and
/// all that they depend on would be built once more for it.
fn package() -> Outcome {
    let mut package = vec!["package", "--quiet", "--workspace", "--no-verify"];
    package.extend(["--allow-dirty", "--exclude", "xtask"]);
    package.extend(["--exclude", "analytics-examples"]);
    cargo::run(&package)
}

/// Fuzzes the readers for a short while, where cargo-fuzz is installed. The
/// property tests run the same checks everywhere.
fn fuzz() -> Outcome {
    if cargo::output(&["fuzz", "--version"]).is_err() {
        warn("cargo-fuzz is not installed: the property tests stand for it");
        return Ok(());
    }
    let folder = "crates/analytics-spec/fuzz";
    let seeds = format!("{folder}/seeds/envelope");
    let corpus = format!("{folder}/corpus/envelope");
    std::fs::create_dir_all(cargo::root().join(&corpus)).map_err(|error| error.to_string())?;
    cargo::run(&[
        "fuzz",
        "run",
        "--fuzz-dir",
        folder,
        "envelope",
        "--sanitizer",
        "none",
        &corpus,
        &seeds,
        "--",
        "-max_total_time=20",
    ])
}

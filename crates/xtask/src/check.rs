//! `cargo xtask check`

use crate::{
    Outcome, cargo, guide,
    new_integration::{self, rehearsal},
    table, warn,
};

/// Packages whose features are one a vendor.
const BY_VENDOR: [&str; 2] = ["analytics-kit", "analytics-cli"];

/// Everything that CI checks besides the tests, or what is named of it. All of
/// it is run, so that one run shows everything that is wrong.
pub(crate) fn run(names: &[String]) -> Outcome {
    type Check = fn() -> Outcome;
    let checks: [(&str, Check); 13] = [
        ("toolchain", toolchain),
        ("format", || cargo::run(&["fmt", "--all", "--check"])),
        ("clippy", clippy),
        ("benchmarks", benchmarks),
        ("documentation", documentation),
        ("tables", table::check),
        ("files", files),
        ("scaffold", rehearsal::run),
        ("guide", guide::check),
        ("out-of-tree", out_of_tree),
        ("package", package),
        ("deny", deny),
        ("fuzz", fuzz),
    ];
    let known: Vec<_> = checks.iter().map(|(name, _)| *name).collect();
    if let Some(other) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let known = known.join(", ");
        return Err(format!("there is no check `{other}`; there are {known}"));
    }
    let mut failed = Vec::new();
    for (name, check) in checks {
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
    let manifest = std::fs::read_to_string(cargo::root().join("Cargo.toml"))
        .map_err(|error| format!("Cargo.toml: {error}"))?;
    let promised = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|version| version.trim_matches('"').to_owned())
        .ok_or("Cargo.toml has no rust-version")?;
    let version = cargo::output(&["--version"])?;
    if version
        .split_whitespace()
        .nth(1)
        .is_some_and(|version| version.starts_with(&format!("{promised}.")))
    {
        Ok(())
    } else {
        Err(format!(
            "rust-version is {promised}, but this is {}: what is promised has to be tested",
            version.trim()
        ))
    }
}

/// Package by package, and feature by feature: together, one package's
/// features would hide what another one lacks.
fn clippy() -> Outcome {
    const DENY: [&str; 3] = ["--", "-D", "warnings"];
    let tree = cargo::output(&["tree", "--workspace", "--depth", "0", "--prefix", "none"])?;
    let packages = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    for package in packages {
        let mut args = vec!["clippy", "--quiet", "--package", package, "--all-targets"];
        args.extend(DENY);
        cargo::run(&args)?;
    }
    for package in BY_VENDOR {
        for feature in features(package)? {
            let mut args = vec!["clippy", "--quiet", "--package", package, "--all-targets"];
            args.extend(["--no-default-features", "--features", &feature]);
            args.extend(DENY);
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

/// The package's features, and none.
fn features(package: &str) -> Result<Vec<String>, String> {
    let path = cargo::root()
        .join("crates")
        .join(package)
        .join("Cargo.toml");
    let manifest =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let features = manifest
        .lines()
        .skip_while(|line| line.trim() != "[features]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !name.starts_with('#') && name != "default");
    Ok(std::iter::once(String::new()).chain(features).collect())
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
/// from the package: until the first release, no registry has the others.
fn package() -> Outcome {
    let mut package = vec!["package", "--quiet", "--workspace", "--no-verify"];
    package.extend(["--allow-dirty", "--exclude", "xtask"]);
    package.extend(["--exclude", "analytics-examples"]);
    cargo::run(&package)
}

/// Licences, advisories and sources, where cargo-deny is installed: `cargo
/// install cargo-deny --locked`. It asks the network for the advisories.
fn deny() -> Outcome {
    if cargo::output(&["deny", "--version"]).is_err() {
        warn("left out: cargo-deny is not installed; deny.toml was not checked");
        return Ok(());
    }
    cargo::run(&["deny", "check"])
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

fn documentation() -> Outcome {
    let args = [
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--all-features",
    ];
    cargo::run_with(&args, &[("RUSTDOCFLAGS", "-D warnings")])
}

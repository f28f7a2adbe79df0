//! The project's own commands: `cargo xtask` lists them.

mod api;
mod book;
mod cargo;
mod check;
mod deny;
mod documentation;
mod guide;
mod new_integration;
mod table;
mod temporal;
mod test;
mod tool;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cargo_metadata::{Package, Target};

const HELP: &str = "\
cargo xtask COMMAND

  test [ARGS]   run the tests, those of the benchmarks last; ARGS go to the
                workspace's cargo test. A Temporal server is started for some:
                --skip-temporal leaves those out
  test-temporal [ARGS]
                those alone; ARGS go to the cargo test of analytics-temporal,
                and leave the command's and the page's out
  check [NAME ...]
                everything else that CI checks, or what is named of it:
                formatting, clippy for every package and feature alone,
                documentation, public APIs, the book, generated tables, the
                scaffold, packages, licences; `check clippy PACKAGE ...` looks
                at those packages alone
  new-integration NAME [SPELLING]
                make the crate of a vendor, whose tests say what is missing:
                `acme`, or `posthog PostHog`; see docs/new-integration.md
  table         write the README's table of vendors and kinds anew
  api           write the listings of what each package makes public anew
  book          build the book: README.md, docs/ and the vendors' pages
";

/// What a command comes to.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    if let Some(code) = documentation::as_rustdoc() {
        return code;
    }
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let outcome = match command.as_str() {
        "test" => test::run(&rest),
        "test-temporal" => temporal::test(&rest),
        "check" => check::run(&rest),
        "new-integration" => new_integration::run(&rest),
        "table" => table::write(),
        "api" => api::write(),
        "book" => book::run(),
        "" | "help" | "--help" | "-h" => {
            say(HELP);
            Ok(())
        }
        other => Err(format!("there is no command `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            warn(&format!("xtask: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether there is such a command.
fn is_command(name: &str) -> bool {
    HELP.lines()
        .filter_map(|line| line.strip_prefix("  "))
        .any(|line| line.split(' ').next() == Some(name))
}

/// The packages that are published.
fn published() -> Result<Vec<Package>, String> {
    let packages = cargo::metadata()?.packages.into_iter();
    Ok(packages.filter(is_published).collect())
}

/// `publish = false` is a list of no registries.
fn is_published(package: &Package) -> bool {
    package.publish.is_none()
}

fn library(package: &Package) -> Option<&Target> {
    package.targets.iter().find(|target| target.is_lib())
}

/// Every file below a folder, in the order of their paths.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command's progress and errors")]
fn warn(text: &str) {
    eprintln!("{text}");
}

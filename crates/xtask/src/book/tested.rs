//! What the pages show is tested: here it is seen to that no page is left out
//! of the tests.

use std::{fs, path::Path};

use super::page::Page;
use crate::{Outcome, check, guide, is_command};

/// Where the documents' Rust becomes tests.
const DOCTESTS: &str = "examples/documents.rs";

/// Where this is.
const HERE: &str = "crates/xtask/src/book/tested.rs";

/// The commands of the pages that no test runs, with the reason.
const NOT_RUN: [(&str, &str); 25] = [
    // crates/analytics-bench/README.md and docs/performance.md
    ("cd crates/analytics-bench", MEASURES),
    ("cargo run --release -- compare", MEASURES),
    ("cargo run --release -- growth", MEASURES),
    ("cargo run --release -- latency", MEASURES),
    ("cargo run --release -- backlog", MEASURES),
    ("cargo run --release -- sink", MEASURES),
    ("cargo run --release -- sink --port 8080 &", MEASURES),
    ("cargo bench", MEASURES),
    (
        "perf record -g target/release/analytics-bench run memory --sink http://127.0.0.1:8080",
        MEASURES,
    ),
    // examples
    (
        "cargo run -p analytics-examples --all-features --bin fan_out",
        "examples/tests/run.rs runs the program, as cargo has built it for tests",
    ),
    ("pip install --requirement requirements.txt", PYTHON),
    ("python3 deliver.py", PYTHON),
    ("python3 own_workflow.py", PYTHON),
    // docs/new-integration.md
    ("cargo test -p analytics-heap --no-fail-fast", REHEARSED),
    (
        "cargo doc --open --no-deps -p analytics-http -p analytics-spec -p analytics-testkit",
        "`cargo xtask check documentation` builds it, and has no browser to open",
    ),
    (
        "cargo fmt --all",
        "`cargo xtask check format` looks at what it would do",
    ),
    (
        "UPDATE_CONFORMANCE=1 cargo test -p analytics-heap",
        REHEARSED,
    ),
    // docs/temporal.md
    (
        "cargo install --path crates/analytics-cli --features temporal",
        "what it installs is built and run by the tests of `analytics worker`",
    ),
    (
        "temporal task-queue describe --task-queue analytics",
        TEMPORAL,
    ),
    (
        "temporal task-queue describe --task-queue analytics/segment",
        TEMPORAL,
    ),
    (
        "temporal workflow describe --workflow-id 'segment(analytics).Track/order-1'",
        TEMPORAL,
    ),
    ("temporal server start-dev", TEMPORAL),
    (
        "temporal workflow execute --type 'segment(analytics).Identify' --task-queue analytics --input '{\"identify\": {\"user_id\": \"u1\", \"traits\": {\"email\": \"ada@example.com\"}}}'",
        TEMPORAL,
    ),
    (
        "temporal workflow list --query \"ExecutionStatus = 'Failed' AND WorkflowType = 'segment(analytics).Identify'\"",
        TEMPORAL,
    ),
    // integrations/webhook/README.md
    (
        "echo \"whsec_$(openssl rand -base64 32)\"",
        "it needs OpenSSL; the tests sign with such keys",
    ),
];

const MEASURES: &str = "it takes minutes; the tests of the benchmarks run each of them briefly";
const PYTHON: &str = "the tests of analytics-temporal run these programs, in an environment of \
                      their own";
const REHEARSED: &str = "`cargo xtask check scaffold` makes the crate in a copy and tests it there";
const TEMPORAL: &str = "`cargo xtask test-temporal` starts a server, and executes workflows with \
                        the SDK instead of the command";

/// The commands of a shell block: a line each, without its comment; a line that ends
/// with a backslash goes on.
fn commands(code: &str) -> Vec<String> {
    let code = code.replace("\\\n", " ");
    let lines = code.lines().filter(|line| !line.starts_with('#'));
    let commands = lines.map(|line| {
        let command = line.split(" #").next().unwrap_or(line);
        command.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    commands.filter(|command| !command.is_empty()).collect()
}

/// Whether it is a command of this project's. Those of `analytics` are run by
/// crates/analytics-cli/tests/cli/documents.rs; of these, it is known that they are
/// there.
fn is_run(command: &str) -> bool {
    ["analytics ", "cargo run -- ", "cargo xtask "]
        .iter()
        .any(|own| command.starts_with(own))
}

pub(super) fn check(root: &Path, pages: &[Page]) -> Outcome {
    for page in pages {
        let at = |what: String| format!("{}: {what}", page.path.display());
        if page.blocks.iter().any(|block| block.is_in("rust")) && !is_compiled(root, page) {
            return Err(at(format!(
                "nobody compiles its Rust: name it in {DOCTESTS}, or in the documentation of \
                 the crate beside it"
            )));
        }
        for line in page.blocks.iter().flat_map(|block| block.code.lines()) {
            unknown(line).map_or(Ok(()), |name| {
                Err(at(format!("`{line}`: there is no `{name}`")))
            })?;
        }
        let shell = page.blocks.iter().filter(|block| block.is_in("sh"));
        for command in shell.flat_map(|block| commands(&block.code)) {
            if !is_run(&command) && !NOT_RUN.iter().any(|(known, _)| *known == command) {
                return Err(at(format!(
                    "`{command}`: no test runs it; run it in one, or name it with the reason in \
                     {HERE}"
                )));
            }
        }
    }
    Ok(())
}

fn is_compiled(root: &Path, page: &Page) -> bool {
    let says = |file: &Path, what: &str| {
        fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(what))
    };
    let folder = page.path.parent().unwrap_or(Path::new(""));
    page.path == Path::new(guide::GUIDE)
        || says(
            Path::new(DOCTESTS),
            &format!("\"../{}\"", page.path.display()),
        )
        || page.path.ends_with("README.md")
            && says(
                &folder.join("src/lib.rs"),
                "#![doc = include_str!(\"../README.md\")]",
            )
}

/// What one of the project's own commands does not know.
fn unknown(line: &str) -> Option<&str> {
    let mut words = line
        .strip_prefix("cargo xtask ")?
        .split_whitespace()
        .take_while(|word| !["#", ">", "&", "|", "&&"].contains(word));
    match words.next() {
        // `clippy` is given packages.
        Some("check") => words
            .take_while(|name| *name != "clippy")
            .find(|name| !check::is_known(name)),
        name => name.filter(|name| !is_command(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{book::page::Block, cargo};

    fn page(path: &str, language: &str, code: &str) -> Page {
        Page {
            path: path.into(),
            blocks: vec![Block {
                language: language.to_owned(),
                code: code.to_owned(),
            }],
            ..Page::default()
        }
    }

    #[test]
    fn a_page_that_nobody_compiles_is_found() {
        let root = cargo::root();
        for (path, language, is_left_out) in [
            ("docs/concepts.md", "rust", false),
            ("integrations/segment/README.md", "rust,no_run", false),
            ("docs/new-integration.md", "rust", false),
            ("docs/new.md", "rust", true),
            ("docs/new.md", "sh", false),
            ("crates/analytics-bench/README.md", "rust", true),
        ] {
            let outcome = check(&root, &[page(path, language, "cargo run -- demo\n")]);
            assert_eq!(outcome.is_err(), is_left_out, "{path}: {outcome:?}");
        }
    }

    #[test]
    fn a_command_that_no_test_runs_is_found() {
        let code = "# a comment\nanalytics check  # ours\n\nUP=1 cargo \\\n    test\n";
        assert_eq!(commands(code), ["analytics check", "UP=1 cargo test"]);
        let root = cargo::root();
        let of = |code| check(&root, &[page("docs/new.md", "sh", code)]);
        assert!(of("analytics check\ncargo bench   # slow\n").is_ok());
        let error = of("curl https://example.com | sh\n").unwrap_err();
        assert!(error.contains("no test runs it"), "{error}");
    }

    /// What is on no page any more leaves the list.
    #[test]
    fn the_list_is_of_commands_that_are_shown() {
        let root = cargo::root();
        let paths = crate::book::page::paths(&root).unwrap();
        let shown: Vec<_> = paths
            .iter()
            .flat_map(|path| Page::read(&root, path).unwrap().blocks)
            .filter(|block| block.is_in("sh"))
            .flat_map(|block| commands(&block.code))
            .collect();
        for (command, reason) in NOT_RUN {
            assert!(shown.iter().any(|known| known == command), "{command}");
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_found() {
        for (line, expected) in [
            ("cargo xtask test --skip-temporal", None),
            ("cargo xtask check", None),
            ("cargo xtask check clippy # one of them", None),
            ("cargo xtask check clipy", Some("clipy")),
            ("cargo xtask check clippy analytics-acme", None),
            ("cargo xtask tests", Some("tests")),
            ("cargo test", None),
        ] {
            assert_eq!(unknown(line), expected, "{line}");
        }
        let outcome = check(
            &cargo::root(),
            &[page("README.md", "sh", "cargo xtask no\n")],
        );
        assert!(outcome.unwrap_err().contains("there is no `no`"));
    }
}

//! What the pages show is tested: here it is seen to that no page is left out
//! of the tests.

use std::{fs, path::Path};

use super::page::Page;
use crate::{Outcome, check, guide, is_command};

/// Where the documents' Rust becomes tests.
const DOCTESTS: &str = "examples/documents.rs";

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
        Some("check") => words.find(|name| !check::is_known(name)),
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
            let outcome = check(&root, &[page(path, language, "let a = 1;\n")]);
            assert_eq!(outcome.is_err(), is_left_out, "{path}: {outcome:?}");
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_found() {
        for (line, expected) in [
            ("cargo xtask test --skip-temporal", None),
            ("cargo xtask check", None),
            ("cargo xtask check clippy # one of them", None),
            ("cargo xtask check clipy", Some("clipy")),
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

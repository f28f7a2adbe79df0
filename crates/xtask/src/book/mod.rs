//! `cargo xtask book`: README.md, `docs/` and the vendors' pages as one book,
//! with the places and links that they have on GitHub.

mod links;
pub(crate) mod page;
mod tested;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use self::page::Page;
use crate::{Outcome, cargo, say, tool::Tool};

/// Without what it serves, watches and searches with.
const MDBOOK: Tool = Tool {
    name: "mdbook",
    version: "0.5.4",
    args: &["--no-default-features"],
};

/// README.md keeps its name, by which links know it: no preprocessor makes an
/// index.md of it.
const CONFIGURATION: &str = r#"[book]
title = "analytics"
language = "en"
src = "pages"

[build]
build-dir = "html"
use-default-preprocessors = false

[output.html.playground]
runnable = false
"#;

/// The page that the others are reached from.
const FIRST: &str = "README.md";

/// Builds the book and says where it is.
pub(crate) fn run() -> Outcome {
    let built = build()?;
    say(&format!("{}\n", built.join("README.html").display()));
    Ok(())
}

/// Every page is in the book, every link leads somewhere, on GitHub and in the
/// book, and what the pages show is tested.
pub(crate) fn check() -> Outcome {
    build().map(|_| ())
}

fn build() -> Result<PathBuf, String> {
    let root = cargo::root();
    let pages = pages(&root)?;
    let chapters = chapters(&pages)?;
    let linked = links::check(&root, &pages)?;
    tested::check(&root, &pages)?;

    let folder = root.join("target/book");
    // A page that is gone would stay otherwise.
    let _ = fs::remove_dir_all(&folder);
    let sources = folder.join("pages");
    for path in pages.iter().map(|page| &page.path).chain(&linked) {
        copy(&root.join(path), &sources.join(path))?;
    }
    write(&sources.join("SUMMARY.md"), &chapters)?;
    write(&folder.join("book.toml"), CONFIGURATION)?;
    mdbook(&folder)?;
    let built = folder.join("html");
    links::check_built(&built, &pages)?;
    Ok(built)
}

fn pages(root: &Path) -> Result<Vec<Page>, String> {
    let paths = page::paths(root)?;
    paths.iter().map(|path| Page::read(root, path)).collect()
}

/// The table of contents: the documents in the order in which the README's
/// table has them, the vendors, and the others.
fn chapters(pages: &[Page]) -> Result<String, String> {
    let page = |path: &str| pages.iter().find(|page| page.path == Path::new(path));
    let first = page(FIRST).ok_or("there is no README.md")?;
    let is_vendor = |page: &&Page| page.path.starts_with("integrations");
    let entry = |title: &str, page: &Page| format!("- [{title}]({})\n", page.path.display());

    let mut known = BTreeSet::from([first.path.as_path()]);
    let mut summary = format!("# Summary\n\n[Overview]({FIRST})\n\n");
    for link in first.links.iter().filter(|link| link.is_in_table) {
        if let Some(page) = page(&link.to).filter(|page| !is_vendor(page)) {
            known.insert(&page.path);
            summary += &entry(&link.text, page);
        }
    }
    if let Some(page) = pages
        .iter()
        .find(|page| page.path.starts_with("docs") && !known.contains(page.path.as_path()))
    {
        return Err(format!(
            "{} is not in the table of what to read on, in {FIRST}",
            page.path.display()
        ));
    }
    summary += "\n# Vendors\n\n";
    for page in pages.iter().filter(is_vendor) {
        summary += &entry(&page.title, page);
    }
    summary += "\n# The project\n\n";
    let is_left = |page: &&Page| !is_vendor(page) && !known.contains(page.path.as_path());
    for page in pages.iter().filter(is_left) {
        summary += &entry(&page.title, page);
    }
    Ok(summary)
}

/// Runs it; what it warns of is wrong.
fn mdbook(folder: &Path) -> Outcome {
    let output = Command::new(MDBOOK.path()?)
        .arg("build")
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("mdbook: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && !said.contains("WARN") {
        Ok(())
    } else {
        Err(format!("mdbook build: {}\n{said}", output.status))
    }
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let text = fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
    write(to, text)
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> Outcome {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(at)?;
    }
    fs::write(path, text).map_err(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_to_be_in_the_table() {
        let root = cargo::root();
        let mut pages = pages(&root).unwrap();
        chapters(&pages).unwrap();
        pages.push(Page {
            path: "docs/new.md".into(),
            ..Page::default()
        });
        let error = chapters(&pages).unwrap_err();
        assert!(error.starts_with("docs/new.md is not"), "{error}");
    }
}

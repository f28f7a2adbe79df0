//! Links between pages, and to files beside them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use super::page::{Link, Page};
use crate::Outcome;

/// Every link leads somewhere on GitHub. The files that are no pages, which
/// the book needs beside it.
pub(super) fn check(root: &Path, pages: &[Page]) -> Result<BTreeSet<PathBuf>, String> {
    let mut files = BTreeSet::new();
    let mut broken = String::new();
    for page in pages {
        for link in &page.links {
            match target(root, pages, page, link) {
                Ok(file) => files.extend(file),
                Err(why) => {
                    let (path, line, to) = (page.path.display(), link.line, &link.to);
                    broken += &format!("\n{path}:{line}: {to}: {why}");
                }
            }
        }
    }
    if broken.is_empty() {
        Ok(files)
    } else {
        Err(format!("links that lead nowhere:{broken}"))
    }
}

/// The file that a link leads to, if it is neither a page nor elsewhere.
fn target(
    root: &Path,
    pages: &[Page],
    page: &Page,
    link: &Link,
) -> Result<Option<PathBuf>, String> {
    if link.to.starts_with('[') {
        return Err("there is no such reference".to_owned());
    }
    if is_elsewhere(&link.to) {
        return Ok(None);
    }
    let (path, anchor) = split(page, link)?;
    if let Some(target) = pages.iter().find(|page| page.path == path) {
        return match anchor {
            Some(anchor) if !target.anchors.contains(anchor) => {
                Err(format!("no heading of {} is so", path.display()))
            }
            _ => Ok(None),
        };
    }
    if root.join(&path).is_dir() {
        return Err("a folder: in a book there is nothing to see at it".to_owned());
    }
    match (root.join(&path).is_file(), anchor) {
        (true, _) if path.extension().is_some_and(|it| it == "md") => {
            Err("no page of the book".to_owned())
        }
        (false, _) => Err("there is no such file".to_owned()),
        (true, Some(_)) => Err("only pages have headings".to_owned()),
        (true, None) => Ok(Some(path)),
    }
}

fn is_elsewhere(to: &str) -> bool {
    ["https:", "http:", "mailto:"]
        .iter()
        .any(|scheme| to.starts_with(scheme))
}

/// The path below the root that a link leads to, and what it names there.
fn split<'a>(page: &Page, link: &'a Link) -> Result<(PathBuf, Option<&'a str>), String> {
    let (path, anchor) = match link.to.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link.to.as_str(), None),
    };
    if path.is_empty() {
        return Ok((page.path.clone(), anchor));
    }
    let mut target = page.path.parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => target.push(part),
            Component::CurDir => {}
            Component::ParentDir if target.pop() => {}
            _ => return Err("it leads out of the project".to_owned()),
        }
    }
    Ok((target, anchor))
}

/// The book names its headings as GitHub does.
pub(super) fn check_built(built: &Path, pages: &[Page]) -> Outcome {
    for page in pages {
        let path = built.join(page.path.with_extension("html"));
        let html =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let is_missing = |anchor: &&String| !html.contains(&format!("id=\"{anchor}\""));
        if let Some(anchor) = page.anchors.iter().find(is_missing) {
            return Err(format!("{} has no #{anchor}", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let root = crate::cargo::root();
        let page = |path: &str, links: &[&str]| Page {
            path: path.into(),
            anchors: BTreeSet::from(["here".to_owned()]),
            links: links
                .iter()
                .map(|to| Link {
                    to: (*to).to_owned(),
                    text: String::new(),
                    line: 7,
                    is_in_table: false,
                })
                .collect(),
            ..Page::default()
        };
        let to = [
            "https://example.com",
            "#here",
            "../README.md#here",
            "../Cargo.toml",
        ];
        let pages = [page("docs/x.md", &to), page("README.md", &["docs/x.md"])];
        let files = check(&root, &pages).unwrap();
        assert_eq!(files, BTreeSet::from(["Cargo.toml".into()]));

        for (to, why) in [
            ("#gone", "no heading of docs/x.md is so"),
            ("README.md", "there is no such file"),
            ("../README.md#gone", "no heading of README.md is so"),
            ("../Cargo.toml#here", "only pages have headings"),
            ("../examples", "a folder"),
            ("../../other.md", "it leads out of the project"),
            ("../crates/xtask/heap/README.md", "no page of the book"),
            ("/README.md", "it leads out of the project"),
            ("[undefined]", "there is no such reference"),
        ] {
            let pages = [page("docs/x.md", &[to]), page("README.md", &[])];
            let error = check(&root, &pages).unwrap_err();
            let expected = format!("docs/x.md:7: {to}: {why}");
            assert!(error.contains(&expected), "{error}");
        }
    }
}

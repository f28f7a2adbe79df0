//! A document in Markdown, as the book and GitHub show it.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};

/// Folders whose documents are no pages: what is built, what the scaffold
/// copies, and what the guide arrives at.
const NO_PAGES: [&str; 3] = ["target", "_template", "heap"];

/// A document, and what is looked at in it.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Its place below the workspace's folder.
    pub(crate) path: PathBuf,
    /// Its first heading.
    pub(crate) title: String,
    /// What links may name after a `#`.
    pub(crate) anchors: BTreeSet<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) blocks: Vec<Block>,
}

/// A link, or a picture.
#[derive(Debug, PartialEq)]
pub(crate) struct Link {
    /// Where it leads to, as it was written.
    pub(crate) to: String,
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) is_in_table: bool,
}

/// A block of code, or code in a sentence.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    /// `rust,no_run`; empty, if it does not say, and in a sentence.
    pub(crate) language: String,
    pub(crate) code: String,
}

impl Block {
    pub(crate) fn is_in(&self, language: &str) -> bool {
        self.language.split(',').next() == Some(language)
    }
}

impl Page {
    pub(crate) fn read(root: &Path, path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(root.join(path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::parse(path, &text))
    }

    fn parse(path: &Path, text: &str) -> Self {
        let mut page = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let mut undefined = Vec::new();
        let callback = |broken: pulldown_cmark::BrokenLink<'_>| {
            // `[so]` may be meant as it stands; `[so][this]` is not.
            if broken.link_type != LinkType::Shortcut {
                undefined.push((broken.reference.to_string(), broken.span));
            }
            None
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
        let parser = Parser::new_with_broken_link_callback(text, options, Some(callback));
        let link = |to: String, range: &Range<usize>, is_in_table| Link {
            to,
            text: String::new(),
            line: line(text, range),
            is_in_table,
        };
        // What is open; pictures may stand in links.
        let (mut heading, mut block) = (None::<String>, None::<Block>);
        let (mut links, mut is_in_table) = (Vec::<Link>::new(), false);
        let mut repeated = HashMap::new();
        for (event, range) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let heading = heading.take().unwrap_or_default();
                    page.anchors.insert(unique(anchor(&heading), &mut repeated));
                    if page.title.is_empty() {
                        page.title = heading;
                    }
                }
                Event::Start(Tag::Table(_)) => is_in_table = true,
                Event::End(TagEnd::Table) => is_in_table = false,
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push(link(dest_url.into_string(), &range, is_in_table));
                }
                Event::End(TagEnd::Link | TagEnd::Image) => page.links.extend(links.pop()),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let code = String::new();
                    block = Some(Block { language, code });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Text(ref part) | Event::Code(ref part) => {
                    let heading = heading.as_mut();
                    let link = links.last_mut().map(|link| &mut link.text);
                    let code = block.as_mut().map(|block| &mut block.code);
                    for open in [heading, link, code].into_iter().flatten() {
                        open.push_str(part);
                    }
                    if matches!(event, Event::Code(_)) {
                        page.blocks.push(Block {
                            language: String::new(),
                            code: part.to_string(),
                        });
                    }
                }
                _ => {}
            }
        }
        let undefined = undefined.into_iter();
        page.links
            .extend(undefined.map(|(to, range)| link(format!("[{to}]"), &range, false)));
        page
    }
}

/// The name of a heading in links, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    };
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(kept)
        .collect()
}

/// The second heading of a name is `name-1`.
fn unique(anchor: String, repeated: &mut HashMap<String, usize>) -> String {
    let count = repeated.entry(anchor.clone()).or_default();
    *count += 1;
    match *count {
        1 => anchor,
        more => format!("{anchor}-{}", more - 1),
    }
}

fn line(text: &str, range: &Range<usize>) -> usize {
    1 + text
        .get(..range.start)
        .unwrap_or(text)
        .matches('\n')
        .count()
}

/// The paths of the project's documents, in order.
pub(crate) fn paths(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    collect(root, root, &mut paths).map_err(|error| error.to_string())?;
    paths.sort();
    Ok(paths)
}

fn collect(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || NO_PAGES.contains(&name.as_ref()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(root, &path, paths)?;
        } else if name.ends_with(".md") {
            paths.extend(path.strip_prefix(root).map(Path::to_owned));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let text = "\
# The `page`: it, and its_parts
[one](a.md#b) and [two][undefined], not [this]

| a | b |
|---|---|
| [three *four*](c.md) | `d` |

## Again
## Again

```rust,no_run
# heading
```
";
        let page = Page::parse(Path::new("docs/x.md"), text);
        assert_eq!(page.title, "The page: it, and its_parts");
        let anchors: Vec<_> = page.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["again", "again-1", "the-page-it-and-its_parts"]);
        let links: Vec<_> = page
            .links
            .iter()
            .map(|link| {
                (
                    link.to.as_str(),
                    link.text.as_str(),
                    link.line,
                    link.is_in_table,
                )
            })
            .collect();
        let expected = [
            ("a.md#b", "one", 2, false),
            ("c.md", "three four", 6, true),
            ("[undefined]", "", 2, false),
        ];
        assert_eq!(links, expected);
        let blocks = page.blocks.iter();
        let blocks: Vec<_> = blocks.map(|b| (b.is_in("rust"), b.code.as_str())).collect();
        assert_eq!(
            blocks,
            [(false, "page"), (false, "d"), (true, "# heading\n")]
        );
    }
}

//! The lines by which everybody else knows a vendor.

use std::path::{Path, PathBuf};

use super::name::Name;

/// A line in a sorted list of a file.
struct Line {
    file: &'static str,
    /// The line above the list.
    below: &'static str,
    line: String,
}

fn lines(name: &Name, version: &str) -> Vec<Line> {
    let (feature, package) = (name.dashed(), name.package());
    let line = |file, below, line| Line { file, below, line };
    let mut lines = vec![
        line(
            "Cargo.toml",
            "[workspace.dependencies]",
            format!(
                "{package} = {{ path = \"{}\", version = \"{version}\" }}",
                name.folder()
            ),
        ),
        line(
            "crates/analytics-kit/Cargo.toml",
            "# One feature a vendor.",
            format!("{feature} = [\"dep:{package}\"]"),
        ),
        line(
            "crates/analytics-kit/Cargo.toml",
            "[dependencies]",
            format!("{package} = {{ workspace = true, optional = true }}"),
        ),
        line(
            "crates/analytics-kit/src/vendors.rs",
            "vendors! {",
            format!(
                "    \"{feature}\": analytics_{snake} as {snake},",
                snake = name.snake()
            ),
        ),
        line(
            "crates/analytics-cli/Cargo.toml",
            "default = [",
            format!("    \"{feature}\","),
        ),
        line(
            "crates/analytics-cli/Cargo.toml",
            "# stand in for.",
            format!("{feature} = [\"analytics-kit/{feature}\"]"),
        ),
        line(
            "crates/analytics-testkit/src/vendors/mod.rs",
            "vendors! {",
            format!("    {}: {}Vendor,", name.snake(), name.camel()),
        ),
    ];
    if name.looks_like_a_type() {
        let spelled = format!("    \"{}\",", name.spelled());
        lines.push(line("clippy.toml", "doc-valid-idents = [", spelled));
    }
    lines
}

/// Each file that names vendors, with one more in it.
pub(super) fn edits(root: &Path, name: &Name) -> Result<Vec<(PathBuf, String)>, String> {
    let mut edits: Vec<(PathBuf, String)> = Vec::new();
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let version = read(&root.join("Cargo.toml"))?
        .lines()
        .find_map(|line| line.strip_prefix("version = "))
        .map(|version| version.trim_matches('"').to_owned())
        .ok_or("Cargo.toml has no version")?;
    for line in lines(name, &version) {
        let path = root.join(line.file);
        let before = match edits.iter_mut().position(|(known, _)| *known == path) {
            Some(index) => edits.remove(index).1,
            None => read(&path)?,
        };
        let after = with_line(&before, line.below, &line.line)
            .ok_or_else(|| format!("{} has lost its line `{}`", line.file, line.below))?;
        edits.push((path, after));
    }
    Ok(edits)
}

/// The text with a line more in the sorted list below another line.
fn with_line(text: &str, below: &str, line: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|known| *known == below)? + 1;
    let list = lines.get(first..)?;
    let is_in_list = |known: &&&str| !known.is_empty() && !known.starts_with([']', '}', '[']);
    let before = list
        .iter()
        .take_while(is_in_list)
        .take_while(|known| **known < line)
        .count();
    lines.insert(first + before, line);
    let mut text = lines.join("\n");
    text.push('\n');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_finds_its_place() {
        let text = "x = 1\n[list]\nb = 1\nd = 1\n\na = 2\n";
        for (line, expected) in [
            ("a", "x = 1\n[list]\na\nb = 1\nd = 1\n\na = 2\n"),
            ("c", "x = 1\n[list]\nb = 1\nc\nd = 1\n\na = 2\n"),
            ("e", "x = 1\n[list]\nb = 1\nd = 1\ne\n\na = 2\n"),
        ] {
            assert_eq!(with_line(text, "[list]", line).unwrap(), expected);
        }
        assert_eq!(with_line(text, "[gone]", "a"), None);
    }

    #[test]
    fn every_place_is_still_there() {
        let root = crate::cargo::root();
        let name = Name::new("two-words", Some("TwoWords")).unwrap();
        let edits = edits(&root, &name).unwrap();
        assert_eq!(edits.len(), 6);
        for (path, text) in edits {
            let before = std::fs::read_to_string(&path).unwrap();
            assert!(text.len() > before.len(), "{}", path.display());
            let forms = ["two-words", "two_words", "TwoWords"];
            assert!(forms.iter().any(|form| text.contains(form)));
        }
    }
}

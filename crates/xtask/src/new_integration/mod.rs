//! `cargo xtask new-integration NAME [SPELLING]`

mod name;
pub(crate) mod rehearsal;
mod wiring;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use self::name::Name;
use crate::{Outcome, cargo, files_below, say, table};

/// What is copied, with a vendor called Acme in it.
const TEMPLATE: &str = "integrations/_template";

/// What the template's vendor leaves open is marked with this.
const MARK: &str = "FILL IN:";

/// Makes the crate of a vendor, makes everybody know it, and says what is left
/// to do.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (name, spelled) = match args {
        [name] => (name, None),
        [name, spelled] => (name, Some(spelled.as_str())),
        _ => {
            return Err(
                "say the vendor's name: `cargo xtask new-integration acme`, and how people \
                 spell it, if that is not `Acme`"
                    .to_owned(),
            );
        }
    };
    let name = Name::new(name, spelled)?;
    let root = cargo::root();
    let before = make(&root, &name)?;
    table::write().map_err(|problem| undone(&problem, before))?;
    say(&left_to_do(&name));
    Ok(())
}

/// A file's text before it was written, if there was one.
type Before = (PathBuf, Option<Vec<u8>>);

/// Everything but the table, which needs the command to be built. Says what there
/// was before.
fn make(root: &Path, name: &Name) -> Result<Vec<Before>, String> {
    name.check_free(root)?;
    // Nothing is written before everything is known to fit.
    let mut files = copies(root, name)?;
    files.extend(wiring::edits(root, name)?);
    // Cargo writes the one, and the table stands in the other.
    let others = ["Cargo.lock", "README.md"].map(|file| root.join(file));
    let paths = files.iter().map(|(path, _)| path.clone()).chain(others);
    let paths: BTreeSet<_> = paths.collect();
    let before: Vec<_> = paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).ok()))
        .collect();
    match write(root, name, files) {
        Ok(()) => Ok(before),
        Err(problem) => Err(undone(&problem, before)),
    }
}

/// The problem, after everything is as it was before, or what is not.
fn undone(problem: &str, before: Vec<Before>) -> String {
    match restore(before) {
        Ok(()) => format!("{problem}\nNothing was changed"),
        Err(left) => format!("{problem}\nNot all could be undone: {left}"),
    }
}

/// The files as they were; those that are new are gone, with their folders.
fn restore(before: Vec<Before>) -> Outcome {
    for (path, text) in before {
        let done = match text {
            Some(text) => fs::write(&path, text),
            None if path.exists() => fs::remove_file(&path),
            None => Ok(()),
        };
        done.map_err(|error| at(&path, &error))?;
        // A folder that still has something in it stays.
        for folder in path.ancestors().skip(1) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn write(root: &Path, name: &Name, files: Vec<(PathBuf, String)>) -> Outcome {
    for (path, text) in files {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
        }
        fs::write(&path, text).map_err(|error| at(&path, &error))?;
    }
    // A longer name breaks lines elsewhere, and imports are sorted by name.
    let package = name.package();
    let manifest = root.join("Cargo.toml");
    let format = [
        "fmt",
        "--package",
        &package,
        "--package",
        "analytics-testkit",
    ];
    cargo::quietly(&manifest, &format)
}

/// The template's files under the vendor's name, with their places.
fn copies(root: &Path, name: &Name) -> Result<Vec<(PathBuf, String)>, String> {
    let template = root.join(TEMPLATE);
    let mut copies = Vec::new();
    for path in files_below(&template).map_err(|error| at(&template, &error))? {
        let text = fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
        let inside = path.strip_prefix(&template).unwrap_or(&path);
        let to = if inside == Path::new("scripted.rs") {
            root.join(name.scripted())
        } else {
            root.join(name.folder()).join(inside)
        };
        copies.push((to, name.instead_of_acme(&text)));
    }
    Ok(copies)
}

/// What the template marks as open is filled in everywhere but there.
pub(crate) fn nothing_left_open(root: &Path) -> Outcome {
    let template = root.join(TEMPLATE);
    for place in ["integrations", "crates/analytics-testkit/src/vendors"] {
        let place = root.join(place);
        for path in files_below(&place).map_err(|error| at(&place, &error))? {
            let is_open = !path.starts_with(&template)
                && fs::read_to_string(&path).is_ok_and(|text| text.contains(MARK));
            if is_open {
                return Err(format!("{} has a `{MARK}`", path.display()));
            }
        }
    }
    Ok(())
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn left_to_do(name: &Name) -> String {
    let (folder, package, scripted) = (name.folder(), name.package(), name.scripted());
    format!(
        "\
{folder} is made, and known to the workspace, the facade, the command and the
README. What is left to do is marked with `{MARK}` there and in
{scripted}. This lists it:

  cargo test -p {package} --no-fail-fast

docs/new-integration.md goes through it with a real vendor. When the tests pass:

  cargo xtask table    # the kinds that it supports, in the README
  cargo xtask api      # what it makes public, in {folder}/api.txt
  cargo run -- demo    # with the new vendor
  cargo xtask check

and a line of CHANGELOG.md tells users.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let root = std::env::temp_dir().join(format!("xtask-restore-{}", std::process::id()));
        let (old, new) = (root.join("old"), root.join("made/src/new"));
        fs::create_dir_all(&root).unwrap();
        fs::write(&old, "before").unwrap();
        let before = vec![(old.clone(), fs::read(&old).ok()), (new.clone(), None)];

        fs::write(&old, "after").unwrap();
        fs::create_dir_all(new.parent().unwrap()).unwrap();
        fs::write(&new, "after").unwrap();
        let said = undone("the table cannot be written", before);
        assert_eq!(said, "the table cannot be written\nNothing was changed");
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
        assert!(!root.join("made").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}

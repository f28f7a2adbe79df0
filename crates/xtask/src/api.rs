//! `cargo xtask api`: what each package makes public, in a listing beside it.
//! Who changes it, changes the listing, and a reviewer sees that.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use public_api::Builder;
use serde_json::{Map, Value};

use crate::{Outcome, cargo, check, documentation, library, published, warn};

/// A package's listing, in its folder.
const LISTING: &str = "api.txt";

/// What comes with `PartialEq`, and nobody names.
const STRUCTURAL: &str = "core::marker::StructuralPartialEq";

/// Writes the listings anew.
pub(crate) fn write() -> Outcome {
    if let Some(other) = other_toolchain()? {
        return Err(other);
    }
    for (path, listing) in listings()? {
        fs::write(&path, listing).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Says what is public and not listed, and the reverse.
pub(crate) fn check() -> Outcome {
    if let Some(other) = other_toolchain()? {
        warn(&format!("left out: {other}"));
        return Ok(());
    }
    let mut differences = String::new();
    for (path, wanted) in listings()? {
        let listed = fs::read_to_string(&path).unwrap_or_default();
        if listed != wanted {
            let path = path.strip_prefix(cargo::root()).unwrap_or(&path);
            differences += &format!("\n{}{}", path.display(), difference(&listed, &wanted));
        }
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "what is public is not what is listed:\n{differences}\n\n\
             If that is meant, run `cargo xtask api` and commit the listings. What is gone or \
             changed (-) breaks who uses it: say so in CHANGELOG.md"
        ))
    }
}

/// Why there are no listings with this compiler: what rustdoc writes for
/// programs is another thing with each.
fn other_toolchain() -> Result<Option<String>, String> {
    let other = check::other_toolchain()?;
    Ok(other.map(|other| format!("what is public is listed with one compiler: {other}")))
}

/// Each published library's listing, with its place.
fn listings() -> Result<Vec<(PathBuf, String)>, String> {
    documentation::build("-Zunstable-options --output-format json", &["--lib"])?;
    let folder = cargo::metadata()?.target_directory.join("doc");
    let mut listings = Vec::new();
    for package in published()? {
        if let Some(library) = library(&package) {
            let json = folder.join(&library.name).with_extension("json");
            let path = package.manifest_path.with_file_name(LISTING);
            listings.push((path.into(), listing(json.as_std_path())?));
        }
    }
    Ok(listings)
}

/// An item a line, without what the compiler and other crates implement for
/// every type. Of what is derived, that it is says enough.
fn listing(json: &Path) -> Result<String, String> {
    let lines = |omits_derived| {
        let api = Builder::from_rustdoc_json(json)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(omits_derived)
            .build()
            .map_err(|error| format!("{}: {error}", json.display()))?;
        Ok::<_, String>(api.items().map(ToString::to_string).collect::<Vec<_>>())
    };
    let written: BTreeSet<_> = lines(true)?.into_iter().collect();
    let says_enough = |line: &str| line.starts_with("impl") && !line.contains(STRUCTURAL);
    let provided = provided(json)?;
    let marked = |line: String| {
        let mark = if is_provided(&line, &provided) {
            PROVIDED
        } else {
            ""
        };
        format!("{line}{mark}\n")
    };
    let all = lines(false)?.into_iter();
    Ok(all
        .filter(|line| written.contains(line) || says_enough(line))
        .map(marked)
        .collect())
}

/// What a trait's members have that implementors need not write.
const PROVIDED: &str = " // provided";

/// The provided members of traits, as `Trait::member`: what is public is listed
/// without that.
fn provided(json: &Path) -> Result<BTreeSet<String>, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", json.display());
    let text = fs::read(json).map_err(|error| at(&error))?;
    let documented: Value = serde_json::from_slice(&text).map_err(|error| at(&error))?;
    let nothing = Map::new();
    let items = documented
        .get("index")
        .and_then(Value::as_object)
        .unwrap_or(&nothing);
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut provided = BTreeSet::new();
    for item in items.values() {
        let members = item.pointer("/inner/trait/items").and_then(Value::as_array);
        for id in members.into_iter().flatten() {
            let Some(member) = items.get(&id.to_string()) else {
                continue;
            };
            let inner = |place: &str| member.pointer(&format!("/inner/{place}"));
            let has_body = inner("function/has_body") == Some(&Value::Bool(true));
            let has_default = ["assoc_const/value", "assoc_type/type"]
                .into_iter()
                .filter_map(inner)
                .any(|default| !default.is_null());
            if let (true, Some(of), Some(member)) =
                (has_body || has_default, name(item), name(member))
            {
                provided.insert(format!("{of}::{member}"));
            }
        }
    }
    Ok(provided)
}

/// Whether a line is about such a member: `pub fn a::b::Trait::member(&self)`.
fn is_provided(line: &str, provided: &BTreeSet<String>) -> bool {
    let Some((_, item)) = ["pub fn ", "pub async fn ", "pub const ", "pub type "]
        .iter()
        .find_map(|kind| line.split_once(kind))
    else {
        return false;
    };
    let end = item.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let path = item.get(..end.unwrap_or(item.len())).unwrap_or(item);
    let mut parts = path.trim_end_matches(':').rsplit("::");
    match (parts.next(), parts.next()) {
        (Some(member), Some(of)) => provided.contains(&format!("{of}::{member}")),
        _ => false,
    }
}

/// The lines of one listing that are not in the other.
fn difference(listed: &str, public: &str) -> String {
    let lines = |text| str::lines(text).collect::<BTreeSet<_>>();
    let (listed, public) = (lines(listed), lines(public));
    let gone = listed.difference(&public).map(|line| format!("\n- {line}"));
    let new = public.difference(&listed).map(|line| format!("\n+ {line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provided_members_are_known_by_their_trait() {
        let provided = BTreeSet::from(["Vendor::policies".to_owned(), "Vendor::PAGES".to_owned()]);
        for (line, expected) in [
            (
                "pub fn spec::vendor::Vendor::policies(&self) -> spec::Policies",
                true,
            ),
            ("pub fn spec::vendor::Vendor::steps(&self)", false),
            ("pub fn spec::Other::policies(&self)", false),
            ("pub const spec::vendor::Vendor::PAGES: bool", true),
            ("pub trait spec::vendor::Vendor: Send", false),
        ] {
            assert_eq!(is_provided(line, &provided), expected, "{line}");
        }
    }

    #[test]
    fn a_difference_is_of_lines() {
        let (listed, public) = ("pub a\npub b\n", "pub b\npub c\n");
        assert_eq!(difference(listed, public), "\n- pub a\n+ pub c");
        assert_eq!(difference(listed, listed), "");
    }
}

//! What a mapping does, in a file that people review.

use std::{collections::BTreeMap, fs, io};

use analytics_spec::{AnyInput, Kind, Timestamp, Value};
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::{Map, json};

use super::{
    checks::Base,
    places::{differences, leaves, listed, normal, text},
    report::Check,
    suite::Meaning,
    trial::{Run, accepting},
    with,
};

/// Compares the snapshot of a kind, or writes it.
pub(crate) async fn check(run: &Run<'_>, kind: Kind, input: &AnyInput, requests: &[Value]) {
    let found = json!({
        "requests": requests,
        "mapping": mapping(run, input, requests).await,
    });
    reviewed(run, Some(kind), &format!("{kind}.json"), &found);
}

/// Compares what the configurations of `also` send otherwise, by their names and the
/// kinds, or writes it; where that is nothing, there is no file.
pub(crate) fn also(run: &Run<'_>, found: &impl Serialize) {
    const FILE: &str = "also.json";
    let found = serde_json::to_value(found).unwrap_or_default();
    let path = run.suite.snapshots.join(FILE);
    let is_nothing = found.as_object().is_none_or(Map::is_empty);
    if !is_nothing {
        reviewed(run, None, FILE, &found);
    } else if path.exists() && !(run.suite.update && fs::remove_file(&path).is_ok()) {
        run.fail(
            Check::Snapshot,
            None,
            "no snapshot of other configurations, for none sends anything else",
            path.display().to_string(),
        );
    }
}

fn reviewed(run: &Run<'_>, kind: Option<Kind>, file: &str, found: &Value) {
    let path = run.suite.snapshots.join(file);
    if run.suite.update {
        if let Err(error) = write(&path, found) {
            let seen = format!("{}: {error}", path.display());
            run.fail(Check::Snapshot, kind, "the snapshot can be written", seen);
        }
        return;
    }
    let expected = format!("the requests of {}", path.display());
    let kept = match fs::read(&path) {
        Ok(kept) => kept,
        Err(error) => {
            run.fail(Check::Snapshot, kind, expected, error.to_string());
            return;
        }
    };
    match serde_json::from_slice::<Value>(&kept) {
        Ok(kept) => {
            let differences = differences(&kept, found);
            run.expect(
                differences.is_empty(),
                Check::Snapshot,
                kind,
                expected,
                || listed(&differences),
            );
        }
        Err(error) => run.fail(Check::Snapshot, kind, expected, error.to_string()),
    }
}

/// A file of a kind that is not declared any more is misleading.
pub(crate) fn no_others(run: &Run<'_>) {
    for kind in Kind::ALL {
        let path = run.suite.snapshots.join(format!("{kind}.json"));
        if path.exists() && !run.suite.kinds().contains(kind) {
            let seen = path.display().to_string();
            run.fail(
                Check::Snapshot,
                kind,
                "no snapshot of a kind that is not declared",
                seen,
            );
        }
    }
}

fn write(path: &std::path::Path, snapshot: &Value) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut text = serde_json::to_string_pretty(snapshot)?;
    text.push('\n');
    fs::write(path, text)
}

/// For each field of the input, the places in the requests that change with
/// it. Found by changing one field after the other, so that values that a
/// vendor gets hashed or converted are found too.
async fn mapping(run: &Run<'_>, input: &AnyInput, requests: &[Value]) -> BTreeMap<String, String> {
    let mut mapping = BTreeMap::new();
    let Ok(json) = serde_json::to_value(input) else {
        return mapping;
    };
    let Some(trial) = run.trial_of(input.kind(), accepting()) else {
        return mapping;
    };
    for leaf in leaves(&json) {
        let changed = changes(&leaf.value)
            .into_iter()
            .filter_map(|value| with(input, &leaf.pointer, value))
            .find(|changed| trial.accepts(changed));
        let places = match changed {
            Some(changed) => {
                trial.wire.restart(accepting());
                // A failure shows as a place too: requests are missing.
                let _ = trial.attempt(&changed).await;
                places(requests, &trial.documents())
            }
            None => "(cannot be changed)".to_owned(),
        };
        let field = leaf.pointer.trim_start_matches('/').replace('/', ".");
        mapping.insert(field, places);
    }
    mapping
}

/// Other values of the same type; the first that is valid will do.
fn changes(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => vec![json!(integer.wrapping_add(1))],
            (_, Some(float)) => vec![json!(float + 1.0), json!(float - 1.0)],
            _ => Vec::new(),
        },
        Value::String(string) => {
            if let Ok(time) = string.parse::<Timestamp>() {
                let later = time.saturating_add(SignedDuration::from_hours(1));
                return later.map_or_else(|_| Vec::new(), |later| vec![json!(later.to_string())]);
            }
            if string.parse::<std::net::IpAddr>().is_ok() {
                return vec![json!("198.51.100.77")];
            }
            vec![
                json!(format!("{string}x")),
                json!(format!("x{string}")),
                json!(string.to_uppercase()),
            ]
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Vec::new(),
    }
}

fn places(before: &[Value], after: &[Value]) -> String {
    if before.len() != after.len() {
        return "(the number of requests)".to_owned();
    }
    let is_one = before.len() == 1;
    let mut places = Vec::new();
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        for difference in differences(before, after) {
            let pointer = difference.pointer.trim_start_matches('/');
            places.push(if is_one {
                pointer.to_owned()
            } else {
                format!("{index}: {pointer}")
            });
        }
    }
    if places.is_empty() {
        return "(not sent)".to_owned();
    }
    places.join(", ")
}

/// Fields of which one never stands under the other's name, with the names
/// that vendors give them.
const NAMES: [(&str, &[&str]); 15] = [
    // Where one id stands for the person, it is the user's.
    (
        "userid",
        &[
            "userid",
            "distinctid",
            "identity",
            "externalid",
            "customerid",
        ],
    ),
    ("anonymousid", &["anonymousid", "deviceid"]),
    ("groupid", &["groupid"]),
    ("previoususerid", &["previoususerid", "previousid"]),
    ("messageid", &["messageid"]),
    ("firstname", &["firstname", "fname"]),
    ("lastname", &["lastname", "lname"]),
    ("latitude", &["latitude", "lat"]),
    ("longitude", &["longitude", "lng", "lon"]),
    ("width", &["width", "screenwidth"]),
    ("height", &["height", "screenheight"]),
    ("locale", &["locale"]),
    ("timezone", &["timezone"]),
    ("medium", &["medium", "utmmedium"]),
    ("term", &["term", "utmterm"]),
];

/// The name of the field that stands under a vendor's key, if every vendor's key
/// of that name has it.
fn known(key: &str) -> Option<&'static str> {
    let name = normal(key);
    let mut names = NAMES.iter();
    let found = names.find(|(_, names)| names.contains(&name.as_str()));
    found.map(|(field, _)| *field)
}

/// The values of the fields that have names, by those.
fn fields(run: &Run<'_>, kind: Kind, input: &AnyInput) -> BTreeMap<String, String> {
    let json = serde_json::to_value(input).unwrap_or_default();
    let meant: Vec<_> = run
        .suite
        .meant(kind)
        .map(|meaning| &meaning.field)
        .collect();
    let has_name =
        |name: &String| NAMES.iter().any(|(field, _)| field == name) || meant.contains(&name);
    let leaves = leaves(&json).into_iter();
    leaves
        .map(|leaf| (normal(&leaf.key), text(&leaf.value)))
        .filter(|(name, _)| has_name(name))
        .collect()
}

/// No field's value stands under another field's name.
pub(crate) fn names(run: &Run<'_>, kind: Kind, input: &AnyInput, requests: &[Value]) {
    let fields = fields(run, kind, input);
    let mut unknown = Vec::new();
    let mut is_known = false;
    for leaf in requests.iter().flat_map(leaves) {
        let value = text(&leaf.value);
        // What the test says of a place, is so there.
        let meant = run.suite.meant_by(kind, &leaf.pointer);
        let Some(field) = meant.or_else(|| known(&leaf.key)) else {
            let is_id = |id: &&str| fields.get(*id) == Some(&value);
            if let Some(id) = ALIASED.into_iter().find(is_id) {
                unknown.push(format!("{} is its {id}", leaf.pointer));
            }
            continue;
        };
        is_known |= ALIASED.contains(&field);
        if fields.get(field) == Some(&value) {
            continue;
        }
        if let Some((other, _)) = fields.iter().find(|(_, known)| **known == value) {
            run.fail(
                Check::Names,
                kind,
                format!(
                    "the {field} of the input, or nothing of it, at {}",
                    leaf.pointer
                ),
                format!("its {other}: {value:?}"),
            );
        }
    }
    run.expect(
        kind != Kind::Alias || is_known || unknown.is_empty(),
        Check::Setup,
        kind,
        "which key is for the id before and which for the one from now on, said with `means`: \
         neither has a name that tells",
        || unknown.join("; "),
    );
}

/// The ids that an alias makes one.
const ALIASED: [&str; 2] = ["userid", "previoususerid"];

/// What was said of a vendor's keys is about some that there are.
pub(crate) fn meanings(run: &Run<'_>, bases: &[Base]) {
    for kind in Kind::ALL {
        let base = bases.iter().find(|base| base.kind == kind);
        if base.is_none() && run.suite.kinds().contains(kind) {
            continue;
        }
        for meaning in run.suite.meant(kind) {
            let has_key = |base: &Base| {
                let mut leaves = base.documents.iter().flat_map(leaves);
                leaves.any(|leaf| meaning.is_of(&leaf.pointer))
            };
            let has_field =
                |base: &Base| fields(run, kind, &base.input).contains_key(&meaning.field);
            let Meaning { key, field, .. } = meaning;
            for (what, holds) in [
                (
                    format!("{key:?}, a key of the requests"),
                    base.is_some_and(has_key),
                ),
                (
                    format!("{field:?}, a field of the event"),
                    base.is_some_and(has_field),
                ),
            ] {
                run.expect(
                    holds,
                    Check::Setup,
                    kind,
                    format!("`means` names {what}"),
                    || "there is none".to_owned(),
                );
            }
        }
    }
}

//! What a mapping does, in a file that people review.

use std::{collections::BTreeMap, fs, io};

use analytics_spec::{AnyInput, Kind, Timestamp, Value};
use jiff::SignedDuration;
use serde_json::{Map, json};

use super::{
    places::{differences, leaves, listed, text},
    report::Check,
    trial::{Run, accepting},
    with,
};

/// Compares the snapshot of a kind, or writes it.
pub(crate) async fn check(run: &Run<'_>, kind: Kind, input: &AnyInput, requests: &[Value]) {
    let path = run.suite.snapshots.join(format!("{kind}.json"));
    let found = json!({
        "requests": requests,
        "mapping": mapping(run, input, requests).await,
    });
    if run.suite.update {
        if let Err(error) = write(&path, &found) {
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
            let differences = differences(&kept, &found);
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

/// No field's value stands under another field's name.
pub(crate) fn names(run: &Run<'_>, kind: Kind, input: &AnyInput, requests: &[Value]) {
    let Ok(json) = serde_json::to_value(input) else {
        return;
    };
    let mut fields: Map<String, Value> = Map::new();
    for leaf in leaves(&json) {
        let name = super::places::normal(&leaf.key);
        if NAMES.iter().any(|(field, _)| *field == name) {
            fields.insert(name, Value::from(text(&leaf.value)));
        }
    }
    for leaf in requests.iter().flat_map(leaves) {
        let name = super::places::normal(&leaf.key);
        let Some((field, _)) = NAMES
            .iter()
            .find(|(_, names)| names.contains(&name.as_str()))
        else {
            continue;
        };
        let value = Value::from(text(&leaf.value));
        let meant = run.suite.meant_by(kind, &leaf.key);
        if fields.get(*field) == Some(&value) || meant.and_then(|f| fields.get(&f)) == Some(&value)
        {
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
                format!("its {other}: {value}"),
            );
        }
    }
}

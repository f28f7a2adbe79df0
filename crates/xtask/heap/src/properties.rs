//! What Heap takes as a property: text, a number, or a list of them.
//!
//! <https://developers.heap.io/reference/track-1>

use analytics_spec::{Code, Map, Value, Violation};

/// A text has fewer characters than this.
const MAX_CHARS: usize = 1024;

/// The entries of a dictionary as properties. Those of an object stand beside
/// the others, `address.city`; what is neither text nor number becomes text.
pub(crate) fn flat(entries: &Map<String, Value>) -> Map<String, Value> {
    let mut properties = Map::new();
    insert(&mut properties, "", entries);
    properties
}

fn insert(properties: &mut Map<String, Value>, before: &str, entries: &Map<String, Value>) {
    // Objects last: nothing that is called `address.city` by itself replaces
    // the city of an address.
    for (key, value) in entries {
        let key = format!("{before}{key}");
        match value {
            Value::Null | Value::Object(_) => {}
            Value::Array(values) => {
                properties.insert(key, values.iter().map(scalar).collect());
            }
            value => {
                properties.insert(key, scalar(value));
            }
        }
    }
    for (key, value) in entries {
        if let Value::Object(inner) = value {
            insert(properties, &format!("{before}{key}."), inner);
        }
    }
}

fn scalar(value: &Value) -> Value {
    match value {
        Value::String(_) | Value::Number(_) => value.clone(),
        other => Value::from(other.to_string()),
    }
}

/// What Heap would refuse, or cut.
pub(crate) fn violations(path: &str, entries: &Map<String, Value>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, value) in &flat(entries) {
        let mut is_wrong = |code, message: String| {
            violations.push(Violation::new(format!("{path}.{key}"), code, message));
        };
        let longest = key.chars().count().max(chars(value));
        if longest >= MAX_CHARS {
            is_wrong(
                Code::TooLong,
                format!("has {longest} characters; Heap takes fewer than {MAX_CHARS}"),
            );
        }
        if key.eq_ignore_ascii_case("id") {
            is_wrong(
                Code::Reserved,
                "Heap has a property of this name".to_owned(),
            );
        }
    }
    violations
}

/// As Heap counts: the values of a list become one text, with `||` between.
fn chars(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(values) => {
            let between = 2 * values.len().saturating_sub(1);
            values.iter().map(chars).sum::<usize>() + between
        }
        _ => 0,
    }
}

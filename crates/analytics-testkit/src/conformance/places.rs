//! Requests and inputs taken apart: leaves, texts and differences.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::wire::Sent;

/// What stands for a value that may differ between attempts.
const VOLATILE: &str = "(volatile)";

/// A value without members, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    /// The JSON pointer.
    pub(crate) pointer: String,
    /// The last key on the way, without indices.
    pub(crate) key: String,
    pub(crate) value: Value,
}

/// Every leaf of a JSON value, in its order.
pub(crate) fn leaves(value: &Value) -> Vec<Leaf> {
    fn walk(value: &Value, pointer: &str, key: &str, into: &mut Vec<Leaf>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let escaped = key.replace('~', "~0").replace('/', "~1");
                    walk(value, &format!("{pointer}/{escaped}"), key, into);
                }
            }
            Value::Array(values) if !values.is_empty() => {
                for (index, value) in values.iter().enumerate() {
                    walk(value, &format!("{pointer}/{index}"), key, into);
                }
            }
            leaf => into.push(Leaf {
                pointer: pointer.to_owned(),
                key: key.to_owned(),
                value: leaf.clone(),
            }),
        }
    }
    let mut into = Vec::new();
    walk(value, "", "", &mut into);
    into
}

/// A leaf's text: a string's own, anything else as JSON writes it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A name without case and punctuation: `userId`, `$user_id` are `userid`.
pub(crate) fn normal(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Headers that say how often a request was sent before may differ.
pub(crate) fn counts_retries(header: &str) -> bool {
    header.contains("retry") || header.contains("attempt")
}

impl Sent {
    /// The body: JSON where it is JSON, else text.
    pub(crate) fn body(&self) -> Value {
        let body = &self.request.body;
        if body.is_empty() {
            return Value::Null;
        }
        let media = self.request.media_type();
        readable(&String::from_utf8_lossy(body), media.as_deref())
    }

    /// The request as JSON, to be compared and kept: volatile values are
    /// masked, and what names our version or counts retries is left out.
    pub(crate) fn document(&self, volatile: &[String]) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.request.headers {
            let name = name.as_str();
            if name == "user-agent" || counts_retries(name) {
                continue;
            }
            let value = if volatile.iter().any(|known| known == name) {
                VOLATILE.to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            let all = match headers.get(name).and_then(Value::as_str) {
                Some(before) => format!("{before}, {value}"),
                None => value,
            };
            headers.insert(name.to_owned(), Value::from(all));
        }
        let mut document = Map::new();
        document.insert("method".to_owned(), self.request.method.clone().into());
        document.insert("url".to_owned(), self.url.clone().into());
        document.insert("headers".to_owned(), Value::Object(headers));
        let mut body = self.body();
        if !body.is_null() {
            mask(&mut body, volatile);
            document.insert("body".to_owned(), body);
        }
        Value::Object(document)
    }

    /// Every text in the request that may say which event it carries.
    pub(crate) fn tokens(&self) -> BTreeSet<String> {
        let mut tokens: BTreeSet<String> = self
            .request
            .path
            .split('/')
            .map(str::to_owned)
            .chain(self.request.query.iter().map(|(_, value)| value.clone()))
            .chain([format!("{} {}", self.request.method, self.url)])
            .collect();
        for leaf in leaves(&self.body()) {
            tokens.insert(text(&leaf.value));
        }
        tokens
    }

    /// What the URL consists of, whatever ids are in it. As HTTP clients read
    /// it: `..` takes a segment away.
    pub(crate) fn url_shape(&self) -> String {
        let Ok(url) = url::Url::parse(&self.url) else {
            return "not a URL".to_owned();
        };
        let segments = url.path_segments().map_or(0, Iterator::count);
        let keys: Vec<_> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
        format!(
            "{} with {segments} segments and the query keys [{}]{}",
            url.origin().ascii_serialization(),
            keys.join(", "),
            if url.fragment().is_some() {
                " and a fragment"
            } else {
                ""
            }
        )
    }

    /// `POST https://host/path`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.request.method, self.url)
    }
}

/// A body as JSON: what is no JSON is a text, and a form has JSON in its fields.
pub(crate) fn readable(body: &str, media_type: Option<&str>) -> Value {
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    if media_type != Some("application/x-www-form-urlencoded") {
        return parsed(body);
    }
    let fields = url::form_urlencoded::parse(body.as_bytes());
    let fields = fields.map(|(key, value)| (key.into_owned(), parsed(&value)));
    Value::Object(fields.collect())
}

fn mask(value: &mut Value, keys: &[String]) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if keys.contains(key) {
                    *value = Value::from(VOLATILE);
                } else {
                    mask(value, keys);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mask(value, keys)),
        _ => {}
    }
}

/// A place where two JSON values differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) pointer: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |value: &Option<Value>| match value {
            Some(value) => shorten(&value.to_string()),
            None => "absent".to_owned(),
        };
        let pointer = if self.pointer.is_empty() {
            "/"
        } else {
            &self.pointer
        };
        write!(
            f,
            "{pointer}: {} became {}",
            show(&self.before),
            show(&self.after)
        )
    }
}

/// A text of at most some 160 characters.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 160;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Where two JSON values differ.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    fn walk(before: Option<&Value>, after: Option<&Value>, at: &str, into: &mut Vec<Difference>) {
        match (before, after) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let escaped = key.replace('~', "~0").replace('/', "~1");
                    walk(a.get(key), b.get(key), &format!("{at}/{escaped}"), into);
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                for index in 0..a.len().max(b.len()) {
                    walk(a.get(index), b.get(index), &format!("{at}/{index}"), into);
                }
            }
            (before, after) if before == after => {}
            (before, after) => into.push(Difference {
                pointer: at.to_owned(),
                before: before.cloned(),
                after: after.cloned(),
            }),
        }
    }
    let mut into = Vec::new();
    walk(Some(before), Some(after), "", &mut into);
    into
}

/// The first differences, for a report.
pub(crate) fn listed(differences: &[Difference]) -> String {
    const MOST: usize = 8;
    let mut lines: Vec<_> = differences
        .iter()
        .take(MOST)
        .map(ToString::to_string)
        .collect();
    if differences.len() > MOST {
        lines.push(format!("and {} more", differences.len() - MOST));
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_have_their_places() {
        let before = json!({"a": [1, {"b/c": "x"}], "d": null});
        let after = json!({"a": [1, {"b/c": "y"}, 3]});
        assert_eq!(
            listed(&differences(&before, &after)),
            r#"/a/1/b~1c: "x" became "y"; /a/2: absent became 3; /d: null became absent"#
        );
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn leaves_keep_the_nearest_key() {
        let found = leaves(&json!({"a": {"ids": ["x", "y"]}, "e": {}}));
        let found: Vec<_> = found
            .iter()
            .map(|leaf| (leaf.pointer.as_str(), leaf.key.as_str()))
            .collect();
        assert_eq!(
            found,
            [("/a/ids/0", "ids"), ("/a/ids/1", "ids"), ("/e", "e")]
        );
    }

    #[test]
    fn the_fields_of_a_form_are_read() {
        let form = "key=k%2B1&all=%5B%7B%22id%22%3A%22u+1%22%7D%5D";
        let media = Some("application/x-www-form-urlencoded");
        let fields = json!({"key": "k+1", "all": [{"id": "u 1"}]});
        assert_eq!(readable(form, media), fields);
        assert_eq!(readable(form, None), json!(form));
        assert_eq!(readable("[1]", None), json!([1]));
    }
}

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a vendor answered.
///
/// Where an event took several requests, it is the last one's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status_code: u16,
    /// Every header, its name in lower case, with all its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// JSON where the vendor answered JSON, else a string; absent if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The body was longer than what is kept here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl HttpResponse {
    /// An answer without headers and body.
    #[must_use]
    pub fn new(status_code: u16) -> Self {
        Self {
            status_code,
            ..Self::default()
        }
    }

    /// Adds a value to a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.into());
        self
    }

    /// Sets the body: JSON, or text as a JSON string.
    #[must_use]
    pub fn body(mut self, body: impl Into<Value>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Whether the status is 2xx, which alone does not mean success.
    #[must_use]
    pub fn is_2xx(&self) -> bool {
        (200..300).contains(&self.status_code)
    }

    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }

    /// A member of a JSON object body.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.body.as_ref()?.get(key)
    }
}

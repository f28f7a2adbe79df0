use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    Code,
    decode::{Decode, Reader},
};

/// What a vendor answered to the last request of an event.
///
/// ```
/// # use analytics_spec::HttpResponse;
/// let response = HttpResponse::new(429)
///     .header("Retry-After", "3")
///     .body("slow down");
/// assert_eq!(
///     serde_json::to_string(&response)?,
///     r#"{"status_code":429,"headers":{"retry-after":["3"]},"body":"slow down"}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status_code: u16,
    /// Every header, its name in lower case, with all its values.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub headers: BTreeMap<String, Vec<String>>,
    /// JSON where the vendor answered JSON, else a string; absent if empty or
    /// `null`.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub body: Option<Value>,
    /// Whether the body was longer than what is kept here.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub truncated: bool,
}

impl HttpResponse {
    /// An answer of this status, without headers and body.
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

    /// Sets the body: JSON, or text as a JSON string. `null` is no body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Value>) -> Self {
        self.body = Some(body.into()).filter(|body| !body.is_null());
        self
    }

    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }

    /// A member of the body, if that is a JSON object.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.body.as_ref()?.get(key)
    }
}

impl Decode for HttpResponse {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        if !value.is_object() {
            return reader.mismatch("an object", &value);
        }
        serde_json::from_value(value)
            .map_err(|error| reader.violation(Code::Type, error.to_string()))
            .ok()
    }
}

fn is_nothing(body: &Option<Value>) -> bool {
    body.as_ref().is_none_or(Value::is_null)
}

/// Reads `null` as what is absent.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

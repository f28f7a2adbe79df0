//! Configuration by key: from a file's table, completed from environment
//! variables, checked before anything is built.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, Visitor},
};
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use crate::{
    Error, Integration, Kind, Policies, ValidationError,
    decode::{self, Reader},
    integration::Support,
};

/// What distinguishes one instance of a vendor from another, whichever the
/// vendor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Instance {
    /// The instance's name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Its policies; what they leave open is the vendor's.
    pub policies: Policies,
    /// Whether inputs may bring policies of their own.
    pub allow_policies_override: bool,
}

impl Instance {
    /// An instance with a name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            policies: Policies::new(),
            allow_policies_override: false,
        }
    }

    /// Sets its policies.
    #[must_use]
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// Lets inputs bring policies of their own.
    #[must_use]
    pub fn allow_policies_override(mut self, allow: bool) -> Self {
        self.allow_policies_override = allow;
        self
    }

    /// Checks the name and the policies.
    ///
    /// # Errors
    ///
    /// A [configuration](crate::ErrorKind::Configuration) error that says what
    /// is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(fits) {
            return Err(Error::configuration(format!(
                "the name {:?} must be letters, digits, `_`, `-` and `.`",
                self.name
            )));
        }
        let mut reader = Reader::default();
        self.policies.check(&mut reader);
        ValidationError::check(reader.finish())
            .map_err(|error| Error::configuration(error.to_string()))
    }
}

/// A vendor's configuration: a struct whose fields are its keys.
///
/// A key that is absent may be filled from the environment variable
/// [`variable`]`(VENDOR, key)`, such as `SEGMENT_WRITE_KEY`.
pub trait VendorConfig: DeserializeOwned {
    /// The vendor's name, in lower case: `segment`.
    const VENDOR: &'static str;

    /// What the configured instance will be.
    type Integration: Integration;

    /// What the vendor can do with a kind of event.
    fn support(kind: Kind) -> Support;

    /// Checks the configuration and makes an instance of it.
    ///
    /// # Errors
    ///
    /// A [configuration](crate::ErrorKind::Configuration) error that names the
    /// key, and the variable that could have filled it.
    fn build_as(self, instance: Instance) -> Result<Self::Integration, Error>;
}

/// The environment variable that fills a key: `SEGMENT_WRITE_KEY`.
#[must_use]
pub fn variable(vendor: &str, key: &str) -> String {
    let upper = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("{}_{}", upper(vendor), upper(key))
}

/// The error for a required key that is missing or blank.
#[must_use]
pub fn missing(vendor: &str, key: &str) -> Error {
    Error::configuration(format!(
        "{vendor} needs `{key}`: set it in the configuration, or {} in the environment",
        variable(vendor, key)
    ))
}

/// The error for a key that is not among the `known` ones; it names the
/// nearest.
#[must_use]
pub fn unknown(key: &str, known: &[&str]) -> Error {
    Error::configuration(decode::unknown_message(key, known))
}

/// Reads a vendor's configuration from a table. Any string in it may be
/// `{ env = "VAR" }`; keys that it leaves out, or that are `null`, are filled
/// from `env`, where that has their conventional [`variable`] and it is not
/// blank: text, or a JSON object for a table.
///
/// # Errors
///
/// Unknown keys, each with the nearest known one; variables that are not set;
/// values of the wrong type, with their key. No error repeats a text: it may be
/// a credential under a wrong key.
pub fn read<C: VendorConfig>(
    mut table: Map<String, Value>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<C, Error> {
    let known = keys::<C>();
    for key in table.keys() {
        if !known.contains(&key.as_str()) {
            return Err(unknown(key, known));
        }
    }
    table.retain(|_, value| !value.is_null());
    for (key, value) in &mut table {
        resolve(key, value, env)?;
    }
    let mut filled = Vec::new();
    for &key in known {
        if table.contains_key(key) {
            continue;
        }
        let variable = variable(C::VENDOR, key);
        if let Some(value) = env(&variable).filter(|value| !value.trim().is_empty()) {
            table.insert(key.to_owned(), written(value));
            filled.push((key, variable));
        }
    }
    let table = Value::Object(table);
    serde_path_to_error::deserialize(&table).map_err(|error| {
        let path = error.path().to_string();
        let source = filled.iter().find(|(key, _)| *key == path);
        let at = at(&table, error.path());
        let error = without_texts(error.into_inner().to_string(), at);
        Error::configuration(match source {
            Some((key, variable)) => format!("`{key}`, from {variable}: {error}"),
            // The whole table, which has no name.
            None if path == "." => error,
            None => format!("`{path}`: {error}"),
        })
    })
}

/// The value at a path, as far as that leads.
fn at<'a>(table: &'a Value, path: &Path) -> &'a Value {
    let mut value = table;
    for segment in path {
        let inner = match segment {
            Segment::Map { key } => value.get(key),
            Segment::Seq { index } => value.get(index),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(inner) = inner else { break };
        value = inner;
    }
    value
}

/// An error's words without the texts that they are about: any of them may be
/// a credential that was written under another key than its own.
fn without_texts(message: String, value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => message
            .replace(&format!("{text:?}"), "[redacted]")
            .replace(&format!("`{text}`"), "[redacted]"),
        Value::Array(values) => values.iter().fold(message, without_texts),
        Value::Object(table) => table.values().fold(message, without_texts),
        _ => message,
    }
}

/// A variable's value: a table where it is written as a JSON object, else text.
fn written(value: String) -> Value {
    match serde_json::from_str(&value) {
        Ok(Value::Object(table)) => Value::Object(table),
        _ => Value::String(value),
    }
}

/// The keys of a configuration: the names of its struct's fields.
#[must_use]
pub fn keys<C: VendorConfig>() -> &'static [&'static str] {
    let fields = Cell::new(&[][..]);
    // The error is the probe's own: it stops as soon as it has seen the names.
    let _ = C::deserialize(Probe(&fields));
    fields.get()
}

/// Replaces `{ env = "VAR" }` by what the variable holds, at any depth.
fn resolve(
    key: &str,
    value: &mut Value,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Error> {
    let table = match value {
        Value::Object(table) => table,
        Value::Array(values) => {
            return values
                .iter_mut()
                .enumerate()
                .try_for_each(|(index, value)| resolve(&format!("{key}[{index}]"), value, env));
        }
        _ => return Ok(()),
    };
    if table.len() == 1
        && let Some(Value::String(name)) = table.get("env")
    {
        let found = env(name).ok_or_else(|| {
            Error::configuration(format!(
                "`{key}`: the environment variable {name} is not set"
            ))
        })?;
        *value = Value::String(found);
        return Ok(());
    }
    table
        .iter_mut()
        .try_for_each(|(inner, value)| resolve(&format!("{key}.{inner}"), value, env))
}

/// Reads a boolean that may be written as text, as environment variables have
/// it. For `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// Anything but `true` and `false`.
pub fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected true or false")]
    enum Written {
        Boolean(bool),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Boolean(value) => Ok(value),
        Written::Text(text) => {
            let wrong = |_| D::Error::custom("expected true or false, found another text");
            text.trim().parse().map_err(wrong)
        }
    }
}

/// Reads a text that people also write as a whole number, such as a project's
/// id. For `#[serde(deserialize_with)]`, with `default`.
///
/// # Errors
///
/// Anything else.
pub fn text_or_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a whole number")]
    enum Written {
        Text(String),
        Number(u64),
    }
    let written = Option::<Written>::deserialize(deserializer)?;
    Ok(written.map(|written| match written {
        Written::Text(text) => text,
        Written::Number(number) => number.to_string(),
    }))
}

/// A deserializer that learns a struct's field names and then stops.
struct Probe<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("only field names are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.set(fields);
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

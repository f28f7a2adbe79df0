//! Violations: all of them at once, each with its place, a stable code and a
//! sentence.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::decode::Reader;

/// What kind of rule a violation breaks. The codes are stable; programs may
/// match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// It is not JSON, or not a JSON object.
    Malformed,
    /// A key stands twice in one object.
    DuplicateKey,
    /// A field that does not exist.
    UnknownField,
    /// A value of another JSON type than the field has.
    Type,
    /// A value that its type does not allow: a time, an address, a duration.
    Format,
    /// Something is missing or empty.
    Required,
    /// More characters than allowed.
    TooLong,
    /// More bytes, entries or levels than allowed.
    TooLarge,
    /// A number outside its range.
    OutOfRange,
    /// Two things that exclude each other.
    Conflict,
    /// A value that is reserved or refused by the vendor.
    Reserved,
    /// Something that the configuration does not allow.
    NotAllowed,
}

impl Code {
    /// The code as it is written: `required`, `too_long`, ...
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::DuplicateKey => "duplicate_key",
            Self::UnknownField => "unknown_field",
            Self::Type => "type",
            Self::Format => "format",
            Self::Required => "required",
            Self::TooLong => "too_long",
            Self::TooLarge => "too_large",
            Self::OutOfRange => "out_of_range",
            Self::Conflict => "conflict",
            Self::Reserved => "reserved",
            Self::NotAllowed => "not_allowed",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where, from the envelope's top: `track.event`; `$` is the envelope.
    pub path: String,
    /// Which kind of rule.
    pub code: Code,
    /// A sentence that says what is wrong and what would be right.
    pub message: String,
}

impl Violation {
    /// A broken rule at a path.
    #[must_use]
    pub fn new(path: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.code, self.message)
    }
}

/// Everything that is wrong with an input. There is at least one violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValidationError {
    violations: Vec<Violation>,
}

impl ValidationError {
    /// One broken rule.
    #[must_use]
    pub fn new(path: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Violation::new(path, code, message).into()
    }

    /// `Ok` if nothing is broken.
    ///
    /// # Errors
    ///
    /// All `violations`, if there are any.
    pub fn check(violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Self { violations })
        }
    }

    /// What is broken, in the order in which it was found.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What is broken.
    #[must_use]
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }
}

impl From<Violation> for ValidationError {
    fn from(violation: Violation) -> Self {
        Self {
            violations: vec![violation],
        }
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.violations.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            violation.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationError {}

/// How many levels of arrays and objects a value in a dictionary may have.
/// JSON readers stop at about 128; the envelopes around need some of them.
pub const MAX_LEVELS: usize = 100;

/// Adds the entries of a dictionary that no reader would read back.
pub(crate) fn check_nesting(dictionary: &Map<String, Value>, reader: &mut Reader) {
    for (key, value) in dictionary {
        if !has_at_most(MAX_LEVELS, value) {
            reader.at(key.clone(), |r| {
                r.violation(
                    Code::TooLarge,
                    format!("has more than {MAX_LEVELS} levels of arrays and objects"),
                );
            });
        }
    }
}

/// Whether `value` has at most so many levels. Goes no deeper than that.
fn has_at_most(levels: usize, value: &Value) -> bool {
    let inner = levels.checked_sub(1);
    let fits = |value| inner.is_some_and(|levels| has_at_most(levels, value));
    match value {
        Value::Array(values) => inner.is_some() && values.iter().all(fits),
        Value::Object(map) => inner.is_some() && map.values().all(fits),
        _ => true,
    }
}

//! From a JSON value to a type, with every violation and its path.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, time::Duration};

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::{
    Timestamp,
    nearest::nearest,
    policies,
    validation::{Code, Violation},
    visible::visible,
};

/// Where the decoding or the checking of a value stands, and what it found
/// wrong.
#[derive(Debug, Default)]
pub struct Reader {
    /// In place: nearly every event is valid.
    path: SmallVec<[Cow<'static, str>; 4]>,
    violations: Vec<Violation>,
}

impl Reader {
    pub(crate) fn at<R>(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        read: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.path.push(key.into());
        let result = read(self);
        self.path.pop();
        result
    }

    pub(crate) fn violation(&mut self, code: Code, message: impl Into<String>) {
        let path = if self.path.is_empty() {
            "$".to_owned()
        } else {
            let keys: Vec<_> = self.path.iter().map(|key| shown(key)).collect();
            keys.join(".")
        };
        self.violations.push(Violation::new(path, code, message));
    }

    pub(crate) fn unknown(&mut self, key: String, known: &[&str]) {
        let message = unknown_message(&key, known);
        self.at(key, |r| r.violation(Code::UnknownField, message));
    }

    /// A reader that goes on from what was found before.
    pub(crate) fn after(violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..Self::default()
        }
    }

    pub(crate) fn finish(self) -> Vec<Violation> {
        self.violations
    }

    pub(crate) fn mismatch<T>(&mut self, expected: &str, found: &Value) -> Option<T> {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.violation(Code::Type, format!("expected {expected}, found {found}"));
        None
    }

    fn badly_formed<T>(&mut self, expected: &str) -> Option<T> {
        self.violation(Code::Format, format!("expected {expected}"));
        None
    }
}

/// A key as a violation shows it: somebody else's text, so short, and without
/// what a terminal takes for a command.
pub(crate) fn shown(key: &str) -> String {
    const MAX_CHARS: usize = 64;
    let start: String = key.chars().take(MAX_CHARS).collect();
    let mut shown = visible(&start);
    if key.chars().nth(MAX_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The sentence for a key that is not among the `known` ones.
pub(crate) fn unknown_message(key: &str, known: &[&str]) -> String {
    let key = &shown(key);
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("`{key}` is not known here: did you mean `{near}`?"),
        None => format!("`{key}` is not known here: known are {}", known.join(", ")),
    }
}

/// A type that is read from JSON. `None` after a violation.
pub(crate) trait Decode: Sized {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self>;
}

/// The members of an object; `null` ones count as absent.
pub(crate) fn members(
    value: Value,
    reader: &mut Reader,
) -> Option<impl Iterator<Item = (String, Value)> + use<>> {
    let map = Map::decode(value, reader)?;
    Some(map.into_iter().filter(|(_, value)| !value.is_null()))
}

impl Decode for String {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        match value {
            Value::String(string) => Some(string),
            other => reader.mismatch("a string", &other),
        }
    }
}

impl Decode for bool {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        match value {
            Value::Bool(boolean) => Some(boolean),
            other => reader.mismatch("a boolean", &other),
        }
    }
}

impl Decode for f64 {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        match value.as_f64() {
            Some(number) => Some(number),
            None => reader.mismatch("a number", &value),
        }
    }
}

impl Decode for u32 {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        match value.as_u64().map(Self::try_from) {
            Some(Ok(number)) => Some(number),
            _ if value.is_number() => {
                reader.violation(
                    Code::OutOfRange,
                    "expected a whole number of at most 32 bits",
                );
                None
            }
            _ => reader.mismatch("a whole number", &value),
        }
    }
}

impl Decode for IpAddr {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        let parsed = String::decode(value, reader)?.parse();
        match parsed {
            Ok(address) => Some(address),
            Err(_) => reader.badly_formed("an IPv4 or IPv6 address"),
        }
    }
}

impl Decode for Timestamp {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        let text = String::decode(value, reader)?;
        match text.parse() {
            Ok(timestamp) if is_rfc3339(&text) => Some(timestamp),
            _ => reader.badly_formed("a time as RFC 3339 has it: 2026-03-01T12:00:00Z"),
        }
    }
}

/// Whether a time has the form of RFC 3339: the library that reads it also
/// takes other forms of ISO 8601, which other readers of the same JSON refuse.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is = |index: usize, expected: &[u8]| {
        bytes.get(index).is_some_and(|byte| expected.contains(byte))
    };
    let from_end = |back: usize| bytes.len().checked_sub(back).unwrap_or(usize::MAX);
    let has_zone = is(from_end(1), b"Zz") || (is(from_end(6), b"+-") && is(from_end(3), b":"));
    is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":") && has_zone
}

impl Decode for Duration {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        const EXPECTED: &str = "a duration: a string such as \"2s\" or \"1m30s\", or nanoseconds";
        let parsed = match &value {
            Value::String(string) => policies::parse_duration(string),
            Value::Number(number) => number.as_u64().map(Self::from_nanos),
            other => return reader.mismatch(EXPECTED, other),
        };
        parsed.or_else(|| reader.badly_formed(EXPECTED))
    }
}

/// A free dictionary: a `null` in it may mean something to a vendor.
impl Decode for Map<String, Value> {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        match value {
            Value::Object(map) => Some(map),
            other => reader.mismatch("an object", &other),
        }
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        let mut decoded = Self::new();
        for (key, value) in members(value, reader)? {
            if let Some(value) = reader.at(key.clone(), |r| T::decode(value, r)) {
                decoded.insert(key, value);
            }
        }
        Some(decoded)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        let Value::Array(values) = value else {
            return reader.mismatch("an array", &value);
        };
        let decoded = values
            .into_iter()
            .enumerate()
            .filter_map(|(index, value)| reader.at(index.to_string(), |r| T::decode(value, r)))
            .collect();
        Some(decoded)
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        T::decode(value, reader).map(Self::new)
    }
}

/// A type whose values can be completed from a base: own values win.
pub(crate) trait Inherit: Clone {
    /// Takes from `base` what is missing here.
    fn inherit(&mut self, base: &Self);
}

macro_rules! whole {
    ($($Type:ty),*) => {$(
        /// A whole: there is nothing in it to complete.
        impl Inherit for $Type {
            fn inherit(&mut self, _: &Self) {}
        }
    )*};
}
whole!(
    String,
    bool,
    f64,
    u32,
    IpAddr,
    Timestamp,
    Duration,
    Vec<String>
);

impl<T: Inherit> Inherit for Option<T> {
    fn inherit(&mut self, base: &Self) {
        match (self.as_mut(), base) {
            (Some(own), Some(base)) => own.inherit(base),
            (None, Some(base)) => *self = Some(base.clone()),
            (_, None) => {}
        }
    }
}

impl<T: Inherit> Inherit for Box<T> {
    fn inherit(&mut self, base: &Self) {
        self.as_mut().inherit(base);
    }
}

impl<T: Clone> Inherit for BTreeMap<String, T> {
    fn inherit(&mut self, base: &Self) {
        for (key, value) in base {
            self.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

impl Inherit for Map<String, Value> {
    fn inherit(&mut self, base: &Self) {
        for (key, value) in base {
            if !self.contains_key(key) {
                self.insert(key.clone(), value.clone());
            }
        }
    }
}

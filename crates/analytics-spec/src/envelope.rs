//! The envelope around an event: [`Input`] on the way in, [`Output`] on the
//! way out. Their JSON is the wire contract of every workflow and activity.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use serde_json::Value;

use crate::{
    Alias, AnyEvent, Context, Delete, Event, Group, HttpResponse, Identify, Kind, KindSet, Page,
    Policies, Screen, Timestamp, Track, ValidationError,
    decode::{Decode, Reader, members},
    event::sealed::Sealed as _,
    json::{self, Strict},
    validation::{Code, Violation},
};

/// An event with what is known around it, on the way in.
///
/// Its JSON has the event under the name of its kind:
/// `{"context": {"ip": "203.0.113.9"}, "identify": {"user_id": "u1"}}`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Input<E = AnyEvent> {
    /// Policies for this event only, where the integration allows them.
    pub policies: Option<Policies>,
    /// What is known around the event.
    pub context: Context,
    /// The event.
    pub event: E,
}

/// An input whose kind is known at run time.
pub type AnyInput = Input<AnyEvent>;
/// The input of an `identify`.
pub type InputIdentify = Input<Identify>;
/// The input of a `track`.
pub type InputTrack = Input<Track>;
/// The input of a `group`.
pub type InputGroup = Input<Group>;
/// The input of an `alias`.
pub type InputAlias = Input<Alias>;
/// The input of a `page`.
pub type InputPage = Input<Page>;
/// The input of a `screen`.
pub type InputScreen = Input<Screen>;
/// The input of a `delete`.
pub type InputDelete = Input<Delete>;

impl<E: Event> Input<E> {
    /// An event around which nothing is known yet.
    #[must_use]
    pub fn new(event: E) -> Self {
        Self {
            policies: None,
            context: Context::new(),
            event,
        }
    }

    /// Sets what is known around the event.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Sets policies for this event only.
    #[must_use]
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = Some(policies);
        self
    }

    /// The event's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.event.kind()
    }

    /// This input with the event as any of the seven.
    #[must_use]
    pub fn into_any(self) -> AnyInput {
        Input {
            policies: self.policies,
            context: self.context,
            event: self.event.into_any(),
        }
    }

    /// Fixes the event's identity and time, unless they are there: see
    /// [`Context::stamp`].
    pub fn stamp(&mut self, now: Timestamp) {
        self.context.stamp(now);
    }

    /// Reads an input from JSON and validates it: every violation at once,
    /// those of its form and those of its content.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, ValidationError> {
        let Strict { value, duplicates } = json::from_slice(json)?;
        Self::read(value, Reader::after(duplicates))
    }

    /// Like [`from_json`](Self::from_json), from a value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn from_value(value: Value) -> Result<Self, ValidationError> {
        Self::read(value, Reader::default())
    }

    fn read(value: Value, mut reader: Reader) -> Result<Self, ValidationError> {
        let read = Read::from(value, E::KINDS, &mut reader);
        let mut violations = reader.finish();
        let mut content = Reader::default();
        read.check(&mut content);
        let mut rules = content.finish();
        rules.retain(|rule| !violations.iter().any(|found| explains(found, rule)));
        violations.append(&mut rules);
        read.finish(violations)
    }

    /// Checks the rules of the specification.
    ///
    /// # Errors
    ///
    /// Every violation.
    pub fn validate(&self) -> Result<(), ValidationError> {
        let mut reader = Reader::default();
        if let Some(policies) = &self.policies {
            policies.check(&mut reader);
        }
        self.context.check(&mut reader);
        self.event.check(&mut reader);
        ValidationError::check(reader.finish())
    }
}

impl AnyInput {
    /// Reads an input that an engine was given, of the kind that is expected
    /// or, without one, of any. Only its form is checked if that is right: the
    /// validation step looks at its content.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, of form and content.
    pub fn accept(value: Value, expected: Option<Kind>) -> Result<Self, ValidationError> {
        let input = match Self::deserialize(&value) {
            Ok(input) => input,
            // Says everything that is wrong.
            Err(_) => Self::from_value(value)?,
        };
        match expected {
            Some(kind) if kind != input.kind() => Err(ValidationError::new(
                "$",
                Code::Conflict,
                format!("expected {kind}, found {}", input.kind()),
            )),
            _ => Ok(input),
        }
    }

    /// The message id; empty before the input is stamped.
    #[must_use]
    pub fn message_id(&self) -> &str {
        self.context.message_id.as_deref().unwrap_or_default()
    }
}

impl<E: Event> From<E> for Input<E> {
    fn from(event: E) -> Self {
        Self::new(event)
    }
}

/// What of an input could be read.
#[derive(Default)]
struct Read {
    policies: Option<Policies>,
    context: Context,
    event: Option<AnyEvent>,
}

impl Read {
    fn from(value: Value, kinds: KindSet, reader: &mut Reader) -> Self {
        let mut read = Self::default();
        let keys = ["policies", "context"];
        read.event = read_event(value, kinds, &keys, reader, |key, value, reader| {
            if key == "policies" {
                read.policies = Decode::decode(value, reader);
            } else {
                read.context = Decode::decode(value, reader).unwrap_or_default();
            }
        });
        read
    }

    fn check(&self, reader: &mut Reader) {
        if let Some(policies) = &self.policies {
            policies.check(reader);
        }
        self.context.check(reader);
        if let Some(event) = &self.event {
            event.check(reader);
        }
    }

    fn finish<E: Event>(self, violations: Vec<Violation>) -> Result<Input<E>, ValidationError> {
        Ok(Input {
            event: typed(self.event, violations)?,
            policies: self.policies,
            context: self.context,
        })
    }
}

/// The event, unless there are violations.
fn typed<E: Event>(
    event: Option<AnyEvent>,
    violations: Vec<Violation>,
) -> Result<E, ValidationError> {
    ValidationError::check(violations)?;
    // A reader that returns no event, or one of another kind, has said why.
    event
        .and_then(|event| E::from_any(event).ok())
        .ok_or_else(|| ValidationError::new("$", Code::Malformed, "could not be read"))
}

/// Whether `rule` is broken only because of what `found` says: a field that
/// could not be read is not missing as well.
fn explains(found: &Violation, rule: &Violation) -> bool {
    if found.code == Code::UnknownField {
        return false;
    }
    let lies_in = |path: &str| found.path.strip_prefix(path)?.strip_prefix('.');
    found.path == rule.path
        || rule.code == Code::Required
            && match rule.path.strip_suffix(".user_id") {
                Some(event) => lies_in(event) == Some("anonymous_id"),
                None => lies_in(&rule.path).is_some(),
            }
}

/// The one place where an envelope's keys are read: the `keys` that stand
/// beside the event, with `read`, and the event.
fn read_event(
    value: Value,
    kinds: KindSet,
    keys: &[&'static str],
    reader: &mut Reader,
    mut read: impl FnMut(&'static str, Value, &mut Reader),
) -> Option<AnyEvent> {
    let mut events = Vec::new();
    for (key, value) in members(value, reader)? {
        if let Some(&key) = keys.iter().find(|known| **known == key) {
            reader.at(key, |r| read(key, value, r));
        } else if let Some(kind) = Kind::from_key(&key) {
            events.push((kind, value));
        } else {
            let events = kinds.iter().map(Kind::as_str);
            let known: Vec<_> = keys.iter().copied().chain(events).collect();
            reader.unknown(key, &known);
        }
    }
    let found: KindSet = events.iter().map(|(kind, _)| *kind).collect();
    let mut events = events.into_iter();
    match (events.next(), events.next()) {
        (None, _) => reader.violation(
            Code::Required,
            format!("there is no event: set one of {kinds}"),
        ),
        (Some(_), Some(_)) => reader.violation(
            Code::Conflict,
            format!("there are several events ({found}): an envelope holds one"),
        ),
        (Some((kind, _)), None) if !kinds.contains(kind) => {
            reader.violation(Code::Conflict, format!("expected {kinds}, found {kind}"));
        }
        (Some((kind, value)), None) => {
            return reader.at(kind.as_str(), |r| AnyEvent::decode(kind, value, r));
        }
    }
    None
}

impl<E: Event> Serialize for Input<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(policies) = &self.policies {
            map.serialize_entry("policies", policies)?;
        }
        if !self.context.is_empty() {
            map.serialize_entry("context", &self.context)?;
        }
        map.serialize_entry(self.event.kind().as_str(), &self.event)?;
        map.end()
    }
}

/// Reads the form only; [`Input::from_json`] also validates the content.
impl<'de, E: Event> Deserialize<'de> for Input<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Strict { value, duplicates } = Strict::deserialize(deserializer)?;
        let mut reader = Reader::after(duplicates);
        Read::from(value, E::KINDS, &mut reader)
            .finish(reader.finish())
            .map_err(D::Error::custom)
    }
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The vendor accepted it.
    Success,
    /// The vendor did not accept it, or was not asked.
    Failure,
}

impl Status {
    /// The status as it is written: `success` or `failure`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Decode for Status {
    fn decode(value: Value, reader: &mut Reader) -> Option<Self> {
        let text = String::decode(value, reader)?;
        let status = [Self::Success, Self::Failure]
            .into_iter()
            .find(|status| status.as_str() == text);
        if status.is_none() {
            reader.violation(Code::Format, "expected `success` or `failure`");
        }
        status
    }
}

/// An event with its outcome, on the way out.
///
/// Its JSON has the event under the name of its kind:
/// `{"status": "failure", "identify": {"user_id": "u1"}, "response": {"status_code": 400}}`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Output<E = AnyEvent> {
    /// The outcome.
    pub status: Status,
    /// The event.
    pub event: E,
    /// What the vendor answered; absent if there was no request, or no answer.
    pub response: Option<HttpResponse>,
}

/// An output whose kind is known at run time.
pub type AnyOutput = Output<AnyEvent>;
/// The output of an `identify`.
pub type OutputIdentify = Output<Identify>;
/// The output of a `track`.
pub type OutputTrack = Output<Track>;
/// The output of a `group`.
pub type OutputGroup = Output<Group>;
/// The output of an `alias`.
pub type OutputAlias = Output<Alias>;
/// The output of a `page`.
pub type OutputPage = Output<Page>;
/// The output of a `screen`.
pub type OutputScreen = Output<Screen>;
/// The output of a `delete`.
pub type OutputDelete = Output<Delete>;

impl<E: Event> Output<E> {
    /// An event and its outcome.
    #[must_use]
    pub fn new(status: Status, event: E, response: Option<HttpResponse>) -> Self {
        Self {
            status,
            event,
            response,
        }
    }
}

impl<E: Event> Serialize for Output<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry(self.event.kind().as_str(), &self.event)?;
        if let Some(response) = &self.response {
            map.serialize_entry("response", response)?;
        }
        map.end()
    }
}

impl<'de, E: Event> Deserialize<'de> for Output<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Strict { value, duplicates } = Strict::deserialize(deserializer)?;
        let mut reader = Reader::after(duplicates);
        let (mut status, mut response) = (None, None);
        let keys = ["status", "response"];
        let event = read_event(value, E::KINDS, &keys, &mut reader, |key, value, reader| {
            if key == "status" {
                status = Some(Status::decode(value, reader));
            } else {
                response = HttpResponse::decode(value, reader);
            }
        });
        if status.is_none() {
            reader.at("status", |r| r.violation(Code::Required, "is missing"));
        }
        let event = typed(event, reader.finish()).map_err(D::Error::custom)?;
        let status = status.flatten();
        Ok(Self {
            status: status.ok_or_else(|| D::Error::missing_field("status"))?,
            event,
            response,
        })
    }
}

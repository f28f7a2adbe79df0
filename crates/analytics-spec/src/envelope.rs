//! The envelope around an event: [`Input`] on the way in, [`Output`] on the
//! way out. Their JSON is the wire contract of every workflow and activity.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use serde_json::Value;

use crate::{
    Alias, AnyEvent, Context, Delete, Event, Group, HttpResponse, Identify, Kind, KindSet, Page,
    Policies, Screen, Timestamp, Track, ValidationError,
    decode::{Decode, Reader, members},
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
        Self::from_value(json::from_slice(json)?)
    }

    /// Like [`from_json`](Self::from_json), from a value.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn from_value(value: Value) -> Result<Self, ValidationError> {
        let (input, mut violations) = decode_input(value, E::KINDS);
        let Some(input) = input else {
            ValidationError::check(violations)?;
            // A reader without a result has said why.
            return Err(ValidationError::new("$", Code::Malformed, "not an input"));
        };
        for violation in input.violations() {
            // A field that could not be read is not missing as well.
            if !violations.iter().any(|v| v.path == violation.path) {
                violations.push(violation);
            }
        }
        ValidationError::check(violations)?;
        typed(input)
    }

    /// Checks the rules of the specification.
    ///
    /// # Errors
    ///
    /// Every violation.
    pub fn validate(&self) -> Result<(), ValidationError>
    where
        E: Clone,
    {
        ValidationError::check(self.clone().into_any().violations())
    }
}

impl AnyInput {
    fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        if let Some(policies) = &self.policies {
            policies.check(&mut violations);
        }
        self.context.check(&mut violations);
        self.event.check(&mut violations);
        violations
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

fn typed<E: Event>(input: AnyInput) -> Result<Input<E>, ValidationError> {
    match E::from_any(input.event) {
        Ok(event) => Ok(Input {
            policies: input.policies,
            context: input.context,
            event,
        }),
        Err(other) => Err(wrong_kind(other.kind(), E::KINDS)),
    }
}

fn wrong_kind(found: Kind, expected: KindSet) -> ValidationError {
    ValidationError::new(
        "$",
        Code::Conflict,
        format!("expected {expected}, found {found}"),
    )
}

/// The one place where the envelope's keys are read.
fn decode_input(value: Value, expected: KindSet) -> (Option<AnyInput>, Vec<Violation>) {
    let mut reader = Reader::default();
    let input = read_input(value, expected, &mut reader);
    (input, reader.finish())
}

fn read_input(value: Value, expected: KindSet, reader: &mut Reader) -> Option<AnyInput> {
    const KEYS: [&str; 2] = ["policies", "context"];
    let mut policies = None;
    let mut context = Context::new();
    let mut events = Vec::new();
    for (key, value) in members(value, reader)? {
        if value.is_null() {
            continue;
        }
        match (key.as_str(), Kind::from_key(&key)) {
            ("policies", _) => {
                policies = reader.at("policies", |r| Policies::decode(value, r));
            }
            ("context", _) => {
                context = reader
                    .at("context", |r| Context::decode(value, r))
                    .unwrap_or_default();
            }
            (_, Some(kind)) => events.push((kind, value)),
            (_, None) => {
                let known: Vec<_> = KEYS
                    .into_iter()
                    .chain(expected.iter().map(Kind::as_str))
                    .collect();
                reader.unknown(key, &known);
            }
        }
    }
    let (kind, value) = match <[_; 1]>::try_from(events) {
        Ok([event]) => event,
        Err(events) if events.is_empty() => {
            reader.violation(
                Code::Required,
                format!("there is no event: set one of {expected}"),
            );
            return None;
        }
        Err(events) => {
            let found: KindSet = events.iter().map(|(kind, _)| *kind).collect();
            reader.violation(
                Code::Conflict,
                format!("there are several events ({found}): an envelope holds one"),
            );
            return None;
        }
    };
    if !expected.contains(kind) {
        reader.violation(Code::Conflict, format!("expected {expected}, found {kind}"));
        return None;
    }
    let event = reader.at(kind.as_str(), |r| AnyEvent::decode(kind, value, r))?;
    Some(Input {
        policies,
        context,
        event,
    })
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
        let Strict(value) = Strict::deserialize(deserializer)?;
        let (input, violations) = decode_input(value, E::KINDS);
        ValidationError::check(violations).map_err(D::Error::custom)?;
        let input = input.ok_or_else(|| D::Error::custom("not an input"))?;
        typed(input).map_err(D::Error::custom)
    }
}

/// Whether an event reached its end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The vendor accepted it.
    Success,
    /// It did not.
    Failure,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Success => "success",
            Self::Failure => "failure",
        })
    }
}

/// An event with its outcome, on the way out.
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
        let Strict(mut value) = Strict::deserialize(deserializer)?;
        let mut take = |key| value.as_object_mut().and_then(|map| map.remove(key));
        let status = take("status").ok_or_else(|| D::Error::missing_field("status"))?;
        let status = Status::deserialize(status).map_err(D::Error::custom)?;
        let response = take("response")
            .map(Option::<HttpResponse>::deserialize)
            .transpose()
            .map_err(D::Error::custom)?
            .flatten();
        // What is left is an input's envelope with the event alone.
        let (input, violations) = decode_input(value, E::KINDS);
        ValidationError::check(violations).map_err(D::Error::custom)?;
        let input = input.ok_or_else(|| D::Error::custom("not an output"))?;
        let event = typed(input).map_err(D::Error::custom)?.event;
        Ok(Self {
            status,
            event,
            response,
        })
    }
}

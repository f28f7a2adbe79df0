//! Many events in one workflow: [`BatchInput`] on the way in, [`BatchOutput`]
//! on the way out, and what engines need to deliver one: which events go
//! together in one call, and what follows an attempt at them.

mod deliveries;
mod round;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::{
    AnyInput, Context, Error, Failure, HttpResponse, Policies, Status, ValidationError,
    decode::{Decode, Reader, members},
    validation::Code,
};

pub use deliveries::{Deliveries, Failed, Next, attempt, attempt_each, failed_together, share};
pub use round::{Round, Waiting, round};

/// Many events, of any kinds, for one integration.
///
/// ```
/// # use analytics_spec::{BatchInput, Context, Group, Input, Track};
/// let batch = BatchInput::new([
///     Input::new(Track::new("Signed Up").user_id("u1")).into_any(),
///     Input::new(Group::new("g1").user_id("u1")).into_any(),
/// ])
/// .context(Context::new().locale("en-GB"));
/// assert_eq!(
///     serde_json::to_string(&batch)?,
///     r#"{"context":{"locale":"en-GB"},"inputs":[{"track":{"user_id":"u1","event":"Signed Up"}},{"group":{"user_id":"u1","group_id":"g1"}}]}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchInput<I = AnyInput> {
    /// Policies for these events only, where the integration allows them; an
    /// event's own win.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Policies>,
    /// What is known around every event; an event's own context wins.
    #[serde(skip_serializing_if = "Context::is_empty")]
    pub context: Context,
    /// The events, in the order in which they happened.
    pub inputs: Vec<I>,
}

impl<I> BatchInput<I> {
    /// A batch of these inputs.
    #[must_use]
    pub fn new(inputs: impl IntoIterator<Item = I>) -> Self {
        Self {
            policies: None,
            context: Context::new(),
            inputs: inputs.into_iter().collect(),
        }
    }

    /// Sets what is known around every event.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Sets policies for these events only.
    #[must_use]
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = Some(policies);
        self
    }

    /// An input with what holds for the whole batch.
    #[must_use]
    pub fn complete(&self, mut input: AnyInput) -> AnyInput {
        input.context.inherit(&self.context);
        if let Some(base) = &self.policies {
            input
                .policies
                .get_or_insert_with(Policies::new)
                .inherit(base);
        }
        input
    }
}

impl BatchInput<Value> {
    /// Reads the batch and leaves its inputs as they are: one that is wrong is
    /// its own failure, not the others'.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with what the inputs share.
    pub fn from_value(value: Value) -> Result<Self, ValidationError> {
        let mut reader = Reader::default();
        let batch = Self::read(value, &mut reader).unwrap_or_else(|| Self::new([]));
        ValidationError::check(reader.finish()).map(|()| batch)
    }

    fn read(value: Value, reader: &mut Reader) -> Option<Self> {
        let mut batch = Self::new([]);
        let mut has_inputs = false;
        for (key, value) in members(value, reader)? {
            match key.as_str() {
                "policies" => {
                    batch.policies = reader.at("policies", |r| Decode::decode(value, r));
                }
                "context" => {
                    let context = reader.at("context", |r| Decode::decode(value, r));
                    batch.context = context.unwrap_or_default();
                }
                "inputs" => {
                    has_inputs = true;
                    batch.inputs = match value {
                        Value::Array(inputs) => inputs,
                        other => reader.at("inputs", |r| r.mismatch("an array", &other))?,
                    };
                }
                _ => reader.unknown(key, &["policies", "context", "inputs"]),
            }
        }
        if !has_inputs {
            reader.at("inputs", |r| r.violation(Code::Required, "is missing"));
        }
        if let Some(policies) = &batch.policies {
            policies.check(reader);
        }
        batch.context.check(reader);
        let own = [
            ("message_id", batch.context.message_id.is_some()),
            ("timestamp", batch.context.timestamp.is_some()),
        ];
        for (field, _) in own.into_iter().filter(|(_, is_set)| *is_set) {
            reader.at("context", |r| {
                r.at(field, |r| {
                    r.violation(
                        Code::NotAllowed,
                        "belongs to one event: set it in the inputs",
                    );
                });
            });
        }
        Some(batch)
    }
}

impl<'de> Deserialize<'de> for BatchInput<Value> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for BatchInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let batch = BatchInput::<Value>::deserialize(deserializer)?;
        let inputs = batch.inputs.iter().map(AnyInput::deserialize);
        Ok(Self {
            inputs: inputs.collect::<Result<_, _>>().map_err(D::Error::custom)?,
            policies: batch.policies,
            context: batch.context,
        })
    }
}

/// How each event of a batch ended, in the order of the inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchOutput {
    /// One per input.
    pub outcomes: Vec<Outcome>,
}

impl BatchOutput {
    /// The outcomes of a batch.
    #[must_use]
    pub fn new(outcomes: Vec<Outcome>) -> Self {
        Self { outcomes }
    }

    /// The inputs' positions that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &Failure)> {
        let outcomes = self.outcomes.iter().enumerate();
        outcomes.filter_map(|(index, outcome)| Some((index, outcome.error.as_ref()?)))
    }
}

/// How one event of a batch ended. The event itself is not repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Whether the vendor accepted it.
    pub status: Status,
    /// The event's message id; absent if the input could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What the vendor answered to the request that carried the event, if
    /// there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HttpResponse>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl Outcome {
    /// The vendor accepted an event.
    #[must_use]
    pub fn success(message_id: &str, response: Option<HttpResponse>) -> Self {
        Self {
            status: Status::Success,
            message_id: some(message_id),
            response,
            error: None,
        }
    }

    /// An event failed for good.
    #[must_use]
    pub fn failure(message_id: &str, error: &Error) -> Self {
        let mut failure = Failure::from(error);
        Self {
            status: Status::Failure,
            message_id: some(message_id),
            response: failure.response.take(),
            error: Some(failure),
        }
    }

    /// The error of an event that failed.
    #[must_use]
    pub fn to_error(&self) -> Option<Error> {
        let error = Error::from(self.error.clone()?);
        Some(match &self.response {
            Some(response) => error.with_response(response.clone()),
            None => error,
        })
    }
}

fn some(message_id: &str) -> Option<String> {
    Some(message_id.to_owned()).filter(|id| !id.is_empty())
}

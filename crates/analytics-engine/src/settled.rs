//! How an event ended at an integration, or that it did not.

use std::fmt;

use analytics_spec::{AnyInput, Delivery, Error, Kind};

/// An event has come to its end at one integration.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settled<'a> {
    /// The integration's name.
    pub integration: &'a str,
    /// The event with what is known around it.
    pub input: &'a AnyInput,
    /// How many attempts were made.
    pub attempts: u32,
    /// Delivered, or refused for good.
    pub outcome: Result<&'a Delivery, &'a Error>,
}

impl fmt::Display for Settled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = (self.input.kind(), self.input.message_id());
        match self.outcome {
            Ok(_) => write!(f, "{kind} {id}: delivered to {}", self.integration),
            Err(error) => write!(f, "{kind} {id}: {error}"),
        }
    }
}

/// An event that had not come to its end when the engine was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsettled {
    /// The integration's name.
    pub integration: String,
    /// The event's message id.
    pub message_id: String,
    /// The event's kind.
    pub kind: Kind,
    /// How many attempts were made.
    pub attempts: u32,
    /// An attempt was under way, or its outcome could not be written: the
    /// vendor may have accepted the event.
    pub in_flight: bool,
}

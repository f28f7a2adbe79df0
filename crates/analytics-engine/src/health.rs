//! How an engine does.

use analytics_spec::Timestamp;
use serde::Serialize;

use crate::{lane::Condition, store::LaneStatus};

/// How an engine does. Its JSON is fit for a health endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether events are accepted: the engine is not closed.
    pub is_accepting: bool,
    /// Whether what was accepted outlives the process.
    pub is_durable: bool,
    /// Why the store cannot write, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// The engine's integrations, in their order.
    pub integrations: Vec<IntegrationHealth>,
    /// What the store keeps for integrations that this engine does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detached: Vec<LaneStatus>,
}

impl Health {
    /// Whether nothing needs attention: events are accepted, the store
    /// answers and writes, and no vendor is down. One that asks for a pause is well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.is_accepting
            && self.store_error.is_none()
            && self
                .integrations
                .iter()
                .all(|one| one.state != State::Down && one.store_error.is_none())
    }
}

/// How an integration's vendor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Nothing is known against it.
    Up,
    /// It asked to be left alone for a while.
    Paused,
    /// It does not answer as it should, again and again; from time to time it
    /// is asked whether it is back.
    Down,
}

/// How an integration does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IntegrationHealth {
    /// How its vendor does.
    pub state: State,
    /// Nothing is sent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Since when it has been down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// When the vendor last took something, refused something or asked for a
    /// pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// What the last delivery said, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What the store said to this integration's lane, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// How many deliveries are under way.
    pub in_flight: usize,
    /// What the store knows.
    #[serde(flatten)]
    pub status: LaneStatus,
}

impl IntegrationHealth {
    pub(crate) fn new(condition: Condition, status: LaneStatus, now: Timestamp) -> Self {
        let until = condition.paused_until.filter(|until| *until > now);
        let state = if condition.is_down() {
            State::Down
        } else if until.is_some() {
            State::Paused
        } else {
            State::Up
        };
        Self {
            state,
            until,
            down_since: condition.down_since,
            answered_at: condition.answered_at,
            last_error: condition.last_error,
            store_error: condition.store_error,
            in_flight: condition.in_flight,
            status,
        }
    }
}

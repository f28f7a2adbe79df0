//! How an engine does.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use analytics_spec::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

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
    /// When an event was refused because there was no room
    /// ([`Full`](analytics_spec::ErrorKind::Full)), the last time; none, if that
    /// was longer ago than events wait for room
    /// ([`room_within`](crate::Builder::room_within)) and 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_for_room: Option<Timestamp>,
    /// The engine's integrations, in their order.
    pub integrations: Vec<IntegrationHealth>,
    /// What the store keeps for integrations that this engine does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detached: Vec<LaneStatus>,
}

impl Health {
    /// Whether nothing needs attention: events are accepted and find room, the
    /// store answers and writes, no vendor is down, every lane works, and none
    /// waits for people of whom there are too many. A vendor that asks for a
    /// pause is well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.is_accepting
            && self.store_error.is_none()
            && self.refused_for_room.is_none()
            && self.integrations.iter().all(IntegrationHealth::is_well)
    }
}

/// When events were refused because there was no room, the last time.
#[derive(Debug, Default)]
pub(crate) struct NoRoom(Mutex<Option<(Instant, Timestamp)>>);

/// So long it is told of, beyond the time for which events wait for room: of
/// somebody who tries again and again, it is told without a break.
const TOLD_FOR: Duration = Duration::from_secs(30);

impl NoRoom {
    pub(crate) fn found(&self, now: Timestamp) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), now));
    }

    /// The last time, if that was lately.
    pub(crate) fn lately(&self, patience: Duration) -> Option<Timestamp> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, time) = last?;
        (at.elapsed() <= patience.saturating_add(TOLD_FOR)).then_some(time)
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
    /// Nothing is sent: what the engine was given (a clock, a recorder of
    /// metrics) panicked, and took the integration's lane along. What is
    /// accepted stays in the store; an engine that is built anew goes on.
    Stopped,
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
    /// So many people wait for another attempt that nothing new is read before
    /// the first of them are back.
    pub is_crowded: bool,
    /// How many deliveries are under way.
    pub in_flight: usize,
    /// What the store knows.
    #[serde(flatten)]
    pub status: LaneStatus,
}

impl IntegrationHealth {
    fn is_well(&self) -> bool {
        matches!(self.state, State::Up | State::Paused)
            && self.store_error.is_none()
            && !self.is_crowded
    }

    pub(crate) fn new(condition: Condition, status: LaneStatus, now: Timestamp) -> Self {
        let until = condition.paused_until.filter(|until| *until > now);
        let state = if condition.is_stopped {
            State::Stopped
        } else if condition.is_down() {
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
            is_crowded: condition.is_crowded,
            in_flight: condition.in_flight,
            status,
        }
    }
}

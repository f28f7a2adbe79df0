//! How a lane's vendor does: there, asking for a pause, or down.

use std::time::Duration;

use analytics_spec::{Error, Timestamp};

use super::{after, before};
use crate::store::Resumed;

/// After so many failed deliveries in a row, whose reasons usually pass, the
/// vendor counts as down: one delivery at a time finds out when it is back.
const DOWN_AFTER: u32 = 5;

/// Why nothing comes of events at a lane that has ended by a mistake.
pub(crate) const STOPPED: &str =
    "something that the engine was given panicked: nothing is delivered until it is built anew";

/// How a lane does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// Nothing is sent before: the vendor asked, or is down.
    pub(crate) paused_until: Option<Timestamp>,
    /// Since when the vendor has been down.
    pub(crate) down_since: Option<Timestamp>,
    /// What the last failed delivery said, since the last good one.
    pub(crate) last_error: Option<String>,
    /// When the vendor last showed that it is there.
    pub(crate) answered_at: Option<Timestamp>,
    /// How many deliveries are under way.
    pub(crate) in_flight: usize,
    /// What the store said, if it failed the last time.
    pub(crate) store_error: Option<String>,
    /// As many people are away as may be.
    pub(crate) is_crowded: bool,
    /// The lane has ended by a mistake.
    pub(crate) is_stopped: bool,
    failures_in_a_row: u32,
    /// After how many failures in a row it counts as down.
    down_after: u32,
    recoveries: u64,
    changes: u64,
    published: (u64, usize),
}

impl Condition {
    /// Of a lane that goes on where the store says, and tries events so often
    /// at most, 0 being without end: it finds out that the vendor is down
    /// before that has used up any event's attempts. If the vendor was down or
    /// doubtful when the last process ended, the first failure tells: else an
    /// outage over many short processes would use them up.
    pub(super) fn resumed(resumed: &Resumed, maximum_attempts: u32) -> Self {
        let down_after = match maximum_attempts {
            0 | 1 => DOWN_AFTER,
            attempts => DOWN_AFTER.min(attempts - 1),
        };
        let is_doubtful = resumed.paused_until.is_some() || resumed.is_retrying;
        Self {
            down_after,
            paused_until: resumed.paused_until,
            failures_in_a_row: if is_doubtful { down_after - 1 } else { 0 },
            ..Self::default()
        }
    }

    /// Whether the vendor is down.
    pub(crate) fn is_down(&self) -> bool {
        self.down_since.is_some()
    }

    /// Until when nothing is sent, if at all.
    pub(super) fn pauses(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.changes += 1;
        }
        self.paused_until
    }

    pub(super) fn pause(&mut self, now: Timestamp, pause: Duration) {
        self.paused_until = self.paused_until.max(Some(after(now, pause)));
        self.changes += 1;
    }

    /// The clock was set back: the pause ends earlier by as much.
    pub(super) fn set_back(&mut self, step: Duration) {
        self.paused_until = self.paused_until.map(|until| before(until, step));
        self.changes += 1;
    }

    /// The vendor is there.
    pub(super) fn is_there(&mut self, now: Timestamp) {
        self.answered_at = Some(now);
        self.changes += 1;
    }

    /// The vendor took or refused something.
    pub(super) fn recovered(&mut self) {
        self.recoveries += u64::from(self.is_down());
        self.failures_in_a_row = 0;
        self.down_since = None;
        self.changes += 1;
    }

    /// How often it was down and came back.
    pub(super) fn recoveries(&self) -> u64 {
        self.recoveries
    }

    pub(super) fn says(&mut self, error: Option<&Error>) {
        self.last_error = error.map(ToString::to_string);
        self.changes += 1;
    }

    /// A delivery failed: how often it did since the vendor was found to be
    /// down, if it is.
    pub(super) fn failed(&mut self, now: Timestamp, is_certain: bool) -> Option<u32> {
        self.changes += 1;
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if is_certain {
            // No need to find out.
            self.failures_in_a_row = self.failures_in_a_row.max(self.down_after);
        }
        let nth = self
            .failures_in_a_row
            .checked_sub(self.down_after.saturating_sub(1))
            .filter(|nth| *nth > 0)?;
        self.down_since.get_or_insert(now);
        Some(nth)
    }

    pub(super) fn store_says(&mut self, error: Option<&Error>) {
        let error = error.map(ToString::to_string);
        if self.store_error != error {
            self.store_error = error;
            self.changes += 1;
        }
    }

    pub(super) fn crowded(&mut self, is_crowded: bool) {
        self.changes += u64::from(self.is_crowded != is_crowded);
        self.is_crowded = is_crowded;
    }

    /// The lane has ended by a mistake.
    pub(super) fn stopped(&mut self) {
        self.is_stopped = true;
        self.in_flight = 0;
        self.last_error = Some(STOPPED.to_owned());
    }

    pub(super) fn is_published(&self) -> bool {
        self.published == (self.changes, self.in_flight)
    }

    pub(super) fn publish(&mut self, to: &mut Self) {
        self.published = (self.changes, self.in_flight);
        to.clone_from(self);
    }
}

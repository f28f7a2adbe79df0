//! What follows an attempt, for the event and for the vendor.

use std::{sync::Arc, time::Duration};

use analytics_spec::{
    Delivery, Error, ErrorKind, RequestPolicy, Retries, Timestamp, ValidationError,
    policies::MAX_ASKED,
};

use super::{Carried, Running, after, attempt::Came, between};
use crate::{
    schedule::Claimed,
    settled::Settled,
    store::{Answers, People, Reason, Seq, Settlement},
};

/// What came of an event.
pub(super) enum Outcome {
    /// It was tried.
    Attempted(Attempted),
    /// The store has it, and nobody can read it.
    Unreadable(Seq, Settlement),
}

/// What came of an event in a batch, and what follows.
pub(super) struct Attempted {
    pub(super) event: Carried,
    pub(super) result: Result<Delivery, Error>,
    /// When to try again, if at all.
    pub(super) next: Option<(Timestamp, Retries)>,
}

impl Outcome {
    pub(super) fn seq(&self) -> Seq {
        match self {
            Self::Attempted(attempted) => attempted.event.seq,
            Self::Unreadable(seq, _) => *seq,
        }
    }

    /// Whether the event has come to its end.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Attempted(attempted) => attempted.next.is_none(),
            Self::Unreadable(..) => true,
        }
    }

    /// For the store; `None`, if it has forgotten the event.
    fn settlement<'a>(&'a self, answers: &mut Answers<'a>) -> Option<(Seq, Settlement)> {
        let settlement = match self {
            Self::Unreadable(_, settlement) => settlement.clone(),
            Self::Attempted(attempted) => match (&attempted.result, attempted.next) {
                (Ok(_), _) => Settlement::Delivered,
                (Err(error), None) if error.kind() == ErrorKind::Erased => return None,
                (Err(error), None) => {
                    let attempts = attempted.event.retries.made.saturating_add(1);
                    Settlement::refused(Reason::sharing(error, answers), attempts)
                }
                (Err(_), Some((not_before, retries))) => Settlement::retry(not_before, retries),
            },
        };
        Some((self.seq(), settlement))
    }
}

/// Outcomes as the store keeps them.
pub(super) fn settlements(outcomes: &[Outcome]) -> Vec<(Seq, Settlement)> {
    let mut answers = Answers::default();
    let outcomes = outcomes.iter();
    outcomes
        .filter_map(|outcome| outcome.settlement(&mut answers))
        .collect()
}

/// So many times an event may be held back for wrong credentials with which
/// others are taken; then it is the event that is wrong.
const HELD_AT_MOST: u32 = 3;

/// An event that is held back.
pub(super) struct Held {
    times: u32,
    pub(super) people: People,
    /// How often the vendor had recovered.
    recoveries: u64,
}

/// What follows from a batch's outcomes for the vendor.
#[derive(Default)]
struct Seen {
    /// The vendor took or refused something.
    is_reached: bool,
    /// How long it asked to be left alone.
    asked: Duration,
    /// Why it seems to be down.
    down: Option<ErrorKind>,
}

impl Running {
    /// Decides what follows, for each event and for the vendor.
    pub(super) fn take(&mut self, came: Came, was_down: bool) {
        let Came {
            mut events,
            unreadable,
        } = came;
        for (event, error) in unreadable {
            self.carried = self.carried.saturating_sub(self.sender.weight(&event.body));
            self.unreadable(&event, error);
        }
        let now = self.now();
        let mut seen = Seen::default();
        let mut has_failed = false;
        let mut failed = None;
        let mut held = Vec::new();
        for (event, outcome) in &mut events {
            match outcome {
                Ok(_) => seen.is_reached = true,
                Err(error) if error.kind() == ErrorKind::Deferred => {
                    if !has_failed {
                        // Nothing that it could wait for: it would be tried at
                        // once, for ever.
                        *error = no_outcome(&self.lane.name);
                        seen.down = Some(error.kind());
                        has_failed = true;
                    }
                }
                Err(error) => {
                    // What came after it was not sent.
                    has_failed |= error.kind() == ErrorKind::Unauthorized;
                    if self.is_held(event, error) {
                        held.push(event.seq);
                        seen.down = Some(error.kind());
                    } else if error.is_retryable() {
                        has_failed = true;
                        let delay = error.retry_after().unwrap_or_default();
                        seen.asked = seen.asked.max(delay);
                        // Who says when to come back is not down.
                        if delay.is_zero() {
                            seen.down = Some(error.kind());
                        }
                    } else {
                        seen.is_reached = true;
                    }
                    failed = Some(&*error);
                }
            }
        }
        self.condition.says(failed);
        for seq in held {
            self.hold(seq, seen.is_reached);
        }
        let is_down = self.judge(&seen, now);
        // What is down for everybody says nothing about an event.
        let is_outage =
            self.is_patient && (was_down || is_down) && !seen.is_reached && seen.asked.is_zero();
        for (event, outcome) in events {
            let attempted = self.decide(event, outcome, is_outage, now);
            self.ended(Outcome::Attempted(attempted));
        }
    }

    /// Notes what came of an event. Its person's next one may go: should the
    /// process end before this is written, both are sent again, in their order.
    fn ended(&mut self, outcome: Outcome) {
        let seq = outcome.seq();
        match &outcome {
            Outcome::Attempted(Attempted {
                next: Some((not_before, retries)),
                ..
            }) => self.schedule.retry(seq, *not_before, *retries),
            _ => {
                self.schedule.settle(seq);
                self.ended.insert(seq);
            }
        }
        self.unwritten.push(outcome);
    }

    /// Whether an error stops everything, and not this event: credentials hold
    /// for all. Unless the vendor takes others meanwhile, again and again, or
    /// the policy wants no other attempt.
    fn is_held(&self, event: &Carried, error: &Error) -> bool {
        if !self.is_patient || error.kind() != ErrorKind::Unauthorized {
            return false;
        }
        let policy = self.policy(event);
        let excluded = &policy.non_retryable_error_types;
        policy.maximum_attempts != 1
            && excluded.iter().all(|kind| kind != error.kind().as_str())
            && (self.held.get(&event.seq)).is_none_or(|held| held.times <= HELD_AT_MOST)
    }

    /// Remembers that an event is held back; while others are taken, that
    /// counts.
    fn hold(&mut self, seq: Seq, is_reached: bool) {
        let recoveries = self.condition.recoveries();
        let people = || self.schedule.people(seq);
        let held = self.held.entry(seq).or_insert_with(|| Held {
            times: 0,
            people: people(),
            recoveries,
        });
        if held.times == 0 || is_reached || held.recoveries != recoveries {
            held.times += 1;
            held.recoveries = recoveries;
        }
    }

    /// Finds out whether the vendor is down, and when it is back.
    fn judge(&mut self, seen: &Seen, now: Timestamp) -> bool {
        if seen.is_reached || !seen.asked.is_zero() {
            self.condition.is_there(now);
        }
        if !seen.asked.is_zero() {
            let pause = seen.asked.min(MAX_ASKED);
            self.condition.pause(now, pause);
            tracing::warn!(integration = %self.lane.name, ?pause, "paused as the vendor asks");
        }
        if seen.is_reached {
            if self.condition.is_down() {
                tracing::info!(integration = %self.lane.name, "is back");
            }
            self.condition.recovered();
        } else if let Some(kind) = seen.down {
            let is_certain = kind == ErrorKind::Unauthorized;
            let was_down = self.condition.is_down();
            if let Some(nth) = self.condition.failed(now, is_certain) {
                let pause = self.sender.policy.pause(nth, self.lane.clock.jitter());
                self.condition.pause(now, pause);
                // Once for each outage: it may last.
                if !was_down {
                    tracing::warn!(integration = %self.lane.name, error = %kind, "seems to be down");
                } else {
                    tracing::debug!(integration = %self.lane.name, error = %kind, ?pause, "still down");
                }
                return true;
            }
        }
        false
    }

    fn decide(
        &mut self,
        event: Carried,
        mut result: Result<Delivery, Error>,
        is_outage: bool,
        now: Timestamp,
    ) -> Attempted {
        let mut next = None;
        let is_erased = !self.erased.is_empty() && self.erased.remove(&event.seq);
        if let Err(error) = &result {
            next = self.next(&event, error, is_outage, now);
            if is_erased && next.is_some() {
                next = None;
                result = Err(erased(&self.lane.name));
            }
        }
        Attempted {
            event,
            result,
            next,
        }
    }

    /// When to try again, if at all.
    fn next(
        &self,
        event: &Carried,
        error: &Error,
        is_outage: bool,
        now: Timestamp,
    ) -> Option<(Timestamp, Retries)> {
        let mut retries = event.retries;
        let policy = self.policy(event);
        let jitter = self.lane.clock.jitter();
        if self.is_held(event, error) {
            retries.made = retries.made.saturating_add(1);
            retries.outage = retries.outage.saturating_add(1);
            let times = self.held.get(&event.seq).map_or(1, |held| held.times);
            let not_before = after(now, policy.pause(times, jitter));
            return Some((not_before.max(self.behind_the_others(now)), retries));
        }
        if is_outage && error.kind() != ErrorKind::Deferred {
            let pause = retries.postponed(error, &policy, jitter)?;
            let not_before = after(now, pause).max(self.behind_the_others(now));
            return Some((not_before, retries));
        }
        let pause = retries.failed(error, &policy, jitter)?;
        Some((after(now, pause), retries))
    }

    /// When the vendor is asked again, another event is to go first.
    fn behind_the_others(&self, now: Timestamp) -> Timestamp {
        let pause = self.sender.policy.initial_interval;
        after(self.condition.paused_until.unwrap_or(now), pause)
    }

    fn policy(&self, event: &Carried) -> Arc<RequestPolicy> {
        match event.loaded.input() {
            Some(input) if input.policies.is_some() => {
                Arc::new(self.lane.handler.request_policy(input))
            }
            _ => Arc::clone(&self.sender.policy),
        }
    }

    /// An event that the store has, and nobody can read: a dead letter, of
    /// which only the store knows what it was.
    pub(super) fn unreadable(&mut self, event: &Claimed, error: ValidationError) {
        let error = Error::from(error).with_integration(&self.lane.name);
        tracing::error!(seq = event.seq, %error, "an event in the store cannot be read");
        let settlement = Settlement::refused(Reason::from(&error), event.retries.made);
        self.ended(Outcome::Unreadable(event.seq, settlement));
    }

    /// An event has come to its end.
    pub(super) fn report(&mut self, event: &Carried, outcome: Result<&Delivery, &Error>) {
        self.held.remove(&event.seq);
        let latency = between(event.accepted_at, self.now());
        self.lane.metrics.settled(outcome, latency);
        let is_erased = matches!(outcome, Err(error) if error.kind() == ErrorKind::Erased);
        // Without it, nobody is to be told.
        let Some(input) = event.loaded.input() else {
            return;
        };
        let settled = Settled {
            integration: &self.lane.name,
            seq: Some(event.seq),
            input,
            attempts: event.retries.made.saturating_add(u32::from(!is_erased)),
            outcome,
        };
        self.lane.observer.report(&self.lane.handler, &settled);
    }
}

pub(super) fn panicked(integration: &str) -> Error {
    Error::new(ErrorKind::Internal, "the integration panicked")
        .with_retryable(true)
        .with_integration(integration)
}

pub(super) fn no_outcome(integration: &str) -> Error {
    Error::new(ErrorKind::Internal, "the integration gave no outcome")
        .with_retryable(true)
        .with_integration(integration)
}

pub(super) fn erased(integration: &str) -> Error {
    Error::new(
        ErrorKind::Erased,
        "the user was erased before the event could be delivered",
    )
    .with_integration(integration)
}

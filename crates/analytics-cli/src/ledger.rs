//! What became of every line.
//!
//! A message id does not tell lines apart, for two lines may have the same. The
//! place in the order of acceptance does: so the ledger is the engine's store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use analytics_kit::{
    AnyInput, Error, Integration, Violation,
    engine::{
        MemoryStore, Receipt, Store,
        store::{Pulled, Seq, Settlement},
    },
};
use async_trait::async_trait;
use serde::Serialize;

/// How many events, and bytes of their JSON, are accepted and not settled.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What was wrong with a line.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The line's number.
    pub(crate) line: u64,
    /// The integration that it was wrong for; `None` if for all.
    pub(crate) integration: Option<String>,
    /// What, in one or several sentences.
    pub(crate) reasons: Vec<String>,
}

impl Problem {
    /// Why an event failed at an integration, after so many attempts.
    pub(crate) fn new(line: u64, integration: &str, error: &Error, attempts: u32) -> Self {
        let reasons = match error.violations() {
            Some(error) => error.violations().iter().map(ToString::to_string).collect(),
            None if attempts > 1 => vec![format!(
                "{}: {} (after {attempts} attempts)",
                error.kind(),
                error.message()
            )],
            None => vec![format!("{}: {}", error.kind(), error.message())],
        };
        Self {
            line,
            integration: Some(integration.to_owned()),
            reasons,
        }
    }

    /// What is wrong with a line for every integration.
    pub(crate) fn invalid(line: u64, violations: &[Violation]) -> Self {
        Self {
            line,
            integration: None,
            reasons: violations.iter().map(ToString::to_string).collect(),
        }
    }
}

/// How the events of one integration ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// The vendor accepted them.
    pub(crate) delivered: u64,
    /// The vendor, or its rules, refused them; or attempts ran out.
    pub(crate) failed: u64,
    /// The vendor has no such thing.
    pub(crate) unsupported: u64,
    /// The command was stopped before.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) not_sent: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The totals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Lines that were read and are not empty.
    pub(crate) read: u64,
    /// Those of them that break the specification's rules.
    pub(crate) invalid: u64,
    /// How many bytes were read.
    pub(crate) bytes: u64,
    /// By the integration's name.
    pub(crate) integrations: BTreeMap<Arc<str>, Tally>,
}

/// An accepted event.
#[derive(Debug)]
struct Pending {
    line: u64,
    /// The integrations that have not settled it, with the attempts they made.
    attempts: BTreeMap<Arc<str>, u32>,
}

#[derive(Debug, Default)]
struct State {
    totals: Totals,
    /// The line that is being accepted.
    line: u64,
    pending: BTreeMap<Seq, Pending>,
    /// How often a vendor has shown that it is there.
    answers: u64,
}

/// Keeps accepted events in memory, and the books about them.
pub(crate) struct Ledger {
    store: MemoryStore,
    state: Mutex<State>,
    report: Box<dyn Fn(Problem) + Send + Sync>,
}

impl Ledger {
    /// A ledger that says at once what was wrong.
    pub(crate) fn new(
        integrations: &[Arc<dyn Integration>],
        report: impl Fn(Problem) + Send + Sync + 'static,
    ) -> Self {
        let mut state = State::default();
        for integration in integrations {
            let tallies = &mut state.totals.integrations;
            tallies.insert(integration.name().into(), Tally::default());
        }
        Self {
            store: MemoryStore::new(MAX_EVENTS, MAX_BYTES),
            state: Mutex::new(state),
            report: Box::new(report),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    /// What is accepted from here on stands on this line.
    pub(crate) fn begin(&self, line: u64) {
        self.state().line = line;
    }

    /// The line that was begun was not valid.
    pub(crate) fn invalid(&self, bytes: u64, violations: &[Violation]) {
        let line = {
            let State { totals, line, .. } = &mut *self.state();
            totals.read += 1;
            totals.invalid += 1;
            totals.bytes = bytes;
            *line
        };
        (self.report)(Problem::invalid(line, violations));
    }

    /// The line that was begun was accepted.
    pub(crate) fn accepted(&self, bytes: u64, receipt: &Receipt) {
        let line = {
            let State { totals, line, .. } = &mut *self.state();
            totals.read += 1;
            totals.bytes = bytes;
            let tallies = &mut totals.integrations;
            for name in &receipt.unsupported {
                tallies.entry(Arc::clone(name)).or_default().unsupported += 1;
            }
            for (name, _) in &receipt.refused {
                tallies.entry(Arc::clone(name)).or_default().failed += 1;
            }
            *line
        };
        for (name, error) in &receipt.refused {
            (self.report)(Problem::new(line, name, error, 0));
        }
    }

    /// Closes the books: what is not settled was not sent. The lines, with the
    /// integrations that did not get them.
    pub(crate) fn close(&self) -> Vec<(u64, Arc<str>)> {
        let State {
            totals, pending, ..
        } = &mut *self.state();
        let mut left = Vec::new();
        for Pending { line, attempts } in std::mem::take(pending).into_values() {
            for name in attempts.into_keys() {
                let tally = totals.integrations.entry(Arc::clone(&name));
                tally.or_default().not_sent += 1;
                left.push((line, name));
            }
        }
        left
    }

    /// How often a vendor has shown that it is there; `None` if no event waits
    /// for one.
    pub(crate) fn answers(&self) -> Option<u64> {
        let state = self.state();
        (!state.pending.is_empty()).then_some(state.answers)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events that go into the store now, and their number in it.
    fn expect(&self, lanes: &[Arc<str>]) -> Seq {
        // Only one task appends: what it appends next has the next number. It
        // is in the books before the first lane can settle it.
        let seq = self.store.last() + 1;
        let State { line, pending, .. } = &mut *self.state();
        pending.insert(
            seq,
            Pending {
                line: *line,
                attempts: lanes.iter().map(|lane| (Arc::clone(lane), 0)).collect(),
            },
        );
        seq
    }

    fn forget(&self, seq: Seq) {
        self.state().pending.remove(&seq);
    }

    fn settled(&self, lane: &str, seq: Seq, settlement: &Settlement<'_>) {
        let (line, error, attempts) = {
            let State {
                totals,
                pending,
                answers,
                ..
            } = &mut *self.state();
            *answers += u64::from(is_answer(settlement));
            let Some(event) = pending.get_mut(&seq) else {
                return;
            };
            if let Settlement::Retry { retries, .. } = settlement {
                if let Some(attempts) = event.attempts.get_mut(lane) {
                    *attempts = retries.made;
                }
                return;
            }
            let Some((name, attempts)) = event.attempts.remove_entry(lane) else {
                return;
            };
            let line = event.line;
            if event.attempts.is_empty() {
                pending.remove(&seq);
            }
            let tally = totals.integrations.entry(name).or_default();
            match settlement {
                Settlement::Refused(error) => {
                    tally.failed += 1;
                    (line, error, attempts + 1)
                }
                Settlement::Delivered(_) => {
                    tally.delivered += 1;
                    return;
                }
                _ => return,
            }
        };
        (self.report)(Problem::new(line, lane, error, attempts));
    }
}

/// Whether the vendor is there: it accepted, refused for good, or asked to wait.
fn is_answer(settlement: &Settlement<'_>) -> bool {
    match settlement {
        Settlement::Delivered(_) => true,
        Settlement::Refused(error) => !error.is_retryable(),
        Settlement::Retry { error, .. } => error.retry_after().is_some(),
        _ => false,
    }
}

#[async_trait]
impl Store for Ledger {
    async fn append(&self, input: AnyInput, lanes: &[Arc<str>]) -> Result<Seq, Error> {
        /// Whoever stops waiting for room has appended nothing.
        struct Expected<'a>(&'a Ledger, Option<Seq>);
        impl Drop for Expected<'_> {
            fn drop(&mut self) {
                if let Some(seq) = self.1 {
                    self.0.forget(seq);
                }
            }
        }
        let mut expected = Expected(self, Some(self.expect(lanes)));
        let seq = self.store.append(input, lanes).await?;
        expected.1 = None;
        Ok(seq)
    }

    fn try_append(&self, input: AnyInput, lanes: &[Arc<str>]) -> Result<Seq, Error> {
        let seq = self.expect(lanes);
        self.store
            .try_append(input, lanes)
            .inspect_err(|_| self.forget(seq))
    }

    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        self.store.pull(lane, after, max_bytes).await
    }

    async fn settle(&self, lane: &str, settlements: &[(Seq, Settlement<'_>)]) -> Result<(), Error> {
        self.store.settle(lane, settlements).await?;
        for (seq, settlement) in settlements {
            self.settled(lane, *seq, settlement);
        }
        Ok(())
    }

    fn last(&self) -> Seq {
        self.store.last()
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

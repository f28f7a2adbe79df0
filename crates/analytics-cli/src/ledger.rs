//! What became of every line.
//!
//! A message id does not tell lines apart, for two lines may have the same. The
//! place in the order of acceptance does. An event may come to its end before
//! it is known on which line it stands.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use analytics_kit::{
    ErrorKind, Integration, Violation,
    engine::{Receipt, Settled, store::Seq},
};
use serde::Serialize;

use crate::problem::{Place, Problem, reasons};

/// So many events are known by their lines at a time, for what waits in a
/// directory may be more than fits into memory.
const MAX_LINES: usize = 100_000;

/// How the events of one integration ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// The vendor accepted them.
    pub(crate) delivered: u64,
    /// The vendor, or its rules, refused them; or attempts ran out.
    pub(crate) failed: u64,
    /// The vendor has no such thing.
    pub(crate) unsupported: u64,
    /// The user was deleted before.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) erased: u64,
    /// The command was stopped before.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) not_sent: u64,
    /// They wait for the next run, also those of earlier ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) kept: u64,
    /// What earlier runs had accepted.
    #[serde(skip_serializing_if = "Earlier::is_empty")]
    pub(crate) earlier: Earlier,
}

/// How events ended that an earlier run accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Earlier {
    /// The vendor accepted them.
    pub(crate) delivered: u64,
    /// The vendor refused them, or attempts ran out.
    pub(crate) failed: u64,
    /// The user was deleted before.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) erased: u64,
}

impl Earlier {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Tally {
    fn count(&mut self, end: &End) {
        match end {
            End::Delivered => self.delivered += 1,
            End::Failed(_) => self.failed += 1,
            End::Erased => self.erased += 1,
        }
    }
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

/// How an event ended at an integration.
#[derive(Debug)]
enum End {
    Delivered,
    Failed(Vec<String>),
    Erased,
}

impl End {
    fn of(settled: &Settled<'_>) -> Self {
        match settled.outcome {
            Ok(_) => Self::Delivered,
            Err(error) if error.kind() == ErrorKind::Erased => Self::Erased,
            Err(error) => Self::Failed(reasons(error, settled.attempts)),
        }
    }

    /// What there is to say about it.
    fn problem(self, place: impl FnOnce() -> Place, integration: &str) -> Option<Problem> {
        match self {
            Self::Failed(reasons) => Some(Problem {
                place: place(),
                integration: Some(integration.to_owned()),
                reasons,
            }),
            Self::Delivered | Self::Erased => None,
        }
    }
}

/// What is not settled when the books are closed.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Lines, and the integrations that did not get them.
    pub(crate) lines: Vec<(u64, Arc<str>)>,
    /// How many more there are at each integration.
    forgotten: BTreeMap<Arc<str>, u64>,
}

impl Unsettled {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.forgotten() == 0
    }

    /// How many there are whose lines are not known.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.values().sum()
    }

    /// Hands over how many there are at each integration.
    pub(crate) fn count(&self, mut take: impl FnMut(&Arc<str>, u64)) {
        for (_, name) in &self.lines {
            take(name, 1);
        }
        for (name, events) in &self.forgotten {
            take(name, *events);
        }
    }
}

/// An accepted event.
#[derive(Debug)]
struct Pending {
    line: u64,
    /// The integrations that have not settled it.
    lanes: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct State {
    totals: Totals,
    pending: BTreeMap<Seq, Pending>,
    /// What ended before it was known on which line it stands.
    early: HashMap<Seq, Vec<(Arc<str>, End)>>,
    /// The last event whose line was known once.
    told: Seq,
    /// How many events are not settled of those whose lines are forgotten.
    forgotten: BTreeMap<Arc<str>, u64>,
}

impl State {
    fn tally(&mut self, integration: &Arc<str>) -> &mut Tally {
        let tallies = &mut self.totals.integrations;
        tallies.entry(Arc::clone(integration)).or_default()
    }
}

/// Keeps the books about what is delivered.
pub(crate) struct Ledger {
    /// What was accepted up to here, an earlier run accepted.
    begin: Seq,
    state: Mutex<State>,
    report: Box<dyn Fn(Problem) + Send + Sync>,
}

impl Ledger {
    /// A ledger of what is accepted after `begin`, that says at once what was
    /// wrong.
    pub(crate) fn new(
        integrations: &[Arc<dyn Integration>],
        begin: Seq,
        report: Box<dyn Fn(Problem) + Send + Sync>,
    ) -> Self {
        let mut state = State::default();
        for integration in integrations {
            state.tally(&integration.name().into());
        }
        Self {
            begin,
            state: Mutex::new(state),
            report,
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    /// How many lines were read.
    pub(crate) fn read(&self) -> u64 {
        self.state().totals.read
    }

    /// A line was not valid.
    pub(crate) fn invalid(&self, line: u64, bytes: u64, violations: &[Violation]) {
        {
            let totals = &mut self.state().totals;
            totals.read += 1;
            totals.invalid += 1;
            totals.bytes = totals.bytes.max(bytes);
        }
        (self.report)(Problem::invalid(line, violations));
    }

    /// The event on a line was accepted.
    pub(crate) fn accepted(&self, line: u64, bytes: u64, receipt: &Receipt) {
        let mut problems: Vec<_> = (receipt.refused.iter())
            .map(|(name, error)| Problem::new(Place::Line(line), name, error, 0))
            .collect();
        {
            let state = &mut *self.state();
            state.totals.read += 1;
            state.totals.bytes = state.totals.bytes.max(bytes);
            for name in &receipt.unsupported {
                state.tally(name).unsupported += 1;
            }
            for (name, _) in &receipt.refused {
                state.tally(name).failed += 1;
            }
            let mut lanes = receipt.queued.to_vec();
            let early = receipt.seq.and_then(|seq| state.early.remove(&seq));
            for (name, end) in early.unwrap_or_default() {
                // Those that refused it at once are not among them.
                let Some(place) = lanes.iter().position(|lane| *lane == name) else {
                    continue;
                };
                lanes.swap_remove(place);
                state.tally(&name).count(&end);
                problems.extend(end.problem(|| Place::Line(line), &name));
            }
            if let Some(seq) = receipt.seq {
                state.told = state.told.max(seq);
                if state.pending.len() >= MAX_LINES {
                    for lane in lanes {
                        *state.forgotten.entry(lane).or_default() += 1;
                    }
                } else if !lanes.is_empty() {
                    state.pending.insert(seq, Pending { line, lanes });
                }
            }
        }
        for problem in problems {
            (self.report)(problem);
        }
    }

    /// An event came to its end at one integration.
    pub(crate) fn settled(&self, settled: &Settled<'_>) {
        // Without a place, it was refused at once: the receipt says so.
        let Some(seq) = settled.seq else { return };
        let name = settled.integration;
        let end = End::of(settled);
        let problem = {
            let State {
                totals,
                pending,
                early,
                told,
                forgotten,
            } = &mut *self.state();
            let event = || {
                let (kind, id) = (settled.input.kind(), settled.input.message_id());
                format!("{kind} {id}")
            };
            if seq <= self.begin {
                let tally = totals.integrations.entry(name.into()).or_default();
                match end {
                    End::Delivered => tally.earlier.delivered += 1,
                    End::Failed(_) => tally.earlier.failed += 1,
                    End::Erased => tally.earlier.erased += 1,
                }
                end.problem(|| Place::Earlier(event()), name)
            } else if let Some(event) = pending.get_mut(&seq) {
                let Some(place) = event.lanes.iter().position(|lane| **lane == *name) else {
                    return;
                };
                let (line, lane) = (event.line, event.lanes.swap_remove(place));
                if event.lanes.is_empty() {
                    pending.remove(&seq);
                }
                totals.integrations.entry(lane).or_default().count(&end);
                end.problem(|| Place::Line(line), name)
            } else if seq <= *told {
                let Some(left) = forgotten.get_mut(name) else {
                    return;
                };
                *left = left.saturating_sub(1);
                totals
                    .integrations
                    .entry(name.into())
                    .or_default()
                    .count(&end);
                end.problem(|| Place::Forgotten(event()), name)
            } else {
                early.entry(seq).or_default().push((name.into(), end));
                None
            }
        };
        if let Some(problem) = problem {
            (self.report)(problem);
        }
    }

    /// Closes the books.
    pub(crate) fn close(&self) -> Unsettled {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending).into_values();
        let lines = pending.flat_map(|event| {
            let lanes = event.lanes.into_iter();
            lanes.map(move |name| (event.line, name))
        });
        Unsettled {
            lines: lines.collect(),
            forgotten: std::mem::take(&mut state.forgotten),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("begin", &self.begin)
            .finish_non_exhaustive()
    }
}

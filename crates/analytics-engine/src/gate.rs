//! Who may still bring events. Whoever is on the way in when the engine begins
//! to close is either waited for or told that it is closed; nobody is told
//! that an event was accepted which no lane will see.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use tokio::sync::{Notify, futures::Notified};

use crate::lane::Signals;

/// The way in. Everything is sequentially consistent: who enters counts itself
/// and then looks whether the gate is closed, who closes does the reverse.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    is_sealed: AtomicBool,
    /// How many have entered, and how many have left again: two counts, for
    /// who brings an event enters, and who writes it says for him that he has
    /// left, on another core.
    entered: Apart<AtomicU64>,
    left: Apart<AtomicU64>,
    sealed: Notify,
    /// Of the lanes, which wait for the last one to come in.
    lanes: Vec<Arc<Signals>>,
}

/// Alone in its part of a core's cache: others are not slowed down by whoever
/// writes to it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// Says from elsewhere that somebody has come in; only the first word counts.
#[derive(Clone, Debug)]
pub(crate) struct Ticket(Arc<Word>);

/// In one piece: who brings an event and who writes it both touch it.
#[derive(Debug)]
struct Word {
    gate: Arc<Gate>,
    is_said: AtomicBool,
}

impl Ticket {
    /// Of somebody who has entered.
    pub(crate) fn new(gate: &Arc<Gate>) -> Self {
        Self(Arc::new(Word {
            gate: Arc::clone(gate),
            is_said: AtomicBool::new(false),
        }))
    }

    pub(crate) fn leave(&self) {
        if !self.0.is_said.swap(true, SeqCst) {
            self.0.gate.leave();
        }
    }
}

impl Gate {
    pub(crate) fn new(lanes: Vec<Arc<Signals>>) -> Self {
        Self {
            lanes,
            ..Self::default()
        }
    }

    /// Counts somebody who comes in, also if the gate is closed; whoever does
    /// calls [`leave`](Self::leave).
    pub(crate) fn enter(&self) {
        self.entered.0.fetch_add(1, SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.left.0.fetch_add(1, SeqCst);
        if self.is_quiet() {
            for lane in &self.lanes {
                lane.wake.notify_one();
            }
        }
    }

    /// Lets nobody else in.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }

    /// Whether nobody comes in any more, and nobody is on the way.
    pub(crate) fn is_quiet(&self) -> bool {
        // Who leaves between the two looks is one too few that have left.
        self.is_closed() && {
            let left = self.left.0.load(SeqCst);
            left == self.entered.0.load(SeqCst)
        }
    }

    /// Turns those back who are on the way in.
    pub(crate) fn seal(&self) {
        self.close();
        self.is_sealed.store(true, SeqCst);
        self.sealed.notify_waiters();
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(SeqCst)
    }

    /// Completes when the gate is sealed after this call.
    pub(crate) fn sealed(&self) -> Notified<'_> {
        self.sealed.notified()
    }
}

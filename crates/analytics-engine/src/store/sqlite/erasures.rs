//! The erasures that are to be carried out, one after the other.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    super::{Erased, Seq},
    erase::{Erasing, Forgotten},
    failure::Outcome,
};

/// After so long, what failed is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// At most so many that are due are carried out at the same time: all of them
/// in one pass through the file.
const AT_ONCE: usize = 10_000;

/// What is to be erased. Those that are due stand in the file as well, until
/// they have been carried out.
#[derive(Default)]
pub(super) struct Erasures {
    asked: VecDeque<Asked>,
    under_way: Option<Erasing>,
    due: VecDeque<Forgotten>,
    /// The events that say so, of those that are due or under way.
    known: HashSet<Seq>,
    put_off_until: Option<Instant>,
}

/// An erasure that somebody waits for.
pub(super) struct Asked {
    pub(super) erasing: Erasing,
    pub(super) reply: oneshot::Sender<Outcome<Erased>>,
}

impl Erasures {
    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    /// Adds those that have come due, each once.
    pub(super) fn owe(&mut self, due: Vec<Forgotten>) {
        for one in due {
            if self.known.insert(one.asked_at) {
                self.due.push_back(one);
            }
        }
    }

    /// Whether there is something to do now.
    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty() || self.has_due() && self.until().is_none()
    }

    /// How long what is due is put off, if it is.
    pub(super) fn until(&self) -> Option<Duration> {
        let until = self.put_off_until.filter(|_| self.has_due())?;
        let until = until.saturating_duration_since(Instant::now());
        (!until.is_zero()).then_some(until)
    }

    fn has_due(&self) -> bool {
        self.under_way.is_some() || !self.due.is_empty()
    }

    /// Those that somebody waits for go first.
    pub(super) fn next_asked(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// Whoever waits goes on waiting.
    pub(super) fn go_on_asked(&mut self, asked: Asked) {
        self.asked.push_front(asked);
    }

    pub(super) fn next_due(&mut self) -> Option<Erasing> {
        if self.until().is_some() {
            return None;
        }
        self.under_way.take().or_else(|| {
            let due: Vec<_> = self.due.drain(..self.due.len().min(AT_ONCE)).collect();
            (!due.is_empty()).then(|| Erasing::new(due, false))
        })
    }

    pub(super) fn go_on(&mut self, erasing: Erasing) {
        self.put_off_until = None;
        if !erasing.is_done {
            self.under_way = Some(erasing);
            return;
        }
        for one in &*erasing.forgotten {
            self.known.remove(&one.asked_at);
        }
    }

    pub(super) fn put_off(&mut self, erasing: Erasing) {
        self.put_off_until = Some(Instant::now() + PAUSE);
        self.under_way = Some(erasing);
    }
}

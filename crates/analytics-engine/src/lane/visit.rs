//! What a lane asks of its store: one thing at a time, while deliveries go on.

use std::sync::{Arc, atomic::Ordering};

use analytics_spec::{Error, RequestPolicy, policies::MAX_ASKED};
use futures::{FutureExt as _, future::BoxFuture};

use super::{Running, after, outcome::Outcome};
use crate::store::{Pulled, Seq};

/// A question to the store.
pub(super) type Visit = BoxFuture<'static, Visited>;

/// The store's answer.
pub(super) enum Visited {
    Wrote(Result<(), Error>),
    Pulled(Result<Pulled, Error>),
}

/// So many people may be away at a time: each takes some 100 bytes.
const MAX_AWAY: usize = 1_000_000;

impl Running {
    /// Whether there are outcomes that the store does not know yet.
    pub(super) fn has_outcomes(&self) -> bool {
        !self.unwritten.is_empty() || self.writing.is_some()
    }

    /// Everything up to here is settled, and the store knows.
    pub(super) fn settled_through(&self) -> Seq {
        let here = self.schedule.oldest();
        let unwritten = self.ended.first().copied();
        match here.into_iter().chain(unwritten).min() {
            Some(oldest) => self.cursor.min(oldest.saturating_sub(1)),
            None => self.cursor,
        }
    }

    /// Writes what came back, and takes what there is room for; after an error
    /// again, when the store has had time to recover.
    pub(super) fn visit_store(&mut self) {
        while self.visit.is_none() {
            let now = self.now();
            if let Some(from) = self.schedule.back(now) {
                self.cursor = self.cursor.min(from.saturating_sub(1));
            }
            if self.store_paused_until.is_some_and(|until| until > now) {
                return;
            }
            let Some(mut visit) = self.next_visit() else {
                return;
            };
            // A store in memory answers at once.
            match (&mut visit).now_or_never() {
                Some(visited) => self.visited(visited),
                None => self.visit = Some(visit),
            }
        }
    }

    fn next_visit(&mut self) -> Option<Visit> {
        // In turns, for both may go on without end.
        if self.has_written
            && let Some(pull) = self.pull()
        {
            return Some(pull);
        }
        self.write().or_else(|| self.pull())
    }

    fn write(&mut self) -> Option<Visit> {
        // What could not be written is written again, as it was.
        let writing = match &self.writing {
            Some(writing) => Arc::clone(writing),
            None if self.unwritten.is_empty() => return None,
            None => {
                let writing: Arc<[Outcome]> = std::mem::take(&mut self.unwritten).into();
                self.writing = Some(Arc::clone(&writing));
                writing
            }
        };
        let store = Arc::clone(&self.lane.store);
        let name = Arc::clone(&self.name);
        let paused_until = self.condition.paused_until;
        Some(Box::pin(async move {
            let settlements: Vec<_> = writing.iter().filter_map(Outcome::settlement).collect();
            drop(writing);
            Visited::Wrote(store.settle(&name, &settlements, paused_until).await)
        }))
    }

    fn pull(&mut self) -> Option<Visit> {
        self.is_full = false;
        if self.is_pulled() {
            return None;
        }
        let window = self.lane.window_bytes;
        if self.schedule.weight() > window - window / 8 && self.schedule.away() < MAX_AWAY {
            self.schedule.evict(window / 2, self.now());
            if self.schedule.away() >= MAX_AWAY {
                tracing::warn!(
                    integration = %self.name,
                    "a million people wait for another attempt: those behind wait with them"
                );
            }
        }
        let room = window.saturating_sub(self.schedule.weight());
        if room == 0 {
            self.is_full = true;
            return None;
        }
        // In memory, an event may take four times its JSON.
        let max_bytes = (room / 4).max(1);
        let store = Arc::clone(&self.lane.store);
        let name = Arc::clone(&self.name);
        let cursor = self.cursor;
        Some(Box::pin(async move {
            Visited::Pulled(store.pull(&name, cursor, max_bytes).await)
        }))
    }

    /// Takes the store's answer.
    pub(super) fn visited(&mut self, visited: Visited) {
        let result = match visited {
            Visited::Wrote(result) => {
                // What failed is asked again before anything else.
                self.has_written = result.is_ok();
                result.map(|()| self.wrote())
            }
            Visited::Pulled(pulled) => {
                self.has_written = false;
                pulled.map(|pulled| self.pulled(pulled))
            }
        };
        self.condition.store_says(result.as_ref().err());
        match result {
            Ok(()) => {
                self.store_paused_until = None;
                self.store_failures_in_a_row = 0;
            }
            Err(error) => {
                self.store_failures_in_a_row = self.store_failures_in_a_row.saturating_add(1);
                let pause = RequestPolicy::default()
                    .pause(self.store_failures_in_a_row, self.lane.clock.jitter());
                self.store_paused_until = Some(after(self.now(), pause));
                tracing::error!(integration = %self.name, %error, ?pause, "the store failed");
            }
        }
    }

    /// What came back is written: now it counts.
    fn wrote(&mut self) {
        let Some(written) = self.writing.take() else {
            return;
        };
        for outcome in &*written {
            if outcome.is_final() {
                self.ended.remove(&outcome.seq());
            }
            if let Outcome::Attempted(attempted) = outcome {
                match attempted.next {
                    Some(_) => self.lane.metrics.retried(),
                    None => self.report(&attempted.event, attempted.result.as_ref()),
                }
            }
        }
        self.count_at_hand();
    }

    fn pulled(&mut self, pulled: Pulled) {
        let mut own = 0;
        let longest = MAX_ASKED.max(self.policy.maximum_interval);
        let latest = after(self.now(), longest);
        for mut event in pulled.events {
            // A clock that was wrong in an earlier engine holds nobody up.
            if event.seq <= self.lane.begin {
                event.not_before = event.not_before.min(Some(latest));
            }
            own += isize::from(event.seq > self.pulled_through.max(self.lane.begin));
            // The store may not know yet that it has come to its end.
            if !self.ended.contains(&event.seq) {
                self.schedule.push(event);
            }
        }
        self.cursor = self.cursor.max(pulled.through);
        self.pulled_through = self.pulled_through.max(pulled.through);
        if !self.erasures.is_empty() {
            let erasures = std::mem::take(&mut self.erasures);
            self.erase(&erasures);
        }
        self.lane.signals.ahead.fetch_sub(own, Ordering::AcqRel);
        self.count_at_hand();
    }

    fn count_at_hand(&self) {
        let at_hand = self.schedule.len() + self.ended.len();
        self.lane.signals.at_hand.store(at_hand, Ordering::Release);
    }
}

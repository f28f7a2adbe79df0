//! What a lane asks of its store: one thing at a time, while deliveries go on.

use analytics_spec::{Error, RequestPolicy};
use futures::{FutureExt as _, future::BoxFuture};

use super::{Running, after, outcome::Attempted};
use crate::store::{Pulled, Seq, Settlement};

/// A question to the store.
pub(super) type Visit = BoxFuture<'static, Visited>;

/// The store's answer.
pub(super) enum Visited {
    Wrote {
        attempted: Vec<Attempted>,
        unreadable: Vec<(Seq, Settlement)>,
        result: Result<(), Error>,
    },
    Pulled(Result<Pulled, Error>),
}

/// So many people may be away at a time: each takes some 100 bytes.
const MAX_AWAY: usize = 1_000_000;

impl Running {
    /// Outcomes that the store does not know yet, beside those it is told of.
    pub(super) fn has_outcomes(&self) -> bool {
        !self.unwritten.is_empty() || !self.unreadable.is_empty()
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
        if !self.has_outcomes() {
            return None;
        }
        let attempted = std::mem::take(&mut self.unwritten);
        let unreadable = std::mem::take(&mut self.unreadable);
        let settlements: Vec<_> = attempted
            .iter()
            .filter_map(|attempted| Some((attempted.event.seq, attempted.settlement()?)))
            .chain(unreadable.iter().cloned())
            .collect();
        let store = std::sync::Arc::clone(&self.lane.store);
        let name = std::sync::Arc::clone(&self.name);
        let paused_until = self.condition.paused_until;
        Some(Box::pin(async move {
            let result = store.settle(&name, &settlements, paused_until).await;
            Visited::Wrote {
                attempted,
                unreadable,
                result,
            }
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
        let store = std::sync::Arc::clone(&self.lane.store);
        let name = std::sync::Arc::clone(&self.name);
        let cursor = self.cursor;
        Some(Box::pin(async move {
            Visited::Pulled(store.pull(&name, cursor, max_bytes).await)
        }))
    }

    /// Takes the store's answer.
    pub(super) fn visited(&mut self, visited: Visited) {
        let result = match visited {
            Visited::Wrote {
                attempted,
                unreadable,
                result,
            } => {
                // What failed is asked again before anything else.
                self.has_written = result.is_ok();
                self.wrote(attempted, unreadable, result)
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

    /// What came back is written: now it counts. If it is not, it is to be
    /// written again.
    fn wrote(
        &mut self,
        mut attempted: Vec<Attempted>,
        mut unreadable: Vec<(Seq, Settlement)>,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        if let Err(error) = result {
            attempted.append(&mut self.unwritten);
            self.unwritten = attempted;
            unreadable.append(&mut self.unreadable);
            self.unreadable = unreadable;
            return Err(error);
        }
        for (seq, _) in unreadable {
            self.schedule.settle(seq);
        }
        for Attempted {
            event,
            outcome,
            next,
        } in attempted
        {
            if let Some((not_before, retries)) = next {
                self.lane.metrics.retried();
                self.schedule.retry(event.seq, not_before, retries);
            } else {
                self.schedule.settle(event.seq);
                self.report(&event, outcome.as_ref());
            }
        }
        self.count_at_hand();
        Ok(())
    }

    fn pulled(&mut self, pulled: Pulled) {
        let mut own = 0;
        for event in pulled.events {
            own += isize::from(event.seq > self.pulled_through.max(self.lane.begin));
            self.schedule.push(event);
        }
        self.cursor = self.cursor.max(pulled.through);
        self.pulled_through = self.pulled_through.max(pulled.through);
        if !self.erasures.is_empty() {
            let erasures = std::mem::take(&mut self.erasures);
            self.erase(&erasures);
        }
        self.lane
            .signals
            .ahead
            .fetch_sub(own, std::sync::atomic::Ordering::AcqRel);
        self.count_at_hand();
    }

    fn count_at_hand(&self) {
        self.lane
            .signals
            .at_hand
            .store(self.schedule.len(), std::sync::atomic::Ordering::Release);
    }
}

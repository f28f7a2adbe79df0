//! What a lane asks of its store: one thing at a time, while deliveries go on.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use analytics_spec::{Error, RequestPolicy, Timestamp, policies::MAX_ASKED};
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    Running, after, between,
    outcome::{self, Outcome},
};
use crate::store::{Pulled, Seq};

/// A question to the store.
pub(super) type Visit = BoxFuture<'static, Visited>;

/// The store's answer.
pub(super) enum Visited {
    Wrote(Result<(), Error>),
    Pulled(Result<Pulled, Error>),
}

/// Whoever pauses for less stays: the store would be read again for each of
/// their attempts.
const LONG: Duration = Duration::from_secs(5);

/// After so long without any room also those go who do not pause for long:
/// nobody is to wait for them for ever.
const STUCK: Duration = Duration::from_secs(10);

/// Where people's events are spread over a large backlog, all of it is read
/// again for a few of them: so seldom that it comes to no more than this.
const PLACES_A_SECOND: u64 = 20_000;

/// How many people may be away at a time, by the bytes of the window: a million
/// for 12 MiB. Each takes some 150 bytes.
const WINDOW_PER_AWAY: usize = 12;

/// However small the window is.
const AWAY_AT_LEAST: usize = 1000;

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
            Some(oldest) => self.cursor().min(oldest.saturating_sub(1)),
            None => self.cursor(),
        }
    }

    /// Where the next pull goes on: what is read again comes first, for
    /// everybody's events are taken in their order.
    fn cursor(&self) -> Seq {
        let again = self.again.first();
        again.map_or(self.pulled_through, |(from, _)| from.saturating_sub(1))
    }

    /// Writes what came back, and takes what there is room for; after an error
    /// again, when the store has had time to recover.
    pub(super) fn visit_store(&mut self) {
        while self.visit.is_none() {
            let now = self.now();
            let mut is_back = false;
            for erasure in std::mem::take(&mut self.recalled) {
                for (from, through) in self.schedule.recall(erasure.person, erasure.through) {
                    self.read_again(from, through);
                }
            }
            while let Some((from, through)) = self.schedule.back(now) {
                self.read_again(from, through);
                is_back = true;
            }
            if is_back {
                self.read_again = self.again.places();
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

    /// Takes a part of what is in the store once more.
    fn read_again(&mut self, from: Seq, through: Seq) {
        self.again.add(from, through);
        // The store has to know first what came of it.
        self.has_written = false;
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
        let name = Arc::clone(&self.lane.name);
        let paused_until = self.condition.paused_until;
        Some(Box::pin(async move {
            let settlements = outcome::settlements(&writing);
            drop(writing);
            Visited::Wrote(store.settle(&name, &settlements, paused_until).await)
        }))
    }

    fn pull(&mut self) -> Option<Visit> {
        self.is_full = false;
        if self.is_pulled() || self.lane.signals.halted.load(Ordering::Acquire) {
            return None;
        }
        let now = self.now();
        let window = self.lane.window_bytes;
        let much = window - window / 8;
        let max_away = (window / WINDOW_PER_AWAY).max(AWAY_AT_LEAST);
        let is_stuck = (self.full_since).is_some_and(|since| between(since, now) >= STUCK);
        let pace = self.read_again / PLACES_A_SECOND;
        if self.schedule.weight() > much && self.schedule.away() < max_away {
            self.schedule
                .evict(much, |until| back_at(now, until, is_stuck, pace));
        }
        let again = self.again.first();
        // Who comes back takes no more room than before.
        let is_crowded = self.schedule.away() >= max_away;
        if is_crowded && !self.condition.is_crowded {
            tracing::warn!(
                integration = %self.lane.name,
                people = self.schedule.away(),
                "so many people wait for another attempt that those behind wait with them"
            );
        }
        self.condition.crowded(is_crowded);
        let room = window.saturating_sub(self.schedule.weight());
        if room == 0 {
            self.full_since.get_or_insert(now);
        } else {
            self.full_since = None;
        }
        if room == 0 || (is_crowded && again.is_none()) {
            self.is_full = true;
            return None;
        }
        // In memory, an event may take four times its JSON.
        let mut max_bytes = (room / 4).max(1);
        if let Some((from, through)) = again {
            // What is behind is at hand, or away.
            let events = usize::try_from(through - from + 1).unwrap_or(usize::MAX);
            max_bytes = max_bytes.min(events.saturating_mul(self.event_bytes));
        }
        let store = Arc::clone(&self.lane.store);
        let name = Arc::clone(&self.lane.name);
        let cursor = self.cursor();
        Some(Box::pin(async move {
            Visited::Pulled(store.pull(&name, cursor, max_bytes).await)
        }))
    }

    /// Takes the store's answer.
    pub(super) fn visited(&mut self, visited: Visited) {
        self.heed_clock(None);
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
                tracing::error!(integration = %self.lane.name, %error, ?pause, "the store failed");
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
                self.carried = self.carried.saturating_sub(attempted.event.weight);
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
        let bytes: usize = pulled.events.iter().map(|event| event.bytes).sum();
        if let Some(average) = bytes.checked_div(pulled.events.len()) {
            self.event_bytes = average.max(1);
        }
        // Where the clock was set back, pauses that were written down before say
        // nothing any more; what the vendor asked for, the whole lane heeds.
        let longest = self.sender.policy.maximum_interval;
        let longest = match self.is_set_back {
            true => longest,
            false => longest.max(MAX_ASKED),
        };
        let latest = after(self.now(), longest);
        for mut event in pulled.events {
            if self.is_set_back {
                // Once more so long, and again each time that it is read, it
                // would wait far too long.
                event.not_before = event.not_before.filter(|until| *until <= latest);
            } else if event.seq <= self.lane.begin {
                // A clock that was wrong in an earlier engine holds nobody up.
                event.not_before = event.not_before.min(Some(latest));
            }
            own += isize::from(event.seq > self.pulled_through.max(self.lane.begin));
            // The store may not know yet that it has come to its end.
            if !self.ended.contains(&event.seq) {
                self.schedule.push(event);
            }
        }
        self.again.read(pulled.through);
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

/// When somebody who pauses until then is to be back, if it is worth it to send
/// them away: at times that they share with others, for to collect one takes
/// the store about as long as to collect all who wait beside them. They come
/// later by a quarter of their pause, a second, or so many seconds as `pace` says
/// lie between two collections, at most.
fn back_at(now: Timestamp, until: Timestamp, is_stuck: bool, pace: u64) -> Option<Timestamp> {
    if until <= now || (between(now, until) < LONG && !is_stuck) {
        return None;
    }
    let until = until.max(after(now, LONG));
    let quarter = between(now, until).as_secs() / 4;
    let grid = i64::try_from(quarter.max(pace)).ok()?.checked_ilog2();
    let grid = 1_i64 << grid.unwrap_or_default();
    let at = until.as_second().div_euclid(grid).saturating_add(1);
    // One that is out of reach is nobody's to share.
    Some(Timestamp::from_second(at.saturating_mul(grid)).unwrap_or(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_comes_back_with_others_and_not_much_later() {
        let now = Timestamp::from_millisecond(1_800_000_000_123).unwrap();
        for pause in (1..2000).map(|n| Duration::from_millis(n * 617)) {
            let back = |is_stuck| back_at(now, after(now, pause), is_stuck, 0);
            assert_eq!(back(false).is_some(), pause >= LONG);
            let away = between(now, back(true).unwrap());
            let least = pause.max(LONG);
            let late = (least / 4).max(Duration::from_secs(1));
            assert!(away >= least && away <= least + late, "{pause:?}: {away:?}");
        }
        assert_eq!(back_at(now, now, true, 0), None);
        assert!(back_at(now, Timestamp::MAX, false, 0).is_some());
        // Few times, for long pauses and where much is read again.
        for (pauses, pace) in [(600..1200, 0), (5..600, 300)] {
            let until = |pause| after(now, Duration::from_secs(pause));
            let back = |pause| back_at(now, until(pause), false, pace);
            let times: std::collections::BTreeSet<_> = pauses.map(back).collect();
            assert!(times.len() < 10, "{}", times.len());
        }
    }
}

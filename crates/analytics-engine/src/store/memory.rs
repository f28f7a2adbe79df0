//! Events in memory: as fast as can be, and gone with the process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use analytics_spec::{
    AnyEvent, AnyInput, Error, ErrorKind, Retries, Timestamp, event::Person, json_len,
};
use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    Accepted, Body, DeadLetters, Erased, Erasure, LaneStatus, OnErased, People, Pulled, Resumed,
    Seq, Settlement, Store, Stored, is_forgotten_with, rate::Rate,
};
use crate::by_seq::BySeq;

/// Keeps events in memory, within bounds. Dead letters it does not keep.
#[derive(Debug)]
pub struct MemoryStore {
    max_events: usize,
    max_bytes: usize,
    hasher: RandomState,
    /// `State::last`, to be read without waiting.
    last: AtomicU64,
    state: Mutex<State>,
    /// Those who wait for room stand in line, and the first is told when there
    /// is some.
    line: tokio::sync::Mutex<()>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    last: Seq,
    kept: BySeq<Kept>,
    bytes: usize,
    /// How many stand in line.
    waiting: usize,
    lanes: HashMap<Arc<str>, Lane>,
    /// Users to erase, when every lane has settled the event that says so.
    deletes: BTreeMap<Seq, Deleted>,
    on_erased: Option<OnErased>,
    retired: Retired,
}

/// Somebody to erase.
#[derive(Clone, Debug)]
struct Deleted {
    user: User,
    /// Whether the `delete` is for any lane. One that is not waits until every
    /// lane has come past it, as it would if it were for all of them.
    is_for_nobody: bool,
}

/// A user's id, and its hash.
type User = (Arc<str>, u64);

#[derive(Debug, Default)]
struct Lane {
    pending: BySeq<Pending>,
    paused_until: Option<Timestamp>,
    in_retry: u64,
    delivered: Rate,
    is_attached: bool,
}

/// How far an event is at one lane.
#[derive(Clone, Copy, Debug)]
struct Pending {
    retries: Retries,
    not_before: Option<Timestamp>,
}

/// An event that some lanes have not settled.
#[derive(Debug)]
struct Kept {
    input: Arc<AnyInput>,
    people: People,
    bytes: usize,
    accepted_at: Timestamp,
    /// How many lanes have not.
    lanes: usize,
}

/// Events that are settled, for those who append to free: an allocator takes
/// back memory best in the thread that it came from, where it is needed next.
#[derive(Debug, Default)]
struct Retired(VecDeque<Arc<AnyInput>>);

/// At most so many events wait to be freed; half of them without a hurry, so
/// that whoever settled them has let them go before.
const MAX_RETIRED: usize = 1024;

/// So many events are pulled or settled under one lock: whoever appends waits
/// for it, and goes to sleep if that takes long.
const AT_ONCE: usize = 32;

/// Larger events are not kept for it.
const MAX_RETIRED_BYTES: usize = 4096;

impl Retired {
    fn push(&mut self, kept: Kept) -> Option<Kept> {
        if self.0.len() >= MAX_RETIRED || kept.bytes > MAX_RETIRED_BYTES {
            return Some(kept);
        }
        self.0.push_back(kept.input);
        None
    }

    /// Up to two of them: so they go faster than they come.
    fn take(&mut self) -> [Option<Arc<AnyInput>>; 2] {
        if self.0.len() <= MAX_RETIRED / 2 {
            return [None, None];
        }
        [self.0.pop_front(), self.0.pop_front()]
    }
}

/// Events that wait for room.
#[derive(Debug)]
struct Arriving {
    events: Vec<(Kept, Arc<[Arc<str>]>)>,
    bytes: usize,
}

impl MemoryStore {
    /// A store of at most so many events, and so many bytes of their JSON.
    /// What is more than the whole store is taken when it is empty.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            max_events,
            max_bytes,
            hasher: RandomState::new(),
            last: AtomicU64::new(0),
            state: Mutex::default(),
            line: tokio::sync::Mutex::default(),
            freed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, user_id: &str) -> User {
        (user_id.into(), self.hasher.hash_one(Person::User(user_id)))
    }

    fn measure(&self, events: Vec<Accepted>) -> Result<Arriving, Error> {
        let mut arriving = Arriving {
            events: Vec::with_capacity(events.len()),
            bytes: 0,
        };
        for event in events {
            let bytes = json_len(&*event.input).map_err(|error| {
                Error::new(ErrorKind::Internal, "the event cannot be written as JSON")
                    .with_source(error)
            })?;
            arriving.bytes = arriving.bytes.saturating_add(bytes);
            let people = event.input.event.people();
            let kept = Kept {
                people: people.map(|p| self.hasher.hash_one(p)).collect(),
                input: event.input,
                bytes,
                accepted_at: Timestamp::UNIX_EPOCH,
                lanes: event.lanes.len(),
            };
            arriving.events.push((kept, event.lanes));
        }
        Ok(arriving)
    }

    /// Keeps events if there is room, and nobody waits for it before them.
    fn take(&self, arriving: &mut Arriving, is_first: bool) -> Option<Seq> {
        let now = Timestamp::now();
        let mut state = self.state();
        let has_room = state.kept.is_empty()
            || state.kept.len().saturating_add(arriving.events.len()) <= self.max_events
                && state.bytes.saturating_add(arriving.bytes) <= self.max_bytes;
        if !has_room || (state.waiting > 0 && !is_first) {
            return None;
        }
        let first = state.last + 1;
        let mut has_delete = false;
        for (mut kept, lanes) in arriving.events.drain(..) {
            kept.accepted_at = now;
            if let AnyEvent::Delete(delete) = &kept.input.event {
                has_delete = true;
                let deleted = Deleted {
                    user: self.user(&delete.user_id),
                    is_for_nobody: lanes.is_empty(),
                };
                let seq = state.last + 1;
                state.deletes.insert(seq, deleted);
            }
            state.keep(kept, &lanes);
        }
        self.last.store(state.last, Ordering::Release);
        let erased = if has_delete {
            let erasures = state.erase_deleted();
            Some((state.on_erased.clone(), erasures))
        } else {
            None
        };
        let retired = state.retired.take();
        drop(state);
        drop(retired);
        if let Some((on_erased, erasures)) = erased {
            self.freed.notify_one();
            tell(on_erased, &erasures);
        }
        Some(first)
    }

    async fn wait(&self, mut arriving: Arriving, patience: Duration) -> Result<Seq, Error> {
        let full = || {
            Error::new(
                ErrorKind::Full,
                "the queue is full: wait for room, or give the store more of it",
            )
        };
        if patience.is_zero() {
            return Err(full());
        }
        let _waiting = Waiting::new(self);
        let taken = async {
            let _first = self.line.lock().await;
            loop {
                if let Some(seq) = self.take(&mut arriving, true) {
                    return seq;
                }
                self.freed.notified().await;
            }
        };
        let taken = tokio::time::timeout(patience.min(crate::LONGEST), taken).await;
        taken.map_err(|_| full())
    }
}

/// Somebody in line.
struct Waiting<'a>(&'a MemoryStore);

impl<'a> Waiting<'a> {
    fn new(store: &'a MemoryStore) -> Self {
        store.state().waiting += 1;
        Self(store)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl State {
    fn keep(&mut self, kept: Kept, lanes: &[Arc<str>]) {
        self.last += 1;
        let seq = self.last;
        for name in lanes {
            let pending = Pending {
                retries: Retries::new(),
                not_before: None,
            };
            let lane = match self.lanes.get_mut(name) {
                Some(lane) => lane,
                None => self.lanes.entry(Arc::clone(name)).or_default(),
            };
            lane.pending.insert(seq, pending);
        }
        if !lanes.is_empty() {
            self.bytes += kept.bytes;
            self.kept.insert(seq, kept);
        }
    }

    /// Keeps how attempts ended: what is to be freed.
    fn settle(
        &mut self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        now: Timestamp,
    ) -> Vec<Kept> {
        let mut done = Vec::new();
        let Some(lane) = self.lanes.get_mut(lane) else {
            return done;
        };
        let mut delivered = 0;
        for (seq, settlement) in settlements {
            if let Settlement::Retry {
                not_before,
                retries,
            } = settlement
            {
                if let Some(pending) = lane.pending.get_mut(*seq) {
                    lane.in_retry += u64::from(pending.not_before.is_none());
                    pending.not_before = Some(*not_before);
                    pending.retries = *retries;
                }
            } else if lane.take(*seq).is_some() {
                delivered += u64::from(*settlement == Settlement::Delivered);
                let Some(event) = self.kept.get_mut(*seq) else {
                    continue;
                };
                event.lanes -= 1;
                if event.lanes == 0
                    && let Some(event) = self.kept.remove(*seq)
                {
                    self.bytes -= event.bytes;
                    done.extend(self.retired.push(event));
                }
            }
        }
        lane.delivered.count(delivered, now);
        done
    }

    /// Takes an event out, wherever it is.
    fn forget(&mut self, seq: Seq) {
        for lane in self.lanes.values_mut() {
            lane.take(seq);
        }
        if let Some(kept) = self.kept.remove(seq) {
            self.bytes -= kept.bytes;
        }
    }

    /// Forgets a user's events: how many.
    fn erase(&mut self, (user_id, person): &User, through: Seq) -> (u64, Erasure) {
        let of_user: Vec<_> = self
            .kept
            .iter()
            .take_while(|(seq, _)| *seq <= through)
            .filter(|(_, kept)| is_forgotten_with(&kept.input, user_id))
            .map(|(seq, _)| seq)
            .collect();
        for seq in &of_user {
            self.forget(*seq);
        }
        // Not yet freed is not yet forgotten.
        self.retired
            .0
            .retain(|input| !is_forgotten_with(input, user_id));
        let erasure = Erasure::new(Arc::clone(user_id), *person, through);
        (of_user.len() as u64, erasure)
    }

    /// Erases the users whose deletion is settled everywhere.
    fn erase_deleted(&mut self) -> Vec<Erasure> {
        let mut erasures = Vec::new();
        // What is erased may have been what another one waited for.
        loop {
            let due = self.erase_due();
            if due.is_empty() {
                return erasures;
            }
            erasures.extend(due);
        }
    }

    fn erase_due(&mut self) -> Vec<Erasure> {
        let attached = self.lanes.values().filter(|lane| lane.is_attached);
        let oldest = attached.filter_map(|lane| lane.pending.first().map(|(seq, _)| seq));
        let oldest = oldest.min().unwrap_or(Seq::MAX);
        let is_due = |seq: Seq, deleted: &Deleted| {
            if deleted.is_for_nobody {
                seq < oldest
            } else {
                !self.kept.contains(seq)
            }
        };
        let due: Vec<_> = self
            .deletes
            .iter()
            .filter(|(seq, deleted)| is_due(**seq, deleted))
            .map(|(seq, deleted)| (*seq, deleted.user.clone()))
            .collect();
        due.into_iter()
            .map(|(seq, user)| {
                self.deletes.remove(&seq);
                self.erase(&user, seq).1
            })
            .collect()
    }
}

impl Lane {
    fn take(&mut self, seq: Seq) -> Option<Pending> {
        let pending = self.pending.remove(seq)?;
        self.in_retry -= u64::from(pending.not_before.is_some());
        Some(pending)
    }
}

fn tell(on_erased: Option<OnErased>, erasures: &[Erasure]) {
    if let Some(on_erased) = on_erased {
        for erasure in erasures {
            on_erased(erasure);
        }
    }
}

impl Default for MemoryStore {
    /// At most 100,000 events and 256 MiB of their JSON.
    fn default() -> Self {
        Self::new(100_000, 256 * 1024 * 1024)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn attach(&self, lanes: &[Arc<str>], on_erased: OnErased) -> Result<Vec<Resumed>, Error> {
        let mut state = self.state();
        state.on_erased = Some(on_erased);
        for lane in state.lanes.values_mut() {
            lane.is_attached = false;
        }
        let last = state.last;
        let resumed = lanes.iter().map(|name| {
            let lane = state.lanes.entry(Arc::clone(name)).or_default();
            lane.is_attached = true;
            let first = lane.pending.first();
            let through = first.map_or(last, |(first, _)| first - 1);
            Resumed::new(through, lane.paused_until)
        });
        Ok(resumed.collect())
    }

    async fn append(&self, events: Vec<Accepted>, patience: Duration) -> Result<Seq, Error> {
        let mut arriving = self.measure(events)?;
        match self.take(&mut arriving, false) {
            Some(seq) => Ok(seq),
            // In a box of its own: there is room nearly always, and every call
            // would pay for what waiting takes.
            None => Box::pin(self.wait(arriving, patience)).await,
        }
    }

    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        let mut pulled = Pulled::new(Vec::new(), after);
        let mut bytes = 0_usize;
        loop {
            let state = self.state();
            let lane = state.lanes.get(lane);
            let from = pulled.through.saturating_add(1);
            let mut pending = lane.into_iter().flat_map(|lane| lane.pending.from(from));
            for (seq, pending) in pending.by_ref().take(AT_ONCE) {
                if bytes >= max_bytes && !pulled.events.is_empty() {
                    return Ok(pulled);
                }
                pulled.through = seq;
                let Some(kept) = state.kept.get(seq) else {
                    continue;
                };
                bytes = bytes.saturating_add(kept.bytes);
                pulled.events.push(Stored {
                    seq,
                    people: kept.people.clone(),
                    body: Body::Input(Arc::clone(&kept.input)),
                    bytes: kept.bytes,
                    accepted_at: kept.accepted_at,
                    retries: pending.retries,
                    not_before: pending.not_before,
                });
            }
            if pending.next().is_none() {
                pulled.through = state.last.max(after);
                return Ok(pulled);
            }
        }
    }

    async fn settle(
        &self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        paused_until: Option<Timestamp>,
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        for settlements in settlements.chunks(AT_ONCE) {
            // Freed outside the lock.
            let _done = self.state().settle(lane, settlements, now);
        }
        let (on_erased, erasures, is_awaited) = {
            let mut state = self.state();
            if let Some(lane) = state.lanes.get_mut(lane) {
                lane.paused_until = paused_until;
            }
            let erasures = if state.deletes.is_empty() {
                Vec::new()
            } else {
                state.erase_deleted()
            };
            (state.on_erased.clone(), erasures, state.waiting > 0)
        };
        if is_awaited {
            self.freed.notify_one();
        }
        tell(on_erased, &erasures);
        Ok(())
    }

    async fn erase(&self, user_id: &str) -> Result<Erased, Error> {
        let (events, erasure, on_erased) = {
            let mut state = self.state();
            let through = state.last;
            let (events, erasure) = state.erase(&self.user(user_id), through);
            (events, erasure, state.on_erased.clone())
        };
        self.freed.notify_one();
        tell(on_erased, &[erasure]);
        Ok(Erased::new(events, 0))
    }

    async fn status(&self) -> Result<Vec<LaneStatus>, Error> {
        let now = Timestamp::now();
        let state = self.state();
        let lanes = state.lanes.iter().map(|(name, lane)| LaneStatus {
            integration: name.to_string(),
            is_attached: lane.is_attached,
            pending: lane.pending.len() as u64,
            oldest: lane.pending.first().and_then(|(first, _)| {
                let kept = state.kept.get(first)?;
                Some(kept.accepted_at)
            }),
            in_retry: lane.in_retry,
            dead: 0,
            paused_until: lane.paused_until,
            delivered: lane.delivered.total,
            delivered_last_minute: lane.delivered.last_minute(now),
        });
        let mut lanes: Vec<_> = lanes.collect();
        lanes.sort_by(|one, other| one.integration.cmp(&other.integration));
        Ok(lanes)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    fn last(&self) -> Seq {
        self.last.load(Ordering::Acquire)
    }

    fn is_durable(&self) -> bool {
        false
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("last", &self.last)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

//! Events in memory: as fast as can be, and gone with the process.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use analytics_spec::{AnyEvent, Error, ErrorKind, Retries, Timestamp, event::Person};
use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{
    Accepted, Appending, Body, DeadLetters, Erased, Erasure, LaneStatus, Loaded, OnAppended,
    OnErased, People, Pulled, Resumed, Seq, Settlement, Store, Stored, line::Line, rate::Rate,
    retired::Retired,
};
use crate::by_seq::BySeq;

/// Keeps events in memory, within bounds. Dead letters it does not keep.
#[derive(Debug)]
pub struct MemoryStore {
    max_events: usize,
    max_bytes: usize,
    hasher: RandomState,
    /// `Inbox::last`, to be read without waiting.
    last: AtomicU64,
    inbox: Mutex<Inbox>,
    /// Locked before the inbox.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Seq,
    kept: BySeq<Kept>,
    /// What is gone, and still counted in the inbox.
    freed: Freed,
    lanes: HashMap<Arc<str>, Lane>,
    /// Users to erase, when every lane has settled the event that says so.
    deletes: BTreeMap<Seq, Deleted>,
    on_erased: Option<OnErased>,
    on_appended: Option<OnAppended>,
    /// Empty: room for what the inbox has.
    arrived: Vec<Arrived>,
}

#[derive(Debug, Default)]
struct Freed {
    events: usize,
    bytes: usize,
}

impl Freed {
    fn count(&mut self, kept: &Kept) {
        self.events += 1;
        self.bytes += kept.bytes;
    }
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
    loaded: Arc<Loaded>,
    people: People,
    /// Its JSON, if it was kept, and what is sent of it.
    bytes: usize,
    accepted_at: Timestamp,
    /// How many lanes have not.
    lanes: usize,
}

/// So many events are pulled or settled under one lock: other lanes wait for
/// it.
const AT_ONCE: usize = 256;

/// What was accepted lately, and how much there is in all. Whoever appends
/// touches nothing else, unless it is a `delete`, and so waits for nobody who
/// pulls or settles.
#[derive(Debug, Default)]
struct Inbox {
    last: Seq,
    events: Vec<Arrived>,
    /// How many events there are here and in the state, for any lane.
    held: usize,
    bytes: usize,
    line: Line<Arriving, Seq>,
    retired: Retired<Arc<Loaded>>,
}

/// An event that was accepted, with its lanes, and whom it deletes.
#[derive(Debug)]
struct Arrived {
    kept: Kept,
    lanes: Arc<[Arc<str>]>,
    deletes: Option<User>,
}

/// Events that wait for room.
#[derive(Debug)]
struct Arriving {
    events: Vec<Arrived>,
    bytes: usize,
    has_delete: bool,
}

/// Events that waited for room have been accepted.
#[derive(Debug, Default)]
struct Admitted {
    /// The last of them, if there are any.
    through: Option<Seq>,
    has_delete: bool,
}

impl MemoryStore {
    /// A store of at most so many events, and so many bytes of what is to be sent
    /// of them, and of their JSON where somebody is to see it.
    /// What is more than the whole store is taken when it is empty.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            max_events,
            max_bytes,
            hasher: RandomState::new(),
            last: AtomicU64::new(0),
            inbox: Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing in here panics half-way through a change.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was accepted up to now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let last = {
            let mut inbox = self.inbox();
            std::mem::swap(&mut inbox.events, &mut state.arrived);
            inbox.last
        };
        let mut seq = last - state.arrived.len() as u64;
        let mut arrived = std::mem::take(&mut state.arrived);
        for arrived in arrived.drain(..) {
            seq += 1;
            state.keep(seq, arrived);
        }
        state.arrived = arrived;
        state.last = last;
        guard
    }

    /// Gives the room back of what is gone, and lets others in who wait for it;
    /// what is to be done about that.
    #[must_use]
    fn release(&self, mut state: MutexGuard<'_, State>, done: Vec<Arc<Loaded>>) -> Admitted {
        let freed = std::mem::take(&mut state.freed);
        let mut inbox = self.inbox();
        inbox.held -= freed.events;
        inbox.bytes -= freed.bytes;
        let done = done.into_iter().map(|one| {
            let weight = one.weight();
            (one, weight)
        });
        let rest = inbox.retired.put(done);
        let admitted = self.admit(&mut inbox);
        drop(inbox);
        drop(state);
        // Freed outside the locks.
        drop(rest);
        admitted
    }

    /// The same after an erasure: not yet freed is not yet forgotten.
    #[must_use]
    fn forget(&self, state: MutexGuard<'_, State>) -> Admitted {
        let admitted = self.release(state, Vec::new());
        let retired = self.inbox().retired.clear();
        drop(retired);
        admitted
    }

    /// Lets in whom there is room for.
    fn admit(&self, inbox: &mut Inbox) -> Admitted {
        let mut admitted = Admitted::default();
        if inbox.line.is_empty() {
            return admitted;
        }
        let mut line = std::mem::take(&mut inbox.line);
        line.admit(|arriving| {
            let first = self.enter(inbox, arriving)?;
            admitted.through = Some(inbox.last);
            admitted.has_delete |= arriving.has_delete;
            Some(first)
        });
        inbox.line = line;
        admitted
    }

    /// Does what is to be done when somebody was let in, without any lock.
    fn admitted(&self, mut admitted: Admitted) {
        while let Some(through) = admitted.through {
            let on_appended = self.state().on_appended.clone();
            if let Some(on_appended) = on_appended {
                on_appended(through);
            }
            admitted = if admitted.has_delete {
                self.erase_deleted()
            } else {
                Admitted::default()
            };
        }
    }

    /// Erases those whose deletion is for nobody, or has been settled.
    fn erase_deleted(&self) -> Admitted {
        let mut state = self.state();
        let erasures = state.erase_deleted();
        let on_erased = state.on_erased.clone();
        let admitted = if erasures.is_empty() {
            self.release(state, Vec::new())
        } else {
            self.forget(state)
        };
        tell(on_erased, &erasures);
        admitted
    }

    fn user(&self, user_id: &str) -> User {
        (user_id.into(), self.hasher.hash_one(Person::User(user_id)))
    }

    fn measure(&self, events: Vec<Accepted>) -> Arriving {
        let mut arriving = Arriving {
            events: Vec::with_capacity(events.len()),
            bytes: 0,
            has_delete: false,
        };
        for event in events {
            let bytes = event.loaded.bytes();
            arriving.bytes = arriving.bytes.saturating_add(bytes);
            let people = event.input.event.people();
            let deletes = match &event.input.event {
                AnyEvent::Delete(delete) => Some(self.user(&delete.user_id)),
                _ => None,
            };
            arriving.has_delete |= deletes.is_some();
            let kept = Kept {
                people: people.map(|p| self.hasher.hash_one(p)).collect(),
                loaded: event.loaded,
                bytes,
                accepted_at: Timestamp::UNIX_EPOCH,
                lanes: event.lanes.len(),
            };
            arriving.events.push(Arrived {
                kept,
                lanes: event.lanes,
                deletes,
            });
        }
        arriving
    }

    /// Keeps events if there is room: the place of the first.
    fn enter(&self, inbox: &mut Inbox, arriving: &mut Arriving) -> Option<Seq> {
        let now = Timestamp::now();
        let has_room = inbox.held == 0
            || inbox.held.saturating_add(arriving.events.len()) <= self.max_events
                && inbox.bytes.saturating_add(arriving.bytes) <= self.max_bytes;
        if !has_room {
            return None;
        }
        let first = inbox.last + 1;
        for mut arrived in arriving.events.drain(..) {
            arrived.kept.accepted_at = now;
            inbox.last += 1;
            if !arrived.lanes.is_empty() {
                inbox.held += 1;
                inbox.bytes += arrived.kept.bytes;
            }
            inbox.events.push(arrived);
        }
        self.last.store(inbox.last, Ordering::Release);
        Some(first)
    }

    /// Gives a place in line up; whether somebody still stood there.
    fn leave(&self, number: u64) -> bool {
        let mut inbox = self.inbox();
        let left = inbox.line.leave(number);
        let admitted = self.admit(&mut inbox);
        drop(inbox);
        self.admitted(admitted);
        left.is_some()
    }
}

/// The room is taken.
fn full() -> Error {
    Error::new(
        ErrorKind::Full,
        "the queue is full: wait for room, or give the store more of it",
    )
}

/// A place in line. Whoever drops it gives it up.
struct InLine<'a> {
    store: &'a MemoryStore,
    number: u64,
    told: oneshot::Receiver<Seq>,
    has_left: bool,
}

impl InLine<'_> {
    /// Waits for room: the place of the first event.
    async fn place(mut self, patience: Duration) -> Result<Seq, Error> {
        let patience = patience.min(crate::LONGEST);
        let admitted = match tokio::time::timeout(patience, &mut self.told).await {
            Ok(admitted) => admitted,
            Err(_) if self.leave() => return Err(full()),
            // It was let in at the last moment.
            Err(_) => (&mut self.told).await,
        };
        self.has_left = true;
        admitted.map_err(|_| full())
    }

    /// Whether it still stood there.
    fn leave(&mut self) -> bool {
        self.has_left = true;
        self.store.leave(self.number)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            self.leave();
        }
    }
}

impl State {
    fn keep(&mut self, seq: Seq, arrived: Arrived) {
        let Arrived {
            kept,
            lanes,
            deletes,
        } = arrived;
        if let Some(user) = deletes {
            let is_for_nobody = lanes.is_empty();
            let deleted = Deleted {
                user,
                is_for_nobody,
            };
            self.deletes.insert(seq, deleted);
        }
        for name in &*lanes {
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
            self.kept.insert(seq, kept);
        }
    }

    /// Keeps how attempts ended: what is to be freed.
    fn settle(
        &mut self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        now: Timestamp,
    ) -> Vec<Arc<Loaded>> {
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
                    self.freed.count(&event);
                    done.push(event.loaded);
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
            self.freed.count(&kept);
        }
    }

    /// Forgets a user's events: how many.
    fn erase(&mut self, (user_id, person): &User, through: Seq) -> (u64, Erasure) {
        let of_user: Vec<_> = self
            .kept
            .iter()
            .take_while(|(seq, _)| *seq <= through)
            .filter(|(_, kept)| {
                kept.people.contains(person) && kept.loaded.is_forgotten_with(user_id)
            })
            .map(|(seq, _)| seq)
            .collect();
        for seq in &of_user {
            self.forget(*seq);
        }
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
    /// At most 100,000 events and 256 MiB.
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
            Resumed::new(through, lane.paused_until, lane.in_retry > 0)
        });
        Ok(resumed.collect())
    }

    fn append(&self, events: Vec<Accepted>, patience: Duration) -> Appending<'_> {
        let mut arriving = self.measure(events);
        let (coming, has_delete) = (arriving.events.len(), arriving.has_delete);
        let mut inbox = self.inbox();
        // Here and now, so that the order in which calls come is that of events.
        let first = if inbox.line.is_empty() {
            self.enter(&mut inbox, &mut arriving)
        } else {
            None
        };
        if let Some(first) = first {
            let retired = inbox.retired.take(coming);
            drop(inbox);
            drop(retired);
            if has_delete {
                let admitted = self.erase_deleted();
                self.admitted(admitted);
            }
            return Appending::done(Ok(first));
        }
        if patience.is_zero() {
            return Appending::done(Err(full()));
        }
        let (number, told) = inbox.line.join(arriving);
        drop(inbox);
        let place = InLine {
            store: self,
            number,
            told,
            has_left: false,
        };
        Appending::waiting(place.place(patience))
    }

    fn on_appended(&self, told: OnAppended) {
        self.state().on_appended = Some(told);
    }

    async fn pull(&self, name: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        let mut pulled = Pulled::new(Vec::new(), after);
        let mut bytes = 0_usize;
        loop {
            let state = self.state();
            let lane = state.lanes.get(name);
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
                    body: Body::Loaded(Arc::clone(&kept.loaded)),
                    bytes: kept.loaded.bytes_for(name),
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
            let mut state = self.state();
            let done = state.settle(lane, settlements, now);
            let admitted = self.release(state, done);
            self.admitted(admitted);
        }
        let has_deletes = {
            let mut state = self.state();
            if let Some(lane) = state.lanes.get_mut(lane) {
                lane.paused_until = paused_until;
            }
            !state.deletes.is_empty()
        };
        if has_deletes {
            let admitted = self.erase_deleted();
            self.admitted(admitted);
        }
        Ok(())
    }

    async fn erase(&self, user_id: &str) -> Result<Erased, Error> {
        let (events, erasure, on_erased, admitted) = {
            let mut state = self.state();
            let through = state.last;
            let (events, erasure) = state.erase(&self.user(user_id), through);
            let on_erased = state.on_erased.clone();
            (events, erasure, on_erased, self.forget(state))
        };
        tell(on_erased, &[erasure]);
        self.admitted(admitted);
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
        let retired = self.inbox().retired.clear();
        drop(retired);
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

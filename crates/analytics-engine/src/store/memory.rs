//! Events in memory: as fast as can be, and gone with the process.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use analytics_spec::{AnyEvent, AnyInput, Error, ErrorKind, Retries, Timestamp, event::Person};
use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Accepted, Body, DeadLetters, Erased, Erasure, LaneStatus, OnErased, People, Pulled, Resumed,
    Seq, Settlement, Store, Stored, is_of, rate::Rate,
};

/// A permit stands for so many bytes: a semaphore counts to 32 bits.
const BYTES_PER_PERMIT: usize = 64;

/// Nobody waits longer, and no clock overflows by it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Keeps events in memory, within bounds. Dead letters it does not keep.
#[derive(Debug)]
pub struct MemoryStore {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// What is larger than the whole store would wait for ever.
    max_events: usize,
    max_permits: usize,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Seq,
    lanes: HashMap<Arc<str>, Lane>,
    /// Users to erase, when every lane has settled the event that says so.
    deletes: BTreeMap<Seq, User>,
    on_erased: Option<OnErased>,
}

/// A user's id, and its hash.
type User = (Arc<str>, u64);

#[derive(Debug, Default)]
struct Lane {
    pending: BTreeMap<Seq, Pending>,
    paused_until: Option<Timestamp>,
    in_retry: u64,
    delivered: Rate,
    is_attached: bool,
}

/// An event at one lane.
#[derive(Clone, Debug)]
struct Pending {
    kept: Arc<Kept>,
    retries: Retries,
    not_before: Option<Timestamp>,
}

/// An event, kept by every lane that has not settled it. The last one to let
/// it go gives its room back.
#[derive(Debug)]
struct Kept {
    input: Arc<AnyInput>,
    people: People,
    bytes: usize,
    accepted_at: Timestamp,
    _room: [Option<OwnedSemaphorePermit>; 2],
}

impl MemoryStore {
    /// A store of at most so many events, and so many bytes of their JSON.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        let max_events = max_events.clamp(1, u32::MAX as usize >> 1);
        let max_permits = (max_bytes / BYTES_PER_PERMIT).clamp(1, u32::MAX as usize >> 1);
        Self {
            events: Arc::new(Semaphore::new(max_events)),
            bytes: Arc::new(Semaphore::new(max_permits)),
            max_events,
            max_permits,
            hasher: RandomState::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, user_id: &str) -> User {
        (user_id.into(), self.hasher.hash_one(Person::User(user_id)))
    }

    async fn room(&self, events: usize, bytes: usize, patience: Duration) -> Result<Rooms, Error> {
        let full = || {
            Error::new(
                ErrorKind::Full,
                "the queue is full: wait for room, or give the store more of it",
            )
        };
        let events = permits(events, self.max_events);
        let bytes = permits(bytes, self.max_permits);
        let (of_events, of_bytes) = (Arc::clone(&self.events), Arc::clone(&self.bytes));
        if patience.is_zero() {
            return Ok(Rooms {
                events: of_events
                    .try_acquire_many_owned(events)
                    .map_err(|_| full())?,
                bytes: of_bytes.try_acquire_many_owned(bytes).map_err(|_| full())?,
            });
        }
        let rooms = async {
            Some(Rooms {
                events: of_events.acquire_many_owned(events).await.ok()?,
                bytes: of_bytes.acquire_many_owned(bytes).await.ok()?,
            })
        };
        let rooms = tokio::time::timeout(patience.min(LONGEST), rooms).await;
        rooms.ok().flatten().ok_or_else(full)
    }
}

/// Room for several events.
struct Rooms {
    events: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Rooms {
    /// One event's part. What was more than the whole store has less of it.
    fn split(&mut self, permits: usize) -> [Option<OwnedSemaphorePermit>; 2] {
        let permits = permits.min(self.bytes.num_permits());
        [self.events.split(1), self.bytes.split(permits)]
    }
}

fn permits(wanted: usize, most: usize) -> u32 {
    u32::try_from(wanted.clamp(1, most)).unwrap_or(u32::MAX)
}

impl State {
    /// Forgets a user's events: how many.
    fn erase(&mut self, (user_id, person): &User, through: Seq) -> (u64, Erasure) {
        let mut erased = std::collections::HashSet::new();
        for lane in self.lanes.values_mut() {
            let of_user = lane
                .pending
                .range(..=through)
                .filter(|(_, pending)| is_of(&pending.kept.input, user_id))
                .map(|(seq, _)| *seq);
            for seq in of_user.collect::<Vec<_>>() {
                lane.take(seq);
                erased.insert(seq);
            }
        }
        let erasure = Erasure::new(Arc::clone(user_id), *person, through);
        (erased.len() as u64, erasure)
    }

    /// Erases the users whose deletion is settled everywhere.
    fn erase_deleted(&mut self) -> Vec<Erasure> {
        let lanes = &self.lanes;
        let due: Vec<_> = self
            .deletes
            .iter()
            .filter(|(seq, _)| !lanes.values().any(|lane| lane.pending.contains_key(*seq)))
            .map(|(seq, user)| (*seq, user.clone()))
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
        let pending = self.pending.remove(&seq)?;
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
            let first = lane.pending.keys().next();
            Resumed::new(first.map_or(last, |first| first - 1), lane.paused_until)
        });
        Ok(resumed.collect())
    }

    async fn append(&self, events: Vec<Accepted>, patience: Duration) -> Result<Seq, Error> {
        let sizes = events.iter().map(|event| json_len(&event.input));
        let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
        let bytes = sizes.iter().map(|bytes| bytes.div_ceil(BYTES_PER_PERMIT));
        let mut rooms = self.room(events.len(), bytes.sum(), patience).await?;
        let now = Timestamp::now();
        let kept: Vec<_> = events
            .into_iter()
            .zip(sizes)
            .map(|(event, bytes)| {
                let people = event.input.event.people();
                let kept = Kept {
                    people: people.map(|p| self.hasher.hash_one(p)).collect(),
                    input: Arc::new(event.input),
                    bytes,
                    accepted_at: now,
                    _room: rooms.split(bytes.div_ceil(BYTES_PER_PERMIT)),
                };
                (Arc::new(kept), event.lanes)
            })
            .collect();
        let (first, on_erased, erasures) = {
            let mut state = self.state();
            let first = state.last + 1;
            let mut has_delete = false;
            for (kept, lanes) in kept {
                state.last += 1;
                let seq = state.last;
                if let AnyEvent::Delete(delete) = &kept.input.event {
                    has_delete = true;
                    let user = self.user(&delete.user_id);
                    state.deletes.insert(seq, user);
                }
                for lane in lanes {
                    let pending = Pending {
                        kept: Arc::clone(&kept),
                        retries: Retries::new(),
                        not_before: None,
                    };
                    state
                        .lanes
                        .entry(lane)
                        .or_default()
                        .pending
                        .insert(seq, pending);
                }
            }
            let erasures = if has_delete {
                state.erase_deleted()
            } else {
                Vec::new()
            };
            (first, state.on_erased.clone(), erasures)
        };
        tell(on_erased, &erasures);
        Ok(first)
    }

    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        let state = self.state();
        let mut pulled = Pulled {
            through: state.last,
            ..Pulled::default()
        };
        let Some(lane) = state.lanes.get(lane) else {
            return Ok(pulled);
        };
        let mut bytes = 0_usize;
        for (seq, pending) in lane.pending.range(after.saturating_add(1)..) {
            if bytes >= max_bytes {
                pulled.through = seq - 1;
                break;
            }
            let kept = &pending.kept;
            bytes = bytes.saturating_add(kept.bytes);
            pulled.events.push(Stored {
                seq: *seq,
                people: kept.people.clone(),
                body: Body::Input(Arc::clone(&kept.input)),
                bytes: kept.bytes,
                accepted_at: kept.accepted_at,
                retries: pending.retries,
                not_before: pending.not_before,
            });
        }
        Ok(pulled)
    }

    async fn settle(
        &self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        paused_until: Option<Timestamp>,
    ) -> Result<(), Error> {
        let mut done = Vec::with_capacity(settlements.len());
        let mut delivered = 0;
        let (on_erased, erasures) = {
            let mut state = self.state();
            let Some(lane) = state.lanes.get_mut(lane) else {
                return Ok(());
            };
            lane.paused_until = paused_until;
            for (seq, settlement) in settlements {
                if let Settlement::Retry {
                    not_before,
                    retries,
                } = settlement
                {
                    if let Some(pending) = lane.pending.get_mut(seq) {
                        lane.in_retry += u64::from(pending.not_before.is_none());
                        pending.not_before = Some(*not_before);
                        pending.retries = *retries;
                    }
                } else if let Some(pending) = lane.take(*seq) {
                    delivered += u64::from(*settlement == Settlement::Delivered);
                    done.push(pending);
                }
            }
            lane.delivered.count(delivered, Timestamp::now());
            let erasures = if state.deletes.is_empty() {
                Vec::new()
            } else {
                state.erase_deleted()
            };
            (state.on_erased.clone(), erasures)
        };
        // Room is given back, and waiters woken, outside the lock.
        drop(done);
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
            oldest: lane.pending.values().next().map(|p| p.kept.accepted_at),
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
        self.state().last
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

/// The size of an input's JSON, without making it.
fn json_len(input: &AnyInput) -> Result<usize, Error> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, input).map_err(|error| {
        Error::new(ErrorKind::Internal, "the event cannot be written as JSON").with_source(error)
    })?;
    Ok(count.0)
}

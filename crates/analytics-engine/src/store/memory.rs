//! Events in memory: as fast as can be, and gone with the process.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use analytics_spec::{AnyInput, Error, ErrorKind};
use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Pulled, Seq, Settlement, Store, Stored};

/// A permit stands for so many bytes: a semaphore counts to 32 bits.
const BYTES_PER_PERMIT: usize = 64;

/// Keeps events in memory, within bounds.
#[derive(Debug)]
pub struct MemoryStore {
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// An event larger than the whole store would wait for ever.
    max_permits: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Seq,
    lanes: HashMap<Arc<str>, BTreeMap<Seq, Arc<Kept>>>,
}

/// An event, kept by every lane that has not settled it. The last one to let
/// it go gives its room back.
#[derive(Debug)]
struct Kept {
    input: Arc<AnyInput>,
    bytes: usize,
    _room: [OwnedSemaphorePermit; 2],
}

impl MemoryStore {
    /// A store of at most so many events, and so many bytes of their JSON.
    #[must_use]
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        let max_permits = (max_bytes / BYTES_PER_PERMIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            events: Arc::new(Semaphore::new(max_events.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(max_permits)),
            max_permits,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(
        &self,
        input: AnyInput,
        bytes: usize,
        lanes: &[Arc<str>],
        room: [OwnedSemaphorePermit; 2],
    ) -> Seq {
        let kept = Arc::new(Kept {
            input: Arc::new(input),
            bytes,
            _room: room,
        });
        let mut state = self.state();
        state.last += 1;
        let seq = state.last;
        for lane in lanes {
            state
                .lanes
                .entry(Arc::clone(lane))
                .or_default()
                .insert(seq, Arc::clone(&kept));
        }
        seq
    }

    fn permits(&self, bytes: usize) -> u32 {
        let permits = bytes.div_ceil(BYTES_PER_PERMIT).clamp(1, self.max_permits);
        u32::try_from(permits).unwrap_or(u32::MAX)
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
    async fn append(&self, input: AnyInput, lanes: &[Arc<str>]) -> Result<Seq, Error> {
        let bytes = json_len(&input)?;
        let closed = |_| Error::new(ErrorKind::Closed, "the store is closed");
        let events = Arc::clone(&self.events)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let room = Arc::clone(&self.bytes)
            .acquire_many_owned(self.permits(bytes))
            .await
            .map_err(closed)?;
        Ok(self.keep(input, bytes, lanes, [events, room]))
    }

    fn try_append(&self, input: AnyInput, lanes: &[Arc<str>]) -> Result<Seq, Error> {
        let bytes = json_len(&input)?;
        let full = |_| {
            Error::new(
                ErrorKind::Full,
                "the queue is full: wait for room, or give the store more of it",
            )
        };
        let events = Arc::clone(&self.events).try_acquire_owned().map_err(full)?;
        let room = Arc::clone(&self.bytes)
            .try_acquire_many_owned(self.permits(bytes))
            .map_err(full)?;
        Ok(self.keep(input, bytes, lanes, [events, room]))
    }

    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        let state = self.state();
        let mut pulled = Pulled {
            through: state.last,
            ..Pulled::default()
        };
        let Some(kept) = state.lanes.get(lane) else {
            return Ok(pulled);
        };
        let mut bytes = 0_usize;
        for (seq, event) in kept.range(after.saturating_add(1)..) {
            if bytes >= max_bytes {
                pulled.through = seq - 1;
                break;
            }
            bytes = bytes.saturating_add(event.bytes);
            let input = Arc::clone(&event.input);
            pulled.events.push(Stored::new(*seq, input, event.bytes));
        }
        Ok(pulled)
    }

    async fn settle(&self, lane: &str, settlements: &[(Seq, Settlement<'_>)]) -> Result<(), Error> {
        let mut done = Vec::with_capacity(settlements.len());
        {
            let mut state = self.state();
            let Some(kept) = state.lanes.get_mut(lane) else {
                return Ok(());
            };
            for (seq, settlement) in settlements {
                // What will be tried again is known to the lane, and here as
                // long as the process lives.
                if !matches!(settlement, Settlement::Retry { .. }) {
                    done.extend(kept.remove(seq));
                }
            }
        }
        // Room is given back, and waiters woken, outside the lock.
        drop(done);
        Ok(())
    }

    fn last(&self) -> Seq {
        self.state().last
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

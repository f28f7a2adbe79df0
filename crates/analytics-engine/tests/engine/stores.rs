//! Stores that fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_engine::{
    MemoryStore, Store,
    store::{
        Accepted, Appending, DeadLetters, Erased, Erasure, LaneStatus, OnAppended, OnErased,
        Pulled, Resumed, Seq, Settlement,
    },
};
use analytics_spec::{Error, ErrorKind, Input, Retries, Timestamp};
use async_trait::async_trait;

use crate::support::{Ends, TestClock, Vendor, engine, event, ms, secs};

/// What a [`Disk`] keeps events in: memory, if nothing else is said.
#[derive(Debug)]
struct Kept(Arc<dyn Store>);

impl Default for Kept {
    fn default() -> Self {
        Self(Arc::new(MemoryStore::default()))
    }
}

impl std::ops::Deref for Kept {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// A store, behind a disk that is full, broken or stuck.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    memory: Kept,
    failing_pulls: AtomicUsize,
    failing_settles: AtomicUsize,
    is_stuck: AtomicBool,
    is_unreadable: AtomicBool,
    pulls: AtomicUsize,
    pulled: AtomicUsize,
    /// It is late to say what it has written.
    is_slow: AtomicBool,
    panics: AtomicBool,
    is_durable: AtomicBool,
    /// What is pulled is everything, and comes when this is told.
    pub(crate) late: std::sync::Mutex<Option<Arc<tokio::sync::Notify>>>,
}

impl Disk {
    /// Says that it outlives the process.
    pub(crate) fn durable() -> Arc<Self> {
        let disk = Self::default();
        disk.is_durable.store(true, Ordering::SeqCst);
        Arc::new(disk)
    }

    /// In front of another store.
    #[cfg(feature = "sqlite")]
    pub(crate) fn over(store: Arc<dyn Store>) -> Self {
        let disk = Self {
            memory: Kept(store),
            ..Self::default()
        };
        let is_durable = disk.memory.is_durable();
        disk.is_durable.store(is_durable, Ordering::SeqCst);
        disk
    }

    /// What it is told from here on it never answers.
    #[cfg(feature = "sqlite")]
    pub(crate) fn stick(&self) {
        self.is_stuck.store(true, Ordering::SeqCst);
    }

    /// How many events it has given out.
    pub(crate) fn pulled(&self) -> usize {
        self.pulled.load(Ordering::SeqCst)
    }

    /// How often it was asked for events.
    pub(crate) fn pulls(&self) -> usize {
        self.pulls.load(Ordering::SeqCst)
    }
}

fn next_fails(count: &AtomicUsize) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

fn broken() -> Error {
    Error::new(ErrorKind::Internal, "the disk is broken")
}

#[async_trait]
impl Store for Disk {
    async fn attach(&self, lanes: &[Arc<str>], told: OnErased) -> Result<Vec<Resumed>, Error> {
        self.memory.attach(lanes, told).await
    }

    fn on_appended(&self, told: OnAppended) {
        self.memory.on_appended(told);
    }

    fn trouble(&self) -> Option<Error> {
        self.memory.trouble()
    }

    fn append(&self, events: Vec<Accepted>, patience: Duration) -> Appending<'_> {
        self.memory.append(events, patience)
    }

    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        if self.is_unreadable.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.pulls.fetch_add(1, Ordering::SeqCst);
        if next_fails(&self.failing_pulls) {
            return Err(broken());
        }
        let late = self.late.lock().unwrap().clone();
        if let Some(late) = late {
            let pulled = self.memory.pull(lane, 0, max_bytes).await;
            late.notified().await;
            return pulled;
        }
        let pulled = self.memory.pull(lane, after, max_bytes).await?;
        self.pulled.fetch_add(pulled.events.len(), Ordering::SeqCst);
        Ok(pulled)
    }

    async fn settle(
        &self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        paused_until: Option<Timestamp>,
    ) -> Result<(), Error> {
        assert!(!self.panics.load(Ordering::SeqCst), "the store's mistake");
        if self.is_stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if next_fails(&self.failing_settles) {
            return Err(broken());
        }
        self.memory.settle(lane, settlements, paused_until).await?;
        if self.is_slow.load(Ordering::SeqCst) {
            tokio::time::sleep(ms(300)).await;
        }
        Ok(())
    }

    async fn erase(&self, user_id: &str) -> Result<Erased, Error> {
        self.memory.erase(user_id).await
    }

    async fn status(&self) -> Result<Vec<LaneStatus>, Error> {
        self.memory.status().await
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        self.memory.dead_letters()
    }

    fn last(&self) -> Seq {
        self.memory.last()
    }

    fn is_durable(&self) -> bool {
        self.is_durable.load(Ordering::SeqCst)
    }

    async fn close(&self) -> Result<(), Error> {
        self.memory.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_is_asked_again() {
    let store = Arc::new(Disk::default());
    store.failing_pulls.store(3, Ordering::SeqCst);
    let vendor = Arc::new(Vendor::new("a"));
    let engine = engine()
        .integration(vendor.clone())
        .store(store)
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "e")).await.unwrap();
    engine.flush(secs(60)).await.unwrap();
    // 500 ms, 1 s and 2 s after each failure.
    assert_eq!(vendor.times(), [ms(3500)]);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_until_the_store_can_be_read() {
    let store = Arc::new(Disk::default());
    store.failing_pulls.store(3, Ordering::SeqCst);
    let vendor = Arc::new(Vendor::new("a"));
    let engine = engine()
        .integration(vendor.clone())
        .store(store)
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "e")).await.unwrap();
    assert!(engine.close(secs(60)).await.is_empty());
    assert_eq!(vendor.names(), ["e"]);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_counts_when_it_is_written() {
    let store = Arc::new(Disk::default());
    store.failing_settles.store(2, Ordering::SeqCst);
    let vendor = Arc::new(Vendor::new("a"));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .store(store)
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    engine.enqueue(event("u2", "2")).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    // Sent, but not written; and nothing else is sent meanwhile.
    assert_eq!((vendor.names().len(), ends.count()), (1, 0));
    engine.flush(secs(60)).await.unwrap();
    assert_eq!(vendor.names(), ["1", "2"]);
    assert_eq!(vendor.times()[1], ms(1500));
    ends.assert_once();
    assert_eq!(ends.count(), 2);
}

/// What could not be written is listed: never both reported and listed, never
/// neither.
#[tokio::test(start_paused = true)]
async fn closing_lists_what_could_not_be_written() {
    for is_stuck in [true, false] {
        let store = Arc::new(Disk::default());
        store.is_stuck.store(is_stuck, Ordering::SeqCst);
        store.failing_settles.store(usize::MAX, Ordering::SeqCst);
        let ends = Ends::default();
        let engine = engine()
            .integration(Arc::new(Vendor::new("a")))
            .on_settled(ends.observer())
            .store(store)
            .build()
            .await
            .unwrap();
        engine.enqueue(event("u1", "1")).await.unwrap();
        engine.enqueue(event("u1", "2")).await.unwrap();
        let begin = tokio::time::Instant::now();
        let left = engine.close(secs(10)).await.lost;
        assert_eq!(begin.elapsed().as_secs(), 10);
        assert_eq!(ends.count(), 0);
        let left: Vec<_> = left.iter().map(|left| left.in_flight).collect();
        // While the store does not answer, the next one goes; when it has
        // failed, it does not.
        assert_eq!(left, [true, is_stuck]);
    }
}

/// What the store has settled when the time for closing is over is reported,
/// also if it is a little late to say so.
#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_being_written() {
    for halts in [false, true] {
        let store = Arc::new(Disk::default());
        store.is_slow.store(true, Ordering::SeqCst);
        let ends = Ends::default();
        let engine = engine()
            .integration(Arc::new(Vendor::new("a")))
            .on_settled(ends.observer())
            .store(store)
            .build()
            .await
            .unwrap();
        engine.enqueue(event("u1", "1")).await.unwrap();
        tokio::time::sleep(ms(1)).await;
        let left = match halts {
            true => engine.halt(ms(100)).await,
            false => engine.close(ms(100)).await,
        };
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(ends.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_panics_loses_nothing_silently() {
    let store = Arc::new(Disk::default());
    store.panics.store(true, Ordering::SeqCst);
    let engine = engine()
        .integration(Arc::new(Vendor::new("a")))
        .store(store)
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    engine.enqueue(event("u1", "2")).await.unwrap();
    assert_eq!(engine.close(secs(1)).await.lost.len(), 2);
}

/// Another engine goes on with what the first one left in a store.
#[tokio::test(start_paused = true)]
async fn a_store_may_outlive_its_engine() {
    let store = Arc::new(MemoryStore::default());
    let first = Arc::new(Vendor::new("a").hold());
    let begin = engine()
        .integration(first)
        .store(store.clone())
        .build()
        .await
        .unwrap();
    for name in ["1", "2", "3"] {
        begin.enqueue(event("u1", name)).await.unwrap();
    }
    assert_eq!(begin.halt(ms(10)).await.lost.len(), 3);
    let second = Arc::new(Vendor::new("a"));
    let again = engine()
        .integration(second.clone())
        .store(store)
        .build()
        .await
        .unwrap();
    again.enqueue(event("u1", "4")).await.unwrap();
    again.flush(secs(1)).await.unwrap();
    assert_eq!(second.names(), ["1", "2", "3", "4"]);
}

/// A store that hangs delays the end by no more than a second.
#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_does_not_delay_the_end_for_ever() {
    for (halts, panics) in [(false, false), (true, false), (false, true), (true, true)] {
        let store = Arc::new(Disk::default());
        let engine = engine()
            .integration(Arc::new(Vendor::new("a").takes(ms(100))))
            .store(store.clone())
            .build()
            .await
            .unwrap();
        engine.enqueue(event("u1", "1")).await.unwrap();
        tokio::time::sleep(ms(1)).await;
        store.is_unreadable.store(true, Ordering::SeqCst);
        store.panics.store(panics, Ordering::SeqCst);
        engine.enqueue(event("u1", "2")).await.unwrap();
        let begin = tokio::time::Instant::now();
        let end = async {
            if halts {
                engine.halt(secs(10)).await
            } else {
                engine.close(secs(10)).await
            }
        };
        let left = tokio::time::timeout(secs(60), end).await.unwrap();
        let took = begin.elapsed();
        assert!(took <= secs(12), "{took:?}");
        assert!(left.lost.iter().all(|left| left.seq == 1), "{left:?}");
    }
}

/// What is left is read page by page.
#[tokio::test(start_paused = true)]
async fn what_is_left_is_read_in_pages() {
    let store = Arc::new(Disk::default());
    let engine = engine()
        .integration(Arc::new(Vendor::new("a").hold()))
        .store(store.clone())
        .window_bytes(1)
        .build()
        .await
        .unwrap();
    for _ in 0..10 {
        let large = event("u1", "e").property("text", "x".repeat(500_000));
        engine.enqueue(large).await.unwrap();
    }
    tokio::time::sleep(ms(1)).await;
    let before = store.pulls.load(Ordering::SeqCst);
    let left = engine.halt(ms(1)).await.lost;
    let seqs: Vec<_> = left.iter().map(|left| left.seq).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    assert!(store.pulls.load(Ordering::SeqCst) >= before + 3);
}

/// Stores are written elsewhere: what they are asked, and what they answer,
/// may grow.
#[test]
fn stores_say_what_they_read_and_understand_what_will_be_new() {
    let pulled = Pulled::new(vec![], 7);
    assert_eq!((pulled.events.len(), pulled.through), (0, 7));
    match Settlement::retry(Timestamp::UNIX_EPOCH, Retries::new()) {
        Settlement::Retry { retries, .. } => assert_eq!(retries.made, 0),
        Settlement::Delivered | Settlement::Refused { .. } => panic!("it is tried again"),
        #[deny(unreachable_patterns)]
        _ => panic!("not known"),
    }
}

/// A disk that is full is everybody's trouble, also of those who do nothing
/// just now.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_store_that_cannot_write_is_not_well() {
    let dir = tempfile::tempdir().unwrap();
    let store = analytics_engine::store::SqliteStore::options(dir.path());
    let store = Arc::new(store.disk_pages(1024 + 300).open().await.unwrap());
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = engine()
        .integration(vendor.clone())
        .store(store.clone())
        .build()
        .await
        .unwrap();
    // Limits and mistakes of those who ask are no trouble.
    assert!(store.purge_lane("a").await.is_err());
    assert!(engine.health().await.unwrap().is_well());
    let large = || event("u", "large").property("text", "x".repeat(20_000));
    while engine.enqueue(large()).await.is_ok() {}
    let health = engine.health().await.unwrap();
    let error = health.store_error.as_ref().unwrap();
    assert!(error.contains("the disk is full"), "{error}");
    assert!(!health.is_well());
    assert!(
        health
            .integrations
            .iter()
            .all(|one| one.store_error.is_none())
    );
    vendor.release();
    let writes = async {
        while engine.health().await.unwrap().store_error.is_some() {
            tokio::time::sleep(ms(10)).await;
        }
    };
    tokio::time::timeout(secs(30), writes).await.unwrap();
    let mut health = engine.health().await.unwrap();
    // That somebody was refused is told for longer.
    assert!(health.refused_for_room.take().is_some());
    assert!(health.is_well());
}

/// The clock was years ahead when another engine wrote it down.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_stops_nothing_for_long() {
    use analytics_spec::Clock as _;
    let store = Arc::new(MemoryStore::default());
    let clock = TestClock::new();
    let lanes = [Arc::from("a")];
    let attach = async || {
        let told = Arc::new(|_: &Erasure| {});
        store.attach(&lanes, told).await.unwrap();
    };
    attach().await;
    for name in ["1", "2"] {
        let input = Input::from(event(name, name)).into_any();
        let accepted = Accepted::new(input, lanes.clone());
        store.append(vec![accepted], secs(1)).await.unwrap();
    }
    let years = clock.now() + secs(3 * 365 * 24 * 3600);
    let retry = Settlement::retry(years, Retries::new());
    store.settle("a", &[(1, retry)], Some(years)).await.unwrap();
    let vendor = Arc::new(Vendor::new("a"));
    let engine = engine()
        .clock(clock)
        .integration(vendor.clone())
        .store(store.clone())
        .build()
        .await
        .unwrap();
    engine.flush(secs(13 * 3600)).await.unwrap();
    assert_eq!(vendor.names().len(), 2);
}

/// Whoever writes a store elsewhere can make what it returns.
#[test]
fn what_a_store_returns_can_be_made_outside() {
    use analytics_engine::store::{DeadLetter, Reason, Replayed};
    let mut reason = Reason::new("Unsupported", "not here");
    reason.response = None;
    let input = serde_json::value::to_raw_value("{}").unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let mut letter = DeadLetter::new(1, "a", 7, now, now, reason, input);
    letter.attempts = 2;
    assert_eq!(letter.reason.to_string(), "Unsupported: not here");
    assert_eq!((letter.seq, letter.kind, letter.attempts), (7, None, 2));
    assert_eq!(Replayed::new(3, 1).detached, 1);
}

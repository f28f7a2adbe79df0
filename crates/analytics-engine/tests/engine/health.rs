//! What an engine says of itself, and counts, when something is wrong with it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use analytics_engine::{MemoryStore, State};
use analytics_spec::{Clock, ErrorKind, Timestamp, clock::Sleep};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use crate::{
    stores::Disk,
    support::{TestClock, Vendor, engine, event, ms, secs, unavailable},
};

/// A clock that cannot spread retries over time.
#[derive(Debug)]
struct Broken(Arc<TestClock>);

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, duration: std::time::Duration) -> Sleep<'_> {
        self.0.sleep(duration)
    }

    fn jitter(&self) -> f64 {
        panic!("the clock's mistake")
    }
}

/// Nothing restarts a lane that panicked; so it is told.
#[tokio::test(start_paused = true)]
async fn a_lane_that_panicked_is_told_of() {
    let broken = Vendor::new("a").answers(|_| Err(unavailable()));
    let other = Arc::new(Vendor::new("b"));
    let engine = engine()
        .clock(Arc::new(Broken(TestClock::new())))
        .integration(Arc::new(broken))
        .integration(other.clone())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    let begin = tokio::time::Instant::now();
    let error = engine.flush(secs(3600)).await.unwrap_err();
    assert!(begin.elapsed() < secs(1), "it is known at once");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.integration(), Some("a"));
    engine.enqueue(event("u1", "2")).await.unwrap();
    engine.flush(secs(1)).await.unwrap_err();
    let health = engine.health().await.unwrap();
    let states: Vec<_> = health.integrations.iter().map(|one| one.state).collect();
    assert_eq!(states, [State::Stopped, State::Up]);
    assert!(!health.is_well());
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(json.pointer("/integrations/0/state").unwrap(), "stopped");
    let said = json.pointer("/integrations/0/last_error").unwrap();
    assert!(said.as_str().unwrap().contains("panicked"), "{said}");
    assert_eq!(other.names(), ["1", "2"], "nobody else's trouble");
    assert_eq!(engine.close(secs(1)).await.lost.len(), 2);
}

/// Counters and gauges by their name and labels.
#[derive(Debug, Default)]
struct Recorder(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Recorder {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels = key.labels().map(|label| format!(" {}", label.value()));
        let name = key.name().to_owned() + &labels.collect::<String>();
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn count(&self, name: &str) -> u64 {
        let cells = self.0.lock().unwrap();
        let cell = cells.get(name);
        cell.map_or(0, |cell| cell.load(Ordering::SeqCst))
    }

    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.count(name))
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Also between two calls of somebody who waits for room each time.
#[tokio::test(start_paused = true)]
async fn an_engine_without_room_is_not_well() {
    let recorder = Recorder::default();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = engine()
        .integration(vendor.clone())
        .store(Arc::new(MemoryStore::new(2, 1_000_000)))
        .build()
        .await
        .unwrap();
    for name in ["1", "2"] {
        engine.enqueue(event("u1", name)).await.unwrap();
    }
    engine.enqueue(event("", "3")).await.unwrap_err();
    assert!(
        engine.health().await.unwrap().is_well(),
        "not for want of room"
    );
    engine.try_enqueue(event("u1", "3")).await.unwrap_err();
    for _ in 0..3 {
        let looks = async {
            for _ in 0..31 {
                let health = engine.health().await.unwrap();
                assert!(!health.is_well());
                assert!(health.refused_for_room.is_some());
                tokio::time::sleep(secs(1)).await;
            }
        };
        let (refused, ()) = tokio::join!(engine.enqueue(event("u1", "3")), looks);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
    }
    vendor.release();
    engine.flush(secs(1)).await.unwrap();
    tokio::time::sleep(secs(61)).await;
    assert!(engine.health().await.unwrap().is_well());
    let full = format!("analytics_enqueue_errors_total {}", ErrorKind::Full);
    assert_eq!(recorder.count(&full), 4);
    let all = recorder.0.lock().unwrap();
    let errors = all
        .iter()
        .filter(|(name, _)| name.contains("enqueue_errors"));
    let errors: u64 = errors.map(|(_, cell)| cell.load(Ordering::SeqCst)).sum();
    assert_eq!(errors, 5, "{all:?}");
}

/// What was in its queues is no more there, for those who watch them.
#[tokio::test(start_paused = true)]
async fn gauges_do_not_outlive_the_engine() {
    let recorder = Recorder::default();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let engine = engine()
        .integration(Arc::new(Vendor::new("a").hold()))
        .build()
        .await
        .unwrap();
    for name in ["1", "2"] {
        engine.enqueue(event("u1", name)).await.unwrap();
    }
    tokio::time::sleep(secs(6)).await;
    assert!(recorder.gauge("analytics_queue_events a") > 1.0);
    assert!(recorder.gauge("analytics_queue_oldest_seconds a") > 1.0);
    assert_eq!(engine.close(secs(1)).await.lost.len(), 2);
    tokio::time::sleep(secs(60)).await;
    for gauge in [
        "analytics_queue_events a",
        "analytics_queue_oldest_seconds a",
    ] {
        assert_eq!(recorder.0.lock().unwrap()[gauge].load(Ordering::SeqCst), 0);
    }
}

/// Who halts wants nothing new.
#[tokio::test(start_paused = true)]
async fn nothing_is_read_by_a_lane_that_is_halted() {
    let store = Disk::durable();
    let engine = engine()
        .integration(Arc::new(Vendor::new("a")))
        .store(store.clone())
        .build()
        .await
        .unwrap();
    for n in 0..10 {
        engine.enqueue(event("u1", format!("{n}"))).await.unwrap();
    }
    assert_eq!(engine.halt(ms(100)).await.kept, 10);
    assert_eq!(store.pulled(), 0);
}

//! A lane sleeps until there is something to do, and not longer.

use std::{sync::Arc, time::Duration};

use analytics_engine::{Engine, MemoryStore, Store};

use crate::{
    stores::Disk,
    support::{Ends, Vendor, engine, event, ms, secs},
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_batch_that_fills_up_wakes_nobody_before_it_is_full() {
    fill_a_batch(Disk::default(), ms(1)).await;
}

/// In real time: a thread of the store's own has its part in it.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn nor_with_a_store_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    fill_a_batch(Disk::over(sqlite(&dir).await), ms(100)).await;
}

async fn fill_a_batch(store: Disk, pause: Duration) {
    let vendor = Arc::new(Vendor::new("vendor").batches(10, 1));
    let store = Arc::new(store);
    let engine = engine()
        .integration(vendor.clone())
        .store(store.clone())
        .linger(HOUR)
        .build()
        .await
        .unwrap();
    for n in 0..9 {
        engine.enqueue(event(&n.to_string(), "e")).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    assert_eq!((store.pulls(), vendor.sent().len()), (1, 0));
    engine.enqueue(event("9", "e")).await.unwrap();
    tokio::time::sleep(pause).await;
    assert_eq!((store.pulls(), vendor.sent().len()), (2, 1));
    assert!(engine.close(secs(1)).await.is_empty());
}

#[cfg(feature = "sqlite")]
async fn sqlite(dir: &tempfile::TempDir) -> Arc<dyn Store> {
    let options = analytics_engine::store::SqliteStore::options(dir.path());
    Arc::new(options.open().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn large_events_fill_a_batch_as_well() {
    let mut vendor = Vendor::new("vendor").batches(1000, 1);
    vendor.batching.max_bytes = 10_000;
    let vendor = Arc::new(vendor);
    let engine = engine()
        .integration(vendor.clone())
        .linger(HOUR)
        .build()
        .await
        .unwrap();
    for n in 0..10 {
        let event = event(&n.to_string(), "e").property("text", "x".repeat(1000));
        engine.enqueue(event).await.unwrap();
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!(vendor.sent().len(), 1);
    assert!(engine.close(secs(1)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_busy_is_not_woken() {
    let vendor = Arc::new(Vendor::new("vendor").batches(2, 1).hold());
    let store = Arc::new(Disk::default());
    let engine = engine()
        .integration(vendor.clone())
        .store(store.clone())
        .linger(HOUR)
        .build()
        .await
        .unwrap();
    for n in 0..20 {
        engine.enqueue(event(&n.to_string(), "e")).await.unwrap();
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!((store.pulls(), vendor.sent().len()), (2, 1));
    vendor.release();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(vendor.sent().len(), 10);
    assert!(engine.close(secs(1)).await.is_empty());
}

/// Nothing but the events themselves wakes the lane here.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_sleeps_on() {
    for max_items in [1, TASKS] {
        wake(Arc::new(MemoryStore::default()), max_items, 2000).await;
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_sleeps_on_with_a_store_on_disk() {
    for max_items in [1, TASKS] {
        let dir = tempfile::tempdir().unwrap();
        wake(sqlite(&dir).await, max_items, 300).await;
    }
}

/// How many append at the same time.
const TASKS: usize = 4;

async fn wake(store: Arc<dyn Store>, max_items: usize, rounds: usize) {
    let ends = Ends::default();
    let vendor = Arc::new(Vendor::new("vendor").batches(max_items, 2));
    let engine = Engine::builder()
        .integration(vendor)
        .on_settled(ends.observer())
        .store(store)
        .linger(HOUR)
        .build()
        .await
        .unwrap();
    let engine = Arc::new(engine);
    for round in 1..=rounds {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let engine = Arc::clone(&engine);
                let event = event(&task.to_string(), round.to_string());
                tokio::spawn(async move { engine.enqueue(event).await.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        wait_for(&ends, round * TASKS).await;
    }
    assert!(engine.close(secs(30)).await.is_empty());
}

async fn wait_for(ends: &Ends, count: usize) {
    let all = async {
        while ends.count() < count {
            tokio::task::yield_now().await;
        }
    };
    let all = tokio::time::timeout(secs(30), all).await;
    assert!(all.is_ok(), "{} of {count} ends", ends.count());
}

/// Also who does not wait until the event is on the disk wakes the lane.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_nobody_waits_for_wakes_the_lane() {
    let dir = tempfile::tempdir().unwrap();
    let ends = Ends::default();
    let engine = Engine::builder()
        .integration(Arc::new(Vendor::new("vendor")))
        .on_settled(ends.observer())
        .store(sqlite(&dir).await)
        .build()
        .await
        .unwrap();
    for n in 0..200 {
        let mut enqueue = Box::pin(engine.enqueue(event("u", n.to_string())));
        let _ = futures::poll!(enqueue.as_mut());
        drop(enqueue);
        wait_for(&ends, n + 1).await;
    }
    assert!(engine.close(secs(30)).await.is_empty());
}

//! A store that is full.

use std::sync::Arc;

use analytics_engine::{Engine, MemoryStore};
use analytics_spec::{ErrorKind, Track};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::support::{Ends, Vendor, engine, event, ms, secs};

async fn with_room(vendor: &Arc<Vendor>, max_events: usize, max_bytes: usize) -> Engine {
    engine()
        .integration(Arc::clone(vendor) as Arc<dyn analytics_spec::Integration>)
        .store(Arc::new(MemoryStore::new(max_events, max_bytes)))
        .build()
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn enqueue_waits_for_room_and_try_enqueue_does_not() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = with_room(&vendor, 2, 1_000_000).await;
    engine.enqueue(event("u1", "1")).await.unwrap();
    engine.try_enqueue(event("u1", "2")).await.unwrap();
    let error = engine.try_enqueue(event("u1", "3")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("the queue is full"), "{error}");
    let begin = tokio::time::Instant::now();
    let error = engine.enqueue(event("u1", "4")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(begin.elapsed(), secs(30), "not for ever");

    let enqueue = engine.enqueue(event("u1", "5"));
    let release = async {
        tokio::time::sleep(secs(1)).await;
        vendor.release();
    };
    let (receipt, ()) = tokio::join!(enqueue, release);
    receipt.unwrap();
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.names(), ["1", "2", "5"]);
}

#[tokio::test(start_paused = true)]
async fn room_is_counted_in_bytes_as_well() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = with_room(&vendor, 1000, 10_000).await;
    let large = || event("u1", "large").property("text", "x".repeat(1900));
    let mut accepted = 0;
    let error = loop {
        match engine.try_enqueue(large()).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((accepted, error.kind()), (4, ErrorKind::Full));
    // What is small still fits.
    engine.try_enqueue(event("u1", "small")).await.unwrap();
    vendor.release();
    engine.flush(secs(1)).await.unwrap();
    engine.try_enqueue(large()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_larger_than_the_store_waits_until_it_is_alone() {
    let vendor = Arc::new(Vendor::new("a").takes(secs(1)));
    let engine = with_room(&vendor, 1000, 2000).await;
    engine.enqueue(event("u1", "small")).await.unwrap();
    let huge = event("u1", "huge").property("text", "x".repeat(100_000));
    let error = engine.try_enqueue(huge.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    engine.enqueue(huge).await.unwrap();
    engine.enqueue(event("u1", "small again")).await.unwrap();
    engine.flush(secs(10)).await.unwrap();
    assert_eq!(vendor.names(), ["small", "huge", "small again"]);
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_is_dropped_while_it_waits_leaves_no_trace() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = with_room(&vendor, 10, 3000).await;
    let large = || event("u1", "large").property("text", "x".repeat(2000));
    engine.enqueue(large()).await.unwrap();
    for _ in 0..100 {
        // It has the room for an event, and waits for that of its bytes.
        assert!(engine.enqueue(large()).now_or_never().is_none());
    }
    for n in 0..3 {
        engine
            .try_enqueue(event("u1", format!("{n}")))
            .await
            .unwrap();
    }
    vendor.release();
    assert!(
        engine.close(secs(1)).await.is_empty(),
        "nobody is on the way in"
    );
    assert_eq!(vendor.names(), ["large", "0", "1", "2"]);
}

/// A task that has had its turn is not polled through, and its futures are then
/// woken in another order.
#[tokio::test(start_paused = true)]
async fn who_waits_for_room_keeps_the_order_also_in_a_task_that_is_busy() {
    const MANY: usize = 400;
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = Arc::new(with_room(&vendor, 1, 1_000_000).await);
    engine.enqueue(event("u1", "0")).await.unwrap();
    let (give, events) = tokio::sync::mpsc::channel(MANY);
    for n in 1..MANY {
        give.try_send(n).unwrap();
    }
    drop(give);
    let accepting = Arc::clone(&engine);
    let accepting = tokio::spawn(async move {
        stream::unfold(events, |mut events| async {
            let n = events.recv().await?;
            Some((n, events))
        })
        .map(|n| accepting.enqueue(event("u1", n.to_string())))
        .buffered(MANY)
        .try_for_each(|_| async { Ok(()) })
        .await
    });
    tokio::time::sleep(secs(1)).await;
    vendor.release();
    accepting.await.unwrap().unwrap();
    engine.flush(secs(10)).await.unwrap();
    let expected: Vec<_> = (0..MANY).map(|n| n.to_string()).collect();
    assert_eq!(vendor.names(), expected);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_polled_keeps_nobody_waiting() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = with_room(&vendor, 1, 1_000_000).await;
    let enqueue = |n| engine.enqueue(event("u1", n));
    enqueue("0").await.unwrap();
    let mut stream = stream::iter(["1", "2", "3"]).map(enqueue).buffered(3);
    assert!(stream.next().now_or_never().is_none());
    vendor.release();
    let begin = tokio::time::Instant::now();
    enqueue("4").await.unwrap();
    assert!(begin.elapsed() < secs(1));
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().len(), 3);
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.names(), ["0", "1", "2", "3", "4"]);
}

/// Who was let in and has gone is delivered, also if nothing else comes.
#[tokio::test(start_paused = true)]
async fn who_was_let_in_is_delivered_also_if_nobody_waits() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = with_room(&vendor, 1, 1_000_000).await;
    engine.enqueue(event("u1", "0")).await.unwrap();
    let mut waiting = Box::pin(engine.enqueue(event("u1", "1")));
    assert!(waiting.as_mut().now_or_never().is_none());
    vendor.release();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(vendor.names(), ["0", "1"]);
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_when_the_slowest_integration_is_done() {
    let (slow, fast) = (
        Arc::new(Vendor::new("slow").takes(secs(1))),
        Arc::new(Vendor::new("fast")),
    );
    let engine = engine()
        .integration(slow.clone())
        .integration(fast.clone())
        .store(Arc::new(MemoryStore::new(1, 1_000_000)))
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    tokio::time::sleep(ms(999)).await;
    assert_eq!(fast.names(), ["1"]);
    assert!(engine.try_enqueue(event("u1", "2")).await.is_err());
    tokio::time::sleep(ms(2)).await;
    engine.try_enqueue(event("u1", "2")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_small_window_delivers_everything() {
    let vendor = Arc::new(Vendor::new("a").batches(7, 3).takes(ms(1)));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .window_bytes(1)
        .linger(ms(1))
        .build()
        .await
        .unwrap();
    for n in 0..200 {
        engine
            .enqueue(event(&format!("u{}", n % 5), format!("{n}")))
            .await
            .unwrap();
    }
    engine.flush(secs(10)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 200);
}

/// An observer may put something in again; it must not wait for it itself.
#[tokio::test(start_paused = true)]
async fn an_observer_may_enqueue() {
    let cell: Arc<std::sync::OnceLock<Engine>> = Arc::default();
    let inner = Arc::clone(&cell);
    let vendor = Arc::new(Vendor::new("a"));
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(move |settled| {
            if settled.input.event.user_id() == Some("first") {
                let inner = Arc::clone(&inner);
                tokio::spawn(async move {
                    let again = Track::new("again").user_id("second");
                    inner.get().unwrap().enqueue(again).await.unwrap();
                });
            }
        })
        .build()
        .await
        .unwrap();
    let engine = cell.get_or_init(|| engine);
    engine.enqueue(event("first", "first")).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(vendor.names(), ["first", "again"]);
    assert!(engine.close(secs(1)).await.is_empty());
}

/// The call brings the event; its future only says when it has arrived.
#[tokio::test(start_paused = true)]
async fn the_order_is_that_of_the_calls_whoever_is_polled_first() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = with_room(&vendor, 2, 1_000_000).await;
    let [first, dropped, third, fourth] =
        ["0", "1", "2", "3"].map(|name| Box::pin(engine.enqueue(event("u1", name))));
    drop(dropped);
    vendor.release();
    fourth.await.unwrap();
    third.await.unwrap();
    first.await.unwrap();
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.names(), ["0", "1", "2", "3"]);
}

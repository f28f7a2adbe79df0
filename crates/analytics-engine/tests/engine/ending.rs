//! Flushing, closing, halting, and being dropped.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use analytics_engine::MemoryStore;
use analytics_spec::{Context, Error, ErrorKind, Input, Track};

use crate::support::{
    Ends, Vendor, attempts, engine, event, ms, record_warnings, secs, unavailable, warnings,
};

#[tokio::test(start_paused = true)]
async fn flush_cuts_lingering_short() {
    let vendor = Arc::new(Vendor::new("a").batches(100, 1));
    let engine = engine()
        .integration(vendor.clone())
        .linger(secs(3600))
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert!(vendor.sent().is_empty());
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.times(), [secs(1)]);
    // Afterwards batches wait again.
    engine.enqueue(event("u1", "2")).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(vendor.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_what_was_before_and_not_for_what_comes_later() {
    let vendor = Arc::new(Vendor::new("a").takes(ms(100)));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor)
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for n in 0..3 {
        engine.enqueue(event("u1", format!("{n}"))).await.unwrap();
    }
    let later = async {
        tokio::time::sleep(ms(50)).await;
        engine.enqueue(event("u1", "later")).await.unwrap();
    };
    let (flushed, ()) = tokio::join!(engine.flush(secs(1)), later);
    flushed.unwrap();
    let names: Vec<_> = ends.at("a").into_iter().map(|end| end.0).collect();
    assert_eq!(names, ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn flush_ends_in_time_and_loses_nothing() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    engine.flush(ms(1)).await.expect("nothing to wait for");
    engine.enqueue(event("u1", "e")).await.unwrap();
    let begin = tokio::time::Instant::now();
    let error = engine.flush(secs(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(begin.elapsed().as_secs(), 3);
    vendor.release();
    engine.flush(secs(1)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn close_delivers_what_was_accepted_and_then_closes_integrations() {
    let vendor = Arc::new(Vendor::new("a").batches(10, 1).takes(ms(100)));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .linger(secs(3600))
        .build()
        .await
        .unwrap();
    for n in 0..95 {
        engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
    }
    assert!(engine.close(secs(10)).await.is_empty());
    assert_eq!(ends.count(), 95);
    ends.assert_once();
    assert_eq!(vendor.times().last(), Some(&ms(900)));
    assert_eq!(vendor.closed.load(Ordering::SeqCst), 1);

    for error in [
        engine.enqueue(event("u1", "e")).await.unwrap_err(),
        engine.try_enqueue(event("u1", "e")).await.unwrap_err(),
        engine.run("a", event("u1", "e")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    engine.flush(secs(1)).await.expect("everything is settled");
    assert!(engine.close(secs(10)).await.is_empty());
    assert!(engine.halt(secs(10)).await.is_empty());
    assert_eq!(vendor.closed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn close_returns_what_is_left_at_the_deadline() {
    let vendor = Vendor::new("a")
        .batches(2, 1)
        .policies(attempts(0))
        .answers(|attempt| {
            let is_poor = attempt.input.event.user_id() == Some("poor");
            if is_poor {
                Err(unavailable().with_retry_after(secs(20)))
            } else {
                Ok(())
            }
        });
    let vendor = Arc::new(vendor.takes(secs(4)));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    let names = ["1", "2", "3", "4", "5", "6", "7"];
    for name in names {
        let user = if name == "3" { "poor" } else { name };
        engine.enqueue(event(user, name)).await.unwrap();
    }
    // 0 s: 1 and 2; 4 s: 3 (which asks for 20 s) and 4; 28 s: 3 and 5 again.
    let begin = tokio::time::Instant::now();
    let left = engine.close(secs(30)).await.lost;
    assert_eq!(begin.elapsed().as_secs(), 30);
    let settled: Vec<_> = ends.at("a").into_iter().map(|end| end.0).collect();
    assert_eq!(settled, ["1", "2", "4"]);
    let left: Vec<_> = left.iter().map(|u| (u.attempts, u.in_flight)).collect();
    assert_eq!(left, [(1, true), (0, true), (0, false), (0, false)]);
    assert_eq!(vendor.closed.load(Ordering::SeqCst), 1);
    let error = engine.flush(secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(engine.close(secs(1)).await.is_empty());
    // Nothing goes on behind the engine's back.
    let sent = vendor.sent().len();
    tokio::time::sleep(secs(600)).await;
    assert_eq!(vendor.sent().len(), sent);
    assert_eq!(ends.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn halt_sends_nothing_new_and_lists_all_the_rest() {
    let vendor = Arc::new(Vendor::new("a").batches(2, 2).takes(secs(1)));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        // Most of it is not pulled yet.
        .window_bytes(5000)
        .build()
        .await
        .unwrap();
    let mut ids = Vec::new();
    for n in 0..100 {
        let receipt = engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
        ids.push(receipt.message_id);
    }
    tokio::time::sleep(ms(500)).await;
    let left = engine.halt(secs(10)).await.lost;
    assert_eq!(vendor.names(), ["0", "1", "2", "3"]);
    assert_eq!(vendor.begin().elapsed().as_secs(), 1);
    assert_eq!(ends.count(), 4);
    let left: Vec<_> = left.into_iter().map(|u| u.message_id).collect();
    assert_eq!(left, ids[4..]);
    assert_eq!(vendor.closed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn halt_does_not_wait_for_ever_either() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    engine.enqueue(event("u1", "2")).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    let left = engine.halt(secs(2)).await.lost;
    let left: Vec<_> = left.iter().map(|u| (u.attempts, u.in_flight)).collect();
    assert_eq!(left, [(0, true), (0, false)]);
}

/// Somebody impatient may cut off a close, by a time-out around it or by a
/// halt, and still learns what is left.
#[tokio::test(start_paused = true)]
async fn close_can_be_dropped_repeated_and_cut_short() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    assert!(
        tokio::time::timeout(secs(1), engine.close(secs(60)))
            .await
            .is_err()
    );
    assert_eq!(engine.close(secs(1)).await.lost.len(), 1);

    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = crate::support::engine()
        .integration(vendor.clone())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    engine.enqueue(event("u1", "2")).await.unwrap();
    let halt = async {
        tokio::time::sleep(secs(1)).await;
        engine.halt(secs(1)).await
    };
    let begin = tokio::time::Instant::now();
    let (closed, halted) = tokio::join!(engine.close(secs(60)), halt);
    assert_eq!(begin.elapsed().as_secs(), 2);
    assert_eq!(closed.lost.len() + halted.lost.len(), 2);

    // Closing an engine again that a dropped close left behind leaks nothing.
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = crate::support::engine()
        .integration(vendor.clone())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    assert!(
        tokio::time::timeout(secs(1), engine.close(secs(60)))
            .await
            .is_err()
    );
    drop(engine);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(Arc::strong_count(&vendor), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unlimited_close_does_not_overflow() {
    let engine = engine()
        .integration(Arc::new(Vendor::new("a")))
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    engine.flush(std::time::Duration::MAX).await.unwrap();
    assert!(engine.close(std::time::Duration::MAX).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_integration_that_does_not_close_delays_the_end_no_more_than_it_may() {
    let mut vendor = Vendor::new("a");
    vendor.closing_takes = secs(3600);
    let engine = engine()
        .integration(Arc::new(vendor))
        .build()
        .await
        .unwrap();
    let begin = tokio::time::Instant::now();
    assert!(engine.close(secs(5)).await.is_empty());
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_engine_leaves_nothing_behind() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let store = Arc::new(MemoryStore::default());
    let engine = engine()
        .integration(vendor.clone())
        .store(store.clone())
        .build()
        .await
        .unwrap();
    for n in 0..20 {
        engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
    }
    tokio::time::sleep(ms(1)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(
        metrics.num_alive_tasks(),
        10,
        "a lane, its deliveries, the gauges"
    );
    drop(engine);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(metrics.num_alive_tasks(), 0);
    assert_eq!(
        (Arc::strong_count(&vendor), Arc::strong_count(&store)),
        (1, 1)
    );
}

/// An `enqueue` that waits for room when the engine is closed is delivered as
/// room appears; when none does, it is told that the engine is closed.
#[tokio::test(start_paused = true)]
async fn who_waits_for_room_while_closing_is_delivered_or_told() {
    for (takes, accepted) in [(secs(1), 8), (secs(4), 2)] {
        let vendor = Arc::new(Vendor::new("a").batches(1, 1).takes(takes));
        let ends = Ends::default();
        let engine = engine()
            .integration(vendor)
            .on_settled(ends.observer())
            .store(Arc::new(MemoryStore::new(1, 1_000_000)))
            .build()
            .await
            .unwrap();
        let engine = Arc::new(engine);
        let enqueues: Vec<_> = (0..8)
            .map(|n| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move { engine.enqueue(event("u1", format!("{n}"))).await })
            })
            .collect();
        tokio::time::sleep(ms(1)).await;
        let left = engine.close(secs(10)).await.lost;
        let mut oks = 0;
        for enqueue in enqueues {
            match enqueue.await.unwrap() {
                Ok(_) => oks += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            }
        }
        assert_eq!(oks, ends.count() + left.len());
        assert!(oks >= accepted, "{oks}");
    }
}

#[tokio::test(start_paused = true)]
async fn halt_turns_back_who_waits_for_room() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = engine()
        .integration(vendor)
        .store(Arc::new(MemoryStore::new(1, 1_000_000)))
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    let begin = tokio::time::Instant::now();
    let waiting = async {
        let event = Input::new(event("u1", "2")).context(Context::new().message_id("m2"));
        let error: Error = engine.enqueue(event).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        let said = error.to_string();
        assert!(said.contains("m2 may have been accepted"), "{said}");
        assert!(begin.elapsed() < secs(2), "at once");
    };
    let halt = async {
        tokio::time::sleep(secs(1)).await;
        engine.halt(secs(60)).await
    };
    let ((), left) = tokio::join!(waiting, halt);
    assert_eq!(left.lost.len(), 1);
}

/// The race of close and enqueue, many times, with real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_accepted_event_is_delivered_or_listed_whenever_the_engine_closes() {
    for round in 0..200_u64 {
        let ends = Ends::default();
        let engine = engine()
            .integration(Arc::new(Vendor::new("a").batches(4, 2)))
            .integration(Arc::new(Vendor::new("b")))
            .on_settled(ends.observer())
            .store(Arc::new(MemoryStore::new(5, 1_000_000)))
            .build()
            .await
            .unwrap();
        let engine = Arc::new(engine);
        let enqueues: Vec<_> = (0..4)
            .map(|task| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    let mut accepted = Vec::new();
                    for n in 0.. {
                        let track = Track::new("e").user_id(format!("{task}-{n}"));
                        let enqueued = if n % 2 == 0 {
                            engine.enqueue(track).await
                        } else {
                            engine.try_enqueue(track).await
                        };
                        match enqueued {
                            Ok(receipt) => accepted.push(receipt.message_id),
                            Err(error) if error.kind() == ErrorKind::Full => {
                                tokio::task::yield_now().await;
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed);
                                return accepted;
                            }
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        let left = match round % 3 {
            0 => engine.halt(secs(10)).await,
            1 => engine.close(std::time::Duration::ZERO).await,
            _ => engine.close(secs(10)).await,
        };
        if round % 3 == 2 {
            assert!(left.is_empty());
        }
        ends.assert_once();
        let settled = ends.all().into_iter();
        let settled = settled.map(|end| (end.integration, end.message_id));
        let listed = left
            .lost
            .into_iter()
            .map(|left| (left.integration, left.message_id));
        // Who was turned back at the last moment may be among them as well.
        let found: HashSet<_> = settled.chain(listed).collect();
        for enqueue in enqueues {
            for id in enqueue.await.unwrap() {
                for integration in ["a", "b"] {
                    let event = (integration.to_owned(), id.clone());
                    assert!(found.contains(&event), "round {round}: {event:?}");
                }
            }
        }
    }
}

/// Who drops an engine that has not delivered everything is told how much it
/// was; who closed it knows.
#[tokio::test(start_paused = true)]
async fn dropping_what_is_not_settled_is_said() {
    record_warnings();
    let said = || warnings("dropped before everything was settled");
    for (pulled, window) in [(false, 1 << 20), (true, 1 << 20), (true, 1)] {
        let count = said().len();
        let engine = engine()
            .integration(Arc::new(Vendor::new("a").hold()))
            .integration(Arc::new(Vendor::new("b")))
            .window_bytes(window)
            .build()
            .await
            .unwrap();
        for n in 0..20 {
            engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
        }
        if pulled {
            tokio::time::sleep(ms(1)).await;
        }
        drop(engine);
        let said = said();
        assert_eq!(said.len(), count + 1);
        let unsettled = if pulled { 20 } else { 40 };
        let expected = format!("unsettled={unsettled} ");
        assert!(said[count].contains(&expected), "{said:?}");
    }

    let count = said().len();
    let held = Arc::new(Vendor::new("a").hold());
    let listed = engine().integration(held).build().await.unwrap();
    let free = Arc::new(Vendor::new("a"));
    let delivered = engine().integration(free).build().await.unwrap();
    for engine in [&listed, &delivered] {
        engine.enqueue(event("u1", "e")).await.unwrap();
    }
    assert_eq!(listed.close(secs(1)).await.lost.len(), 1);
    delivered.flush(secs(1)).await.unwrap();
    drop((listed, delivered));
    assert_eq!(said().len(), count);

    // A close that was cut off has told nobody.
    let held = Arc::new(Vendor::new("a").hold());
    let engine = engine().integration(held).build().await.unwrap();
    engine.enqueue(event("u1", "e")).await.unwrap();
    let closed = tokio::time::timeout(secs(1), engine.close(secs(60))).await;
    assert!(closed.is_err());
    drop(engine);
    assert_eq!(said().len(), count + 1);
}

/// What is left is not to be overlooked.
#[tokio::test(start_paused = true)]
async fn what_is_left_must_be_looked_at() {
    let vendor = Arc::new(Vendor::new("a"));
    let engine = engine().integration(vendor).build().await.unwrap();
    #[expect(unused_must_use, reason = "it is what this test is about")]
    {
        engine.close(secs(1)).await;
    }
    #[expect(unused_must_use, reason = "it is what this test is about")]
    {
        engine.halt(secs(1)).await;
    }
}

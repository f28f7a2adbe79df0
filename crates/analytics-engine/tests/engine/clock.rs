//! A wall clock that somebody sets while the engine runs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use analytics_spec::Clock as _;

use crate::{
    stores::Disk,
    support::{Ends, TestClock, Vendor, attempts, engine, event, secs, unavailable},
};

const DAY: i64 = 24 * 3600;

/// The longest pause between attempts.
const LONGEST: u64 = 60;

/// However it is set, and however long the lane has slept: an outage lasts no
/// longer than the vendor is down, but for the policy's longest pause.
#[tokio::test(start_paused = true)]
async fn an_outage_outlasts_no_clock_that_is_set() {
    for set in [-400 * DAY, -DAY, -90, -50, -20, 20, DAY, 400 * DAY] {
        for slept in [0, 30, 59] {
            let is_down = Arc::new(AtomicBool::new(true));
            let down = Arc::clone(&is_down);
            let vendor = Vendor::new("a")
                .batches(10, 2)
                .policies(attempts(0))
                .answers(move |_| match down.load(Ordering::SeqCst) {
                    true => Err(unavailable()),
                    false => Ok(()),
                });
            let clock = TestClock::new();
            let engine = engine()
                .clock(clock.clone())
                .integration(Arc::new(vendor))
                .store(Disk::durable())
                .build()
                .await
                .unwrap();
            for n in 0..50 {
                let user = format!("u{}", n % 7);
                engine.enqueue(event(&user, format!("{n}"))).await.unwrap();
            }
            tokio::time::sleep(secs(3600 + slept)).await;
            clock.set_by(set);
            // Whatever wakes the lane.
            engine.enqueue(event("u1", "50")).await.unwrap();
            is_down.store(false, Ordering::SeqCst);
            let flushed = engine.flush(secs(2 * LONGEST + 5)).await;
            assert!(flushed.is_ok(), "set by {set} s after {slept} s");
            let until = engine.health().await.unwrap().integrations[0].until;
            assert!(until.is_none_or(|until| until <= clock.now()));
        }
    }
}

/// Also what the store has, with pauses of the time before.
#[tokio::test(start_paused = true)]
async fn who_is_away_comes_back_by_a_clock_that_was_set_back() {
    let (failures, is_well) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (failed, well) = (Arc::clone(&failures), Arc::clone(&is_well));
    // Nothing is wrong with the vendor: it takes one event in four.
    let vendor = Vendor::new("a").policies(attempts(0)).answers(move |_| {
        if well.load(Ordering::SeqCst) || failed.fetch_add(1, Ordering::SeqCst) % 4 == 3 {
            return Ok(());
        }
        Err(unavailable())
    });
    let (clock, ends) = (TestClock::new(), Ends::default());
    let engine = engine()
        .clock(clock.clone())
        .integration(Arc::new(vendor))
        .on_settled(ends.observer())
        .window_bytes(10_000)
        .build()
        .await
        .unwrap();
    for n in 0..300 {
        engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
    }
    while failures.load(Ordering::SeqCst) < 600 {
        tokio::time::sleep(secs(1)).await;
    }
    assert!(ends.count() < 250, "many wait: {}", ends.count());
    clock.set_by(-DAY);
    is_well.store(true, Ordering::SeqCst);
    engine.flush(secs(20 * LONGEST)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 300);
}

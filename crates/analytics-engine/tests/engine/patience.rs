//! Nobody's trouble is another's: outages, events that a vendor cannot take,
//! people who wait for long.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use analytics_engine::State;
use analytics_spec::{
    Alias, Error, ErrorKind, Event as _, Input, Policies, RetryPolicy, Track,
    policies::ActivityPolicy,
};

use crate::{
    stores::Disk,
    support::{Ends, TestClock, Vendor, attempts, engine, event, ms, secs, unavailable},
};

/// With a store that lasts, a vendor may be gone for days.
#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_no_attempts() {
    for maximum in [2, 3, 6, 0] {
        sit_out(maximum).await;
    }
}

/// Also one whose answers ask for ever to come back later.
#[tokio::test(start_paused = true)]
async fn attempts_without_end_are_so_whatever_the_vendor_asks_for() {
    for (maximum, is_delivered) in [(0, true), (5, false)] {
        for store in [Disk::durable(), Arc::default()] {
            let vendor = Vendor::new("a").policies(attempts(maximum)).puts_off();
            let ends = Ends::default();
            let engine = engine()
                .integration(Arc::new(vendor))
                .on_settled(ends.observer())
                .store(store)
                .build()
                .await
                .unwrap();
            engine.enqueue(event("u", "e")).await.unwrap();
            engine.flush(secs(7 * 24 * 3600)).await.unwrap();
            let kind = (!is_delivered).then_some(ErrorKind::Unavailable);
            assert_eq!(ends.at("a"), [("e".to_owned(), kind)]);
        }
    }
}

/// A panic takes along what was known of its batch: the others are sent again, in
/// smaller ones.
#[tokio::test(start_paused = true)]
async fn an_event_that_panics_is_alone_with_it() {
    let vendor = Vendor::new("a")
        .batches(10, 2)
        .policies(attempts(6))
        .answers(|attempt| {
            let is_told = attempt.input.event.user_id() == Some("u7");
            assert!(!is_told, "as told");
            Ok(())
        });
    let ends = Ends::default();
    let engine = engine()
        .integration(Arc::new(vendor))
        .on_settled(ends.observer())
        .store(Disk::durable())
        .build()
        .await
        .unwrap();
    for n in 0..20 {
        engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
    }
    engine.flush(secs(3600)).await.unwrap();
    ends.assert_once();
    let failed: Vec<_> = ends.at("a").into_iter().filter_map(|end| end.1).collect();
    assert_eq!((ends.count(), failed), (20, vec![ErrorKind::Internal]));
}

#[expect(clippy::indexing_slicing, reason = "a test may stop")]
async fn sit_out(maximum_attempts: u32) {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let vendor = Vendor::new("a")
        .batches(10, 2)
        .policies(attempts(maximum_attempts))
        .answers(move |_| match down.load(Ordering::SeqCst) {
            true => Err(unavailable()),
            false => Ok(()),
        });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .store(Disk::durable())
        .build()
        .await
        .unwrap();
    for n in 0..50 {
        let user = format!("u{}", n % 7);
        engine.enqueue(event(&user, format!("{n}"))).await.unwrap();
    }
    tokio::time::sleep(secs(3 * 24 * 3600)).await;
    assert_eq!(ends.count(), 0, "nothing is given up");
    let health = engine.health().await.unwrap();
    let one = &health.integrations[0];
    assert_eq!((one.state, one.status.pending), (State::Down, 50));
    assert!(!health.is_well());
    assert!(one.last_error.as_ref().unwrap().contains("503"));
    is_down.store(false, Ordering::SeqCst);
    engine.flush(secs(300)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 50);
    assert!(ends.all().iter().all(|end| end.error.is_none()));
    let health = engine.health().await.unwrap();
    assert_eq!(health.integrations[0].state, State::Up);
    assert!(health.is_well());
    assert_in_order(&ends.at("a"), 7);
}

/// No process lives long enough to find out that the vendor is down.
#[tokio::test(start_paused = true)]
async fn an_outage_over_many_short_runs_uses_up_no_attempts() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let vendor = Vendor::new("a").policies(attempts(11)).answers(move |_| {
        match down.load(Ordering::SeqCst) {
            true => Err(unavailable()),
            false => Ok(()),
        }
    });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let store = Disk::durable();
    let clock = TestClock::new();
    let start = async || {
        let engine = engine()
            .clock(clock.clone())
            .integration(vendor.clone())
            .on_settled(ends.observer())
            .store(store.clone());
        engine.build().await.unwrap()
    };
    start().await.enqueue(event("u1", "1")).await.unwrap();
    for run in 0..30 {
        // Every pause is over.
        tokio::time::sleep(secs(24 * 3600)).await;
        let sent = vendor.sent().len();
        let engine = start().await;
        tokio::time::sleep(secs(1)).await;
        assert!(vendor.sent().len() > sent, "{run}");
        assert_eq!(engine.halt(secs(1)).await.kept, 1, "{run}");
        assert_eq!(ends.count(), 0, "{run}: nothing is given up");
    }
    is_down.store(false, Ordering::SeqCst);
    start().await.flush(secs(300)).await.unwrap();
    ends.assert_once();
    assert!(ends.all().iter().all(|end| end.error.is_none()));
}

/// The names are numbers, the people their remainders.
fn assert_in_order(ends: &[(String, Option<ErrorKind>)], people: usize) {
    let mut last: HashMap<usize, usize> = HashMap::new();
    for (name, _) in ends {
        let n: usize = name.parse().unwrap();
        if let Some(last) = last.insert(n % people, n) {
            assert!(last < n, "{last} before {n}");
        }
    }
}

/// A key that is wrong is not an event that is wrong.
#[tokio::test(start_paused = true)]
async fn wrong_credentials_hold_everything_back() {
    for is_durable in [true, false] {
        let is_wrong = Arc::new(AtomicBool::new(true));
        let wrong = Arc::clone(&is_wrong);
        let vendor = Vendor::new("a").answers(move |_| match wrong.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unauthorized, "401")),
            false => Ok(()),
        });
        let ends = Ends::default();
        let store = if is_durable {
            Disk::durable()
        } else {
            Arc::default()
        };
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .store(store)
            .build()
            .await
            .unwrap();
        for n in 0..20 {
            engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
        }
        tokio::time::sleep(secs(3600)).await;
        let refused = if is_durable { 0 } else { 20 };
        assert_eq!(ends.count(), refused);
        is_wrong.store(false, Ordering::SeqCst);
        engine.flush(secs(300)).await.unwrap();
        assert_eq!(ends.count(), 20);
        let errors = ends.all().iter().filter(|end| end.error.is_some()).count();
        assert_eq!(errors, refused);
    }
}

/// Unless it is an event that is wrong: then it does not hold the others.
#[tokio::test(start_paused = true)]
async fn one_unauthorized_event_is_refused_in_the_end() {
    for max_items in [1, 10] {
        let vendor = Vendor::new("a").batches(max_items, 2).answers(|attempt| {
            match attempt.input.event.user_id() {
                Some("u3") => Err(Error::new(ErrorKind::Unauthorized, "403")),
                _ => Ok(()),
            }
        });
        let ends = Ends::default();
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .store(Disk::durable())
            .build()
            .await
            .unwrap();
        for n in 0..100 {
            let user = format!("u{}", n % 20);
            engine.enqueue(event(&user, "e")).await.unwrap();
            tokio::time::sleep(ms(500)).await;
        }
        let more = async {
            loop {
                engine.enqueue(event("other", "e")).await.unwrap();
                tokio::time::sleep(ms(500)).await;
            }
        };
        tokio::select! {
            () = more => {}
            () = tokio::time::sleep(secs(600)) => {}
        }
        engine.flush(secs(60)).await.unwrap();
        let refused = ends.all().into_iter().filter(|end| end.error.is_some());
        let refused: Vec<_> = refused.map(|end| (end.error, end.attempts)).collect();
        assert_eq!(refused, [(Some(ErrorKind::Unauthorized), 4); 5]);
    }
}

/// A policy may want no second attempt.
#[tokio::test(start_paused = true)]
async fn a_maximum_of_one_attempt_holds_nothing_back() {
    let vendor = Vendor::new("a")
        .policies(attempts(1))
        .answers(|_| Err(Error::new(ErrorKind::Unauthorized, "401")));
    let ends = Ends::default();
    let engine = engine()
        .integration(Arc::new(vendor))
        .on_settled(ends.observer())
        .store(Disk::durable())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u", "e")).await.unwrap();
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(ends.count(), 1);
}

/// An event at which the vendor fails, with whatever travels beside it, is
/// refused in the end, and alone.
#[tokio::test(start_paused = true)]
async fn what_a_vendor_cannot_take_takes_no_other_with_it() {
    for is_durable in [true, false] {
        let mut vendor = Vendor::new("a").batches(64, 1).answers(|attempt| {
            match crate::support::name(&attempt.input.event).as_str() {
                "poison" => Err(unavailable()),
                _ => Ok(()),
            }
        });
        vendor.spoil = |outcomes| {
            if outcomes.iter().all(Result::is_ok) {
                return outcomes;
            }
            outcomes.iter().map(|_| Err(unavailable())).collect()
        };
        let ends = Ends::default();
        let store = if is_durable {
            Disk::durable()
        } else {
            Arc::default()
        };
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .store(store)
            .build()
            .await
            .unwrap();
        for n in 0..200 {
            let name = if n == 30 { "poison" } else { "fine" };
            engine.enqueue(event(&format!("u{n}"), name)).await.unwrap();
        }
        engine.flush(secs(24 * 3600)).await.unwrap();
        ends.assert_once();
        assert_eq!(ends.count(), 200);
        for end in ends.all() {
            let expected = (end.name == "poison").then_some(ErrorKind::Unavailable);
            assert_eq!(end.error, expected, "{}", end.name);
        }
    }
}

/// Somebody with more waiting events than there is room for.
#[tokio::test(start_paused = true)]
async fn who_waits_for_long_does_not_fill_the_window() {
    let has_waited = AtomicBool::new(false);
    let vendor = Vendor::new("a").batches(50, 2).answers(move |attempt| {
        let name = crate::support::name(&attempt.input.event);
        if name == "blocked 0" && !has_waited.swap(true, Ordering::SeqCst) {
            return Err(unavailable().with_wait(secs(600)));
        }
        Ok(())
    });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        // Room for about a dozen.
        .window_bytes(10_000)
        .build()
        .await
        .unwrap();
    for n in 0..200 {
        engine
            .enqueue(event("blocked", format!("blocked {n}")))
            .await
            .unwrap();
    }
    // Joined to who is blocked, and so as blocked from here on.
    engine.enqueue(event("joined", "early")).await.unwrap();
    engine
        .enqueue(Alias::new("blocked", "joined"))
        .await
        .unwrap();
    engine.enqueue(event("joined", "late")).await.unwrap();
    for n in 0..300 {
        let user = format!("u{}", n % 10);
        engine.enqueue(event(&user, format!("{n}"))).await.unwrap();
    }
    tokio::time::sleep(secs(60)).await;
    let free: Vec<_> = ends.at("a").into_iter().map(|(name, _)| name).collect();
    assert_eq!(free.len(), 301, "everybody else");
    assert!(free.contains(&"early".to_owned()));
    engine.flush(secs(3600)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 503);
    let blocked: Vec<_> = ends
        .at("a")
        .into_iter()
        .skip(301)
        .map(|(name, _)| name)
        .collect();
    let mut expected: Vec<_> = (0..200).map(|n| format!("blocked {n}")).collect();
    expected.extend(["alias".to_owned(), "late".to_owned()]);
    assert_eq!(blocked, expected);
}

/// Any failures, any people, little room: everything arrives once, in order.
#[tokio::test(start_paused = true)]
async fn order_and_completeness_survive_little_room_and_many_failures() {
    for seed in 0..40_u64 {
        let chance = Arc::new(AtomicU64::new(seed * 7919 + 1));
        let roll = move |sides: u64| {
            let next = |n: u64| {
                n.wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407)
            };
            let old = chance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(next(n)));
            (next(old.unwrap()) >> 33) % sides
        };
        let (rolls, at_vendor) = (roll.clone(), Arc::new(Mutex::new(Vec::new())));
        let arrived = Arc::clone(&at_vendor);
        let vendor = Vendor::new("a")
            .batches(7, 3)
            .policies(attempts(0))
            .takes(ms(10))
            .answers(move |attempt| match rolls(4) {
                0 => Err(unavailable().with_wait(secs(rolls(30)))),
                _ => {
                    let event = &attempt.input.event;
                    let people: Vec<_> = event.people().map(|p| format!("{p:?}")).collect();
                    let n = attempt.input.message_id().parse::<u64>().unwrap();
                    arrived.lock().unwrap().push((n, people));
                    Ok(())
                }
            });
        let ends = Ends::default();
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .window_bytes(6000)
            .build()
            .await
            .unwrap();
        for n in 0..300 {
            let user = format!("u{}", roll(12));
            let context = analytics_spec::Context::new().message_id(n.to_string());
            let any = match roll(8) {
                0 => Alias::new(format!("u{}", roll(12)), format!("v{}", roll(6))).into_any(),
                1 => Track::new("e").anonymous_id(user).into_any(),
                _ => event(&user, "e").into_any(),
            };
            engine
                .enqueue(Input::new(any).context(context))
                .await
                .unwrap();
        }
        engine.flush(secs(24 * 3600)).await.unwrap();
        ends.assert_once();
        assert_eq!(ends.count(), 300, "seed {seed}");
        let mut last: HashMap<String, u64> = HashMap::new();
        for (n, people) in at_vendor.lock().unwrap().iter() {
            for person in people {
                if let Some(last) = last.insert(person.clone(), *n) {
                    assert!(last < *n, "seed {seed}: {person}: {last} before {n}");
                }
            }
        }
    }
}

/// Every event fails twice, and far more of them wait than there is room for:
/// what is read of the store stays in proportion.
#[tokio::test(start_paused = true)]
async fn a_backlog_of_those_who_pause_is_not_read_over_and_over() {
    const EVENTS: usize = 5_000;
    // Short pauses, long ones, and long ones of any length.
    for (shape, people) in [(0, EVENTS), (1, EVENTS), (2, EVENTS), (0, 50), (1, 1000)] {
        let vendor = Vendor::new("a")
            .batches(10, 10)
            .policies(attempts(3))
            .takes(ms(20))
            .answers(move |attempt| {
                let n = attempt.input.message_id().parse::<u64>().unwrap();
                match (attempt.number, shape) {
                    // Others are taken: the vendor is not down.
                    _ if n % 5 == 0 => Ok(()),
                    (3, _) => Ok(()),
                    (_, 0) => Err(unavailable().with_wait(ms(800 + n % 10))),
                    (_, 1) => Err(unavailable().with_wait(secs(30))),
                    (number, _) => {
                        let any = (n + u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
                        Err(unavailable().with_wait(ms(8_000 + any)))
                    }
                }
            });
        let ends = Ends::default();
        let store = Arc::new(Disk::default());
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .store(store.clone())
            // Room for some 200.
            .window_bytes(200_000)
            .build()
            .await
            .unwrap();
        for n in 0..EVENTS {
            let context = analytics_spec::Context::new().message_id(n.to_string());
            let event = event(&format!("u{}", n % people), format!("{n}"));
            let event = Input::new(event).context(context);
            engine.enqueue(event).await.unwrap();
        }
        engine.flush(secs(24 * 3600)).await.unwrap();
        ends.assert_once();
        assert_eq!(ends.count(), EVENTS);
        assert!(ends.all().iter().all(|end| end.error.is_none()));
        assert_in_order(&ends.at("a"), people);
        let times = store.pulled() as f64 / EVENTS as f64;
        let most = if shape == 0 { 1.2 } else { 4.0 };
        assert!(times < most, "{shape}, {people} people: each {times} times");
    }
}

/// Who never pauses for long, and is never taken, does not keep the window from
/// the others.
#[tokio::test(start_paused = true)]
async fn who_pauses_again_and_again_does_not_fill_the_window_for_ever() {
    for is_durable in [true, false] {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let retry = RetryPolicy::new()
            .initial_interval(secs(1))
            .maximum_interval(secs(1))
            .maximum_attempts(0);
        let vendor = Vendor::new("a")
            .batches(10, 2)
            .policies(Policies::new().request(ActivityPolicy::new().retry_policy(retry)))
            .answers(move |attempt| {
                let is_blocked = attempt.input.event.user_id() == Some("blocked");
                match is_blocked && !over.load(Ordering::SeqCst) {
                    true => Err(unavailable()),
                    false => Ok(()),
                }
            });
        let ends = Ends::default();
        let store = if is_durable {
            Disk::durable()
        } else {
            Arc::default()
        };
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .store(store)
            .window_bytes(20_000)
            .build()
            .await
            .unwrap();
        for n in 0..200 {
            let event = event("blocked", format!("{}", 2 * n));
            engine.enqueue(event).await.unwrap();
        }
        for n in 0..500 {
            let event = event("free", format!("{}", 2 * n + 1));
            engine.enqueue(event).await.unwrap();
        }
        tokio::time::sleep(secs(600)).await;
        assert_eq!(ends.count(), 500, "everybody else");
        is_over.store(true, Ordering::SeqCst);
        engine.flush(secs(60)).await.unwrap();
        ends.assert_once();
        assert_eq!(ends.count(), 700);
        assert_in_order(&ends.at("a"), 2);
    }
}

/// There is an end to how many people may be away. Then those behind wait with
/// them, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn no_more_people_are_away_than_may_be() {
    const PEOPLE: usize = 3000;
    for is_joined in [false, true] {
        let vendor = Vendor::new("a").batches(10, 2).answers(move |attempt| {
            let n = attempt.input.message_id().parse::<usize>().unwrap();
            // Some are taken: the vendor is not down.
            let fails = if is_joined { n == 0 } else { n % 5 > 0 };
            match attempt.number {
                1 if fails => Err(unavailable().with_wait(secs(600))),
                _ => Ok(()),
            }
        });
        let ends = Ends::default();
        let store = Arc::new(Disk::default());
        let engine = engine()
            .integration(Arc::new(vendor))
            .on_settled(ends.observer())
            .store(store.clone())
            // Room for a dozen, and a thousand away.
            .window_bytes(10_000)
            .build()
            .await
            .unwrap();
        for n in 0..2 * PEOPLE {
            let context = analytics_spec::Context::new().message_id(n.to_string());
            let mut event = event(&format!("u{}", n % PEOPLE), format!("{n}"));
            if is_joined {
                // All of them are away as soon as one is.
                event = event.anonymous_id("hub");
            }
            let event = Input::new(event).context(context);
            engine.enqueue(event).await.unwrap();
        }
        tokio::time::sleep(secs(500)).await;
        let pulled = store.pulled();
        assert!((1000..1350).contains(&pulled), "{is_joined}: {pulled}");
        engine.flush(secs(24 * 3600)).await.unwrap();
        ends.assert_once();
        assert_eq!(ends.count(), 2 * PEOPLE);
        assert_in_order(&ends.at("a"), if is_joined { 1 } else { PEOPLE });
    }
}

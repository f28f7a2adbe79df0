//! Vendors that are slow, down, or wrong, and integrations with mistakes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use analytics_spec::{Delivery, Error, ErrorKind, Handler, Integration, handler};

use crate::support::{Ends, Vendor, attempts, engine, event, ms, secs, unavailable};

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_one_integration_and_no_other() {
    let is_first = AtomicBool::new(true);
    let busy = Vendor::new("busy").answers(move |_| {
        if is_first.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::RateLimited, "429").with_retry_after(secs(30)));
        }
        Ok(())
    });
    let (busy, other) = (Arc::new(busy), Arc::new(Vendor::new("other")));
    let ends = Ends::default();
    let engine = engine()
        .integration(busy.clone())
        .integration(other.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u0", "0")).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    for n in 1..10 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
    }
    tokio::time::sleep(secs(29)).await;
    assert_eq!(busy.names(), ["0"]);
    assert_eq!(other.names().len(), 10);
    engine.flush(secs(5)).await.unwrap();
    assert!(
        busy.times()[1..].iter().all(|at| *at == secs(30)),
        "{:?}",
        busy.times()
    );
    ends.assert_once();
    assert_eq!(ends.count(), 20);
}

/// A verdict about one event, such as an address that signs up too often, is
/// not the vendor's pause.
#[tokio::test(start_paused = true)]
async fn one_events_wait_is_its_own() {
    let is_first = AtomicBool::new(true);
    let vendor = Vendor::new("a").answers(move |_| {
        if is_first.swap(false, Ordering::SeqCst) {
            return Err(unavailable().with_wait(secs(600)));
        }
        Ok(())
    });
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    engine.enqueue(event("u0", "0")).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    engine.enqueue(event("u1", "1")).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(vendor.names(), ["0", "1"]);
    engine.flush(secs(700)).await.unwrap();
    assert_eq!(vendor.names(), ["0", "1", "0"]);
    assert_eq!(vendor.times()[2], secs(600));
}

/// However many events have to wait, each by itself: the vendor answers, and their
/// attempts count.
#[tokio::test(start_paused = true)]
async fn who_says_of_each_event_that_it_waits_is_not_down() {
    let vendor = Vendor::new("a").answers(|_| Err(unavailable().with_wait(secs(600))));
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for n in 0..20 {
        let user = format!("u{n}");
        engine.enqueue(event(&user, format!("{n}"))).await.unwrap();
    }
    tokio::time::sleep(secs(60)).await;
    assert!(engine.health().await.unwrap().is_well());
    engine.flush(secs(100 * 600)).await.unwrap();
    assert_eq!(vendor.names().len(), 20 * 10);
    assert_eq!(ends.count(), 20);
}

/// The vendor's mistake must not stop an integration for years.
#[tokio::test(start_paused = true)]
async fn an_absurd_retry_after_is_not_waited_for() {
    let century = secs(100 * 365 * 24 * 60 * 60);
    let is_first = AtomicBool::new(true);
    let vendor = Vendor::new("a").answers(move |_| {
        if is_first.swap(false, Ordering::SeqCst) {
            return Err(unavailable().with_retry_after(century));
        }
        Ok(())
    });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "1")).await.unwrap();
    engine.flush(secs(1)).await.unwrap();
    engine.enqueue(event("u1", "2")).await.unwrap();
    engine.flush(secs(13 * 60 * 60)).await.unwrap();
    assert_eq!(
        ends.at("a"),
        [
            ("1".into(), Some(ErrorKind::Unavailable)),
            ("2".into(), None)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_integration_slows_no_other() {
    let dead = Arc::new(Vendor::new("dead").hold());
    let down = Arc::new(Vendor::new("down").answers(|_| Err(unavailable())));
    let good = Arc::new(Vendor::new("good").takes(ms(1)));
    let ends = Ends::default();
    let engine = engine()
        .integration(dead.clone())
        .integration(down)
        .integration(good.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for n in 0..1000 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
    }
    tokio::time::sleep(ms(130)).await;
    assert_eq!(ends.at("good").len(), 1000);
    assert_eq!(dead.sent().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_is_down_is_asked_one_delivery_at_a_time() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let vendor = Vendor::new("a")
        .takes(ms(10))
        .policies(attempts(0))
        .answers(move |_| {
            if down.load(Ordering::SeqCst) {
                Err(unavailable())
            } else {
                Ok(())
            }
        });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for n in 0..100 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
    }
    tokio::time::sleep(secs(600)).await;
    let times = vendor.times();
    // The first eight at once; then one at a time, with pauses of up to 60 s.
    assert!(times[..8].iter().all(|at| at.is_zero()));
    let pauses: Vec<_> = times[8..]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert_eq!(pauses.last(), Some(&(secs(60) + ms(10))));
    assert!(times.len() < 25, "{times:?}");
    assert_eq!(ends.count(), 0);

    is_down.store(false, Ordering::SeqCst);
    engine.flush(secs(600)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 100);
    let back = vendor.times()[times.len()];
    assert!(
        *vendor.times().last().unwrap() < back + secs(61),
        "it resumes"
    );
    let most = vendor.most_in_flight.load(Ordering::SeqCst);
    assert_eq!(most, 8);
}

#[tokio::test(start_paused = true)]
async fn retries_end_by_policy_and_hooks_hear_of_it() {
    let vendor = Vendor::new("a")
        .policies(attempts(3))
        .answers(|_| Err(unavailable()));
    let vendor = Arc::new(vendor);
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let (steps, workflows) = (Arc::clone(&calls), Arc::clone(&calls));
    let config = handler::Config::new(vendor.clone() as Arc<dyn Integration>)
        .on_activity_error(move |failed| {
            steps
                .lock()
                .unwrap()
                .push(format!("{}: {}", failed.name, failed.error));
        })
        .on_workflow_error(move |failed| {
            workflows
                .lock()
                .unwrap()
                .push(format!("{}: {}", failed.name, failed.error));
        });
    let ends = Ends::default();
    let engine = engine()
        .handler(Handler::new(config).unwrap())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "e")).await.unwrap();
    engine.enqueue(event("u1", "behind it")).await.unwrap();
    engine.flush(secs(60)).await.unwrap();
    let step = "a(analytics).Track.Request: Unavailable: 503";
    let workflow = "a(analytics).Track: Unavailable: 503";
    let expected = [step, step, step, workflow];
    assert_eq!(calls.lock().unwrap()[..4], expected);
    assert_eq!(calls.lock().unwrap()[4..], expected);
    let unavailable = Some(ErrorKind::Unavailable);
    assert_eq!(
        ends.at("a"),
        [("e".into(), unavailable), ("behind it".into(), unavailable)]
    );
    assert!(ends.all().iter().all(|end| end.attempts == 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_tried_once() {
    let vendor = Vendor::new("a")
        .batches(10, 2)
        .answers(|_| Err(Error::new(ErrorKind::Unauthorized, "401")));
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for n in 0..100 {
        engine.enqueue(event("u1", format!("{n}"))).await.unwrap();
    }
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.sent().len(), 10);
    assert_eq!(ends.count(), 100);
    assert!(
        ends.all()
            .iter()
            .all(|e| e.attempts == 1 && e.error == Some(ErrorKind::Unauthorized))
    );
    tokio::time::sleep(secs(600)).await;
    assert_eq!(vendor.sent().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_integration_that_panics_is_tried_again_and_then_refused() {
    let vendor = Vendor::new("a").policies(attempts(3)).answers(|attempt| {
        let name = crate::support::name(&attempt.input.event);
        assert!(name != "always", "the integration's mistake");
        assert!(
            name != "once" || attempt.number > 1,
            "the integration's mistake"
        );
        Ok(())
    });
    let ends = Ends::default();
    let engine = engine()
        .integration(Arc::new(vendor))
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for name in ["always", "once", "never"] {
        engine.enqueue(event(name, name)).await.unwrap();
    }
    engine.flush(secs(60)).await.unwrap();
    let internal = Some(ErrorKind::Internal);
    let expected = [
        ("never".into(), None),
        ("once".into(), None),
        ("always".into(), internal),
    ];
    assert_eq!(ends.at("a"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_outcomes_is_every_events_failure() {
    let mut few = Vendor::new("few").batches(3, 1).policies(attempts(2));
    few.spoil = |mut outcomes| {
        outcomes.truncate(1);
        outcomes
    };
    let mut many = Vendor::new("many").batches(3, 1);
    many.spoil = |mut outcomes| {
        outcomes.push(Ok(Delivery::default()));
        outcomes
    };
    let ends = Ends::default();
    let engine = engine()
        .integration(Arc::new(few))
        .integration(Arc::new(many))
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for n in 0..3 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
    }
    engine.flush(secs(60)).await.unwrap();
    let internal = Some(ErrorKind::Internal);
    // Which outcome is whose is not known.
    for integration in ["few", "many"] {
        let kinds: Vec<_> = ends.at(integration).into_iter().map(|(_, e)| e).collect();
        assert_eq!(kinds, [internal; 3], "{integration}");
    }
    ends.assert_once();
    assert_eq!(ends.count(), 6);
}

/// An event that is deferred behind nothing would be tried at once, for ever.
#[tokio::test(start_paused = true)]
async fn deferring_without_a_reason_is_a_failure() {
    let vendor = Vendor::new("a").policies(attempts(3));
    let vendor = Arc::new(vendor.answers(|_| Err(analytics_spec::integration::deferred())));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u1", "e")).await.unwrap();
    engine.flush(secs(60)).await.unwrap();
    assert_eq!(vendor.sent().len(), 3);
    assert_eq!(ends.at("a"), [("e".into(), Some(ErrorKind::Internal))]);
}

#[tokio::test(start_paused = true)]
async fn hooks_that_panic_do_no_harm() {
    let vendor = Vendor::new("a").answers(|attempt| {
        let is_bad = attempt.input.event.user_id() == Some("bad");
        if is_bad {
            Err(Error::new(ErrorKind::RequestRejected, "400"))
        } else {
            Ok(())
        }
    });
    let config = handler::Config::new(Arc::new(vendor) as Arc<dyn Integration>)
        .on_workflow_error(|_| panic!("the hook's mistake"));
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    let engine = engine()
        .handler(Handler::new(config).unwrap())
        .on_settled(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            panic!("the observer's mistake");
        })
        .build()
        .await
        .unwrap();
    for user in ["good", "bad", "good"] {
        engine.enqueue(event(user, "e")).await.unwrap();
    }
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    assert!(engine.close(secs(1)).await.is_empty());
}

/// Who says when to come back is not down: when the time has come, everything
/// goes out side by side.
#[tokio::test(start_paused = true)]
async fn a_vendor_that_asks_for_a_pause_is_not_down() {
    let vendor = Vendor::new("a")
        .takes(ms(10))
        .policies(attempts(0))
        .answers(|attempt| {
            if attempt.number < 3 {
                Err(Error::new(ErrorKind::RateLimited, "429").with_retry_after(secs(5)))
            } else {
                Ok(())
            }
        });
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    for n in 0..8 {
        engine.enqueue(event(&format!("u{n}"), "e")).await.unwrap();
    }
    engine.flush(secs(60)).await.unwrap();
    let mut times = vendor.times();
    times.dedup();
    assert_eq!(times, [ms(0), ms(5010), ms(10_020)]);
    assert_eq!(vendor.sent().len(), 24);
    assert!(engine.close(secs(1)).await.is_empty());
}

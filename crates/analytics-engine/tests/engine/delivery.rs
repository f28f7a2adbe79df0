//! What arrives: batches, order, one outcome for each event.

use std::sync::{Arc, Mutex};

use analytics_engine::MemoryStore;
use analytics_spec::{
    Alias, Code, Context, ErrorKind, Event, Identify, Input, Kind, KindSet, Page, Policies,
    ValidationError, integration::Batching,
};

use crate::support::{
    End, Ends, Vendor, attempts, engine, event, ms, record_warnings, secs, unavailable, warnings,
};

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_the_rest_when_it_has_waited() {
    let vendor = Arc::new(Vendor::new("a").batches(3, 1));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .linger(ms(50))
        .build()
        .await
        .unwrap();
    for n in 0..7 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
    }
    tokio::time::sleep(ms(49)).await;
    assert_eq!(vendor.batch_names(), [["0", "1", "2"], ["3", "4", "5"]]);
    tokio::time::sleep(ms(2)).await;
    assert_eq!(vendor.batch_names().last().unwrap(), &["6"]);
    assert_eq!(vendor.times(), [ms(0), ms(0), ms(50)]);
    assert!(engine.close(secs(1)).await.is_empty());
    ends.assert_once();
    assert_eq!(ends.count(), 7);
    assert!(
        ends.all()
            .iter()
            .all(|end| end.attempts == 1 && end.error.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_full_by_bytes_as_well() {
    let mut vendor = Vendor::new("a");
    vendor.batching = Batching {
        max_items: 100,
        max_bytes: 1000,
        max_in_flight: 8,
    };
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    for n in 0..4 {
        let large = event("u1", format!("{n}")).property("text", "x".repeat(300));
        engine.enqueue(large).await.unwrap();
    }
    tokio::time::sleep(ms(10)).await;
    assert_eq!(vendor.batch_names(), [["0", "1"]]);
    assert!(engine.close(secs(1)).await.is_empty());
    assert_eq!(vendor.batch_names(), [["0", "1"], ["2", "3"]]);
}

#[tokio::test(start_paused = true)]
async fn integrations_that_take_one_event_at_a_time_do_not_wait() {
    let vendor = Arc::new(Vendor::new("a").takes(ms(10)));
    let engine = engine()
        .integration(vendor.clone())
        .linger(secs(60))
        .build()
        .await
        .unwrap();
    for n in 0..20 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
    }
    engine.flush(secs(1)).await.unwrap();
    let most = vendor
        .most_in_flight
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(most, 8);
    assert_eq!(vendor.times().last(), Some(&ms(20)));
}

/// What waits behind a pause or a delivery does not make everybody else's
/// batches go out half-empty.
#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_sent_do_not_fill_a_batch() {
    let vendor = Vendor::new("a").batches(10, 4).answers(|attempt| {
        let is_poor = attempt.input.event.user_id() == Some("poor");
        if is_poor { Err(unavailable()) } else { Ok(()) }
    });
    let vendor = Arc::new(vendor.policies(attempts(0)));
    let engine = engine()
        .integration(vendor.clone())
        .linger(ms(100))
        .build()
        .await
        .unwrap();
    for n in 0..30 {
        engine
            .enqueue(event("poor", format!("poor {n}")))
            .await
            .unwrap();
    }
    tokio::time::sleep(ms(1)).await;
    assert_eq!(vendor.sent().len(), 1);
    for n in 0..5 {
        engine
            .enqueue(event(&format!("u{n}"), format!("{n}")))
            .await
            .unwrap();
        tokio::time::sleep(ms(10)).await;
    }
    tokio::time::sleep(ms(100)).await;
    assert_eq!(vendor.batch_names()[1..], [["0", "1", "2", "3", "4"]]);
}

#[tokio::test(start_paused = true)]
async fn one_persons_events_arrive_in_order_over_failures() {
    // Every third event fails twice before it is accepted.
    let accepted: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&accepted);
    let vendor = Vendor::new("a")
        .batches(4, 4)
        .takes(ms(7))
        .policies(attempts(0))
        .answers(move |attempt| {
            let name = crate::support::name(&attempt.input.event);
            let n: u32 = name.split(' ').next_back().unwrap().parse().unwrap();
            if n.is_multiple_of(3) && attempt.number < 3 {
                return Err(unavailable());
            }
            log.lock().unwrap().push(name);
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
    for n in 0..40 {
        for user in ["u1", "u2", "u3"] {
            engine
                .enqueue(event(user, format!("{user} {n}")))
                .await
                .unwrap();
        }
    }
    engine.flush(secs(600)).await.unwrap();
    assert!(vendor.sent().len() > 30);
    ends.assert_once();
    let accepted = accepted.lock().unwrap();
    for user in ["u1", "u2", "u3"] {
        let expected: Vec<_> = (0..40).map(|n| format!("{user} {n}")).collect();
        let got: Vec<_> = accepted
            .iter()
            .filter(|name| name.starts_with(user))
            .cloned()
            .collect();
        assert_eq!(got, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn anonymous_user_and_alias_are_one_line() {
    let vendor = Vendor::new("a")
        .batches(10, 4)
        .policies(attempts(0))
        .answers(|attempt| {
            let is_first = crate::support::name(&attempt.input.event) == "anonymous";
            if is_first && attempt.number == 1 {
                Err(unavailable())
            } else {
                Ok(())
            }
        });
    let ends = Ends::default();
    let engine = engine()
        .integration(Arc::new(vendor))
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    let track = analytics_spec::Track::new;
    engine
        .enqueue(track("anonymous").anonymous_id("x"))
        .await
        .unwrap();
    engine
        .enqueue(Identify::new().anonymous_id("x").user_id("old"))
        .await
        .unwrap();
    engine.enqueue(Alias::new("old", "new")).await.unwrap();
    engine.enqueue(event("new", "last")).await.unwrap();
    // The same text in the other space of ids is somebody else.
    engine
        .enqueue(track("another").anonymous_id("new"))
        .await
        .unwrap();
    engine.flush(secs(10)).await.unwrap();
    let names: Vec<_> = ends.all().into_iter().map(|end| end.name).collect();
    assert_eq!(names, ["another", "anonymous", "identify", "alias", "last"]);
}

#[tokio::test(start_paused = true)]
async fn others_do_not_wait_for_who_fails() {
    let vendor = Vendor::new("a").policies(attempts(0)).answers(|attempt| {
        let fails = attempt.input.event.user_id() == Some("poor") && attempt.number < 4;
        if fails { Err(unavailable()) } else { Ok(()) }
    });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("poor", "poor 1")).await.unwrap();
    engine.enqueue(event("poor", "poor 2")).await.unwrap();
    engine.enqueue(event("rich", "rich")).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    assert_eq!(ends.at("a"), [("rich".into(), None)]);
    engine.flush(secs(60)).await.unwrap();
    let names: Vec<_> = ends.at("a").into_iter().map(|end| end.0).collect();
    assert_eq!(names, ["rich", "poor 1", "poor 2"]);
    // 1 s, 2 s and 4 s after each failure.
    let times: Vec<_> = vendor.times().iter().map(|at| at.as_millis()).collect();
    assert_eq!(times, [0, 0, 1000, 3000, 7000, 7000, 8000, 10_000, 14_000]);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_the_same_event() {
    let vendor = Vendor::new("a").policies(attempts(0)).answers(|attempt| {
        if attempt.number < 5 {
            Err(unavailable())
        } else {
            Ok(())
        }
    });
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let receipt = engine.enqueue(event("u1", "e")).await.unwrap();
    engine.flush(secs(60)).await.unwrap();
    let seen = vendor.seen();
    let numbers: Vec<_> = seen.iter().map(|seen| seen.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert!(seen.iter().all(|s| s.message_id == receipt.message_id));
    assert!(
        seen.iter()
            .all(|s| s.timestamp == seen[0].timestamp && s.timestamp.is_some())
    );
}

#[tokio::test(start_paused = true)]
async fn a_receipt_says_who_gets_an_event_and_who_does_not() {
    let mut pages = Vendor::new("pages");
    pages.supports = KindSet::EMPTY.with(Kind::Page);
    let mut strict = Vendor::new("strict");
    strict.rule = |_| {
        Err(ValidationError::new(
            "track.user_id",
            Code::Required,
            "an email is needed",
        ))
    };
    let failed: Arc<Mutex<Vec<String>>> = Arc::default();
    let names = Arc::clone(&failed);
    let strict = analytics_spec::handler::Config::new(
        Arc::new(strict) as Arc<dyn analytics_spec::Integration>
    )
    .on_workflow_error(move |failed| names.lock().unwrap().push(failed.name.to_owned()));
    let (pages, all) = (Arc::new(pages), Arc::new(Vendor::new("all")));
    record_warnings();
    let ends = Ends::default();
    let engine = engine()
        .integration(pages.clone())
        .handler(analytics_spec::Handler::new(strict).unwrap())
        .integration(all.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    let receipt = engine.enqueue(event("u1", "e")).await.unwrap();
    assert_eq!(*receipt.queued, ["all".into()]);
    assert_eq!(receipt.unsupported, ["pages".into()]);
    let (name, error) = &receipt.refused[0];
    assert_eq!((&**name, error.kind()), ("strict", ErrorKind::Validation));
    assert!(error.to_string().contains("an email is needed"), "{error}");
    assert_eq!(*failed.lock().unwrap(), ["strict(analytics).Track"]);
    assert!(!receipt.message_id.is_empty());
    engine.flush(secs(1)).await.unwrap();
    let all = ends.all();
    let of = |end: &End| (end.integration.clone(), end.seq, end.attempts, end.error);
    let expected = [
        (
            "strict".to_owned(),
            receipt.seq,
            0,
            Some(ErrorKind::Validation),
        ),
        ("all".to_owned(), receipt.seq, 1, None),
    ];
    assert_eq!(all.iter().map(of).collect::<Vec<_>>(), expected);
    assert!(all.iter().all(|end| end.message_id == receipt.message_id));
    let said = warnings(&receipt.message_id);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["strict", "track", "Validation"] {
        assert!(said[0].contains(part), "{part}: {said:?}");
    }
    assert!(!said[0].contains("u1"), "no payload: {said:?}");

    let error = engine.enqueue(event("u1", " ")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    let error = engine
        .try_enqueue(Page::new("").user_id("u1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
}

#[tokio::test(start_paused = true)]
async fn policies_of_an_input_win_where_they_may() {
    let strict = Arc::new(Vendor::new("strict").answers(|_| Err(unavailable())));
    let mut lenient = Vendor::new("lenient")
        .policies(attempts(9))
        .answers(|_| Err(unavailable()));
    lenient.allows_policies = true;
    let lenient = Arc::new(lenient);
    let ends = Ends::default();
    let engine = engine()
        .integration(strict.clone())
        .integration(lenient.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    let own = analytics_spec::ActivityPolicy::new()
        .single_attempt_timeout(secs(3))
        .retry_policy(analytics_spec::RetryPolicy::new().maximum_attempts(2));
    let input = Input::new(event("u1", "e")).policies(Policies::new().request(own));
    let receipt = engine.enqueue(input).await.unwrap();
    assert_eq!(*receipt.queued, ["lenient".into()]);
    let (name, error) = &receipt.refused[0];
    assert_eq!(&**name, "strict");
    assert!(
        error.to_string().contains("allow_policies_override"),
        "{error}"
    );
    engine.flush(secs(60)).await.unwrap();
    let attempts: Vec<_> = ends.all().iter().map(|end| end.attempts).collect();
    assert_eq!(attempts, [0, 2]);
    assert!(lenient.seen().iter().all(|seen| seen.timeout == secs(3)));
    // The rest is the instance's.
    assert_eq!(lenient.times(), [ms(0), secs(1)]);
    assert!(strict.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_engines_context_is_around_every_event() {
    let ends: Arc<Mutex<Vec<_>>> = Arc::default();
    let log = Arc::clone(&ends);
    let engine = engine()
        .integration(Arc::new(Vendor::new("a")))
        .context(
            analytics_spec::Context::new()
                .locale("en-GB")
                .user_agent("engine"),
        )
        .on_settled(move |settled| log.lock().unwrap().push(settled.input.context.clone()))
        .build()
        .await
        .unwrap();
    let own = analytics_spec::Context::new().user_agent("own");
    engine
        .enqueue(Input::new(event("u1", "e")).context(own))
        .await
        .unwrap();
    engine.flush(secs(1)).await.unwrap();
    let ends = ends.lock().unwrap();
    assert_eq!(ends[0].locale.as_deref(), Some("en-GB"));
    assert_eq!(ends[0].user_agent.as_deref(), Some("own"));
    assert_eq!(event("u1", "e").kind(), Kind::Track);
}

/// Who refused an event hears of it when it is accepted, and not before: what
/// there was no room for comes again.
#[tokio::test(start_paused = true)]
async fn what_is_refused_is_told_of_once_it_is_accepted() {
    let mut strict = Vendor::new("strict");
    strict.rule = |_| Err(ValidationError::new("track", Code::Required, "no"));
    let strict = Arc::new(strict);
    let all = Arc::new(Vendor::new("all").hold());
    let ends = Ends::default();
    let both = engine()
        .integration(strict.clone())
        .integration(all.clone())
        .on_settled(ends.observer())
        .store(Arc::new(MemoryStore::new(1, 1_000_000)))
        .build()
        .await
        .unwrap();
    both.try_enqueue(event("u1", "1")).await.unwrap();
    for _ in 0..3 {
        let error = both.try_enqueue(event("u1", "2")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
    }
    assert_eq!(ends.at("strict").len(), 1);
    all.release();
    both.flush(secs(1)).await.unwrap();
    both.try_enqueue(event("u1", "2")).await.unwrap();
    both.flush(secs(1)).await.unwrap();
    ends.assert_once();
    assert_eq!(ends.count(), 4);

    // Also if nobody takes it, and the observer makes a mistake.
    let alone = engine()
        .integration(strict)
        .on_settled(|_| panic!("the observer's mistake"))
        .build()
        .await
        .unwrap();
    let receipt = alone.enqueue(event("u1", "3")).await.unwrap();
    assert_eq!((receipt.seq, receipt.refused.len()), (None, 1));
    alone.try_enqueue(event("u1", "3")).await.unwrap();
}

/// Two events may have one message id: their places tell them apart.
#[tokio::test(start_paused = true)]
async fn events_with_one_message_id_are_told_apart() {
    let vendor = Arc::new(Vendor::new("a").batches(1, 1).takes(secs(2)));
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor)
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    let mut seqs = Vec::new();
    for _ in 0..3 {
        let twin = Input::new(event("u1", "e")).context(Context::new().message_id("twin"));
        seqs.push(engine.enqueue(twin).await.unwrap().seq.unwrap());
    }
    assert_eq!(seqs, [1, 2, 3]);
    tokio::time::sleep(secs(3)).await;
    let left = engine.halt(ms(1)).await.lost;
    let settled: Vec<_> = ends.all().iter().map(|end| end.seq).collect();
    assert_eq!(settled, [Some(1)]);
    let left: Vec<_> = left.iter().map(|left| left.seq).collect();
    assert_eq!(left, [2, 3]);
}

/// All of them or none, and what is wrong says where.
#[tokio::test(start_paused = true)]
async fn several_events_are_accepted_together() {
    let vendor = Arc::new(Vendor::new("a"));
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let events = || (0..3).map(|n| event("u1", n.to_string()));
    let receipts = engine.enqueue_all(events()).await.unwrap();
    let seqs: Vec<_> = receipts.iter().map(|receipt| receipt.seq).collect();
    assert_eq!(seqs, [Some(1), Some(2), Some(3)]);
    let wrong = events().chain([event("", "3")]);
    let error = engine.enqueue_all(wrong).await.unwrap_err();
    assert_eq!(
        error.violations().unwrap().violations()[0].path,
        "[3].track.user_id"
    );
    assert!(
        engine
            .enqueue_all(std::iter::empty::<analytics_spec::Track>())
            .await
            .unwrap()
            .is_empty()
    );
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.names(), ["0", "1", "2"]);
}

/// The store keeps an event that nobody waits for any more: who refused it is
/// told all the same.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_is_refused_is_reported_also_if_nobody_waits_for_it() {
    use analytics_engine::{Engine, Store as _};

    let dir = tempfile::tempdir().unwrap();
    let store = analytics_engine::store::SqliteStore::options(dir.path());
    let store = Arc::new(store.open().await.unwrap());
    let mut strict = Vendor::new("strict");
    strict.rule = |_| Err(ValidationError::new("track", Code::Required, "no"));
    let ends = Ends::default();
    let engine = Engine::builder()
        .integration(Arc::new(strict))
        .on_settled(ends.observer())
        .store(store.clone())
        .build()
        .await
        .unwrap();
    for n in 0..50 {
        let mut enqueue = Box::pin(engine.enqueue(event("u", n.to_string())));
        let _ = futures::poll!(enqueue.as_mut());
        drop(enqueue);
        let all = (0..2).map(|m| event("u", format!("{n} {m}")));
        let mut enqueue = Box::pin(engine.enqueue_all(all));
        let _ = futures::poll!(enqueue.as_mut());
    }
    engine.enqueue(event("u", "last")).await.unwrap();
    let all = async {
        while (ends.count() as u64) < store.last() {
            tokio::time::sleep(ms(1)).await;
        }
    };
    tokio::time::timeout(secs(10), all).await.unwrap();
    assert_eq!(ends.count(), 151);
    ends.assert_once();
    let seqs: std::collections::BTreeSet<_> = ends.all().iter().map(|end| end.seq).collect();
    assert_eq!(seqs.len(), 151, "each has its own place");
    // What is never accepted is not refused either.
    assert!(engine.close(secs(1)).await.is_empty());
    assert!(engine.enqueue(event("u", "late")).await.is_err());
    assert_eq!(ends.count(), 151);
}

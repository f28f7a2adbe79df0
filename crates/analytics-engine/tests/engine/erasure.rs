//! Delete means delete.

use std::sync::Arc;

use analytics_spec::{Delete, ErrorKind, Kind, KindSet};

use crate::support::{Ends, Vendor, engine, event, ms, secs, unavailable};

/// Everything but deletes.
fn undeleting(name: &'static str) -> Vendor {
    let mut vendor = Vendor::new(name);
    vendor.supports = KindSet::ALL
        .iter()
        .filter(|kind| *kind != Kind::Delete)
        .collect();
    vendor
}

/// Once a delete has been delivered, nothing of the user goes out any more,
/// wherever it waited.
#[tokio::test(start_paused = true)]
async fn after_a_delete_nothing_earlier_is_sent() {
    let mut slow = undeleting("slow").hold();
    slow.batching = analytics_spec::integration::Batching::single(2);
    let (deleting, slow) = (Arc::new(Vendor::new("deleting")), Arc::new(slow));
    let ends = Ends::default();
    let engine = engine()
        .integration(deleting.clone())
        .integration(slow.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for (user, name) in [
        ("gone", "under way"),
        ("stays", "1"),
        ("gone", "waiting"),
        ("stays", "2"),
    ] {
        engine.enqueue(event(user, name)).await.unwrap();
    }
    engine.enqueue(Delete::new("gone")).await.unwrap();
    engine.enqueue(event("gone", "back")).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(deleting.names().len(), 6);
    assert_eq!(slow.names(), ["under way", "1"]);
    slow.release();
    engine.flush(secs(10)).await.unwrap();
    let names = slow.names();
    assert!(!names.contains(&"waiting".to_owned()), "{names:?}");
    assert!(
        names.contains(&"back".to_owned()),
        "who came back is somebody"
    );
    assert_eq!(names.len(), 4);
    let erased: Vec<_> = ends
        .all()
        .into_iter()
        .filter(|end| end.error.is_some())
        .collect();
    assert_eq!(erased.len(), 1);
    assert_eq!(erased[0].error, Some(ErrorKind::Erased));
    assert_eq!(
        (erased[0].name.as_str(), erased[0].attempts),
        ("waiting", 0)
    );
}

/// A delete that nobody supports is heeded here, once every lane has come past
/// it: it takes nothing away that was to be delivered.
#[tokio::test(start_paused = true)]
async fn a_delete_for_nobody_takes_nothing_away() {
    let vendor = undeleting("a").hold();
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for _ in 0..3 {
        engine.enqueue(event("gone", "e")).await.unwrap();
    }
    engine.enqueue(event("stays", "e")).await.unwrap();
    let receipt = engine.enqueue(Delete::new("gone")).await.unwrap();
    assert_eq!(receipt.unsupported, ["a".into()]);
    tokio::time::sleep(ms(10)).await;
    vendor.release();
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(ends.count(), 4);
    assert!(ends.all().iter().all(|end| end.error.is_none()));
}

/// What is under way when its user is erased is not tried again, whatever the
/// reason.
#[tokio::test(start_paused = true)]
async fn erasing_ends_retries() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Unauthorized] {
        let vendor = Vendor::new("a")
            .hold()
            .answers(move |_| Err(analytics_spec::Error::new(kind, "no")));
        let vendor = Arc::new(vendor);
        let ends = Ends::default();
        let engine = engine()
            .integration(vendor.clone())
            .on_settled(ends.observer())
            .store(crate::stores::Disk::durable())
            .build()
            .await
            .unwrap();
        engine.enqueue(event("gone", "1")).await.unwrap();
        engine.enqueue(event("gone", "2")).await.unwrap();
        tokio::time::sleep(ms(10)).await;
        let erased = engine.erase_user("gone").await.unwrap();
        assert_eq!(erased.events, 2);
        vendor.release();
        engine.flush(secs(1)).await.unwrap();
        assert_eq!(vendor.names(), ["1"]);
        let ends: Vec<_> = ends
            .all()
            .into_iter()
            .map(|end| (end.name, end.error))
            .collect();
        let erased = Some(ErrorKind::Erased);
        assert_eq!(ends, [("2".to_owned(), erased), ("1".to_owned(), erased)]);
    }
}

/// Who is erased while they wait for another attempt, and are left to the
/// store, is waited for no longer.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_who_was_erased() {
    let vendor = Vendor::new("a").answers(|attempt| match attempt.input.event.user_id() {
        Some("gone") if crate::support::name(&attempt.input.event) != "back" => {
            Err(unavailable().with_wait(secs(600)))
        }
        _ => Ok(()),
    });
    let vendor = Arc::new(vendor);
    let engine = engine()
        .integration(vendor.clone())
        // Room for about three.
        .window_bytes(3000)
        .build()
        .await
        .unwrap();
    for n in 0..50 {
        let event = event("gone", n.to_string()).anonymous_id("device");
        engine.enqueue(event).await.unwrap();
    }
    engine.enqueue(event("stays", "other")).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(vendor.names(), ["0", "other"]);
    assert_eq!(engine.erase_user("gone").await.unwrap().events, 50);
    let back = event("gone", "back").anonymous_id("device");
    engine.enqueue(back).await.unwrap();
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.names(), ["0", "other", "back"]);
    assert!(engine.close(secs(1)).await.is_empty());
}

/// Who is erased here is still to be forgotten by the vendors: a delete that is
/// pending goes out.
#[tokio::test(start_paused = true)]
async fn a_pending_delete_outlives_an_erasure() {
    let vendor = Arc::new(Vendor::new("a").hold());
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .build()
        .await
        .unwrap();
    for name in ["under way", "waiting"] {
        engine.enqueue(event("gone", name)).await.unwrap();
    }
    engine.enqueue(Delete::new("gone")).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    let erased = engine.erase_user("gone").await.unwrap();
    assert_eq!(erased.events, 2);
    vendor.release();
    engine.flush(secs(1)).await.unwrap();
    assert_eq!(vendor.names().len(), 2, "{:?}", vendor.names());
    let failed: Vec<_> = ends.all().into_iter().filter_map(|end| end.error).collect();
    assert_eq!(failed, [ErrorKind::Erased]);
}

/// A store that answers late may hand out once more what was erased meanwhile.
#[tokio::test(start_paused = true)]
async fn an_event_is_erased_once() {
    let store = crate::stores::Disk::durable();
    let vendor = Arc::new(Vendor::new("a").hold());
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .store(store.clone())
        .build()
        .await
        .unwrap();
    for name in ["under way", "waiting"] {
        engine.enqueue(event("gone", name)).await.unwrap();
        tokio::time::sleep(ms(1)).await;
    }
    let late = Arc::new(tokio::sync::Notify::new());
    *store.late.lock().unwrap() = Some(Arc::clone(&late));
    engine.enqueue(event("stays", "other")).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    engine.erase_user("gone").await.unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(ends.count(), 1);
    *store.late.lock().unwrap() = None;
    late.notify_one();
    tokio::time::sleep(ms(1)).await;
    vendor.release();
    engine.flush(secs(1)).await.unwrap();
    ends.assert_once();
}

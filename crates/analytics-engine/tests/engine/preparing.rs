//! Events are mapped when they are accepted, where an integration can, and
//! everything is as it would be otherwise.

use std::sync::{Arc, Mutex, atomic::Ordering};

use analytics_engine::Engine;
use analytics_spec::{
    Code, ErrorKind, Input, ValidationError,
    handler::{Config, Handler},
};

use crate::support::{Ends, Vendor, attempts, engine, event, ms, secs, unavailable};

/// Two people's events, of whom one's first fails twice: each integration's
/// order, and what came of it.
async fn run(vendor: Vendor) -> (Arc<Vendor>, Ends) {
    let vendor = vendor
        .batches(4, 2)
        .policies(attempts(3))
        .answers(|attempt| {
            let name = crate::support::name(&attempt.input.event);
            match (name.as_str(), attempt.number) {
                ("0", 1 | 2) => Err(unavailable()),
                ("3", _) => Err(analytics_spec::Error::new(ErrorKind::RequestRejected, "no")),
                _ => Ok(()),
            }
        });
    let vendor = Arc::new(vendor);
    let ends = Ends::default();
    let engine = engine()
        .integration(vendor.clone())
        .on_settled(ends.observer())
        .linger(ms(5))
        .build()
        .await
        .unwrap();
    for n in 0..12 {
        let user = if n % 2 == 0 { "a" } else { "b" };
        engine.enqueue(event(user, n.to_string())).await.unwrap();
    }
    engine.flush(secs(60)).await.unwrap();
    assert!(engine.close(secs(1)).await.is_empty());
    ends.assert_once();
    (vendor, ends)
}

#[tokio::test(start_paused = true)]
async fn events_are_mapped_once_and_delivered_as_ever() {
    let (prepared, ends) = run(Vendor::new("a")).await;
    assert_eq!(prepared.prepared.load(Ordering::SeqCst), 12);
    let (unprepared, expected) = run(Vendor::new("a").unprepared()).await;
    assert_eq!(unprepared.prepared.load(Ordering::SeqCst), 0);
    assert_eq!(prepared.batch_names(), unprepared.batch_names());
    assert_eq!(prepared.times(), unprepared.times());
    assert_eq!(ends.at("a"), expected.at("a"));
    assert_eq!(ends.count(), 12);
    assert_eq!(
        ends.at("a")
            .iter()
            .filter(|(_, error)| error.is_some())
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_breaks_a_rule_is_refused_when_it_is_mapped() {
    for vendor in [Vendor::new("a"), Vendor::new("a").unprepared()] {
        let mut vendor = vendor;
        vendor.rule = |_| {
            Err(ValidationError::new(
                "track.event",
                Code::TooLong,
                "too long",
            ))
        };
        let vendor = Arc::new(vendor);
        let engine = engine().integration(vendor.clone()).build().await.unwrap();
        let receipt = engine.enqueue(event("u", "0")).await.unwrap();
        let (name, error) = &receipt.refused[0];
        assert_eq!((&**name, error.kind()), ("a", ErrorKind::Validation));
        assert_eq!(
            error.violations().unwrap().violations()[0].path,
            "track.event"
        );
        assert!(engine.close(secs(1)).await.is_empty());
        assert!(vendor.names().is_empty());
    }
}

/// Whoever brings an event does not suffer from an integration's mistake, and
/// neither does another integration.
#[tokio::test(start_paused = true)]
async fn an_integration_that_panics_refuses_the_event() {
    for vendor in [Vendor::new("a"), Vendor::new("a").unprepared()] {
        let mut vendor = vendor;
        vendor.rule = |_| panic!("a mistake");
        let other = Arc::new(Vendor::new("b"));
        let engine = engine()
            .integration(Arc::new(vendor))
            .integration(other.clone())
            .build()
            .await
            .unwrap();
        let receipt = engine.enqueue(event("u", "0")).await.unwrap();
        let (name, error) = &receipt.refused[0];
        assert_eq!((&**name, error.kind()), ("a", ErrorKind::Internal));
        assert!(engine.close(secs(1)).await.is_empty());
        assert_eq!(other.names(), ["0"]);
    }
}

/// One that maps, one that does not, and policies that one of them takes.
#[tokio::test(start_paused = true)]
async fn an_event_is_at_hand_for_whoever_needs_to_see_it() {
    let mut mapping = Vendor::new("a").answers(|_| Err(unavailable()));
    mapping.allows_policies = true;
    let (mapping, other) = (Arc::new(mapping), Arc::new(Vendor::new("b").unprepared()));
    let engine = engine()
        .integration(mapping.clone())
        .integration(other.clone())
        .build()
        .await
        .unwrap();
    let input = Input::new(event("u", "0")).policies(attempts(2));
    let receipt = engine.enqueue(input).await.unwrap();
    assert_eq!(receipt.refused.len(), 1, "b takes no policies");
    engine.enqueue(event("v", "1")).await.unwrap();
    assert!(
        engine
            .close(secs(3))
            .await
            .lost
            .iter()
            .all(|left| left.integration == "a")
    );
    assert_eq!(
        mapping.names().iter().filter(|name| *name == "0").count(),
        2
    );
    assert_eq!(other.names(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn hooks_see_events_that_were_mapped() {
    let vendor = Arc::new(
        Vendor::new("a")
            .policies(attempts(2))
            .answers(|_| Err(unavailable())),
    );
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let tell = |what: &'static str| {
        let told = Arc::clone(&told);
        move |failed: &analytics_spec::handler::Failed<'_>| {
            let user = failed.output.event.user_id().unwrap().to_owned();
            told.lock()
                .unwrap()
                .push(format!("{what} {} {user}", failed.name));
        }
    };
    let config = Config::new(vendor.clone() as Arc<dyn analytics_spec::Integration>)
        .on_activity_error(tell("activity"))
        .on_workflow_error(tell("workflow"));
    let engine = Engine::builder()
        .clock(crate::support::TestClock::new())
        .handler(Handler::new(config).unwrap())
        .build()
        .await
        .unwrap();
    engine.enqueue(event("u", "0")).await.unwrap();
    engine.flush(secs(60)).await.unwrap();
    assert!(engine.close(secs(1)).await.is_empty());
    assert_eq!(
        *told.lock().unwrap(),
        [
            "activity a(analytics).Track.Request u",
            "activity a(analytics).Track.Request u",
            "workflow a(analytics).Track u",
        ]
    );
}

/// What one engine had mapped is for its own integrations: another one's may
/// send something else, or with other credentials.
#[tokio::test]
async fn another_engine_maps_for_itself() {
    let mut stores: Vec<Arc<dyn analytics_engine::Store>> =
        vec![Arc::new(analytics_engine::MemoryStore::default())];
    let dir = tempfile::tempdir().unwrap();
    #[cfg(feature = "sqlite")]
    stores.push(Arc::new(
        analytics_engine::store::SqliteStore::options(dir.path())
            .open()
            .await
            .unwrap(),
    ));
    for store in stores {
        for later in [Vendor::new("a"), Vendor::new("a").unprepared()] {
            let first = Arc::new(Vendor::new("a").hold());
            let engine = engine()
                .integration(first.clone())
                .store(store.clone())
                .build()
                .await
                .unwrap();
            for n in 0..3 {
                engine.enqueue(event("u", n.to_string())).await.unwrap();
            }
            drop(engine);
            assert_eq!(first.prepared.load(Ordering::SeqCst), 3);
            let (later, ends) = (Arc::new(later), Ends::default());
            let engine = crate::support::engine()
                .integration(later.clone())
                .on_settled(ends.observer())
                .store(store.clone())
                .build()
                .await
                .unwrap();
            engine.flush(secs(30)).await.unwrap();
            let prepares = if later.prepares { 3 } else { 0 };
            assert_eq!(later.prepared.load(Ordering::SeqCst), prepares);
            assert_eq!(later.names(), ["0", "1", "2"]);
            assert_eq!(ends.count(), 3);
            assert!(ends.all().iter().all(|end| end.error.is_none()));
            drop(engine);
        }
    }
    drop(dir);
}

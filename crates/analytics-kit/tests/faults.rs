//! The durable engine against vendors that fail, over real sockets: whatever
//! happens, every accepted event arrives, in its person's order, and twice
//! only under one message id.

#![cfg(all(feature = "engine", feature = "segment", feature = "mixpanel"))]
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use analytics_kit::{
    Configuration, Context, Engine, ErrorKind, Input, Timestamp, Track,
    engine::{
        Settled, State,
        store::{Filter, SqliteStore},
    },
};
use analytics_testkit::{
    Answer, Fault, MixpanelAccount, Received, Scripted, ScriptedMixpanel, ScriptedSegment,
    SegmentAccount, ServerOptions,
};

const SOON: Duration = Duration::from_secs(60);

/// Segment, where it listens.
fn segment(url: &str) -> String {
    format!(
        "[integrations.segment]\n\
         write_key = \"write-key\"\n\
         base_url = \"{url}\"\n\
         [integrations.segment.policies.request]\n\
         single_attempt_timeout = \"500ms\"\n\
         retry_policy = {{ initial_interval = \"20ms\", maximum_interval = \"200ms\" }}\n"
    )
}

/// Mixpanel, where it listens.
fn mixpanel(url: &str) -> String {
    format!(
        "[integrations.mixpanel]\n\
         project_token = \"token\"\n\
         base_url = \"{url}\"\n\
         [integrations.mixpanel.policies.request]\n\
         retry_policy = {{ initial_interval = \"20ms\", maximum_interval = \"200ms\" }}\n"
    )
}

/// How many times each event ended at each integration, by its message id.
type Ends = Arc<Mutex<BTreeMap<(String, String), Vec<Option<ErrorKind>>>>>;

async fn open(dir: &Path, toml: &str, ends: &Ends) -> Engine {
    let store = SqliteStore::options(dir).open().await.unwrap();
    let ends = Arc::clone(ends);
    Configuration::from_toml(toml)
        .unwrap()
        .engine()
        .await
        .unwrap()
        .store(Arc::new(store))
        .on_settled(move |settled: &Settled<'_>| {
            let id = settled.input.message_id().to_owned();
            let mut ends = ends.lock().unwrap();
            let ends = ends
                .entry((settled.integration.to_owned(), id))
                .or_default();
            ends.push(settled.outcome.err().map(analytics_kit::Error::kind));
        })
        .build()
        .await
        .unwrap()
}

fn order(number: usize) -> Input<Track> {
    let track = Track::new("Order Completed")
        .user_id(format!("u{}", number % 7))
        .property("number", number);
    Input::new(track).context(Context::new().message_id(format!("m{number}")))
}

async fn accept(engine: &Engine, numbers: std::ops::Range<usize>) {
    engine.enqueue_all(numbers.map(order)).await.unwrap();
}

/// Everything came, as often as the vendor counts it: once; and, as the vendor
/// saw it, in each person's order.
fn assert_all(received: &[Received], numbers: std::ops::Range<usize>) {
    let number = |received: &Received| {
        let body = &received.body;
        let number = body.pointer("/properties/number");
        usize::try_from(number.unwrap().as_u64().unwrap()).unwrap()
    };
    let came: Vec<_> = received.iter().map(number).collect();
    let set: BTreeSet<_> = came.iter().copied().collect();
    assert_eq!(came.len(), set.len(), "each is counted once");
    assert_eq!(set, numbers.collect());
    let mut last = BTreeMap::new();
    for number in came {
        let before = last.insert(number % 7, number);
        assert!(before < Some(number), "{before:?} came before {number}");
    }
}

/// How Segment stands, and how much is pending for it.
async fn state(engine: &Engine) -> (State, u64) {
    let health = engine.health().await.unwrap();
    let mut all = health.integrations.into_iter();
    let segment = all.find(|one| one.status.integration == "segment").unwrap();
    (segment.state, segment.status.pending)
}

async fn start_segment(address: Option<SocketAddr>) -> ScriptedSegment {
    let account = SegmentAccount::new("write-key");
    match address {
        None => ScriptedSegment::start(account).await.unwrap(),
        Some(address) => {
            let options = ServerOptions::default().address(address);
            Scripted::start_with(options, account).await.unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_is_gone_for_the_whole_run_and_back_in_the_next() {
    let (dir, ends) = (tempfile::tempdir().unwrap(), Ends::default());
    let vendor = start_segment(None).await;
    let (address, url) = (vendor.address(), vendor.base_url());
    vendor.shutdown().await;
    let other = ScriptedMixpanel::start(MixpanelAccount::new("token"))
        .await
        .unwrap();
    let toml = segment(&url) + &mixpanel(&other.base_url());

    let engine = open(dir.path(), &toml, &ends).await;
    accept(&engine, 0..300).await;
    // The other is not held up.
    assert!(
        other
            .wait_until(SOON, |counts| counts.received == 300)
            .await
    );
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(state(&engine).await, (State::Down, 300));
    let left = engine.close(Duration::ZERO).await;
    assert_eq!((left.lost.len(), left.kept), (0, 300));
    drop(engine);

    let vendor = start_segment(Some(address)).await;
    let engine = open(dir.path(), &toml, &ends).await;
    accept(&engine, 300..310).await;
    engine.flush(SOON).await.unwrap();
    assert!(engine.close(SOON).await.is_empty());
    assert_all(&vendor.received(), 0..310);
    assert_eq!(other.received().len(), 310);
    assert!(vendor.violations().is_empty());
    let ends = ends.lock().unwrap();
    assert_eq!(ends.len(), 620);
    assert!(ends.values().all(|ends| *ends == [None]), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_the_vendor_asks_for_is_kept_also_over_a_restart() {
    let (dir, ends) = (tempfile::tempdir().unwrap(), Ends::default());
    let vendor = start_segment(None).await;
    vendor.faults().push(Fault::retry_after(2));
    let toml = segment(&vendor.base_url());
    let engine = open(dir.path(), &toml, &ends).await;
    accept(&engine, 0..20).await;
    assert!(vendor.wait_until(SOON, |counts| counts.requests == 1).await);
    let asked = Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state(&engine).await, (State::Paused, 20));
    let _ = engine.halt(SOON).await;
    drop(engine);

    let engine = open(dir.path(), &toml, &ends).await;
    assert_eq!(state(&engine).await, (State::Paused, 20));
    accept(&engine, 20..30).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(vendor.counts().requests, 1, "nothing within the pause");
    engine.flush(SOON).await.unwrap();
    assert!(asked.elapsed() > Duration::from_millis(1900));
    assert!(engine.close(SOON).await.is_empty());
    assert_all(&vendor.received(), 0..30);
}

/// Resets, cut answers, time-outs after which nobody knows whether the vendor
/// took it: repeated, under the same message id, which is how the vendor tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_arrived_is_repeated_under_the_same_id() {
    for fault in [
        Fault::Reset,
        Fault::AcceptThenReset,
        Fault::AcceptThenTruncate,
        Fault::AcceptThenHang,
        Fault::accept_then_status(502),
    ] {
        let (dir, ends) = (tempfile::tempdir().unwrap(), Ends::default());
        let vendor = start_segment(None).await;
        vendor.faults().push(fault.clone().times(2));
        let taken = matches!(fault, Fault::Reset);
        let engine = open(dir.path(), &segment(&vendor.base_url()), &ends).await;
        accept(&engine, 0..50).await;
        engine.flush(SOON).await.unwrap();
        assert!(engine.close(SOON).await.is_empty());
        assert_all(&vendor.received(), 0..50);
        assert_eq!(vendor.duplicates().is_empty(), taken, "{fault:?}");
        assert!(ends.lock().unwrap().values().all(|ends| *ends == [None]));
        vendor.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_batch_is_refused_and_the_other_half_is_not() {
    let (dir, ends) = (tempfile::tempdir().unwrap(), Ends::default());
    let vendor = ScriptedMixpanel::start(MixpanelAccount::new("token"))
        .await
        .unwrap();
    let engine = open(dir.path(), &mixpanel(&vendor.base_url()), &ends).await;
    let far: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
    let events = (0..100).map(|number| {
        let mut input = order(number);
        if number % 2 == 1 {
            input.context.timestamp = Some(far);
        }
        input
    });
    engine.enqueue_all(events).await.unwrap();
    engine.flush(SOON).await.unwrap();
    let came = vendor.received();
    assert_eq!(came.len(), 50);
    let dead = engine.dead_letters().unwrap();
    let dead = dead.list(&Filter::all(), 0, 1000).await.unwrap();
    assert_eq!(dead.len(), 50);
    for letter in &dead {
        let number: usize = letter.message_id[1..].parse().unwrap();
        assert_eq!(number % 2, 1);
        assert_eq!(
            (letter.integration.as_str(), letter.attempts),
            ("mixpanel", 1)
        );
        assert_eq!(letter.reason.response.as_ref().unwrap().status_code, 400);
        assert!(letter.input.get().contains("Order Completed"));
    }
    assert!(
        engine.close(SOON).await.is_empty(),
        "a dead letter is an end"
    );
}

/// With so little room, and the vendor down: what was accepted stays, and what
/// is not is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so_and_keeps_what_it_has() {
    let (dir, ends) = (tempfile::tempdir().unwrap(), Ends::default());
    let vendor = start_segment(None).await;
    vendor
        .faults()
        .push(Fault::Answer(Answer::empty(503)).always());
    let store = SqliteStore::options(dir.path()).max_bytes(2 * 1024 * 1024);
    let store = store.open().await.unwrap();
    let engine = Configuration::from_toml(&segment(&vendor.base_url()))
        .unwrap()
        .engine()
        .await
        .unwrap()
        .store(Arc::new(store))
        .room_within(Duration::from_millis(100))
        .build()
        .await
        .unwrap();
    let large = "x".repeat(10_000);
    let mut accepted = 0;
    let error = loop {
        let mut input = order(accepted);
        input.event = input.event.property("text", large.as_str());
        match engine.enqueue(input).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("max_bytes"), "{error}");
    assert!(accepted > 50, "{accepted}");
    vendor.faults().clear();
    engine.flush(SOON).await.unwrap();
    assert_all(&vendor.received(), 0..accepted);
    // There is room again.
    accept(&engine, accepted..accepted + 10).await;
    assert!(engine.close(SOON).await.is_empty());
    assert_all(&vendor.received(), 0..accepted + 10);
    assert!(ends.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_has_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let first = SqliteStore::options(dir.path()).open().await.unwrap();
    let error = SqliteStore::options(dir.path()).open().await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    assert!(said.contains(&dir.path().display().to_string()), "{said}");
    drop(first);
    SqliteStore::options(dir.path()).open().await.unwrap();
}

/// Whoever stops waiting for `enqueue` may have accepted the event: then it is
/// delivered, though nothing else happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_that_nobody_waits_for_is_delivered_or_not_accepted() {
    let (dir, ends) = (tempfile::tempdir().unwrap(), Ends::default());
    let vendor = start_segment(None).await;
    let engine = open(dir.path(), &segment(&vendor.base_url()), &ends).await;
    accept(&engine, 0..1).await;
    engine.flush(SOON).await.unwrap();
    {
        let mut enqueue = Box::pin(engine.enqueue(order(1)));
        let once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(enqueue.as_mut().poll(context).is_pending())
        });
        assert!(once.await, "it is on its way to the disk");
    }
    assert!(vendor.wait_until(SOON, |counts| counts.received == 2).await);
    assert!(engine.close(SOON).await.is_empty());
}

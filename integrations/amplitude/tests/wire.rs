//! What happens on the wire: what is sent after each answer that Amplitude
//! documents. Time is injected: no test waits for a retry.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use analytics_amplitude::{
    Alias, Amplitude, Api, Calls as _, Config, Context, Delete, Error, ErrorKind, Group, Identify,
    Input, Track,
};
use analytics_http::ReqwestTransport;
use analytics_spec::{
    AnyInput, Attempt, Clock, Delivery, Event, Integration as _, Progress, Timestamp, Value,
    clock::Sleep,
};
use analytics_testkit::{
    Answer, Fault,
    vendors::{AmplitudeAccount, ScriptedAmplitude},
};
use serde_json::json;

/// Stands still, never waits, and remembers for how long it should have.
#[derive(Clone, Debug, Default)]
struct StoppedClock(Arc<Mutex<Vec<Duration>>>);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        "2026-03-04T05:06:07.089Z".parse().unwrap()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.0.lock().unwrap().push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

impl StoppedClock {
    fn slept(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

async fn project(config: Config) -> (ScriptedAmplitude, Amplitude, StoppedClock) {
    let account = AmplitudeAccount::new("key-1").secret_key("secret-1");
    let server = ScriptedAmplitude::start(account).await.unwrap();
    let url = server.base_url().parse().unwrap();
    let clock = StoppedClock::default();
    let client = config.secret_key("secret-1").base_url(url).build().unwrap();
    // Every test has a runtime of its own, with which its connections end.
    let client = client
        .with_transport(Arc::new(ReqwestTransport::new().unwrap()))
        .with_clock(Arc::new(clock.clone()));
    (server, client, clock)
}

fn stamped(id: &str, event: impl Event) -> AnyInput {
    let context = Context::new().message_id(id);
    let mut input = Input::new(event).context(context).into_any();
    input.stamp(StoppedClock::default().now());
    input
}

/// Events of as many people.
fn tracks(count: usize) -> Vec<AnyInput> {
    (0..count)
        .map(|n| {
            stamped(
                &format!("m{n}"),
                Track::new("E").user_id(format!("user-{n}")),
            )
        })
        .collect()
}

async fn deliver(client: &Amplitude, inputs: &[AnyInput]) -> Vec<Result<Delivery, Error>> {
    let attempt = |input| Attempt {
        input,
        number: 1,
        progress: Progress::NONE,
        timeout: Duration::from_secs(30),
        deadline: None,
    };
    let attempts: Vec<_> = inputs.iter().map(attempt).collect();
    client.deliver_batch(&attempts).await
}

/// How many events each request carried.
fn sizes(server: &ScriptedAmplitude) -> Vec<usize> {
    let events = |body: Value| body["events"].as_array().map_or(0, Vec::len);
    let requests = server.requests();
    let bodies = requests.iter().map(|seen| seen.request.body_json());
    bodies.map(|body| body.map_or(0, events)).collect()
}

fn ids(server: &ScriptedAmplitude) -> Vec<String> {
    let received = server.received();
    received.into_iter().filter_map(|item| item.id).collect()
}

fn failed(outcomes: &[Result<Delivery, Error>]) -> Vec<(usize, ErrorKind, bool)> {
    let failed = outcomes.iter().enumerate();
    failed
        .filter_map(|(index, outcome)| Some((index, outcome.as_ref().err()?)))
        .map(|(index, error)| (index, error.kind(), error.is_retryable()))
        .collect()
}

#[tokio::test]
async fn what_amplitude_refuses_is_found_and_the_rest_is_delivered_once() {
    for api in [Api::HttpV2, Api::Batch] {
        let (server, client, clock) = project(Config::new("key-1").api(api)).await;
        let mut inputs = tracks(64);
        // As if a rule were not known here: deliveries are not validated again.
        for index in [3, 52] {
            inputs[index] = stamped("short", Track::new("E").user_id("u"));
        }
        let outcomes = deliver(&client, &inputs).await;
        let refused = ErrorKind::RequestRejected;
        assert_eq!(
            failed(&outcomes),
            [(3, refused, false), (52, refused, false)]
        );
        let error = outcomes[3].as_ref().unwrap_err();
        assert!(error.message().ends_with("device_id, user_id"), "{error}");
        let others: Vec<_> = (0..64)
            .filter(|n| ![3, 52].contains(n))
            .map(|n| format!("m{n}"))
            .collect();
        assert_eq!(ids(&server), others);
        assert_eq!(server.duplicates(), Vec::<String>::new());
        assert!(sizes(&server).len() < 32, "{:?}", sizes(&server));
        assert_eq!(clock.slept(), []);
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_projects_is_said_once() {
    let (server, client, _) = project(Config::new("key-2")).await;
    let outcomes = deliver(&client, &tracks(4)).await;
    let kinds: Vec<_> = failed(&outcomes)
        .into_iter()
        .map(|(_, kind, _)| kind)
        .collect();
    assert_eq!(kinds, [ErrorKind::Unauthorized; 4]);
    assert_eq!(sizes(&server), [4]);
    let error = outcomes[0].as_ref().unwrap_err();
    let shown = format!("{error} {:?}", error.response());
    assert!(!shown.contains("key-2"), "{shown}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_throttled_person_waits_alone() {
    let (server, client, _) = project(Config::new("key-1")).await;
    let throttled = json!({
        "code": 429, "error": "Too many requests for some devices and users",
        "eps_threshold": 30, "throttled_users": {"user-1": 32}, "throttled_events": [1],
    });
    let fault = Fault::Answer(Answer::json(429, &throttled));
    server.faults().push(fault);
    let inputs = tracks(3);
    let outcomes = deliver(&client, &inputs).await;
    let waits: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().unwrap_err())
        .map(|error| (error.kind(), error.wait(), error.retry_after()))
        .collect();
    let untouched = (ErrorKind::Unavailable, None, None);
    let waiting = (ErrorKind::RateLimited, Some(Duration::from_secs(30)), None);
    assert_eq!(waits, [untouched, waiting, untouched]);
    assert!(
        outcomes
            .iter()
            .all(|o| o.as_ref().unwrap_err().is_retryable())
    );
    assert_eq!(failed(&deliver(&client, &inputs).await), []);
    assert_eq!(ids(&server), ["m0", "m1", "m2"]);
    server.shutdown().await;
}

#[tokio::test]
async fn without_an_engine_a_throttled_call_waits_half_a_minute() {
    let (server, client, clock) = project(Config::new("key-1")).await;
    let throttled = json!({"error": "Too many requests", "throttled_events": [0]});
    let fault = Fault::Answer(Answer::json(429, &throttled));
    server.faults().push(fault.times(1));
    client
        .track(Track::new("E").user_id("user-1"))
        .await
        .unwrap();
    assert_eq!(clock.slept(), [Duration::from_secs(30)]);
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_counts_fewer_events_is_asked_for_again() {
    let (server, client, clock) = project(Config::new("key-1")).await;
    let short = json!({"code": 200, "events_ingested": 0});
    server
        .faults()
        .push(Fault::Answer(Answer::json(200, &short)).times(1));
    let track = Track::new("E").user_id("user-1");
    client.track(track).await.unwrap();
    assert_eq!(sizes(&server), [1, 1]);
    assert_eq!(clock.slept().len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_counted_once() {
    let (server, client, _) = project(Config::new("key-1")).await;
    server
        .faults()
        .push(Fault::accept_then_status(504).times(2));
    client
        .group(Group::new("g1").user_id("user-1").trait_("n", 1))
        .await
        .unwrap();
    assert_eq!(server.received().len(), 2);
    assert_eq!(server.duplicates().len(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn requests_that_are_too_large_are_halved() {
    let (server, client, _) = project(Config::new("key-1")).await;
    let is_large = |request: &analytics_testkit::Request| {
        let body = request.body_json().unwrap_or_default();
        body["events"]
            .as_array()
            .is_some_and(|events| events.len() > 2)
    };
    server
        .faults()
        .push(Fault::status(413).always().when(is_large));
    assert_eq!(failed(&deliver(&client, &tracks(8)).await), []);
    assert_eq!(sizes(&server), [8, 4, 2, 2, 2, 2]);
    server.shutdown().await;
}

#[tokio::test]
async fn one_request_carries_different_kinds_in_their_order() {
    let (server, client, _) = project(Config::new("key-1")).await;
    let inputs = [
        stamped("m0", Identify::new().user_id("user-1").trait_("n", 1)),
        stamped("m1", Track::new("E").user_id("user-1")),
        stamped("m2", Group::new("g1").user_id("user-1").trait_("n", 2)),
        stamped("m3", Track::new("F").user_id("user-1")),
    ];
    assert_eq!(failed(&deliver(&client, &inputs).await), []);
    // The group's own properties are a step after the membership.
    assert_eq!(sizes(&server), [3, 2]);
    assert_eq!(ids(&server), ["m0", "m1", "m2", "$groupidentify:m2", "m3"]);
    server.shutdown().await;
}

#[tokio::test]
async fn an_unknown_user_does_not_keep_others_from_being_deleted() {
    let (server, client, _) = project(Config::new("key-1")).await;
    deliver(&client, &tracks(4)).await;
    let deletes = ["user-0", "nobody", "user-2", "user-3"];
    let inputs = deletes.map(|id| stamped(id, Delete::new(id)));
    let outcomes = deliver(&client, &inputs).await;
    assert_eq!(failed(&outcomes), [(1, ErrorKind::RequestRejected, true)]);
    let wait = outcomes[1].as_ref().unwrap_err().wait();
    assert_eq!(wait, Some(Duration::from_secs(600)));
    for (user, is_there) in [("user-0", false), ("user-1", true), ("user-3", false)] {
        assert_eq!(server.user(user).is_some(), is_there, "{user}");
    }
    // Events that were not processed yet.
    let late = [stamped("late", Track::new("E").user_id("nobody"))];
    assert_eq!(failed(&deliver(&client, &late).await), []);
    assert_eq!(failed(&deliver(&client, &inputs[1..2]).await), []);
    assert!(server.user("nobody").is_none());
    server.shutdown().await;
}

#[tokio::test]
async fn aliases_share_a_request() {
    let (server, client, _) = project(Config::new("key-1").min_id_length(2)).await;
    let inputs = [("a&0", "user=1"), ("b0", "user+2 \u{e9}")]
        .map(|(old, new)| stamped(old, Alias::new(old, new)));
    assert_eq!(failed(&deliver(&client, &inputs).await), []);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.mapped_to("a&0").as_deref(), Some("user=1"));
    assert_eq!(server.mapped_to("b0").as_deref(), Some("user+2 \u{e9}"));
    assert_eq!(server.violations(), []);
    server.shutdown().await;
}

//! Whatever goes wrong, the workflow ends, and rightly.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_kit::{
    Error, ErrorKind, Handler,
    spec::{
        Delivery, HttpResponse, Policies, Progress,
        handler::Config,
        policies::{ActivityPolicy, RetryPolicy},
    },
};
use analytics_temporal::TemporalWorker;
use analytics_testkit::{Answer, Fault, ScriptedSegment, SegmentAccount, server::RecordedRequest};
use serde_json::{Value, json};
use temporalio_client::WorkflowCancelOptions;
use temporalio_common::data_converters::RawValue;

use crate::{
    puppet::Puppet,
    world::{End, World, alone, end, history, input, payload},
};

const TRACK: &str = "segment(analytics).Track";

fn track() -> Value {
    json!({"track": {"user_id": "u1", "event": "Signed Up"}})
}

async fn segment(extra: &str) -> (ScriptedSegment, World) {
    let vendor = ScriptedSegment::start(SegmentAccount::new("key"))
        .await
        .unwrap();
    let toml = format!(
        "[integrations.segment]\nwrite_key = \"key\"\nbase_url = \"{}\"\n{extra}\n",
        vendor.base_url()
    );
    let world = World::of(&toml).await;
    (vendor, world)
}

const QUICK: &str = "[integrations.segment.policies.request]\n\
    single_attempt_timeout = \"500ms\"\n\
    retry_policy = { initial_interval = \"10ms\", maximum_interval = \"20ms\", maximum_attempts = 3 }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_inputs_end_at_once_and_nothing_is_sent() {
    let (vendor, world) = segment("").await;
    let json = |text: &str| payload("json/plain", text);
    let large = json!({"track": {"user_id": "u1", "event": "x", "properties": {"x": "y".repeat(1_100_000)}}});
    for (what, payloads, path) in [
        ("no argument", vec![], "$"),
        ("two arguments", vec![json("{}"), json("{}")], "$"),
        ("no JSON", vec![payload("binary/plain", "x")], "$"),
        ("broken JSON", vec![json("{")], "$"),
        ("null", vec![payload("binary/null", "")], "$"),
        (
            "another kind",
            vec![json(r#"{"page":{"user_id":"u","name":"n"}}"#)],
            "$",
        ),
        (
            "a missing event",
            vec![json(r#"{"track":{"user_id":"u"}}"#)],
            "track.event",
        ),
        (
            "policies that are not allowed",
            vec![json(
                r#"{"policies":{"request":{"single_attempt_timeout":"1s"}},"track":{"user_id":"u","event":"e"}}"#,
            )],
            "policies",
        ),
        ("too large", vec![json(&large.to_string())], "$"),
    ] {
        let handle = world.start(TRACK, RawValue::new(payloads)).await;
        let end = end(&handle).await;
        assert_eq!(end.error_type(), "ValidationError", "{what}");
        assert_eq!(
            end.detail()["violations"][0]["path"],
            path,
            "{what}: {end:?}"
        );
        assert_eq!(end.detail()["integration"], "segment");
        let history = String::from_utf8(history(&handle).await).unwrap();
        assert!(!history.contains("Track.Request"), "{what}");
    }
    assert_eq!(vendor.requests().len(), 0);
    world.stop().await;
}

/// A workflow that is not there would be waited for, and nobody told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_not_supported_fails_at_once() {
    // Without the token that deletes.
    let (vendor, world) = segment("").await;
    let delete = json!({"delete": {"user_id": "u1"}});
    let name = "segment(analytics).Delete";
    let failed = end(&world.start(name, input(&delete)).await).await;
    assert_eq!(failed.error_type(), "Unsupported");
    assert_eq!(failed.detail()["integration"], "segment");
    // Executed alone, wherever.
    let own = world.connection.activity_task_queue("segment");
    for step in ["Validation", "Request"] {
        let error = alone(&own, &format!("{name}.{step}"), &delete).await;
        let error = error.unwrap_err();
        assert!(error.contains("delete is not supported"), "{error}");
    }
    let workflows = world.connection.task_queue();
    let error = alone(workflows, &format!("{name}.Request"), &delete).await;
    assert!(error.unwrap_err().contains(&own));
    let wrong = end(&world
        .start(name, input(&json!({"delete": {}, "x": 1})))
        .await)
    .await;
    assert_eq!(wrong.error_type(), "ValidationError");
    assert_eq!(vendor.requests().len(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_vendor_answers_decides() {
    let (vendor, world) = segment(QUICK).await;
    // 4xx: once.
    vendor.faults().push(Fault::status(400));
    let handle = world.start(TRACK, input(&track())).await;
    let failed = end(&handle).await;
    assert_eq!(failed.error_type(), "RequestRejected");
    assert_eq!(failed.detail()["response"]["status_code"], 400);
    assert_eq!(vendor.requests().len(), 1);

    // 5xx, then success.
    vendor.clear();
    vendor.faults().push(Fault::status(503).times(2));
    let handle = world.start(TRACK, input(&track())).await;
    assert!(matches!(end(&handle).await, End::Output(_)));
    assert_eq!(vendor.requests().len(), 3);
    assert_eq!(vendor.received().len(), 1);

    // 5xx to the last attempt.
    vendor.clear();
    vendor.faults().push(Fault::status(503).always());
    let handle = world.start(TRACK, input(&track())).await;
    assert_eq!(end(&handle).await.error_type(), "Unavailable");
    assert_eq!(vendor.requests().len(), 3);
    let id = |request: &RecordedRequest| {
        let body = request.request.body_json().unwrap();
        let body = body.get("batch").map_or(&body, |batch| &batch[0]);
        body["messageId"].as_str().unwrap().to_owned()
    };
    let ids: BTreeSet<_> = vendor.requests().iter().map(id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");

    // 429: the vendor's delay, not the policy's; and it does not count.
    vendor.clear();
    vendor.faults().clear();
    vendor.faults().push(Fault::retry_after(2).times(3));
    let begin = Instant::now();
    let handle = world.start(TRACK, input(&track())).await;
    assert!(matches!(end(&handle).await, End::Output(_)));
    assert!(
        begin.elapsed() >= Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(vendor.requests().len(), 4);

    // A body that Temporal would not take is cut, and the vendor called once.
    vendor.clear();
    let body = Answer::text(400, "x".repeat(3 << 20));
    vendor.faults().push(Fault::Answer(body));
    let handle = world.start(TRACK, input(&track())).await;
    let failed = end(&handle).await;
    assert_eq!(failed.error_type(), "RequestRejected");
    assert_eq!(failed.detail()["response"]["truncated"], true);
    assert_eq!(vendor.requests().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_outs_and_policies_of_inputs() {
    let (vendor, world) = segment(&format!("allow_policies_override = true\n{QUICK}")).await;
    vendor.faults().push(Fault::Hang.always());
    let handle = world.start(TRACK, input(&track())).await;
    assert_eq!(end(&handle).await.error_type(), "Timeout");
    assert_eq!(vendor.requests().len(), 3);

    // An input's own policies win.
    vendor.clear();
    vendor.faults().clear();
    vendor.faults().push(Fault::status(503).always());
    let mut once = track();
    once["policies"] = json!({"request": {"retry_policy": {"maximum_attempts": 1}}});
    let handle = world.start(TRACK, input(&once)).await;
    assert_eq!(end(&handle).await.error_type(), "Unavailable");
    assert_eq!(vendor.requests().len(), 1);

    // A time-out of nothing would be refused by the server, for ever.
    let mut zero = track();
    zero["policies"] = json!({"request": {"single_attempt_timeout": 0}});
    let handle = world.start(TRACK, input(&zero)).await;
    let failed = end(&handle).await;
    assert_eq!(failed.error_type(), "ValidationError");
    assert_eq!(vendor.requests().len(), 1);

    // Cancelled while it waits for another attempt.
    let mut patient = track();
    patient["policies"] = json!({"request": {"retry_policy":
        {"initial_interval": "10m", "maximum_interval": "10m", "maximum_attempts": 0}}});
    let handle = world.start(TRACK, input(&patient)).await;
    assert!(
        vendor
            .wait_until(crate::world::SOON, |counts| counts.requests >= 2)
            .await
    );
    handle
        .cancel(WorkflowCancelOptions::default())
        .await
        .unwrap();
    assert!(matches!(end(&handle).await, End::Cancelled));
    world.stop().await;
}

type Told = Arc<Mutex<Vec<String>>>;

async fn puppet(puppet: Puppet, told: &Told) -> World {
    let (activity, workflow) = (Arc::clone(told), Arc::clone(told));
    let config = Config::new(Arc::new(puppet) as Arc<dyn analytics_kit::Integration>)
        .on_activity_error(move |failed| activity.lock().unwrap().push(failed.name.to_owned()))
        .on_workflow_error(move |failed| {
            workflow.lock().unwrap().push(failed.name.to_owned());
            panic!("as told");
        });
    let mut worker = TemporalWorker::new();
    Handler::new(config).unwrap().register(&mut worker).unwrap();
    World::new(worker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_survives_and_hooks_are_told_once() {
    let told = Told::default();
    let puppet_ = Puppet::new(|number| match number {
        1 => Err(Error::new(ErrorKind::Unavailable, "down").with_progress(Progress(1))),
        2 => Err(Error::new(ErrorKind::Unavailable, "down")),
        _ => {
            Err(Error::new(ErrorKind::RequestRejected, "no").with_response(HttpResponse::new(400)))
        }
    });
    let attempts = Arc::clone(&puppet_.attempts);
    let world = puppet(puppet_, &told).await;
    let handle = world
        .start("puppet(analytics).Track", input(&track()))
        .await;
    assert_eq!(end(&handle).await.error_type(), "RequestRejected");
    let attempts = attempts.lock().unwrap().clone();
    let made: Vec<_> = attempts.iter().map(|(_, n, p)| (*n, *p)).collect();
    assert_eq!(made, [(1, 0), (2, 1), (3, 1)]);
    assert!(attempts.iter().all(|(id, _, _)| *id == attempts[0].0));
    // The message id is the workflow's first run.
    assert_eq!(
        Some(attempts[0].0.as_str()),
        handle.run_id().or(handle.info().run_id.as_deref())
    );
    let request = "puppet(analytics).Track.Request";
    assert_eq!(
        *told.lock().unwrap(),
        [request, request, request, "puppet(analytics).Track"]
    );
    world.stop().await;
}

/// Together, the event's requests take longer than an attempt may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_event_got_through_is_not_lost_with_the_attempts_time() {
    let policy = ActivityPolicy::new()
        .single_attempt_timeout(Duration::from_millis(1))
        .retry_policy(RetryPolicy::new().maximum_attempts(1));
    let puppet_ = Puppet {
        policies: Policies::new().request(policy),
        requests: 12,
        takes: Duration::from_millis(500),
        ..Puppet::new(|_| Ok(Delivery::default()))
    };
    let attempts = Arc::clone(&puppet_.attempts);
    let world = puppet(puppet_, &Told::default()).await;
    let handle = world
        .start("puppet(analytics).Track", input(&track()))
        .await;
    let ended = end(&handle).await;
    assert!(matches!(ended, End::Output(_)), "{ended:?}");
    let made: Vec<_> = attempts
        .lock()
        .unwrap()
        .iter()
        .map(|a| (a.1, a.2))
        .collect();
    assert!(matches!(made[..], [(1, 1..)]), "{made:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_hang_nothing() {
    let told = Told::default();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let retry = RetryPolicy::new()
        .initial_interval(Duration::from_millis(10))
        .maximum_attempts(2);
    let puppet_ = Puppet {
        policies: Policies::new().request(ActivityPolicy::new().retry_policy(retry)),
        ..Puppet::new(move |_| -> Result<Delivery, Error> {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("as told")
        })
    };
    let world = puppet(puppet_, &told).await;
    // As in every engine, a panic of a request may pass.
    let handle = world
        .start("puppet(analytics).Track", input(&track()))
        .await;
    assert_eq!(end(&handle).await.error_type(), "Internal");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let wrong = json!({"track": {"user_id": "panic", "event": "e"}});
    let handle = world.start("puppet(analytics).Track", input(&wrong)).await;
    assert_eq!(end(&handle).await.error_type(), "Internal");
    let batch = json!({"inputs": [track(), track()]});
    let handle = world.start("puppet(analytics).Batch", input(&batch)).await;
    let End::Output(output) = end(&handle).await else {
        panic!()
    };
    for outcome in output["outcomes"].as_array().unwrap() {
        assert_eq!(outcome["error"]["type"], "Internal");
    }
    world.stop().await;
}

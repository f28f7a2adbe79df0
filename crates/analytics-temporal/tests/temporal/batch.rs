//! Many events in one workflow.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_kit::{
    Error, ErrorKind, Handler, Input, Integration, Track,
    spec::{
        AnyInput, BatchInput, Delivery, Policies,
        handler::Config,
        integration::Batching,
        policies::{ActivityPolicy, RetryPolicy},
    },
};
use analytics_temporal::{MAX_BATCH_EVENTS, TemporalWorker};
use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};
use serde_json::json;
use tokio::process::Command;

use crate::{
    puppet::{Puppet, in_twos},
    world::{self, End, World, end, input},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_outcome_per_input_and_only_what_failed_again() {
    let vendor = ScriptedSegment::start(SegmentAccount::new("key"))
        .await
        .unwrap();
    let toml = format!(
        "[integrations.segment]\nwrite_key = \"key\"\nbase_url = \"{}\"\n",
        vendor.base_url()
    );
    let world = World::of(&toml).await;
    vendor.faults().push(Fault::status(503));
    let batch = json!({
        "context": {"locale": "en-GB"},
        "inputs": [
            {"track": {"user_id": "u1", "event": "First"}},
            {"track": {"user_id": "u1"}},
            {"context": {"message_id": "own", "locale": "fr-FR"}, "page": {"user_id": "u2", "name": "Home"}},
            {"nonsense": 1},
            {"group": {"user_id": "u1", "group_id": "g1"}},
        ],
    });
    let handle = world.start("segment(analytics).Batch", input(&batch)).await;
    let End::Output(output) = end(&handle).await else {
        panic!()
    };
    let outcomes = output["outcomes"].as_array().unwrap();
    let statuses: Vec<_> = outcomes
        .iter()
        .map(|o| o["status"].as_str().unwrap())
        .collect();
    assert_eq!(
        statuses,
        ["success", "failure", "success", "failure", "success"]
    );
    assert_eq!(outcomes[1]["error"]["type"], "ValidationError");
    assert_eq!(outcomes[1]["error"]["violations"][0]["path"], "track.event");
    assert_eq!(outcomes[2]["message_id"], "own");
    let received = vendor.received();
    assert_eq!(received.len(), 3);
    let locales: Vec<_> = received
        .iter()
        .map(|r| r.body["context"]["locale"].clone())
        .collect();
    assert_eq!(locales, ["en-GB", "fr-FR", "en-GB"]);
    assert_eq!(vendor.duplicates(), Vec::<String>::new());

    let wrong = json!({"context": {"message_id": "one for all"}, "inputs": []});
    let handle = world.start("segment(analytics).Batch", input(&wrong)).await;
    let failed = end(&handle).await;
    assert_eq!(
        failed.detail()["violations"][0]["path"],
        "context.message_id"
    );
    world.stop().await;
}

fn tracks(count: usize) -> BatchInput {
    BatchInput::new((0..count).map(|n| -> AnyInput {
        Input::new(Track::new("Order").user_id(format!("u{}", n % 3))).into_any()
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_batch_continues_as_new_and_keeps_every_persons_order() {
    let puppet = Puppet {
        batching: in_twos(2),
        ..Puppet::new(|number| match number {
            1 => Err(Error::new(ErrorKind::Unavailable, "down")),
            _ => Ok(Delivery::default()),
        })
    };
    let attempts = puppet.attempts.clone();
    let mut worker = TemporalWorker::new().max_history(20);
    worker.integration(std::sync::Arc::new(puppet)).unwrap();
    let world = World::new(worker).await;
    let mut batch = tracks(12);
    for (n, input) in batch.inputs.iter_mut().enumerate() {
        input.context.message_id = Some(format!("{}-{n}", world.connection.task_queue()));
        input.policies = None;
    }
    let started = world
        .client
        .start_batch("puppet", batch.clone())
        .await
        .unwrap();
    let first_run = started.handle().info().run_id.clone();
    let output = tokio::time::timeout(world::SOON, started.result())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.outcomes.len(), 12);
    assert_eq!(output.failures().count(), 0);
    let description = started.handle().describe(Default::default()).await.unwrap();
    let handle = world
        .connection
        .client()
        .get_workflow_handle::<temporalio_client::UntypedWorkflow>(started.workflow_id());
    let last = handle.describe(Default::default()).await.unwrap();
    assert_ne!(
        Some(last.run_id().to_owned()),
        first_run,
        "{}",
        description.run_id()
    );
    // Each once after its first failure, and per person in order.
    let made = attempts.lock().unwrap().clone();
    let delivered: Vec<usize> = made
        .iter()
        .filter(|(_, number, _)| *number == 2)
        .map(|(id, _, _)| id.rsplit('-').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(delivered.len(), 12);
    for person in 0..3 {
        let of: Vec<_> = delivered.iter().filter(|n| **n % 3 == person).collect();
        assert!(of.is_sorted(), "{delivered:?}");
    }
    world.stop().await;
}

/// The time of a call is over before its events are: each is delivered once, and
/// a person's in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_longer_than_its_time_goes_on_where_it_was() {
    let puppet = Puppet {
        batching: in_twos(500),
        takes: Duration::from_millis(200),
        ..Puppet::new(|_| Ok(Delivery::default()))
    };
    let attempts = puppet.attempts.clone();
    let policy = ActivityPolicy::new().single_attempt_timeout(Duration::from_millis(250));
    let config = Config::new(std::sync::Arc::new(puppet) as std::sync::Arc<dyn Integration>);
    let config = config.policies(Policies::new().request(policy));
    let mut worker = TemporalWorker::new();
    let handler = Handler::new(config).unwrap();
    handler.register(&mut worker).unwrap();
    let world = World::new(worker).await;
    let mut batch = tracks(60);
    for (n, input) in batch.inputs.iter_mut().enumerate() {
        input.context.message_id = Some(format!("{}-{n}", world.connection.task_queue()));
    }
    let output = world.client.execute_batch("puppet", batch);
    let output = tokio::time::timeout(world::SOON, output).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.outcomes.len(), 60);
    let failures: Vec<_> = output.failures().collect();
    assert!(failures.is_empty(), "{failures:?}");
    let made = attempts.lock().unwrap().clone();
    assert!(made.iter().all(|(_, number, _)| *number == 1));
    let delivered: Vec<usize> = made
        .iter()
        .map(|(id, _, _)| id.rsplit('-').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(delivered.len(), 60);
    assert!(delivered.is_sorted(), "{delivered:?}");
    world.stop().await;
}

/// What one event does to a call takes nothing from the others but time: they are
/// delivered in smaller ones, in the end without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_panics_or_hangs_is_alone_with_it() {
    is_alone_with_it("panics", ErrorKind::Internal, 3).await;
    is_alone_with_it("hangs", ErrorKind::Timeout, 3).await;
}

/// Nobody lives to say how such a call ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_blocks_its_worker_is_alone_with_it() {
    is_alone_with_it("blocks", ErrorKind::Timeout, 2).await;
}

async fn is_alone_with_it(user: &str, kind: ErrorKind, maximum_attempts: u32) {
    let retry = RetryPolicy::new()
        .initial_interval(Duration::from_millis(10))
        .maximum_attempts(maximum_attempts);
    let policy = ActivityPolicy::new()
        .single_attempt_timeout(Duration::from_millis(1))
        .retry_policy(retry);
    let puppet = Puppet {
        batching: in_twos(500),
        policies: Policies::new().request(policy),
        ..Puppet::new(|_| Ok(Delivery::default()))
    };
    let mut worker = TemporalWorker::new();
    worker.integration(std::sync::Arc::new(puppet)).unwrap();
    let world = World::new(worker).await;
    let users = ["u0", "u1", user, "u3", "u4"];
    let batch = users.map(|user| Input::new(Track::new("e").user_id(user)).into_any());
    let output = world.client.execute_batch("puppet", BatchInput::new(batch));
    let output = tokio::time::timeout(world::SOON, output).await;
    let output = output.unwrap().unwrap();
    let failed: Vec<_> = output
        .failures()
        .map(|(place, failure)| (place, failure.error_type.as_str()))
        .collect();
    assert_eq!(failed, [(2, kind.as_str())], "{user}");
    world.stop().await;
}

/// A call that says nothing of its events ends the batch: of the others, what
/// their calls say is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_not_told_to_have_failed_with_the_rest() {
    let puppet = Puppet {
        batching: in_twos(2),
        ..Puppet::new(|_| Ok(Delivery::default()))
    };
    let attempts = Arc::clone(&puppet.attempts);
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let config =
        Config::new(Arc::new(puppet) as Arc<dyn Integration>).on_workflow_error(move |failed| {
            let user = failed.output.event.user_id().unwrap().to_owned();
            telling.lock().unwrap().push((user, failed.error.kind()));
        });
    // One of its attempts hangs.
    let mut worker = TemporalWorker::new().grace(Duration::ZERO);
    Handler::new(config).unwrap().register(&mut worker).unwrap();
    let world = World::new(worker).await;
    let inputs = ["refused", "u1", "hangs", "u3"]
        .map(|user| json!({"track": {"user_id": user, "event": "e"}}));
    let batch = input(&json!({"inputs": inputs}));
    let handle = world.start("puppet(analytics).Batch", batch).await;
    let last = async {
        loop {
            let described = handle.describe(Default::default()).await.unwrap();
            let pending = described.into_raw().pending_activities;
            if let [last] = &pending[..]
                && !attempts.lock().unwrap().is_empty()
            {
                return last.activity_id.clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let last = tokio::time::timeout(world::SOON, last).await.unwrap();
    let failed = Command::new(world::variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(["activity", "fail", "--address", &world::address()])
        .args(["--workflow-id", handle.info().workflow_id.as_str()])
        .args(["--activity-id", &last, "--reason", "as told"])
        .output();
    let failed = failed.await.unwrap();
    assert!(failed.status.success(), "{failed:?}");
    let ended = end(&handle).await;
    assert_eq!(ended.error_type(), "Internal");
    let told = told.lock().unwrap().clone();
    let told: Vec<_> = told
        .iter()
        .map(|(user, kind)| (user.as_str(), *kind))
        .collect();
    let rest = ErrorKind::Internal;
    assert_eq!(
        told,
        [
            ("refused", ErrorKind::RequestRejected),
            ("hangs", rest),
            ("u3", rest)
        ]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_started() {
    let connection = world::connect("nobody").await;
    let client = analytics_temporal::Client::new(&connection);
    let error = client
        .execute_batch("segment", tracks(MAX_BATCH_EVENTS + 1))
        .await
        .unwrap_err();
    assert!(error.message().contains("at most 2000"), "{error}");
    let large = Track::new("x")
        .user_id("u")
        .property("x", "y".repeat(1_100_000));
    let error = client.execute::<Track>("segment", large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    let message = error.message();
    assert!(
        message.contains("at most 1048576 can be handed on"),
        "{message}"
    );
}

/// The cancellation and the end of a call come while no worker is there to hear of
/// them, and the next one hears of both at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_cancelled_goes_on_in_no_new_run() {
    let begun = Arc::new(AtomicUsize::new(0));
    let worker = || {
        let puppet = Puppet {
            batching: Batching::single(1),
            takes: Duration::from_secs(2),
            begun: Arc::clone(&begun),
            ..Puppet::new(|_| Ok(Delivery::default()))
        };
        let mut worker = TemporalWorker::new().max_history(8);
        worker.integration(Arc::new(puppet)).unwrap();
        worker
    };
    let mut world = World::new(worker()).await;
    let started = world.client.start_batch("puppet", tracks(3)).await.unwrap();
    let first = async {
        while begun.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(world::SOON, first).await.unwrap();
    world.running.stop();
    // It asks for no workflow any more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    started.cancel().await.unwrap();
    world.running.ended().await.unwrap();
    let mut running = worker().start(&world.connection).await.unwrap();
    let ended = tokio::time::timeout(world::SOON, started.result())
        .await
        .unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    running.stop();
    running.ended().await.unwrap();
}

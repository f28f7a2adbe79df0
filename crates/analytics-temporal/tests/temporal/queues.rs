//! Each integration has a task queue of its own: what waits there holds nothing
//! up, and has not begun.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_kit::{
    Error, ErrorKind, Handler, Input, Integration, Track,
    spec::{
        BatchInput, Delivery, Policies,
        handler::Config,
        integration::Batching,
        policies::{ActivityPolicy, RetryPolicy},
    },
};
use analytics_temporal::{Client, Started, TemporalWorker, WaitsFor};
use serde_json::{Value, json};
use temporalio_client::{
    UntypedWorkflow, WorkflowDescribeOptions, WorkflowHandle, WorkflowTerminateOptions,
};
use temporalio_common::protos::temporal::api::{
    enums::v1::PendingActivityState, workflow::v1::PendingActivityInfo,
};

use crate::{
    puppet::Puppet,
    world::{End, SOON, World, alone, connect, end, input, unique},
};

const HANGING: Duration = Duration::from_secs(3600);

fn track() -> Value {
    json!({"track": {"user_id": "u1", "event": "Signed Up"}})
}

/// An integration of this name, of which so many attempts are under way at once.
fn puppet(name: &'static str, at_once: usize, takes: Duration) -> Puppet {
    Puppet {
        name,
        takes,
        batching: Batching::single(at_once),
        ..Puppet::new(|_| Ok(Delivery::default()))
    }
}

/// A worker of these, whose events are attempted once.
fn once(puppets: impl IntoIterator<Item = Puppet>) -> TemporalWorker {
    let mut worker = TemporalWorker::new();
    for puppet in puppets {
        let request = ActivityPolicy::new().retry_policy(RetryPolicy::new().maximum_attempts(1));
        let config = Config::new(Arc::new(puppet) as Arc<dyn Integration>)
            .policies(Policies::new().request(request));
        Handler::new(config).unwrap().register(&mut worker).unwrap();
    }
    worker
}

async fn begun(begun: &AtomicUsize, count: usize) {
    let all = async {
        while begun.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all = tokio::time::timeout(SOON, all).await;
    assert!(all.is_ok(), "{begun:?} of {count}");
}

type Handle = WorkflowHandle<temporalio_client::Client, UntypedWorkflow>;

/// The request that a workflow waits for, as the server knows it.
async fn request(handle: &Handle) -> PendingActivityInfo {
    loop {
        let described = handle.describe(WorkflowDescribeOptions::default()).await;
        let mut described = described.unwrap().into_raw();
        if let Some(request) = described.pending_activities.pop() {
            return request;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_hangs_holds_no_other_up() {
    let slow = puppet("slow", 2, HANGING);
    let quick = puppet("quick", 2, Duration::ZERO);
    let slow_begun = Arc::clone(&slow.begun);
    let worker = once([slow, quick]).grace(Duration::ZERO);
    let integrations: Vec<_> = worker.integrations().collect();
    assert_eq!(integrations, [("quick", 2), ("slow", 2)]);
    let world = World::new(worker).await;
    // More than all that an SDK's worker has under way.
    let mut backlog = Vec::new();
    for _ in 0..120 {
        backlog.push(world.start("slow(analytics).Track", input(&track())).await);
    }
    begun(&slow_begun, 2).await;
    let mut waiting = 0;
    for workflow in &backlog {
        let request = request(workflow).await;
        assert_eq!(request.attempt, 1);
        waiting += usize::from(request.state() == PendingActivityState::Scheduled);
    }
    assert_eq!(waiting, backlog.len() - 2);
    let begin = Instant::now();
    for name in ["quick(analytics).Track", "quick(analytics).Batch"] {
        let event = match name {
            "quick(analytics).Track" => track(),
            _ => json!({"inputs": [track(), track()]}),
        };
        let handle = world.start(name, input(&event)).await;
        assert!(matches!(end(&handle).await, End::Output(_)), "{name}");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(slow_begun.load(Ordering::Relaxed), 2);
    for workflow in backlog {
        let terminated = workflow.terminate(WorkflowTerminateOptions::default());
        terminated.await.unwrap();
    }
    world.stop().await;
}

/// The one attempt of an event that has begun when its worker ends was that
/// one; those of events that waited are still to be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_has_not_been_attempted() {
    let first = puppet("puppet", 1, HANGING);
    let first_begun = Arc::clone(&first.begun);
    let grace = Duration::from_millis(500);
    let mut world = World::new(once([first]).grace(grace)).await;
    let mut started = Vec::new();
    for name in ["puppet(analytics).Track", "puppet(analytics).Batch"] {
        let event = match name {
            "puppet(analytics).Track" => track(),
            _ => json!({"inputs": [track()]}),
        };
        // The first of them is under way before there is another.
        for _ in 0..2 {
            started.push(world.start(name, input(&event)).await);
            begun(&first_begun, 1).await;
        }
    }
    for workflow in &started {
        request(workflow).await;
    }
    let begin = Instant::now();
    world.running.stop();
    world.running.ended().await.unwrap();
    let took = begin.elapsed();
    assert!(took >= grace && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(first_begun.load(Ordering::Relaxed), 1);

    let second = puppet("puppet", 1, Duration::ZERO);
    let attempts = Arc::clone(&second.attempts);
    let mut running = once([second]).start(&world.connection).await.unwrap();
    let lost = end(&started[0]).await;
    let End::Failed(error, ..) = &lost else {
        panic!("{lost:?}");
    };
    assert_eq!(error, "Timeout");
    assert!(
        lost.detail()["message"]
            .as_str()
            .unwrap()
            .contains("no worker lived")
    );
    for workflow in &started[1..] {
        let End::Output(output) = end(workflow).await else {
            panic!()
        };
        assert!(!output.to_string().contains("failure"), "{output}");
    }
    let numbers: Vec<_> = attempts.lock().unwrap().iter().map(|made| made.1).collect();
    assert_eq!(numbers, [1, 1, 1]);
    running.stop();
    running.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_begun_ends_before_its_worker_does() {
    let takes = Duration::from_secs(3);
    let first = puppet("puppet", 2, takes);
    let (first_begun, made) = (Arc::clone(&first.begun), Arc::clone(&first.attempts));
    let mut world = World::new(once([first])).await;
    let mut started = Vec::new();
    for _ in 0..5 {
        started.push(
            world
                .start("puppet(analytics).Track", input(&track()))
                .await,
        );
    }
    begun(&first_begun, 2).await;
    world.running.stop();
    world.running.ended().await.unwrap();
    assert_eq!(made.lock().unwrap().len(), 2);

    let second = puppet("puppet", 2, Duration::ZERO);
    let rest = Arc::clone(&second.attempts);
    let mut running = once([second]).start(&world.connection).await.unwrap();
    for workflow in &started {
        assert!(matches!(end(workflow).await, End::Output(_)));
    }
    let (made, rest) = (made.lock().unwrap().clone(), rest.lock().unwrap().clone());
    let mut ids: Vec<_> = made.iter().chain(rest.iter()).map(|made| &made.0).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((made.len(), rest.len(), ids.len()), (2, 3, 5));
    running.stop();
    running.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_the_integration_takes_none_of_its_requests() {
    let failing = || Puppet {
        name: "one",
        ..Puppet::new(|number| match number {
            1 => Err(Error::new(ErrorKind::Unavailable, "down")),
            _ => Ok(Delivery::default()),
        })
    };
    let has_one = || {
        let mut worker = TemporalWorker::new();
        let puppet = failing();
        let attempts = Arc::clone(&puppet.attempts);
        worker.integration(Arc::new(puppet)).unwrap();
        (worker, attempts)
    };
    let (worker, first) = has_one();
    let mut world = World::new(worker).await;
    let handle = world.start("one(analytics).Track", input(&track())).await;
    while first.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.running.stop();
    world.running.ended().await.unwrap();

    let other = once([puppet("other", 2, Duration::ZERO)]);
    let mut running = other.start(&world.connection).await.unwrap();
    // Some pauses of the policy.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let waiting = request(&handle).await;
    assert_eq!(waiting.attempt, 2, "{waiting:?}");
    assert!(waiting.last_failure.unwrap().message.contains("down"));
    assert!(world.connection.has_worker_of("other").await.unwrap());
    assert!(!world.connection.has_worker_of("nobody").await.unwrap());
    running.stop();
    running.ended().await.unwrap();

    let (worker, second) = has_one();
    let mut running = worker.start(&world.connection).await.unwrap();
    assert!(matches!(end(&handle).await, End::Output(_)));
    let numbers: Vec<_> = second.lock().unwrap().iter().map(|made| made.1).collect();
    assert_eq!(numbers, [2]);
    running.stop();
    running.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_the_workflows_queue_hears_where_it_belongs() {
    let puppet = puppet("puppet", 2, Duration::ZERO);
    let attempts = Arc::clone(&puppet.attempts);
    let world = World::new(once([puppet])).await;
    let (workflows, activities) = (
        world.connection.task_queue(),
        world.connection.activity_task_queue("puppet"),
    );
    for (takes, event) in [("Track", track()), ("Batch", json!({"inputs": [track()]}))] {
        let request = format!("puppet(analytics).{takes}.Request");
        let error = alone(workflows, &request, &event).await.unwrap_err();
        assert!(error.contains("Configuration"), "{error}");
        let where_ = format!("is executed on the task queue {activities}, not on {workflows}");
        assert!(error.contains(&where_), "{error}");
        assert_eq!(attempts.lock().unwrap().len(), 0);
        alone(&activities, &request, &event).await.unwrap();
        assert_eq!(attempts.lock().unwrap().len(), 1);
        attempts.lock().unwrap().clear();
        let validation = format!("puppet(analytics).{takes}.Validation");
        for queue in [workflows, &activities] {
            alone(queue, &validation, &event).await.unwrap();
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_its_own_activities_is_refused() {
    let queue = unique("queue");
    let worker = || once([puppet("puppet", 2, Duration::ZERO)]);
    let wrong = connect(&format!("{queue}/puppet")).await;
    let error = worker().start(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let which = format!("use the task queue {queue}, whose");
    assert!(error.message().contains(&which), "{error}");
    for right in [
        "puppet",
        &format!("{queue}/other"),
        &format!("{queue}puppet"),
    ] {
        let mut running = worker().start(&connect(right).await).await.unwrap();
        running.stop();
        running.ended().await.unwrap();
    }
}

/// Why another attempt follows.
async fn retry<T>(started: &Started<T>) -> Error {
    let retry = async {
        loop {
            if let Some(WaitsFor::Retry(error)) = started.waits_for().await.unwrap() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, retry).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_nothing_comes_is_said() {
    let down = Puppet::new(|_| Err(Error::new(ErrorKind::Unavailable, "down for today")));
    let patient = RetryPolicy::new().initial_interval(Duration::from_secs(600));
    let request = ActivityPolicy::new().retry_policy(patient);
    let config = Config::new(Arc::new(down) as Arc<dyn Integration>)
        .policies(Policies::new().request(request));
    let mut worker = TemporalWorker::new();
    Handler::new(config).unwrap().register(&mut worker).unwrap();

    let connection = connect(&unique("queue")).await;
    let client = Client::new(&connection);
    let track = || Input::new(Track::new("Signed Up").user_id("u1"));
    let event = client.start::<Track>("puppet", track()).await.unwrap();
    let batch = BatchInput::new([track().into_any()]);
    let batch = client.start_batch("puppet", batch).await.unwrap();
    for why in [event.waits_for().await, batch.waits_for().await] {
        let why = why.unwrap().unwrap().to_string();
        let queue = connection.task_queue();
        let said = format!("no worker has polled the task queue {queue} for 90 seconds");
        assert!(why.starts_with(&said), "{why}");
    }
    let mut running = worker.start(&connection).await.unwrap();
    for error in [retry(&event).await, retry(&batch).await] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("down for today"), "{error}");
    }
    event.cancel().await.unwrap();
    batch.cancel().await.unwrap();
    for ended in [event.result().await.err(), batch.result().await.err()] {
        assert_eq!(ended.unwrap().kind(), ErrorKind::Closed);
    }
    assert!(event.waits_for().await.unwrap().is_none());
    assert!(batch.waits_for().await.unwrap().is_none());
    running.stop();
    running.ended().await.unwrap();
}

/// Also when the batch has gone on in another run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_nothing_comes_is_said_of_the_run_under_way() {
    let down = Puppet::new(|_| Err(Error::new(ErrorKind::Unavailable, "down for today")));
    let quick = RetryPolicy::new()
        .initial_interval(Duration::from_millis(100))
        .maximum_interval(Duration::from_millis(100))
        .maximum_attempts(0);
    let request = ActivityPolicy::new().retry_policy(quick);
    let config = Config::new(Arc::new(down) as Arc<dyn Integration>)
        .policies(Policies::new().request(request));
    let mut worker = TemporalWorker::new().max_history(8);
    Handler::new(config).unwrap().register(&mut worker).unwrap();
    let world = World::new(worker).await;
    let batch = BatchInput::new([Input::new(Track::new("Signed Up").user_id("u1")).into_any()]);
    let started = world.client.start_batch("puppet", batch).await.unwrap();
    let first = started.handle().info().run_id.clone().unwrap();
    let client = world.connection.client();
    let current = client.get_workflow_handle::<UntypedWorkflow>(started.workflow_id());
    let continued = async {
        let options = WorkflowDescribeOptions::default;
        while current.describe(options()).await.unwrap().run_id() == first {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, continued).await.unwrap();
    let error = retry(&started).await;
    assert!(error.message().contains("down for today"), "{error}");
    started.cancel().await.unwrap();
    let ended = tokio::time::timeout(SOON, started.result()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Closed);
    world.stop().await;
}

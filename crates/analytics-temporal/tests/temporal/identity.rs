//! One event, one message id and one time, whatever the server does with its
//! workflow.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use analytics_kit::{
    Error, ErrorKind, Handler, Integration,
    spec::{
        Delivery, Policies, Timestamp,
        handler::Config,
        policies::{ActivityPolicy, RetryPolicy},
    },
};
use analytics_temporal::TemporalWorker;
use serde_json::json;
use temporalio_client::{UntypedWorkflow, WorkflowStartOptions, WorkflowTerminateOptions};
use tokio::process::Command;

use crate::{
    puppet::{Puppet, in_twos},
    world::{self, World, end, input, unique},
};

const TRACK: &str = "puppet(analytics).Track";

/// What the attempts' events were.
struct Seen {
    attempts: Arc<Mutex<Vec<(String, u32, u32)>>>,
    times: Arc<Mutex<Vec<Option<Timestamp>>>>,
}

impl Seen {
    /// The ids and times of the first so many events.
    async fn first(&self, count: usize) -> Vec<(String, Timestamp)> {
        let begin = Instant::now();
        loop {
            let made = self.attempts.lock().unwrap().clone();
            if made.len() >= count {
                let times = self.times.lock().unwrap().clone();
                let seen = made.into_iter().zip(times).take(count);
                return seen.map(|(made, time)| (made.0, time.unwrap())).collect();
            }
            assert!(begin.elapsed() < world::SOON, "{made:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn world(max_history: u32) -> (World, Seen) {
    let puppet = Puppet {
        batching: in_twos(1),
        ..Puppet::new(|_| -> Result<Delivery, Error> { Ok(Delivery::default()) })
    };
    let seen = Seen {
        attempts: Arc::clone(&puppet.attempts),
        times: Arc::clone(&puppet.times),
    };
    let mut worker = TemporalWorker::new().max_history(max_history);
    worker.integration(Arc::new(puppet)).unwrap();
    (World::new(worker).await, seen)
}

/// Begins a run again, as somebody may who has put something right.
async fn reset(workflow_id: &str, run_id: &str) {
    let output = Command::new(world::variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(["workflow", "reset", "--address", &world::address()])
        .args(["--workflow-id", workflow_id, "--run-id", run_id])
        .args(["--type", "FirstWorkflowTask", "--reason", "a test"])
        .kill_on_drop(true)
        .output();
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_is_reset_has_the_same_event() {
    let (world, seen) = world(4_000).await;
    let track = json!({"track": {"user_id": "u", "event": "e"}});
    let handle = world.start(TRACK, input(&track)).await;
    end(&handle).await;
    let info = handle.info();
    reset(&info.workflow_id, info.run_id.as_deref().unwrap()).await;
    let events = seen.first(2).await;
    assert_eq!(events[0], events[1]);
    world.stop().await;
}

/// Also in the runs that follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_reset_has_the_same_events() {
    let (world, seen) = world(8).await;
    let inputs = (0..8).map(|n| json!({"track": {"user_id": format!("u{n}"), "event": "e"}}));
    let batch = json!({"inputs": inputs.collect::<Vec<_>>()});
    let handle = world.start("puppet(analytics).Batch", input(&batch)).await;
    end(&handle).await;
    let info = handle.info();
    let first = info.run_id.clone().unwrap();
    let client = world.connection.client();
    let last = client.get_workflow_handle::<UntypedWorkflow>(&info.workflow_id);
    let last = last.describe(Default::default()).await.unwrap();
    assert_ne!(last.run_id(), first, "it is continued in no other run");
    reset(&info.workflow_id, &first).await;
    let mut events = seen.first(16).await;
    events.sort();
    let mut distinct = events.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), 8);
    assert!(
        events.chunks(2).all(|pair| pair[0] == pair[1]),
        "{events:?}"
    );
    world.stop().await;
}

/// Each run is an event of its own, of the time that it was scheduled for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runs_of_a_cron_schedule_are_so_many_events() {
    let (world, seen) = world(4_000).await;
    let id = unique("cron");
    let options = WorkflowStartOptions::new(world.connection.task_queue(), &id)
        .cron_schedule("@every 2s")
        .build();
    let track = json!({"track": {"user_id": "u", "event": "e"}});
    let workflow = UntypedWorkflow::new(TRACK);
    let client = world.connection.client();
    let started = client.start_workflow(workflow, input(&track), options);
    let first = started.await.unwrap().info().run_id.clone().unwrap();
    let events = seen.first(3).await;
    let last = Timestamp::now();
    for pair in events.windows(2) {
        assert_ne!(pair[0].0, pair[1].0);
        let apart = pair[1].1.duration_since(pair[0].1).as_secs_f64();
        // The server counts in whole seconds: one that ends in another second than it
        // began in is followed a second sooner.
        assert!((0.9..4.0).contains(&apart), "{events:?}");
    }
    let late = last.duration_since(events[2].1).as_secs_f64();
    assert!((-0.1..1.5).contains(&late), "{late} {events:?}");
    let terminate = async || {
        let handle = client.get_workflow_handle::<UntypedWorkflow>(&id);
        let options = WorkflowTerminateOptions::default();
        handle.terminate(options).await.unwrap();
    };
    terminate().await;
    let made = seen.attempts.lock().unwrap().len();
    // A run that is reset is the same event again.
    reset(&id, &first).await;
    let again = seen.first(made + 1).await;
    assert_eq!(again[made], again[0], "{again:?}");
    terminate().await;
    world.stop().await;
}

/// A new run would have no schedule, and be the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_on_a_cron_schedule_stays_on_it() {
    let down = Puppet::new(|_| Err(Error::new(ErrorKind::Unavailable, "down")));
    let attempts = Arc::clone(&down.attempts);
    let quick = RetryPolicy::new()
        .initial_interval(Duration::from_millis(10))
        .maximum_interval(Duration::from_millis(10))
        .maximum_attempts(0);
    let policies = Policies::new().request(ActivityPolicy::new().retry_policy(quick));
    let config = Config::new(Arc::new(down) as Arc<dyn Integration>).policies(policies);
    let mut worker = TemporalWorker::new().max_history(8);
    Handler::new(config).unwrap().register(&mut worker).unwrap();
    let world = World::new(worker).await;
    let id = unique("cron");
    let options = WorkflowStartOptions::new(world.connection.task_queue(), &id)
        .cron_schedule("@every 1s")
        .build();
    let batch = json!({"inputs": [{"track": {"user_id": "u", "event": "e"}}]});
    let client = world.connection.client();
    let workflow = UntypedWorkflow::new("puppet(analytics).Batch");
    let started = client.start_workflow(workflow, input(&batch), options);
    let first = started.await.unwrap();
    // Each run has an event of its own.
    let runs = || {
        let attempts = attempts.lock().unwrap();
        attempts
            .iter()
            .map(|(id, ..)| id.clone())
            .collect::<BTreeSet<_>>()
    };
    let three = async {
        while runs().len() < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(world::SOON, three).await.unwrap();
    let history = String::from_utf8(world::history(&first).await).unwrap();
    assert!(
        history.contains("the history of this run is full"),
        "{history}"
    );
    let handle = client.get_workflow_handle::<UntypedWorkflow>(&id);
    handle
        .terminate(WorkflowTerminateOptions::default())
        .await
        .unwrap();
    world.stop().await;
}

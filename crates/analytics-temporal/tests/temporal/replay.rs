//! What workflows did once, they would do again.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use analytics_kit::{
    Error, ErrorKind, Handler, Integration,
    spec::{
        Delivery, Policies,
        handler::Config,
        integration::Batching,
        policies::{ActivityPolicy, RetryPolicy},
    },
};
use analytics_temporal::TemporalWorker;
use serde_json::json;
use temporalio_client::WorkflowExecutionInfo;

use crate::{
    puppet::{Puppet, in_twos},
    world::{World, end, every_kind, history, input},
};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories"))
}

fn puppet(batching: Batching) -> Puppet {
    Puppet {
        batching,
        ..Puppet::new(|number| match number {
            1 => Err(Error::new(ErrorKind::Unavailable, "down")),
            _ => Ok(Delivery::default()),
        })
    }
}

fn worker() -> TemporalWorker {
    let mut worker = TemporalWorker::new().max_history(20);
    worker.integration(Arc::new(puppet(in_twos(2)))).unwrap();
    worker
}

/// The saved histories, their names sorted.
fn histories() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Without a server. A workflow whose steps are changed fails here: those that
/// run while a new version is installed would hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saved_histories_replay() {
    let histories = histories();
    for (name, history) in &histories {
        let replayed = worker().replay(history).await;
        assert!(replayed.is_ok(), "{name}: {replayed:?}");
    }
    let names: Vec<_> = histories.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "alias",
            "batch-1",
            "batch-2",
            "batch-bytes",
            "delete",
            "group",
            "identify",
            "invalid",
            "page",
            "screen",
            "track"
        ]
    );
}

/// A batch keeps to the limits that it began with, in every run. They are the
/// vendor's, and so another version may have others; and policies are the
/// user's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saved_histories_replay_whatever_the_limits_and_policies_are_now() {
    let once = RetryPolicy::new().maximum_attempts(1);
    let request = ActivityPolicy::new()
        .single_attempt_timeout(Duration::from_secs(1))
        .retry_policy(once);
    for (limits, max_history) in [
        (Batching::single(1), 4_000),
        (in_twos(500), 8),
        (
            Batching {
                max_bytes: 1,
                ..in_twos(2)
            },
            20,
        ),
    ] {
        for (name, history) in histories() {
            let config = Config::new(Arc::new(puppet(limits)) as Arc<dyn Integration>);
            let config = config.policies(Policies::new().request(request.clone()));
            let mut worker = TemporalWorker::new().max_history(max_history);
            let handler = Handler::new(config).unwrap();
            handler.register(&mut worker).unwrap();
            let replayed = worker.replay(&history).await;
            assert!(replayed.is_ok(), "{name} with {limits:?}: {replayed:?}");
        }
    }
}

/// Saves the histories anew: after a change of a workflow that old ones do not
/// replay, and for which nothing runs any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes tests/histories"]
async fn save_histories() {
    let world = World::new(worker()).await;
    let mut all = every_kind("u1");
    all.push(("Invalid", json!({"track": {"user_id": "u1"}})));
    for (title, value) in all {
        let kind = if title == "Invalid" { "Track" } else { title };
        let name = format!("puppet(analytics).{kind}");
        let handle = world.start(&name, input(&value)).await;
        end(&handle).await;
        let path = folder().join(format!("{}.json", title.to_lowercase()));
        fs::write(path, history(&handle).await).unwrap();
    }
    let inputs: Vec<_> = (0..8)
        .map(|n| json!({"track": {"user_id": format!("u{}", n % 3), "event": "e"}}))
        .chain([json!({"track": {}})])
        .collect();
    let batch = input(&json!({"inputs": inputs}));
    let handle = world.start("puppet(analytics).Batch", batch).await;
    end(&handle).await;
    fs::write(folder().join("batch-1.json"), history(&handle).await).unwrap();
    let last = WorkflowExecutionInfo::builder()
        .namespace("default")
        .workflow_id(handle.info().workflow_id.clone())
        .build()
        .bind_untyped(world.connection.client().clone());
    fs::write(folder().join("batch-2.json"), history(&last).await).unwrap();
    world.stop().await;

    // Calls that bytes cut: one, two, and two events.
    let limits = Batching {
        max_bytes: 500,
        ..in_twos(500)
    };
    let mut worker = TemporalWorker::new();
    worker.integration(Arc::new(puppet(limits))).unwrap();
    let world = World::new(worker).await;
    let inputs: Vec<_> = [400, 10, 10, 10, 10]
        .iter()
        .enumerate()
        .map(|(n, bytes)| json!({"track": {"user_id": format!("u{n}"), "event": "e".repeat(*bytes)}}))
        .collect();
    let batch = input(&json!({"inputs": inputs}));
    let handle = world.start("puppet(analytics).Batch", batch).await;
    end(&handle).await;
    let path = folder().join("batch-bytes.json");
    fs::write(path, history(&handle).await).unwrap();
    world.stop().await;
}

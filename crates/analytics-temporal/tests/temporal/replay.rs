//! What workflows did once, they would do again.

use std::{fs, path::PathBuf, sync::Arc};

use analytics_kit::{Error, ErrorKind, spec::Delivery};
use analytics_temporal::TemporalWorker;
use serde_json::json;
use temporalio_client::WorkflowExecutionInfo;

use crate::{
    puppet::Puppet,
    world::{World, end, every_kind, history, input},
};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories"))
}

fn worker() -> TemporalWorker {
    let puppet = Puppet {
        max_items: 2,
        ..Puppet::new(|number| match number {
            1 => Err(Error::new(ErrorKind::Unavailable, "down")),
            _ => Ok(Delivery::default()),
        })
    };
    let mut worker = TemporalWorker::new().max_history(20);
    worker.integration(Arc::new(puppet)).unwrap();
    worker
}

/// Without a server. A workflow whose steps are changed fails here: those that
/// run while a new version is installed would hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saved_histories_replay() {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let replayed = worker().replay(&fs::read(&path).unwrap()).await;
        assert!(replayed.is_ok(), "{}: {replayed:?}", path.display());
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "alias", "batch-1", "batch-2", "delete", "group", "identify", "invalid", "page",
            "screen", "track"
        ]
    );
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
}

//! A worker that is killed.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use analytics_kit::{Input, Track};
use analytics_temporal::Client;
use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};
use tokio::process::{Child, Command};

use crate::world;

const TOML: &str = "ANALYTICS_TEMPORAL_TEST_TOML";
const QUEUE: &str = "ANALYTICS_TEMPORAL_TEST_QUEUE";

/// A worker in a process of its own, for the test below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the test of a killed worker starts"]
async fn worker_process() {
    let connection = world::connect(&world::variable(QUEUE)).await;
    let worker = world::worker(&world::variable(TOML));
    worker.run(&connection).await.unwrap();
}

fn spawn(toml: &str, queue: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kill::worker_process"])
        .env(TOML, toml)
        .env(QUEUE, queue)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_worker_goes_on_where_a_killed_one_was() {
    let vendor = ScriptedSegment::start(SegmentAccount::new("key"))
        .await
        .unwrap();
    let toml = format!(
        "[integrations.segment]\nwrite_key = \"key\"\nbase_url = \"{}\"\n",
        vendor.base_url()
    );
    let queue = world::unique("killed");
    let connection = world::connect(&queue).await;
    let client = Client::new(&connection);
    // Requests that are taken, and never answered.
    vendor.faults().push(Fault::AcceptThenHang.always());
    let mut first = spawn(&toml, &queue);
    let mut started = Vec::new();
    for n in 0..8 {
        let track = Input::new(Track::new("Order").user_id(format!("u{n}")));
        started.push(client.start("segment", track).await.unwrap());
    }
    assert!(
        vendor
            .wait_until(world::SOON, |counts| counts.requests >= 4)
            .await
    );
    first.kill().await.unwrap();
    vendor.faults().clear();
    let mut second = spawn(&toml, &queue);
    for workflow in &started {
        let output = tokio::time::timeout(world::SOON, workflow.result())
            .await
            .unwrap();
        assert_eq!(output.unwrap().status, analytics_kit::Status::Success);
    }
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in vendor.requests() {
        let body = request.request.body_json().unwrap();
        let body = body.get("batch").map_or(&body, |batch| &batch[0]);
        let ids = ids.entry(body["userId"].to_string()).or_default();
        ids.push(body["messageId"].to_string());
    }
    assert_eq!(ids.len(), 8);
    assert!(
        ids.values().any(|ids| ids.len() > 1),
        "nothing was repeated"
    );
    for (user, mut ids) in ids {
        ids.dedup();
        assert_eq!(ids.len(), 1, "{user}");
    }
    // SIGTERM: what is under way is finished, and the process ends well.
    let pid = second.id().unwrap().to_string();
    Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), second.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

//! A worker that is killed.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use analytics_kit::{ErrorKind, Input, Track, spec::BatchInput};
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
    // No attempt ends by itself before the worker is killed.
    let instance = |name: &str, policy: &str| {
        let url = vendor.base_url();
        format!(
            "[integrations.{name}]\nvendor = \"segment\"\nwrite_key = \"key\"\nbase_url = \"{url}\"\n\
             [integrations.{name}.policies.request]\nsingle_attempt_timeout = \"60s\"\n{policy}\n"
        )
    };
    let toml =
        instance("segment", "") + &instance("once", "retry_policy = { maximum_attempts = 1 }");
    let queue = world::unique("killed");
    let connection = world::connect(&queue).await;
    let client = Client::new(&connection);
    // Requests that are taken, and never answered.
    vendor.faults().push(Fault::AcceptThenHang.always());
    let mut first = spawn(&toml, &queue);
    let track = |user: &str| Input::new(Track::new("Order").user_id(user));
    let mut started = Vec::new();
    for user in ["u1", "u2", "u3", "u4"] {
        started.push(client.start("segment", track(user)).await.unwrap());
    }
    let batch = |users: [&str; 2]| BatchInput::new(users.map(|user| track(user).into_any()));
    let repeated = client.start_batch("segment", batch(["b1", "b2"])).await;
    let repeated = repeated.unwrap();
    let once = client.start_batch("once", batch(["once1", "once2"])).await;
    let once = once.unwrap();
    let are_under_way = vendor.wait_until(world::SOON, |counts| counts.requests >= 6);
    assert!(are_under_way.await, "{:?}", vendor.requests());
    first.kill().await.unwrap();
    vendor.faults().clear();
    let mut second = spawn(&toml, &queue);
    for workflow in &started {
        let output = tokio::time::timeout(world::SOON, workflow.result())
            .await
            .unwrap();
        assert_eq!(output.unwrap().status, analytics_kit::Status::Success);
    }
    let output = tokio::time::timeout(world::SOON, repeated.result()).await;
    assert_eq!(output.unwrap().unwrap().failures().count(), 0);
    // There was one attempt, and nobody knows how it ended.
    let output = tokio::time::timeout(world::SOON, once.result()).await;
    for outcome in output.unwrap().unwrap().outcomes {
        let error = outcome.to_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.message().contains("no worker lived"), "{error}");
    }
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in vendor.requests() {
        let body = request.request.body_json().unwrap();
        let events = match body.get("batch") {
            Some(events) => events.as_array().unwrap().clone(),
            None => vec![body],
        };
        for event in events {
            let ids = ids.entry(event["userId"].as_str().unwrap().to_owned());
            ids.or_default().push(event["messageId"].to_string());
        }
    }
    assert_eq!(ids.len(), 8);
    for (user, mut ids) in ids {
        let requests = if user.starts_with("once") { 1 } else { 2 };
        assert_eq!(ids.len(), requests, "{user}");
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

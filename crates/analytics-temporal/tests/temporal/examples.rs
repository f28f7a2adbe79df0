//! The examples in Python.

use analytics_testkit::{ScriptedSegment, SegmentAccount};
use serde_json::{Value, json};

use crate::world::{self, World};

/// What an example says, and what the vendor got from it.
async fn run(script: &str) -> (String, Vec<Value>) {
    let vendor = ScriptedSegment::start(SegmentAccount::new("key"))
        .await
        .unwrap();
    let toml = format!(
        "[integrations.segment]\nwrite_key = \"key\"\nbase_url = \"{}\"\n",
        vendor.base_url()
    );
    let world = World::of(&toml).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python");
    let example = world::python(&format!("{folder}/{script}"))
        .env("TEMPORAL_ADDRESS", world::address())
        .env("TEMPORAL_TASK_QUEUE", world.connection.task_queue())
        .output();
    let output = tokio::time::timeout(world::SOON, example).await;
    let output = output.expect("the example hangs").unwrap();
    world.stop().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(vendor.violations(), []);
    let received = vendor.received().into_iter().map(|r| r.body).collect();
    (String::from_utf8(output.stdout).unwrap(), received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_a_failure() {
    let (said, received) = run("deliver.py").await;
    assert_eq!(
        said,
        "identify: success 200\n\
         batch: success \n\
         batch: failure track.event: required: must not be empty\n\
         batch: success \n\
         failure: ValidationError\n   \
         identify required - says nothing: set user_id, anonymous_id or traits\n"
    );
    let [identify, track, page] = &received[..] else {
        panic!("{received:?}");
    };
    assert_eq!(identify["traits"], json!({"email": "ada@example.com"}));
    assert_eq!(track["event"], "Order Completed");
    assert_eq!(track["properties"], json!({"revenue": 42.5}));
    assert_eq!(page["name"], "Home");
    assert_eq!(page["context"]["locale"], "en-GB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_workflow() {
    let (said, received) = run("own_workflow.py").await;
    assert_eq!(said, "checkout: success\n");
    let [track, identify] = &received[..] else {
        panic!("{received:?}");
    };
    assert_eq!(track["properties"], json!({"revenue": 42.5}));
    let order = track["messageId"].as_str().unwrap();
    assert!(order.starts_with("order-"), "{order}");
    assert_eq!(identify["traits"], json!({"customer": true}));
    assert_eq!(identify["userId"], "u1");
}

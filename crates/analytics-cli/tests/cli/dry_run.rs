use analytics_testkit::{ScriptedSegment, SegmentAccount};
use serde_json::Value;

use crate::support::{Dir, segment};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_shown_and_not_sent() {
    let vendor = ScriptedSegment::start(SegmentAccount::new("hunter2"))
        .await
        .unwrap();
    let dir = Dir::configured(&segment(&vendor.base_url(), "hunter2"));
    dir.write(
        "events.jsonl",
        "{\"page\":{\"user_id\":\"u1\",\"name\":\"Home\"}}\n\n{}\n{\"delete\":{\"user_id\":\"u1\"}}\n",
    );
    let run = dir.run(&["send", "events.jsonl", "--dry-run"]);
    run.ends_with(1).says("events.jsonl:3: $: required: ");
    assert_eq!(vendor.counts().requests, 0);
    let requests: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [request] = &requests[..] else {
        panic!("{run:#?}")
    };
    let mut keys: Vec<_> = request.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["body", "headers", "integration", "line", "method", "url"]
    );
    assert_eq!(request["integration"], "segment");
    assert_eq!(request["line"], 1);
    assert_eq!(request["method"], "POST");
    assert_eq!(request["url"], format!("{}/v1/batch", vendor.base_url()));
    assert_eq!(request["headers"]["authorization"], "[redacted]");
    assert_eq!(request["body"]["batch"][0]["name"], "Home");
    assert!(!run.all().contains("hunter2"), "{run:#?}");

    dir.write("events.jsonl", "{\"delete\":{\"user_id\":\"u1\"}}\n");
    let run = dir.run(&["send", "events.jsonl", "--dry-run"]);
    assert_eq!(run.ends_with(0).all(), "\n", "not supported is not wrong");
}

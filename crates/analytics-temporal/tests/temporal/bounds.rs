//! What is large, deep or ambiguous ends its workflow as well.

use std::{sync::Arc, time::Duration};

use analytics_kit::{
    Error, ErrorKind,
    spec::{Delivery, HttpResponse},
};
use analytics_temporal::{MAX_BATCH_EVENTS, MAX_INPUT_BYTES, TemporalWorker};
use serde_json::{Map, Value, json};
use temporalio_common::data_converters::RawValue;
use tokio::process::Command;

use crate::{
    puppet::{Puppet, in_twos},
    world::{self, End, World, alone, alone_with, end, input, payload},
};

const TRACK: &str = "puppet(analytics).Track";
const BATCH: &str = "puppet(analytics).Batch";

async fn world(puppet: Puppet) -> World {
    let mut worker = TemporalWorker::new();
    worker.integration(Arc::new(puppet)).unwrap();
    World::new(worker).await
}

fn delivered(_: u32) -> Result<Delivery, Error> {
    Ok(Delivery::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_violations_are_a_failure_that_is_kept() {
    let world = world(Puppet::new(delivered)).await;
    let queue = world.connection.activity_task_queue("puppet");
    let unknown: Map<String, Value> = (0..8_000)
        .map(|n| (format!("f{n}"), json!(1)))
        .chain([
            ("user_id".to_owned(), json!("u")),
            ("event".to_owned(), json!("e")),
        ])
        .collect();
    let wrong = json!({"track": unknown});
    let long = json!({"track": {"user_id": "u", "event": "e", "k".repeat(900_000): 1}});
    for (what, wrong) in [("many", &wrong), ("long", &long)] {
        let handle = world.start(TRACK, input(wrong)).await;
        let failed = end(&handle).await;
        assert_eq!(failed.error_type(), "ValidationError", "{what}");
        let violations = failed.detail()["violations"].as_array().unwrap();
        assert_eq!(violations[0]["code"], "unknown_field");
        assert!(failed.detail().to_string().len() < 20_000, "{what}");
        if what == "many" {
            assert!(violations.len() > 10);
            let message = failed.detail()["message"].as_str().unwrap();
            assert!(message.ends_with("more)"), "{message}");
        }
        for step in ["Validation", "Request"] {
            let name = format!("{TRACK}.{step}");
            let error = alone(&queue, &name, wrong).await.unwrap_err();
            assert!(error.contains("ValidationError"), "{what}: {error}");
            assert!(error.len() < 60_000, "{what}: {}", error.len());
        }
        let batch = json!({"inputs": [wrong]});
        let handle = world.start(BATCH, input(&batch)).await;
        let End::Output(output) = end(&handle).await else {
            panic!()
        };
        assert_eq!(output["outcomes"][0]["error"]["type"], "ValidationError");
        // What the events share is wrong: the batch as a whole.
        let mut shared = json!({"inputs": []});
        shared["policies"] = wrong["track"].clone();
        let handle = world.start(BATCH, input(&shared)).await;
        assert_eq!(end(&handle).await.error_type(), "ValidationError");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_megabytes_is_cut() {
    let world = world(Puppet::new(|_| {
        let response = HttpResponse::new(400).body("b".repeat(3 << 20));
        let error = Error::new(ErrorKind::RequestRejected, "\u{1}".repeat(3 << 20));
        Err(error.with_response(response))
    }))
    .await;
    let event = json!({"track": {"user_id": "u", "event": "e"}});
    let handle = world.start(TRACK, input(&event)).await;
    let failed = end(&handle).await;
    assert_eq!(failed.error_type(), "RequestRejected");
    assert!(failed.detail().to_string().len() < 20_000);
    let handle = world
        .start(BATCH, input(&json!({"inputs": [event, event]})))
        .await;
    assert!(matches!(end(&handle).await, End::Output(_)));
    world.stop().await;
}

/// A reader of JSON may not take what lies deeper than 128 levels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_lies_deep_is_kept_as_its_text() {
    let nested = || (0..126).fold(json!(1), |value, _| json!([value]));
    let puppet = Puppet::new(move |_| {
        let response = HttpResponse::new(200).body(nested());
        Ok(Delivery::new(Some(Arc::new(response))))
    });
    let attempts = Arc::clone(&puppet.attempts);
    let world = world(puppet).await;
    let event = json!({"track": {"user_id": "u", "event": "e"}});
    let text = Value::from(nested().to_string());
    for (name, input_) in [(TRACK, event.clone()), (BATCH, json!({"inputs": [event]}))] {
        let handle = world.start(name, input(&input_)).await;
        let End::Output(output) = end(&handle).await else {
            panic!()
        };
        let output = output.pointer("/outcomes/0").unwrap_or(&output);
        assert_eq!(output["status"], "success", "{name}");
        assert_eq!(output["response"]["body"], text, "{name}");
    }
    assert_eq!(attempts.lock().unwrap().len(), 2);
    world.stop().await;
}

/// As JSON, but for how the numbers are written.
fn growing(count: usize) -> String {
    format!(
        r#"{{"track":{{"user_id":"u","event":"e","properties":{{"x":[{}]}}}}}}"#,
        vec!["1e15"; count].join(",")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grows_when_it_is_written_again_is_too_large() {
    let puppet = Puppet::new(delivered);
    let attempts = Arc::clone(&puppet.attempts);
    let world = world(puppet).await;
    let raw = |json: String| RawValue::new(vec![payload("json/plain", json)]);
    let large = growing(180_000);
    assert!(large.len() < MAX_INPUT_BYTES);
    let handle = world.start(TRACK, raw(large.clone())).await;
    let failed = end(&handle).await;
    assert_eq!(failed.error_type(), "ValidationError");
    assert_eq!(failed.detail()["violations"][0]["code"], "too_large");
    // One event of a batch.
    let small = growing(1);
    let handle = world
        .start(BATCH, raw(format!(r#"{{"inputs":[{large},{small}]}}"#)))
        .await;
    let End::Output(output) = end(&handle).await else {
        panic!()
    };
    assert_eq!(
        output["outcomes"][0]["error"]["violations"][0]["code"],
        "too_large"
    );
    assert_eq!(output["outcomes"][1]["status"], "success");
    // All of them together.
    let events = vec![growing(9_000); 20].join(",");
    let handle = world
        .start(BATCH, raw(format!(r#"{{"inputs":[{events}]}}"#)))
        .await;
    let failed = end(&handle).await;
    assert_eq!(failed.detail()["violations"][0]["code"], "too_large");
    assert_eq!(attempts.lock().unwrap().len(), 1);
    world.stop().await;
}

/// As many events as a batch may have, as large as they may be together, which
/// all fail with long words, over several runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_batch_goes_on_in_a_new_run() {
    let puppet = Puppet {
        batching: in_twos(500),
        ..Puppet::new(|number| {
            let kind = if number < 3 {
                ErrorKind::Unavailable
            } else {
                ErrorKind::RequestRejected
            };
            let response = HttpResponse::new(503).body("b".repeat(5_000));
            Err(Error::new(kind, "m".repeat(5_000)).with_response(response))
        })
    };
    let mut worker = TemporalWorker::new().max_history(8);
    worker.integration(Arc::new(puppet)).unwrap();
    let world = World::new(worker).await;
    let room = MAX_INPUT_BYTES / MAX_BATCH_EVENTS;
    let events: Vec<_> = (0..MAX_BATCH_EVENTS)
        .map(|n| {
            let event = |filler: usize| {
                json!({"track": {"user_id": format!("u{n:04}"), "event": "x".repeat(filler)}})
            };
            let bytes = event(0).to_string().len();
            event(room - bytes - 2)
        })
        .collect();
    let batch = json!({"inputs": events});
    assert!(batch.to_string().len() > MAX_INPUT_BYTES - 2 * MAX_BATCH_EVENTS);
    let handle = world.start(BATCH, input(&batch)).await;
    let End::Output(output) = end(&handle).await else {
        panic!()
    };
    let outcomes = output["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), MAX_BATCH_EVENTS);
    for outcome in outcomes {
        assert_eq!(outcome["error"]["type"], "RequestRejected");
        assert!(outcome["error"]["message"].as_str().unwrap().contains('m'));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_that_is_too_deep_or_panics_is_alone_with_it() {
    let world = world(Puppet::new(delivered)).await;
    let event = |user: &str, value: &str| {
        format!(r#"{{"track":{{"user_id":"{user}","event":"e","properties":{{"x":{value}}}}}}}"#)
    };
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let mut events = vec![event("u", "1"), event("panic", "1")];
    events.push(event("u", r#""\ud800""#));
    events.push(event("u", "1e999"));
    // From some number of levels on, nobody can read it.
    events.extend((112..132).map(|levels| event("u", &deep(levels))));
    for count in 2..=events.len() {
        let batch = format!(r#"{{"inputs":[{}]}}"#, events[..count].join(","));
        let handle = world
            .start(BATCH, RawValue::new(vec![payload("json/plain", batch)]))
            .await;
        let End::Output(output) = end(&handle).await else {
            panic!("{count}")
        };
        let outcomes = output["outcomes"].as_array().unwrap();
        assert_eq!(outcomes[0]["status"], "success", "{count}: {output}");
        assert_eq!(outcomes[1]["error"]["type"], "Internal", "{count}");
        let unread = outcomes.iter().skip(2).take(2);
        let kinds = unread.map(|outcome| &outcome["error"]["type"]);
        assert!(
            kinds.into_iter().all(|kind| kind == "ValidationError"),
            "{count}"
        );
        for outcome in outcomes.iter().skip(4) {
            let error = &outcome["error"]["type"];
            assert!(
                error.is_null() || error == "ValidationError",
                "{count}: {outcome}"
            );
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_stands_twice_is_refused() {
    let puppet = Puppet::new(delivered);
    let attempts = Arc::clone(&puppet.attempts);
    let world = world(puppet).await;
    let twice = r#"{"track":{"user_id":"u","event":"a","event":"b"}}"#;
    let raw = |json: String| RawValue::new(vec![payload("json/plain", json)]);
    let handle = world.start(TRACK, raw(twice.to_owned())).await;
    let failed = end(&handle).await;
    assert_eq!(failed.detail()["violations"][0]["code"], "duplicate_key");
    assert_eq!(failed.detail()["violations"][0]["path"], "track.event");
    let right = r#"{"track":{"user_id":"u","event":"a"}}"#;
    let handle = world
        .start(BATCH, raw(format!(r#"{{"inputs":[{twice},{right}]}}"#)))
        .await;
    let End::Output(output) = end(&handle).await else {
        panic!()
    };
    let violation = &output["outcomes"][0]["error"]["violations"][0];
    assert_eq!(violation["code"], "duplicate_key");
    assert_eq!(violation["path"], "track.event");
    assert_eq!(output["outcomes"][1]["status"], "success");
    assert_eq!(attempts.lock().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_alone_attempts_every_event() {
    let puppet = Puppet::new(|number| match number {
        1 => Ok(Delivery::default()),
        _ => Err(Error::new(ErrorKind::Internal, "a second attempt")),
    });
    let attempts = Arc::clone(&puppet.attempts);
    let world = world(puppet).await;
    let events: Vec<_> = (0..6)
        .map(|n| json!({"track": {"user_id": format!("u{}", n % 2), "event": "e"}}))
        .collect();
    let name = format!("{BATCH}.Request");
    let queue = world.connection.activity_task_queue("puppet");
    let output = alone(&queue, &name, &json!({"inputs": events}))
        .await
        .unwrap();
    for outcome in output["outcomes"].as_array().unwrap() {
        assert_eq!(outcome["status"], "success", "{output}");
    }
    assert_eq!(attempts.lock().unwrap().len(), 6);
    world.stop().await;
}

/// Whoever executes the activity alone says how often it is attempted: what may
/// pass is not for good, and a validation waits for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_alone_that_is_not_done_in_time_is_attempted_again() {
    let world = world(Puppet::new(delivered)).await;
    let batch = json!({"inputs": [{"track": {"user_id": "hangs", "event": "e"}}]});
    let options = [
        "--start-to-close-timeout",
        "2s",
        "--retry-maximum-attempts",
        "2",
    ];
    let begin = std::time::Instant::now();
    let request = format!("{BATCH}.Request");
    let queue = world.connection.activity_task_queue("puppet");
    let error = alone_with(&queue, &request, &batch, &options).await;
    let error = error.unwrap_err();
    assert!(error.contains("Timeout"), "{error}");
    assert!(begin.elapsed() > Duration::from_secs(3), "{error}");
    let validation = format!("{BATCH}.Validation");
    let output = alone(&queue, &validation, &batch).await.unwrap();
    assert_eq!(output["outcomes"][0]["status"], "success");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_alone_delivers_what_does_not_panic() {
    let puppet = Puppet {
        batching: in_twos(500),
        ..Puppet::new(delivered)
    };
    let world = world(puppet).await;
    let users = ["u0", "u1", "panics", "u3"];
    let inputs = users.map(|user| json!({"track": {"user_id": user, "event": "e"}}));
    let name = format!("{BATCH}.Request");
    let queue = world.connection.activity_task_queue("puppet");
    let output = alone(&queue, &name, &json!({"inputs": inputs})).await;
    let output = output.unwrap();
    let errors: Vec<_> = (0..4)
        .map(|n| output["outcomes"][n]["error"]["type"].as_str())
        .collect();
    assert_eq!(errors, [None, None, Some("Internal"), None]);
    world.stop().await;
}

/// An attempt under way is given up soon after its workflow was cancelled: the
/// worker, which finishes what is under way, ends long before the attempt would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_cancelled_is_given_up() {
    for name in [TRACK, BATCH] {
        let puppet = Puppet {
            takes: Duration::from_secs(30),
            ..Puppet::new(delivered)
        };
        let attempts = Arc::clone(&puppet.attempts);
        let world = world(puppet).await;
        let mut event = json!({"track": {"user_id": "u", "event": "e"}});
        if name == BATCH {
            event = json!({"inputs": [event]});
        }
        let handle = world.start(name, input(&event)).await;
        // After the first heartbeat.
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        handle.cancel(Default::default()).await.unwrap();
        assert!(matches!(end(&handle).await, End::Cancelled));
        let begin = std::time::Instant::now();
        world.stop().await;
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{:?}",
            begin.elapsed()
        );
        assert_eq!(attempts.lock().unwrap().len(), 0);
    }
}

/// What the server says of the one activity of a workflow that is under way: its
/// state and its attempt.
async fn pending(workflow_id: &str) -> (String, i64) {
    let output = temporal(&["workflow", "describe", "-o", "json", "-w", workflow_id]).await;
    let value: Value = serde_json::from_str(&output).unwrap();
    let activity = &value["pendingActivities"][0];
    let state = activity["state"].as_str().unwrap_or_default().to_owned();
    (state, activity["attempt"].as_i64().unwrap_or_default())
}

/// What Temporal's command says.
async fn temporal(args: &[&str]) -> String {
    let output = Command::new(world::variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(args)
        .args(["--address", &world::address()])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(world::SOON, output).await;
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pause and a reset of an activity under way have its attempt given up, as a
/// cancellation has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_that_is_paused_or_reset_goes_on_soon() {
    let world = world(Puppet::new(delivered)).await;
    let event = json!({"track": {"user_id": "hangs", "event": "e"}});
    let handle = world.start(TRACK, input(&event)).await;
    let id = handle.info().workflow_id.clone();
    let becomes = async |state: &str, attempt: i64| {
        let begin = std::time::Instant::now();
        loop {
            let is = pending(&id).await;
            if is.0.ends_with(state) && is.1 == attempt {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(25), "{is:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let activity = ["--workflow-id", &id, "--activity-id", "2"];
    let ask = async |what: &str| {
        temporal(&[["activity", what].as_slice(), &activity].concat()).await;
    };
    becomes("STARTED", 1).await;
    ask("pause").await;
    becomes("PAUSED", 2).await;
    ask("unpause").await;
    becomes("STARTED", 2).await;
    ask("reset").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    becomes("STARTED", 1).await;
    handle.cancel(Default::default()).await.unwrap();
    assert!(matches!(end(&handle).await, End::Cancelled));
    world.stop().await;
}

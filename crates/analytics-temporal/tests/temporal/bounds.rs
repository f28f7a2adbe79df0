//! What is large, deep or ambiguous ends its workflow as well.

use std::{sync::Arc, time::Duration};

use analytics_kit::{
    Error, ErrorKind,
    spec::{Delivery, HttpResponse},
};
use analytics_temporal::{MAX_BATCH_EVENTS, MAX_INPUT_BYTES, TemporalWorker};
use serde_json::{Map, Value, json};
use temporalio_common::data_converters::RawValue;

use crate::{
    puppet::{Puppet, in_twos},
    world::{End, World, alone, end, input, payload},
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
    events.extend((112..126).map(|levels| event("u", &deep(levels))));
    for count in 2..=events.len() {
        // As a whole, what nobody can read is refused.
        let batch = format!(r#"{{"inputs":[{}]}}"#, events[..count].join(","));
        let handle = world
            .start(BATCH, RawValue::new(vec![payload("json/plain", batch)]))
            .await;
        match end(&handle).await {
            End::Output(output) => {
                let outcomes = output["outcomes"].as_array().unwrap();
                assert_eq!(outcomes[0]["status"], "success", "{count}: {output}");
                assert_eq!(outcomes[1]["error"]["type"], "Internal", "{count}");
                for outcome in &outcomes[2..] {
                    let error = &outcome["error"]["type"];
                    assert!(
                        error.is_null() || error == "ValidationError",
                        "{count}: {outcome}"
                    );
                }
            }
            failed => assert_eq!(failed.detail()["violations"][0]["path"], "$", "{count}"),
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

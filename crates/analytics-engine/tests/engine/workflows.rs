//! Executing by name: the wire contract.

use std::sync::{Arc, Mutex, atomic::Ordering};

use analytics_engine::EmbeddedWorker;
use analytics_spec::{
    Error, ErrorKind, Handler, Identify, Integration, Kind, KindSet, Page, Status, handler,
};
use serde_json::json;

use crate::support::{TestClock, Vendor, attempts, engine, event, ms, name, secs, unavailable};

fn track() -> serde_json::Value {
    json!({
        "policies": null,
        "context": {"ip": "203.0.113.9"},
        "track": {"user_id": "u1", "event": "Signed Up", "properties": {"plan": "pro"}},
    })
}

#[tokio::test(start_paused = true)]
async fn a_workflow_is_executed_by_its_name() {
    let vendor = Vendor::new("custom")
        .policies(attempts(5))
        .answers(|attempt| {
            if attempt.number < 3 {
                Err(unavailable())
            } else {
                Ok(())
            }
        });
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let output = engine
        .execute("custom(analytics).Track", track())
        .await
        .unwrap();
    let expected = json!({
        "status": "success",
        "track": {"user_id": "u1", "event": "Signed Up", "properties": {"plan": "pro"}},
    });
    assert_eq!(output, expected);
    assert_eq!(vendor.times(), [ms(0), secs(1), secs(3)]);
    let seen = vendor.seen();
    assert!(
        seen.iter()
            .all(|s| s.message_id == seen[0].message_id && !s.message_id.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn the_steps_are_executed_by_their_names() {
    let vendor = Arc::new(Vendor::new("custom").answers(|_| Err(unavailable())));
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let output = engine
        .execute("custom(analytics).Track.Validation", track())
        .await
        .unwrap();
    assert_eq!(output["status"], "success");
    assert!(output.get("response").is_none());
    assert!(vendor.sent().is_empty());
    let error = engine
        .execute("custom(analytics).Track.Request", track())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        vendor.sent().len(),
        1,
        "one attempt: whoever executes it retries"
    );
}

#[tokio::test(start_paused = true)]
async fn only_supported_kinds_have_names() {
    let mut vendor = Vendor::new("custom");
    vendor.supports = KindSet::EMPTY.with(Kind::Track).with(Kind::Page);
    let engine = engine()
        .integration(Arc::new(vendor))
        .build()
        .await
        .unwrap();
    let names: Vec<_> = engine.worker().names().collect();
    assert_eq!(
        names,
        [
            "custom(analytics).Batch",
            "custom(analytics).Batch.Request",
            "custom(analytics).Batch.Validation",
            "custom(analytics).Page",
            "custom(analytics).Page.Request",
            "custom(analytics).Page.Validation",
            "custom(analytics).Track",
            "custom(analytics).Track.Request",
            "custom(analytics).Track.Validation",
        ]
    );
    let error = engine
        .run("custom", Identify::new().user_id("u1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn errors_say_what_to_change() {
    let vendor = Arc::new(Vendor::new("custom"));
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let says = async |name: &str, input, kind, sentence: &str| {
        let error = engine.execute(name, input).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(sentence), "{error}");
    };
    says(
        "custom(analytics).Trak",
        track(),
        ErrorKind::Unsupported,
        "did you mean custom(analytics).Track?",
    )
    .await;
    says(
        "else",
        track(),
        ErrorKind::Unsupported,
        "there is no workflow or activity else",
    )
    .await;
    let name = "custom(analytics).Identify";
    says(
        name,
        track(),
        ErrorKind::Validation,
        "expected identify, found track",
    )
    .await;
    says(name, json!("text"), ErrorKind::Validation, "$").await;
    says(name, json!({}), ErrorKind::Validation, "there is no event").await;
    let misspelt = json!({"identify": {"userId": "u1"}});
    says(name, misspelt, ErrorKind::Validation, "user_id").await;
    assert!(vendor.sent().is_empty());
}

/// Content that breaks rules fails in the validation step, so hooks hear of it.
#[tokio::test(start_paused = true)]
async fn hooks_hear_of_every_step() {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let (steps, workflows) = (Arc::clone(&calls), Arc::clone(&calls));
    let vendor = Vendor::new("a")
        .policies(attempts(2))
        .answers(|_| Err(unavailable()));
    let config = handler::Config::new(Arc::new(vendor) as Arc<dyn Integration>)
        .on_activity_error(move |failed| steps.lock().unwrap().push(failed.name.to_owned()))
        .on_workflow_error(move |failed| workflows.lock().unwrap().push(failed.name.to_owned()));
    let engine = engine()
        .handler(Handler::new(config).unwrap())
        .build()
        .await
        .unwrap();
    let taken = || std::mem::take(&mut *calls.lock().unwrap());

    let empty = json!({"track": {"user_id": "u1", "event": ""}});
    let error = engine
        .execute("a(analytics).Track", empty.clone())
        .await
        .unwrap_err();
    assert_eq!(
        error.violations().unwrap().violations()[0].path,
        "track.event"
    );
    assert_eq!(
        taken(),
        ["a(analytics).Track.Validation", "a(analytics).Track"]
    );

    engine
        .execute("a(analytics).Track.Validation", empty)
        .await
        .unwrap_err();
    assert_eq!(taken(), ["a(analytics).Track.Validation"]);

    engine
        .execute("a(analytics).Track", track())
        .await
        .unwrap_err();
    let request = "a(analytics).Track.Request";
    assert_eq!(taken(), [request, request, "a(analytics).Track"]);
}

#[tokio::test(start_paused = true)]
async fn run_is_typed() {
    let engine = engine()
        .integration(Arc::new(Vendor::new("a")))
        .build()
        .await
        .unwrap();
    let output = engine
        .run("a", Page::new("Home").user_id("u1"))
        .await
        .unwrap();
    assert_eq!(
        (output.status, output.event.name.as_str()),
        (Status::Success, "Home")
    );
    let error = engine.run("b", event("u1", "e")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_outcome_per_input() {
    let vendor = Vendor::new("a")
        .unprepared()
        .batches(2, 2)
        .answers(|attempt| {
            if attempt.number == 1 {
                Err(unavailable())
            } else {
                Ok(())
            }
        });
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let input = json!({
        "context": {"locale": "en-GB"},
        "inputs": [
            {"track": {"user_id": "u1", "event": "First"}},
            {"track": {"user_id": "u1"}},
            {"context": {"message_id": "own"}, "page": {"user_id": "u2", "name": "Home"}},
            {"nonsense": 1},
            {"track": {"user_id": "u1", "event": "Second"}},
        ],
    });
    let output = engine
        .execute("a(analytics).Batch", input.clone())
        .await
        .unwrap();
    let outcomes = output["outcomes"].as_array().unwrap();
    let statuses: Vec<_> = outcomes.iter().map(|o| o["status"].clone()).collect();
    assert_eq!(
        statuses,
        ["success", "failure", "success", "failure", "success"]
    );
    assert_eq!(outcomes[1]["error"]["violations"][0]["path"], "track.event");
    assert_eq!(outcomes[2]["message_id"], "own");
    let names = vendor.names();
    let at = |name: &str| names.iter().rposition(|n| n == name).unwrap();
    assert!(at("First") < at("Second"), "{names:?}");

    // One step of it, once.
    let output = engine
        .execute("a(analytics).Batch.Request", input)
        .await
        .unwrap();
    let first = &output["outcomes"][0];
    assert_eq!(first["error"]["type"], "Unavailable");
    assert_eq!(first["error"]["retryable"], true);
}

/// A person's events are in one call after the other, and a call that panics is
/// made again in halves.
#[tokio::test(start_paused = true)]
async fn a_batchs_request_alone_attempts_every_event() {
    let vendor = Vendor::new("a")
        .unprepared()
        .batches(4, 8)
        .policies(attempts(3))
        .answers(|attempt| match name(&attempt.input.event).as_str() {
            "panics" => panic!("as told"),
            "fails" => Err(unavailable()),
            _ => Ok(()),
        });
    let vendor = Arc::new(vendor);
    let engine = engine().integration(vendor.clone()).build().await.unwrap();
    let track = |user, name| json!({"track": {"user_id": user, "event": name}});
    let output = engine
        .execute(
            "a(analytics).Batch.Request",
            json!({"inputs": [
                track("u1", "1"), track("u2", "panics"), track("u3", "2"), track("u4", "fails"),
                track("u1", "3"), track("u4", "waits"),
            ]}),
        )
        .await
        .unwrap();
    let errors: Vec<_> = (0..6)
        .map(|n| output["outcomes"][n]["error"]["type"].as_str())
        .collect();
    let [panicked, unavailable, deferred] = ["Internal", "Unavailable", "Deferred"].map(Some);
    assert_eq!(errors, [None, panicked, None, unavailable, None, deferred]);
    for (name, times) in [
        ("1", 3),
        ("panics", 3),
        ("3", 1),
        ("fails", 2),
        ("waits", 0),
    ] {
        let names = vendor.names();
        let sent = names.iter().filter(|sent| *sent == name).count();
        assert_eq!(sent, times, "{name}: {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_without_end_outlast_what_the_vendor_asks_for() {
    for (maximum, is_delivered) in [(0, true), (5, false)] {
        let vendor = Vendor::new("a").policies(attempts(maximum)).puts_off();
        let engine = engine()
            .integration(Arc::new(vendor))
            .build()
            .await
            .unwrap();
        let ended = engine.execute("a(analytics).Track", track()).await;
        assert_eq!(ended.is_ok(), is_delivered, "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_not_initialised_executes_nothing() {
    let vendor = Arc::new(Vendor::new("a"));
    let config = handler::Config::new(vendor.clone() as Arc<dyn Integration>);
    let handler = Handler::new(config).unwrap();
    let mut worker = EmbeddedWorker::new(TestClock::new());
    handler.register(&mut worker).unwrap();
    for name in ["a(analytics).Track", "a(analytics).Track.Request"] {
        let error = worker.execute(name, track()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    handler.init().await.unwrap();
    worker.execute("a(analytics).Track", track()).await.unwrap();
    assert_eq!(vendor.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_integrations_cannot_have_one_name() {
    let mut pages = Vendor::new("same");
    pages.supports = KindSet::EMPTY.with(Kind::Page);
    let mut tracks = Vendor::new("same");
    tracks.supports = KindSet::EMPTY.with(Kind::Track);
    for (one, other) in [(Vendor::new("same"), Vendor::new("same")), (pages, tracks)] {
        let built = engine()
            .integration(Arc::new(one))
            .integration(Arc::new(other))
            .build()
            .await;
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("same"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_initialised_is_closed_when_another_cannot_be() {
    let good = Arc::new(Vendor::new("good"));
    let mut bad = Vendor::new("bad");
    bad.init = || Err(Error::new(ErrorKind::Unauthorized, "401"));
    let bad = Arc::new(bad);
    let built = engine()
        .integration(good.clone())
        .integration(bad.clone())
        .build()
        .await;
    assert_eq!(built.unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(good.closed.load(Ordering::SeqCst), 1);
    assert_eq!(bad.closed.load(Ordering::SeqCst), 0);
}

//! What PostHog answers, over a connection, and what follows. Time is a fake
//! clock's: nothing waits.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which may panic"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use analytics_posthog::{Calls as _, Config, Context, Delete, ErrorKind, Input, Posthog, Track};
use analytics_spec::{
    AnyInput, Attempt, Clock, Error, Integration as _, Progress, Timestamp, Value, clock::Sleep,
};
use serde_json::json;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

#[derive(Debug, Default)]
struct FakeClock {
    slept: Mutex<Vec<Duration>>,
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.slept.lock().unwrap().iter().sum::<Duration>()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.slept.lock().unwrap().push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

struct Setup {
    server: MockServer,
    clock: Arc<FakeClock>,
    posthog: Posthog,
}

/// A PostHog that answers what it is told by the number of the request and its
/// body.
async fn setup(
    answer: impl Fn(usize, &Value) -> ResponseTemplate + Send + Sync + 'static,
) -> Setup {
    let server = MockServer::start().await;
    let count = Mutex::new(0);
    Mock::given(any())
        .respond_with(move |request: &Request| {
            let mut count = count.lock().unwrap();
            *count += 1;
            answer(*count, &body(request))
        })
        .mount(&server)
        .await;
    let clock = Arc::new(FakeClock::default());
    let posthog = Config::new("phc_k")
        .deletion("7", "phx_p")
        .base_url(server.uri().parse().unwrap())
        .build()
        .unwrap()
        .with_clock(clock.clone());
    Setup {
        server,
        clock,
        posthog,
    }
}

impl Setup {
    async fn bodies(&self) -> Vec<Value> {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().map(body).collect()
    }

    /// One attempt to deliver some inputs in one batch.
    async fn deliver(&self, inputs: &[AnyInput]) -> Vec<Result<(), Error>> {
        let attempts: Vec<_> = inputs
            .iter()
            .map(|input| Attempt {
                input,
                number: 1,
                progress: Progress::NONE,
                timeout: Duration::from_secs(20),
                deadline: None,
            })
            .collect();
        let outcomes = self.posthog.deliver_batch(&attempts).await;
        outcomes.into_iter().map(|o| o.map(drop)).collect()
    }
}

/// A request's body, which is compressed if it is large enough.
fn body(request: &Request) -> Value {
    if request.headers.contains_key("content-encoding") {
        serde_json::from_reader(flate2::read::GzDecoder::new(&request.body[..])).unwrap()
    } else {
        serde_json::from_slice(&request.body).unwrap()
    }
}

fn ok() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"status": "Ok"}))
}

fn people(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("u{i}"))
}

#[tokio::test]
async fn a_retry_is_the_same_event() {
    let setup = setup(|count, _| match count {
        1 => ResponseTemplate::new(503).set_body_string("transient error, please retry"),
        2 => ResponseTemplate::new(429).insert_header("retry-after", "17"),
        3 => {
            let lost = json!({"status": "Ok", "quota_limited": ["events"]});
            ResponseTemplate::new(200).set_body_json(lost)
        }
        4 => ResponseTemplate::new(200).set_body_string("<html>Log in</html>"),
        _ => ok(),
    })
    .await;
    let seen = Track::new("Seen").user_id("u1");
    setup.posthog.track(seen).await.unwrap();
    let bodies = setup.bodies().await;
    assert_eq!(bodies.len(), 5);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(bodies[0]["batch"][0]["uuid"].as_str().unwrap().len(), 36);
    let slept = setup.clock.slept.lock().unwrap();
    assert_eq!(slept[1], Duration::from_secs(17));
}

#[tokio::test]
async fn an_event_that_posthog_cannot_read_is_found_and_costs_no_other() {
    let setup = setup(|_, body| {
        let events = body["batch"].as_array().unwrap();
        if events.iter().any(|event| event["distinct_id"] == "u5") {
            ResponseTemplate::new(400).set_body_string("failed to hydrate events")
        } else {
            ok()
        }
    })
    .await;
    let inputs: Vec<_> = people(8)
        .map(|user| {
            let context = Context::new().message_id(format!("m-{user}"));
            Input::new(Track::new("Seen").user_id(user)).context(context)
        })
        .map(Input::into_any)
        .collect();
    for (index, outcome) in setup.deliver(&inputs).await.into_iter().enumerate() {
        assert_eq!(outcome.is_err(), index == 5, "{index}: {outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::RequestRejected);
            assert!(error.to_string().contains("hydrate"), "{error}");
        }
    }
    let sizes: Vec<_> = setup
        .bodies()
        .await
        .iter()
        .map(|body| body["batch"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [8, 4, 4, 2, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_thousand_people_are_deleted_at_a_time() {
    let setup = setup(|_, body| {
        let found = body["distinct_ids"].as_array().unwrap().len();
        ResponseTemplate::new(202).set_body_json(json!({"persons_found": found}))
    })
    .await;
    let inputs: Vec<_> = people(1_001)
        .map(|user| Input::new(Delete::new(user)).into_any())
        .collect();
    assert!(setup.deliver(&inputs).await.iter().all(Result::is_ok));
    let requests = setup.server.received_requests().await.unwrap();
    let mut sizes: Vec<_> = requests
        .iter()
        .map(|request| {
            assert_eq!(request.url.path(), "/api/projects/7/persons/bulk_delete/");
            assert_eq!(request.headers["authorization"], "Bearer phx_p");
            body(request)["distinct_ids"].as_array().unwrap().len()
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1_000]);
}

#[tokio::test]
async fn whom_posthog_could_not_delete_is_deleted_later_and_nobody_else() {
    let setup = setup(|count, body| {
        let ids = body["distinct_ids"].as_array().unwrap();
        let is_left = count <= 3 && ids.iter().any(|id| id == "u1");
        let errors =
            is_left.then(|| json!({"person_uuid": "01890a5d-ac96-774b-bcce-b302099a8057"}));
        let errors: Vec<_> = errors.into_iter().collect();
        let answer = json!({"persons_found": ids.len(), "deletion_errors": errors});
        ResponseTemplate::new(202).set_body_json(answer)
    })
    .await;
    let inputs: Vec<_> = people(2)
        .map(|user| Input::new(Delete::new(user)).into_any())
        .collect();
    let outcomes = setup.deliver(&inputs).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert!(outcomes[1].as_ref().unwrap_err().is_retryable());
    setup.posthog.delete(Delete::new("u1")).await.unwrap();
}

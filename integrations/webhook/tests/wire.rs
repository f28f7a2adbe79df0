//! An endpoint's answers, over a connection, and what follows. Time is a fake
//! clock's: nothing waits.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which may panic"
)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use analytics_spec::{
    AnyEvent, AnyInput, Attempt, Clock, Delete, Integration as _, Progress, Timestamp, Value,
    clock::Sleep,
};
use analytics_webhook::{
    Batch, Calls as _, Config, Context, ErrorKind, Input, Meaning, Track, Webhook,
};
use serde_json::json;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[derive(Debug, Default)]
struct FakeClock(Mutex<Vec<Duration>>);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        start + self.0.lock().unwrap().iter().sum::<Duration>()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.0.lock().unwrap().push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

/// Gives its answers in their order, then 200.
struct Script(Mutex<VecDeque<ResponseTemplate>>);

impl Respond for Script {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let next = self.0.lock().unwrap().pop_front();
        next.unwrap_or_else(|| status(200))
    }
}

fn status(code: u16) -> ResponseTemplate {
    ResponseTemplate::new(code)
}

async fn setup(
    answers: impl IntoIterator<Item = ResponseTemplate>,
    configure: impl FnOnce(Config) -> Config,
) -> (MockServer, Webhook, Arc<FakeClock>) {
    let server = MockServer::start().await;
    let script = Script(Mutex::new(answers.into_iter().collect()));
    Mock::given(any()).respond_with(script).mount(&server).await;
    let clock = Arc::new(FakeClock::default());
    let url = format!("{}/in?source=shop", server.uri());
    let config = configure(Config::new(url.parse().unwrap()).secret(SECRET));
    let webhook = config.build().unwrap().with_clock(clock.clone());
    (server, webhook, clock)
}

fn bought(id: &str) -> Input<Track> {
    let track = Track::new("Bought").user_id(format!("user of {id}"));
    Input::new(track).context(Context::new().message_id(id))
}

fn headers(request: &Request) -> [&str; 3] {
    ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| request.headers[name].to_str().unwrap())
}

#[tokio::test]
async fn an_attempt_has_its_own_time_and_the_same_id() {
    let busy = status(503).insert_header("retry-after", "40");
    let (server, webhook, clock) = setup([busy, status(425)], |config| config).await;
    webhook.send(bought("order-1")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let [first, second, third] = [0, 1, 2].map(|nth| headers(&requests[nth]));
    assert_eq!([first[0], second[0], third[0]], ["order-1"; 3]);
    assert_eq!(first[1], "1772366400");
    assert_eq!(second[1], "1772366440");
    assert!(first[2] != second[2] && second[2] != third[2]);
    assert!(
        requests
            .iter()
            .all(|request| request.body == requests[0].body)
    );
    let slept = clock.0.lock().unwrap().clone();
    assert_eq!(slept[0], Duration::from_secs(40));
    let body: Value = requests[0].body_json().unwrap();
    assert_eq!(body["context"]["timestamp"], "2026-03-01T12:00:00Z");
    assert_eq!(requests[0].url.query(), Some("source=shop"));
}

#[tokio::test]
async fn statuses_mean_what_is_configured() {
    let configure = |config: Config| {
        let config = config.status(409, Meaning::Success);
        config
            .status(404, Meaning::Retry)
            .status(503, Meaning::Reject)
    };
    let answers = [409, 404, 200, 503, 410, 403].map(status);
    let (server, webhook, _) = setup(answers, configure).await;
    webhook.send(bought("a")).await.unwrap();
    webhook.send(bought("b")).await.unwrap();
    for (id, kind) in [
        ("c", ErrorKind::RequestRejected),
        ("d", ErrorKind::RequestRejected),
        ("e", ErrorKind::Unauthorized),
    ] {
        let error = webhook.send(bought(id)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{id}");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 6);
}

async fn deliver(webhook: &Webhook, ids: &[&str]) -> Vec<Option<(ErrorKind, bool)>> {
    let inputs: Vec<_> = ids.iter().map(|id| bought(id).into_any()).collect();
    deliver_all(webhook, &inputs).await
}

async fn deliver_all(webhook: &Webhook, inputs: &[AnyInput]) -> Vec<Option<(ErrorKind, bool)>> {
    let attempt = |input| Attempt {
        input,
        number: 1,
        progress: Progress::NONE,
        timeout: Duration::from_secs(10),
        deadline: None,
    };
    let attempts: Vec<_> = inputs.iter().map(attempt).collect();
    let outcomes = webhook.deliver_batch(&attempts).await;
    let failure = |outcome: Result<_, analytics_webhook::Error>| {
        outcome
            .err()
            .map(|error| (error.kind(), error.is_retryable()))
    };
    outcomes.into_iter().map(failure).collect()
}

fn carried(request: &Request) -> Vec<String> {
    let body: Value = request.body_json().unwrap();
    let events = body["batch"].as_array().unwrap();
    let id = |event: &Value| event["context"]["message_id"].as_str().unwrap().to_owned();
    events.iter().map(id).collect()
}

#[tokio::test]
async fn a_batch_is_halved_until_what_is_refused_is_alone() {
    let answers = [422, 200, 422, 422, 200].map(status);
    let (server, webhook, _) = setup(answers, |config| config.batch(Batch::new())).await;
    let outcomes = deliver(&webhook, &["a", "b", "c", "d"]).await;
    let refused = Some((ErrorKind::RequestRejected, false));
    assert_eq!(outcomes, [None, None, refused, None]);
    let requests = server.received_requests().await.unwrap();
    let all: Vec<_> = requests.iter().map(|r| carried(r).concat()).collect();
    assert_eq!(all, ["abcd", "ab", "cd", "c", "d"]);
    // Alone, an event has its own id; together, they have one of theirs.
    assert!(headers(&requests[0])[0].starts_with("batch_"));
    assert_eq!(headers(&requests[3])[0], "c");
}

#[tokio::test]
async fn results_are_each_events_own() {
    let answer = status(207).set_body_json(json!({"results": [
        {"status": 200}, {"status": 503}, {"status": 401, "message": "not yours"}
    ]}));
    let configure = |config: Config| config.batch(Batch::new().results());
    let (server, webhook, _) = setup([answer, status(200)], configure).await;
    assert_eq!(
        deliver(&webhook, &["a", "b", "c"]).await,
        [
            None,
            Some((ErrorKind::Unavailable, true)),
            Some((ErrorKind::RequestRejected, false)),
        ]
    );
    // A 200 without results is not an answer.
    assert_eq!(
        deliver(&webhook, &["b"]).await,
        [Some((ErrorKind::Unavailable, true))]
    );
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

/// A receiver which answers for each event may be busy for the first and take
/// the second: only one of a person is in its hands.
#[tokio::test]
async fn results_do_not_change_the_order_of_a_persons_events() {
    let results = |statuses: &[u16]| {
        let results: Vec<_> = statuses.iter().map(|s| json!({"status": s})).collect();
        status(200).set_body_json(json!({ "results": results }))
    };
    let answers = [results(&[503, 200]), results(&[200, 200]), results(&[200])];
    let configure = |config: Config| config.batch(Batch::new().results());
    let (server, webhook, _) = setup(answers, configure).await;
    let event =
        |event: AnyEvent, id: &str| Input::new(event).context(Context::new().message_id(id));
    let inputs = [
        event(Delete::new("ada").into(), "delete"),
        event(Track::new("Signed Up").user_id("ada").into(), "track"),
        event(Track::new("Bought").user_id("bob").into(), "other"),
    ];
    assert_eq!(
        deliver_all(&webhook, &inputs).await,
        [
            Some((ErrorKind::Unavailable, true)),
            Some((ErrorKind::Deferred, true)),
            None,
        ]
    );
    assert_eq!(deliver_all(&webhook, &inputs).await, [None; 3]);
    let requests = server.received_requests().await.unwrap();
    let all: Vec<_> = requests.iter().map(carried).collect();
    assert_eq!(
        all,
        [
            vec!["delete", "other"],
            vec!["delete", "other"],
            vec!["track"]
        ]
    );
}

#[tokio::test]
async fn previews_and_errors_show_no_credential() {
    let echo =
        status(400).set_body_string(format!("hunter2-key {SECRET} /in?source=shop-4711-north"));
    let (_server, webhook, _) = setup([echo], |config| {
        config.header("Authorization", "Bearer hunter2-key")
    })
    .await;
    let error = webhook.send(bought("a")).await.unwrap_err();
    let preview = webhook.preview(&bought("a").into_any()).unwrap();
    let shown = format!("{error} {error:?} {preview:?}");
    for secret in ["hunter2", SECRET, &SECRET[6..], "v1,"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(preview[0].headers["authorization"], "[redacted]");
    assert_eq!(preview[0].headers["webhook-signature"], "[redacted]");
    assert_eq!(preview[0].headers["webhook-id"], "a");
}

/// What is in a header of one's own is taken out of what is shown, and out of
/// nothing that is read.
#[tokio::test]
async fn a_header_does_not_change_what_an_answer_means() {
    let body = json!({"results": [{"status": 200}, {"status": 422, "message": "no results-7"}]});
    for value in ["s", "results", "results-7"] {
        let answer = status(200).set_body_json(&body);
        let (server, webhook, _) = setup([answer], |config| {
            let batch = Batch::new().results();
            config.batch(batch).header("x-shard", value)
        })
        .await;
        let inputs = ["a", "b"].map(|id| {
            let mut input = bought(id).into_any();
            input.stamp("2026-03-01T12:00:00Z".parse().unwrap());
            input
        });
        let attempts = inputs.each_ref().map(|input| Attempt {
            input,
            number: 1,
            progress: Progress::NONE,
            timeout: Duration::from_secs(5),
            deadline: None,
        });
        let outcomes = webhook.deliver_batch(&attempts).await;
        assert!(outcomes[0].is_ok(), "{value}: {outcomes:?}");
        let error = outcomes[1].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestRejected, "{value}");
        let shown = format!("{error} {error:?} {:?}", error.response());
        assert_eq!(shown.contains(value), value == "s", "{value}: {shown}");
        assert_eq!(server.received_requests().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_status_is_enough_whatever_page_comes_with_it() {
    let page = status(200).set_body_raw("<!doctype html><p>Thank you!", "text/html");
    let (server, webhook, _) = setup([page], |config| config).await;
    webhook.send(bought("order-1")).await.unwrap();
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

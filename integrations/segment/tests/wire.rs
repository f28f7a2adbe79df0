//! Every answer that Segment documents, over a connection, and what follows.
//! Time is a fake clock's: nothing waits.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which may panic"
)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use analytics_http::{Failure, ReqwestTransport, Transport, TransportError};
use analytics_segment::{Calls as _, Config, Delete, Error, ErrorKind, Segment, Track};
use analytics_spec::{
    AnyEvent, AnyInput, Attempt, Clock, Context, Event as _, Input, Integration as _, Progress,
    Timestamp, Value, clock::Sleep,
};
use bytes::Bytes;
use serde_json::json;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

const START: &str = "2026-03-01T12:00:00Z";

#[derive(Debug, Default)]
struct FakeClock {
    slept: Mutex<Vec<Duration>>,
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = START.parse().unwrap();
        start + self.slept.lock().unwrap().iter().sum::<Duration>()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.slept.lock().unwrap().push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

/// Gives its answers in their order, then success.
struct Script(Mutex<VecDeque<ResponseTemplate>>);

impl Respond for Script {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let next = self.0.lock().unwrap().pop_front();
        next.unwrap_or_else(|| {
            if request.url.path().starts_with("/regulations") {
                regulation()
            } else {
                success()
            }
        })
    }
}

fn success() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"success": true}))
}

fn regulation() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"data": {"regulateId": "reg-1"}}))
}

fn status(code: u16) -> ResponseTemplate {
    ResponseTemplate::new(code)
}

struct Setup {
    server: MockServer,
    clock: Arc<FakeClock>,
    segment: Segment,
}

async fn setup(answers: impl IntoIterator<Item = ResponseTemplate>) -> Setup {
    setup_with(answers, |config| config.public_api_token("pat-2")).await
}

async fn setup_with(
    answers: impl IntoIterator<Item = ResponseTemplate>,
    configure: impl FnOnce(Config) -> Config,
) -> Setup {
    let server = MockServer::start().await;
    let script = Script(Mutex::new(answers.into_iter().collect()));
    Mock::given(any()).respond_with(script).mount(&server).await;
    let clock = Arc::new(FakeClock::default());
    let url = server.uri().parse().unwrap();
    let segment = configure(Config::new("wk-1"))
        .base_url(server.uri().parse().unwrap())
        .public_api_base_url(url)
        .build()
        .unwrap()
        .with_clock(clock.clone());
    Setup {
        server,
        clock,
        segment,
    }
}

impl Setup {
    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    fn slept(&self) -> Vec<u128> {
        let slept = self.clock.slept.lock().unwrap();
        slept.iter().map(Duration::as_millis).collect()
    }

    async fn sizes(&self) -> Vec<usize> {
        let requests = self.requests().await;
        requests
            .iter()
            .map(|request| {
                let body = body(request);
                let items = body.get("batch").or(body.get("subjectIds")).unwrap();
                items.as_array().unwrap().len()
            })
            .collect()
    }
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn event() -> Track {
    Track::new("Happened").user_id("u-1")
}

/// One attempt to deliver some events in one batch.
async fn deliver(segment: &Segment, events: Vec<AnyEvent>) -> Vec<Result<(), Error>> {
    let inputs: Vec<AnyInput> = events
        .into_iter()
        .enumerate()
        .map(|(index, event)| {
            let context = Context::new().message_id(format!("m-{index}"));
            Input::new(event).context(context)
        })
        .collect();
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
    let outcomes = segment.deliver_batch(&attempts).await;
    outcomes
        .into_iter()
        .map(|outcome| outcome.map(drop))
        .collect()
}

fn tracks(count: usize) -> Vec<AnyEvent> {
    (0..count)
        .map(|i| Track::new("t").user_id(format!("u-{i}")).into_any())
        .collect()
}

fn deletes(count: usize) -> Vec<AnyEvent> {
    (0..count)
        .map(|i| Delete::new(format!("u-{i}")).into_any())
        .collect()
}

#[tokio::test]
async fn what_is_final_is_sent_once() {
    let dropped = json!({"success": false, "message": "said so"});
    let cases = [
        (
            status(200).set_body_json(dropped),
            ErrorKind::RequestRejected,
        ),
        (
            status(302).insert_header("location", "https://elsewhere.example"),
            ErrorKind::RequestRejected,
        ),
        (status(400), ErrorKind::RequestRejected),
        (status(401), ErrorKind::Unauthorized),
        (status(403), ErrorKind::Unauthorized),
        (status(404), ErrorKind::RequestRejected),
        (status(413), ErrorKind::TooLarge),
        (status(422), ErrorKind::RequestRejected),
        (status(501), ErrorKind::RequestRejected),
        (status(505), ErrorKind::RequestRejected),
        (status(511), ErrorKind::RequestRejected),
    ];
    for (answer, kind) in cases {
        let setup = setup([answer.insert_header("retry-after", "9")]).await;
        let error = setup.segment.track(event()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (kind, false),
            "{error}"
        );
        assert_eq!(error.integration(), Some("segment"));
        assert!(error.response().is_some());
        assert_eq!(setup.requests().await.len(), 1, "{error}");
        assert!(setup.slept().is_empty());
    }
}

#[tokio::test]
async fn what_may_pass_is_sent_again_as_the_same_message() {
    for code in [408, 410, 429, 460, 500, 502, 503, 504] {
        let setup = setup([status(code), status(code), status(code)]).await;
        let output = setup.segment.track(event()).await.unwrap();
        assert_eq!(output.response.unwrap().status_code, 200);
        assert_eq!(setup.slept(), [500, 1000, 2000], "{code}");
        let requests = setup.requests().await;
        let counts: Vec<_> = requests
            .iter()
            .map(|r| r.headers.get("x-retry-count").map(|v| v.to_str().unwrap()))
            .collect();
        assert_eq!(counts, [None, Some("1"), Some("2"), Some("3")]);
        let bodies: Vec<_> = requests.iter().map(body).collect();
        assert_eq!(
            bodies[0]["batch"][0]["messageId"].as_str().unwrap().len(),
            36
        );
        assert_eq!(
            bodies[0]["batch"][0]["timestamp"],
            "2026-03-01T12:00:00.000Z"
        );
        assert_eq!(bodies[3]["sentAt"], "2026-03-01T12:00:03.500Z");
        for (request, body) in requests.iter().zip(&bodies) {
            assert_eq!(body["batch"], bodies[0]["batch"]);
            assert_eq!(request.method, "POST");
            assert_eq!(request.url.path(), "/v1/batch");
            assert_eq!(request.headers["authorization"], "Basic d2stMTo=");
        }
    }
}

#[tokio::test]
async fn eleven_attempts_are_the_last() {
    let setup = setup((0..20).map(|_| status(500))).await;
    let error = setup.segment.track(event()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(setup.requests().await.len(), 11);
    assert_eq!(setup.slept().iter().max(), Some(&60_000));
}

#[tokio::test]
async fn retry_after_is_obeyed_on_whatever_may_pass() {
    let cases = [
        (429, "17", 17_000),
        (429, "Sun, 01 Mar 2026 12:01:00 GMT", 60_000),
        (503, "17", 17_000),
        (408, "3", 3_000),
        (460, "3", 3_000),
        (429, "86400", 300_000),
        (429, "0", 500),
        (429, "nonsense", 500),
    ];
    for (code, value, millis) in cases {
        let setup = setup([status(code).insert_header("retry-after", value)]).await;
        setup.segment.track(event()).await.unwrap();
        assert_eq!(setup.slept(), [millis], "{code} {value}");
    }
}

#[tokio::test]
async fn a_batch_too_large_is_halved_and_one_message_too_large_is_final() {
    // 8, then 4 and 4; the second 4 has one that never fits.
    let answers = [413, 200, 413, 200, 413, 413, 200].map(|code| match code {
        200 => success(),
        code => status(code),
    });
    let setup = setup(answers).await;
    let outcomes = deliver(&setup.segment, tracks(8)).await;
    assert_eq!(setup.sizes().await, [8, 4, 4, 2, 2, 1, 1]);
    for (index, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), index == 6, "{index}");
    }
    let error = outcomes[6].as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::TooLarge, false)
    );
    // No event was sent after it had been accepted.
    let bodies: Vec<_> = setup.requests().await.iter().map(body).collect();
    assert_eq!(bodies[6]["batch"][0]["messageId"], "m-7");
    assert!(bodies.iter().all(|body| body["writeKey"] == "wk-1"));
}

#[tokio::test]
async fn an_answer_to_a_batch_is_everyones() {
    for (code, retryable) in [(404, false), (503, true)] {
        let setup = setup([status(code)]).await;
        let outcomes = deliver(&setup.segment, tracks(3)).await;
        assert_eq!(setup.sizes().await, [3]);
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().is_retryable(), retryable);
        }
    }
}

#[tokio::test]
async fn one_message_that_is_refused_does_not_cost_the_others() {
    let dropped = || status(200).set_body_json(json!({"success": false, "message": "no"}));
    for refused in [|| status(400), || status(422), dropped] {
        let setup = setup([refused(), refused(), success()]).await;
        let outcomes = deliver(&setup.segment, tracks(2)).await;
        assert_eq!(setup.sizes().await, [2, 1, 1]);
        let error = outcomes[0].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestRejected);
        assert!(outcomes[1].is_ok());
    }
}

#[tokio::test]
async fn a_2xx_of_somebody_else_is_not_success() {
    for (answer, pauses) in [
        (status(200).set_body_string("<html>Log in</html>"), 1),
        (status(204), 1),
        (status(200).set_body_json(json!({"status": "ok"})), 1),
    ] {
        let setup = setup([answer]).await;
        setup.segment.track(event()).await.unwrap();
        assert_eq!(setup.slept().len(), pauses);
        assert_eq!(setup.requests().await.len(), 2);
    }
}

#[tokio::test]
async fn a_message_that_segment_calls_malformed_is_found_and_costs_no_other() {
    let setup = setup([status(400), status(400)]).await;
    let outcomes = deliver(&setup.segment, tracks(2)).await;
    assert_eq!(setup.sizes().await, [2, 1, 1]);
    assert_eq!(
        outcomes[0].as_ref().unwrap_err().kind(),
        ErrorKind::RequestRejected
    );
    assert!(outcomes[1].is_ok());
}

#[tokio::test]
async fn a_large_batch_is_sent_in_pieces_that_segment_takes() {
    let setup = setup([]).await;
    let large = |i: usize| {
        Track::new("t")
            .user_id(format!("u-{i}"))
            .property("pad", "x".repeat(30_000))
            .into_any()
    };
    let outcomes = deliver(&setup.segment, (0..40).map(large).collect()).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let requests = setup.requests().await;
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.headers["content-encoding"], "gzip");
        assert_eq!(request.headers["content-type"], "application/json");
    }
}

/// Segment has accepted the event, but its answer is lost.
#[derive(Debug)]
struct LosesTheFirst {
    inner: ReqwestTransport,
    lost: AtomicBool,
}

#[async_trait::async_trait]
impl Transport for LosesTheFirst {
    async fn send(
        &self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let answer = self.inner.send(request, timeout).await;
        if self.lost.swap(true, Ordering::SeqCst) {
            answer
        } else {
            answer.and(Err(Failure::Timeout.into()))
        }
    }
}

#[tokio::test]
async fn a_lost_answer_repeats_a_message_that_segment_recognises() {
    let mut setup = setup([]).await;
    setup.segment = setup.segment.with_transport(Arc::new(LosesTheFirst {
        inner: ReqwestTransport::new().unwrap(),
        lost: AtomicBool::new(false),
    }));
    setup.segment.track(event()).await.unwrap();
    let requests = setup.requests().await;
    assert_eq!(requests.len(), 2);
    let (first, second) = (body(&requests[0]), body(&requests[1]));
    assert!(first["batch"][0]["messageId"].is_string());
    assert_eq!(first["batch"], second["batch"]);
    assert_eq!(requests[1].headers["x-retry-count"], "1");
}

#[tokio::test]
async fn a_regulation_is_made_with_the_token_and_never_the_write_key() {
    let setup = setup_with([], |config| {
        config.public_api_token("pat-2").source_id("s-3")
    })
    .await;
    let output = setup.segment.delete(Delete::new("u-1")).await.unwrap();
    assert_eq!(output.response.unwrap().status_code, 200);
    let requests = setup.requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].url.path(), "/regulations/sources/s-3");
    assert_eq!(requests[0].headers["authorization"], "Bearer pat-2");
    let sent = format!("{:?} {}", requests[0].headers, body(&requests[0]));
    assert!(!sent.contains("wk-1") && !sent.contains("d2stMT"), "{sent}");
}

#[tokio::test]
async fn several_users_share_a_regulation() {
    let setup = setup([]).await;
    let outcomes = deliver(&setup.segment, deletes(3)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let requests = setup.requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!(
        body(&requests[0])["subjectIds"],
        json!(["u-0", "u-1", "u-2"])
    );
}

#[tokio::test]
async fn without_a_token_there_is_no_delete() {
    let setup = setup_with([], |config| config).await;
    let error = setup.segment.delete(Delete::new("u-1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(setup.requests().await.is_empty());
}

#[tokio::test]
async fn a_regulation_without_an_id_is_none() {
    for answer in [
        json!({"data": {}}),
        json!({"data": {"regulateId": null}}),
        json!({"data": {"regulateId": ""}}),
        json!({"errors": [{"message": "said so"}]}),
    ] {
        let setup = setup([status(200).set_body_json(&answer)]).await;
        let error = setup.segment.delete(Delete::new("u-1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestRejected);
        assert!(error.message().contains("names no regulation"), "{error}");
        assert_eq!(setup.requests().await.len(), 1);
    }
}

#[tokio::test]
async fn a_regulation_that_somebody_else_answers_is_asked_for_again() {
    for answer in [
        status(200).set_body_string("<html>Log in</html>"),
        status(200).set_body_json(json!({})),
        status(204),
    ] {
        let setup = setup([answer]).await;
        setup.segment.delete(Delete::new("u-1")).await.unwrap();
        assert_eq!(setup.requests().await.len(), 2);
    }
}

#[tokio::test]
async fn refused_regulations_say_why() {
    let errors = json!({"errors": [{"type": "bad-request", "message": "said so", "field": "f"}]});
    for (code, kind) in [
        (400, ErrorKind::RequestRejected),
        (401, ErrorKind::Unauthorized),
        (404, ErrorKind::RequestRejected),
        (422, ErrorKind::RequestRejected),
    ] {
        let setup = setup([status(code).set_body_json(&errors)]).await;
        let error = setup.segment.delete(Delete::new("u-1")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        assert!(error.message().contains("said so"), "{error}");
        assert_eq!(setup.requests().await.len(), 1);
    }
}

#[tokio::test]
async fn too_many_regulations_wait_until_the_date_that_is_named() {
    let limited = status(429)
        .insert_header("x-ratelimit-reset", "2026-03-01T12:00:33Z")
        .set_body_json(json!({"errors": [{"type": "too-many-requests"}]}));
    let setup = setup([limited, status(500)]).await;
    setup.segment.delete(Delete::new("u-1")).await.unwrap();
    assert_eq!(setup.slept(), [33_000, 500]);
    assert_eq!(setup.requests().await.len(), 3);
}

/// One id that Segment does not take is nobody else's failure.
#[tokio::test]
async fn one_bad_id_does_not_refuse_the_others() {
    let setup = setup([422, 422, 422].map(status)).await;
    let outcomes = deliver(&setup.segment, deletes(4)).await;
    assert_eq!(setup.sizes().await, [4, 2, 1, 1, 2]);
    for (index, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), index == 0, "{index}");
    }
    // A token that is refused is everyone's.
    let setup = setup_with([status(401)], |config| config.public_api_token("t")).await;
    let outcomes = deliver(&setup.segment, deletes(4)).await;
    assert!(outcomes.iter().all(Result::is_err));
    assert_eq!(setup.requests().await.len(), 1);
}

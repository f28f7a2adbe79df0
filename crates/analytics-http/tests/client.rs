//! The client with a scripted transport and a clock that nobody waits for.

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

use analytics_http::{
    BaseUrl, Client, Failure, HttpVendor, Limits, Reading, Refusal, Sending, Step, Transport,
    TransportError, classify, request,
};
use analytics_spec::{
    ActivityPolicy, AnyInput, Attempt, Calls as _, Clock, Code, Context, Error, ErrorKind,
    HttpResponse, Input, Integration as _, Kind, KindSet, Map, Policies, Progress, RetryPolicy,
    Secret, Status, Timestamp, Track, ValidationError, Value, clock::Sleep, config::Instance,
    integration::Batching,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use serde_json::json;

const START: &str = "2026-03-01T12:00:00Z";

/// Time passes when somebody sleeps, and only then.
#[derive(Debug, Default)]
struct FakeClock {
    slept: Mutex<Vec<Duration>>,
}

impl FakeClock {
    fn slept(&self) -> Vec<u128> {
        let slept = self.slept.lock().unwrap();
        slept.iter().map(Duration::as_millis).collect()
    }
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

type Answer = Result<Response<Bytes>, TransportError>;

/// Gives its answers in their order, then 200.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    sent: Mutex<Vec<(Request<Bytes>, Duration)>>,
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request<Bytes>, timeout: Duration) -> Answer {
        self.sent.lock().unwrap().push((request, timeout));
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or_else(|| status(200))
    }
}

fn status(status: u16) -> Answer {
    let response = Response::builder().status(status);
    Ok(response.body(Bytes::new()).unwrap())
}

fn says(code: u16, body: impl Into<Bytes>) -> Answer {
    let response = Response::builder().status(code);
    Ok(response.body(body.into()).unwrap())
}

fn asks(code: u16, header: &'static str, value: &'static str) -> Answer {
    let mut response = status(code)?;
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(header, value);
    Ok(response)
}

/// Each number of `steps` among a track's properties is a step on that route.
#[derive(Debug)]
struct Fake {
    base: BaseUrl,
    key: Secret,
    gzip: bool,
    max_in_flight: usize,
    /// What the vendor's own reading says to 418.
    own_delay: Option<Duration>,
}

impl HttpVendor for Fake {
    type Route = u64;

    const VENDOR: &'static str = "fake";

    fn supports(&self) -> KindSet {
        KindSet::ALL.without(Kind::Delete)
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        if input.event.user_id() == Some("nobody") {
            return Err(ValidationError::new("track.user_id", Code::Reserved, "no"));
        }
        Ok(())
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<u64>>, Error> {
        let properties = input.event.properties().unwrap();
        let routes = properties.get("steps").cloned().unwrap_or(json!([0]));
        let routes = routes.as_array().unwrap().iter();
        let body =
            json!({"id": input.message_id(), "at": input.context.timestamp, "event": input.event});
        routes
            .map(|route| Step::json(route.as_u64().unwrap(), &body))
            .collect()
    }

    fn limits(&self, _: &u64) -> Limits {
        Limits {
            max_items: 10,
            gzip: self.gzip,
            ..Limits::SINGLE
        }
    }

    fn request(
        &self,
        route: &u64,
        bodies: &[&Bytes],
        sending: Sending,
    ) -> Result<Request<Bytes>, Error> {
        if *route == 99 {
            return Err(Error::new(ErrorKind::Internal, "no such route"));
        }
        let key = self.key.expose();
        let url = self.base.join(&format!("/{route}?token={key}"));
        let auth = request::basic("any", key)?;
        let mut request = request::json(Method::PUT, &url, Some(&auth), request::array(bodies))?;
        request
            .headers_mut()
            .insert("x-retry", sending.retry.into());
        let at = sending.at.to_string().parse().unwrap();
        request.headers_mut().insert("x-at", at);
        Ok(request)
    }

    fn read(&self, _: &u64, response: &HttpResponse, _: usize) -> Reading {
        let verdict = match (response.status_code, self.own_delay) {
            (418, Some(delay)) => {
                Err(Refusal::transient(ErrorKind::RateLimited, "tea").wait(delay))
            }
            _ => classify(response),
        };
        Reading::All(verdict)
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.key]
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: 10,
            max_bytes: usize::MAX,
            max_in_flight: self.max_in_flight,
        }
    }

    fn policies(&self) -> Policies {
        Policies::new().request(
            ActivityPolicy::new()
                .single_attempt_timeout(Duration::from_secs(3))
                .retry_policy(
                    RetryPolicy::new()
                        .initial_interval(Duration::from_millis(100))
                        .maximum_attempts(4),
                ),
        )
    }

    fn configuration(&self) -> Map<String, Value> {
        Map::new()
    }
}

struct Setup {
    client: Client<Fake>,
    clock: Arc<FakeClock>,
    script: Arc<Script>,
}

fn fake() -> Fake {
    Fake {
        base: BaseUrl::new("https://vendor.example").unwrap(),
        key: Secret::new("hunter2"),
        gzip: false,
        max_in_flight: 8,
        own_delay: None,
    }
}

fn setup_with(
    vendor: Fake,
    instance: Instance,
    answers: impl IntoIterator<Item = Answer>,
) -> Setup {
    let clock = Arc::new(FakeClock::default());
    let script = Arc::new(Script::default());
    script.answers.lock().unwrap().extend(answers);
    let client = Client::new(vendor, instance)
        .unwrap()
        .with_transport(script.clone())
        .with_clock(clock.clone());
    Setup {
        client,
        clock,
        script,
    }
}

fn setup(answers: impl IntoIterator<Item = Answer>) -> Setup {
    setup_with(fake(), Instance::new("mine"), answers)
}

impl Setup {
    fn header(&self, name: &str) -> Vec<String> {
        let sent = self.script.sent.lock().unwrap();
        sent.iter()
            .map(|(request, _)| request.headers()[name].to_str().unwrap().to_owned())
            .collect()
    }

    fn bodies(&self) -> Vec<Bytes> {
        let sent = self.script.sent.lock().unwrap();
        sent.iter()
            .map(|(request, _)| request.body().clone())
            .collect()
    }

    fn paths(&self) -> Vec<String> {
        let sent = self.script.sent.lock().unwrap();
        sent.iter()
            .map(|(request, _)| request.uri().path().to_owned())
            .collect()
    }

    fn timeouts(&self) -> Vec<u64> {
        let sent = self.script.sent.lock().unwrap();
        sent.iter().map(|(_, timeout)| timeout.as_secs()).collect()
    }
}

fn event() -> Track {
    Track::new("Happened").user_id("u1")
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_is_the_same_event() {
    let setup = setup([
        status(503),
        Err(Failure::Timeout.into()),
        Err(Failure::Connect.into()),
        status(204),
    ]);
    let output = setup.client.track(event()).await.unwrap();
    assert_eq!(output.status, Status::Success);
    assert_eq!(output.response.unwrap().status_code, 204);
    assert_eq!(setup.clock.slept(), [100, 200, 400]);
    assert_eq!(setup.header("x-retry"), ["0", "1", "2", "3"]);
    assert_eq!(
        setup.header("x-at"),
        [
            "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00.1Z",
            "2026-03-01T12:00:00.3Z",
            "2026-03-01T12:00:00.7Z",
        ]
    );
    // The message id was made once, and the timestamp too.
    let bodies = setup.bodies();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let body: Value = serde_json::from_slice(&bodies[0]).unwrap();
    assert_eq!(body[0]["id"].as_str().unwrap().len(), 36);
    assert_eq!(body[0]["at"], START);
    assert_eq!(setup.timeouts(), [3; 4]);
}

#[tokio::test]
async fn after_the_last_attempt_the_last_error_is_returned() {
    let setup = setup((500..510).map(status));
    let error = setup.client.track(event()).await.unwrap_err();
    assert_eq!(error.response().unwrap().status_code, 503);
    assert_eq!(error.integration(), Some("mine"));
    assert!(error.is_retryable());
    assert_eq!(setup.paths().len(), 4);
    assert_eq!(setup.clock.slept().len(), 3);
}

#[tokio::test]
async fn what_is_final_is_not_tried_again() {
    for answer in [status(302), status(400), status(401), status(413)] {
        let setup = setup([answer]);
        let error = setup.client.track(event()).await.unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(setup.paths().len(), 1);
    }
    let setup = setup([Err(Failure::Invalid.into())]);
    let error = setup.client.track(event()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(setup.paths().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_of_what_is_not_valid_or_not_supported() {
    let setup = setup([]);
    let kind = |error: Error| error.kind();
    let invalid = setup.client.track(Track::new("x")).await.unwrap_err();
    assert_eq!(kind(invalid), ErrorKind::Validation);
    let own = setup.client.track(Track::new("x").user_id("nobody")).await;
    assert_eq!(kind(own.unwrap_err()), ErrorKind::Validation);
    let delete = analytics_spec::Delete::new("u1");
    let unsupported = setup.client.delete(delete).await.unwrap_err();
    assert_eq!(kind(unsupported), ErrorKind::Unsupported);
    let unmapped = event().property("steps", json!([99]));
    let error = setup.client.track(unmapped).await.unwrap_err();
    assert_eq!(error.message(), "no such route");
    assert!(setup.paths().is_empty());
}

#[tokio::test]
async fn the_vendor_s_own_delay_is_waited_in_full_and_not_counted() {
    let cases = [
        (asks(429, "retry-after", "7"), 7_000),
        (asks(503, "retry-after", "100000"), 300_000),
        (
            asks(408, "retry-after", "Sun, 01 Mar 2026 12:00:42 GMT"),
            42_000,
        ),
        (
            asks(429, "x-ratelimit-reset", "2026-03-01T12:00:09Z"),
            9_000,
        ),
        // Soon means the first pause, and that is an attempt.
        (asks(429, "retry-after", "0"), 100),
        (asks(429, "retry-after", "soon"), 100),
    ];
    for (answer, millis) in cases {
        let setup = setup([answer]);
        setup.client.track(event()).await.unwrap();
        assert_eq!(setup.clock.slept(), [millis]);
    }
    let setup = setup((0..20).map(|_| asks(503, "retry-after", "5")));
    setup.client.track(event()).await.unwrap();
    assert_eq!(setup.clock.slept(), [5_000; 20]);
    assert_eq!(setup.header("x-retry")[20], "20");
}

#[tokio::test]
async fn a_delay_makes_nothing_retryable_and_an_events_own_wait_is_its_own() {
    let setup = setup([asks(400, "retry-after", "5")]);
    let error = setup.client.track(event()).await.unwrap_err();
    assert_eq!((error.is_retryable(), error.retry_after()), (false, None));
    let vendor = Fake {
        own_delay: Some(Duration::from_secs(2)),
        ..fake()
    };
    let setup = setup_with(vendor, Instance::new("mine"), [status(418)]);
    setup.client.track(event()).await.unwrap();
    assert_eq!(setup.clock.slept(), [2_000]);
}

#[tokio::test]
async fn a_retry_begins_at_the_step_that_failed() {
    let setup = setup([status(200), status(500), status(200), status(200)]);
    let event = event().property("steps", json!([1, 2, 3]));
    setup.client.track(event).await.unwrap();
    assert_eq!(setup.paths(), ["/1", "/2", "/2", "/3"]);
}

#[tokio::test]
async fn policies_come_from_the_input_the_instance_and_the_vendor() {
    let policies = |timeout, attempts| {
        Policies::new().request(
            ActivityPolicy::new()
                .single_attempt_timeout(Duration::from_secs(timeout))
                .retry_policy(RetryPolicy::new().maximum_attempts(attempts)),
        )
    };
    let instance = Instance::new("mine").policies(policies(30, 2));
    let down = || (0..9).map(|_| status(500));
    let with_own = || Input::new(event()).policies(policies(60, 3));

    let setup = setup_with(fake(), instance.clone(), down());
    setup.client.track(event()).await.unwrap_err();
    assert_eq!(setup.timeouts(), [30, 30]);
    // What the instance leaves open is the vendor's.
    assert_eq!(setup.clock.slept(), [100]);
    let error = setup.client.track(with_own()).await.unwrap_err();
    assert_eq!(error.violations().unwrap().violations()[0].path, "policies");
    assert_eq!(setup.timeouts().len(), 2);

    let setup = setup_with(fake(), instance.allow_policies_override(true), down());
    setup.client.track(with_own()).await.unwrap_err();
    assert_eq!(setup.timeouts(), [60; 3]);
}

#[tokio::test]
async fn a_shared_request_is_as_patient_as_its_least_patient_event() {
    let setup = setup([status(200)]);
    let input = |user: &str| {
        Input::new(Track::new("t").user_id(user))
            .context(Context::new().message_id(user))
            .into_any()
    };
    let (a, b) = (input("a"), input("b"));
    let attempt = |input, number, seconds| Attempt {
        input,
        number,
        progress: Progress::NONE,
        timeout: Duration::from_secs(seconds),
        deadline: None,
    };
    let outcomes = setup
        .client
        .deliver_batch(&[attempt(&a, 1, 9), attempt(&b, 4, 5)])
        .await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(setup.timeouts(), [5]);
    assert_eq!(setup.header("x-retry"), ["3"]);
    assert!(setup.client.deliver_batch(&[]).await.is_empty());
}

/// However long the halving of a request would take: what the call has come to is
/// not to be lost with it.
#[tokio::test]
async fn a_call_whose_time_is_over_makes_one_request_and_ends() {
    let setup = setup([status(400), status(400), status(400), status(200)]);
    let inputs = ["a", "b", "c", "d"].map(|user| {
        Input::new(Track::new("t").user_id(user))
            .context(Context::new().message_id(user))
            .into_any()
    });
    let attempts = inputs.each_ref().map(|input| Attempt {
        input,
        number: 1,
        progress: Progress::NONE,
        timeout: Duration::from_secs(9),
        deadline: Some(std::time::Instant::now()),
    });
    let outcomes = setup.client.deliver_batch(&attempts).await;
    let kinds: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_err().kind())
        .collect();
    assert_eq!(kinds, [ErrorKind::Deferred; 4]);
    assert_eq!(setup.paths().len(), 1);
    // Alone, it comes to something.
    let outcomes = setup.client.deliver_batch(&attempts[..1]).await;
    let kind = outcomes[0].as_ref().unwrap_err().kind();
    assert_eq!(kind, ErrorKind::RequestRejected);
}

#[tokio::test]
async fn only_what_is_worth_it_is_compressed() {
    for (gzip, size, is_compressed) in [
        (true, 1023, false),
        (true, 1024, true),
        (false, 5000, false),
    ] {
        let vendor = Fake { gzip, ..fake() };
        let setup = setup_with(vendor, Instance::new("mine"), []);
        let input = |pad: usize| {
            Input::new(event().property("pad", "x".repeat(pad))).context(
                Context::new()
                    .message_id("m")
                    .timestamp(START.parse::<Timestamp>().unwrap()),
            )
        };
        let empty = setup.client.preview(&input(0).into_any()).unwrap();
        let own = serde_json::to_vec(&empty[0].body).unwrap().len();
        setup.client.track(input(size - own)).await.unwrap();
        let sent = setup.script.sent.lock().unwrap();
        let request = &sent[0].0;
        let encoding = request.headers().get("content-encoding");
        assert_eq!(encoding.is_some(), is_compressed, "{size}");
        assert_eq!(request.body().len() == size, !is_compressed);
    }
}

/// A message is cut, and a secret that it is cut within is one as well.
#[tokio::test]
async fn nothing_is_left_of_a_secret_where_words_are_cut() {
    for before in 280..310 {
        let body = json!({"message": format!("{}hunter2", "x".repeat(before))});
        let setup = setup([says(400, body.to_string())]);
        let error = setup.client.track(event()).await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.response());
        assert!(shown.contains("xxxx"), "{shown}");
        assert!(!shown.contains("xhu"), "{shown}");
    }
}

#[tokio::test]
async fn a_web_page_is_not_the_vendors_word() {
    for page in [
        "<html><body>Sign in to the network</body></html>",
        "\u{feff}\n<!DOCTYPE HTML>\n<title>It works!</title>",
    ] {
        let setup = setup([says(200, page), says(200, "ok")]);
        let output = setup.client.track(event()).await.unwrap();
        assert_eq!(output.response.unwrap().body, Some(json!("ok")));
        assert_eq!(setup.clock.slept(), [100], "{page}");
    }
    let mut called_html = says(200, "<center>503</center>");
    if let Ok(response) = &mut called_html {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert("content-type", html);
    }
    let setup = setup([called_html]);
    setup.client.track(event()).await.unwrap();
    assert_eq!(setup.paths().len(), 2);
}

#[tokio::test]
async fn what_is_no_web_page_is_the_vendors_to_read() {
    let mut success = says(200, "success");
    if let Ok(response) = &mut success {
        let html = HeaderValue::from_static("text/html");
        response.headers_mut().insert("content-type", html);
    }
    for answer in [success, says(200, ""), says(200, "<ok/>"), says(200, "1")] {
        let setup = setup([answer]);
        setup.client.track(event()).await.unwrap();
        assert_eq!(setup.paths().len(), 1);
    }
}

/// Its mapping is not even asked: it may not know what to do.
#[tokio::test]
async fn what_is_not_supported_is_not_mapped() {
    let setup = setup([]);
    let delete = Input::new(analytics_spec::Delete::new("u1")).into_any();
    let attempt = Attempt {
        input: &delete,
        number: 1,
        progress: Progress::NONE,
        timeout: Duration::from_secs(1),
        deadline: None,
    };
    let refused = setup.client.deliver(&attempt).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let refused = setup.client.preview(&delete).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(setup.client.as_prepare().unwrap().prepare(&delete).is_err());
    assert!(setup.paths().is_empty());
}

/// Takes a while for each request and counts those under way.
#[derive(Debug, Default)]
struct Slow {
    now: Mutex<(usize, usize)>,
}

#[async_trait]
impl Transport for Slow {
    async fn send(&self, _: Request<Bytes>, _: Duration) -> Answer {
        {
            let mut now = self.now.lock().unwrap();
            now.0 += 1;
            now.1 = now.1.max(now.0);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.now.lock().unwrap().0 -= 1;
        status(200)
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_under_way_than_the_vendor_takes() {
    for (limit, seen) in [(3, 3), (0, 1), (usize::MAX, 10)] {
        let vendor = Fake {
            max_in_flight: limit,
            ..fake()
        };
        let slow = Arc::new(Slow::default());
        let client = Client::new(vendor, Instance::new("mine"))
            .unwrap()
            .with_transport(slow.clone());
        let client = Arc::new(client);
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.track(event()).await.is_ok() })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        assert_eq!(*slow.now.lock().unwrap(), (0, seen));
    }
}

/// Not the transport's TLS with all that it knows.
#[test]
fn debug_is_short() {
    let step = Step::new(7_u64, r#"{"email":"ada@example.com"}"#);
    assert_eq!(format!("{step:?}"), "Step { route: 7, body: 27 bytes }");
    let client = Client::new(fake(), Instance::new("mine")).unwrap();
    let shown = format!("{client:?}");
    assert!(shown.len() < 600 && shown.contains("mine"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_preview_shows_every_request_and_no_secret() {
    let vendor = Fake {
        gzip: true,
        ..fake()
    };
    let setup = setup_with(vendor, Instance::new("mine"), []);
    let event = event()
        .property("steps", json!([1, 2]))
        .property("echo", "hunter2 and YW55Omh1bnRlcjI=")
        .property("pad", "x".repeat(5000));
    let input = Input::new(event)
        .context(Context::new().message_id("m1"))
        .into_any();
    let previews = setup.client.preview(&input).unwrap();
    assert_eq!(previews.len(), 2);
    assert_eq!(previews[1].method, "PUT");
    assert_eq!(previews[1].url, "https://vendor.example/2?token=[redacted]");
    let headers = json!(previews[1].headers);
    let agent = headers["user-agent"].as_str().unwrap().to_owned();
    assert!(agent.starts_with("analytics-rust/"));
    assert_eq!(
        headers,
        json!({
            "authorization": "[redacted]",
            "content-type": "application/json",
            "user-agent": agent,
            "x-at": START,
            "x-retry": "0",
        })
    );
    let properties = &previews[1].body[0]["event"]["properties"];
    assert_eq!(properties["echo"], "[redacted] and [redacted]");
    let shown = format!("{previews:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    // Nothing was sent.
    assert!(setup.paths().is_empty());
    let shown = format!("{:?}", setup.client);
    assert!(!shown.contains("hunter2"), "{shown}");
}

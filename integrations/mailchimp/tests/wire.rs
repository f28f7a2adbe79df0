//! Every answer that Mailchimp documents, from a server on loopback, through
//! the whole client.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what the tests share may fail a test as well"
)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_http::BaseUrl;
use analytics_mailchimp::{
    Calls as _, Config, Context, Delete, Error, ErrorKind, Group, Identify, Input, Mailchimp,
    RegulationType, Track,
};
use analytics_spec::{
    ActivityPolicy, Clock, Policies, RetryPolicy, Status, Timestamp,
    clock::Sleep,
    config::{Instance, VendorConfig as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

const KEY: &str = "hunter2-us21";
const ADA: &str = "ada@example.com";
const ADA_PATH: &str = "/3.0/lists/aud1/members/3e3417d7ef77d5932a6734b916515ed5";

/// A clock that does not wait, and remembers for how long it should have.
#[derive(Debug, Default)]
struct FakeClock(Mutex<Vec<Duration>>);

impl FakeClock {
    fn pauses(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        "2026-03-01T12:05:06Z".parse().unwrap()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.0.lock().unwrap().push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

/// A scripted Mailchimp, a client of it, and the client's clock.
struct World {
    server: MockServer,
    clock: Arc<FakeClock>,
    mailchimp: Mailchimp,
}

impl World {
    /// Answers the first requests in their order, and 200 to all others.
    async fn new(answers: impl IntoIterator<Item = ResponseTemplate>) -> Self {
        Self::with(answers, |config| config).await
    }

    async fn with(
        answers: impl IntoIterator<Item = ResponseTemplate>,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let server = MockServer::start().await;
        for answer in answers {
            Mock::given(any())
                .respond_with(answer)
                .up_to_n_times(1)
                .mount(&server)
                .await;
        }
        Mock::given(any())
            .respond_with(member())
            .mount(&server)
            .await;
        let clock = Arc::new(FakeClock::default());
        let mailchimp = client(change(config(&server.uri())), clock.clone());
        Self {
            server,
            clock,
            mailchimp,
        }
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    async fn identify(&self) -> Result<Option<u16>, Error> {
        let output = self.mailchimp.identify(ada()).await?;
        assert_eq!(output.status, Status::Success);
        Ok(output.response.map(|response| response.status_code))
    }

    async fn track(&self) -> Result<Option<u16>, Error> {
        let event = Track::new("Order Completed").user_id(ADA);
        let output = self.mailchimp.track(event).await?;
        Ok(output.response.map(|response| response.status_code))
    }

    async fn delete(&self) -> Result<Option<u16>, Error> {
        let output = self.mailchimp.delete(Delete::new(ADA)).await?;
        Ok(output.response.map(|response| response.status_code))
    }
}

fn config(url: &str) -> Config {
    Config::new(KEY, "aud1").base_url(BaseUrl::new(url).unwrap())
}

fn client(config: Config, clock: Arc<FakeClock>) -> Mailchimp {
    config.build().unwrap().with_clock(clock)
}

fn ada() -> Identify {
    Identify::new()
        .user_id("u1")
        .trait_("email", ADA)
        .trait_("first_name", "Ada")
}

fn member() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"id": "3e34", "status": "unsubscribed"}))
}

fn problem(status: u16, title: &str, detail: &str) -> ResponseTemplate {
    let body = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
    ResponseTemplate::new(status).set_body_raw(body.to_string(), "application/problem+json")
}

/// The error of a request that is not made again.
async fn refused(answer: ResponseTemplate) -> Error {
    let world = World::new([answer]).await;
    let error = world.identify().await.unwrap_err();
    assert_eq!(world.requests().await.len(), 1);
    assert!(!error.is_retryable());
    assert_eq!(error.integration(), Some("mailchimp"));
    error
}

/// The pause before the second request, which is accepted.
async fn retried(answer: ResponseTemplate) -> Duration {
    let world = World::new([answer]).await;
    assert_eq!(world.identify().await.unwrap(), Some(200));
    let requests = world.requests().await;
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
    let pauses = world.clock.pauses();
    assert_eq!(pauses.len(), 1);
    pauses[0]
}

#[tokio::test]
async fn each_kind_is_one_request() {
    let world = World::with(
        [
            member(),
            ResponseTemplate::new(204),
            ResponseTemplate::new(204),
            ResponseTemplate::new(204),
        ],
        |config| config.group_as_tag(true).skip_merge_validation(true),
    )
    .await;
    let mailchimp = &world.mailchimp;
    let input = Input::new(ada()).context(Context::new().locale("en-GB"));
    let output = mailchimp.identify(input).await.unwrap();
    assert_eq!(
        output.response.unwrap().body,
        Some(json!({"id": "3e34", "status": "unsubscribed"}))
    );
    let track = Track::new("Order Completed")
        .user_id(ADA)
        .property("total", 42.5);
    mailchimp.track(track).await.unwrap();
    mailchimp
        .group(Group::new("g1").user_id(ADA))
        .await
        .unwrap();
    let output = mailchimp.delete(Delete::new(ADA)).await.unwrap();
    assert_eq!(output.response.unwrap().status_code, 204);

    let seen: Vec<_> = world
        .requests()
        .await
        .iter()
        .map(|request| {
            assert_eq!(
                request.headers["authorization"],
                "Basic YW55c3RyaW5nOmh1bnRlcjItdXMyMQ=="
            );
            assert!(!request.headers.contains_key("content-encoding"));
            let path = match request.url.query() {
                Some(query) => format!("{}?{query}", request.url.path()),
                None => request.url.path().to_owned(),
            };
            let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            (request.method.to_string(), path, body)
        })
        .collect();
    let expected = [
        (
            "PUT",
            "?skip_merge_validation=true",
            json!({
                "email_address": ADA,
                "status_if_new": "subscribed",
                "merge_fields": {"FNAME": "Ada"},
                "language": "en",
            }),
        ),
        (
            "POST",
            "/events",
            json!({
                "name": "Order_Completed",
                "properties": {"total": "42.5"},
                "occurred_at": "2026-03-01T12:05:06+00:00",
            }),
        ),
        (
            "POST",
            "/tags",
            json!({"tags": [{"name": "g1", "status": "active"}]}),
        ),
        ("DELETE", "", Value::Null),
    ]
    .map(|(method, rest, body)| (method.to_owned(), format!("{ADA_PATH}{rest}"), body));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn erasing_is_a_post_without_a_body() {
    let world = World::with([ResponseTemplate::new(204)], |config| {
        config.regulation_type(RegulationType::Delete)
    })
    .await;
    assert_eq!(world.delete().await.unwrap(), Some(204));
    let requests = world.requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method.as_str(), "POST");
    assert_eq!(
        requests[0].url.path(),
        format!("{ADA_PATH}/actions/delete-permanent")
    );
    assert!(requests[0].body.is_empty());
    // A POST without a length is refused by many gateways.
    assert_eq!(requests[0].headers["content-length"], "0");
}

#[tokio::test]
async fn what_breaks_a_rule_is_not_sent() {
    let world = World::new([]).await;
    let mailchimp = &world.mailchimp;
    let error = mailchimp
        .identify(Identify::new().user_id("u1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
    let error = mailchimp
        .group(Group::new("g1").user_id(ADA))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(world.requests().await.is_empty());
}

#[tokio::test]
async fn refusals_keep_mailchimps_words() {
    for (status, title, kind) in [
        (
            400,
            "Member In Compliance State",
            ErrorKind::RequestRejected,
        ),
        (
            400,
            "Forgotten Email Not Subscribed",
            ErrorKind::RequestRejected,
        ),
        (400, "Invalid Resource", ErrorKind::RequestRejected),
        (401, "API Key Invalid", ErrorKind::Unauthorized),
        (403, "User Action Not Permitted", ErrorKind::Unauthorized),
        (404, "Resource Not Found", ErrorKind::RequestRejected),
        (405, "Method Not Allowed", ErrorKind::RequestRejected),
    ] {
        let error = refused(problem(status, title, "the detail")).await;
        assert_eq!(error.kind(), kind, "{status}");
        let words = format!("{title}: the detail");
        assert!(error.message().contains(&words), "{error}");
        let response = error.response().unwrap();
        assert_eq!(response.status_code, status);
        assert_eq!(response.field("title"), Some(&json!(title)));
    }
}

#[tokio::test]
async fn an_answer_that_repeats_the_key_is_redacted() {
    let error = refused(problem(
        401,
        "API Key Invalid",
        &format!("{KEY} is not ours"),
    ))
    .await;
    let shown = format!("{error} {error:?} {:?}", error.response());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("[redacted] is not ours"), "{shown}");
}

#[tokio::test]
async fn what_passes_is_retried() {
    let soon = Duration::from_millis(250);
    for answer in [
        ResponseTemplate::new(403),
        ResponseTemplate::new(403).set_body_raw("<html>Access Denied</html>", "text/html"),
        ResponseTemplate::new(408),
        problem(408, "Request Timeout", "later"),
        problem(429, "Too Many Requests", "later"),
        problem(500, "Internal Server Error", "later"),
        ResponseTemplate::new(503),
    ] {
        assert_eq!(retried(answer).await, soon);
    }
    let later = problem(429, "Too Many Requests", "later").insert_header("retry-after", "17");
    assert_eq!(retried(later).await, Duration::from_secs(17));
}

#[tokio::test]
async fn an_address_that_signs_up_too_often_is_left_alone_for_a_while() {
    let detail = format!(
        "{ADA} has signed up to a lot of lists very recently; \
         we're not allowing more signups for now"
    );
    let answer = problem(400, "Invalid Resource", &detail);
    // It is the address that has to wait, for longer than a call can: the error
    // comes back, and an engine leaves everybody else alone.
    let world = World::new([answer]).await;
    let error = world.identify().await.unwrap_err();
    assert!(error.is_retryable());
    assert!(error.wait() >= Some(Duration::from_secs(600)));
    assert_eq!(error.retry_after(), None);
    assert!(world.clock.pauses().is_empty());
}

#[tokio::test]
async fn retries_end() {
    let world = World::new((0..20).map(|_| ResponseTemplate::new(500))).await;
    let error = world.identify().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
    assert_eq!(world.requests().await.len(), 10);
}

#[tokio::test]
async fn a_404_depends_on_the_kind() {
    let gone = || problem(404, "Resource Not Found", "could not be found");

    let world = World::new([gone()]).await;
    assert_eq!(world.delete().await.unwrap(), Some(404));
    let world = World::with([gone()], |config| {
        config.regulation_type(RegulationType::Delete)
    })
    .await;
    assert_eq!(world.delete().await.unwrap(), Some(404));

    let world = World::new([gone()]).await;
    let error = world.track().await.unwrap_err();
    assert!(error.message().contains("not a member"), "{error}");
    assert!(!error.is_retryable());
    let world = World::with([gone()], |config| config.group_as_tag(true)).await;
    let error = world
        .mailchimp
        .group(Group::new("g1").user_id(ADA))
        .await
        .unwrap_err();
    assert!(error.message().contains("not a member"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn who_cannot_be_archived_is_said_so() {
    let world = World::new([problem(405, "Method Not Allowed", "cannot be removed")]).await;
    let error = world.delete().await.unwrap_err();
    assert!(error.message().contains("already archived"), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(world.requests().await.len(), 1);
}

#[tokio::test]
async fn a_time_out_after_acceptance_is_followed_by_the_same_request() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(member().set_delay(Duration::from_secs(30)))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(any())
        .respond_with(member())
        .mount(&server)
        .await;
    let clock = Arc::new(FakeClock::default());
    let policy = ActivityPolicy::new()
        .single_attempt_timeout(Duration::from_millis(300))
        .retry_policy(RetryPolicy::new().maximum_attempts(2));
    let mailchimp = config(&server.uri())
        .build_as(Instance::new("eu").policies(Policies::new().request(policy)))
        .unwrap()
        .with_clock(clock.clone());
    let output = mailchimp.identify(ada()).await.unwrap();
    assert_eq!(output.response.unwrap().status_code, 200);
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].url, requests[1].url);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(clock.pauses().len(), 1);
}

/// Reads requests from one connection; answers each when the gate is open.
async fn serve(
    mut stream: TcpStream,
    waiting: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    mut gate: watch::Receiver<bool>,
) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            let text = String::from_utf8_lossy(&read).to_lowercase();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let length = head
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.lines().next()?.parse().ok())
                    .unwrap_or(0);
                let end = head.len() + 4 + length;
                if read.len() >= end {
                    break end;
                }
            }
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        read.drain(..end);
        let now = waiting.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        gate.wait_for(|open| *open).await.unwrap();
        waiting.fetch_sub(1, Ordering::SeqCst);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"id\":\"1\"}")
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_ten_requests_are_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (waiting, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (gate, is_open) = watch::channel(false);
    tokio::spawn({
        let (waiting, most) = (waiting.clone(), most.clone());
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (waiting, most) = (waiting.clone(), most.clone());
                tokio::spawn(serve(stream, waiting, most, is_open.clone()));
            }
        }
    });
    let mailchimp = Arc::new(client(config(&url), Arc::default()));
    let calls: Vec<_> = (0..30)
        .map(|n| {
            let mailchimp = mailchimp.clone();
            tokio::spawn(async move {
                let event = Identify::new().trait_("email", format!("user{n}@example.com"));
                mailchimp.identify(event).await
            })
        })
        .collect();
    // All ten places are taken, and stay so while nothing is answered.
    while waiting.load(Ordering::SeqCst) < 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(waiting.load(Ordering::SeqCst), 10);
    gate.send(true).unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 10);
}

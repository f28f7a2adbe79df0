//! What happens on the wire: every answer that Mixpanel documents, and what is
//! sent after it. Time is injected: no test waits for a retry.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::{
    io::Read as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use analytics_http::ReqwestTransport;
use analytics_mixpanel::{
    Alias, Calls as _, ComplianceType, Config, Context, Delete, Error, ErrorKind, Group, Identify,
    Input, Mixpanel, Page, Track,
};
use analytics_spec::{
    ActivityPolicy, AnyInput, Attempt, Clock, Delivery, Event, Integration as _, Policies,
    Progress, Timestamp, Value,
    clock::Sleep,
    config::{Instance, VendorConfig as _},
};
use serde_json::json;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

const TOKEN: &str = "project-token-1";
const DELETIONS: &str = "/api/app/data-deletions/v3.0/";

/// Stands still, never waits, and remembers for how long it should have.
#[derive(Clone, Debug, Default)]
struct StoppedClock(Arc<Mutex<Vec<Duration>>>);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        "2026-03-04T05:06:07.089Z".parse().unwrap()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.0.lock().unwrap().push(duration);
        Box::pin(async {})
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

impl StoppedClock {
    fn slept(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

fn config(server: &MockServer) -> Config {
    Config::new(TOKEN).base_url(server.uri().parse().unwrap())
}

fn build(config: Config, timeout: Duration) -> (Mixpanel, StoppedClock) {
    let clock = StoppedClock::default();
    let policy = ActivityPolicy::new().single_attempt_timeout(timeout);
    let instance = Instance::new("mp").policies(Policies::new().request(policy));
    // Every test has a runtime of its own, with which its connections end: the
    // transport that all clients share would hand them to the next test.
    let transport = Arc::new(ReqwestTransport::new().unwrap());
    let client = config
        .build_as(instance)
        .unwrap()
        .with_transport(transport)
        .with_clock(Arc::new(clock.clone()));
    (client, clock)
}

async fn project() -> (MockServer, Mixpanel, StoppedClock) {
    let server = MockServer::start().await;
    let (client, clock) = build(config(&server), Duration::from_secs(30));
    (server, client, clock)
}

fn imported(count: usize) -> ResponseTemplate {
    let body = json!({"code": 200, "num_records_imported": count, "status": "OK"});
    ResponseTemplate::new(200).set_body_json(body)
}

fn updated() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"status": 1, "error": null}))
}

fn status(status: u16, error: &str) -> ResponseTemplate {
    let body = json!({"code": status, "error": error, "status": "whatever"});
    ResponseTemplate::new(status).set_body_json(body)
}

/// Answers so, `times` times; then what is mounted after it.
async fn answer(server: &MockServer, to: &str, template: ResponseTemplate, times: u64) {
    Mock::given(method("POST"))
        .and(path(to))
        .respond_with(template)
        .up_to_n_times(times)
        .mount(server)
        .await;
}

async fn answer_always(
    server: &MockServer,
    to: &str,
    respond: impl Fn(&[Value]) -> ResponseTemplate + Send + Sync + 'static,
) {
    Mock::given(method("POST"))
        .and(path(to))
        .respond_with(move |request: &Request| {
            let records = json_of(request);
            respond(records.as_array().map_or(&[], Vec::as_slice))
        })
        .mount(server)
        .await;
}

fn is_gzipped(request: &Request) -> bool {
    request.headers.contains_key("content-encoding")
}

fn json_of(request: &Request) -> Value {
    if !is_gzipped(request) {
        return serde_json::from_slice(&request.body).unwrap();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(request.body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The requests that arrived, with their paths.
async fn arrived(server: &MockServer) -> Vec<(String, Value)> {
    let requests = server.received_requests().await.unwrap();
    let seen = |request: &Request| (request.url.path().to_owned(), json_of(request));
    requests.iter().map(seen).collect()
}

async fn paths(server: &MockServer) -> Vec<String> {
    arrived(server)
        .await
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

fn stamped(id: &str, event: impl Event) -> AnyInput {
    let mut input = Input::new(event)
        .context(Context::new().message_id(id))
        .into_any();
    input.stamp(StoppedClock::default().now());
    input
}

async fn deliver(client: &Mixpanel, inputs: &[AnyInput]) -> Vec<Result<Delivery, Error>> {
    let attempt = |input| Attempt {
        input,
        number: 1,
        progress: Progress::NONE,
        timeout: Duration::from_secs(30),
        deadline: None,
    };
    let attempts: Vec<_> = inputs.iter().map(attempt).collect();
    client.deliver_batch(&attempts).await
}

/// How many records each request carried.
async fn sizes(server: &MockServer) -> Vec<usize> {
    let of = |(_, body): (String, Value)| body.as_array().unwrap().len();
    arrived(server).await.into_iter().map(of).collect()
}

// /import

#[tokio::test]
async fn an_accepted_event_is_delivered_in_one_request() {
    let (server, client, clock) = project().await;
    answer(&server, "/import", imported(1), 1).await;
    let output = client.track(Track::new("E").user_id("u1")).await.unwrap();
    assert_eq!(output.response.unwrap().status_code, 200);
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].url.query(), Some("strict=1"));
    let authorization = &requests[0].headers["authorization"];
    assert_eq!(authorization, "Basic cHJvamVjdC10b2tlbi0xOg==");
    assert_eq!(clock.slept(), []);
}

#[tokio::test]
async fn events_are_compressed_and_profiles_are_not() {
    let (server, client, _) = project().await;
    answer(&server, "/import", imported(1), 1).await;
    answer(&server, "/engage", updated(), 2).await;
    answer(&server, "/groups", updated(), 1).await;
    let long = "x".repeat(5_000);
    client
        .track(Track::new("E").user_id("u1").property("p", long.as_str()))
        .await
        .unwrap();
    client
        .identify(Identify::new().user_id("u1").trait_("t", long.as_str()))
        .await
        .unwrap();
    client
        .group(Group::new("g1").user_id("u1").trait_("t", long.as_str()))
        .await
        .unwrap();
    let requests = server.received_requests().await.unwrap();
    let seen: Vec<_> = requests
        .iter()
        .map(|r| (r.url.path(), is_gzipped(r)))
        .collect();
    assert_eq!(
        seen,
        [
            ("/import", true),
            ("/engage", false),
            ("/groups", false),
            ("/engage", false)
        ]
    );
    assert_eq!(json_of(&requests[0])[0]["properties"]["p"], long.as_str());
}

#[tokio::test]
async fn a_partial_success_refuses_only_the_records_that_it_names() {
    let (server, client, _) = project().await;
    let partial = json!({
        "code": 400, "status": "Bad Request", "num_records_imported": 2,
        "error": "some data points in the request failed validation",
        "failed_records": [{"index": 1, "insert_id": "m1", "field": "properties.time",
            "message": "'properties.time' is invalid: too far away"}],
    });
    answer(
        &server,
        "/import",
        ResponseTemplate::new(400).set_body_json(partial),
        1,
    )
    .await;
    let inputs = ["m0", "m1", "m2"].map(|id| stamped(id, Track::new("E").user_id(id)));
    let outcomes = deliver(&client, &inputs).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestRejected);
    assert!(!error.is_retryable());
    assert_eq!(
        error.message(),
        "Mixpanel refused the record: 'properties.time' is invalid: too far away"
    );
    assert_eq!(sizes(&server).await, [3]);
}

#[tokio::test]
async fn what_mixpanel_refuses_for_good_is_sent_once() {
    for (template, kind, said) in [
        (
            status(400, "data, missing"),
            ErrorKind::RequestRejected,
            "data, missing",
        ),
        (
            status(401, "Invalid credentials"),
            ErrorKind::Unauthorized,
            "Invalid credentials",
        ),
        (
            status(403, "no access"),
            ErrorKind::Unauthorized,
            "no access",
        ),
        (
            status(413, "exceeds max limit"),
            ErrorKind::TooLarge,
            "exceeds max limit",
        ),
    ] {
        let (server, client, clock) = project().await;
        answer(&server, "/import", template, 10).await;
        let error = client
            .track(Track::new("E").user_id("u1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(!error.is_retryable());
        assert!(error.message().contains(said), "{error}");
        assert_eq!(error.integration(), Some("mp"));
        assert_eq!(paths(&server).await.len(), 1);
        assert_eq!(clock.slept(), []);
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved() {
    let (server, client, _) = project().await;
    answer_always(&server, "/import", |records| match records.len() {
        1 | 2 => imported(records.len()),
        _ => status(413, "request exceeds max limit of 2097152 bytes"),
    })
    .await;
    let inputs: Vec<_> = (0..5)
        .map(|n| stamped(&format!("m{n}"), Track::new("E").user_id(format!("u{n}"))))
        .collect();
    let outcomes = deliver(&client, &inputs).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(sizes(&server).await, [5, 2, 2, 1]);
    let mut ids = Vec::new();
    for (_, body) in arrived(&server).await.into_iter().skip(1) {
        let records = body.as_array().unwrap().clone();
        ids.extend(
            records
                .into_iter()
                .map(|r| r["properties"]["$insert_id"].clone()),
        );
    }
    assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4"]);
}

#[tokio::test]
async fn a_full_route_begins_another_request() {
    let (server, client, _) = project().await;
    answer_always(&server, "/import", |records| imported(records.len())).await;
    let long = "x".repeat(700_000);
    let inputs: Vec<_> = (0..3)
        .map(|n| {
            let event = Track::new("E").user_id(format!("u{n}"));
            stamped(&format!("m{n}"), event.property("p", long.as_str()))
        })
        .collect();
    assert!(deliver(&client, &inputs).await.iter().all(Result::is_ok));
    assert_eq!(sizes(&server).await, [2, 1]);
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let (server, client, clock) = project().await;
    let limited = status(429, "slower").insert_header("Retry-After", "17");
    answer(&server, "/import", limited, 1).await;
    answer(&server, "/import", status(429, "slower"), 1).await;
    answer(&server, "/import", imported(1), 1).await;
    client.track(Track::new("E").user_id("u1")).await.unwrap();
    let seconds: Vec<_> = clock.slept().iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [17, 1], "what is asked for, then half of 2 s");
    let bodies = arrived(&server).await;
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn a_failure_of_the_server_is_retried_with_pauses_that_double() {
    let (server, client, clock) = project().await;
    for code in [500, 502, 503] {
        answer(
            &server,
            "/import",
            ResponseTemplate::new(code).set_body_string("<html>"),
            1,
        )
        .await;
    }
    answer(&server, "/import", imported(1), 1).await;
    client.page(Page::new("P").user_id("u1")).await.unwrap();
    let seconds: Vec<_> = clock.slept().iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [1, 2, 4], "half of 2 s, 4 s, 8 s");
    let bodies = arrived(&server).await;
    assert_eq!(bodies.len(), 4);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn an_answer_that_is_not_mixpanels_is_no_success() {
    let (server, client, clock) = project().await;
    answer(
        &server,
        "/import",
        ResponseTemplate::new(200).set_body_string("<html>"),
        1,
    )
    .await;
    answer(&server, "/import", ResponseTemplate::new(200), 1).await;
    answer(&server, "/import", imported(1), 1).await;
    client.track(Track::new("E").user_id("u1")).await.unwrap();
    assert_eq!(clock.slept().len(), 2);
}

#[tokio::test]
async fn an_event_that_arrived_before_the_time_out_is_recognised_in_the_retry() {
    let server = MockServer::start().await;
    let (client, clock) = build(config(&server), Duration::from_millis(200));
    answer(
        &server,
        "/import",
        imported(1).set_delay(Duration::from_secs(60)),
        1,
    )
    .await;
    answer(&server, "/import", imported(1), 1).await;
    client.track(Track::new("E").user_id("u1")).await.unwrap();
    let seen: Vec<_> = arrived(&server)
        .await
        .into_iter()
        .map(|(_, body)| {
            let p = &body[0]["properties"];
            let keys = ["time", "distinct_id", "$insert_id"];
            (body[0]["event"].clone(), keys.map(|key| p[key].clone()))
        })
        .collect();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1[2].as_str().unwrap().len(), 36);
    assert_eq!(clock.slept().len(), 1);
}

// /engage and /groups

#[tokio::test]
async fn a_200_that_says_no_is_a_failure() {
    for (body, said) in [
        (json!(0), "no reason given"),
        (
            json!({"status": 0, "error": "$token, missing"}),
            "$token, missing",
        ),
    ] {
        for to in ["/engage", "/groups"] {
            let (server, client, clock) = project().await;
            let refused = ResponseTemplate::new(200).set_body_json(body.clone());
            answer(&server, to, refused, 10).await;
            let event = Group::new("g1").user_id("u1");
            let event = if to == "/groups" {
                event.trait_("name", "G")
            } else {
                event
            };
            let error = client.group(event).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RequestRejected);
            assert!(error.message().contains(said), "{error}");
            assert_eq!(error.response().unwrap().status_code, 200);
            assert_eq!(paths(&server).await, [to]);
            assert_eq!(clock.slept(), []);
        }
    }
}

#[tokio::test]
async fn one_bad_profile_does_not_cost_the_others() {
    let (server, client, _) = project().await;
    answer_always(&server, "/engage", |records| {
        if records.iter().any(|r| r["$distinct_id"] == "u2") {
            let refused = json!({"status": 0, "error": "$set is bad"});
            ResponseTemplate::new(200).set_body_json(refused)
        } else {
            updated()
        }
    })
    .await;
    let inputs: Vec<_> = (0..5)
        .map(|n| {
            let event = Identify::new().user_id(format!("u{n}")).trait_("n", n);
            stamped(&format!("m{n}"), event)
        })
        .collect();
    let outcomes = deliver(&client, &inputs).await;
    let good: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, true, true]);
    let error = outcomes[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestRejected);
    assert!(error.message().contains("$set is bad"), "{error}");
}

#[tokio::test]
async fn one_bad_event_that_is_not_named_does_not_cost_the_others() {
    let (server, client, clock) = project().await;
    answer_always(&server, "/import", |records| {
        if records.iter().any(|r| r["properties"]["bad"] == true) {
            status(400, "the data cannot be read")
        } else {
            imported(records.len())
        }
    })
    .await;
    let inputs: Vec<_> = (0..5)
        .map(|n| {
            let event = Track::new("E").user_id(format!("u{n}"));
            stamped(&format!("m{n}"), event.property("bad", n == 2))
        })
        .collect();
    let outcomes = deliver(&client, &inputs).await;
    let good: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, true, true]);
    let error = outcomes[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestRejected);
    assert!(!error.is_retryable());
    assert!(error.message().contains("cannot be read"), "{error}");
    assert_eq!(clock.slept(), []);
}

#[tokio::test]
async fn a_profile_that_is_named_is_refused_alone() {
    let (server, client, _) = project().await;
    let partial = json!({
        "code": 400, "status": "Bad Request", "error": "some records failed validation",
        "num_records_imported": 1, "failed_records": [{"index": 0, "message": "$set is bad"}],
    });
    answer(
        &server,
        "/engage",
        ResponseTemplate::new(400).set_body_json(partial),
        1,
    )
    .await;
    let inputs = ["u0", "u1"].map(|id| stamped(id, Delete::new(id)));
    let outcomes = deliver(&client, &inputs).await;
    assert!(outcomes[0].is_err() && outcomes[1].is_ok());
    assert_eq!(sizes(&server).await, [2]);
}

#[tokio::test]
async fn a_retry_repeats_only_the_step_that_has_not_succeeded() {
    let (server, client, _) = project().await;
    answer(&server, "/import", imported(1), 10).await;
    answer(&server, "/engage", ResponseTemplate::new(503), 2).await;
    answer(&server, "/engage", updated(), 1).await;
    let event = Identify::new()
        .user_id("u1")
        .anonymous_id("a1")
        .trait_("n", 1);
    client.identify(event).await.unwrap();
    assert_eq!(
        paths(&server).await,
        ["/import", "/engage", "/engage", "/engage"]
    );
}

#[tokio::test]
async fn a_step_waits_for_the_one_before() {
    let (server, client, _) = project().await;
    answer(&server, "/groups", status(500, "down"), 1).await;
    answer(&server, "/groups", updated(), 1).await;
    answer(&server, "/engage", updated(), 1).await;
    client
        .group(Group::new("g1").user_id("u1").trait_("name", "G"))
        .await
        .unwrap();
    assert_eq!(paths(&server).await, ["/groups", "/groups", "/engage"]);
}

#[tokio::test]
async fn events_of_several_kinds_share_requests_where_they_may() {
    let (server, client, _) = project().await;
    answer_always(&server, "/import", |records| imported(records.len())).await;
    answer_always(&server, "/engage", |_| updated()).await;
    let inputs = [
        stamped(
            "m0",
            Identify::new()
                .user_id("u0")
                .anonymous_id("a0")
                .trait_("n", 0),
        ),
        stamped("m1", Track::new("E").user_id("u1")),
        stamped("m2", Identify::new().user_id("u2").trait_("n", 2)),
        stamped("m3", Track::new("E").user_id("u0")),
    ];
    assert!(deliver(&client, &inputs).await.iter().all(Result::is_ok));
    let seen: Vec<_> = arrived(&server)
        .await
        .into_iter()
        .map(|(path, body)| (path, body.as_array().unwrap().len()))
        .collect();
    let expected = [("/import", 2), ("/engage", 2), ("/import", 1)];
    assert_eq!(seen, expected.map(|(path, n)| (path.to_owned(), n)));
}

// deletions

#[tokio::test]
async fn a_deletion_is_delivered_when_mixpanel_names_a_task() {
    let server = MockServer::start().await;
    let config = config(&server).gdpr_deletion("oauth-1", ComplianceType::Gdpr);
    let (client, clock) = build(config, Duration::from_secs(30));
    answer(&server, DELETIONS, status(429, "slower"), 1).await;
    let task = json!({"status": "ok", "results": {"task_id": "t1"}});
    answer(
        &server,
        DELETIONS,
        ResponseTemplate::new(201).set_body_json(task),
        1,
    )
    .await;
    let output = client.delete(Delete::new("u1")).await.unwrap();
    assert_eq!(output.response.unwrap().status_code, 201);
    assert_eq!(clock.slept().len(), 1);
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests[1].url.query(), Some("token=project-token-1"));
    assert_eq!(&requests[1].headers["authorization"], "Bearer oauth-1");
}

#[tokio::test]
async fn a_deletion_that_is_refused_is_not_delivered() {
    for (code, body, kind) in [
        (
            200,
            json!({"status": "error", "error": "no such project"}),
            ErrorKind::Unauthorized,
        ),
        // In an id, these words are nobody's fault but that id's.
        (
            200,
            json!({"status": "error", "error": "unknown id \"invalid token\""}),
            ErrorKind::RequestRejected,
        ),
        (
            200,
            json!({"status": "ok", "results": []}),
            ErrorKind::RequestRejected,
        ),
        (
            401,
            json!({"status": "error", "error": "expired"}),
            ErrorKind::Unauthorized,
        ),
        (
            403,
            json!({"status": "error", "error": "not yours"}),
            ErrorKind::Unauthorized,
        ),
    ] {
        let server = MockServer::start().await;
        let config = config(&server).gdpr_deletion("oauth-1", ComplianceType::Gdpr);
        let (client, _) = build(config, Duration::from_secs(30));
        answer(
            &server,
            DELETIONS,
            ResponseTemplate::new(code).set_body_json(body),
            10,
        )
        .await;
        let error = client.delete(Delete::new("u1")).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(!error.is_retryable());
        assert_eq!(paths(&server).await.len(), 1);
    }
}

#[tokio::test]
async fn one_deletion_that_mixpanel_does_not_take_does_not_cost_the_others() {
    let invalid = json!({"status": "error", "error": "distinct_ids[1] is invalid"});
    for code in [200, 400, 422] {
        let server = MockServer::start().await;
        let invalid = invalid.clone();
        Mock::given(path(DELETIONS))
            .respond_with(move |request: &Request| {
                let ids = json_of(request)["distinct_ids"].clone();
                if ids.as_array().unwrap().contains(&json!("poison")) {
                    ResponseTemplate::new(code).set_body_json(&invalid)
                } else {
                    let task = json!({"status": "ok", "results": {"task_id": "t1"}});
                    ResponseTemplate::new(201).set_body_json(task)
                }
            })
            .mount(&server)
            .await;
        let config = config(&server).gdpr_deletion("oauth-1", ComplianceType::Gdpr);
        let (client, _) = build(config, Duration::from_secs(30));
        let inputs = ["u0", "poison", "u2"].map(|id| stamped(id, Delete::new(id)));
        let outcomes = deliver(&client, &inputs).await;
        let good: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, true], "{code}");
        let error = outcomes[1].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestRejected);
        assert!(error.message().contains("is invalid"), "{error}");
    }
}

// nothing is sent, nothing is shown

#[tokio::test]
async fn what_cannot_be_sent_is_not() {
    let (server, client, _) = project().await;
    let alias = client.alias(Alias::new("u0", "u1")).await.unwrap_err();
    assert_eq!(alias.kind(), ErrorKind::Unsupported);
    let empty = client
        .identify(Identify::new().user_id("u1"))
        .await
        .unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Validation);
    let nobody = client
        .track(Track::new("E").user_id("null"))
        .await
        .unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Validation);
    assert_eq!(paths(&server).await.len(), 0);
}

#[tokio::test]
async fn no_secret_comes_back() {
    let server = MockServer::start().await;
    let config = config(&server)
        .service_account("1234", "account-1", "hunter-secret")
        .gdpr_deletion("hunter-oauth", ComplianceType::Gdpr);
    let (client, _) = build(config, Duration::from_secs(30));
    let echo = "project-token-1 hunter-secret hunter-oauth";
    for to in ["/import", "/engage", DELETIONS] {
        answer(&server, to, status(401, echo), 10).await;
    }
    let mut shown = String::new();
    let inputs = [
        stamped("m1", Track::new("E").user_id("u1")),
        stamped("m2", Identify::new().user_id("u2").trait_("n", 1)),
        stamped("m3", Delete::new("u3")),
    ];
    for input in &inputs {
        for preview in client.preview(input).unwrap() {
            shown.push_str(&serde_json::to_string(&preview).unwrap());
        }
    }
    for outcome in deliver(&client, &inputs).await {
        let error = outcome.unwrap_err();
        shown.push_str(&format!("{error} {error:?} {:?}", error.response()));
    }
    assert!(shown.contains("[redacted]"), "{shown}");
    for secret in ["project-token-1", "hunter", "aHVudGVy", "YWNjb3VudC0x"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

//! An endpoint that gets one event in a request, and one that gets several and
//! answers for each, conform.

#![allow(clippy::expect_used, reason = "helpers of tests, which may panic")]

use analytics_testkit::{Answer, Request, conformance::Suite};
use analytics_webhook::{Batch, Config, Endpoint, Method};
use serde_json::{Value, json};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const API_KEY: &str = "endpoint-api-key-4Qs9";

/// What says when a request was sent.
const VOLATILE: [&str; 2] = ["webhook-timestamp", "webhook-signature"];

/// 425: the endpoint would not take it yet (RFC 8470, section 5.2).
fn is_too_early(_: &Request, status: u16) -> bool {
    status == 425
}

fn endpoint(url: &str) -> Endpoint {
    url.parse().expect("a URL")
}

#[tokio::test]
async fn one_event_in_a_request_conforms() {
    Suite::new(|| {
        Config::new(endpoint("https://receiver.example/events?source=shop"))
            .secret(SECRET)
            .secret(OLD_SECRET)
            .header("Authorization", format!("Bearer {API_KEY}"))
    })
    .secrets([API_KEY])
    .signing_secrets([SECRET, OLD_SECRET])
    .volatile(VOLATILE)
    .delete_has_traits()
    // What has taken a request says so with the status.
    .says_nothing(|_| true)
    .refuses_by_status()
    .takes_all_or_nothing()
    .retries(is_too_early)
    .accepts_whatever()
    .run()
    .await;
}

const URL_TOKEN: &str = "T0a1b2c3d4e5f6";

fn batches() -> Config {
    Config::new(endpoint(&format!(
        "https://hooks.example/in/{URL_TOKEN}?zone=north"
    )))
    .url_is_secret()
    .method(Method::Put)
    .secret(SECRET)
    .header("x-api-key", API_KEY)
    .gzip()
    .batch(Batch::new().results())
}

/// A result for each event of a request.
fn results(request: &Request, result: impl Fn(usize) -> Value) -> Answer {
    let body = request.body_json().unwrap_or_default();
    let events = body.get("batch").and_then(Value::as_array);
    let events = events.map_or(0, Vec::len);
    let results: Vec<_> = (0..events).map(result).collect();
    Answer::json(200, &json!({ "results": results }))
}

#[tokio::test]
async fn batches_with_results_conform() {
    let taken = || json!({"status": 200});
    let refused = || json!({"status": 422, "message": "no such plan"});
    let later = || json!({"status": 503, "message": "try later"});
    Suite::new(batches)
        .secrets([API_KEY, URL_TOKEN])
        .signing_secrets([SECRET])
        .volatile(VOLATILE)
        .delete_has_traits()
        .answers(move |request| results(request, |_| taken()))
        .refusal(move |request| Some(results(request, |_| refused())))
        .refuses_item(move |request, refuse| {
            let result = |item| if item == refuse { refused() } else { taken() };
            Some(results(request, result))
        })
        .delays_item(move |request, delay| {
            let result = |item| if item == delay { later() } else { taken() };
            Some(results(request, result))
        })
        .retries(is_too_early)
        .accepts_whatever()
        .credentials_in_url()
        .snapshots("tests/conformance/batch")
        .run()
        .await;
}

//! Amplitude conforms, through either API for events.

use analytics_amplitude::{Alias, Api, Config, Context, Identify, Input, Page, Region, Track};
use analytics_spec::{Kind, KindSet, Value};
use analytics_testkit::{Answer, Request, conformance::Suite};
use serde_json::json;

const API_KEY: &str = "amplitude-api-key-4Qs9";
const SECRET_KEY: &str = "amplitude-secret-key-7Hd2";

/// The kinds that become events.
fn events() -> KindSet {
    KindSet::ALL.without(Kind::Alias).without(Kind::Delete)
}

fn accepted(request: &Request) -> Answer {
    let body = match request.path.as_str() {
        "/2/httpapi" | "/batch" => {
            let body = request.body_json().unwrap_or_default();
            let events = body.get("events").and_then(Value::as_array);
            json!({
                "code": 200,
                "events_ingested": events.map_or(0, Vec::len),
                "payload_size_bytes": request.body.len(),
                "server_upload_time": 1_772_366_400_000_i64,
            })
        }
        "/usermap" => return Answer::text(200, "success"),
        _ => json!({"day": "2026-03-20", "status": "staging", "amplitude_ids": []}),
    };
    Answer::json(200, &body)
}

fn refused(request: &Request) -> Option<Answer> {
    let body = match request.path.as_str() {
        "/2/httpapi" | "/batch" => json!({"code": 200, "events_ingested": 0}),
        // Of what is not documented, an error is known by its key.
        "/usermap" => json!({"error": "invalid_mapping"}),
        _ => json!({"error": "no job"}),
    };
    Some(Answer::json(200, &body))
}

fn with_answers(suite: Suite) -> Suite {
    suite
        .secrets([API_KEY, SECRET_KEY])
        .answers(accepted)
        // What it answers is not documented.
        .says_nothing(|request| request.path == "/usermap")
        .refusal(refused)
        .takes_all_or_nothing()
        // Who is to be deleted may be known to Amplitude soon.
        .retries(|request, status| request.path == "/api/2/deletions/users" && status == 400)
        .message_id_in(events())
        .timestamp_in(events())
        .means(Kind::Alias, "user_id", "previous_user_id")
        // As Amplitude documents for what comes through Segment.
        .screens_are_pages()
        .invalid(Identify::new().trait_("plan", "team"))
        .invalid(Track::new("Order Completed").user_id("null"))
        .invalid(Track::new("Order Completed").user_id("u1"))
        .invalid(Track::new("[Amplitude] Revenue").user_id("user-1"))
        .invalid(Track::new("x".repeat(1_025)).user_id("user-1"))
        .invalid(Page::new("Pricing").anonymous_id("Anonymous"))
        .invalid(Alias::new("u0", "user-1"))
        .invalid(in_session("yesterday"))
}

fn in_session(session: &str) -> Input<Track> {
    let mut context = Context::new();
    context
        .extra
        .insert("session_id".to_owned(), json!(session));
    Input::new(Track::new("Order Completed").user_id("user-1")).context(context)
}

#[tokio::test]
async fn conforms() {
    with_answers(Suite::new(|| Config::new(API_KEY).secret_key(SECRET_KEY)))
        .also("without a secret key", || Config::new(API_KEY))
        .run()
        .await;
}

#[tokio::test]
async fn conforms_with_the_batch_api_in_the_eu() {
    let config = || {
        Config::new(API_KEY)
            .secret_key(SECRET_KEY)
            .api(Api::Batch)
            .region(Region::Eu)
            .group_type("company")
            .min_id_length(3)
    };
    with_answers(Suite::new(config))
        .also("without a secret key", move || {
            Config::new(API_KEY).api(Api::Batch)
        })
        .snapshots("tests/conformance/batch")
        .run()
        .await;
}

//! Segment conforms, with and without a token of the Public API.

use analytics_segment::{Config, Identify};
use analytics_spec::{Kind, KindSet};
use analytics_testkit::{Answer, conformance::Suite};
use serde_json::json;

const WRITE_KEY: &str = "write-key-4Qz8";
const TOKEN: &str = "public-api-token-7Lk2";

#[tokio::test]
async fn conforms() {
    let messages = KindSet::ALL.without(Kind::Delete);
    Suite::new(|| Config::new(WRITE_KEY).public_api_token(TOKEN))
        .also("without a token", || Config::new(WRITE_KEY))
        .secrets([WRITE_KEY, TOKEN])
        .answers(|request| match request.path.as_str() {
            "/regulations" => Answer::json(200, &json!({"data": {"regulateId": "r-1"}})),
            _ => Answer::json(200, &json!({"success": true})),
        })
        .refusal(|request| match request.path.as_str() {
            "/regulations" => Some(Answer::json(200, &json!({"data": {}}))),
            _ => Some(Answer::json(200, &json!({"success": false}))),
        })
        .takes_all_or_nothing()
        // As Segment's own libraries do.
        .retries(|request, status| {
            request.path != "/regulations" && [410, 460].contains(&status)
        })
        .volatile(["sentAt"])
        .message_id_in(messages)
        .timestamp_in(messages)
        .invalid(Identify::new().trait_("plan", "Atlas"))
        .invalid(
            Identify::new()
                .user_id("u1")
                .trait_("long", "x".repeat(40_000)),
        )
        .run()
        .await;
}

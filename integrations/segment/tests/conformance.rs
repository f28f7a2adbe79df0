//! Segment conforms, with and without a token of the Public API.

use analytics_segment::{Config, Identify, Region, RegulationType};
use analytics_spec::{Kind, KindSet};
use analytics_testkit::{Answer, Request, conformance::Suite};
use serde_json::json;

const WRITE_KEY: &str = "write-key-4Qz8";
const TOKEN: &str = "public-api-token-7Lk2";

fn is_regulation(request: &Request) -> bool {
    request.path.starts_with("/regulations")
}

#[tokio::test]
async fn conforms() {
    let messages = KindSet::ALL.without(Kind::Delete);
    Suite::new(|| Config::new(WRITE_KEY).public_api_token(TOKEN))
        .also("without a token", || Config::new(WRITE_KEY))
        .also("in the EU, deletions of one source", || {
            Config::new(WRITE_KEY)
                .region(Region::Eu)
                .public_api_token(TOKEN)
                .regulation_type(RegulationType::DeleteOnly)
                .source_id("source-1")
        })
        .secrets([WRITE_KEY, TOKEN])
        .answers(|request| match is_regulation(request) {
            true => Answer::json(200, &json!({"data": {"regulateId": "r-1"}})),
            false => Answer::json(200, &json!({"success": true})),
        })
        .refusal(|request| match is_regulation(request) {
            true => Some(Answer::json(200, &json!({"data": {}}))),
            false => Some(Answer::json(200, &json!({"success": false}))),
        })
        .takes_all_or_nothing()
        // As Segment's own libraries do.
        .retries(|request, status| {
            !is_regulation(request) && [410, 460].contains(&status)
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

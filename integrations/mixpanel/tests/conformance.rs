//! Mixpanel conforms, with either identity merge: once with a service account
//! and deletion of profiles, once with the token alone and deletion by law.

use analytics_mixpanel::{ComplianceType, Config, Group, IdMerge, Identify, Page, Region, Track};
use analytics_spec::{Kind, KindSet, Value};
use analytics_testkit::{
    Answer, Request,
    conformance::{Suite, USER_ID},
};
use serde_json::json;

const TOKEN: &str = "project-token-8Rt5";
const ACCOUNT_SECRET: &str = "service-account-secret-3Wn6";
const OAUTH_TOKEN: &str = "oauth-token-6Jd1";

/// The kinds that become events of `/import`.
const EVENTS: [Kind; 4] = [Kind::Identify, Kind::Track, Kind::Page, Kind::Screen];

fn simplified() -> Config {
    Config::new(TOKEN).service_account("3120987", "importer.f2e1", ACCOUNT_SECRET)
}

fn original() -> Config {
    Config::new(TOKEN)
        .id_merge(IdMerge::Original)
        .group_key("company")
        .gdpr_deletion(OAUTH_TOKEN, ComplianceType::Gdpr)
}

fn accepted(request: &Request) -> Answer {
    match request.path.as_str() {
        "/import" => Answer::json(
            200,
            &json!({"code": 200, "num_records_imported": records(request).len(), "status": "OK"}),
        ),
        "/engage" | "/groups" => Answer::json(200, &json!({"status": 1, "error": null})),
        _ => Answer::json(
            200,
            &json!({"status": "ok", "results": {"task_id": "task-1"}}),
        ),
    }
}

fn refused(request: &Request) -> Option<Answer> {
    match request.path.as_str() {
        "/import" => None,
        "/engage" | "/groups" => Some(json!({"status": 0, "error": "$token, missing or empty"})),
        _ => Some(json!({"status": "error", "error": "no such project"})),
    }
    .map(|body| Answer::json(200, &body))
}

fn item_refused(request: &Request, index: usize) -> Option<Answer> {
    (request.path == "/import").then(|| {
        Answer::json(
            400,
            &json!({
                "code": 400,
                "error": "some data points in the request failed validation",
                "status": "Bad Request",
                "num_records_imported": records(request).len() - 1,
                "failed_records": [{
                    "index": index,
                    "field": "properties.time",
                    "message": "'properties.time' is invalid",
                }],
            }),
        )
    })
}

fn records(request: &Request) -> Vec<Value> {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

fn with_answers(suite: Suite) -> Suite {
    suite
        .answers(accepted)
        .refusal(refused)
        .refuses_item(item_refused)
        .delays_no_item()
        .means(Kind::Alias, "distinct_id", "previous_user_id")
        .invalid(Identify::new().user_id(USER_ID))
        .invalid(Track::new("Order Completed").user_id("null"))
        .invalid(Track::new("$create_alias").user_id("u1"))
        .invalid(Page::new("Pricing").anonymous_id("anonymous"))
        .invalid(Group::new("group-1").user_id("0"))
        .invalid(
            Track::new("Order Completed")
                .user_id("u1")
                .property("seats", (0..255).collect::<Vec<_>>()),
        )
}

#[tokio::test]
async fn conforms() {
    with_answers(Suite::new(simplified))
        .also("original", || simplified().id_merge(IdMerge::Original))
        .also("in the EU", || simplified().region(Region::Eu))
        .also("in India", || simplified().region(Region::In))
        .also("with names of its own", || {
            simplified()
                .group_key("company")
                .page_name("Page {name}")
                .screen_name("Screen {name}")
        })
        .secrets([TOKEN, ACCOUNT_SECRET])
        .message_id_in(KindSet::from(EVENTS).with(Kind::Alias))
        .timestamp_in(KindSet::from(EVENTS).with(Kind::Alias))
        .run()
        .await;
}

#[tokio::test]
async fn conforms_with_the_original_identity_merge() {
    with_answers(Suite::new(original))
        .also("simplified", simplified)
        .also("for the CCPA", || {
            original().gdpr_deletion(OAUTH_TOKEN, ComplianceType::Ccpa)
        })
        .secrets([TOKEN, OAUTH_TOKEN, ACCOUNT_SECRET])
        // A deletion names the project so.
        .credentials_in_url()
        .message_id_in(KindSet::from(EVENTS).with(Kind::Alias))
        .timestamp_in(KindSet::from(EVENTS).with(Kind::Alias))
        .snapshots("tests/conformance/original")
        .run()
        .await;
}

//! PostHog conforms: with deletion and without, with either choice of profiles.

use analytics_posthog::{Alias, Config, Identify, Page, Region, Track};
use analytics_spec::{Kind, KindSet};
use analytics_testkit::{Answer, Request, conformance::Suite};
use serde_json::json;

const PROJECT_KEY: &str = "phc_project-key-4Qs9";
const PERSONAL_KEY: &str = "phx_personal-key-8Hd2";

fn is_deletion(request: &Request) -> bool {
    request.path.ends_with("/persons/bulk_delete/")
}

fn accepted(request: &Request) -> Answer {
    if is_deletion(request) {
        let body = json!({"persons_found": 1, "persons_deleted": 1, "deletion_errors": []});
        Answer::json(202, &body)
    } else {
        Answer::json(200, &json!({"status": "Ok"}))
    }
}

fn refused(request: &Request) -> Answer {
    if is_deletion(request) {
        let failed = json!([{"person_uuid": "01890a5d-ac96-774b-bcce-b302099a8057"}]);
        Answer::json(202, &json!({"persons_found": 1, "deletion_errors": failed}))
    } else {
        Answer::json(200, &json!({"status": "Ok", "quota_limited": ["events"]}))
    }
}

#[tokio::test]
async fn conforms() {
    let captured = KindSet::ALL.without(Kind::Delete);
    Suite::new(|| Config::new(PROJECT_KEY).deletion("73155", PERSONAL_KEY))
        .also("without deletion", || {
            Config::new(PROJECT_KEY).historical_migration(true)
        })
        .also("in the EU, with a group type", || {
            Config::new(PROJECT_KEY)
                .region(Region::Eu)
                .deletion("73155", PERSONAL_KEY)
                .group_type("team")
        })
        .secrets([PROJECT_KEY, PERSONAL_KEY])
        .answers(accepted)
        .refusal(|request| Some(refused(request)))
        .takes_all_or_nothing()
        .means(Kind::Alias, "distinct_id", "previous_user_id")
        .message_id_in(captured)
        .timestamp_in(captured)
        .invalid(Identify::new().trait_("plan", "Atlas"))
        .invalid(Identify::new().anonymous_id("anon-1"))
        .invalid(Identify::new().user_id("Guest"))
        .invalid(Alias::new("null", "u1"))
        .invalid(Page::new("Pricing").user_id("u".repeat(201)))
        .invalid(Track::new("e".repeat(201)).user_id("u1"))
        .invalid(Track::new("$merge_dangerously").user_id("u1"))
        .invalid(
            Track::new("Order Completed")
                .user_id("u1")
                .property("note", "x".repeat(950_000)),
        )
        .run()
        .await;
}

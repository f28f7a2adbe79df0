//! Mailchimp conforms, with and without groups as tags.

use analytics_mailchimp::{Config, Delete, Group, Identify, RegulationType, Track};
use analytics_spec::{Kind, KindSet};
use analytics_testkit::{Answer, conformance::Suite};
use serde_json::json;

const API_KEY: &str = "3b9e27c4f1d80a65e2c7-us21";
const AUDIENCE: &str = "a1b2c3d4e5";

#[tokio::test]
async fn conforms() {
    suite(config)
        .also("without tags", || Config::new(API_KEY, AUDIENCE))
        .also("in another data centre", || config().datacenter_id("us5"))
        .run()
        .await;
}

#[tokio::test]
async fn conforms_with_double_opt_in_and_erasure() {
    let config = || {
        config()
            .enable_double_opt_in(true)
            .skip_merge_validation(true)
            .regulation_type(RegulationType::Delete)
    };
    suite(config)
        .also("without tags", move || config().group_as_tag(false))
        .snapshots("tests/conformance/strict")
        .run()
        .await;
}

fn config() -> Config {
    Config::new(API_KEY, AUDIENCE)
        .group_as_tag(true)
        .merge_field("plan", "PLAN")
        .merge_field("vip", "VIP")
        .merge_field("score", "SCORE")
        .merge_field("birthday", "BIRTHDAY")
        .merge_field("address", "ADDRESS")
        .merge_field("interests", "INTERESTS")
}

/// <https://mailchimp.com/developer/marketing/docs/errors/>
fn problem(status: u16, detail: &str) -> Answer {
    Answer::json(
        status,
        &json!({
            "type": "https://mailchimp.com/developer/marketing/docs/errors/",
            "title": "Invalid Resource",
            "status": status,
            "detail": detail,
            "instance": "0ae4a1b2",
            "errors": [],
        }),
    )
}

fn suite(config: impl Fn() -> Config + 'static) -> Suite {
    Suite::new(config)
        .secrets([API_KEY])
        .answers(|request| match request.method.as_str() {
            "PUT" => Answer::json(200, &json!({"id": "9e26", "status": "unsubscribed"})),
            _ => Answer::empty(204),
        })
        .says_nothing(|request| request.method != "PUT")
        .errors(problem)
        .already_gone(|_| Some(problem(404, "The requested resource could not be found.")))
        .takes_all_or_nothing()
        // As the page says, to 30 characters.
        .cuts_names()
        .refusal(|_| {
            let problem = json!({"title": "Invalid Resource", "detail": "No.", "status": 400});
            Some(Answer::json(200, &problem))
        })
        .message_id_in(KindSet::EMPTY)
        .timestamp_in([Kind::Track])
        .fixture(
            Group::new("group-3310")
                .user_id("ada.marlow@example.com")
                .anonymous_id("anon-5b1e9c")
                .trait_("name", "Northwind Atlas Ltd")
                .trait_("email", "office@northwind.example.net")
                .trait_("industry", "Cartography"),
        )
        .invalid(Identify::new().user_id("u1"))
        .invalid(Delete::new("u1"))
        .invalid(Track::new("x").user_id("ada@example.com"))
        .invalid(
            Group::new("group-1")
                .user_id("u1")
                .trait_("email", "office@example.com"),
        )
}

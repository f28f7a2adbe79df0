//! Every kind against a Mixpanel that checks its own rules, and says what it
//! would have lost or bent without a word.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use analytics_mixpanel::{
    Alias, Calls as _, ComplianceType, Config, Context, Delete, Group, IdMerge, Identify, Input,
    Mixpanel, Page, Screen, Track,
};
use analytics_testkit::{MixpanelAccount, ScriptedMixpanel, vendors};
use serde_json::json;

const TOKEN: &str = "project-token-1";
const UUID_V4: &str = "91304156-cafc-4673-a237-623d1129c801";

fn project() -> MixpanelAccount {
    MixpanelAccount::new(TOKEN)
        .service_account("1234", "account-1", "secret-1")
        .gdpr_oauth_token("oauth-1")
}

fn build(server: &ScriptedMixpanel, config: Config) -> Mixpanel {
    let url = server.base_url().parse().unwrap();
    config.base_url(url).build().unwrap()
}

/// Everything but aliases, which are not for every project.
async fn send_all(client: &Mixpanel, message_id: &str) {
    let context = Context::new()
        .message_id(message_id)
        .ip("203.0.113.9".parse::<std::net::IpAddr>().unwrap())
        .locale("en-GB");
    let both = Track::new("Order Completed")
        .user_id("u1")
        .anonymous_id("a1");
    client
        .track(Input::new(both.property("revenue", 42.5)).context(context))
        .await
        .unwrap();
    client
        .track(Track::new("Seen").anonymous_id(UUID_V4))
        .await
        .unwrap();
    client
        .page(Page::new("Pricing").user_id("u1"))
        .await
        .unwrap();
    client
        .screen(Screen::new("Cart").anonymous_id("a1"))
        .await
        .unwrap();
    for anonymous_id in ["a1", UUID_V4] {
        let event = Identify::new().user_id("u1").anonymous_id(anonymous_id);
        client
            .identify(event.trait_("first_name", "Ada"))
            .await
            .unwrap();
    }
    client
        .identify(Identify::new().anonymous_id("a2").trait_("n", 1))
        .await
        .unwrap();
    for group_id in ["g1", "g2"] {
        let event = Group::new(group_id).user_id("u1").trait_("name", group_id);
        client.group(event).await.unwrap();
    }
    client
        .identify(Identify::new().user_id("u2").trait_("n", 2))
        .await
        .unwrap();
    client.delete(Delete::new("u2")).await.unwrap();
}

#[tokio::test]
async fn nothing_is_lost_or_bent_with_the_simplified_id_merge() {
    let server = ScriptedMixpanel::start(project()).await.unwrap();
    send_all(&build(&server, Config::new(TOKEN)), "order_1").await;
    let law = Config::new(TOKEN)
        .service_account("1234", "account-1", "secret-1")
        .gdpr_deletion("oauth-1", ComplianceType::Ccpa);
    send_all(&build(&server, law), "order_2").await;
    assert_eq!(server.violations(), []);
    let profile = server.profile("u1").unwrap();
    assert_eq!(profile["$first_name"], "Ada");
    assert_eq!(profile["$group_id"], json!(["g1", "g2"]));
    assert_eq!(server.profile("$device:a2").unwrap()["n"], 1);
    assert_eq!(server.profile("u2"), None);
    assert_eq!(server.group("$group_id", "g2").unwrap()["$name"], "g2");
    server.shutdown().await;
}

#[tokio::test]
async fn nothing_is_lost_or_bent_with_the_original_id_merge() {
    let account = project().id_merge(vendors::IdMerge::Original);
    let server = ScriptedMixpanel::start(account).await.unwrap();
    let config = Config::new(TOKEN)
        .id_merge(IdMerge::Original)
        .group_key("company");
    let client = build(&server, config);
    send_all(&client, "order_3").await;
    client.alias(Alias::new("u0", "u1")).await.unwrap();
    assert_eq!(server.violations(), []);
    assert_eq!(
        server.profile("u1").unwrap()["company"],
        json!(["g1", "g2"])
    );
    assert_eq!(server.profile("a2").unwrap()["n"], 1);
    let received = server.received();
    let links: Vec<_> = received
        .iter()
        .filter_map(|item| item.body["event"].as_str())
        .filter(|event| event.starts_with('$'))
        .collect();
    assert_eq!(links, ["$merge", "$identify", "$create_alias"]);
    server.shutdown().await;
}

//! Every kind against a scripted PostHog, which checks its own rules, knows who
//! is one person, and says what it would have lost or bent without a word.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use analytics_posthog::{
    Alias, Calls as _, Config, Delete, ErrorKind, Group, Identify, Page, PersonProfiles, Posthog,
    Screen, Track,
};
use analytics_spec::{Integration as _, IntegrationExt as _, Kind, TokioClock};
use analytics_testkit::{
    conformance::fixture,
    vendors::{PosthogAccount, ScriptedPosthog},
};
use serde_json::json;

const PROJECT_KEY: &str = "phc_key-1";

async fn project() -> ScriptedPosthog {
    let account = PosthogAccount::new(PROJECT_KEY).deletion("7", "phx_key-2");
    ScriptedPosthog::start(account).await.unwrap()
}

fn client(server: &ScriptedPosthog, config: Config) -> Posthog {
    let url = server.base_url().parse().unwrap();
    let config = config.deletion("7", "phx_key-2").base_url(url);
    config.build().unwrap()
}

#[tokio::test]
async fn every_kind_is_taken_as_it_is_sent() {
    for config in [
        Config::new(PROJECT_KEY),
        Config::new(PROJECT_KEY).person_profiles(PersonProfiles::Always),
    ] {
        let server = project().await;
        let client = client(&server, config);
        // PostHog makes no alias of somebody who has been identified.
        let others = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Alias);
        for kind in [Kind::Alias].into_iter().chain(others) {
            assert!(client.supports().contains(kind));
            let outcome = client
                .send_with(&TokioClock::new(), &mut fixture(kind))
                .await;
            assert!(outcome.is_ok(), "{kind}: {outcome:?}");
        }
        assert_eq!(server.violations(), []);
        assert_eq!(server.received().len(), Kind::ALL.len());
        assert_eq!(server.person("user-7401"), None, "deleted");
    }
}

#[tokio::test]
async fn people_are_who_they_are() {
    let server = project().await;
    let posthog = client(&server, Config::new(PROJECT_KEY));
    posthog
        .page(Page::new("Home").anonymous_id("a1"))
        .await
        .unwrap();
    posthog
        .screen(Screen::new("Cart").anonymous_id("a1"))
        .await
        .unwrap();
    assert_eq!(server.person("a1"), None, "no profile of somebody unknown");

    let known = Identify::new().anonymous_id("a1").trait_("theme", "dark");
    posthog.identify(known).await.unwrap();
    let seen = Track::new("Seen").anonymous_id("a1").trait_("visits", 2);
    posthog.track(seen).await.unwrap();
    let both = Identify::new().anonymous_id("a1").user_id("u1");
    posthog
        .identify(both.trait_("theme", "light"))
        .await
        .unwrap();
    posthog.alias(Alias::new("u1", "u1@new")).await.unwrap();
    posthog
        .group(Group::new("g1").anonymous_id("a2"))
        .await
        .unwrap();
    let person = server.person("u1@new").unwrap();
    assert_eq!(json!(person), json!({"theme": "light", "visits": 2}));
    assert!(server.is_one_person("a1", "u1@new"));
    assert!(!server.is_one_person("a1", "a2"));

    posthog.delete(Delete::new("u1@new")).await.unwrap();
    assert_eq!(server.person("a1"), None);
    posthog.delete(Delete::new("u1@new")).await.unwrap();
    assert_eq!(server.violations(), []);
}

#[tokio::test]
async fn a_wrong_key_deletes_nobody_and_is_named() {
    let server = project().await;
    let url = server.base_url().parse().unwrap();
    let config = Config::new(PROJECT_KEY).deletion("7", "phx_other");
    let stranger = config.base_url(url).build().unwrap();
    let error = stranger.delete(Delete::new("u1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(!error.is_retryable());
    assert!(
        error.to_string().contains("Personal API key found"),
        "{error}"
    );
}

//! Every kind against a scripted Amplitude, which checks its own rules, and says
//! what it would have lost or bent without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use analytics_amplitude::{
    Amplitude, Api, Calls as _, Config, Delete, ErrorKind, Group, Identify, Track,
};
use analytics_spec::{Integration as _, IntegrationExt as _, Kind, TokioClock};
use analytics_testkit::{
    conformance::{ANONYMOUS_ID, USER_ID, fixture},
    vendors::{AmplitudeAccount, ScriptedAmplitude},
};

async fn project(config: Config) -> (ScriptedAmplitude, Amplitude) {
    let account = AmplitudeAccount::new("key-1").secret_key("secret-1");
    let server = ScriptedAmplitude::start(account)
        .await
        .expect("a port is free");
    let url = server.base_url().parse().expect("a URL");
    let client = config.secret_key("secret-1").base_url(url).build();
    (server, client.expect("whole"))
}

#[tokio::test]
async fn every_kind_is_taken_as_it_is_sent() {
    for api in [Api::HttpV2, Api::Batch] {
        let (server, client) = project(Config::new("key-1").api(api)).await;
        for kind in Kind::ALL {
            assert!(client.supports().contains(kind), "{kind}");
            let outcome = client
                .send_with(&TokioClock::new(), &mut fixture(kind))
                .await;
            assert!(outcome.is_ok(), "{kind}: {outcome:?}");
            if kind == Kind::Group {
                let group = server.group("group", "group-3310").expect("is kept");
                assert_eq!(group["name"], "Northwind Atlas Ltd");
                let user = server.user(USER_ID).expect("is kept");
                assert_eq!(user["group"], "group-3310");
                assert_eq!(user["plan"], "Premium Atlas");
                assert_eq!(user["utm_campaign"], "spring-tide");
            }
        }
        assert_eq!(server.violations(), []);
        assert_eq!(server.duplicates(), Vec::<String>::new());
        assert_eq!(server.received().len(), 8, "{:?}", server.received());
        assert_eq!(server.mapped_to("previous-2268").as_deref(), Some(USER_ID));
        assert_eq!(server.user(USER_ID), None, "is deleted");
        assert!(server.user(ANONYMOUS_ID).is_some(), "the device is not");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn short_ids_are_taken_where_they_are_allowed() {
    let (server, client) = project(Config::new("key-1").min_id_length(2)).await;
    let track = Track::new("Seen").user_id("u1").anonymous_id("a1");
    client.track(track).await.expect("is taken");
    client
        .identify(Identify::new().user_id("u1"))
        .await
        .expect("is taken");
    client
        .group(Group::new("g").user_id("u1"))
        .await
        .expect("is taken");
    assert_eq!(server.violations(), []);
    assert_eq!(server.received().len(), 3);
    server.shutdown().await;
}

#[tokio::test]
async fn whom_amplitude_does_not_know_cannot_be_deleted() {
    let (server, client) = project(Config::new("key-1")).await;
    let error = client
        .delete(Delete::new("nobody-1"))
        .await
        .expect_err("knows nobody");
    assert_eq!(error.kind(), ErrorKind::RequestRejected);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("nobody-1"), "{error}");
    server.shutdown().await;
}

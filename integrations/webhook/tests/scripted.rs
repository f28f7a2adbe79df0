//! Every kind against a scripted receiver, which verifies signatures, reads
//! envelopes strictly, and says what would have been lost or bent without a
//! word.

#![allow(clippy::expect_used, reason = "helpers of tests, which may panic")]

use analytics_spec::{
    Attempt, Clock as _, Integration as _, IntegrationExt as _, Kind, Progress, TokioClock,
};
use analytics_testkit::{
    conformance::fixture,
    vendors::{ScriptedWebhook, WebhookAccount},
};
use analytics_webhook::{Batch, Config, Context, Input, Method, Track, Webhook};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEW_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn start(account: WebhookAccount) -> ScriptedWebhook {
    let server = ScriptedWebhook::start(account).await;
    server.expect("a port is free")
}

fn build(server: &ScriptedWebhook, configure: impl FnOnce(Config) -> Config) -> Webhook {
    let url = format!("{}/events", server.base_url());
    let config = Config::new(url.parse().expect("a URL"));
    configure(config).build().expect("whole")
}

#[tokio::test]
async fn every_kind_is_taken_as_it_is_sent() {
    let server = start(
        WebhookAccount::new("/events")
            .secret(SECRET)
            .header("x-api-key", "key-1"),
    )
    .await;
    // The receiver knows the old secret only.
    let client = build(&server, |config| {
        let config = config.secret(NEW_SECRET).secret(SECRET);
        config.header("x-api-key", "key-1").gzip()
    });
    for kind in Kind::ALL {
        let outcome = client
            .send_with(&TokioClock::new(), &mut fixture(kind))
            .await;
        assert!(outcome.is_ok(), "{kind}: {outcome:?}");
    }
    assert_eq!(server.violations(), []);
    let sent: Vec<_> = Kind::ALL
        .map(|kind| serde_json::to_value(fixture(kind)).expect("JSON"))
        .into();
    let received: Vec<_> = server
        .received()
        .into_iter()
        .map(|item| item.body)
        .collect();
    assert_eq!(received, sent);
    assert!(server.requests().iter().all(|r| r.request.is_gzip()));
}

#[tokio::test]
async fn a_batch_is_taken_as_it_is_sent() {
    let account = WebhookAccount::new("/events").method("PUT");
    let server = start(account.secret(SECRET).results()).await;
    let client = build(&server, |config| {
        let batch = Batch::new().results().max_items(4);
        config.secret(SECRET).method(Method::Put).batch(batch)
    });
    // Every kind of one person, and events of four others.
    let other = |user| {
        let track = Track::new("Bought").user_id(user);
        let mut input = Input::new(track.into());
        input.context = Context::new().message_id(format!("of {user}"));
        input.stamp(TokioClock::new().now());
        input
    };
    let mut inputs = Kind::ALL.map(fixture).to_vec();
    inputs.extend(["ada", "bob", "cleo", "dan"].map(other));
    let attempt = |input| Attempt {
        input,
        number: 1,
        progress: Progress::NONE,
        timeout: std::time::Duration::from_secs(10),
        deadline: None,
    };
    let attempts: Vec<_> = inputs.iter().map(attempt).collect();
    // The second time as after an answer that was lost: the receiver knows
    // each request, and each event.
    for _ in 0..2 {
        for outcome in client.deliver_batch(&attempts).await {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }
    assert_eq!(server.violations(), []);
    assert_eq!(server.received().len(), inputs.len());
    assert_eq!(server.duplicates().len(), inputs.len());
    // One event of a person in each: the others' go with the first.
    assert_eq!(server.requests().len(), 2 * Kind::ALL.len());
}

#[tokio::test]
async fn a_receiver_that_knows_another_secret_says_so() {
    let server = start(WebhookAccount::new("/events").secret(NEW_SECRET)).await;
    let client = build(&server, |config| config.secret(SECRET));
    let outcome = client
        .send_with(&TokioClock::new(), &mut fixture(Kind::Track))
        .await;
    let error = outcome.expect_err("signed with another secret");
    assert_eq!(error.kind(), analytics_webhook::ErrorKind::Unauthorized);
    assert!(error.to_string().contains("not signed with"), "{error}");
}

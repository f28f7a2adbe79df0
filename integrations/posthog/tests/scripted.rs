//! Every kind against a scripted Posthog, which checks its own rules, and says what
//! it would have lost or bent without a word.

use analytics_posthog::Config;
use analytics_spec::{Integration as _, IntegrationExt as _, Kind, TokioClock};
use analytics_testkit::{
    conformance::fixture,
    vendors::{PosthogAccount, ScriptedPosthog},
};

#[tokio::test]
async fn every_kind_is_taken_as_it_is_sent() {
    let server = ScriptedPosthog::start(PosthogAccount::new("key-1"))
        .await
        .expect("a port is free");
    let url = server.base_url().parse().expect("a URL");
    let client = Config::new("key-1").base_url(url).build().expect("whole");
    let mut sent = 0;
    for kind in Kind::ALL {
        if !client.supports().contains(kind) {
            continue;
        }
        let outcome = client
            .send_with(&TokioClock::new(), &mut fixture(kind))
            .await;
        assert!(outcome.is_ok(), "{kind}: {outcome:?}");
        sent += 1;
    }
    assert_eq!(server.violations(), []);
    assert!(server.received().len() >= sent, "{:?}", server.received());
}

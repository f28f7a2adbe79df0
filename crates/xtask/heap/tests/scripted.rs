//! Every kind against a scripted Heap, which checks its own rules, and says what
//! it would have lost or bent without a word.

use analytics_heap::Config;
use analytics_spec::{Integration as _, IntegrationExt as _, Kind, TokioClock};
use analytics_testkit::{
    conformance::fixture,
    vendors::{HeapAccount, ScriptedHeap},
};

#[tokio::test]
async fn every_kind_is_taken_as_it_is_sent() {
    let server = ScriptedHeap::start(HeapAccount::new("environment-1"))
        .await
        .expect("a port is free");
    let url = server.base_url().parse().expect("a URL");
    let client = Config::new("environment-1")
        .base_url(url)
        .build()
        .expect("whole");
    let mut outcomes = Vec::new();
    for kind in Kind::ALL {
        if !client.supports().contains(kind) {
            continue;
        }
        let outcome = client
            .send_with(&TokioClock::new(), &mut fixture(kind))
            .await;
        outcomes.push((kind, outcome));
    }
    // These say why, where an outcome only says that.
    assert_eq!(server.violations(), []);
    for (kind, outcome) in &outcomes {
        assert!(outcome.is_ok(), "{kind}: {outcome:?}");
    }
    let received = server.received();
    assert!(received.len() >= outcomes.len(), "{received:?}");
}

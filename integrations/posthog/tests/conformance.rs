//! Posthog conforms.

use analytics_posthog::Config;
use analytics_testkit::{Answer, conformance::Suite};
use serde_json::json;

const API_KEY: &str = "posthog-api-key-4Qs9";

// FILL IN: what Posthog answers, so that the reading is tested; see the methods of
// `Suite`. `refusal` is a 2xx that says failure, or `|_| None`, if Posthog has none;
// `refuses_item` a batch of which one event is refused, if Posthog says so;
// `message_id_in` and `timestamp_in` the kinds that carry them, if not all do;
// `invalid` what `validate` refuses.
#[tokio::test]
async fn conforms() {
    Suite::new(|| Config::new(API_KEY))
        .secrets([API_KEY])
        .answers(|_| Answer::json(200, &json!({})))
        .run()
        .await;
}

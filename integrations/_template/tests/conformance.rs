//! Acme Inc conforms.

use analytics_acme::Config;
use analytics_testkit::{Answer, conformance::Suite};
use serde_json::json;

const API_KEY: &str = "acme-api-key-4Qs9";

// FILL IN: what Acme Inc answers, so that the reading is tested. Each of these is
// said in one way or the other; the documentation of `Suite` has the rest:
// - `answers`: the words of a success; `says_nothing(|_| true)`, if there are none;
// - `refusal`: a 2xx that says failure; `refuses_by_status()`, if there is no such answer;
// - `refuses_item` and `delays_item`: a request of which one event is refused, or is
//   to be sent again; `delays_no_item()`, if it is only ever refused;
//   `takes_all_or_nothing()`, if no answer names single events;
// - `invalid`: what `validate` refuses; `accepts_whatever()`, if it refuses nothing;
// - `also`: a configuration for each key that changes what is sent or supported;
// - `message_id_in` and `timestamp_in`: the kinds that carry them, if not all do.
#[tokio::test]
async fn conforms() {
    Suite::new(|| Config::new(API_KEY))
        .secrets([API_KEY])
        .answers(|_| Answer::json(200, &json!({"ok": true})))
        .refusal(|_| Some(Answer::json(200, &json!({"ok": false}))))
        .run()
        .await;
}

//! The warehouse conforms.

use analytics_spec::Secret;
use analytics_testkit::{Answer, conformance::Suite};
use serde_json::json;
use warehouse::Config;

const TOKEN: &str = "warehouse-token-2Kv8";

#[tokio::test]
async fn conforms() {
    Suite::new(|| Config {
        url: "https://rows.example.com".parse().expect("a URL"),
        token: Secret::new(TOKEN),
    })
    .secrets([TOKEN])
    .answers(|request| {
        let body = request.body_json().unwrap_or_default();
        let rows = body.as_array().map_or(0, Vec::len);
        Answer::json(200, &json!({"stored": rows}))
    })
    .refuses_by_status()
    .takes_all_or_nothing()
    .accepts_whatever()
    .run()
    .await;
}

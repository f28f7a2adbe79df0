//! The warehouse conforms.

use analytics_spec::Secret;
use analytics_testkit::conformance::Suite;
use warehouse::Config;

const TOKEN: &str = "warehouse-token-2Kv8";

#[tokio::test]
async fn conforms() {
    Suite::new(|| Config {
        url: "https://rows.example.com".parse().expect("a URL"),
        token: Secret::new(TOKEN),
    })
    .secrets([TOKEN])
    .refusal(|_| None)
    .run()
    .await;
}

//! Heap conforms.

use analytics_heap::{Config, Identify, Region, Track};
use analytics_spec::Kind;
use analytics_testkit::conformance::Suite;

const APP_ID: &str = "heap-app-id-4Qs9";

#[tokio::test]
async fn conforms() {
    Suite::new(|| Config::new(APP_ID))
        .also("eu", || Config::new(APP_ID).region(Region::Eu))
        .secrets([APP_ID])
        .says_nothing(|_| true)
        .refuses_by_status()
        .takes_all_or_nothing()
        .message_id_in([Kind::Track])
        .timestamp_in([Kind::Track])
        .invalid(Identify::new().anonymous_id("a1"))
        .invalid(Track::new("Seen").anonymous_id("a1"))
        .invalid(Track::new("Seen").user_id("u1").property("ID", 1))
        .invalid(
            Track::new("Seen")
                .user_id("u1")
                .property("note", "n".repeat(1024)),
        )
        .run()
        .await;
}

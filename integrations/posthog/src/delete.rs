//! What is known of the user goes. The body is made in
//! [`PosthogVendor::request`](crate::vendor::PosthogVendor).
//!
//! <https://posthog.com/docs/api/persons>

use analytics_http::Step;
use analytics_spec::{Delete, Error};

use crate::vendor::Route;

/// One of the `distinct_ids` whose persons are deleted.
pub(crate) fn step(event: &Delete) -> Result<Step<Route>, Error> {
    Step::json(Route::Deletion, &event.user_id)
}

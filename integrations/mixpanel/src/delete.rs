//! Forgetting a user: their profile, or all that Mixpanel holds.

use analytics_http::Step;
use analytics_spec::{Delete, Error, Secret};

use crate::{
    config::Deletion,
    profile::{self, Operation},
    vendor::Route,
};

/// - <https://docs.mixpanel.com/reference/delete-profile>
/// - <https://docs.mixpanel.com/reference/create-deletion>; its body is made in
///   [`MixpanelVendor::request`](crate::vendor::MixpanelVendor)
pub(crate) fn step(
    event: &Delete,
    deletion: Deletion,
    token: &Secret,
) -> Result<Step<Route>, Error> {
    match deletion {
        Deletion::Profile => {
            let delete = Operation::Delete {
                delete: "null",
                ignore_alias: false,
            };
            profile::step(token, &event.user_id, None, delete)
        }
        Deletion::Gdpr => Step::json(Route::Deletion, &event.user_id),
    }
}

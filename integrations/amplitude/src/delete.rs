//! Forgetting a user. The request around the ids is made in
//! [`AmplitudeVendor::request`](crate::vendor::AmplitudeVendor).
//!
//! <https://amplitude.com/docs/apis/analytics/user-privacy>

use analytics_http::Step;
use analytics_spec::{Delete, Error};

use crate::Route;

pub(crate) fn steps(delete: &Delete) -> Result<Vec<Step<Route>>, Error> {
    Ok(vec![Step::json(Route::Deletions, &delete.user_id)?])
}

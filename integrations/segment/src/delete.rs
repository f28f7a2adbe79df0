//! A regulation of the Public API; its body is made in
//! [`SegmentVendor::request`](crate::vendor::SegmentVendor).
//!
//! <https://docs.segmentapis.com/tag/Deletion-and-Suppression>

use analytics_http::Step;
use analytics_spec::{Delete, Error};

use crate::vendor::Route;

pub(crate) fn step(event: &Delete) -> Result<Step<Route>, Error> {
    Step::json(Route::Regulations, &event.user_id)
}

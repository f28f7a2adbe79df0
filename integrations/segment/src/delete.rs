//! A regulation of the Public API; its body is made in
//! [`SegmentVendor::request`](crate::vendor::SegmentVendor).
//!
//! <https://docs.segmentapis.com/tag/Deletion-and-Suppression>

use analytics_spec::Delete;
use serde::Serialize;

/// One of the regulation's `subjectIds`.
pub(crate) fn subject(event: &Delete) -> impl Serialize + '_ {
    &event.user_id
}

//! What Heap's answers mean: the status says everything.
//!
//! <https://developers.heap.io/reference/track-1>

use analytics_http::{Reading, classify};
use analytics_spec::HttpResponse;

pub(crate) fn read(response: &HttpResponse) -> Reading {
    Reading::All(classify(response))
}

//! What Heap's answers mean: the status says everything. A request that is refused
//! for one of its events, `classify` has sent again in halves: the others arrive.
//!
//! <https://developers.heap.io/reference/track-1>

use analytics_http::{Reading, classify};
use analytics_spec::HttpResponse;

pub(crate) fn read(response: &HttpResponse) -> Reading {
    Reading::All(classify(response))
}

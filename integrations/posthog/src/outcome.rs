//! What Posthog's answers mean.

use analytics_http::{Reading, classify};
use analytics_spec::HttpResponse;

// FILL IN: the documentation page of the answers; statuses that Posthog uses
// otherwise than `classify`; what a 2xx says of each event. A 2xx is not
// success until its body says so.
pub(crate) fn read(response: &HttpResponse) -> Reading {
    Reading::All(classify(response))
}

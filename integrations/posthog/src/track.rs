//! FILL IN: the documentation page.

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Track};

use crate::{Route, vendor::unwritten};

/// The steps of a track: what the user did.
// FILL IN: the body that Posthog documents. If Posthog has nothing for it, say
// `Support::No` in `Config::support`, and take this file away.
pub(crate) fn steps(input: &AnyInput, _: &Track) -> Result<Vec<Step<Route>>, Error> {
    Err(unwritten(input.kind()))
}

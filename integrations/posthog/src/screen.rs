//! FILL IN: the documentation page.

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Screen};

use crate::{Route, vendor::unwritten};

/// The steps of a screen that the user saw.
// FILL IN: the body that Posthog documents. If Posthog has nothing for it, say
// `Support::No` in `Config::support`, and take this file away.
pub(crate) fn steps(input: &AnyInput, _: &Screen) -> Result<Vec<Step<Route>>, Error> {
    Err(unwritten(input.kind()))
}

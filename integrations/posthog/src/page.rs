//! A page that the user saw.
//!
//! <https://posthog.com/docs/api/capture#pageview>

use analytics_spec::{AnyInput, Page};

use crate::{
    capture::{Capture, Said},
    config::PersonProfiles,
};

pub(crate) fn capture<'a>(
    input: &'a AnyInput,
    event: &'a Page,
    profiles: PersonProfiles,
) -> Capture<'a> {
    Capture::new(input, "$pageview")
        .set("name", Said::Text(&event.name))
        .own(&event.properties)
        .profiled(input, profiles)
}

//! A screen that the user saw.
//!
//! <https://posthog.com/docs/api/capture#screen-view>

use analytics_spec::{AnyInput, Screen};

use crate::{
    capture::{Capture, Said},
    config::PersonProfiles,
};

pub(crate) fn capture<'a>(
    input: &'a AnyInput,
    event: &'a Screen,
    profiles: PersonProfiles,
) -> Capture<'a> {
    Capture::new(input, "$screen")
        .set("$screen_name", Said::Text(&event.name))
        .own(&event.properties)
        .profiled(input, profiles)
}

//! A screen is an event of one constant name, as a page is.
//!
//! <https://docs.mixpanel.com/reference/import-events#event>

use analytics_spec::{AnyInput, Screen};

use crate::{config::IdMerge, event::Properties};

pub(crate) const EVENT: &str = "Loaded a Screen";

pub(crate) fn properties<'a>(
    input: &'a AnyInput,
    event: &'a Screen,
    id_merge: IdMerge,
) -> Properties<'a> {
    Properties::full(input, id_merge, Some(&event.name), &event.properties)
}

//! A page is an event of one constant name: Mixpanel recommends few names of
//! events, and properties for what varies.
//!
//! <https://docs.mixpanel.com/reference/import-events#event>

use analytics_spec::{AnyInput, Page};

use crate::{config::IdMerge, event::Properties};

pub(crate) const EVENT: &str = "Loaded a Page";

pub(crate) fn properties<'a>(
    input: &'a AnyInput,
    event: &'a Page,
    id_merge: IdMerge,
) -> Properties<'a> {
    Properties::full(input, id_merge, Some(&event.name), &event.properties)
}

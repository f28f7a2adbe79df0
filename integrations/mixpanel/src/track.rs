//! <https://docs.mixpanel.com/reference/import-events>

use analytics_spec::{AnyInput, Track};

use crate::{config::IdMerge, event::Properties};

pub(crate) fn properties<'a>(
    input: &'a AnyInput,
    event: &'a Track,
    id_merge: IdMerge,
) -> Properties<'a> {
    Properties::full(input, id_merge, None, &event.properties)
}

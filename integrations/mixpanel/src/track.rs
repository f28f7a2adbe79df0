//! <https://docs.mixpanel.com/reference/import-events>

use analytics_spec::{AnyInput, Code, Track, Violation};

use crate::{config::IdMerge, event::Properties};

/// Events that change whose events are whose: they are what `identify` and `alias`
/// are for, with their rules.
///
/// <https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-original>
const RESERVED: [&str; 3] = ["$identify", "$create_alias", "$merge"];

/// A name that Mixpanel would read as an instruction.
pub(crate) fn check(event: &Track) -> Option<Violation> {
    RESERVED.contains(&event.event.as_str()).then(|| {
        Violation::new(
            "track.event",
            Code::Reserved,
            format!(
                "is {:?}, by which Mixpanel joins users: use identify or alias",
                event.event
            ),
        )
    })
}

pub(crate) fn properties<'a>(
    input: &'a AnyInput,
    event: &'a Track,
    id_merge: IdMerge,
) -> Properties<'a> {
    Properties::full(input, id_merge, None, &event.properties)
}

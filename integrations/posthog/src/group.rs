//! What is known about a group, and that a person belongs to it.
//!
//! <https://posthog.com/docs/api/capture#group-identify>

use analytics_spec::{AnyInput, Group};

use crate::capture::{Capture, Pair, Said};

/// `$group_set` makes the group, or changes it. `$groups` makes the event the
/// group's as well as the person's, which is how PostHog relates them:
/// <https://posthog.com/docs/product-analytics/group-analytics>
pub(crate) fn capture<'a>(
    input: &'a AnyInput,
    event: &'a Group,
    group_type: &'a str,
) -> Capture<'a> {
    Capture::new(input, "$groupidentify")
        .set("$group_type", Said::Text(group_type))
        .set("$group_key", Said::Text(&event.group_id))
        .set("$group_set", Said::Map(&event.traits))
        .set("$groups", Said::Pair(Pair(group_type, &event.group_id)))
}

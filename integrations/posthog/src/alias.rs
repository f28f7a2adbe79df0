//! Two ids that are one person.
//!
//! <https://posthog.com/docs/product-analytics/identify#alias-assigning-multiple-distinct-ids-to-the-same-user>

use analytics_spec::{Alias, AnyInput};

use crate::capture::{Capture, Said};

/// The known person gets the new id for an alias.
pub(crate) fn capture<'a>(input: &'a AnyInput, event: &'a Alias) -> Capture<'a> {
    Capture::new(input, "$create_alias")
        .of(&event.previous_user_id)
        .set("alias", Said::Text(&event.user_id))
        .traits(&event.traits)
}

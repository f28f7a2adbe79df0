//! Who the user is, and that the anonymous person is the same.
//!
//! <https://posthog.com/docs/product-analytics/identify>

use analytics_spec::{AnyInput, Code, Identify, Violation};

use crate::capture::{Capture, Said};

/// - With a user id, `$identify`; with both ids, it makes one person of them.
/// - With an anonymous id alone, `$set`: an `$identify` would mark the
///   anonymous person as identified, and PostHog makes no identified person
///   part of another.
pub(crate) fn capture<'a>(input: &'a AnyInput, event: &'a Identify) -> Capture<'a> {
    let name = match event.user_id {
        Some(_) => "$identify",
        None => "$set",
    };
    let capture = Capture::new(input, name).traits(&event.traits);
    match link(event) {
        Some(anonymous) => capture.set("$anon_distinct_id", Said::Text(anonymous)),
        None => capture,
    }
}

/// The anonymous id that is the user's too.
fn link(event: &Identify) -> Option<&str> {
    let user = event.user_id.as_deref()?;
    event.anonymous_id.as_deref().filter(|id| *id != user)
}

/// What PostHog cannot make anything of.
pub(crate) fn check(event: &Identify) -> Option<Violation> {
    if event.user_id.is_some() {
        return None;
    }
    if event.anonymous_id.is_none() {
        return Some(Violation::new(
            "identify.user_id",
            Code::Required,
            "PostHog needs user_id or anonymous_id",
        ));
    }
    event.traits.is_empty().then(|| {
        Violation::new(
            "identify.traits",
            Code::Required,
            "tells PostHog nothing: set traits, or user_id",
        )
    })
}

//! An event of an upload: what is in it whichever call it comes from.
//!
//! <https://amplitude.com/docs/apis/analytics/http-v2#event-array-keys>

use std::borrow::Cow;

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Map, Value};

use crate::{Route, context, object::Object};

/// Changes the properties of a user.
pub(crate) const IDENTIFY: &str = "$identify";

/// Changes the properties of a group.
pub(crate) const GROUP_IDENTIFY: &str = "$groupidentify";

/// Names that Amplitude reads as instructions, or gives to events of its own.
pub(crate) const RESERVED: [&str; 8] = [
    IDENTIFY,
    GROUP_IDENTIFY,
    "[Amplitude] Start Session",
    "[Amplitude] End Session",
    "[Amplitude] Revenue",
    "[Amplitude] Revenue (Verified)",
    "[Amplitude] Revenue (Unverified)",
    "[Amplitude] Merged User",
];

/// The event of a name: whose it is, which it is, when and where it happened.
///
/// Amplitude drops an event whose `insert_id` the same device has sent in the
/// last 7 days, whatever its name is: two events of one call have two.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#event-deduplication>
pub(crate) fn event<'a>(input: &'a AnyInput, name: impl Into<Cow<'a, str>>) -> Object<'a> {
    let (name, context) = (name.into(), &input.context);
    let message_id = context.message_id.as_deref();
    let insert_id = message_id.map(|id| match name.as_ref() {
        GROUP_IDENTIFY => Cow::from(format!("{GROUP_IDENTIFY}:{id}")),
        _ => Cow::from(id),
    });
    let mut event = Object::of("event_type", name);
    event.set("user_id", input.event.user_id());
    event.set("device_id", input.event.anonymous_id());
    event.set("time", context.timestamp.map(|at| at.as_millisecond()));
    event.set("insert_id", insert_id);
    context::set_fields(&mut event, context);
    event
}

/// The same, with what it says itself, and what is known of the user.
pub(crate) fn full<'a>(
    input: &'a AnyInput,
    name: impl Into<Cow<'a, str>>,
    own: Object<'a>,
    properties: &'a Map<String, Value>,
) -> Object<'a> {
    let mut event = event(input, name);
    event.set_filled("event_properties", own.fill(properties));
    event.set_filled("user_properties", user_properties(input));
    event
}

/// The traits, and where the user came from.
pub(crate) fn user_properties(input: &AnyInput) -> Object<'_> {
    let properties = context::attribution(&input.context);
    match input.event.traits() {
        Some(traits) => properties.fill(traits),
        None => properties,
    }
}

/// The step that sends an event.
pub(crate) fn step(event: &Object<'_>) -> Result<Step<Route>, Error> {
    Step::json(Route::Upload, event)
}

/// What the event of a page or a screen is called.
pub(crate) fn viewed(name: &str) -> String {
    format!("Viewed {name}")
}

//! What the six messages of the tracking API have in common.

use analytics_http::{Step, request::to_json};
use analytics_spec::{AnyEvent, AnyInput, Error, Map, Timestamp, Value};
use serde::Serialize;

use crate::{context::SegmentContext, vendor::Route};

/// A message of the tracking API: the common fields around the call's own.
///
/// <https://segment.com/docs/connections/spec/common/>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a, C> {
    r#type: &'static str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous_id: Option<&'a str>,
    #[serde(flatten)]
    call: C,
    context: SegmentContext<'a>,
}

/// The step that sends a call; `traits` are the user's, where the call itself
/// has no place for them.
pub(crate) fn step(
    input: &AnyInput,
    call: impl Serialize,
    traits: Option<&Map<String, Value>>,
) -> Result<Step<Route>, Error> {
    let event: &AnyEvent = &input.event;
    let message = Message {
        r#type: input.kind().as_str(),
        message_id: input.message_id(),
        timestamp: input.context.timestamp.map(iso8601),
        user_id: event.user_id(),
        anonymous_id: event.anonymous_id(),
        call,
        context: SegmentContext {
            context: &input.context,
            traits: traits.filter(|traits| !traits.is_empty()),
        },
    };
    Ok(Step::new(Route::Batch, to_json(&message)?))
}

/// ISO 8601 in UTC with milliseconds, as Segment's own libraries write it.
pub(crate) fn iso8601(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}

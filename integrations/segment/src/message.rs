//! What the six messages of the tracking API have in common.

use analytics_http::request::Iso8601;
use analytics_spec::{AnyEvent, AnyInput, Map, Value};
use serde::{Serialize, Serializer};

use crate::{alias, context::SegmentContext, delete, group, identify, page, screen, track};

/// What an event is in the body of its request.
pub(crate) struct Body<'a>(pub(crate) &'a AnyInput);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let input = self.0;
        match &input.event {
            AnyEvent::Identify(event) => identify::message(input, event).serialize(serializer),
            AnyEvent::Track(event) => track::message(input, event).serialize(serializer),
            AnyEvent::Group(event) => group::message(input, event).serialize(serializer),
            AnyEvent::Alias(event) => alias::message(input, event).serialize(serializer),
            AnyEvent::Page(event) => page::message(input, event).serialize(serializer),
            AnyEvent::Screen(event) => screen::message(input, event).serialize(serializer),
            AnyEvent::Delete(event) => delete::subject(event).serialize(serializer),
        }
    }
}

/// A message of the tracking API: the common fields around the call's own.
///
/// <https://segment.com/docs/connections/spec/common/>
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a, C> {
    r#type: &'static str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Iso8601>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous_id: Option<&'a str>,
    #[serde(flatten)]
    call: C,
    context: SegmentContext<'a>,
}

impl<'a, C> Message<'a, C> {
    /// A call's message; `traits` are the user's, where the call itself has no
    /// place for them.
    pub(crate) fn new(
        input: &'a AnyInput,
        call: C,
        traits: Option<&'a Map<String, Value>>,
    ) -> Self {
        Self {
            r#type: input.kind().as_str(),
            message_id: input.message_id(),
            timestamp: input.context.timestamp.map(Iso8601),
            user_id: input.event.user_id(),
            anonymous_id: input.event.anonymous_id(),
            call,
            context: SegmentContext {
                context: &input.context,
                traits: traits.filter(|traits| !traits.is_empty()),
            },
        }
    }
}

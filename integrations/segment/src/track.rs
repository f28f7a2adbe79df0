//! <https://segment.com/docs/connections/spec/track/>

use analytics_spec::{AnyInput, Map, Track, Value};
use serde::Serialize;

use crate::message::Message;

#[derive(Serialize)]
struct Call<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: &'a Map<String, Value>,
}

pub(crate) fn message<'a>(input: &'a AnyInput, event: &'a Track) -> impl Serialize + 'a {
    let call = Call {
        event: &event.event,
        properties: &event.properties,
    };
    Message::new(input, call, Some(&event.traits))
}

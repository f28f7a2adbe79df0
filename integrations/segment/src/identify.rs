//! <https://segment.com/docs/connections/spec/identify/>

use analytics_spec::{AnyInput, Identify, Map, Value};
use serde::Serialize;

use crate::message::Message;

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Map::is_empty")]
    traits: &'a Map<String, Value>,
}

pub(crate) fn message<'a>(input: &'a AnyInput, event: &'a Identify) -> impl Serialize + 'a {
    let call = Call {
        traits: &event.traits,
    };
    Message::new(input, call, None)
}

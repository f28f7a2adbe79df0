//! <https://segment.com/docs/connections/spec/group/>

use analytics_spec::{AnyInput, Group, Map, Value};
use serde::Serialize;

use crate::message::Message;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    group_id: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    traits: &'a Map<String, Value>,
}

pub(crate) fn message<'a>(input: &'a AnyInput, event: &'a Group) -> impl Serialize + 'a {
    let call = Call {
        group_id: &event.group_id,
        traits: &event.traits,
    };
    Message::new(input, call, None)
}

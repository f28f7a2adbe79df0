//! <https://segment.com/docs/connections/spec/group/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Group, Map, Value};
use serde::Serialize;

use crate::{message, vendor::Route};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    group_id: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    traits: &'a Map<String, Value>,
}

pub(crate) fn step(input: &AnyInput, event: &Group) -> Result<Step<Route>, Error> {
    let call = Call {
        group_id: &event.group_id,
        traits: &event.traits,
    };
    message::step(input, call, None)
}

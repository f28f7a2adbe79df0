//! <https://segment.com/docs/connections/spec/track/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Map, Track, Value};
use serde::Serialize;

use crate::{message, vendor::Route};

#[derive(Serialize)]
struct Call<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: &'a Map<String, Value>,
}

pub(crate) fn step(input: &AnyInput, event: &Track) -> Result<Step<Route>, Error> {
    let call = Call {
        event: &event.event,
        properties: &event.properties,
    };
    message::step(input, call, Some(&event.traits))
}

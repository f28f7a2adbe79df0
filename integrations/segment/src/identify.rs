//! <https://segment.com/docs/connections/spec/identify/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Identify, Map, Value};
use serde::Serialize;

use crate::{message, vendor::Route};

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Map::is_empty")]
    traits: &'a Map<String, Value>,
}

pub(crate) fn step(input: &AnyInput, event: &Identify) -> Result<Step<Route>, Error> {
    let call = Call {
        traits: &event.traits,
    };
    message::step(input, call, None)
}

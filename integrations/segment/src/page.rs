//! <https://segment.com/docs/connections/spec/page/>

use analytics_spec::{AnyInput, Map, Page, Value};
use serde::Serialize;

use crate::message::Message;

/// A page's or a screen's call. The category stands among the properties, and
/// Segment's libraries send it beside the name too.
#[derive(Serialize)]
pub(crate) struct Call<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: &'a Map<String, Value>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(name: &'a str, properties: &'a Map<String, Value>) -> Self {
        Self {
            name,
            category: properties.get("category").and_then(Value::as_str),
            properties,
        }
    }
}

pub(crate) fn message<'a>(input: &'a AnyInput, event: &'a Page) -> impl Serialize + 'a {
    Message::new(input, Call::new(&event.name, &event.properties), None)
}

//! <https://developers.heap.io/reference/bulk-track>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Map, Timestamp, Track, Value};
use serde::Serialize;

use crate::{Route, properties::flat};

#[derive(Serialize)]
struct Event<'a> {
    identity: Option<&'a str>,
    event: &'a str,
    timestamp: Option<Timestamp>,
    /// Heap takes an event with a key that it has seen only once.
    idempotency_key: &'a str,
    properties: Map<String, Value>,
}

/// The step of a track: what the user did.
pub(crate) fn steps(input: &AnyInput, event: &Track) -> Result<Vec<Step<Route>>, Error> {
    let body = Event {
        identity: event.user_id.as_deref(),
        event: &event.event,
        timestamp: input.context.timestamp,
        idempotency_key: input.message_id(),
        properties: flat(&event.properties),
    };
    Ok(vec![Step::json(Route::Events, &body)?])
}

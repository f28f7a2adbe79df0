//! <https://developers.heap.io/reference/bulk-add-user-properties>

use analytics_http::Step;
use analytics_spec::{Error, Identify, Map, Value};
use serde::Serialize;

use crate::{Route, properties::flat};

#[derive(Serialize)]
struct User<'a> {
    identity: Option<&'a str>,
    properties: Map<String, Value>,
}

/// The step of an identify: who the user is.
pub(crate) fn steps(event: &Identify) -> Result<Vec<Step<Route>>, Error> {
    let user = User {
        identity: event.user_id.as_deref(),
        properties: flat(&event.traits),
    };
    Ok(vec![Step::json(Route::Users, &user)?])
}

//! What is known about a user, and that a device is theirs.
//!
//! The Identify API takes the same, but on a way of its own: an event that
//! follows could overtake it. As an event of the upload it keeps its place.
//!
//! - <https://amplitude.com/docs/apis/analytics/http-v2#event-array-keys>
//! - <https://amplitude.com/docs/apis/analytics/identify>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error};

use crate::{
    Route,
    event::{self, IDENTIFY},
    object::Object,
};

pub(crate) fn steps(input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
    let mut event = event::event(input, IDENTIFY);
    let properties = event::user_properties(input);
    if !properties.is_empty() {
        event.set("user_properties", Some(Object::of("$set", properties)));
    }
    Ok(vec![event::step(&event)?])
}

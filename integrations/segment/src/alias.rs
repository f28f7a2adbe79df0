//! <https://segment.com/docs/connections/spec/alias/>

use analytics_http::Step;
use analytics_spec::{Alias, AnyInput, Error};
use serde::Serialize;

use crate::{message, vendor::Route};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    previous_id: &'a str,
}

pub(crate) fn step(input: &AnyInput, event: &Alias) -> Result<Step<Route>, Error> {
    let call = Call {
        previous_id: &event.previous_user_id,
    };
    message::step(input, call, Some(&event.traits))
}

//! <https://segment.com/docs/connections/spec/alias/>

use analytics_spec::{Alias, AnyInput};
use serde::Serialize;

use crate::message::Message;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    previous_id: &'a str,
}

pub(crate) fn message<'a>(input: &'a AnyInput, event: &'a Alias) -> impl Serialize + 'a {
    let call = Call {
        previous_id: &event.previous_user_id,
    };
    Message::new(input, call, Some(&event.traits))
}

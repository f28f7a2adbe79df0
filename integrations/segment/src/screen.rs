//! <https://segment.com/docs/connections/spec/screen/>

use analytics_spec::{AnyInput, Screen};
use serde::Serialize;

use crate::{message::Message, page::Call};

pub(crate) fn message<'a>(input: &'a AnyInput, event: &'a Screen) -> impl Serialize + 'a {
    Message::new(input, Call::new(&event.name, &event.properties), None)
}

//! <https://segment.com/docs/connections/spec/screen/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Screen};

use crate::{message, page::Call, vendor::Route};

pub(crate) fn step(input: &AnyInput, event: &Screen) -> Result<Step<Route>, Error> {
    message::step(input, Call::new(&event.name, &event.properties), None)
}

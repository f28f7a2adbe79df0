//! Without Temporal.

use std::time::Duration;

use super::{Plan, Server};
use crate::{
    Globals,
    delivery::Summary,
    events::Source,
    exit::{Exit, Failure},
};

const HOW_TO_GET_IT: &str = "this command is built without Temporal. From a clone: \
`cargo run --features temporal --`, and then what you asked for; to install it: \
`cargo install analytics-cli --features temporal`";

pub(crate) async fn work(
    _: &Server,
    _: bool,
    _: Option<Duration>,
    _: &Globals,
) -> Result<Exit, Failure> {
    Err(Failure::usage(HOW_TO_GET_IT))
}

pub(crate) async fn carry(_: Plan<'_>, _: Source) -> Result<Summary, Failure> {
    Err(Failure::usage(HOW_TO_GET_IT))
}

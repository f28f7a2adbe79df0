//! What the command does on Temporal. Without the feature `temporal`, it says
//! how to get it.

#[cfg(feature = "temporal")]
mod delivery;
#[cfg(not(feature = "temporal"))]
mod missing;
mod server;
#[cfg(feature = "temporal")]
mod worker;

use std::{cell::RefCell, sync::Arc, time::Duration};

use analytics_kit::Integration;

#[cfg(not(feature = "temporal"))]
pub(crate) use self::missing::{carry, work};
pub(crate) use self::server::Server;
#[cfg(feature = "temporal")]
pub(crate) use self::{delivery::carry, worker::work};
use crate::{
    output::{Console, Out},
    problem::Problem,
    stop::Stop,
};

/// What is to be delivered through Temporal, and how.
#[cfg_attr(
    not(feature = "temporal"),
    expect(dead_code, reason = "nothing reads it without Temporal")
)]
pub(crate) struct Plan<'a> {
    pub(crate) server: &'a Server,
    pub(crate) integrations: &'a [Arc<dyn Integration>],
    pub(crate) stop: Stop,
    /// Told at once what was wrong.
    pub(crate) on_problem: Box<dyn Fn(Problem) + 'a>,
    /// Where a line is printed for every event that a workflow has, if anywhere.
    pub(crate) receipts: Option<&'a RefCell<Out>>,
    /// No longer than this, if no batch ends.
    pub(crate) give_up_after: Duration,
    pub(crate) console: &'a Console,
}

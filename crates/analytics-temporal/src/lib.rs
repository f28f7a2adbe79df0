//! The Temporal engine: integrations as durable workflows.
//!
//! A [`TemporalWorker`] registers what a [`Handler`](analytics_spec::Handler)
//! offers, under the names and with the JSON of every engine:
//! `segment(analytics).Track`, and `segment(analytics).Batch` for many events.
//! Any Temporal client in any language executes them; in Rust, [`Client`] does
//! with the specification's types.
//!
//! ```no_run
//! # async fn run(segment: std::sync::Arc<dyn analytics_spec::Integration>) -> Result<(), analytics_spec::Error> {
//! use analytics_spec::Track;
//! use analytics_temporal::{Client, ConnectOptions, TemporalWorker};
//!
//! let connection = ConnectOptions::from_environment().connect().await?;
//! let mut worker = TemporalWorker::new();
//! worker.integration(segment)?;
//! let mut running = worker.start(&connection).await?;
//!
//! let order = Track::new("Order Completed").user_id("u1").property("revenue", 42.5);
//! Client::new(&connection).execute::<Track>("segment", order).await?;
//!
//! running.stop();
//! running.ended().await
//! # }
//! ```
//!
//! # What is promised
//!
//! - Every attempt at an event carries the same message id and timestamp. What
//!   an input lacks is made of the workflow's first run id, or of an activity's
//!   own ids: over retries, replays, restarts, resets and continued runs, it
//!   stays. Each run of a cron schedule is an event of its own.
//! - An invalid input fails its workflow at once, as `ValidationError`; nothing
//!   is sent. A failure's type is an [`ErrorKind`](analytics_spec::ErrorKind)'s
//!   name, and its first detail a [`Failure`](analytics_spec::Failure).
//! - What the vendor asks to wait is waited, and does not count towards the
//!   policy's attempts. What an event's earlier requests got through is not
//!   sent again.
//! - A kind that the integration does not support fails at once, as `Unsupported`.
//! - In a batch, one event's failure is not another's, and events that share a
//!   [`Person`](analytics_spec::event::Person) arrive in their order. Between
//!   workflows there is no order.
//! - Of each integration, a worker has as many requests under way as the vendor
//!   takes at once. The others wait on the server, on a
//!   [task queue of the integration's own](Connection::activity_task_queue):
//!   they hold no other integration up, and do not count as attempts.
//! - No input hangs a workflow, nor does an integration or a hook that panics.
//! - A vendor's answer is cut to what Temporal takes, and then says
//!   `"truncated": true`.

mod activities;
mod attempting;
mod batch;
mod client;
mod connecting;
mod connection;
mod dynamic;
mod failures;
mod ids;
mod limits;
mod options;
mod payload;
mod refusals;
mod running;
mod waiting;
mod watching;
mod worker;
mod workflow;

pub use client::{Client, Started};
pub use connecting::{ConnectOptions, TASK_QUEUE};
pub use connection::Connection;
pub use limits::{MAX_BATCH_EVENTS, MAX_INPUT_BYTES};
pub use running::Running;
/// The SDK's client, which [`Connection::client`] is.
pub use temporalio_client;
pub use waiting::WaitsFor;
pub use worker::TemporalWorker;

#[cfg(test)]
mod tests {
    use analytics_spec::{
        Handler, Policies,
        handler::Config,
        policies::{ActivityPolicy, RetryPolicy},
    };

    /// Mixpanel's integration, with so many attempts at an event.
    pub(crate) fn mixpanel(maximum_attempts: u32) -> Handler {
        let toml = "[integrations.mixpanel]\nproject_token = \"token\"\nid_merge = \"original\"";
        let configuration = analytics_kit::Configuration::from_toml(toml).unwrap();
        let mixpanel = configuration.integrations()[0].clone();
        let retry = RetryPolicy::new().maximum_attempts(maximum_attempts);
        let request = ActivityPolicy::new().retry_policy(retry);
        let config = Config::new(mixpanel).policies(Policies::new().request(request));
        Handler::new(config).unwrap()
    }
}

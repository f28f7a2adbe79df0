//! What is counted, by the names of the `metrics` facade. Without a recorder,
//! counting costs next to nothing; it has to be installed before the engine is
//! built.

use std::time::Duration;

use analytics_spec::{Delivery, Error, Kind, KindSet};
use metrics::{Counter, Gauge, Histogram, Unit};

use crate::store::LaneStatus;

const ACCEPTED: &str = "analytics_events_accepted_total";
const REFUSED: &str = "analytics_enqueue_errors_total";
const DELIVERED: &str = "analytics_events_delivered_total";
const FAILED: &str = "analytics_events_failed_total";
const RETRIED: &str = "analytics_events_retried_total";
const BATCH: &str = "analytics_batch_events";
const DEPTH: &str = "analytics_queue_events";
const AGE: &str = "analytics_queue_oldest_seconds";
const DEAD: &str = "analytics_dead_letters";
const LATENCY: &str = "analytics_delivery_latency_seconds";

/// Says what the names stand for.
pub(crate) fn describe() {
    metrics::describe_counter!(ACCEPTED, Unit::Count, "Events accepted, by kind.");
    metrics::describe_counter!(
        REFUSED,
        Unit::Count,
        "Calls that brought events and ended with an error, by kind of error."
    );
    metrics::describe_counter!(
        DELIVERED,
        Unit::Count,
        "Events that a vendor accepted, by integration."
    );
    metrics::describe_counter!(
        FAILED,
        Unit::Count,
        "Events refused for good, by integration and kind of error."
    );
    metrics::describe_counter!(
        RETRIED,
        Unit::Count,
        "Attempts after which the event is tried again, by integration."
    );
    metrics::describe_histogram!(
        BATCH,
        Unit::Count,
        "Events handed to an integration at once."
    );
    metrics::describe_gauge!(DEPTH, Unit::Count, "Events not settled, by integration.");
    metrics::describe_gauge!(
        AGE,
        Unit::Seconds,
        "Age of the oldest event that is not settled, by integration."
    );
    metrics::describe_gauge!(DEAD, Unit::Count, "Dead letters, by integration.");
    metrics::describe_histogram!(
        LATENCY,
        Unit::Seconds,
        "From acceptance to the vendor's acceptance, by integration."
    );
}

/// What an engine counts when it accepts.
#[derive(Debug)]
pub(crate) struct Accepts(Vec<(Kind, Counter)>);

impl Accepts {
    pub(crate) fn new() -> Self {
        let counter = |kind: Kind| (kind, metrics::counter!(ACCEPTED, "kind" => kind.as_str()));
        Self(KindSet::ALL.iter().map(counter).collect())
    }

    pub(crate) fn count(&self, kind: Kind) {
        if let Some((_, counter)) = self.0.iter().find(|(other, _)| *other == kind) {
            counter.increment(1);
        }
    }
}

/// What a lane counts.
#[derive(Debug)]
pub(crate) struct LaneMetrics {
    integration: String,
    delivered: Counter,
    retried: Counter,
    batch: Histogram,
    latency: Histogram,
    depth: Gauge,
    age: Gauge,
    dead: Gauge,
}

impl LaneMetrics {
    pub(crate) fn new(integration: &str) -> Self {
        let name = || integration.to_owned();
        Self {
            integration: name(),
            delivered: metrics::counter!(DELIVERED, "integration" => name()),
            retried: metrics::counter!(RETRIED, "integration" => name()),
            batch: metrics::histogram!(BATCH, "integration" => name()),
            latency: metrics::histogram!(LATENCY, "integration" => name()),
            depth: metrics::gauge!(DEPTH, "integration" => name()),
            age: metrics::gauge!(AGE, "integration" => name()),
            dead: metrics::gauge!(DEAD, "integration" => name()),
        }
    }

    pub(crate) fn batch(&self, events: usize) {
        self.batch.record(to_f64(events as u64));
    }

    pub(crate) fn retried(&self) {
        self.retried.increment(1);
    }

    /// An event has come to its end, so long after it was accepted.
    pub(crate) fn settled(&self, outcome: Result<&Delivery, &Error>, latency: Duration) {
        match outcome {
            Ok(_) => {
                self.delivered.increment(1);
                self.latency.record(latency.as_secs_f64());
            }
            Err(error) => failed(&self.integration, error),
        }
    }

    pub(crate) fn stands(&self, status: &LaneStatus, now: analytics_spec::Timestamp) {
        let age = status
            .oldest
            .and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok());
        self.depth.set(to_f64(status.pending));
        self.age.set(age.unwrap_or_default().as_secs_f64());
        self.dead.set(to_f64(status.dead));
    }

    /// The engine is closed: what it had says nothing any more.
    pub(crate) fn closed(&self) {
        for gauge in [&self.depth, &self.age, &self.dead] {
            gauge.set(0.0);
        }
    }
}

/// A call brought events, and ends with an error.
pub(crate) fn refused(error: &Error) {
    metrics::counter!(REFUSED, "error" => error.kind().as_str()).increment(1);
}

/// An integration will never accept an event.
pub(crate) fn failed(integration: &str, error: &Error) {
    metrics::counter!(
        FAILED,
        "integration" => integration.to_owned(), "error" => error.kind().as_str()
    )
    .increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts beyond 2^53")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

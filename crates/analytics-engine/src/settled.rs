//! How an event ended at an integration, or that it did not.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use analytics_spec::{AnyInput, Delivery, Error, Handler, Kind};

use crate::store::Seq;

/// An event has come to its end at one integration.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settled<'a> {
    /// The integration's name.
    pub integration: &'a str,
    /// The event's place in the order of acceptance, which tells events with
    /// one message id apart; none, if no store keeps it.
    pub seq: Option<Seq>,
    /// The event with what is known around it.
    pub input: &'a AnyInput,
    /// How many attempts were made; 0, if the integration refused the event
    /// when it was enqueued.
    pub attempts: u32,
    /// Delivered, or refused for good.
    pub outcome: Result<&'a Delivery, &'a Error>,
}

impl fmt::Display for Settled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = (self.input.kind(), self.input.message_id());
        match self.outcome {
            Ok(_) => write!(f, "{kind} {id}: delivered to {}", self.integration),
            Err(error) => write!(f, "{kind} {id}: {error}"),
        }
    }
}

/// An event that had not come to its end when the engine was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsettled {
    /// The integration's name.
    pub integration: String,
    /// The event's place in the order of acceptance, which tells events with
    /// one message id apart.
    pub seq: Seq,
    /// The event's message id.
    pub message_id: String,
    /// The event's kind.
    pub kind: Kind,
    /// How many attempts were made.
    pub attempts: u32,
    /// An attempt was under way, or its outcome could not be written: the
    /// vendor may have accepted the event.
    pub in_flight: bool,
}

/// What had not come to its end when the engine was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// What is gone with the process: nobody will deliver it. Empty with a
    /// durable store.
    pub lost: Vec<Unsettled>,
    /// How many deliveries to the engine's own integrations wait in a durable
    /// store for the next engine. An event that waits for two of them counts
    /// twice.
    pub kept: u64,
}

impl Left {
    /// Whether everything had come to its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.kept == 0
    }
}

/// Who is told that an event has come to its end.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<Observe>>);

type Observe = dyn Fn(&Settled<'_>) + Send + Sync;

impl Observer {
    pub(crate) fn new(observe: impl Fn(&Settled<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Whether there is anybody.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Tells everybody; a mistake in what they do with it stays theirs.
    pub(crate) fn report(&self, handler: &Handler, settled: &Settled<'_>) {
        let told = match settled.outcome {
            Ok(_) => true,
            Err(error) => handler.workflow_failed(&settled.input.event, error),
        };
        let observed = catch_unwind(AssertUnwindSafe(|| {
            if let Some(observe) = &self.0 {
                observe(settled);
            }
        }));
        if !told || observed.is_err() {
            tracing::error!(integration = settled.integration, "a hook panicked");
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

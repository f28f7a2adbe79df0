//! What an engine is made of.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use analytics_spec::{
    Clock, Context, Error, Handler, Integration, Timestamp, TokioClock, handler,
    integration::Batching, policies::MAX_ASKED,
};

use crate::{
    engine::{Engine, Parts},
    gate::Gate,
    lane::{Lane, Signals},
    metrics::{self, LaneMetrics},
    settled::{Observer, Settled},
    store::{Erasure, MemoryStore, Store},
    worker::EmbeddedWorker,
};

/// What an [`Engine`] is made of.
#[must_use]
pub struct Builder {
    handlers: Vec<Result<Handler, Error>>,
    context: Context,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    observer: Observer,
    linger: Duration,
    window_bytes: usize,
    patience: Duration,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            handlers: Vec::new(),
            context: Context::new(),
            store: Arc::new(MemoryStore::default()),
            clock: Arc::new(TokioClock::new()),
            observer: Observer::default(),
            linger: Duration::from_millis(50),
            window_bytes: 12 * 1024 * 1024,
            patience: Duration::from_secs(30),
        }
    }

    /// Adds an integration.
    pub fn integration(self, integration: Arc<dyn Integration>) -> Self {
        let handler = Handler::new(handler::Config::new(integration));
        self.add(handler)
    }

    /// Adds an integration with a handler's context, policies or hooks. The
    /// handler is not registered yet.
    pub fn handler(self, handler: Handler) -> Self {
        self.add(Ok(handler))
    }

    fn add(mut self, handler: Result<Handler, Error>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Sets what holds around every event; an event's own context wins.
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Sets where accepted events are kept: in a [`MemoryStore`], if nothing
    /// else is said.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
        self
    }

    /// Takes time and chance from another clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Called once for each event and integration that supports it, when the
    /// event has come to its end there, and the store knows. It runs on the
    /// integration's lane: it should be quick.
    ///
    /// Of events that are [erased](Engine::erase_user), it hears as far as a
    /// lane had read them from the store.
    ///
    /// For an integration whose rules the event breaks, that is when the event
    /// is accepted; it runs where that happens, before
    /// [`enqueue`](Engine::enqueue) returns.
    pub fn on_settled(mut self, observer: impl Fn(&Settled<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observer);
        self
    }

    /// Sets how long a batch waits to fill up: 50 ms, if nothing else is said.
    /// Integrations that take one event at a time do not wait.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets how much memory each integration's events take while they wait,
    /// beyond what the store itself keeps in memory: about 12 MiB, if nothing
    /// else is said. Who waits for another attempt is left to the store when
    /// there is no room. What is under way to the vendor, or not written down
    /// yet, takes as much again, and one batch; the requests' bodies come on top.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes.max(1);
        self
    }

    /// Sets how long [`enqueue`](Engine::enqueue) waits for room before it is
    /// an error of kind [`Full`](analytics_spec::ErrorKind::Full): 30 s, if
    /// nothing else is said.
    pub fn room_within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Registers and initialises every integration, and begins to deliver. If
    /// one cannot begin, those before it are closed again.
    ///
    /// # Errors
    ///
    /// Two integrations have one name, or one is not valid or cannot begin.
    pub async fn build(self) -> Result<Engine, Error> {
        let handlers = self.handlers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut worker = EmbeddedWorker::new(Arc::clone(&self.clock));
        let mut names = HashSet::new();
        for handler in &handlers {
            // Also if they share no workflow: the store knows lanes by name.
            if !names.insert(handler.name()) {
                return Err(Error::configuration(format!(
                    "two integrations are called {}: give them different names",
                    handler.name()
                )));
            }
            handler.register(&mut worker)?;
        }
        for (place, handler) in handlers.iter().enumerate() {
            if let Err(error) = handler.init().await {
                close(handlers.get(..place).unwrap_or_default()).await;
                return Err(error);
            }
        }
        let signals: Vec<_> = handlers.iter().map(|_| Signals::new()).collect();
        let names: Vec<Arc<str>> = handlers.iter().map(|h| h.name().into()).collect();
        let told = signals.clone();
        let on_erased = move |erasure: &Erasure| {
            for signals in &told {
                signals.erased(erasure.clone());
            }
        };
        // Whoever else has what is in memory may give it to another engine, with
        // other integrations, who have to see events to map them.
        let is_shared = !self.store.is_durable() && Arc::strong_count(&self.store) > 1;
        let begin = self.store.last();
        let resumed = match self.store.attach(&names, Arc::new(on_erased)).await {
            Ok(resumed) => resumed,
            Err(error) => {
                close(&handlers).await;
                return Err(error);
            }
        };
        let told = signals.clone();
        self.store.on_appended(Arc::new(move |last| {
            for signals in &told {
                signals.accepted(last);
            }
        }));
        metrics::describe();
        let gate = Arc::new(Gate::new(signals.clone()));
        let lanes = handlers.into_iter().zip(names).zip(signals).zip(resumed);
        let latest = self.clock.now().checked_add(MAX_ASKED);
        let latest = latest.unwrap_or(Timestamp::MAX);
        let lanes = lanes.map(|(((handler, name), signals), mut resumed)| {
            // A clock that was wrong once stops no lane for years.
            resumed.paused_until = resumed.paused_until.min(Some(latest));
            signals.resume(&resumed);
            let batching = handler.integration().batching();
            let batching = Batching {
                max_items: batching.max_items.max(1),
                max_in_flight: batching.max_in_flight.max(1),
                ..batching
            };
            Lane {
                name,
                store: Arc::clone(&self.store),
                clock: Arc::clone(&self.clock),
                observer: self.observer.clone(),
                begin,
                resumed,
                gate: Arc::clone(&gate),
                signals,
                metrics: Arc::new(LaneMetrics::new(handler.name())),
                linger: if batching.max_items > 1 {
                    self.linger
                } else {
                    Duration::ZERO
                },
                batching,
                window_bytes: self.window_bytes,
                handler,
            }
        });
        Ok(Engine::start(Parts {
            worker,
            lanes: lanes.collect(),
            store: self.store,
            is_shared,
            clock: self.clock,
            context: self.context,
            observer: self.observer,
            gate,
            patience: self.patience,
        }))
    }
}

/// Takes back that handlers were initialised.
async fn close(handlers: &[Handler]) {
    for handler in handlers {
        if let Err(error) = handler.close().await {
            tracing::warn!(%error, "an integration did not close well");
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("handlers", &self.handlers)
            .field("store", &self.store)
            .field("linger", &self.linger)
            .finish_non_exhaustive()
    }
}

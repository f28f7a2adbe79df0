//! What an engine is made of.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use analytics_spec::{
    Clock, Context, Error, Handler, Integration, TokioClock, handler, integration::Batching,
};

use crate::{
    engine::Engine,
    gate::Gate,
    lane::{Lane, Signals},
    settled::{Observer, Settled},
    store::{MemoryStore, Store},
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
            window_bytes: 64 * 1024 * 1024,
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

    /// Sets how many bytes of events each integration has at hand, beyond what
    /// the store itself keeps in memory: 64 MiB, if nothing else is said. When
    /// all of them wait for another attempt, so does what comes after them.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes.max(1);
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
                for handler in handlers.iter().take(place) {
                    if let Err(error) = handler.close().await {
                        tracing::warn!(%error, "an integration did not close well");
                    }
                }
                return Err(error);
            }
        }
        let gate = Arc::new(Gate::default());
        let begin = self.store.last();
        let names: Vec<Arc<str>> = handlers
            .iter()
            .map(|handler| handler.name().into())
            .collect();
        self.store.attach(&names, Arc::new(|_| {})).await?;
        let lanes = handlers.into_iter().map(|handler| {
            let batching = handler.integration().batching();
            let batching = Batching {
                max_items: batching.max_items.max(1),
                max_in_flight: batching.max_in_flight.max(1),
                ..batching
            };
            Lane {
                store: Arc::clone(&self.store),
                clock: Arc::clone(&self.clock),
                observer: self.observer.clone(),
                begin,
                gate: Arc::clone(&gate),
                signals: Signals::new(),
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
        let lanes = lanes.collect();
        Ok(Engine::start(
            worker,
            lanes,
            self.store,
            self.clock,
            self.context,
            self.observer,
            gate,
        ))
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

//! Taking events, and ending well.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use analytics_spec::{
    AnyInput, Calls, Clock, Context, Error, ErrorKind, Event, Handler, Input, Output, Value,
};
use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::{
    builder::Builder,
    lane::{Lane, Signals},
    settled::Unsettled,
    store::Store,
    worker::EmbeddedWorker,
};

/// The embedded engine. See the [crate](crate).
#[derive(Debug)]
pub struct Engine {
    worker: EmbeddedWorker,
    lanes: Vec<Way>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    context: Context,
    is_open: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<Vec<Unsettled>>>>,
}

/// The engine's end of a lane.
#[derive(Debug)]
struct Way {
    name: Arc<str>,
    handler: Handler,
    signals: Arc<Signals>,
}

/// What became of an event when it was accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Receipt {
    /// The event's message id.
    pub message_id: String,
    /// The integrations that it will be delivered to.
    pub queued: Vec<Arc<str>>,
    /// The integrations that do not support its kind.
    pub unsupported: Vec<Arc<str>>,
    /// The integrations whose rules it breaks, each with what is wrong. It
    /// will not be delivered to them.
    pub refused: Vec<(Arc<str>, Error)>,
}

impl Engine {
    /// What an engine is made of.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(
        worker: EmbeddedWorker,
        lanes: Vec<Lane>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        context: Context,
    ) -> Self {
        let ways = lanes
            .iter()
            .map(|lane| Way {
                name: lane.handler.name().into(),
                handler: lane.handler.clone(),
                signals: Arc::clone(&lane.signals),
            })
            .collect();
        let tasks = lanes
            .into_iter()
            .map(|lane| tokio::spawn(lane.run()))
            .collect();
        Self {
            worker,
            lanes: ways,
            store,
            clock,
            context,
            is_open: AtomicBool::new(true),
            tasks: Mutex::new(tasks),
        }
    }

    /// The handlers, in the order in which they were added.
    pub fn handlers(&self) -> impl Iterator<Item = &Handler> {
        self.lanes.iter().map(|lane| &lane.handler)
    }

    /// What executes workflows by name.
    #[must_use]
    pub fn worker(&self) -> &EmbeddedWorker {
        &self.worker
    }

    /// Executes a workflow, or one activity of it, by its name, and waits for
    /// its end: see [`EmbeddedWorker::execute`].
    ///
    /// # Errors
    ///
    /// The name is not registered; the input is not valid; or the vendor
    /// refused the event.
    pub async fn execute(&self, name: &str, input: Value) -> Result<Value, Error> {
        self.worker.execute(name, input).await
    }

    /// Executes the workflow of an event's type at an integration, and waits
    /// for its end.
    ///
    /// # Errors
    ///
    /// See [`execute`](Self::execute).
    pub async fn run<E: Event>(
        &self,
        integration: &str,
        input: impl Into<Input<E>>,
    ) -> Result<Output<E>, Error> {
        self.worker.run(integration, input).await
    }

    /// Accepts an event for every integration; waits for room.
    ///
    /// # Errors
    ///
    /// The event breaks the specification's rules, or the engine is closed.
    pub async fn enqueue<E: Event>(&self, input: impl Into<Input<E>>) -> Result<Receipt, Error> {
        let (input, receipt) = self.accept(input.into().into_any())?;
        if !receipt.queued.is_empty() {
            self.store.append(input, &receipt.queued).await?;
            self.wake();
        }
        Ok(receipt)
    }

    /// Accepts an event for every integration, if there is room.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue), and [`Full`](ErrorKind::Full).
    pub fn try_enqueue<E: Event>(&self, input: impl Into<Input<E>>) -> Result<Receipt, Error> {
        let (input, receipt) = self.accept(input.into().into_any())?;
        if !receipt.queued.is_empty() {
            self.store.try_append(input, &receipt.queued)?;
            self.wake();
        }
        Ok(receipt)
    }

    /// Completes, stamps and validates; who is to get the event.
    fn accept(&self, mut input: AnyInput) -> Result<(AnyInput, Receipt), Error> {
        if !self.is_open.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the engine is closed"));
        }
        input.context.inherit(&self.context);
        input.stamp(self.clock.now());
        input.validate()?;
        let mut receipt = Receipt {
            message_id: input.message_id().to_owned(),
            queued: Vec::with_capacity(self.lanes.len()),
            unsupported: Vec::new(),
            refused: Vec::new(),
        };
        for lane in &self.lanes {
            let name = Arc::clone(&lane.name);
            if !lane.handler.integration().supports().contains(input.kind()) {
                receipt.unsupported.push(name);
                continue;
            }
            match lane.handler.validate(&lane.handler.complete(&input)) {
                Ok(()) => receipt.queued.push(name),
                Err(error) => {
                    lane.handler.workflow_failed(&input.event, &error);
                    receipt.refused.push((name, error));
                }
            }
        }
        Ok((input, receipt))
    }

    fn wake(&self) {
        for lane in &self.lanes {
            lane.signals.wake.notify_one();
        }
    }

    /// Waits until everything that was accepted before is settled, without
    /// letting batches wait to fill up.
    ///
    /// # Errors
    ///
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded), if that takes longer
    /// than `within`; nothing is lost by it.
    pub async fn flush(&self, within: Duration) -> Result<(), Error> {
        let mark = self.store.last();
        let settled = join_all(self.lanes.iter().map(|lane| async {
            let mut through = lane.signals.settled.subscribe();
            let urgent = Urgent::new(&lane.signals);
            // The lane ends only when the engine is closed; then nothing is
            // left that could be waited for.
            let _ = through.wait_for(|through| *through >= mark).await;
            drop(urgent);
        }));
        tokio::time::timeout(within, settled)
            .await
            .map(|_| ())
            .map_err(|_| {
                Error::new(
                    ErrorKind::DeadlineExceeded,
                    "not everything was delivered in time",
                )
            })
    }

    /// Takes no more events, delivers those that were accepted, and ends.
    /// What is not settled when `within` is over is returned.
    pub async fn close(&self, within: Duration) -> Vec<Unsettled> {
        self.end(within, false).await
    }

    /// Takes no more events, waits for the deliveries that are under way, and
    /// ends. What is not settled is returned.
    pub async fn halt(&self, within: Duration) -> Vec<Unsettled> {
        self.end(within, true).await
    }

    async fn end(&self, within: Duration, at_once: bool) -> Vec<Unsettled> {
        self.is_open.store(false, Ordering::Release);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        if tasks.is_empty() {
            return Vec::new();
        }
        for lane in &self.lanes {
            lane.signals.closing.store(true, Ordering::Release);
            lane.signals.halted.store(at_once, Ordering::Release);
        }
        self.wake();
        let deadline = tokio::time::sleep(within);
        let ended = join_all(tasks);
        tokio::pin!(ended, deadline);
        let left = tokio::select! {
            left = &mut ended => left,
            () = &mut deadline => {
                for lane in &self.lanes {
                    lane.signals.abandoned.store(true, Ordering::Release);
                }
                self.wake();
                ended.await
            }
        };
        for lane in &self.lanes {
            if let Err(error) = lane.handler.close().await {
                tracing::warn!(%error, "an integration did not close well");
            }
        }
        // A lane itself does not panic; what it calls is caught before.
        left.into_iter().flatten().flatten().collect()
    }
}

/// While it lives, batches do not wait to fill up.
struct Urgent<'a>(&'a Signals);

impl<'a> Urgent<'a> {
    fn new(signals: &'a Signals) -> Self {
        signals.flushes.fetch_add(1, Ordering::AcqRel);
        signals.wake.notify_one();
        Self(signals)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.flushes.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for task in &*self.tasks.lock().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// A call accepts an event for every integration; see [`Engine::enqueue`].
impl Calls for Engine {
    type Receipt<E: Event> = Receipt;

    async fn send<E: Event>(&self, input: impl Into<Input<E>> + Send) -> Result<Receipt, Error> {
        let input: Input<E> = input.into();
        self.enqueue(input).await
    }
}

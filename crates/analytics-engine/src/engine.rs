//! Taking events, and ending well.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use analytics_spec::{
    AnyInput, Calls, Clock, Context, Error, ErrorKind, Event, Handler, Input, Output, Value,
};
use futures::future::join_all;
use tokio::{
    sync::Mutex,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use crate::{
    builder::Builder,
    gate::Gate,
    lane::{self, Lane, Signals},
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
    gate: Arc<Gate>,
    ending: Mutex<Ending>,
    aborts: Vec<AbortHandle>,
}

/// The lanes that have not ended, and what those that have left behind. Kept
/// here so that nothing is lost by dropping a `close` half-way.
#[derive(Debug)]
struct Ending {
    tasks: VecDeque<(Arc<str>, JoinHandle<Vec<Unsettled>>)>,
    left: Vec<Unsettled>,
}

/// Integrations have at least this long to close, also when the time for
/// closing the engine is over.
const CLOSE_AT_LEAST: Duration = Duration::from_secs(1);

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

/// Nobody waits longer, and no clock overflows by it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

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
        gate: Arc<Gate>,
    ) -> Self {
        let mut ways = Vec::with_capacity(lanes.len());
        let mut tasks = VecDeque::with_capacity(lanes.len());
        for lane in lanes {
            let name: Arc<str> = lane.handler.name().into();
            ways.push(Way {
                name: Arc::clone(&name),
                handler: lane.handler.clone(),
                signals: Arc::clone(&lane.signals),
            });
            tasks.push_back((name, tokio::spawn(lane.run())));
        }
        let aborts = tasks.iter().map(|(_, task)| task.abort_handle()).collect();
        let left = Vec::new();
        Self {
            worker,
            lanes: ways,
            store,
            clock,
            context,
            gate,
            ending: Mutex::new(Ending { tasks, left }),
            aborts,
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
    /// Dropped before it returns, it has either accepted the event or not. One
    /// that still waits when the engine is closed goes on waiting as long as
    /// [`close`](Self::close) does.
    ///
    /// # Errors
    ///
    /// The event breaks the specification's rules, or the engine is closed.
    pub async fn enqueue<E: Event>(&self, input: impl Into<Input<E>>) -> Result<Receipt, Error> {
        let input = input.into().into_any();
        let sealed = self.gate.sealed();
        let entry = self.enter()?;
        let (input, receipt) = self.accept(input)?;
        if receipt.queued.is_empty() {
            return Ok(receipt);
        }
        tokio::select! {
            biased;
            appended = self.store.append(input, &receipt.queued) => appended?,
            () = sealed => return Err(closed()),
        };
        entry.finish().map(|()| receipt)
    }

    /// Accepts an event for every integration, if there is room.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue), and [`Full`](ErrorKind::Full).
    pub fn try_enqueue<E: Event>(&self, input: impl Into<Input<E>>) -> Result<Receipt, Error> {
        let entry = self.enter()?;
        let (input, receipt) = self.accept(input.into().into_any())?;
        if receipt.queued.is_empty() {
            return Ok(receipt);
        }
        self.store.try_append(input, &receipt.queued)?;
        entry.finish().map(|()| receipt)
    }

    fn enter(&self) -> Result<Entry<'_>, Error> {
        self.gate.enter();
        let entry = Entry(self);
        if self.gate.is_closed() {
            return Err(closed());
        }
        Ok(entry)
    }

    /// Completes, stamps and validates; who is to get the event.
    fn accept(&self, mut input: AnyInput) -> Result<(AnyInput, Receipt), Error> {
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
                // The engine ended meanwhile: it is not the event's fault.
                Err(_) if self.gate.is_sealed() => return Err(closed()),
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
    /// letting batches wait to fill up. Pauses before another attempt are
    /// waited for.
    ///
    /// # Errors
    ///
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded), if that takes longer
    /// than `within`; nothing is lost by it. [`Closed`](ErrorKind::Closed), if
    /// the engine ended before everything was settled.
    pub async fn flush(&self, within: Duration) -> Result<(), Error> {
        let mark = self.store.last();
        let settled = join_all(self.lanes.iter().map(|lane| async {
            let mut reached = lane.signals.reached.subscribe();
            let _urgent = Urgent::new(&lane.signals);
            let reached = reached
                .wait_for(|reached| reached.through >= mark || reached.is_over)
                .await;
            reached.is_ok_and(|reached| reached.through >= mark)
        }));
        let settled = tokio::time::timeout(within, settled).await.map_err(|_| {
            Error::new(
                ErrorKind::DeadlineExceeded,
                "not everything was delivered in time",
            )
        })?;
        if settled.contains(&false) {
            return Err(closed());
        }
        Ok(())
    }

    /// Takes no more events, delivers those that were accepted, and ends.
    /// What is not settled when `within` is over is returned, once: a second
    /// call waits for the end as well, and returns nothing.
    pub async fn close(&self, within: Duration) -> Vec<Unsettled> {
        self.end(within, false).await
    }

    /// Takes no more events, waits for the deliveries that are under way, and
    /// ends. What is not settled is returned, as by [`close`](Self::close).
    pub async fn halt(&self, within: Duration) -> Vec<Unsettled> {
        self.end(within, true).await
    }

    async fn end(&self, within: Duration, at_once: bool) -> Vec<Unsettled> {
        let deadline = Instant::now() + within.min(LONGEST);
        if at_once {
            // Nothing makes room any more for those who wait for it.
            self.gate.seal();
        } else {
            self.gate.close();
        }
        for lane in &self.lanes {
            lane.signals.closing.store(true, Ordering::Release);
            lane.signals.halted.fetch_or(at_once, Ordering::Release);
        }
        self.wake();
        let ended = self.ended(deadline);
        tokio::pin!(ended);
        tokio::select! {
            left = &mut ended => left,
            () = tokio::time::sleep_until(deadline) => {
                self.gate.seal();
                for lane in &self.lanes {
                    lane.signals.abandoned.notify_one();
                }
                ended.await
            }
        }
    }

    /// Waits for every lane's end, and closes the integrations.
    async fn ended(&self, deadline: Instant) -> Vec<Unsettled> {
        let mut ending = self.ending.lock().await;
        let Ending { tasks, left } = &mut *ending;
        while let Some((name, task)) = tasks.front_mut() {
            match task.await {
                Ok(unsettled) => left.extend(unsettled),
                Err(error) => {
                    tracing::error!(integration = %name, %error, "a lane did not end well");
                    left.extend(lane::left_in(&*self.store, name).await);
                }
            }
            tasks.pop_front();
        }
        let deadline = deadline.max(Instant::now() + CLOSE_AT_LEAST);
        let open = self.lanes.iter().filter(|lane| lane.handler.is_ready());
        join_all(open.map(|lane| async move {
            match tokio::time::timeout_at(deadline, lane.handler.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an integration did not close well"),
                Err(_) => {
                    tracing::warn!(integration = %lane.name, "an integration did not close in time");
                }
            }
        }))
        .await;
        std::mem::take(left)
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the engine is closed")
}

/// Somebody on the way in.
struct Entry<'a>(&'a Engine);

impl Entry<'_> {
    /// The event is in the store: the lanes will find it, unless they have
    /// ended.
    fn finish(self) -> Result<(), Error> {
        self.0.wake();
        if self.0.gate.is_sealed() {
            return Err(closed());
        }
        Ok(())
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.gate.leave();
        // The lanes wait for the last one.
        if self.0.gate.is_quiet() {
            self.0.wake();
        }
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
        for task in &self.aborts {
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

//! Taking events, and ending well.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    lane::{self, LIST_AT_LEAST, Lane, Signals},
    settled::{Observer, Settled, Unsettled},
    store::{Accepted, Room, Seq, Store},
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
    observer: Observer,
    gate: Arc<Gate>,
    ending: Mutex<Ending>,
    /// What was not settled was returned.
    is_told: AtomicBool,
    aborts: Vec<AbortHandle>,
}

/// The lanes that have not ended, and what those that have left behind. Kept
/// here so that nothing is lost by dropping a `close` half-way.
#[derive(Debug)]
struct Ending {
    /// Without a task: the lane did not end well.
    tasks: VecDeque<(Arc<str>, Option<LaneTask>)>,
    left: Vec<Unsettled>,
}

type LaneTask = JoinHandle<Vec<Unsettled>>;

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
    /// The event's place in the order of acceptance, which tells events with
    /// one message id apart; none, if nothing was queued.
    pub seq: Option<Seq>,
    /// The integrations that it will be delivered to.
    pub queued: Vec<Arc<str>>,
    /// The integrations that do not support its kind.
    pub unsupported: Vec<Arc<str>>,
    /// The integrations whose rules it breaks, each with what is wrong. It
    /// will not be delivered to them; [`Builder::on_settled`] was told.
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
        observer: Observer,
        gate: Arc<Gate>,
    ) -> Self {
        let mut ways = Vec::with_capacity(lanes.len());
        let mut tasks = VecDeque::with_capacity(lanes.len());
        let mut aborts = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let name: Arc<str> = lane.handler.name().into();
            ways.push(Way {
                name: Arc::clone(&name),
                handler: lane.handler.clone(),
                signals: Arc::clone(&lane.signals),
            });
            let task = tokio::spawn(lane.run());
            aborts.push(task.abort_handle());
            tasks.push_back((name, Some(task)));
        }
        let left = Vec::new();
        Self {
            worker,
            lanes: ways,
            store,
            clock,
            context,
            observer,
            gate,
            ending: Mutex::new(Ending { tasks, left }),
            is_told: AtomicBool::new(false),
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
    /// The event breaks the specification's rules, or the engine is
    /// [`Closed`](ErrorKind::Closed). If the engine ended while the event was
    /// on its way into the store, it may have been accepted all the same, and
    /// even been delivered: the error then says so, with the message id.
    pub async fn enqueue<E: Event>(&self, input: impl Into<Input<E>>) -> Result<Receipt, Error> {
        let input = input.into().into_any();
        let sealed = self.gate.sealed();
        let entry = self.enter()?;
        let (input, receipt) = self.accept(input)?;
        if receipt.queued.is_empty() {
            self.refuse(&input, &receipt);
            return Ok(receipt);
        }
        let refused = refused(&input, &receipt);
        let seq = tokio::select! {
            biased;
            appended = self.store.append(vec![Accepted::new(input, receipt.queued.clone())], Room::Wait) => appended?,
            () = sealed => return Err(overtaken(&receipt)),
        };
        entry.finish(seq, refused, receipt)
    }

    /// Accepts an event for every integration, if there is room.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue), and [`Full`](ErrorKind::Full).
    pub async fn try_enqueue<E: Event>(
        &self,
        input: impl Into<Input<E>>,
    ) -> Result<Receipt, Error> {
        let entry = self.enter()?;
        let (input, receipt) = self.accept(input.into().into_any())?;
        if receipt.queued.is_empty() {
            self.refuse(&input, &receipt);
            return Ok(receipt);
        }
        let refused = refused(&input, &receipt);
        let accepted = Accepted::new(input, receipt.queued.clone());
        let seq = self.store.append(vec![accepted], Room::Refuse).await?;
        entry.finish(seq, refused, receipt)
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
            seq: None,
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
                Err(error) => receipt.refused.push((name, error)),
            }
        }
        Ok((input, receipt))
    }

    /// Tells everybody which integrations refused an accepted event.
    fn refuse(&self, input: &AnyInput, receipt: &Receipt) {
        for (name, error) in &receipt.refused {
            let Some(lane) = self.lanes.iter().find(|lane| lane.name == *name) else {
                continue;
            };
            // By this target, who tells of it in another way can leave it out.
            tracing::warn!(
                target: "analytics_engine::refused",
                integration = %name,
                kind = %input.kind(),
                message_id = receipt.message_id,
                error = %error.kind(),
                "an integration refused an event"
            );
            let settled = Settled {
                integration: name,
                seq: None,
                input,
                attempts: 0,
                outcome: Err(error),
            };
            self.observer.report(&lane.handler, &settled);
        }
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
    ///
    /// It returns in time also if the store hangs, or an integration does not
    /// close: each has at least a second for its part, though.
    #[must_use = "these events were not delivered"]
    pub async fn close(&self, within: Duration) -> Vec<Unsettled> {
        self.end(within, false).await
    }

    /// Takes no more events, waits for the deliveries that are under way, and
    /// ends. What is not settled is returned, as by [`close`](Self::close).
    #[must_use = "these events were not delivered"]
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
            let ended = match task {
                Some(task) => Some(task.await),
                None => None,
            };
            if let Some(Ok(unsettled)) = ended {
                left.extend(unsettled);
            } else {
                // Should this be dropped, the task is not asked again.
                *task = None;
                if let Some(Err(error)) = ended {
                    tracing::error!(integration = %name, %error, "a lane did not end well");
                }
                let deadline = deadline.max(Instant::now() + LIST_AT_LEAST);
                let deadline = tokio::time::sleep_until(deadline);
                left.extend(lane::left_in(&*self.store, name, deadline).await);
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
        self.is_told.store(true, Ordering::Release);
        std::mem::take(left)
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the engine is closed")
}

/// The engine ended while an event was on its way into the store.
fn overtaken(receipt: &Receipt) -> Error {
    Error::new(
        ErrorKind::Closed,
        format!(
            "the engine was closed meanwhile: the event {} may have been accepted",
            receipt.message_id
        ),
    )
}

/// An event that some integration refused: once it is accepted, they are told.
fn refused(input: &AnyInput, receipt: &Receipt) -> Option<AnyInput> {
    (!receipt.refused.is_empty()).then(|| input.clone())
}

/// Somebody on the way in.
struct Entry<'a>(&'a Engine);

impl Entry<'_> {
    /// The event is in the store: the lanes will find it, unless they have
    /// ended.
    fn finish(
        self,
        seq: Seq,
        refused: Option<AnyInput>,
        mut receipt: Receipt,
    ) -> Result<Receipt, Error> {
        let engine = self.0;
        let queued = engine
            .lanes
            .iter()
            .filter(|lane| receipt.queued.contains(&lane.name));
        for lane in queued {
            lane.signals.ahead.fetch_add(1, Ordering::AcqRel);
        }
        engine.wake();
        if let Some(input) = refused {
            engine.refuse(&input, &receipt);
        }
        if engine.gate.is_sealed() {
            return Err(overtaken(&receipt));
        }
        receipt.seq = Some(seq);
        Ok(receipt)
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
        let unsettled: usize = self.lanes.iter().map(|l| l.signals.unsettled()).sum();
        if unsettled > 0 && !self.is_told.load(Ordering::Acquire) {
            tracing::warn!(
                unsettled,
                "the engine was dropped before everything was settled: close it first"
            );
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

//! Taking events, and ending well.

mod way_in;

use std::{
    collections::VecDeque,
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use analytics_spec::{
    AnyInput, Calls, Clock, Context, Error, ErrorKind, Event, Handler, Input, Output, Prepared,
    Value,
};
use futures::future::{FutureExt as _, join_all};
use tokio::{
    runtime::Handle,
    sync::Mutex,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use crate::{
    builder::Builder,
    gate::Gate,
    health::{Health, IntegrationHealth, NoRoom},
    lane::{self, LIST_AT_LEAST, Lane, Signals},
    letters::Letters,
    metrics::{Accepts, LaneMetrics},
    settled::{Left, Observer, Unsettled},
    store::{Erased, LaneStatus, Seq, Store},
    worker::EmbeddedWorker,
};
use way_in::{at, one};

/// The embedded engine. See the [crate](crate).
#[derive(Debug)]
pub struct Engine {
    worker: EmbeddedWorker,
    lanes: Vec<Way>,
    /// Their names: nearly every event goes to all of them.
    names: Arc<[Arc<str>]>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// What every event inherits, if that is anything.
    context: Option<Context>,
    observer: Observer,
    gate: Arc<Gate>,
    /// How long events wait for room.
    patience: Duration,
    no_room: NoRoom,
    metrics: Accepts,
    /// Somebody sees events: who is told of them, or another engine.
    is_shown: bool,
    ending: Mutex<Ending>,
    /// What was not settled was returned.
    is_told: AtomicBool,
    /// What the store knew when it was closed.
    last_status: OnceLock<Vec<LaneStatus>>,
    gauge: AbortHandle,
    aborts: Vec<AbortHandle>,
    /// Where what outlives a call goes on.
    runtime: Handle,
}

/// What an engine starts with.
pub(crate) struct Parts {
    pub(crate) worker: EmbeddedWorker,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) store: Arc<dyn Store>,
    /// Others may give it to another engine.
    pub(crate) is_shared: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) context: Context,
    pub(crate) observer: Observer,
    pub(crate) gate: Arc<Gate>,
    pub(crate) patience: Duration,
}

/// The lanes that have not ended, and what those that have left behind. Kept
/// here so that nothing is lost by dropping a `close` half-way.
#[derive(Debug)]
struct Ending {
    /// Without a task: the lane did not end well.
    tasks: VecDeque<(Arc<str>, Option<LaneTask>)>,
    lost: Vec<Unsettled>,
    kept: u64,
    /// So is the store.
    is_closed: bool,
}

type LaneTask = JoinHandle<Vec<Unsettled>>;

/// Integrations have at least this long to close, also when the time for
/// closing the engine is over.
const CLOSE_AT_LEAST: Duration = Duration::from_secs(1);

/// And the store so long: it may have much to tidy up.
const CLOSE_STORE_AT_LEAST: Duration = Duration::from_secs(5);

/// How often the gauges of the queues are set.
const GAUGE_EVERY: Duration = Duration::from_secs(5);

/// The engine's end of a lane.
#[derive(Debug)]
struct Way {
    name: Arc<str>,
    handler: Handler,
    signals: Arc<Signals>,
    metrics: Arc<LaneMetrics>,
}

impl Way {
    /// What the integration will send of an event, if it says so; its mistakes
    /// stay its own.
    fn prepare(&self, input: &AnyInput) -> Result<Option<Prepared>, Error> {
        let prepare = AssertUnwindSafe(|| self.handler.prepare(input));
        catch_unwind(prepare).unwrap_or_else(|_| {
            tracing::error!(integration = %self.name, "the integration panicked");
            let error = Error::new(ErrorKind::Internal, "the integration panicked");
            Err(error.with_integration(&self.name))
        })
    }
}

/// What became of an event when it was accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Receipt {
    /// The event's message id.
    pub message_id: String,
    /// The event's place in the order of acceptance, which tells events with
    /// one message id apart; none, if there was nothing to keep.
    pub seq: Option<Seq>,
    /// The integrations that it will be delivered to.
    pub queued: Arc<[Arc<str>]>,
    /// The integrations that do not support its kind.
    pub unsupported: Vec<Arc<str>>,
    /// The integrations whose rules it breaks, each with what is wrong. It
    /// will not be delivered to them; [`Builder::on_settled`] was told.
    pub refused: Vec<(Arc<str>, Error)>,
}

impl Engine {
    /// What an engine is made of.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(parts: Parts) -> Self {
        let Parts {
            worker,
            lanes,
            store,
            is_shared,
            clock,
            context,
            observer,
            gate,
            patience,
        } = parts;
        let mut ways = Vec::with_capacity(lanes.len());
        let mut tasks = VecDeque::with_capacity(lanes.len());
        let mut aborts = Vec::with_capacity(lanes.len());
        let mut gauges = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let name = Arc::clone(&lane.name);
            gauges.push((Arc::clone(&name), Arc::clone(&lane.metrics)));
            ways.push(Way {
                name: Arc::clone(&name),
                handler: lane.handler.clone(),
                signals: Arc::clone(&lane.signals),
                metrics: Arc::clone(&lane.metrics),
            });
            let task = tokio::spawn(lane.run());
            aborts.push(task.abort_handle());
            tasks.push_back((name, Some(task)));
        }
        let has_hooks = ways.iter().any(|way| way.handler.has_hooks());
        let gauge = tokio::spawn(gauge(Arc::clone(&store), Arc::clone(&clock), gauges));
        aborts.push(gauge.abort_handle());
        Self {
            worker,
            names: ways.iter().map(|way| Arc::clone(&way.name)).collect(),
            lanes: ways,
            store,
            clock,
            context: Some(context).filter(|context| !context.is_empty()),
            is_shown: observer.is_there() || has_hooks || is_shared,
            observer,
            gate,
            patience,
            no_room: NoRoom::default(),
            metrics: Accepts::new(),
            ending: Mutex::new(Ending {
                tasks,
                lost: Vec::new(),
                kept: 0,
                is_closed: false,
            }),
            is_told: AtomicBool::new(false),
            last_status: OnceLock::new(),
            gauge: gauge.abort_handle(),
            aborts,
            runtime: Handle::current(),
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

    /// Accepts an event for every integration. Completes when the store has it:
    /// with a durable one, when it is on disk. Waits for room as long as
    /// [`room_within`](Builder::room_within) allows.
    ///
    /// The call itself brings the event on its way, and its future says when it
    /// has arrived. So events are accepted in the order of the calls, and one
    /// task may have many under way
    /// (`stream.map(|event| engine.enqueue(event)).buffered(1000)`): a durable
    /// store writes together what comes together.
    ///
    /// Dropped before it completes, it has either accepted the event or not.
    /// One that still waits when the engine is closed goes on waiting as long
    /// as [`close`](Self::close) does.
    ///
    /// # Errors
    ///
    /// The event breaks the specification's rules; there is no room
    /// ([`Full`](ErrorKind::Full)); the store failed; or the engine is
    /// [`Closed`](ErrorKind::Closed). If the engine ended while the event was
    /// on its way into the store, it may have been accepted all the same, and
    /// even been delivered: the error then says so, with the message id.
    pub fn enqueue<E: Event>(
        &self,
        input: impl Into<Input<E>>,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send {
        self.bring(
            iter::once(Box::new(input.into().into_any())),
            self.patience,
            |_, error| error,
        )
        .map(one)
    }

    /// Accepts an event for every integration, if there is room at once, behind
    /// those who wait for some. It still completes when the store has the event.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub fn try_enqueue<E: Event>(
        &self,
        input: impl Into<Input<E>>,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send {
        self.bring(
            iter::once(Box::new(input.into().into_any())),
            Duration::ZERO,
            |_, error| error,
        )
        .map(one)
    }

    /// Accepts several events for every integration, all of them or none, and
    /// writes them together; otherwise as [`enqueue`](Self::enqueue).
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue); the paths of violations begin with the
    /// event's place, from 0: `[3].track.event`.
    pub fn enqueue_all<E: Event, I: Into<Input<E>>>(
        &self,
        inputs: impl IntoIterator<Item = I>,
    ) -> impl Future<Output = Result<Vec<Receipt>, Error>> + Send {
        let inputs = inputs
            .into_iter()
            .map(|input| Box::new(input.into().into_any()));
        self.bring(inputs, self.patience, at)
            .map(|receipts| Ok(receipts?.into_vec()))
    }

    /// What integrations will never accept; `None`, if the store does not keep
    /// it.
    pub fn dead_letters(&self) -> Option<Letters<'_>> {
        let letters = self.store.dead_letters()?;
        Some(Letters::new(self, letters))
    }

    /// Forgets a user: what was accepted and not delivered yet, and dead
    /// letters. What was delivered is the vendors': tell them with a
    /// [`Delete`](analytics_spec::Delete) event, after whose delivery the same
    /// happens here by itself. A `Delete` that is still pending, or was refused,
    /// is kept: by it the vendors forget.
    ///
    /// What is under way to a vendor at this moment may arrive.
    ///
    /// # Errors
    ///
    /// The store failed; some of it may be forgotten: ask again.
    pub async fn erase_user(&self, user_id: &str) -> Result<Erased, Error> {
        self.store.erase(user_id).await
    }

    /// How it goes, here and at every vendor. Of an engine that is closed, how
    /// it was when the store was closed.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn health(&self) -> Result<Health, Error> {
        let mut statuses = match self.last_status.get() {
            Some(statuses) => statuses.clone(),
            None => self.store.status().await?,
        };
        let now = self.clock.now();
        let integrations = self.lanes.iter().map(|lane| {
            let is_own = |status: &LaneStatus| *status.integration == *lane.name;
            let status = match statuses.iter().position(is_own) {
                Some(place) => statuses.swap_remove(place),
                None => LaneStatus::new(&lane.name),
            };
            IntegrationHealth::new(lane.signals.condition(), status, now)
        });
        let integrations = integrations.collect();
        statuses.sort_by(|one, other| one.integration.cmp(&other.integration));
        Ok(Health {
            is_accepting: !self.gate.is_closed(),
            is_durable: self.store.is_durable(),
            store_error: self.store.trouble().map(|error| error.to_string()),
            refused_for_room: self.no_room.lately(self.patience),
            integrations,
            detached: statuses,
        })
    }

    pub(crate) fn wake(&self) {
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
    /// [`Internal`](ErrorKind::Internal), if an integration is
    /// [stopped](crate::State::Stopped).
    pub async fn flush(&self, within: Duration) -> Result<(), Error> {
        let mark = self.store.last();
        let settled = join_all(self.lanes.iter().map(|lane| async {
            let mut reached = lane.signals.reached.subscribe();
            let _urgent = Urgent::new(&lane.signals);
            let reached = reached
                .wait_for(|reached| reached.through >= mark || reached.is_over)
                .await;
            match reached {
                Ok(reached) if reached.through >= mark => Ok(()),
                _ if lane.signals.condition().is_stopped => Err(stopped(&lane.name)),
                _ => Err(closed()),
            }
        }));
        let settled = tokio::time::timeout(within, settled).await.map_err(|_| {
            Error::new(
                ErrorKind::DeadlineExceeded,
                "not everything was delivered in time",
            )
        })?;
        settled.into_iter().collect()
    }

    /// Takes no more events, delivers those that were accepted, and ends.
    /// What is not settled when `within` is over is returned. A second call
    /// waits for the end as well, and says again how much is `kept`; what is
    /// `lost` is told once. The store is closed as well.
    ///
    /// It returns in time also if the store hangs, or an integration does not
    /// close: each has at least a second for its part, though.
    #[must_use = "some events may not have been delivered"]
    pub async fn close(&self, within: Duration) -> Left {
        self.end(within, false).await
    }

    /// Takes no more events, waits for the deliveries that are under way, and
    /// ends. What is not settled is returned, as by [`close`](Self::close).
    #[must_use = "some events may not have been delivered"]
    pub async fn halt(&self, within: Duration) -> Left {
        self.end(within, true).await
    }

    async fn end(&self, within: Duration, at_once: bool) -> Left {
        let deadline = Instant::now() + within.min(crate::LONGEST);
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
    async fn ended(&self, deadline: Instant) -> Left {
        let mut ending = self.ending.lock().await;
        let Ending {
            tasks,
            lost,
            kept,
            is_closed,
        } = &mut *ending;
        while let Some((name, task)) = tasks.front_mut() {
            let ended = match task {
                Some(task) => Some(task.await),
                None => None,
            };
            if let Some(Ok(unsettled)) = ended {
                lost.extend(unsettled);
            } else {
                // Should this be dropped, the task is not asked again.
                *task = None;
                if let Some(Err(error)) = ended {
                    tracing::error!(integration = %name, %error, "a lane did not end well");
                }
                let deadline = deadline.max(Instant::now() + LIST_AT_LEAST);
                let deadline = tokio::time::sleep_until(deadline);
                lost.extend(lane::left_in(&*self.store, name, deadline).await);
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
        self.gauge.abort();
        for lane in &self.lanes {
            lane.metrics.closed();
        }
        if !*is_closed {
            let deadline = deadline.max(Instant::now() + CLOSE_STORE_AT_LEAST);
            if tokio::time::timeout_at(deadline, self.close_store(kept))
                .await
                .is_err()
            {
                tracing::warn!("the store did not close in time");
            }
            *is_closed = true;
        }
        self.is_told.store(true, Ordering::Release);
        Left {
            lost: std::mem::take(lost),
            kept: *kept,
        }
    }

    /// Counts what a durable store keeps, and closes it.
    async fn close_store(&self, kept: &mut u64) {
        match self.store.status().await {
            Ok(status) => {
                if self.store.is_durable() {
                    let own = status.iter().filter(|lane| lane.is_attached);
                    *kept = own.map(|lane| lane.pending).sum();
                }
                // Nobody else comes here.
                let _ = self.last_status.set(status);
            }
            Err(error) => tracing::warn!(%error, "the store cannot say what it keeps"),
        }
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the store did not close well");
        }
    }
}

/// The integration's lane has ended by a mistake.
fn stopped(integration: &str) -> Error {
    Error::new(ErrorKind::Internal, lane::STOPPED).with_integration(integration)
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the engine is closed")
}

/// Sets the gauges of the queues, from time to time.
async fn gauge(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    lanes: Vec<(Arc<str>, Arc<LaneMetrics>)>,
) {
    loop {
        if let Ok(status) = store.status().await {
            for status in &status {
                let lane = lanes.iter().find(|(name, _)| **name == *status.integration);
                if let Some((_, metrics)) = lane {
                    metrics.stands(status, clock.now());
                }
            }
        }
        tokio::time::sleep(GAUGE_EVERY).await;
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
        let is_lost = !self.store.is_durable() && !self.is_told.load(Ordering::Acquire);
        if unsettled > 0 && is_lost {
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

    fn send<E: Event>(
        &self,
        input: impl Into<Input<E>> + Send,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send {
        self.enqueue(input)
    }
}

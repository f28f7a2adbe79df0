//! The worker: what handlers register on, and what polls the server.

use std::{collections::BTreeMap, fmt, panic::AssertUnwindSafe, sync::Arc};

use analytics_spec::{
    Error, ErrorKind, Handler, Integration, Worker,
    handler::{Activity, Config, Step, Takes, Workflow},
};
use futures::FutureExt as _;
use temporalio_client::WorkflowHistory;
use temporalio_sdk::{
    Runtime, WorkerOptions,
    workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions},
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    Connection, activities,
    attempting::{self, Attempting},
    batch,
    dynamic::{ActivityBodyOf, DynWorkflow, Ended},
    options::PULSE,
    workflow,
};

/// After how many events of history a batch goes on in a new run: below what
/// the server warns of.
const MAX_HISTORY: u32 = 4_000;

/// A worker on Temporal: every workflow and activity of every handler that is
/// registered on it, for any Temporal client to execute.
///
/// ```no_run
/// # async fn run(integration: std::sync::Arc<dyn analytics_spec::Integration>) -> Result<(), analytics_spec::Error> {
/// use analytics_temporal::{ConnectOptions, TemporalWorker};
///
/// let connection = ConnectOptions::from_environment().connect().await?;
/// let mut worker = TemporalWorker::new();
/// worker.integration(integration)?;
/// worker.run(&connection).await
/// # }
/// ```
pub struct TemporalWorker {
    workflows: BTreeMap<String, DynWorkflow>,
    activities: BTreeMap<String, ActivityBodyOf>,
    handlers: BTreeMap<String, Handler>,
    /// How many attempts each integration has under way at once.
    turns: BTreeMap<String, Arc<Semaphore>>,
    max_history: u32,
}

impl Default for TemporalWorker {
    fn default() -> Self {
        Self {
            workflows: BTreeMap::new(),
            activities: BTreeMap::new(),
            handlers: BTreeMap::new(),
            turns: BTreeMap::new(),
            max_history: MAX_HISTORY,
        }
    }
}

impl fmt::Debug for TemporalWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporalWorker")
            .field("handlers", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

impl TemporalWorker {
    /// A worker without workflows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// After how many events of history a batch goes on in a new run: 4,000.
    /// Set it before anything is registered. Batches that are on their way keep
    /// to what they began with.
    #[must_use]
    pub fn max_history(mut self, events: u32) -> Self {
        self.max_history = events.max(8);
        self
    }

    /// Registers an integration as it is configured. With hooks or a context,
    /// make a [`Handler`] and [register](Handler::register) it.
    ///
    /// # Errors
    ///
    /// Its configuration is wrong, or an instance of that name is registered.
    pub fn integration(&mut self, integration: Arc<dyn Integration>) -> Result<(), Error> {
        Handler::new(Config::new(integration))?.register(self)
    }

    /// The names of all workflows, sorted.
    pub fn workflows(&self) -> impl Iterator<Item = &str> {
        self.workflows.keys().map(String::as_str)
    }

    /// The names of all activities, sorted.
    pub fn activities(&self) -> impl Iterator<Item = &str> {
        self.activities.keys().map(String::as_str)
    }

    /// Works until the process is asked to end, by SIGINT or SIGTERM; then
    /// takes nothing new, finishes the attempts that are under way, and returns.
    ///
    /// # Errors
    ///
    /// An integration cannot start, nothing is registered, or the server does
    /// not have the worker.
    pub async fn run(self, connection: &Connection) -> Result<(), Error> {
        let mut running = self.start(connection).await?;
        tokio::select! {
            ended = running.ended() => ended,
            signal = asked_to_end() => {
                tracing::info!(signal, "finishing what is under way");
                running.stop();
                running.ended().await
            }
        }
    }

    /// Starts to work, on a thread of its own.
    ///
    /// # Errors
    ///
    /// See [`run`](Self::run).
    pub async fn start(self, connection: &Connection) -> Result<Running, Error> {
        for handler in self.handlers.values() {
            if let Err(error) = handler.init().await {
                close(self.handlers.values()).await;
                return Err(error);
            }
        }
        let (started_tx, started) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let client = connection.client().clone();
        let task_queue = connection.task_queue().to_owned();
        // The SDK's future stays on its thread.
        let thread = std::thread::Builder::new().name("analytics-temporal".to_owned());
        let spawned = thread.spawn(move || {
            runtime.block_on(async move {
                let ended = self.work(client, task_queue, started_tx).await;
                close(self.handlers.values()).await;
                let _ = ended_tx.send(ended);
            });
        });
        spawned.map_err(|error| {
            Error::new(ErrorKind::Internal, "the worker's thread cannot start").with_source(error)
        })?;
        let mut running = Running {
            stop: None,
            ended: Some(ended),
        };
        match started.await {
            Ok(stop) => {
                running.stop = Some(stop);
                Ok(running)
            }
            Err(_) => Err(running.ended().await.err().unwrap_or_else(gone)),
        }
    }

    async fn work(
        &self,
        client: temporalio_client::Client,
        task_queue: String,
        started: oneshot::Sender<Stop>,
    ) -> Result<(), Error> {
        let failed = |error: &dyn std::error::Error| {
            Error::new(ErrorKind::Unavailable, format!("the worker: {error}"))
        };
        let mut options = WorkerOptions::new(task_queue)
            // Else most of them are kept back, and one that is late is the last.
            .max_heartbeat_throttle_interval(PULSE)
            .build();
        for (name, workflow) in &self.workflows {
            workflow
                .register(name, &mut options)
                .map_err(Error::configuration)?;
        }
        for (name, activity) in &self.activities {
            activity.register(name, &mut options);
        }
        let runtime =
            Runtime::from_current_tokio(Default::default()).map_err(|error| failed(&error))?;
        let mut worker = temporalio_sdk::Worker::new(&runtime, client, options)
            .map_err(|error| failed(&error))?;
        let stop: Stop = Box::new(worker.shutdown_handle());
        if let Err(stop) = started.send(stop) {
            stop();
        }
        worker.run().await.map_err(|error| failed(&error))
    }

    /// Replays a workflow's history against this worker's workflows, without a
    /// server: would it go on as it began? As
    /// `WorkflowHandle::fetch_history(..).to_json()` of the SDK writes it.
    ///
    /// # Errors
    ///
    /// It is no history, or what the workflow did then is not what it would do
    /// now.
    pub async fn replay(&self, history: &[u8]) -> Result<(), Error> {
        let mut options = WorkflowReplayerOptions::new().build();
        for (name, workflow) in &self.workflows {
            workflow
                .register_replay(name, &mut options)
                .map_err(Error::configuration)?;
        }
        let internal = |error: String| Error::new(ErrorKind::Internal, error);
        let history =
            WorkflowHistory::from_json(history).map_err(|error| internal(error.to_string()))?;
        let (ended_tx, ended) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let replay = async {
                let replayer = WorkflowReplayer::new(options).map_err(|e| e.to_string())?;
                let replayed = replayer.replay_workflow(history).await;
                replayed.map_err(|error| error.to_string())
            };
            let _ = ended_tx.send(runtime.block_on(replay));
        });
        ended.await.map_err(|_| gone())?.map_err(internal)
    }

    fn own(&mut self, handler: &Handler) -> Result<(), Error> {
        let name = handler.name();
        match self.handlers.get(name) {
            Some(known) if !known.is(handler) => Err(taken(name)),
            Some(_) => Ok(()),
            None => {
                self.handlers.insert(name.to_owned(), handler.clone());
                Ok(())
            }
        }
    }

    fn turns(&mut self, handler: &Handler) -> Arc<Semaphore> {
        let turns = self.turns.entry(handler.name().to_owned());
        let turns = turns.or_insert_with(|| {
            let at_once = handler.integration().batching().max_in_flight;
            Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)))
        });
        Arc::clone(turns)
    }
}

fn taken(name: &str) -> Error {
    Error::configuration(format!(
        "{name} is registered already: instances need different names"
    ))
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the worker's thread has ended")
}

/// Those that were ready; the others say that they are not.
async fn close(handlers: impl Iterator<Item = &Handler>) {
    for handler in handlers.filter(|handler| handler.is_ready()) {
        if let Err(error) = handler.close().await {
            tracing::warn!(%error, "an integration could not be closed");
        }
    }
}

impl Worker for TemporalWorker {
    fn register_workflow(&mut self, registered: Workflow) -> Result<(), Error> {
        let Workflow {
            name,
            takes,
            handler,
            ..
        } = registered;
        self.own(&handler)?;
        if self.workflows.contains_key(&name) {
            return Err(taken(&name));
        }
        let workflow = DynWorkflow::new(move |ctx, input| {
            let handler = handler.clone();
            let run = async move {
                match takes {
                    Takes::Event(kind) => workflow::run(handler, kind, ctx, input).await,
                    Takes::Batch => batch::run(handler, ctx, input).await,
                }
            };
            // A panic would fail the workflow's task, which is tried again for
            // ever.
            let unbroken = AssertUnwindSafe(run)
                .catch_unwind()
                .map(|ended: Result<Ended, _>| {
                    ended.unwrap_or_else(|_| Err(workflow::fail(attempting::panicked())))
                });
            Box::pin(unbroken)
        });
        self.workflows.insert(name, workflow);
        Ok(())
    }

    fn register_activity(&mut self, registered: Activity) -> Result<(), Error> {
        let Activity {
            name,
            takes,
            step,
            handler,
            ..
        } = registered;
        self.own(&handler)?;
        // The SDK would silently put it in the other one's place.
        if self.activities.contains_key(&name) {
            return Err(taken(&name));
        }
        let max_history = self.max_history;
        let turns = self.turns(&handler);
        let activity = ActivityBodyOf::new(move |ctx, input| {
            let handler = handler.clone();
            let ctx = Attempting::new(ctx, Arc::clone(&turns));
            match (takes, step) {
                (Takes::Event(kind), Step::Validation) => {
                    Box::pin(activities::validate(handler, kind, ctx, input))
                }
                (Takes::Event(kind), Step::Request) => {
                    Box::pin(activities::request(handler, kind, ctx, input))
                }
                (Takes::Batch, Step::Validation) => {
                    Box::pin(batch::validate(handler, max_history, ctx, input))
                }
                (Takes::Batch, Step::Request) => Box::pin(batch::request(handler, ctx, input)),
            }
        });
        self.activities.insert(name, activity);
        Ok(())
    }
}

type Stop = Box<dyn Fn() + Send + Sync>;

/// A worker that works, on a thread of its own: until it is
/// [stopped](Self::stop), also if this value is dropped.
pub struct Running {
    stop: Option<Stop>,
    ended: Option<oneshot::Receiver<Result<(), Error>>>,
}

impl Running {
    /// Takes nothing new from now on. What is under way is finished; see
    /// [`ended`](Self::ended).
    pub fn stop(&self) {
        if let Some(stop) = &self.stop {
            stop();
        }
    }

    /// Waits until the worker has ended.
    ///
    /// # Errors
    ///
    /// The server did not have it, or it was waited for before.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let Some(ended) = &mut self.ended else {
            return Err(gone());
        };
        let outcome = ended.await.unwrap_or_else(|_| Err(gone()));
        self.ended = None;
        outcome
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// Completes when the process is asked to end, with how.
async fn asked_to_end() -> &'static str {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "SIGINT"
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
        "SIGTERM"
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending();
    tokio::select! {
        signal = interrupted => signal,
        signal = terminated => signal,
    }
}

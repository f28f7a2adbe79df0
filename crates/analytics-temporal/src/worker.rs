//! The worker: what handlers register on, and what is executed on which task
//! queue.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use analytics_spec::{
    Error, ErrorKind, Handler, Integration, Kind, Worker,
    handler::{Activity, Config, Step, Takes, Workflow, activity_name, workflow_name},
};
use futures::FutureExt as _;
use temporalio_client::WorkflowHistory;
use temporalio_sdk::{
    WorkerOptions,
    runtime::{
        PollerBehavior,
        worker_tuner::{FixedSizeSlotSupplier, TunerHolder, WorkerTuner},
    },
    workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions},
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    activities,
    attempting::{self, Attempting},
    batch,
    dynamic::{ActivityBodyOf, DynWorkflow, Ended},
    options::{self, PULSE},
    running::gone,
    workflow,
};

/// After how many events of history a batch goes on in a new run: below what
/// the server warns of.
const MAX_HISTORY: u32 = 4_000;

/// How many requests for work an integration has at the server: each brings one
/// activity, and is made again while there is room for more.
const POLLERS: usize = 2;

/// A worker on Temporal: every workflow and activity of every handler that is
/// registered on it, for any Temporal client to execute.
///
/// Workflows are on the connection's task queue. The activities of each
/// integration are on [one of its own](crate::Connection::activity_task_queue): of
/// these it takes as many as the vendor has at once, and the others wait on the
/// server. So a vendor that hangs is waited for by nobody else.
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
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) max_history: u32,
    pub(crate) grace: Option<Duration>,
}

/// An integration, and what is registered of it, by name.
pub(crate) struct Instance {
    pub(crate) handler: Handler,
    workflows: BTreeMap<String, Takes>,
    activities: BTreeMap<String, (Takes, Step)>,
}

impl Default for TemporalWorker {
    fn default() -> Self {
        Self {
            instances: BTreeMap::new(),
            max_history: MAX_HISTORY,
            grace: None,
        }
    }
}

impl fmt::Debug for TemporalWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporalWorker")
            .field("integrations", &self.instances.keys())
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
    /// Batches that are on their way keep to what they began with. One on a cron
    /// schedule goes on in no other run, and fails after ten times as many, or
    /// 40,000.
    #[must_use]
    pub fn max_history(mut self, events: u32) -> Self {
        self.max_history = events.max(8);
        self
    }

    /// How long attempts under way may take once the worker has been asked to
    /// end. What has not ended then is given up: it counts as attempted, and
    /// another worker makes the attempt again, as the policy says. Without it,
    /// each attempt has its own time.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
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

    /// The names of the workflows of all supported kinds, and of batches, sorted.
    pub fn workflows(&self) -> impl Iterator<Item = &str> {
        let of_each = self.instances.values().map(|one| one.workflows.keys());
        of_each.flatten().map(String::as_str)
    }

    /// The names of their activities, sorted.
    pub fn activities(&self) -> impl Iterator<Item = &str> {
        let of_each = self.instances.values().map(|one| one.activities.keys());
        of_each.flatten().map(String::as_str)
    }

    /// The integrations' names, sorted, and how many activities of each are
    /// under way at once.
    pub fn integrations(&self) -> impl Iterator<Item = (&str, usize)> {
        let instances = self.instances.iter();
        instances.map(|(name, instance)| (name.as_str(), instance.at_once()))
    }

    /// What is executed on the task queue itself: the workflows, with their
    /// validations.
    pub(crate) fn workflows_on(&self, task_queue: &str) -> Result<WorkerOptions, Error> {
        let mut options = WorkerOptions::new(task_queue)
            // Those that somebody executes alone.
            .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(1))
            .build();
        self.each_workflow(|name, workflow| workflow.register(name, &mut options))?;
        for instance in self.instances.values() {
            for (name, takes, step) in instance.each_activity() {
                let activity = match step {
                    Step::Validation => instance.activity(takes, step, self.max_history),
                    Step::Request => instance.elsewhere(),
                };
                activity.register(&name, &mut options);
            }
        }
        Ok(options)
    }

    /// Those of unsupported kinds are among them: their validation says so.
    fn each_workflow(
        &self,
        mut register: impl FnMut(&str, &DynWorkflow) -> Result<(), String>,
    ) -> Result<(), Error> {
        for instance in self.instances.values() {
            let handler = &instance.handler;
            let mut register = |name: &str, takes| {
                register(name, &workflow_of(handler.clone(), takes)).map_err(Error::configuration)
            };
            for (name, takes) in &instance.workflows {
                register(name, *takes)?;
            }
            for kind in instance.unsupported() {
                register(&workflow_name(handler.name(), kind), kind.into())?;
            }
        }
        Ok(())
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
        self.each_workflow(|name, workflow| workflow.register_replay(name, &mut options))?;
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

    fn instance(&mut self, handler: &Handler) -> Result<&mut Instance, Error> {
        match self.instances.entry(handler.name().to_owned()) {
            Entry::Occupied(known) if !known.get().handler.is(handler) => {
                Err(taken(handler.name()))
            }
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(Instance {
                handler: handler.clone(),
                workflows: BTreeMap::new(),
                activities: BTreeMap::new(),
            })),
        }
    }
}

impl Instance {
    fn unsupported(&self) -> impl Iterator<Item = Kind> {
        let supported = self.handler.integration().supports();
        let kinds = Kind::ALL.into_iter();
        kinds.filter(move |kind| !supported.contains(*kind))
    }

    /// Those of unsupported kinds are among them, and say so: one that is not there
    /// would be waited for.
    fn each_activity(&self) -> impl Iterator<Item = (String, Takes, Step)> {
        let registered = self.activities.iter();
        let registered = registered.map(|(name, (takes, step))| (name.clone(), *takes, *step));
        let unsupported = self.unsupported().flat_map(move |kind| {
            let name = move |step| activity_name(self.handler.name(), kind, step);
            Step::ALL.map(|step| (name(step), kind.into(), step))
        });
        registered.chain(unsupported)
    }

    /// How many activities it has under way at once: the SDK holds them with a
    /// semaphore.
    fn at_once(&self) -> usize {
        let batching = self.handler.integration().batching();
        batching.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)
    }

    /// What is executed on its own task queue.
    pub(crate) fn activities_beside(
        &self,
        task_queue: &str,
        max_history: u32,
        grace: Option<Duration>,
    ) -> WorkerOptions {
        let at_once = self.at_once();
        let slots = FixedSizeSlotSupplier::new(at_once);
        let tuner: WorkerTuner = TunerHolder::builder()
            .activity_task_slot_supplier(slots)
            // Of these it has none.
            .workflow_task_slot_supplier(slots)
            .local_activity_task_slot_supplier(slots)
            .nexus_task_slot_supplier(slots)
            .build()
            .into();
        let queue = options::queue(task_queue, self.handler.name());
        let mut options = WorkerOptions::new(queue)
            .tuner(tuner)
            .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(POLLERS.min(at_once)))
            // Else most of them are kept back, and one that is late is the last.
            .max_heartbeat_throttle_interval(PULSE)
            .maybe_graceful_shutdown_period(grace)
            .build();
        for (name, takes, step) in self.each_activity() {
            let activity = self.activity(takes, step, max_history);
            activity.register(&name, &mut options);
        }
        options
    }

    fn activity(&self, takes: Takes, step: Step, max_history: u32) -> ActivityBodyOf {
        let handler = self.handler.clone();
        ActivityBodyOf::new(move |ctx, input| {
            let handler = handler.clone();
            let ctx = Attempting::new(ctx);
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
        })
    }

    /// What its requests are on the workflows' task queue.
    fn elsewhere(&self) -> ActivityBodyOf {
        let handler = self.handler.clone();
        ActivityBodyOf::new(move |ctx, _| {
            Box::pin(activities::elsewhere(handler.clone(), Attempting::new(ctx)))
        })
    }
}

fn workflow_of(handler: Handler, takes: Takes) -> DynWorkflow {
    DynWorkflow::new(move |ctx, input| {
        let handler = handler.clone();
        let run = async move {
            match takes {
                Takes::Event(kind) => workflow::run(handler, kind, ctx, input).await,
                Takes::Batch => batch::run(handler, ctx, input).await,
            }
        };
        // A panic would fail the workflow's task, which is tried again for ever.
        let unbroken = AssertUnwindSafe(run)
            .catch_unwind()
            .map(|ended: Result<Ended, _>| {
                ended.unwrap_or_else(|_| Err(workflow::fail(attempting::panicked())))
            });
        Box::pin(unbroken)
    })
}

fn taken(name: &str) -> Error {
    Error::configuration(format!(
        "{name} is registered already: instances need different names"
    ))
}

impl Worker for TemporalWorker {
    fn register_workflow(&mut self, registered: Workflow) -> Result<(), Error> {
        let Workflow {
            name,
            takes,
            handler,
            ..
        } = registered;
        register(&mut self.instance(&handler)?.workflows, name, takes)
    }

    fn register_activity(&mut self, registered: Activity) -> Result<(), Error> {
        let Activity {
            name,
            takes,
            step,
            handler,
            ..
        } = registered;
        let instance = self.instance(&handler)?;
        register(&mut instance.activities, name, (takes, step))
    }
}

/// For activities, the SDK would silently put it in the other one's place.
fn register<T>(known: &mut BTreeMap<String, T>, name: String, what: T) -> Result<(), Error> {
    match known.entry(name) {
        Entry::Occupied(known) => Err(taken(known.key())),
        Entry::Vacant(new) => {
            new.insert(what);
            Ok(())
        }
    }
}

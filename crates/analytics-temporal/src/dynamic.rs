//! Workflows and activities whose names are known at run time only.
//!
//! The SDK keys what is registered by an owned name, but asks a static function
//! of a type for it: a name per Rust type. An instance's name is part of our
//! workflows' names, so one type has to serve every name. The name stands in a
//! thread-local during the synchronous call that registers; nothing else here
//! is a trick.

use std::{any::Any, cell::RefCell, fmt, sync::Arc};

use futures::future::{BoxFuture, LocalBoxFuture};
use temporalio_common::{
    ActivityDefinition, ActivityError, UntypedWorkflow, data_converters::RawValue,
};
use temporalio_sdk::{
    WorkerOptions, WorkflowContext, WorkflowContextView, WorkflowTermination,
    activities::{ActivityContext, ActivityDefinitions, ActivityImplementer, ExecutableActivity},
    workflow_interceptors::WorkflowOutputValue,
    workflow_replayer::WorkflowReplayerOptions,
    workflows::{WorkflowDefinitionDescriptor, WorkflowError, WorkflowImplementation},
};

thread_local! {
    /// The name that is being registered.
    static NAME: RefCell<String> = const { RefCell::new(String::new()) };
}

fn named<R>(name: &str, register: impl FnOnce() -> R) -> R {
    NAME.set(name.to_owned());
    let registered = register();
    NAME.take();
    registered
}

/// How a workflow ends.
pub(crate) type Ended = Result<RawValue, WorkflowTermination>;

type WorkflowBody =
    dyn Fn(WorkflowContext<DynWorkflow>, RawValue) -> LocalBoxFuture<'static, Ended> + Send + Sync;

/// A workflow of any name.
#[derive(Clone)]
pub(crate) struct DynWorkflow(Arc<WorkflowBody>);

impl DynWorkflow {
    pub(crate) fn new(
        body: impl Fn(WorkflowContext<Self>, RawValue) -> LocalBoxFuture<'static, Ended>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(body))
    }

    /// Registers it on a worker under a name.
    pub(crate) fn register(&self, name: &str, options: &mut WorkerOptions) -> Result<(), String> {
        let this = self.clone();
        named(name, || {
            let registered = options.register_workflow_with_factory(move || this.clone());
            registered.map(drop).map_err(|error| error.to_string())
        })
    }

    /// Registers it for replays under a name.
    pub(crate) fn register_replay(
        &self,
        name: &str,
        options: &mut WorkflowReplayerOptions,
    ) -> Result<(), String> {
        let this = self.clone();
        named(name, || {
            let registered = options.register_workflow_with_factory(move || this.clone());
            registered.map(drop).map_err(|error| error.to_string())
        })
    }
}

impl fmt::Debug for DynWorkflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynWorkflow").finish_non_exhaustive()
    }
}

impl WorkflowImplementation for DynWorkflow {
    type Run = UntypedWorkflow;
    const HAS_INIT: bool = false;
    const INIT_TAKES_INPUT: bool = false;

    fn name() -> &'static str {
        "analytics"
    }

    // Also called while a workflow runs, when there is no name.
    fn definition() -> WorkflowDefinitionDescriptor {
        WorkflowDefinitionDescriptor {
            workflow_type: NAME.with_borrow(Clone::clone),
            has_init: false,
            init_takes_input: false,
            signals: Vec::new(),
            queries: Vec::new(),
            updates: Vec::new(),
        }
    }

    // The factory makes every instance, so this is never asked.
    fn init(_: WorkflowContextView, _: Option<RawValue>) -> Self {
        Self::new(|_, _| Box::pin(async { Err(WorkflowTermination::Evicted) }))
    }

    fn run(
        ctx: WorkflowContext<Self>,
        input: Option<RawValue>,
    ) -> LocalBoxFuture<'static, Result<Box<dyn WorkflowOutputValue>, WorkflowTermination>> {
        let body = ctx.state(|this| this.0.clone());
        let run = body(ctx, input.unwrap_or_else(RawValue::empty));
        Box::pin(async move { Ok(Box::new(run.await?) as Box<dyn WorkflowOutputValue>) })
    }

    fn dispatch_signal(
        _: WorkflowContext<Self>,
        name: &str,
        _: Box<dyn Any>,
    ) -> LocalBoxFuture<'static, Result<(), WorkflowError>> {
        let error = none(name);
        Box::pin(async { Err(error) })
    }

    fn dispatch_query(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<Box<dyn WorkflowOutputValue>, WorkflowError> {
        Err(none(name))
    }

    fn dispatch_update(
        _: WorkflowContext<Self>,
        name: &str,
        _: Box<dyn Any>,
    ) -> LocalBoxFuture<'static, Result<Box<dyn WorkflowOutputValue>, WorkflowError>> {
        let error = none(name);
        Box::pin(async { Err(error) })
    }

    fn validate_update(
        &self,
        _: WorkflowContextView,
        name: &str,
        _: Box<dyn Any>,
    ) -> Result<(), WorkflowError> {
        Err(none(name))
    }
}

fn none(name: &str) -> WorkflowError {
    WorkflowError::Execution(format!("this workflow has no {name}").into())
}

type ActivityBody = dyn Fn(ActivityContext, RawValue) -> BoxFuture<'static, Result<RawValue, ActivityError>>
    + Send
    + Sync;

/// What an activity of any name executes.
#[derive(Clone)]
pub(crate) struct ActivityBodyOf(Arc<ActivityBody>);

impl ActivityBodyOf {
    pub(crate) fn new(
        body: impl Fn(ActivityContext, RawValue) -> BoxFuture<'static, Result<RawValue, ActivityError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(body))
    }

    /// Registers it on a worker under a name.
    pub(crate) fn register(&self, name: &str, options: &mut WorkerOptions) {
        named(name, || {
            options.register_activity::<DynActivity>(Arc::new(self.clone()));
        });
    }
}

impl fmt::Debug for ActivityBodyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityBodyOf").finish_non_exhaustive()
    }
}

impl ActivityImplementer for ActivityBodyOf {
    fn register_all(self: Arc<Self>, defs: &mut ActivityDefinitions) {
        defs.register_activity::<DynActivity>(self);
    }
}

/// An activity of any name.
struct DynActivity(String);

impl ActivityDefinition for DynActivity {
    type Input = RawValue;
    type Output = RawValue;

    fn name(&self) -> &str {
        &self.0
    }
}

impl ExecutableActivity for DynActivity {
    type Implementer = ActivityBodyOf;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self(NAME.with_borrow(Clone::clone))
    }

    fn execute(
        receiver: Option<Arc<ActivityBodyOf>>,
        ctx: ActivityContext,
        input: RawValue,
    ) -> BoxFuture<'static, Result<RawValue, ActivityError>> {
        match receiver {
            Some(body) => (body.0)(ctx, input),
            // `REQUIRES_INSTANCE`.
            None => Box::pin(async { Err(ActivityError::cancelled()) }),
        }
    }
}

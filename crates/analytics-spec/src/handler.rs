//! The specification bound to one integration, and what it registers on.

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use serde_json::{Map, Value, json};

use crate::{
    AnyEvent, AnyInput, AnyOutput, Attempt, Context, Delivery, Error, ErrorKind, Integration,
    IntegrationExt, Kind, Output, Policies, Prepared, PreparedAttempt, RequestPolicy, Status,
    ValidationError, decode::Reader, integration::policy_for, prepared::not_its_own,
};

/// What a workflow or a step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Takes {
    /// One event of this kind: an [`Input`](crate::Input).
    Event(Kind),
    /// Events of any kinds: a [`BatchInput`](crate::BatchInput).
    Batch,
}

impl Takes {
    /// As names have it: `Track`, `Batch`.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Event(kind) => kind.title(),
            Self::Batch => "Batch",
        }
    }
}

impl From<Kind> for Takes {
    fn from(kind: Kind) -> Self {
        Self::Event(kind)
    }
}

/// The name of an integration's workflow: `segment(analytics).Track` for a
/// kind, and `segment(analytics).Batch`.
#[must_use]
pub fn workflow_name(integration: &str, takes: impl Into<Takes>) -> String {
    format!("{integration}(analytics).{}", takes.into().title())
}

/// The two steps of every workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Is the input right? Without a request; local to where it is asked.
    Validation,
    /// The request to the vendor. It validates again, for it can be executed
    /// alone.
    Request,
}

impl Step {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::Validation, Self::Request];

    /// The step as activity names have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "Validation",
            Self::Request => "Request",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of an activity: `segment(analytics).Track.Request`.
#[must_use]
pub fn activity_name(integration: &str, takes: impl Into<Takes>, step: Step) -> String {
    format!("{}.{step}", workflow_name(integration, takes))
}

/// A workflow to register: validation, then the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub takes: Takes,
    /// What executes it.
    pub handler: Handler,
}

/// A step to register.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Activity {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub takes: Takes,
    /// Which step it is.
    pub step: Step,
    /// What executes it.
    pub handler: Handler,
}

/// An engine, as handlers see it: something to register on.
pub trait Worker {
    /// Takes a workflow.
    ///
    /// # Errors
    ///
    /// The name is taken.
    fn register_workflow(&mut self, workflow: Workflow) -> Result<(), Error>;

    /// Takes an activity.
    ///
    /// # Errors
    ///
    /// The name is taken.
    fn register_activity(&mut self, activity: Activity) -> Result<(), Error>;
}

/// A workflow or an activity that failed for good, as hooks see it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed<'a> {
    /// The workflow's or the activity's name.
    pub name: &'a str,
    /// The event with its outcome.
    pub output: &'a AnyOutput,
    /// Why.
    pub error: &'a Error,
}

type Hook = Arc<dyn Fn(&Failed<'_>) + Send + Sync>;

/// What a [`Handler`] is made of.
#[derive(Clone)]
#[must_use]
pub struct Config {
    integration: Arc<dyn Integration>,
    context: Context,
    policies: Policies,
    on_workflow_error: Option<Hook>,
    on_activity_error: Option<Hook>,
}

impl Config {
    /// A handler for this integration.
    pub fn new(integration: impl Into<Arc<dyn Integration>>) -> Self {
        Self {
            integration: integration.into(),
            context: Context::new(),
            policies: Policies::new(),
            on_workflow_error: None,
            on_activity_error: None,
        }
    }

    /// What holds around every event; an event's own context wins.
    pub fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Policies that win over the integration's own.
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// Called when a workflow has failed for good.
    pub fn on_workflow_error(mut self, hook: impl Fn(&Failed<'_>) + Send + Sync + 'static) -> Self {
        self.on_workflow_error = Some(Arc::new(hook));
        self
    }

    /// Called when a step of a workflow has failed, also if it will be tried
    /// again.
    pub fn on_activity_error(mut self, hook: impl Fn(&Failed<'_>) + Send + Sync + 'static) -> Self {
        self.on_activity_error = Some(Arc::new(hook));
        self
    }

    /// Checks the integration's name and kinds, the policies, and the context.
    ///
    /// # Errors
    ///
    /// A [configuration](ErrorKind::Configuration) error that says what is
    /// wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let name = self.integration.name();
        let check = || {
            crate::config::Instance::new(name)
                .policies(self.merged_policies())
                .check()?;
            if self.integration.supports().is_empty() {
                return Err(Error::configuration("supports no kind of event"));
            }
            // It would make every event wrong.
            let mut reader = Reader::default();
            self.context.check(&mut reader);
            ValidationError::check(reader.finish())
                .map_err(|error| Error::configuration(error.to_string()))
        };
        check().map_err(|error| error.with_integration(name))
    }

    /// The handler's policies over the integration's.
    fn merged_policies(&self) -> Policies {
        let mut policies = self.policies.clone();
        policies.inherit(&self.integration.policies());
        policies
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("integration", &self.integration)
            .field("context", &self.context)
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}

/// The specification bound to one integration.
///
/// Its life is register → init → ready → close; each step once, though one that
/// failed may be taken again. Clones are the same handler.
#[derive(Clone, Debug)]
pub struct Handler(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    state: AtomicU8,
}

const NEW: u8 = 0;
const REGISTERED: u8 = 1;
const STARTING: u8 = 2;
const READY: u8 = 3;
const CLOSED: u8 = 4;

/// Takes back that a handler starts, if its integration fails to, or nobody
/// waits for it any more.
struct Starting<'a>(&'a AtomicU8);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let _ = self
            .0
            .compare_exchange(STARTING, REGISTERED, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Handler {
    /// A handler of a valid configuration.
    ///
    /// # Errors
    ///
    /// What [`Config::validate`] finds.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self(Arc::new(Shared {
            config,
            state: AtomicU8::new(NEW),
        })))
    }

    /// Puts every workflow and activity on a worker.
    ///
    /// # Errors
    ///
    /// The handler was registered before, or the worker has one of that name.
    /// The worker may then hold some of the handler's names: register on a new
    /// one.
    pub fn register(&self, worker: &mut dyn Worker) -> Result<(), Error> {
        self.step(NEW, REGISTERED, "register")?;
        self.register_all(worker)
            .inspect_err(|_| self.0.state.store(NEW, Ordering::Release))
    }

    fn register_all(&self, worker: &mut dyn Worker) -> Result<(), Error> {
        for takes in self.takes() {
            worker.register_workflow(Workflow {
                name: workflow_name(self.name(), takes),
                takes,
                handler: self.clone(),
            })?;
            for step in Step::ALL {
                worker.register_activity(Activity {
                    name: activity_name(self.name(), takes, step),
                    takes,
                    step,
                    handler: self.clone(),
                })?;
            }
        }
        Ok(())
    }

    /// What its workflows take: every supported kind, and batches.
    fn takes(&self) -> impl Iterator<Item = Takes> {
        let kinds = self.integration().supports();
        let events: Vec<_> = kinds.iter().map(Takes::Event).collect();
        events.into_iter().chain([Takes::Batch])
    }

    /// Makes the integration ready for events.
    ///
    /// # Errors
    ///
    /// The handler is not registered or was initialised before, or the
    /// integration cannot.
    pub async fn init(&self) -> Result<(), Error> {
        self.step(REGISTERED, STARTING, "initialise")?;
        let _starting = Starting(&self.0.state);
        self.integration().init().await?;
        self.0.state.store(READY, Ordering::Release);
        Ok(())
    }

    /// Ends the integration's work. The handler is closed even if that fails.
    ///
    /// # Errors
    ///
    /// The handler is not initialised or was closed before, or the integration
    /// cannot.
    pub async fn close(&self) -> Result<(), Error> {
        self.step(READY, CLOSED, "close")?;
        self.integration().close().await
    }

    /// Whether it is initialised and not closed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == READY
    }

    /// The integration.
    #[must_use]
    pub fn integration(&self) -> &Arc<dyn Integration> {
        &self.0.config.integration
    }

    /// Whether it is this very handler: a clone of it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The integration's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.integration().name()
    }

    /// The names of its workflows, sorted.
    #[must_use]
    pub fn list_workflows(&self) -> Vec<String> {
        let names = self.takes().map(|takes| workflow_name(self.name(), takes));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// The names of its activities, sorted.
    #[must_use]
    pub fn list_activities(&self) -> Vec<String> {
        let names = self
            .takes()
            .flat_map(|takes| Step::ALL.map(|step| activity_name(self.name(), takes, step)));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// The configuration for people to read, the integration's own under
    /// `from`. No secret is in it.
    #[must_use]
    pub fn config_map(&self) -> Map<String, Value> {
        let integration = self.integration();
        let kinds: Vec<_> = integration.supports().iter().map(Kind::as_str).collect();
        let entries = [
            ("name", json!(integration.name())),
            ("vendor", json!(integration.vendor())),
            ("supports", json!(kinds)),
            ("policies", json!(self.policies())),
            (
                "allow_policies_override",
                json!(integration.allows_policies_override()),
            ),
            ("context", json!(self.0.config.context)),
            ("from", Value::Object(integration.configuration())),
        ];
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// The handler's policies over the integration's.
    #[must_use]
    pub fn policies(&self) -> Policies {
        self.0.config.merged_policies()
    }

    /// The policy for one input: its own where it may have one, then
    /// [`policies`](Self::policies), then the defaults.
    #[must_use]
    pub fn request_policy(&self, input: &AnyInput) -> RequestPolicy {
        let may_override = self.integration().allows_policies_override();
        policy_for(input, &self.policies(), may_override)
    }

    /// An input with its context completed from the handler's.
    #[must_use]
    pub fn complete<'a>(&self, input: &'a AnyInput) -> Cow<'a, AnyInput> {
        let base = &self.0.config.context;
        if base.is_empty() {
            return Cow::Borrowed(input);
        }
        let mut input = input.clone();
        input.context.inherit(base);
        Cow::Owned(input)
    }

    /// The validation step.
    ///
    /// # Errors
    ///
    /// What [`IntegrationExt::check`] finds; the handler is not ready.
    pub fn validate(&self, input: &AnyInput) -> Result<(), Error> {
        self.admit(input)
            .inspect_err(|error| self.activity_failed(&input.event, Step::Validation, error))
    }

    /// The validation step for an input that satisfies the specification,
    /// [completed](Self::complete): the integration's own part of it. What the
    /// integration will send, if it maps events ahead of their delivery.
    ///
    /// # Errors
    ///
    /// What [`IntegrationExt::prepare_own`] finds; the handler is not ready.
    pub fn prepare(&self, input: &AnyInput) -> Result<Option<Prepared>, Error> {
        let prepare = || {
            self.ready()?;
            match self.complete(input) {
                Cow::Borrowed(input) => self.integration().prepare_own(input),
                // What was added may break the specification's rules.
                Cow::Owned(input) => {
                    let valid = input.validate().map_err(Error::from);
                    valid.map_err(|error| error.with_integration(self.name()))?;
                    self.integration().prepare_own(&input)
                }
            }
        };
        prepare().inspect_err(|error| self.activity_failed(&input.event, Step::Validation, error))
    }

    /// One attempt of the request step. The input is validated again.
    ///
    /// # Errors
    ///
    /// What [`validate`](Self::validate) finds, or the attempt's error.
    pub async fn request(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        let outcome = match self.admit(attempt.input) {
            Ok(()) => self.integration().deliver(attempt).await,
            Err(error) => Err(error),
        };
        outcome.inspect_err(|error| self.attempt_failed(&attempt.input.event, error))
    }

    /// One attempt of the request step for several inputs: one outcome each.
    /// The inputs are validated again, and those that are wrong left out.
    pub async fn request_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        let admitted: Vec<_> = attempts.iter().map(|a| self.admit(a.input)).collect();
        let mut delivered = if admitted.iter().all(Result::is_ok) {
            self.deliver_batch(attempts).await
        } else {
            let sound = attempts.iter().zip(&admitted).filter(|(_, a)| a.is_ok());
            let sound: Vec<_> = sound.map(|(attempt, _)| *attempt).collect();
            self.deliver_batch(&sound).await
        }
        .into_iter();
        let outcome = |admitted: Result<(), Error>| {
            admitted.and_then(|()| delivered.next().unwrap_or_else(|| Err(miscounted())))
        };
        let outcomes: Vec<_> = admitted.into_iter().map(outcome).collect();
        self.tell_failures(attempts, &outcomes);
        outcomes
    }

    /// One attempt of the request step for several events that this very
    /// handler has [prepared](Self::prepare): one outcome each. Hooks are told
    /// of those whose event is at hand.
    pub async fn request_prepared(
        &self,
        attempts: &[PreparedAttempt<'_>],
    ) -> Vec<Result<Delivery, Error>> {
        let mapper = self.ready().and_then(|()| {
            let mapper = self.integration().as_prepare();
            mapper.ok_or_else(|| not_its_own().with_integration(self.name()))
        });
        let outcomes = match mapper {
            Ok(_) if attempts.is_empty() => Vec::new(),
            Ok(mapper) => self.counted(attempts.len(), mapper.deliver_prepared(attempts).await),
            Err(error) => attempts.iter().map(|_| Err(again(&error))).collect(),
        };
        for (attempt, outcome) in attempts.iter().zip(&outcomes) {
            if let (Some(event), Err(error)) = (attempt.event, outcome) {
                self.attempt_failed(event, error);
            }
        }
        outcomes
    }

    /// Whether hooks are told of failures, which see the event.
    #[must_use]
    pub fn has_hooks(&self) -> bool {
        let config = &self.0.config;
        config.on_workflow_error.is_some() || config.on_activity_error.is_some()
    }

    fn tell_failures(&self, attempts: &[Attempt<'_>], outcomes: &[Result<Delivery, Error>]) {
        for (attempt, outcome) in attempts.iter().zip(outcomes) {
            if let Err(error) = outcome {
                self.attempt_failed(&attempt.input.event, error);
            }
        }
    }

    fn attempt_failed(&self, event: &AnyEvent, error: &Error) {
        if error.kind() != ErrorKind::Deferred {
            self.activity_failed(event, Step::Request, error);
        }
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        if attempts.is_empty() {
            return Vec::new();
        }
        let outcomes = self.integration().deliver_batch(attempts).await;
        self.counted(attempts.len(), outcomes)
    }

    /// As many outcomes as attempts, even from an integration that cannot
    /// count: nobody could tell whose they are.
    fn counted(
        &self,
        attempts: usize,
        outcomes: Vec<Result<Delivery, Error>>,
    ) -> Vec<Result<Delivery, Error>> {
        if outcomes.len() == attempts {
            return outcomes;
        }
        let miscounted = || Err(miscounted().with_integration(self.name()));
        (0..attempts).map(|_| miscounted()).collect()
    }

    /// Calls `on_workflow_error`: for engines, when an event failed for good.
    /// `false` if the hook panicked, which takes along nothing else: an engine
    /// logs it.
    pub fn workflow_failed(&self, event: &AnyEvent, error: &Error) -> bool {
        let Some(hook) = &self.0.config.on_workflow_error else {
            return true;
        };
        let name = workflow_name(self.name(), crate::Event::kind(event));
        call(hook, &name, event, error)
    }

    /// Calls `on_activity_error`: for engines, when a step failed.
    fn activity_failed(&self, event: &AnyEvent, step: Step, error: &Error) {
        if let Some(hook) = &self.0.config.on_activity_error {
            let name = activity_name(self.name(), crate::Event::kind(event), step);
            call(hook, &name, event, error);
        }
    }

    /// Whether an input may go on to the integration.
    fn admit(&self, input: &AnyInput) -> Result<(), Error> {
        self.ready()?;
        self.integration().check(input)
    }

    fn ready(&self) -> Result<(), Error> {
        if self.is_ready() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Closed, "the handler is not ready");
        Err(error.with_integration(self.name()))
    }

    fn step(&self, from: u8, to: u8, what: &str) -> Result<(), Error> {
        self.0
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(|state| {
                let is = match state {
                    NEW => "not registered yet",
                    REGISTERED => "registered",
                    STARTING => "being initialised",
                    READY => "initialised",
                    _ => "closed",
                };
                Error::new(
                    ErrorKind::Closed,
                    format!("cannot {what}: the handler is {is}"),
                )
                .with_integration(self.name())
            })
    }
}

/// The same error for another event.
fn again(error: &Error) -> Error {
    let again = Error::new(error.kind(), error.message());
    match error.integration() {
        Some(name) => again.with_integration(name),
        None => again,
    }
}

fn miscounted() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the integration gave another number of outcomes than it was given events",
    )
}

/// Calls a hook; `false` if it panicked: what other events came to is not its
/// to take along.
fn call(hook: &Hook, name: &str, event: &AnyEvent, error: &Error) -> bool {
    let output = Output::new(Status::Failure, event.clone(), error.response().cloned());
    let failed = Failed {
        name,
        output: &output,
        error,
    };
    catch_unwind(AssertUnwindSafe(|| hook(&failed))).is_ok()
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(analytics)", self.name())
    }
}

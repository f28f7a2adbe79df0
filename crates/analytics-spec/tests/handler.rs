//! Handlers, integrations, retries and configurations, with an integration
//! that does what a script says and a clock that only counts.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use analytics_spec::{
    ActivityPolicy, Alias, AnyEvent, AnyInput, Attempt, Clock, Code, Context, Delete, Delivery,
    Error, ErrorKind, Event, Handler, HttpResponse, Identify, Input, Integration, IntegrationExt,
    Kind, KindSet, Map, Output, Policies, Prepared, PreparedAttempt, Progress, Retries,
    RetryPolicy, Status, Timestamp, Track, ValidationError, Value, Violation, Worker,
    clock::Sleep,
    config::Instance,
    handler::{self, Activity, Config, Step, Workflow, activity_name, workflow_name},
    integration::{PATIENCE, deferred},
};
use async_trait::async_trait;
use serde_json::json;

// A vendor by script.

type Outcome = Result<Delivery, Error>;

/// What an attempt looked like.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    event: AnyEvent,
    message_id: String,
    timestamp: Option<Timestamp>,
    number: u32,
    progress: Progress,
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Scripted {
    name: &'static str,
    supports: KindSet,
    policies: Policies,
    allow_policies_override: bool,
    /// The outcomes to come; after them, success.
    script: Mutex<VecDeque<Outcome>>,
    seen: Mutex<Vec<Seen>>,
    /// How many more times `init` fails.
    failing_inits: Mutex<u32>,
    /// Whether `init` never ends.
    hangs: bool,
    closed: Mutex<u32>,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Outcome>) -> Self {
        Self {
            name: "shop",
            supports: KindSet::ALL,
            script: Mutex::new(script.into_iter().collect()),
            ..Self::default()
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The names of the tracked events, in the order of their attempts.
    fn tracked(&self) -> Vec<String> {
        let name = |seen: Seen| match seen.event {
            AnyEvent::Track(track) => track.event,
            other => other.kind().to_string(),
        };
        self.seen().into_iter().map(name).collect()
    }
}

#[async_trait]
impl Integration for Scripted {
    fn vendor(&self) -> &'static str {
        "scripted"
    }

    fn name(&self) -> &str {
        self.name
    }

    fn supports(&self) -> KindSet {
        self.supports
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let violations = match &input.event {
            AnyEvent::Identify(e) if !e.traits.contains_key("email") => {
                vec![Violation::new(
                    "identify.traits.email",
                    Code::Required,
                    "the vendor knows people by it",
                )]
            }
            _ => Vec::new(),
        };
        ValidationError::check(violations)
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Outcome {
        self.seen.lock().unwrap().push(Seen {
            event: attempt.input.event.clone(),
            message_id: attempt.input.message_id().to_owned(),
            timestamp: attempt.input.context.timestamp,
            number: attempt.number,
            progress: attempt.progress,
            timeout: attempt.timeout,
        });
        let next = self.script.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(Delivery::default()))
    }

    fn policies(&self) -> Policies {
        self.policies.clone()
    }

    fn allows_policies_override(&self) -> bool {
        self.allow_policies_override
    }

    fn configuration(&self) -> Map<String, Value> {
        let secret = analytics_spec::Secret::new("hunter2");
        Map::from_iter([
            ("region".to_owned(), json!("eu")),
            ("api_key".to_owned(), json!(secret.to_string())),
        ])
    }

    async fn init(&self) -> Result<(), Error> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let mut failing = self.failing_inits.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(unavailable());
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        *self.closed.lock().unwrap() += 1;
        Ok(())
    }
}

/// An integration that loses the outcomes of its batches.
#[derive(Debug)]
struct Losing;

#[async_trait]
impl Integration for Losing {
    fn vendor(&self) -> &'static str {
        "losing"
    }

    fn name(&self) -> &str {
        "losing"
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    async fn deliver(&self, _: &Attempt<'_>) -> Outcome {
        Ok(Delivery::default())
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Outcome> {
        attempts
            .iter()
            .skip(1)
            .map(|_| Ok(Delivery::default()))
            .collect()
    }
}

/// A clock on which a pause takes no time.
#[derive(Debug, Default)]
struct FakeClock {
    slept: Mutex<Vec<Duration>>,
}

const START: &str = "2026-03-01T12:00:00Z";

impl FakeClock {
    fn slept(&self) -> Vec<Duration> {
        self.slept.lock().unwrap().clone()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let slept: Duration = self.slept().iter().sum();
        START.parse::<Timestamp>().unwrap() + slept
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        self.slept.lock().unwrap().push(duration);
        Box::pin(std::future::ready(()))
    }

    fn jitter(&self) -> f64 {
        0.0
    }
}

#[derive(Default)]
struct Registry {
    workflows: Vec<Workflow>,
    activities: Vec<Activity>,
    /// The name that somebody else has.
    taken: Option<String>,
}

impl Worker for Registry {
    fn register_workflow(&mut self, workflow: Workflow) -> Result<(), Error> {
        self.workflows.push(workflow);
        Ok(())
    }

    fn register_activity(&mut self, activity: Activity) -> Result<(), Error> {
        if self.taken.as_ref() == Some(&activity.name) {
            return Err(Error::configuration("the name is taken"));
        }
        self.activities.push(activity);
        Ok(())
    }
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "503")
}

fn rejected() -> Error {
    Error::new(ErrorKind::RequestRejected, "400").with_response(HttpResponse::new(400))
}

fn track(name: &str, user: &str) -> AnyInput {
    Input::new(Track::new(name).user_id(user)).into_any()
}

fn attempt(input: &AnyInput) -> Attempt<'_> {
    Attempt {
        input,
        number: 1,
        progress: Progress::NONE,
        timeout: Duration::from_secs(1),
        deadline: None,
    }
}

fn handler(config: Config) -> Handler {
    Handler::new(config).unwrap()
}

fn config(integration: Scripted) -> Config {
    let integration: Arc<dyn Integration> = Arc::new(integration);
    Config::new(integration)
}

async fn ready(config: Config) -> Handler {
    let handler = handler(config);
    handler.register(&mut Registry::default()).unwrap();
    handler.init().await.unwrap();
    handler
}

fn violations(error: &Error) -> Vec<String> {
    let violations = error.violations().expect("it is about violations");
    let violations = violations.violations().iter();
    violations
        .map(|v| format!("{}: {}", v.path, v.code))
        .collect()
}

fn kinds(outcomes: &[Outcome]) -> Vec<Result<(), ErrorKind>> {
    let kind = |outcome: &Outcome| outcome.as_ref().map(|_| ()).map_err(Error::kind);
    outcomes.iter().map(kind).collect()
}

fn attempts_at_most(attempts: u32) -> Policies {
    let retry = RetryPolicy::new().maximum_attempts(attempts);
    Policies::new().request(ActivityPolicy::new().retry_policy(retry))
}

// The life of a handler.

#[tokio::test]
async fn a_life_takes_each_step_once_and_in_order() {
    let handler = handler(config(Scripted::new([])));
    let mut registry = Registry::default();
    let closed = |result: Result<(), Error>, words: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.integration(), Some("shop"));
        assert_eq!(error.message(), words);
    };

    assert!(!handler.is_ready());
    closed(
        handler.init().await,
        "cannot initialise: the handler is not registered yet",
    );
    closed(
        handler.close().await,
        "cannot close: the handler is not registered yet",
    );

    handler.register(&mut registry).unwrap();
    assert!(!handler.is_ready());
    closed(
        handler.register(&mut registry),
        "cannot register: the handler is registered",
    );
    closed(
        handler.close().await,
        "cannot close: the handler is registered",
    );

    handler.init().await.unwrap();
    assert!(handler.is_ready());
    assert!(handler.clone().is_ready(), "clones are the same handler");
    closed(
        handler.init().await,
        "cannot initialise: the handler is initialised",
    );
    closed(
        handler.register(&mut registry),
        "cannot register: the handler is initialised",
    );

    handler.close().await.unwrap();
    assert!(!handler.is_ready());
    closed(handler.close().await, "cannot close: the handler is closed");
    closed(
        handler.init().await,
        "cannot initialise: the handler is closed",
    );
    closed(
        handler.register(&mut registry),
        "cannot register: the handler is closed",
    );
}

#[tokio::test]
async fn a_handler_is_ready_only_once_its_integration_is() {
    let integration = Scripted {
        failing_inits: Mutex::new(1),
        ..Scripted::new([])
    };
    let failing = handler(config(integration));
    failing.register(&mut Registry::default()).unwrap();
    assert_eq!(
        failing.init().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert!(!failing.is_ready());
    failing.init().await.unwrap();
    assert!(failing.is_ready());

    let integration = Scripted {
        hangs: true,
        ..Scripted::new([])
    };
    let hanging = handler(config(integration));
    hanging.register(&mut Registry::default()).unwrap();
    {
        let mut first = Box::pin(hanging.init());
        assert!(at_once(first.as_mut()).await.is_none());
        assert!(!hanging.is_ready());
        let error = hanging.init().await.unwrap_err();
        assert_eq!(
            error.message(),
            "cannot initialise: the handler is being initialised"
        );
    }
    // Nobody waits for the first any more: the next one may try.
    let mut second = Box::pin(hanging.init());
    assert!(at_once(second.as_mut()).await.is_none());
}

/// What a future gives at once, if it does.
async fn at_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn nothing_is_sent_before_init_or_after_close() {
    let integration = Arc::new(Scripted::new([]));
    let handler = handler(Config::new(integration.clone() as Arc<dyn Integration>));
    let input = track("E", "u");
    let refused = async |when: &str| {
        assert_eq!(
            handler.validate(&input).unwrap_err().kind(),
            ErrorKind::Closed,
            "{when}"
        );
        let error = handler.request(&attempt(&input)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{when}");
        let outcomes = handler
            .request_batch(&[attempt(&input), attempt(&input)])
            .await;
        assert_eq!(kinds(&outcomes), [Err(ErrorKind::Closed); 2], "{when}");
        let prepared = Prepared::new((), 0);
        let attempts = [PreparedAttempt {
            prepared: &prepared,
            kind: input.kind(),
            message_id: input.message_id(),
            people: &[],
            event: None,
            number: 1,
            progress: Progress::NONE,
            timeout: Duration::from_secs(1),
        }];
        let outcomes = handler.request_prepared(&attempts).await;
        assert_eq!(kinds(&outcomes), [Err(ErrorKind::Closed)], "{when}");
        let error = handler.prepare(&input).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{when}");
    };
    refused("new").await;
    handler.register(&mut Registry::default()).unwrap();
    refused("registered").await;
    handler.init().await.unwrap();
    handler.validate(&input).unwrap();
    handler.request(&attempt(&input)).await.unwrap();
    handler.close().await.unwrap();
    refused("closed").await;
    assert_eq!(integration.seen().len(), 1);
    assert_eq!(*integration.closed.lock().unwrap(), 1);
}

#[test]
fn only_supported_kinds_are_registered_and_listed_in_order() {
    let integration = Scripted {
        name: "custom",
        supports: KindSet::from([Kind::Track, Kind::Identify, Kind::Delete]),
        ..Scripted::new([])
    };
    let handler = handler(config(integration));
    assert_eq!(handler.to_string(), "custom(analytics)");
    assert_eq!(
        handler.list_workflows(),
        [
            "custom(analytics).Batch",
            "custom(analytics).Delete",
            "custom(analytics).Identify",
            "custom(analytics).Track"
        ]
    );
    assert_eq!(
        handler.list_activities(),
        [
            "custom(analytics).Batch.Request",
            "custom(analytics).Batch.Validation",
            "custom(analytics).Delete.Request",
            "custom(analytics).Delete.Validation",
            "custom(analytics).Identify.Request",
            "custom(analytics).Identify.Validation",
            "custom(analytics).Track.Request",
            "custom(analytics).Track.Validation",
        ]
    );

    let mut registry = Registry::default();
    handler.register(&mut registry).unwrap();
    let mut workflows: Vec<_> = registry.workflows.iter().map(|w| w.name.clone()).collect();
    workflows.sort();
    assert_eq!(workflows, handler.list_workflows());
    let mut activities: Vec<_> = registry.activities.iter().map(|a| a.name.clone()).collect();
    activities.sort();
    assert_eq!(activities, handler.list_activities());
    for workflow in &registry.workflows {
        assert_eq!(workflow.name, workflow_name("custom", workflow.takes));
        assert_eq!(workflow.handler.name(), "custom");
    }
    for activity in &registry.activities {
        assert_eq!(
            activity.name,
            activity_name("custom", activity.takes, activity.step)
        );
    }
}

#[tokio::test]
async fn a_handler_whose_name_is_taken_can_register_elsewhere() {
    let handler = handler(config(Scripted::new([])));
    let mut registry = Registry {
        taken: Some(activity_name("shop", Kind::Track, Step::Request)),
        ..Registry::default()
    };
    let error = handler.register(&mut registry).unwrap_err();
    assert_eq!(error.message(), "the name is taken");
    assert!(handler.init().await.is_err());
    handler.register(&mut Registry::default()).unwrap();
    handler.init().await.unwrap();
}

#[test]
fn a_configuration_is_checked_before_there_is_a_handler() {
    let refused = |config: Config, words: &str| {
        let error = Handler::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains(words), "{error}");
    };
    for name in ["", "a b", "shop(analytics)", "böse", "a/b"] {
        let integration = Scripted {
            name,
            ..Scripted::new([])
        };
        refused(config(integration), "must be letters, digits");
    }
    for name in ["shop", "Shop-2.eu_west", "0"] {
        let integration = Scripted {
            name,
            ..Scripted::new([])
        };
        handler(config(integration));
    }
    let integration = Scripted {
        supports: KindSet::EMPTY,
        ..Scripted::new([])
    };
    refused(config(integration), "supports no kind");

    let zero = ActivityPolicy::new()
        .single_attempt_timeout(Duration::ZERO)
        .retry_policy(RetryPolicy::new().backoff_coefficient(0.5));
    let zero = Policies::new().request(zero);
    // All of it at once, whoever brought it.
    for words in ["single_attempt_timeout", "backoff_coefficient"] {
        refused(config(Scripted::new([])).policies(zero.clone()), words);
        let integration = Scripted {
            policies: zero.clone(),
            ..Scripted::new([])
        };
        refused(config(integration), words);
        let instance = Instance::new("shop").policies(zero.clone());
        assert!(instance.check().unwrap_err().message().contains(words));
    }
    let context = Context::new().message_id("m".repeat(101));
    refused(
        config(Scripted::new([])).context(context),
        "context.message_id: too_long",
    );
}

#[test]
fn the_configuration_can_be_shown() {
    let integration = Scripted {
        supports: KindSet::from([Kind::Identify, Kind::Track]),
        policies: attempts_at_most(3),
        allow_policies_override: true,
        ..Scripted::new([])
    };
    let timeout = ActivityPolicy::new().single_attempt_timeout(Duration::from_secs(2));
    let config = config(integration)
        .context(Context::new().locale("en-GB"))
        .policies(Policies::new().request(timeout));
    let debug = format!("{config:?}");
    let handler = handler(config);
    assert_eq!(
        Value::Object(handler.config_map()),
        json!({
            "name": "shop",
            "vendor": "scripted",
            "supports": ["identify", "track"],
            "policies": {"request": {
                "single_attempt_timeout": "2s",
                "retry_policy": {"maximum_attempts": 3},
            }},
            "allow_policies_override": true,
            "context": {"locale": "en-GB"},
            "from": {"region": "eu", "api_key": "[redacted]"},
        })
    );
    assert!(!debug.contains("hunter2"));
    assert!(!format!("{handler:?}").contains("hunter2"));
}

#[test]
fn a_handlers_policies_stand_between_the_inputs_and_the_integrations() {
    let integration = |allow_policies_override| Scripted {
        policies: Policies::new().request(
            ActivityPolicy::new()
                .single_attempt_timeout(Duration::from_secs(1))
                .retry_policy(
                    RetryPolicy::new()
                        .maximum_attempts(1)
                        .initial_interval(Duration::from_secs(1)),
                ),
        ),
        allow_policies_override,
        ..Scripted::new([])
    };
    let own = Policies::new().request(
        ActivityPolicy::new().retry_policy(
            RetryPolicy::new()
                .maximum_attempts(2)
                .backoff_coefficient(2.5),
        ),
    );
    let input = Input::new(Track::new("E").user_id("u"))
        .policies(attempts_at_most(3))
        .into_any();

    let policy = handler(config(integration(true)).policies(own.clone())).request_policy(&input);
    assert_eq!(policy.maximum_attempts, 3, "the input's");
    assert!(
        (policy.backoff_coefficient - 2.5).abs() < 1e-9,
        "the handler's"
    );
    assert_eq!(policy.initial_interval.as_secs(), 1, "the integration's");
    assert_eq!(
        policy.single_attempt_timeout.as_secs(),
        1,
        "the integration's"
    );
    assert_eq!(policy.maximum_interval.as_secs(), 60, "the default");

    let policy = handler(config(integration(false)).policies(own)).request_policy(&input);
    assert_eq!(policy.maximum_attempts, 2, "not the input's");
    assert_eq!(integration(true).request_policy(&input).maximum_attempts, 3);
    assert_eq!(
        integration(false).request_policy(&input).maximum_attempts,
        1
    );
}

#[test]
fn a_handlers_context_completes_the_inputs() {
    let context = Context::new()
        .locale("en-GB")
        .timezone("Europe/Paris")
        .message_id("m1");
    let handler = handler(config(Scripted::new([])).context(context));
    let input = Input::new(Track::new("E").user_id("u"))
        .context(Context::new().locale("fr-FR"))
        .into_any();
    let completed = handler.complete(&input);
    assert_eq!(completed.event, input.event);
    assert_eq!(
        completed.context,
        Context::new().locale("fr-FR").timezone("Europe/Paris")
    );
}

// The steps and their hooks.

type Calls = Arc<Mutex<Vec<(String, AnyEvent, Status, Option<u16>, ErrorKind)>>>;

fn recorder() -> (Calls, impl Fn(&handler::Failed<'_>) + Send + Sync + 'static) {
    let calls = Calls::default();
    let theirs = calls.clone();
    let hook = move |failed: &handler::Failed<'_>| {
        let Output {
            status,
            event,
            response,
            ..
        } = failed.output.clone();
        let response = response.map(|response| response.status_code);
        let call = (
            failed.name.to_owned(),
            event,
            status,
            response,
            failed.error.kind(),
        );
        theirs.lock().unwrap().push(call);
    };
    (calls, hook)
}

#[tokio::test]
async fn hooks_hear_of_failures() {
    let (activities, on_activity_error) = recorder();
    let (workflows, on_workflow_error) = recorder();
    let script = [Err(rejected()), Ok(Delivery::default()), Err(unavailable())];
    let handler = ready(
        config(Scripted::new(script))
            .on_activity_error(on_activity_error)
            .on_workflow_error(on_workflow_error),
    )
    .await;
    let input = track("E", "u");
    let failure = |name: &str, input: &AnyInput, response, kind| {
        (
            name.to_owned(),
            input.event.clone(),
            Status::Failure,
            response,
            kind,
        )
    };

    handler.validate(&input).unwrap();
    assert!(activities.lock().unwrap().is_empty());

    // A step.
    let error = handler.request(&attempt(&input)).await.unwrap_err();
    let rejection = ErrorKind::RequestRejected;
    let request = "shop(analytics).Track.Request";
    assert_eq!(
        activities.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [failure(request, &input, Some(400), rejection)]
    );
    assert!(
        workflows.lock().unwrap().is_empty(),
        "that is for the engine to say"
    );

    // One that has come further, and goes on.
    let integration = Scripted::new([Err(deferred())]);
    let (goes_on, on_activity_error) = recorder();
    let other = ready(config(integration).on_activity_error(on_activity_error)).await;
    other.request(&attempt(&input)).await.unwrap_err();
    assert_eq!(goes_on.lock().unwrap().len(), 0, "it has not failed");

    // The whole.
    handler.workflow_failed(&input.event, &error);
    assert_eq!(
        workflows.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [failure(
            "shop(analytics).Track",
            &input,
            Some(400),
            rejection
        )]
    );

    // Validation, and a request that validates again.
    let nameless = Input::new(Identify::new().user_id("u")).into_any();
    handler.validate(&nameless).unwrap_err();
    handler.request(&attempt(&nameless)).await.unwrap_err();
    let invalid = ErrorKind::Validation;
    assert_eq!(
        activities.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [
            failure(
                "shop(analytics).Identify.Validation",
                &nameless,
                None,
                invalid
            ),
            failure("shop(analytics).Identify.Request", &nameless, None, invalid),
        ]
    );

    // A batch: one success, one failure, one that only waits.
    let (second, third) = (track("F", "v"), track("G", "v"));
    let batch = [attempt(&input), attempt(&second), attempt(&third)];
    let outcomes = handler.request_batch(&batch).await;
    assert_eq!(
        kinds(&outcomes),
        [
            Ok(()),
            Err(ErrorKind::Unavailable),
            Err(ErrorKind::Deferred)
        ]
    );
    assert_eq!(
        activities.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [failure(request, &second, None, ErrorKind::Unavailable)]
    );
}

/// What has been delivered stays so.
#[tokio::test]
async fn a_hook_that_panics_takes_no_outcome_along() {
    let script = [Ok(Delivery::default()), Err(rejected())];
    let config = config(Scripted::new(script))
        .on_activity_error(|_| panic!("the hook's mistake"))
        .on_workflow_error(|_| panic!("the other hook's mistake"));
    let handler = ready(config).await;
    let (first, second) = (track("E", "u"), track("F", "v"));
    let outcomes = handler
        .request_batch(&[attempt(&first), attempt(&second)])
        .await;
    assert_eq!(kinds(&outcomes), [Ok(()), Err(ErrorKind::RequestRejected)]);
    assert!(!handler.workflow_failed(&second.event, &rejected()));
}

#[tokio::test]
async fn a_batch_leaves_out_what_is_wrong_and_keeps_its_order() {
    let integration = Arc::new(Scripted {
        supports: KindSet::ALL.without(Kind::Delete),
        ..Scripted::new([Ok(Delivery::default()), Err(rejected())])
    });
    let handler = ready(Config::new(integration.clone() as Arc<dyn Integration>)).await;
    let inputs = [
        track("", "u"),
        track("A", "u"),
        Input::new(Delete::new("u")).into_any(),
        track("B", "u"),
        track("C", "u"),
    ];
    let attempts: Vec<_> = inputs.iter().map(attempt).collect();
    let outcomes = handler.request_batch(&attempts).await;
    assert_eq!(
        kinds(&outcomes),
        [
            Err(ErrorKind::Validation),
            Ok(()),
            Err(ErrorKind::Unsupported),
            Err(ErrorKind::RequestRejected),
            Ok(()),
        ]
    );
    assert_eq!(integration.tracked(), ["A", "B", "C"]);
    assert!(handler.request_batch(&[]).await.is_empty());
}

#[tokio::test]
async fn lost_outcomes_are_nobodys_success() {
    let handler = ready(Config::new(Arc::new(Losing) as Arc<dyn Integration>)).await;
    let (a, b, wrong) = (track("A", "u"), track("B", "u"), track("", "u"));
    let outcomes = handler
        .request_batch(&[attempt(&a), attempt(&wrong), attempt(&b)])
        .await;
    assert_eq!(
        kinds(&outcomes),
        [
            Err(ErrorKind::Internal),
            Err(ErrorKind::Validation),
            Err(ErrorKind::Internal),
        ]
    );
    let error = outcomes[0].as_ref().unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(error.integration(), Some("losing"));
}

// What is checked before a request.

#[test]
fn check_asks_the_specification_then_the_integration() {
    let integration = Scripted {
        supports: KindSet::ALL.without(Kind::Alias),
        ..Scripted::new([])
    };
    let check = |input: &AnyInput| integration.check(input).unwrap_err();

    let error = check(&Input::new(Alias::new("a", "b")).into_any());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!error.is_retryable());
    assert_eq!(
        error.to_string(),
        "shop: Unsupported: alias is not supported by this integration"
    );

    // The vendor's rule is asked only about what is right otherwise.
    let error = check(&Input::new(Identify::new()).into_any());
    assert_eq!(error.kind(), ErrorKind::Validation);
    assert_eq!(violations(&error), ["identify: required"]);
    assert_eq!(error.integration(), Some("shop"));

    let identify = Input::new(Identify::new().user_id("u"));
    assert_eq!(
        violations(&check(&identify.clone().into_any())),
        ["identify.traits.email: required"]
    );
    let error = check(&identify.policies(Policies::new()).into_any());
    assert_eq!(
        violations(&error),
        ["policies: not_allowed", "identify.traits.email: required"]
    );
    assert!(
        error.message().contains("allow_policies_override"),
        "{error}"
    );

    integration.check(&track("E", "u")).unwrap();
}

#[test]
fn policies_are_allowed_where_the_configuration_says_so() {
    let input = Input::new(Track::new("E").user_id("u"))
        .policies(attempts_at_most(3))
        .into_any();
    let mut integration = Scripted::new([]);
    let error = integration.check(&input).unwrap_err();
    assert_eq!(violations(&error), ["policies: not_allowed"]);
    integration.allow_policies_override = true;
    integration.check(&input).unwrap();
}

// Retries.

async fn send(integration: &Scripted, clock: &FakeClock) -> Result<Delivery, Error> {
    integration.send_with(clock, &mut track("E", "u")).await
}

fn millis(slept: &[Duration]) -> Vec<u128> {
    slept.iter().map(Duration::as_millis).collect()
}

#[tokio::test]
async fn attempts_are_one_event() {
    let integration = Scripted {
        policies: Policies::new()
            .request(ActivityPolicy::new().single_attempt_timeout(Duration::from_secs(7))),
        ..Scripted::new([Err(unavailable()), Err(unavailable())])
    };
    let clock = FakeClock::default();
    let mut input = track("E", "u");
    integration.send_with(&clock, &mut input).await.unwrap();

    assert_eq!(millis(&clock.slept()), [250, 500]);
    let seen = integration.seen();
    assert_eq!(seen.iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 3]);
    for seen in &seen {
        assert_eq!(seen.message_id.len(), 36, "a UUID");
        assert_eq!(seen.message_id, input.message_id());
        assert_eq!(seen.timestamp, Some(START.parse().unwrap()));
        assert_eq!(seen.timeout, Duration::from_secs(7));
        assert_eq!(seen.event, input.event);
    }
}

/// What a durable engine stores of an event's attempts, and how it steps
/// through an outage.
#[test]
fn attempts_in_an_outage_do_not_count() {
    let policy = attempts_at_most(3).resolve();
    let mut retries = Retries::new();
    assert!(retries.failed(&unavailable(), &policy, 0.0).is_some());
    for _ in 0..1000 {
        let error = unavailable().with_progress(Progress(2));
        let pause = retries.postponed(&error, &policy, 0.0);
        assert_eq!(pause, Some(Duration::from_millis(250)));
    }
    assert_eq!(
        (retries.made, retries.counted, retries.outage),
        (1001, 1, 1000)
    );
    assert_eq!(retries.progress, Progress(2));
    let stored = serde_json::to_string(&retries).unwrap();
    assert_eq!(serde_json::from_str::<Retries>(&stored).unwrap(), retries);
    assert_eq!(
        serde_json::from_str::<Retries>("{}").unwrap(),
        Retries::new()
    );
    assert!(retries.failed(&unavailable(), &policy, 0.0).is_some());
    assert!(
        retries.failed(&unavailable(), &policy, 0.0).is_none(),
        "three"
    );
    assert!(retries.postponed(&rejected(), &policy, 0.0).is_none());
    let once = attempts_at_most(1).resolve();
    assert!(
        Retries::new()
            .postponed(&unavailable(), &once, 0.0)
            .is_none()
    );
}

#[tokio::test]
async fn an_inputs_own_identity_is_kept() {
    let integration = Scripted::new([]);
    let mut input = track("E", "u");
    input.context.message_id = Some("mine".to_owned());
    input.context.timestamp = Some("2020-01-01T00:00:00Z".parse().unwrap());
    let before = input.clone();
    integration
        .send_with(&FakeClock::default(), &mut input)
        .await
        .unwrap();
    assert_eq!(input, before);
    assert_eq!(integration.seen()[0].message_id, "mine");
}

#[tokio::test]
async fn progress_is_carried_and_never_lost() {
    let at = |requests| Err(unavailable().with_progress(Progress(requests)));
    let integration = Scripted {
        policies: attempts_at_most(5),
        ..Scripted::new([at(0), at(2), at(1), at(3), Err(unavailable())])
    };
    let error = send(&integration, &FakeClock::default()).await.unwrap_err();
    let progress: Vec<_> = integration.seen().iter().map(|s| s.progress.0).collect();
    assert_eq!(progress, [0, 0, 2, 2, 3]);
    assert_eq!(
        error.progress(),
        Progress(3),
        "what a later replay need not repeat"
    );
}

#[tokio::test]
async fn the_last_attempt_is_the_last() {
    for attempts in [1, 2, 4] {
        let integration = Scripted {
            policies: attempts_at_most(attempts),
            ..Scripted::new((0..9).map(|_| Err(unavailable())))
        };
        let clock = FakeClock::default();
        let error = send(&integration, &clock).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(integration.seen().len(), attempts as usize);
        assert_eq!(clock.slept().len(), attempts as usize - 1);
    }
}

#[tokio::test]
async fn what_is_final_is_not_tried_again() {
    let integration = Scripted::new([Err(rejected())]);
    let clock = FakeClock::default();
    let error = send(&integration, &clock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestRejected);
    assert_eq!(integration.seen().len(), 1);
    assert!(clock.slept().is_empty());

    // Nor is anything sent that is wrong.
    let integration = Scripted::new([]);
    let error = integration
        .send_with(&clock, &mut track("", "u"))
        .await
        .unwrap_err();
    assert_eq!(violations(&error), ["track.event: required"]);
    assert!(integration.seen().is_empty());
}

#[tokio::test]
async fn delays_that_the_vendor_asks_for_are_waited_for_and_not_counted() {
    let asked = |seconds| Err(unavailable().with_retry_after(Duration::from_secs(seconds)));
    let script = [
        asked(90),
        asked(5),
        Err(unavailable()),
        asked(7),
        asked(0),
        Err(unavailable()),
    ];
    let integration = Scripted {
        policies: attempts_at_most(3),
        ..Scripted::new(script)
    };
    let clock = FakeClock::default();
    let error = send(&integration, &clock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // "After 0" is soon and counts, for it does not let a vendor be flooded.
    assert_eq!(millis(&clock.slept()), [90_000, 5_000, 250, 7_000, 250]);
    assert_eq!(integration.seen().len(), 6);
}

#[tokio::test]
async fn who_waits_for_a_call_waits_five_minutes_for_the_vendor_at_most() {
    let minute = Duration::from_secs(60);
    let asked = || Err(unavailable().with_retry_after(minute));
    let integration = Scripted::new((0..20).map(|_| asked()));
    let clock = FakeClock::default();
    let error = send(&integration, &clock).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(minute));
    assert_eq!(clock.slept(), [minute; 5]);
    assert_eq!(clock.slept().iter().sum::<Duration>(), PATIENCE);

    for long in [
        unavailable().with_retry_after(minute * 10),
        unavailable().with_wait(minute * 10),
    ] {
        let integration = Scripted::new([Err(long)]);
        let clock = FakeClock::default();
        let error = send(&integration, &clock).await.unwrap_err();
        assert!(error.is_retryable());
        assert!(clock.slept().is_empty(), "not even begun");
    }
}

#[tokio::test]
async fn an_attempt_that_waits_for_nobody_does_not_turn_in_circles() {
    let integration = Scripted::new([Err(deferred()), Err(deferred())]);
    let clock = FakeClock::default();
    let error = send(&integration, &clock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deferred);
    assert_eq!(integration.seen().len(), 1);
}

// Batches.

async fn batch(integration: &Scripted, inputs: &[AnyInput]) -> Vec<Result<(), ErrorKind>> {
    let attempts: Vec<_> = inputs.iter().map(attempt).collect();
    kinds(&integration.deliver_batch(&attempts).await)
}

#[tokio::test]
async fn a_persons_events_wait_for_the_one_that_failed() {
    const DEFERRED: Result<(), ErrorKind> = Err(ErrorKind::Deferred);
    let integration = Scripted::new([Err(unavailable())]);
    let inputs = [
        track("A", "u"),
        track("B", "v"),
        track("C", "u"),
        track("D", "v"),
    ];
    let outcomes = batch(&integration, &inputs).await;
    assert_eq!(
        outcomes,
        [Err(ErrorKind::Unavailable), Ok(()), DEFERRED, Ok(())]
    );
    assert_eq!(integration.tracked(), ["A", "B", "D"]);

    // A failure that is final holds nobody up.
    let integration = Scripted::new([Err(rejected())]);
    let outcomes = batch(&integration, &inputs).await;
    assert_eq!(
        outcomes,
        [Err(ErrorKind::RequestRejected), Ok(()), Ok(()), Ok(())]
    );

    // Who waits makes others wait, under every id that they have.
    let both = Track::new("B").user_id("u").anonymous_id("a");
    let inputs = [
        track("A", "u"),
        Input::new(both).into_any(),
        Input::new(Track::new("C").anonymous_id("a")).into_any(),
        Input::new(Alias::new("u", "w")).into_any(),
        track("D", "w"),
        // The previous user of an alias may have been anonymous.
        Input::new(Track::new("E").anonymous_id("u")).into_any(),
        // Else, an anonymous id is not a user's.
        Input::new(Track::new("F").anonymous_id("w")).into_any(),
    ];
    let integration = Scripted::new([Err(unavailable())]);
    let outcomes = batch(&integration, &inputs).await;
    assert_eq!(
        outcomes,
        [
            Err(ErrorKind::Unavailable),
            DEFERRED,
            DEFERRED,
            DEFERRED,
            DEFERRED,
            DEFERRED,
            Ok(())
        ]
    );
    assert_eq!(integration.tracked(), ["A", "F"]);
}

/// A client as the facade has one: it carries the seven calls to integrations.
#[tokio::test]
async fn calls_reach_send_with_their_kind() {
    struct Client(Scripted);

    impl analytics_spec::Calls for Client {
        type Receipt<E: Event> = Kind;

        async fn send<E: Event>(
            &self,
            input: impl Into<Input<E>> + Send,
        ) -> Result<Self::Receipt<E>, Error> {
            let input: Input<E> = input.into();
            let kind = input.kind();
            self.0
                .send_with(&FakeClock::default(), &mut input.into_any())
                .await?;
            Ok(kind)
        }
    }

    use analytics_spec::{Calls as _, Group, Page, Screen};
    let client = Client(Scripted::new([]));
    let identify = Identify::new().user_id("u").trait_("email", "a@b.c");
    assert_eq!(client.identify(identify).await.unwrap(), Kind::Identify);
    assert_eq!(
        client.track(Track::new("E").user_id("u")).await.unwrap(),
        Kind::Track
    );
    assert_eq!(
        client.group(Group::new("g").user_id("u")).await.unwrap(),
        Kind::Group
    );
    assert_eq!(
        client.alias(Alias::new("a", "b")).await.unwrap(),
        Kind::Alias
    );
    assert_eq!(
        client.page(Page::new("P").user_id("u")).await.unwrap(),
        Kind::Page
    );
    let screen = Input::new(Screen::new("S").user_id("u"));
    assert_eq!(client.screen(screen).await.unwrap(), Kind::Screen);
    assert_eq!(client.delete(Delete::new("u")).await.unwrap(), Kind::Delete);
    let kinds: Vec<_> = client.0.seen().iter().map(|s| s.event.kind()).collect();
    assert_eq!(kinds, Kind::ALL);
}

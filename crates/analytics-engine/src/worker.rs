//! What handlers register on, in this process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use analytics_spec::{
    AnyInput, AnyOutput, BatchInput, BatchOutput, Clock, Delivery, Error, ErrorKind, Event,
    Handler, Input, Output, Retries, Status, Value, Worker,
    batch::{Deliveries, Outcome, attempt, attempt_each},
    handler::{Activity, Step, Takes, Workflow, workflow_name},
    integration::drive,
};
use futures::future::join_all;
use serde::Serialize;

/// What a name stands for.
#[derive(Clone, Debug)]
struct Registered {
    handler: Handler,
    takes: Takes,
    /// One step alone, or all of them: the workflow.
    step: Option<Step>,
}

/// A worker that executes in the caller's task.
#[derive(Debug)]
pub struct EmbeddedWorker {
    clock: Arc<dyn Clock>,
    names: BTreeMap<String, Registered>,
}

impl EmbeddedWorker {
    /// A worker without workflows.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            names: BTreeMap::new(),
        }
    }

    /// Everything that can be executed, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Executes a workflow, or one activity of it, by its name. Input and
    /// output are the JSON of the wire contract.
    ///
    /// # Errors
    ///
    /// The name is not registered; the input is not valid; or the vendor
    /// refused the event.
    pub async fn execute(&self, name: &str, input: Value) -> Result<Value, Error> {
        let Registered {
            handler,
            takes,
            step,
        } = self.find(name)?;
        let invalid = |error| Error::from(error).with_integration(handler.name());
        match takes {
            Takes::Event(kind) => {
                let input = AnyInput::accept(input, Some(*kind)).map_err(invalid)?;
                json(&match step {
                    None => self.run_workflow(handler, input).await?,
                    Some(step) => self.run_step(handler, *step, input).await?,
                })
            }
            Takes::Batch => {
                let input = BatchInput::<Value>::from_value(input).map_err(invalid)?;
                json(&self.run_batch(handler, input, *step).await)
            }
        }
    }

    /// Executes the workflow of an event's type at an integration.
    ///
    /// # Errors
    ///
    /// See [`execute`](Self::execute).
    pub async fn run<E: Event>(
        &self,
        integration: &str,
        input: impl Into<Input<E>>,
    ) -> Result<Output<E>, Error> {
        let input = input.into();
        let registered = self.find(&workflow_name(integration, input.kind()))?;
        let event = input.event.clone();
        let output = self
            .run_workflow(&registered.handler, input.into_any())
            .await?;
        Ok(Output::new(output.status, event, output.response))
    }

    fn find(&self, name: &str) -> Result<&Registered, Error> {
        self.names.get(name).ok_or_else(|| {
            let near = analytics_spec::nearest(name, self.names());
            let hint = near.map_or_else(String::new, |near| format!(": did you mean {near}?"));
            Error::new(
                ErrorKind::Unsupported,
                format!("there is no workflow or activity {name}{hint}"),
            )
        })
    }

    /// Validation, then the request with its retries.
    async fn run_workflow(&self, handler: &Handler, input: AnyInput) -> Result<AnyOutput, Error> {
        let input = self.accept(handler, &input);
        let result = self.deliver(handler, &input).await;
        match result {
            Ok(delivery) => Ok(success(input, delivery)),
            Err(error) => {
                failed(handler, &input, &error);
                Err(error)
            }
        }
    }

    async fn deliver(&self, handler: &Handler, input: &AnyInput) -> Result<Delivery, Error> {
        handler.validate(input)?;
        let policy = handler.request_policy(input);
        let attempt = |attempt| Box::pin(async move { handler.request(&attempt).await }) as _;
        // `Retries` say how long the vendor's delays are waited for.
        drive(self.clock.as_ref(), &policy, input, Duration::MAX, attempt).await
    }

    /// The events of a batch to their ends, or one step of it, once.
    async fn run_batch(
        &self,
        handler: &Handler,
        mut batch: BatchInput<Value>,
        step: Option<Step>,
    ) -> BatchOutput {
        let inputs = std::mem::take(&mut batch.inputs);
        let accept = |value| {
            let failure = |id: &str, error: &Error| Box::new(Outcome::failure(id, error));
            let input = AnyInput::accept(value, None).map_err(|error| {
                failure("", &Error::from(error).with_integration(handler.name()))
            })?;
            let input = self.accept(handler, &batch.complete(input));
            let id = input.message_id().to_owned();
            handler.validate(&input).map_err(|error| {
                if step.is_none() {
                    failed(handler, &input, &error);
                }
                failure(&id, &error)
            })?;
            if step == Some(Step::Validation) {
                return Err(Box::new(Outcome::success(&id, None)));
            }
            Ok(input)
        };
        let mut deliveries = Deliveries::new(inputs.into_iter().map(accept));
        match step {
            None => self.deliver_batch(handler, &mut deliveries).await,
            Some(_) => attempt_each(handler, &mut deliveries, None).await,
        }
        deliveries.into_output()
    }

    async fn deliver_batch(&self, handler: &Handler, deliveries: &mut Deliveries) {
        let limits = handler.integration().batching();
        while !deliveries.is_done() {
            let round = deliveries.round(self.now(), &limits, 0);
            let calls = round.calls.into_iter().map(async |positions| {
                let events = deliveries.call(&positions);
                let jitter = self.clock.jitter();
                let nexts = attempt(handler, &events, None, jitter).await;
                (positions, nexts)
            });
            let calls = join_all(calls).await;
            if calls.is_empty() {
                let due = round.due.unwrap_or_default();
                self.clock.sleep(due.saturating_sub(self.now())).await;
            }
            for event in deliveries.apply(calls, self.now()) {
                failed(handler, &event.input, &event.error);
            }
        }
    }

    fn now(&self) -> Duration {
        let now = self.clock.now().as_duration();
        Duration::try_from(now).unwrap_or_default()
    }

    /// One step, once.
    async fn run_step(
        &self,
        handler: &Handler,
        step: Step,
        input: AnyInput,
    ) -> Result<AnyOutput, Error> {
        let input = self.accept(handler, &input);
        handler.validate(&input)?;
        let delivery = match step {
            Step::Validation => Delivery::default(),
            Step::Request => {
                let policy = handler.request_policy(&input);
                let attempt = Retries::new().attempt(&input, &policy);
                handler.request(&attempt).await?
            }
        };
        Ok(success(input, delivery))
    }

    fn accept(&self, handler: &Handler, input: &AnyInput) -> AnyInput {
        let mut input = handler.complete(input).into_owned();
        input.stamp(self.clock.now());
        input
    }

    fn add(&mut self, name: String, registered: Registered) -> Result<(), Error> {
        if self.names.contains_key(&name) {
            return Err(Error::configuration(format!(
                "{name} is registered already: instances need different names"
            )));
        }
        self.names.insert(name, registered);
        Ok(())
    }
}

impl Worker for EmbeddedWorker {
    fn register_workflow(&mut self, workflow: Workflow) -> Result<(), Error> {
        let registered = Registered {
            handler: workflow.handler,
            takes: workflow.takes,
            step: None,
        };
        self.add(workflow.name, registered)
    }

    fn register_activity(&mut self, activity: Activity) -> Result<(), Error> {
        let registered = Registered {
            handler: activity.handler,
            takes: activity.takes,
            step: Some(activity.step),
        };
        self.add(activity.name, registered)
    }
}

fn json(output: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(output).map_err(|error| {
        Error::new(ErrorKind::Internal, "the output cannot be written as JSON").with_source(error)
    })
}

/// Tells the hook, whose mistakes stay its own.
fn failed(handler: &Handler, input: &AnyInput, error: &Error) {
    if !handler.workflow_failed(&input.event, error) {
        tracing::error!(integration = handler.name(), "a hook panicked");
    }
}

fn success(input: AnyInput, delivery: Delivery) -> AnyOutput {
    Output::new(Status::Success, input.event, delivery.into_response())
}

//! What handlers register on, in this process.

use std::{collections::BTreeMap, sync::Arc};

use analytics_spec::{
    AnyInput, AnyOutput, Clock, Delivery, Error, ErrorKind, Event, Handler, Input, Kind, Output,
    Retries, Status, ValidationError, Value, Worker,
    handler::{Activity, Step, Workflow, workflow_name},
    integration::drive,
    policies::MAX_ASKED,
};
use serde::Deserialize as _;

/// What a name stands for.
#[derive(Clone, Debug)]
struct Registered {
    handler: Handler,
    kind: Kind,
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
        let registered = self.find(name)?;
        let input = read(input, registered.kind)
            .map_err(|error| Error::from(error).with_integration(registered.handler.name()))?;
        let output = match registered.step {
            None => self.run_workflow(&registered.handler, input).await?,
            Some(step) => self.run_step(&registered.handler, step, input).await?,
        };
        serde_json::to_value(output).map_err(|error| {
            Error::new(ErrorKind::Internal, "the output cannot be written as JSON")
                .with_source(error)
        })
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
                handler.workflow_failed(&input.event, &error);
                Err(error)
            }
        }
    }

    async fn deliver(&self, handler: &Handler, input: &AnyInput) -> Result<Delivery, Error> {
        handler.validate(input)?;
        let policy = handler.request_policy(input);
        let attempt = |attempt| Box::pin(async move { handler.request(&attempt).await }) as _;
        drive(self.clock.as_ref(), &policy, input, MAX_ASKED, attempt).await
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
            kind: workflow.kind,
            step: None,
        };
        self.add(workflow.name, registered)
    }

    fn register_activity(&mut self, activity: Activity) -> Result<(), Error> {
        let registered = Registered {
            handler: activity.handler,
            kind: activity.kind,
            step: Some(activity.step),
        };
        self.add(activity.name, registered)
    }
}

/// Reads an input that must be of a kind. Its form only, if that is right: the
/// validation step looks at its content, and tells the hooks.
fn read(value: Value, kind: Kind) -> Result<AnyInput, ValidationError> {
    let input = match AnyInput::deserialize(&value) {
        Ok(input) => input,
        // Says everything that is wrong, of form and content.
        Err(_) => AnyInput::from_value(value)?,
    };
    if input.kind() == kind {
        Ok(input)
    } else {
        Err(ValidationError::new(
            "$",
            analytics_spec::Code::Conflict,
            format!("expected {kind}, found {}", input.kind()),
        ))
    }
}

fn success(input: AnyInput, delivery: Delivery) -> AnyOutput {
    Output::new(Status::Success, input.event, delivery.into_response())
}

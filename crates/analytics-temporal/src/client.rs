//! Starting and awaiting workflows, with the specification's types.

use std::{fmt, marker::PhantomData};

use analytics_spec::{
    AnyInput, BatchInput, BatchOutput, Error, ErrorKind, Event, Input, Output, Timestamp,
    handler::{Takes, workflow_name},
};
use serde::{Serialize, de::DeserializeOwned};
use temporalio_client::{
    UntypedWorkflow, WorkflowCancelOptions, WorkflowGetResultOptions, WorkflowHandle,
    WorkflowIdConflictPolicy, WorkflowIdReusePolicy, WorkflowStartOptions,
    errors::{WorkflowGetResultError, WorkflowInteractionError, WorkflowStartError},
};

use crate::{Connection, batch, failures, ids, limits::MAX_INPUT_BYTES, payload};

/// Starts and awaits workflows.
///
/// ```no_run
/// # async fn run() -> Result<(), analytics_spec::Error> {
/// use analytics_spec::Identify;
/// use analytics_temporal::{Client, ConnectOptions};
///
/// let connection = ConnectOptions::from_environment().connect().await?;
/// let client = Client::new(&connection);
/// let output = client
///     .execute::<Identify>("segment", Identify::new().user_id("u1").trait_("plan", "pro"))
///     .await?;
/// println!("{:?}", output.response);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// A client of the connection's task queue.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
        }
    }

    /// Starts the workflow of an event at an integration, and waits for its
    /// end: for as long as that takes, also if no worker
    /// [polls](Connection::has_worker). [`Started::waits_for`] says why nothing
    /// comes.
    ///
    /// # Errors
    ///
    /// The input is wrong or too large, the server cannot be reached, or why
    /// the event was not delivered.
    pub async fn execute<E: Event>(
        &self,
        integration: &str,
        input: impl Into<Input<E>>,
    ) -> Result<Output<E>, Error> {
        self.start(integration, input).await?.result().await
    }

    /// Starts the workflow of an event at an integration.
    ///
    /// Its id is made of the workflow's name and the event's message id: an
    /// event that is started twice is one workflow. One that has failed, was
    /// cancelled or terminated, or ran out of time, is started again. The server
    /// knows of an ended workflow as long as the namespace's retention says:
    /// after that, the event is sent again. The message id and the timestamp are fixed here if the input has
    /// none.
    ///
    /// # Errors
    ///
    /// The input is too large, or the server cannot be reached.
    pub async fn start<E: Event>(
        &self,
        integration: &str,
        input: impl Into<Input<E>>,
    ) -> Result<Started<Output<E>>, Error> {
        let mut input = input.into();
        input.stamp(Timestamp::now());
        let name = workflow_name(integration, input.kind());
        let id = input.context.message_id.clone().unwrap_or_default();
        let reuse = WorkflowIdReusePolicy::AllowDuplicateFailedOnly;
        self.start_workflow(integration, &name, &id, reuse, &input)
            .await
    }

    /// Starts the workflow of many events at an integration, and waits until
    /// each of them has ended, as [`execute`](Self::execute) does. That some of
    /// them failed is in the output.
    ///
    /// # Errors
    ///
    /// See [`start_batch`](Self::start_batch).
    pub async fn execute_batch(
        &self,
        integration: &str,
        batch: BatchInput,
    ) -> Result<BatchOutput, Error> {
        self.start_batch(integration, batch).await?.result().await
    }

    /// Starts the workflow of many events at an integration. Its id is made of
    /// all message ids: see [`start`](Self::start). A batch of which some
    /// events failed has not failed itself: see
    /// [`restart_batch`](Self::restart_batch). One that was cancelled or
    /// terminated has no outcomes: started again, it also sends what had been
    /// delivered.
    ///
    /// # Errors
    ///
    /// There are more events than [`MAX_BATCH_EVENTS`](crate::MAX_BATCH_EVENTS),
    /// they are larger than [`MAX_INPUT_BYTES`], or the server cannot be
    /// reached.
    pub async fn start_batch(
        &self,
        integration: &str,
        batch: BatchInput,
    ) -> Result<Started<BatchOutput>, Error> {
        let reuse = WorkflowIdReusePolicy::AllowDuplicateFailedOnly;
        self.batch(integration, batch, reuse).await
    }

    /// Starts a batch once more that has ended, however it did: all of its
    /// events are sent again, with the same message ids. One that is on its way
    /// is not started again.
    ///
    /// # Errors
    ///
    /// See [`start_batch`](Self::start_batch).
    pub async fn restart_batch(
        &self,
        integration: &str,
        batch: BatchInput,
    ) -> Result<Started<BatchOutput>, Error> {
        let reuse = WorkflowIdReusePolicy::AllowDuplicate;
        self.batch(integration, batch, reuse).await
    }

    async fn batch(
        &self,
        integration: &str,
        mut batch: BatchInput,
        reuse: WorkflowIdReusePolicy,
    ) -> Result<Started<BatchOutput>, Error> {
        let named = |error: Error| error.with_integration(integration);
        batch::check_count(batch.inputs.len()).map_err(named)?;
        let now = Timestamp::now();
        batch.inputs.iter_mut().for_each(|input| input.stamp(now));
        let ids: Vec<_> = batch.inputs.iter().map(AnyInput::message_id).collect();
        let id = batch_id(&ids);
        let name = workflow_name(integration, Takes::Batch);
        self.start_workflow(integration, &name, &id, reuse, &batch)
            .await
    }

    async fn start_workflow<T>(
        &self,
        integration: &str,
        name: &str,
        id: &str,
        reuse: WorkflowIdReusePolicy,
        input: &impl Serialize,
    ) -> Result<Started<T>, Error> {
        let named = |error: Error| error.with_integration(integration);
        let argument = payload::write(input).map_err(named)?;
        let bytes = payload::bytes(&argument);
        if bytes > MAX_INPUT_BYTES {
            return Err(named(payload::too_large(bytes)));
        }
        let id = format!("{name}/{id}");
        let options = WorkflowStartOptions::new(self.connection.task_queue(), id.clone())
            .id_reuse_policy(reuse)
            .id_conflict_policy(WorkflowIdConflictPolicy::Fail)
            .build();
        let client = self.connection.client();
        let started = client
            .start_workflow(UntypedWorkflow::new(name), argument, options)
            .await;
        let (handle, is_new) = match started {
            Ok(handle) => (handle, true),
            Err(WorkflowStartError::AlreadyStarted { .. }) => {
                (client.get_workflow_handle(id.clone()), false)
            }
            Err(WorkflowStartError::Rpc(status)) => {
                return Err(named(self.connection.refused(&status)));
            }
            Err(error) => return Err(named(Error::new(ErrorKind::Internal, error.to_string()))),
        };
        Ok(Started {
            connection: self.connection.clone(),
            handle,
            id,
            integration: integration.to_owned(),
            is_new,
            output: PhantomData,
        })
    }
}

/// As JSON: whatever stands in message ids, others make another text.
fn batch_id(message_ids: &[&str]) -> String {
    ids::derived("", &serde_json::json!(message_ids).to_string())
}

/// A workflow that was started.
pub struct Started<T> {
    pub(crate) connection: Connection,
    handle: WorkflowHandle<temporalio_client::Client, UntypedWorkflow>,
    id: String,
    pub(crate) integration: String,
    is_new: bool,
    output: PhantomData<fn() -> T>,
}

impl<T> Started<T> {
    /// The workflow's id.
    #[must_use]
    pub fn workflow_id(&self) -> &str {
        &self.id
    }

    /// Whether it was started now; else there was one for this event already.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The SDK's own handle.
    #[must_use]
    pub fn handle(&self) -> &WorkflowHandle<temporalio_client::Client, UntypedWorkflow> {
        &self.handle
    }

    /// Asks the workflow to end without a delivery.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or says that the workflow has ended
    /// ([`Closed`](ErrorKind::Closed)).
    pub async fn cancel(&self) -> Result<(), Error> {
        let cancelled = self.handle.cancel(WorkflowCancelOptions::default()).await;
        cancelled.map_err(|error| self.refused(error))
    }

    pub(crate) fn refused(&self, error: WorkflowInteractionError) -> Error {
        self.error(match error {
            WorkflowInteractionError::NotFound(_) => {
                Error::new(ErrorKind::Closed, "the workflow has ended")
            }
            WorkflowInteractionError::Rpc(status) => self.connection.refused(&status),
            other => Error::new(ErrorKind::Unavailable, other.to_string()),
        })
    }

    fn error(&self, error: Error) -> Error {
        match error.integration() {
            Some(_) => error,
            None => error.with_integration(&self.integration),
        }
    }
}

impl<T: DeserializeOwned> Started<T> {
    /// Waits for the workflow's end; see [`waits_for`](Self::waits_for).
    ///
    /// # Errors
    ///
    /// Why the event was not delivered, or the server cannot be reached.
    pub async fn result(&self) -> Result<T, Error> {
        let options = WorkflowGetResultOptions::default();
        let result = self.handle.get_result(options).await;
        let output = result.map_err(|error| {
            self.error(match error {
                WorkflowGetResultError::Failed(failure) => failures::of(failure.failure()),
                WorkflowGetResultError::Cancelled { .. } => failures::cancelled(),
                WorkflowGetResultError::Terminated { .. } => {
                    Error::new(ErrorKind::Closed, "it was terminated")
                }
                // Deleted, or kept no longer.
                WorkflowGetResultError::NotFound(_) => {
                    Error::new(ErrorKind::Closed, "the workflow is no longer there")
                }
                WorkflowGetResultError::Rpc(status) => self.connection.refused(&status),
                WorkflowGetResultError::TimedOut => {
                    Error::new(ErrorKind::Timeout, "the workflow's time is over")
                }
                other => Error::new(ErrorKind::Unavailable, other.to_string()),
            })
        })?;
        payload::parse_output(&output).map_err(|error| self.error(error))
    }
}

impl<T> fmt::Debug for Started<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("workflow_id", &self.id)
            .field("is_new", &self.is_new)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_events_are_another_batch() {
        let ids = [
            &["a", "b"][..],
            &["b", "a"],
            &["a\nb"],
            &["a\",\"b"],
            &["a"],
        ];
        let batches: std::collections::BTreeSet<_> = ids.map(batch_id).into();
        assert_eq!(batches.len(), ids.len());
        assert_eq!(batch_id(&["a", "b"]), batch_id(&["a", "b"]));
    }
}

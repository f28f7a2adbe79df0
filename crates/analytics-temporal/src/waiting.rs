//! Why nothing comes of a workflow.

use std::fmt;

use analytics_spec::{Error, ErrorKind, batch::Next};
use temporalio_client::{
    UntypedWorkflow, WorkflowDescribeOptions, WorkflowExecutionStatus, grpc::WorkflowService,
    tonic::IntoRequest as _,
};
use temporalio_common::protos::temporal::api::{
    enums::v1::PendingActivityState,
    history::v1::history_event::Attributes::{
        ActivityTaskCompletedEventAttributes, ActivityTaskScheduledEventAttributes,
    },
    workflowservice::v1::{
        DescribeWorkflowExecutionResponse, GetWorkflowExecutionHistoryReverseRequest,
    },
};

use crate::{Started, failures, payload};

/// How many events of history back a batch's last calls are looked for: a pause,
/// the next calls and the workflow's own steps come after them.
const RECENT: i32 = 50;

/// What a workflow waits for.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitsFor {
    /// A worker that polls this task queue; none has done so for 90 seconds. None
    /// runs that has the integration, or those that do have as much under way as
    /// they may.
    Worker {
        /// That of the workflows, or of the integration's activities.
        task_queue: String,
    },
    /// A worker that can run the workflow: one that polls this task queue could
    /// not. It has no such integration, or another version of it.
    AbleWorker {
        /// That of the workflows.
        task_queue: String,
    },
    /// Another attempt, after one that failed for this reason.
    Retry(Error),
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker { task_queue } => write!(
                f,
                "no worker has polled the task queue {task_queue} for 90 seconds: none runs, or all \
                 are busy"
            ),
            Self::AbleWorker { task_queue } => write!(
                f,
                "a worker on the task queue {task_queue} cannot run the workflow, and its log says \
                 why: perhaps it does not have the integration"
            ),
            Self::Retry(error) => write!(f, "an attempt failed, and is made again: {error}"),
        }
    }
}

impl<T> Started<T> {
    /// Why the workflow has not ended; none if it has, or if nothing stands in
    /// its way. In a batch, it is the reason of one of its events.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not say.
    pub async fn waits_for(&self) -> Result<Option<WaitsFor>, Error> {
        // The handle describes the first run, also after a batch goes on in another.
        let client = self.connection.client();
        let current = client.get_workflow_handle::<UntypedWorkflow>(self.workflow_id());
        let described = current.describe(WorkflowDescribeOptions::default());
        let described = described.await.map_err(|error| self.refused(error))?;
        if described.status() != WorkflowExecutionStatus::Running {
            return Ok(None);
        }
        let described = described.into_raw();
        if described.pending_workflow_task.is_some() && !self.connection.has_worker().await? {
            let task_queue = self.connection.task_queue().to_owned();
            return Ok(Some(WaitsFor::Worker { task_queue }));
        }
        // The first is made again at once; a worker that ended is one.
        let task = described.pending_workflow_task.as_ref();
        if task.is_some_and(|task| task.attempt > 2) {
            let task_queue = self.connection.task_queue().to_owned();
            return Ok(Some(WaitsFor::AbleWorker { task_queue }));
        }
        let has = |state| {
            let mut activities = described.pending_activities.iter();
            activities.any(|one| one.state() == state)
        };
        // A worker that has one of its activities is there, and busy.
        if has(PendingActivityState::Scheduled)
            && !has(PendingActivityState::Started)
            && !self.connection.has_worker_of(&self.integration).await?
        {
            let task_queue = self.connection.activity_task_queue(&self.integration);
            return Ok(Some(WaitsFor::Worker { task_queue }));
        }
        let mut activities = described.pending_activities.iter();
        if let Some(failure) = activities.find_map(|one| one.last_failure.as_ref()) {
            return Ok(Some(WaitsFor::Retry(failures::of(failure))));
        }
        self.after_last_calls(&described).await
    }

    /// A batch's calls succeed, whatever their events do: which of them are
    /// attempted again, and why, is in their outputs.
    async fn after_last_calls(
        &self,
        described: &DescribeWorkflowExecutionResponse,
    ) -> Result<Option<WaitsFor>, Error> {
        let info = described.workflow_execution_info.as_ref();
        let request = GetWorkflowExecutionHistoryReverseRequest {
            namespace: self.connection.namespace().to_owned(),
            execution: info.and_then(|info| info.execution.clone()),
            maximum_page_size: RECENT,
            ..GetWorkflowExecutionHistoryReverseRequest::default()
        };
        let mut service = self.connection.client().clone();
        let recent = service
            .get_workflow_execution_history_reverse(request.into_request())
            .await
            .map_err(|status| self.connection.refused(&status))?;
        let events = recent.into_inner().history.unwrap_or_default().events;
        let attributes = events.into_iter().filter_map(|event| event.attributes);
        let last_calls = attributes
            .skip_while(|event| !matches!(event, ActivityTaskCompletedEventAttributes(_)))
            .take_while(|event| !matches!(event, ActivityTaskScheduledEventAttributes(_)));
        let outputs = last_calls.filter_map(|event| match event {
            ActivityTaskCompletedEventAttributes(completed) => completed.result,
            _ => None,
        });
        let nexts = outputs.filter_map(|output| {
            let output = output.payloads.first()?;
            payload::parse::<Vec<Next>>(output)
        });
        Ok(failed(nexts.flatten()).map(WaitsFor::Retry))
    }
}

/// Why an event is attempted again. One that goes on where the time of its call
/// was over has not failed.
fn failed(mut nexts: impl Iterator<Item = Next>) -> Option<Error> {
    nexts.find_map(|next| match next {
        Next::Again { error, .. } => {
            Some(Error::from(*error)).filter(|error| error.kind() != ErrorKind::Deferred)
        }
        Next::Settled(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use analytics_spec::{Failure, Retries, batch::Outcome, integration::unattempted};

    use super::*;

    #[test]
    fn who_goes_on_has_not_failed() {
        let again = |error: Error| Next::Again {
            retries: Retries::new(),
            after: Duration::ZERO,
            error: Box::new(Failure::from(&error)),
            at_most: None,
        };
        let ended = Next::Settled(Box::new(Outcome::success("1", None)));
        let goes_on = [ended, again(unattempted())];
        assert!(failed(goes_on.clone().into_iter()).is_none());
        let down = again(Error::new(ErrorKind::Unavailable, "down"));
        let failed = failed(goes_on.into_iter().chain([down])).unwrap();
        assert_eq!(failed.kind(), ErrorKind::Unavailable);
    }
}

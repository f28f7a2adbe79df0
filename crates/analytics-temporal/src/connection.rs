//! A connection to a Temporal server.

use std::fmt;

use analytics_spec::{Error, Timestamp};
use temporalio_client::{
    grpc::WorkflowService,
    tonic::{Code, IntoRequest as _, Status},
};
use temporalio_common::protos::temporal::api::{
    enums::v1::TaskQueueType,
    taskqueue::v1::TaskQueue,
    workflowservice::v1::{DescribeNamespaceRequest, DescribeTaskQueueRequest},
};

use crate::{
    options,
    refusals::{said, status_kind},
};

/// A connection to a namespace of a Temporal server, and a task queue of it.
#[derive(Clone)]
pub struct Connection {
    pub(crate) client: temporalio_client::Client,
    pub(crate) address: String,
    pub(crate) namespace: String,
    pub(crate) task_queue: String,
}

impl Connection {
    /// The SDK's own client, for what this crate has no call for.
    #[must_use]
    pub fn client(&self) -> &temporalio_client::Client {
        &self.client
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The task queue of the workflows, which workers poll and clients start
    /// them on.
    #[must_use]
    pub fn task_queue(&self) -> &str {
        &self.task_queue
    }

    /// The task queue of an integration's activities, `analytics/segment`: each
    /// worker that has the integration polls it beside the other one. Somebody
    /// else's workflow executes them there.
    #[must_use]
    pub fn activity_task_queue(&self, integration: &str) -> String {
        options::queue(&self.task_queue, integration)
    }

    /// Whether a worker has polled the task queue within the last 90 seconds, by
    /// this machine's clock. Without one, what is started waits.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not say.
    pub async fn has_worker(&self) -> Result<bool, Error> {
        let queue = self.task_queue.clone();
        self.is_polled(queue, TaskQueueType::Workflow).await
    }

    /// The same for an integration's [activities](Self::activity_task_queue).
    /// Nobody asks for more while as many are under way as the vendor takes.
    ///
    /// # Errors
    ///
    /// See [`has_worker`](Self::has_worker).
    pub async fn has_worker_of(&self, integration: &str) -> Result<bool, Error> {
        let queue = self.activity_task_queue(integration);
        self.is_polled(queue, TaskQueueType::Activity).await
    }

    async fn is_polled(&self, name: String, of: TaskQueueType) -> Result<bool, Error> {
        let request = DescribeTaskQueueRequest {
            namespace: self.namespace.clone(),
            task_queue: Some(TaskQueue {
                name,
                ..TaskQueue::default()
            }),
            task_queue_type: of.into(),
            ..DescribeTaskQueueRequest::default()
        };
        let mut service = self.client.clone();
        let described = service.describe_task_queue(request.into_request()).await;
        match described {
            Ok(described) => {
                let mut pollers = described.into_inner().pollers.into_iter();
                let now = Timestamp::now().as_second();
                Ok(pollers.any(|poller| polls(poller.last_access_time.map(|t| t.seconds), now)))
            }
            Err(status) => Err(self.refused(&status)),
        }
    }

    /// A worker would say it late, and a client only when it starts something.
    pub(crate) async fn check_namespace(&self) -> Result<(), Error> {
        let request = DescribeNamespaceRequest {
            namespace: self.namespace.clone(),
            ..DescribeNamespaceRequest::default()
        };
        let mut service = self.client.clone();
        match service.describe_namespace(request.into_request()).await {
            Err(status) if status.code() == Code::NotFound => Err(Error::configuration(format!(
                "Temporal at {} has no namespace {}",
                self.address, self.namespace
            ))),
            // Who may start workflows need not be allowed to look at that.
            _ => Ok(()),
        }
    }

    pub(crate) fn refused(&self, status: &Status) -> Error {
        let message = format!("Temporal at {}: {}", self.address, said(status));
        Error::new(status_kind(status), message)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .field("task_queue", &self.task_queue)
            .finish_non_exhaustive()
    }
}

/// Whether somebody who last asked at this second still does: a worker asks again at the
/// latest after a minute, and the server lists it for five.
fn polls(last: Option<i64>, now: i64) -> bool {
    const AT_MOST: i64 = 90;
    last.is_none_or(|last| now.saturating_sub(last) <= AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_asked_for_long_is_gone() {
        assert!(polls(None, 1000));
        for (since, is_there) in [(-200, true), (0, true), (61, true), (91, false)] {
            assert_eq!(polls(Some(1000 - since), 1000), is_there, "{since}");
        }
    }
}

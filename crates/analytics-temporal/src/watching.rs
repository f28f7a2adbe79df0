//! Whether the server is there: the SDK says it late, if it is frozen, and never
//! that it is back.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use temporalio_client::{
    grpc::WorkflowService,
    tonic::{Code, IntoRequest as _},
};
use temporalio_common::protos::temporal::api::workflowservice::v1::GetSystemInfoRequest;
use tokio::time::{sleep, timeout};

use crate::Connection;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Connection {
    /// Says in the log when the server does not answer any more, and when it does
    /// again.
    pub(crate) async fn watch(&self) -> Infallible {
        let mut away_since = None;
        loop {
            sleep(EVERY).await;
            let begin = Instant::now();
            let answers = self.answers().await;
            match away_since {
                None if !answers => {
                    away_since = Some(begin);
                    tracing::warn!(
                        target: "analytics_temporal::server",
                        address = self.address(),
                        "the server does not answer: what is under way waits for it"
                    );
                }
                Some(since) if answers => {
                    away_since = None;
                    tracing::info!(
                        target: "analytics_temporal::server",
                        address = self.address(),
                        seconds = begin.duration_since(since).as_secs(),
                        "the server answers again"
                    );
                }
                _ => {}
            }
        }
    }

    /// Whether the server answers at all, within 10 seconds. A refusal is an answer
    /// too.
    pub async fn answers(&self) -> bool {
        let mut service = self.client().clone();
        let info = service.get_system_info(GetSystemInfoRequest::default().into_request());
        match timeout(PATIENCE, info).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => !matches!(
                status.code(),
                // Also of what is on the way to it.
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
            ),
            Err(_) => false,
        }
    }
}

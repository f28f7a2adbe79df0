//! What an attempt is made in: it ends in time, is given up when it is cancelled
//! or its worker has to end, and lets the server hear that its worker lives.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    time::{Duration, Instant, SystemTime},
};

use analytics_spec::{Error, ErrorKind, Retries};
use futures::FutureExt as _;
use temporalio_common::ActivityError;
use temporalio_sdk::activities::{ActivityContext, ActivityInfo};

use crate::{options, payload};

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// An activity under way.
pub(crate) struct Attempting {
    ctx: ActivityContext,
    /// When the server takes it for failed, by this machine's clock.
    end: Instant,
}

impl Attempting {
    /// The activity that has just been begun.
    pub(crate) fn new(ctx: ActivityContext) -> Self {
        let info = ctx.info();
        let given = given(info.started_time, info.deadline);
        Self {
            end: Instant::now() + given,
            ctx,
        }
    }

    pub(crate) fn info(&self) -> &ActivityInfo {
        self.ctx.info()
    }

    /// How far the last attempt said that it has come.
    pub(crate) fn carried(&self) -> Option<Retries> {
        let details = self.ctx.heartbeat_details().raw().first();
        details.and_then(payload::parse)
    }

    /// Tells the next attempt how far this one has come.
    pub(crate) async fn carry(&self, retries: &Retries) {
        if let Ok(state) = payload::write(retries) {
            let _ = self.ctx.record_heartbeat(state).await;
        }
    }

    /// Makes an attempt. It is given its time, which is `limit` or what the
    /// server leaves of it, and ends in it, even if the integration hangs or
    /// panics.
    ///
    /// # Errors
    ///
    /// The activity was cancelled, or its worker ends.
    pub(crate) async fn within<T, A>(
        &self,
        limit: Duration,
        retries: Retries,
        attempt: impl FnOnce(Duration) -> A,
    ) -> Result<Result<T, Error>, ActivityError>
    where
        A: Future<Output = Result<T, Error>>,
    {
        let limit = self.left().min(limit);
        tokio::select! {
            // What is known is said, also if the attempt is given up meanwhile.
            biased;
            outcome = unbroken(attempt(limit)) => Ok(outcome),
            () = tokio::time::sleep(limit) => Ok(Err(Error::new(
                ErrorKind::Timeout,
                format!("the integration did not finish the attempt within {limit:?}"),
            ))),
            () = self.ctx.cancelled() => {
                let info = self.info();
                tracing::info!(
                    activity = info.activity_type,
                    workflow_id = info.workflow_id,
                    attempt = info.attempt,
                    "an attempt was given up: it was cancelled, or its worker ends"
                );
                Err(ActivityError::cancelled())
            }
            never = self.pulses(retries) => match never {},
        }
    }

    /// The time until the server takes the attempt for failed, less what it
    /// takes to say how it ended.
    fn left(&self) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        left.saturating_sub(Duration::from_millis(500))
            .max(left / 2)
    }

    /// Says that the worker lives, for ever. What it carries is what the next
    /// attempt would go on from.
    async fn pulses(&self, retries: Retries) -> Infallible {
        loop {
            tokio::time::sleep(options::PULSE).await;
            self.carry(&retries).await;
        }
    }
}

/// How long the server gives an attempt. Both times are by its clock, which need
/// not be this machine's.
fn given(started: Option<SystemTime>, deadline: Option<SystemTime>) -> Duration {
    let (Some(started), Some(deadline)) = (started, deadline) else {
        return LONGEST;
    };
    let given = deadline.duration_since(started);
    given.unwrap_or_default().min(LONGEST)
}

/// A panic in an attempt is a failure that may pass, as in every engine.
pub(crate) async fn unbroken<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(panicked().with_retryable(true)))
}

/// A panic where nothing is sent is for good: the same event would panic again.
pub(crate) fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the integration or a hook panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_clock_may_be_another() {
        let minute = Duration::from_secs(60);
        for started in [SystemTime::UNIX_EPOCH, SystemTime::now() + 60 * minute] {
            assert_eq!(given(Some(started), Some(started + minute)), minute);
            assert_eq!(given(Some(started), None), LONGEST);
        }
    }
}

//! An integration that does what a test says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use analytics_kit::spec::{
    AnyInput, Attempt, Delivery, Policies, Progress, Timestamp,
    integration::{Batching, unattempted},
};
use analytics_kit::{Error, ErrorKind, Integration, KindSet, ValidationError};
use async_trait::async_trait;

/// Two calls side by side, of so many events.
pub(crate) fn in_twos(max_items: usize) -> Batching {
    Batching {
        max_items,
        ..Batching::single(2)
    }
}

pub(crate) type Play = Box<dyn Fn(u32) -> Result<Delivery, Error> + Send + Sync>;

pub(crate) struct Puppet {
    pub(crate) name: &'static str,
    pub(crate) play: Play,
    pub(crate) policies: Policies,
    /// How many requests an event takes.
    pub(crate) requests: u32,
    /// How long each of them takes.
    pub(crate) takes: std::time::Duration,
    pub(crate) batching: Batching,
    /// How many attempts have begun.
    pub(crate) begun: Arc<AtomicUsize>,
    /// Message ids, numbers and progress of all attempts that have ended.
    pub(crate) attempts: Arc<Mutex<Vec<(String, u32, u32)>>>,
    /// Their events' times.
    pub(crate) times: Arc<Mutex<Vec<Option<Timestamp>>>>,
}

impl std::fmt::Debug for Puppet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Puppet")
    }
}

impl Puppet {
    pub(crate) fn new(
        play: impl Fn(u32) -> Result<Delivery, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: "puppet",
            play: Box::new(play),
            policies: Policies::new(),
            requests: 1,
            takes: std::time::Duration::ZERO,
            batching: in_twos(1),
            begun: Arc::default(),
            attempts: Arc::default(),
            times: Arc::default(),
        }
    }
}

#[async_trait]
impl Integration for Puppet {
    fn vendor(&self) -> &'static str {
        "puppet"
    }

    fn name(&self) -> &str {
        self.name
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        assert!(input.event.user_id() != Some("panic"), "as told");
        Ok(())
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    fn policies(&self) -> Policies {
        self.policies.clone()
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        match attempt.input.event.user_id() {
            Some("panics") => panic!("as told"),
            Some("hangs") => std::future::pending().await,
            // For longer than a worker may say nothing.
            Some("blocks") => std::thread::sleep(std::time::Duration::from_secs(12)),
            Some("refused") => return Err(Error::new(ErrorKind::RequestRejected, "as told")),
            _ => {}
        }
        for done in attempt.progress.0..self.requests {
            if done > attempt.progress.0 && attempt.is_over() {
                return Err(unattempted().with_progress(Progress(done)));
            }
            // Also a sleep of nothing waits for the next millisecond.
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
        }
        let time = attempt.input.context.timestamp;
        self.times.lock().unwrap().push(time);
        let id = attempt.input.message_id().to_owned();
        let made = (id, attempt.number, attempt.progress.0);
        self.attempts.lock().unwrap().push(made);
        (self.play)(attempt.number)
    }
}

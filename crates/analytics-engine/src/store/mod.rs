//! Where accepted events are kept until their end.
//!
//! A store is dumb on purpose: it keeps events, hands them to each
//! integration's lane in the order in which they were accepted, and forgets
//! what is settled. When to send what is the lane's business.

mod memory;

use std::{fmt::Debug, sync::Arc};

use analytics_spec::{AnyInput, Delivery, Error, Retries, Timestamp};
use async_trait::async_trait;

pub use memory::MemoryStore;

/// An event's place in the order of acceptance, from 1.
pub type Seq = u64;

/// An accepted event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// Its place in the order of acceptance.
    pub seq: Seq,
    /// The event with what is known around it; stamped.
    pub input: Arc<AnyInput>,
    /// The size of its JSON.
    pub bytes: usize,
    /// How far its attempts have come.
    pub retries: Retries,
    /// Not to be tried again before.
    pub not_before: Option<Timestamp>,
}

impl Stored {
    /// An event that was not tried yet.
    #[must_use]
    pub fn new(seq: Seq, input: Arc<AnyInput>, bytes: usize) -> Self {
        Self {
            seq,
            input,
            bytes,
            retries: Retries::new(),
            not_before: None,
        }
    }
}

/// What a lane has to do, as far as a store has read.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pulled {
    /// Events, by their `seq`.
    pub events: Vec<Stored>,
    /// Everything up to here has been read.
    pub through: Seq,
}

impl Pulled {
    /// Events by their `seq`, where everything up to `through` has been read.
    #[must_use]
    pub fn new(events: Vec<Stored>, through: Seq) -> Self {
        Self { events, through }
    }
}

/// How an attempt at an event ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Settlement<'a> {
    /// The vendor accepted it.
    Delivered(&'a Delivery),
    /// It is refused for good.
    Refused(&'a Error),
    /// It will be tried again.
    #[non_exhaustive]
    Retry {
        /// Not before.
        not_before: Timestamp,
        /// How far its attempts have come.
        retries: Retries,
        /// Why.
        error: &'a Error,
    },
}

impl<'a> Settlement<'a> {
    /// It will be tried again.
    #[must_use]
    pub fn retry(not_before: Timestamp, retries: Retries, error: &'a Error) -> Self {
        Self::Retry {
            not_before,
            retries,
            error,
        }
    }
}

/// Where accepted events are kept until their end.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Keeps an event for the integrations in `lanes`.
    ///
    /// - Returns when the event is as safe as this store makes it.
    /// - Waits for room.
    /// - Gives later events higher numbers.
    /// - Dropped before it returns, has either kept the event or not, and takes
    ///   no room if it has not.
    async fn append(&self, input: AnyInput, lanes: &[Arc<str>]) -> Result<Seq, Error>;

    /// Like [`append`](Self::append), without waiting for room.
    ///
    /// - Is an error of kind [`Full`](analytics_spec::ErrorKind::Full) if
    ///   there is none.
    fn try_append(&self, input: AnyInput, lanes: &[Arc<str>]) -> Result<Seq, Error>;

    /// What a lane has not settled, after `after`, in order, at most about
    /// `max_bytes` of it, and at least one event if there is one.
    ///
    /// - Is asked again after an error, and may be dropped.
    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error>;

    /// Keeps how attempts ended. What is settled at every lane is forgotten.
    ///
    /// - Keeps all of it or, with an error, none.
    /// - Is asked the same again after an error; may be dropped, and then
    ///   either kept it or not.
    async fn settle(&self, lane: &str, settlements: &[(Seq, Settlement<'_>)]) -> Result<(), Error>;

    /// The number of the last event that was accepted; 0 before the first.
    ///
    /// - Counts an event before its `append` returns.
    fn last(&self) -> Seq;
}

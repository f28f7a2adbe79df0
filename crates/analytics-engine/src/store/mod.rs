//! Where accepted events are kept until their end.
//!
//! A store is dumb on purpose: it keeps events, hands them to each
//! integration's lane in the order in which they were accepted, and forgets
//! what is settled. When to send what is the lane's business.

mod appending;
mod body;
mod dead_letters;
mod held;
mod line;
mod memory;
mod rate;
mod retired;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use analytics_spec::{AnyInput, Error, Retries, Timestamp};
use async_trait::async_trait;
use serde::Serialize;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::gate::Ticket;

pub use appending::Appending;
pub use body::{Body, Loaded};
pub(crate) use dead_letters::Answers;
pub use dead_letters::{DeadLetter, DeadLetterId, DeadLetters, Filter, Reason, Replayed};
pub use held::Held;
pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{Inspection, SqliteOptions, SqliteStore};

/// An event's place in the order of acceptance, from 1. Places may be left
/// out.
pub type Seq = u64;

/// The people of an event ([`AnyEvent::people`](analytics_spec::AnyEvent::people)),
/// each by a hash that the store makes, and keeps to as long as it lives.
/// Should two share one, they wait for each other, no more.
pub type People = SmallVec<[u64; 3]>;

/// An event on its way into a store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted {
    /// The event with what is known around it; stamped.
    pub input: Held,
    /// What of it is to be handed out, as long as it is in memory.
    pub loaded: Arc<Loaded>,
    /// The integrations that it is to be delivered to.
    pub lanes: Arc<[Arc<str>]>,
    /// The integrations that will never accept it.
    pub refused: Vec<(Arc<str>, Reason)>,
    /// Who is to know that it is kept, also if the [`append`](Store::append) is
    /// dropped meanwhile.
    pub kept: Option<OnKept>,
}

/// Told that an event is kept, and its place.
#[derive(Debug)]
pub struct OnKept {
    /// Who wants to know.
    told: Option<oneshot::Sender<Seq>>,
    /// Of those who brought it.
    ticket: Option<Ticket>,
}

impl OnKept {
    /// Tells somebody.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Seq>) {
        let (kept, told) = oneshot::channel();
        let on_kept = Self {
            told: Some(kept),
            ticket: None,
        };
        (on_kept, told)
    }

    /// Lets those who brought an event leave the way in, also if they are not
    /// polled; on top of who is told already.
    pub(crate) fn leaving(on_kept: Option<Self>, ticket: Ticket) -> Self {
        Self {
            told: on_kept.and_then(|on_kept| on_kept.told),
            ticket: Some(ticket),
        }
    }

    /// The event is kept, at this place.
    pub fn tell(self, seq: Seq) {
        if let Some(told) = self.told {
            // Nobody may want to know any more.
            let _ = told.send(seq);
        }
        if let Some(ticket) = self.ticket {
            ticket.leave();
        }
    }
}

impl Accepted {
    /// An event for these integrations.
    #[must_use]
    pub fn new(input: impl Into<Arc<AnyInput>>, lanes: impl Into<Arc<[Arc<str>]>>) -> Self {
        let input = input.into();
        Self {
            loaded: Arc::new(Loaded::new(Arc::clone(&input))),
            input: Held::Shared(input),
            lanes: lanes.into(),
            refused: Vec::new(),
            kept: None,
        }
    }
}

/// An accepted event that a lane has not settled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// Its place in the order of acceptance.
    pub seq: Seq,
    /// Whose it is.
    pub people: People,
    /// The event.
    pub body: Body,
    /// The size of its JSON, or of what is sent of it.
    pub bytes: usize,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// How far its attempts have come.
    pub retries: Retries,
    /// Not to be tried again before.
    pub not_before: Option<Timestamp>,
}

impl Stored {
    /// An event that was not tried yet.
    #[must_use]
    pub fn new(seq: Seq, people: People, body: Body, bytes: usize, accepted_at: Timestamp) -> Self {
        Self {
            seq,
            people,
            body,
            bytes,
            accepted_at,
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
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Settlement {
    /// The vendor accepted it.
    Delivered,
    /// It is refused for good.
    #[non_exhaustive]
    Refused {
        /// Why.
        reason: Reason,
        /// How many attempts were made.
        attempts: u32,
    },
    /// It will be tried again.
    #[non_exhaustive]
    Retry {
        /// Not before.
        not_before: Timestamp,
        /// How far its attempts have come.
        retries: Retries,
    },
}

impl Settlement {
    /// It is refused for good, after so many attempts.
    #[must_use]
    pub fn refused(reason: Reason, attempts: u32) -> Self {
        Self::Refused { reason, attempts }
    }

    /// It will be tried again.
    #[must_use]
    pub fn retry(not_before: Timestamp, retries: Retries) -> Self {
        Self::Retry {
            not_before,
            retries,
        }
    }
}

/// Where a lane goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Everything up to here is settled.
    pub through: Seq,
    /// The vendor asked not to be sent anything before, or was down.
    pub paused_until: Option<Timestamp>,
    /// Some of its events wait for another attempt: the vendor may have been
    /// about to be found down.
    pub is_retrying: bool,
}

impl Resumed {
    /// A lane that goes on behind what it has settled.
    #[must_use]
    pub fn new(through: Seq, paused_until: Option<Timestamp>, is_retrying: bool) -> Self {
        Self {
            through,
            paused_until,
            is_retrying,
        }
    }
}

/// A user was erased: what lanes still have at hand is not to be sent, but for
/// a `delete`, by which the vendor forgets the user as well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erasure {
    /// The user's id.
    pub user_id: Arc<str>,
    /// The user among the [`People`] of events.
    pub person: u64,
    /// Events after this one are kept: the user came back.
    pub through: Seq,
}

impl Erasure {
    /// Everything of a user up to an event was erased.
    #[must_use]
    pub fn new(user_id: Arc<str>, person: u64, through: Seq) -> Self {
        Self {
            user_id,
            person,
            through,
        }
    }

    /// Whether an event is among what was erased.
    pub(crate) fn covers(&self, seq: Seq, people: &[u64], body: &Body) -> bool {
        seq <= self.through
            && people.contains(&self.person)
            && body
                .load()
                .is_ok_and(|loaded| loaded.is_forgotten_with(&self.user_id))
    }
}

/// Erasures by the person: where many users are erased at the same time, an
/// event is compared with those of its own people.
pub(crate) struct Erasures<'a>(HashMap<u64, Vec<&'a Erasure>>);

impl<'a> Erasures<'a> {
    pub(crate) fn new(erasures: &'a [Erasure]) -> Self {
        let mut by_person: HashMap<_, Vec<_>> = HashMap::with_capacity(erasures.len());
        for erasure in erasures {
            by_person.entry(erasure.person).or_default().push(erasure);
        }
        Self(by_person)
    }

    /// Those that may cover an event.
    pub(crate) fn of(&self, seq: Seq, people: &[u64]) -> impl Iterator<Item = &'a Erasure> {
        let of_people = people.iter().filter_map(|person| self.0.get(person));
        of_people
            .flatten()
            .copied()
            .filter(move |erasure| seq <= erasure.through)
    }
}

/// Told of every erasure, before those who wait for it.
pub type OnErased = Arc<dyn Fn(&Erasure) + Send + Sync>;

/// Told of the last event that was accepted, whoever asked for it, and whether
/// or not they still wait.
pub type OnAppended = Arc<dyn Fn(Seq) + Send + Sync>;

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Erased {
    /// Events that were not settled everywhere, or still on disk.
    pub events: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl Erased {
    /// So much was erased.
    #[must_use]
    pub fn new(events: u64, dead_letters: u64) -> Self {
        Self {
            events,
            dead_letters,
        }
    }
}

/// How an integration stands, as far as its store knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The integration's name.
    pub integration: String,
    /// Whether an engine delivers to it, or did so last. What is pending for
    /// others is kept until they come back or it is purged.
    pub is_attached: bool,
    /// Events that are not settled.
    pub pending: u64,
    /// When the oldest of them was accepted.
    pub oldest: Option<Timestamp>,
    /// Those of them that were tried, and will be tried again.
    pub in_retry: u64,
    /// Dead letters.
    pub dead: u64,
    /// The vendor asked not to be sent anything before.
    pub paused_until: Option<Timestamp>,
    /// Events that were delivered, since the store was made.
    pub delivered: u64,
    /// Events that were delivered in the last whole minute.
    pub delivered_last_minute: u64,
}

impl LaneStatus {
    /// An integration for which there is nothing.
    #[must_use]
    pub fn new(integration: &str) -> Self {
        Self {
            integration: integration.to_owned(),
            ..Self::default()
        }
    }
}

/// Where accepted events are kept until their end.
///
/// A lane is an integration by its name. Every method may be dropped before it
/// returns, and then has either done what it was asked or nothing.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Says which lanes there are from here on: where each of them goes on, in
    /// the same order.
    ///
    /// - A lane that was never there gets what is accepted from now on.
    /// - Lanes that are not named keep their events until they come back.
    /// - `on_erased` replaces the one that was given before.
    ///
    /// # Errors
    ///
    /// The store failed; the lanes are those from before.
    async fn attach(&self, lanes: &[Arc<str>], on_erased: OnErased) -> Result<Vec<Resumed>, Error>;

    /// Says who is told when events have been accepted; replaces the one that
    /// was given before. A store in which an [`append`](Self::append) that
    /// nobody waits for any more cannot go on need not tell.
    fn on_appended(&self, told: OnAppended) {
        drop(told);
    }

    /// Keeps events: all of them or, with an error, none. The place of the
    /// first; the others follow without a gap.
    ///
    /// - Returns when the events are as safe as this store makes them.
    /// - Gives later calls higher places, also where they wait for room: the
    ///   call is when this is called, and not when its future is polled.
    /// - Waits for room no longer than `patience`, and is then an error of
    ///   kind [`Full`](analytics_spec::ErrorKind::Full).
    /// - If it goes on with events although it is dropped, it tells those who
    ///   are to know ([`Accepted::kept`]) when it keeps them, and lets go of them
    ///   if it does not. Other stores need not.
    /// - A `delete` is remembered: soon after every lane that it is for has
    ///   settled it, what is left of the user's earlier events is erased, as by
    ///   [`erase`](Self::erase).
    ///
    /// # Errors
    ///
    /// There is no room, an event is larger than this store takes
    /// ([`TooLarge`](analytics_spec::ErrorKind::TooLarge)), or the store failed.
    fn append(&self, events: Vec<Accepted>, patience: Duration) -> Appending<'_>;

    /// What a lane has not settled, after `after`, in order, at most about
    /// `max_bytes` of it, and at least one event if there is one.
    ///
    /// - May be asked for the same again.
    ///
    /// # Errors
    ///
    /// The store failed; the same is asked again.
    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error>;

    /// Keeps how attempts ended, and until when the vendor asked to be left
    /// alone: all of it or, with an error, none. What is settled at every lane
    /// is forgotten.
    ///
    /// - Is asked the same again after an error.
    /// - What is refused is kept as a dead letter, by a store that has them;
    ///   also what nobody can read, as it is.
    ///
    /// # Errors
    ///
    /// The store failed.
    async fn settle(
        &self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        paused_until: Option<Timestamp>,
    ) -> Result<(), Error>;

    /// Forgets a user's events, and dead letters, wherever they are.
    ///
    /// - Keeps every `delete` that is not settled everywhere, and those that
    ///   were refused.
    ///
    /// # Errors
    ///
    /// The store failed; some of it may be done: ask again.
    async fn erase(&self, user_id: &str) -> Result<Erased, Error>;

    /// How every lane stands, also those that are not attached; by name.
    ///
    /// # Errors
    ///
    /// The store failed.
    async fn status(&self) -> Result<Vec<LaneStatus>, Error>;

    /// What was refused for good; `None` if this store keeps no such thing.
    fn dead_letters(&self) -> Option<&dyn DeadLetters>;

    /// The place of the last event that was accepted; 0 before the first.
    ///
    /// - Counts an event before its `append` returns.
    fn last(&self) -> Seq;

    /// Whether what was accepted outlives the process.
    fn is_durable(&self) -> bool;

    /// Why the last write failed, whoever asked for it, if it did and none has
    /// succeeded since. A store that does not know says nothing: whoever asks
    /// it to write is told in any case.
    ///
    /// - That it holds as much as it may is no trouble.
    fn trouble(&self) -> Option<Error> {
        None
    }

    /// Ends well. Nothing else is asked afterwards.
    ///
    /// # Errors
    ///
    /// The store did not end well; what was accepted is as safe as before.
    async fn close(&self) -> Result<(), Error>;
}

//! Events in a directory: what is accepted outlives the process, and the
//! machine's power.
//!
//! | module | what is in it |
//! |---|---|
//! | `schema` | the file, its tables, what is asked of SQLite |
//! | `chunk`, `table` | events that were accepted together, in one row |
//! | `marks` | what a lane has settled |
//! | `state` | what is known without reading the file |
//! | `queue`, `writer`, `ending` | the way to the one thread that writes, and its end |
//! | `tx` and `lanes`, `letters`, `erase`, `tidy` | what it writes |
//! | `erasures` | whom it has yet to erase |
//! | `lock`, `place`, `reserve` | the directory |
//! | `reader`, `pull`, `inspect` | what others read |

mod chunk;
mod drafts;
mod ending;
mod erase;
mod erasures;
mod failure;
mod hash;
mod inspect;
mod lanes;
mod letters;
mod lock;
mod marks;
mod options;
mod place;
mod pull;
mod queue;
mod raw;
mod reader;
mod reserve;
mod schema;
mod shared;
mod state;
mod table;
mod tidy;
mod tx;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use analytics_spec::{AnyEvent, Error, ErrorKind, Timestamp, json};
use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Accepted, Appending, DeadLetter, DeadLetterId, DeadLetters, Erased, Filter, LaneStatus,
    OnAppended, OnErased, Pulled, Replayed, Resumed, Seq, Settlement, Store,
};
pub use inspect::Inspection;
pub use options::SqliteOptions;

use drafts::{Draft, Drafts};
use failure::{Failure, Outcome};
use letters::Span;
use queue::{Coming, What};
use shared::Shared;

/// Keeps events in a directory of this machine, in an SQLite database.
///
/// - An event is accepted when it is on the disk. Events that are accepted at
///   the same time share the wait.
/// - One engine at a time has a directory open. Others may look at it
///   ([`inspect`](Self::inspect)).
/// - What is settled everywhere is deleted, and its room used again.
/// - [`close`](Store::close) it at the end. A store that is dropped loses
///   nothing either. Dropped in a runtime, it ends in the background: whoever
///   opens the directory next in this process waits for that, and another
///   process may have to try again.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<Option<Ended>>,
}

/// How the writer has ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Well,
    Panicked,
}

impl SqliteStore {
    /// A store in a directory, which is made if it is not there.
    pub fn options(dir: impl Into<PathBuf>) -> SqliteOptions {
        SqliteOptions::new(dir.into())
    }

    /// A look at a directory's store, also while an engine works on it.
    /// Nothing is made or changed.
    ///
    /// # Errors
    ///
    /// There is no store in the directory, or it cannot be read.
    pub async fn inspect(dir: impl Into<PathBuf>) -> Result<Inspection, Error> {
        Inspection::open(dir.into()).await
    }

    fn new(
        shared: Arc<Shared>,
        writer: JoinHandle<()>,
        ended: watch::Receiver<Option<Ended>>,
    ) -> Self {
        Self {
            shared,
            writer: Mutex::new(Some(writer)),
            ended,
        }
    }

    /// Forgets an integration that is no longer attached, and what is pending
    /// for it: how many events. Its dead letters stay.
    ///
    /// # Errors
    ///
    /// It is attached, or the store cannot be written.
    pub async fn purge_lane(&self, name: &str) -> Result<u64, Error> {
        let name = name.to_owned();
        let purged = self.shared.queue.call(true, move |tx| tx.purge_lane(&name));
        self.told(purged.await)
    }

    /// Moves the log into the file.
    #[doc(hidden)]
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.told(self.shared.queue.chore(What::Checkpoint).await)
    }

    /// Does at once what is done when there is nothing else to do.
    #[doc(hidden)]
    pub async fn tidy(&self) -> Result<(), Error> {
        self.told(self.shared.queue.chore(What::Tidy).await)
    }

    /// Returns when every erasure that is due has been carried out.
    #[doc(hidden)]
    pub async fn erase_due(&self) -> Result<(), Error> {
        self.told(self.shared.queue.chore(What::Erase).await)
    }

    fn told<T>(&self, outcome: Outcome<T>) -> Result<T, Error> {
        outcome.map_err(|failure| failure.at(&self.shared.dir))
    }

    fn draft(&self, accepted: Accepted, drafts: &mut Drafts) -> Result<(), Error> {
        let written = drafts.write(|to| json::write(to, &*accepted.input));
        let bytes = written.map_err(|error| {
            Error::new(ErrorKind::Internal, "the event cannot be written as JSON")
                .with_source(error)
        })?;
        if bytes > options::MAX_EVENT_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the event has {bytes} bytes: the store takes at most {}",
                    options::MAX_EVENT_BYTES
                ),
            ));
        }
        drafts.push(Draft {
            bytes,
            people: self.shared.hasher.people(&accepted.input),
            deletes: match &accepted.input.event {
                AnyEvent::Delete(delete) => Some(delete.user_id.as_str().into()),
                _ => None,
            },
            loaded: accepted.loaded,
            lanes: Some(accepted.lanes),
            refused: accepted.refused,
            kept: accepted.kept,
        });
        Ok(())
    }

    /// Reads one state of the file, that of the last commit or a later one.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection, &Shared) -> Outcome<T> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let read =
            tokio::task::spawn_blocking(move || shared.readers.read(|conn| read(conn, &shared)));
        let read = read.await.unwrap_or_else(|error| {
            let message = format!("could not be read: {error}");
            Err(Failure::new(ErrorKind::Internal, message))
        });
        self.told(read)
    }
}

impl Drop for SqliteStore {
    /// Whatever was accepted before is written. In a runtime, nobody is held up
    /// by it: a thread ends the store, and gives the directory back.
    fn drop(&mut self) {
        self.shared.queue.close();
        let Some(writer) = state::lock(&self.writer).take() else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            ending::leave(&self.shared.dir, writer);
        } else {
            ending::join(writer);
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn attach(&self, lanes: &[Arc<str>], on_erased: OnErased) -> Result<Vec<Resumed>, Error> {
        let lanes = lanes.to_vec();
        let attached = self.shared.queue.call(true, move |tx| {
            tx.on_erased = Some(Arc::clone(&on_erased));
            tx.attach(&lanes)
        });
        self.told(attached.await)
    }

    fn on_appended(&self, told: OnAppended) {
        *state::lock(&self.shared.on_appended) = Some(told);
    }

    fn append(&self, events: Vec<Accepted>, patience: Duration) -> Appending<'_> {
        let mut drafts = Drafts::spare();
        for event in events {
            if let Err(error) = self.draft(event, &mut drafts) {
                return Appending::done(Err(error));
            }
        }
        if drafts.is_empty() {
            return Appending::done(Ok(self.last() + 1));
        }
        match self.shared.queue.append(drafts, patience) {
            Ok(Coming::Entered(entered)) => {
                Appending::waiting(async move { self.told(entered.place().await) })
            }
            Ok(Coming::InLine(late)) => {
                Appending::waiting(async move { self.told(late.place().await) })
            }
            Err(failure) => Appending::done(self.told(Err(failure))),
        }
    }

    async fn pull(&self, lane: &str, after: Seq, max_bytes: usize) -> Result<Pulled, Error> {
        let pulled = pull::pull(&self.shared, lane, after, max_bytes);
        self.told(pulled.await)
    }

    async fn settle(
        &self,
        lane: &str,
        settlements: &[(Seq, Settlement)],
        paused_until: Option<Timestamp>,
    ) -> Result<(), Error> {
        let lane = lane.to_owned();
        let settlements = settlements.to_vec();
        let settled = self.shared.queue.call(false, move |tx| {
            tx.settle(&lane, &settlements, paused_until)
        });
        self.told(settled.await)
    }

    async fn erase(&self, user_id: &str) -> Result<Erased, Error> {
        let erased = self.shared.queue.erase(user_id.to_owned()).await;
        self.told(erased)
    }

    async fn status(&self) -> Result<Vec<LaneStatus>, Error> {
        self.read(|conn, shared| inspect::status(conn, &shared.state()))
            .await
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }

    fn last(&self) -> Seq {
        state::lock(&self.shared.published).state.last
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn trouble(&self) -> Option<Error> {
        let failure = state::lock(&self.shared.trouble).clone();
        let ended = || self.shared.queue.is_over().then(Failure::closed);
        let failure = failure.or_else(ended)?;
        Some(failure.at(&self.shared.dir))
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.queue.close();
        // Whoever asks again waits as well.
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await;
        if ended.is_ok_and(|ended| matches!(*ended, Some(Ended::Well))) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Internal,
            "the store's thread has panicked",
        ))
    }
}

#[async_trait]
impl DeadLetters for SqliteStore {
    async fn list(
        &self,
        filter: &Filter,
        after: DeadLetterId,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let filter = filter.clone();
        self.read(move |conn, _| letters::page(conn, &filter, after, limit))
            .await
    }

    async fn replay(&self, filter: &Filter) -> Result<Replayed, Error> {
        let filter = Arc::new(filter.clone());
        let mut replayed = Replayed::default();
        let mut span = Some(Span::default());
        // What else there is to write comes in between.
        while let Some(next) = span {
            let filter = Arc::clone(&filter);
            let queue = &self.shared.queue;
            let done = queue.call(true, move |tx| tx.replay(&filter, next));
            let (now, behind) = self.told(done.await)?;
            replayed.events += now.events;
            replayed.detached += now.detached;
            span = behind;
        }
        Ok(replayed)
    }

    async fn purge(&self, filter: &Filter) -> Result<u64, Error> {
        let filter = Arc::new(filter.clone());
        let mut purged = 0;
        let mut span = Some(Span::default());
        while let Some(next) = span {
            let filter = Arc::clone(&filter);
            let queue = &self.shared.queue;
            let done = queue.call(true, move |tx| tx.purge(&filter, next));
            let (now, behind) = self.told(done.await)?;
            purged += now;
            span = behind;
        }
        Ok(purged)
    }
}

//! A look at a store from outside, also while an engine works on it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use analytics_spec::{Error, ErrorKind, Timestamp};
use rusqlite::Connection;

use super::{
    super::{DeadLetter, DeadLetterId, Filter, LaneStatus},
    failure::{Failure, Outcome},
    letters,
    place::{self, database, log},
    schema,
    state::{State, lock},
    table,
};

/// Reads a store; changes nothing.
#[derive(Clone, Debug)]
pub struct Inspection {
    dir: Arc<Path>,
    conn: Arc<Mutex<Connection>>,
}

impl Inspection {
    pub(super) async fn open(dir: PathBuf) -> Result<Self, Error> {
        let opened = tokio::task::spawn_blocking(move || {
            let conn = open(&dir).map_err(|failure| failure.at(&dir))?;
            Ok(Self {
                dir: dir.into(),
                conn: Arc::new(Mutex::new(conn)),
            })
        });
        opened.await.map_err(interrupted)?
    }

    /// How every lane stands; by name.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn status(&self) -> Result<Vec<LaneStatus>, Error> {
        self.read(|conn| {
            let state = State::load(conn)?;
            status(conn, &state)
        })
        .await
    }

    /// Dead letters with a number above `after`, by their number, at most so
    /// many.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn dead_letters(
        &self,
        filter: &Filter,
        after: DeadLetterId,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let filter = filter.clone();
        self.read(move |conn| letters::page(conn, &filter, after, limit))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let conn = lock(&this.conn);
            let read = || {
                let transaction = conn.unchecked_transaction()?;
                let read = read(&transaction)?;
                transaction.finish()?;
                Ok(read)
            };
            read().map_err(|failure: Failure| failure.at(&this.dir))
        });
        read.await.map_err(interrupted)?
    }
}

fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "the store could not be read").with_source(error)
}

fn open(dir: &Path) -> Outcome<Connection> {
    place::check_left(dir)?;
    let path = database(dir);
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() => {
            std::fs::File::open(&path).map_err(|error| Failure::io("read", &path, &error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Failure::io("read", &path, &error));
        }
        _ => {
            return Err(Failure::configuration(
                "is not there: the directory has no events.db",
            ));
        }
    }
    // Whoever has it open has its log open as well. Without one, SQLite would
    // make it.
    if log(dir).exists() {
        schema::open_read_only(&path)
    } else {
        schema::open_immutable(&path)
    }
}

/// How every lane stands.
pub(super) fn status(conn: &Connection, state: &State) -> Outcome<Vec<LaneStatus>> {
    let mut lanes = state.status(Timestamp::now());
    for status in &mut lanes {
        let Some((_, lane)) = state.lane(&status.integration) else {
            continue;
        };
        let Some(first) = lane.marks.next_pending(0) else {
            continue;
        };
        let accepted_at = table::accepted_at(conn, first)?;
        status.oldest = accepted_at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    }
    Ok(lanes)
}

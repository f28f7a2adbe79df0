//! Where accepted events are kept.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use analytics_kit::{
    SqliteStore, Storage,
    engine::{MemoryStore, Store, store::Inspection},
};
use clap::Args;

use crate::{exit::Failure, progress::grouped};

/// How many events, and bytes of their JSON, are accepted in memory and not
/// settled.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The directory of a store.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DataDir {
    /// The directory in which accepted events are kept; over `data_dir` of the
    /// configuration
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDir {
    /// What is configured, with this directory if one is given.
    pub(crate) fn over(&self, configured: &Storage) -> Storage {
        let mut storage = configured.clone();
        if self.data_dir.is_some() {
            storage.data_dir.clone_from(&self.data_dir);
        }
        storage
    }

    /// Whether it is given.
    pub(crate) fn is_given(&self) -> bool {
        self.data_dir.is_some()
    }

    /// The command that delivers what is kept.
    pub(crate) fn how_to_go_on(&self) -> String {
        match &self.data_dir {
            Some(dir) => format!("analytics drain --data-dir {}", dir.display()),
            None => "analytics drain".to_owned(),
        }
    }

    /// The store that is meant, without looking at integrations: there must be
    /// a directory.
    pub(crate) fn find(&self, config: &Path) -> Result<Storage, Failure> {
        let shown = config.display();
        let configured = match std::fs::read_to_string(config) {
            Ok(text) => Storage::from_toml(&text)
                .map_err(|error| Failure::usage(format!("{shown}: {}", error.message())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Storage::default(),
            Err(error) => return Err(Failure::usage(format!("{shown}: {error}"))),
        };
        let storage = self.over(&configured);
        directory(&storage)?;
        Ok(storage)
    }
}

/// The directory of a store, which must be known.
pub(crate) fn directory(storage: &Storage) -> Result<&Path, Failure> {
    storage.data_dir.as_deref().ok_or_else(|| {
        Failure::usage(
            "it is not said where accepted events are kept: give --data-dir DIR, or set `data_dir` \
             in the table [engine] of the configuration",
        )
    })
}

/// A look at the store, also while another process works on it.
pub(crate) async fn inspect(storage: &Storage) -> Result<Inspection, Failure> {
    SqliteStore::inspect(directory(storage)?)
        .await
        .map_err(|error| Failure::configuration(&error))
}

/// Opens a store that is there already.
pub(crate) async fn open(storage: &Storage) -> Result<Arc<SqliteStore>, Failure> {
    inspect(storage).await?;
    let opened = storage.open().await;
    let opened = opened.map_err(|error| Failure::configuration(&error))?;
    opened.ok_or_else(|| Failure::failed("there is no store"))
}

/// Closes a store; what it was asked is done already.
pub(crate) async fn close(store: &SqliteStore) -> Result<(), Failure> {
    let closed = store.close().await;
    closed.map_err(|error| Failure::failed(error.message()))
}

/// Where a delivery keeps what is accepted.
pub(crate) enum Keeping {
    /// It is gone with the process.
    Memory(Arc<MemoryStore>),
    /// The next run goes on with it.
    Disk(Storage, Arc<SqliteStore>),
}

impl Keeping {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::new(MemoryStore::new(MAX_EVENTS, MAX_BYTES)))
    }

    /// Where it is configured.
    pub(crate) async fn configured(storage: Storage) -> Result<Self, Failure> {
        let opened = storage.open().await;
        let opened = opened.map_err(|error| Failure::configuration(&error))?;
        Ok(match opened {
            Some(store) => Self::Disk(storage, store),
            None => Self::memory(),
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::clone(store) as _,
            Self::Disk(_, store) => Arc::clone(store) as _,
        }
    }

    pub(crate) fn is_durable(&self) -> bool {
        matches!(self, Self::Disk(..))
    }
}

/// A number of things.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

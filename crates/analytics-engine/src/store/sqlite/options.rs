//! How a store is opened.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use analytics_spec::{Error, ErrorKind};
use tokio::sync::watch;

use super::{
    Ended, SqliteStore, ending,
    failure::{Failure, Outcome},
    lock::Lock,
    place::{self, Place},
    pull::LastRead,
    queue::Queue,
    reader::Readers,
    reserve::Reserve,
    schema,
    shared::Shared,
    state::{self, Published, State},
    writer::Writer,
};

const MIB: u64 = 1024 * 1024;

/// The least that `max_bytes` can be.
const MIN_BYTES: u64 = MIB;

/// An event larger than this is refused.
pub(super) const MAX_EVENT_BYTES: usize = 256 * MIB as usize;

/// The store's limits.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_bytes: u64,
    pub(super) letters_age: Option<Duration>,
    pub(super) letters_bytes: u64,
    /// The most that one chunk has.
    pub(super) chunk_bytes: usize,
    pub(super) chunk_events: usize,
    /// The most that an open group has.
    pub(super) group_bytes: u64,
    /// How much of the last events is kept at hand.
    pub(super) recent_bytes: usize,
    /// The log is moved into the file when it is longer.
    pub(super) log_bytes: u64,
    /// The file is written anew after an erasure, if it is not larger.
    pub(super) scrub_bytes: u64,
    /// About so much is read and written in one transaction of an erasure.
    pub(super) erase_bytes: usize,
    /// Whether the writer tidies up without being asked.
    pub(super) is_tidy: bool,
    /// The disk is full when the file has so many pages: of tests.
    pub(super) max_pages: Option<u64>,
}

/// A log that is so many times longer than it should be is emptied though
/// somebody reads it: readers that follow one another without a gap would let
/// it grow for ever.
const LOG_TIMES: u64 = 4;

impl Settings {
    /// What the log has above this takes the room of events.
    pub(super) fn max_log_bytes(&self) -> u64 {
        self.log_bytes * LOG_TIMES
    }
}

/// Opens a [`SqliteStore`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    dir: PathBuf,
    settings: Settings,
    checks: bool,
}

impl SqliteOptions {
    pub(super) fn new(dir: PathBuf) -> Self {
        let days = 24 * 60 * 60;
        Self {
            dir,
            settings: Settings {
                max_bytes: 10 * 1024 * MIB,
                letters_age: Some(Duration::from_secs(30 * days)),
                letters_bytes: 256 * MIB,
                chunk_bytes: MIB as usize,
                chunk_events: 4096,
                group_bytes: 16 * MIB,
                recent_bytes: 4 * MIB as usize,
                log_bytes: 16 * MIB,
                scrub_bytes: 32 * MIB,
                erase_bytes: 8 * MIB as usize,
                is_tidy: true,
                max_pages: None,
            },
            checks: true,
        }
    }

    /// The most that the file may hold: 10 GiB. Without room, appending waits
    /// or is refused; what was accepted is kept.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// How long dead letters are kept: 30 days.
    pub fn dead_letters_max_age(mut self, age: Duration) -> Self {
        self.settings.letters_age = Some(age);
        self
    }

    /// The most that dead letters may take: 256 MiB, and never more than a
    /// quarter of `max_bytes`. The oldest go first.
    pub fn dead_letters_max_bytes(mut self, bytes: u64) -> Self {
        self.settings.letters_bytes = bytes;
        self
    }

    /// Whether the file is checked for damage when it is opened: yes. It reads
    /// all of it, which takes its time where much is pending.
    pub fn check(mut self, checks: bool) -> Self {
        self.checks = checks;
        self
    }

    /// Limits so small that tests reach them.
    #[doc(hidden)]
    pub fn tiny(mut self) -> Self {
        self.settings.chunk_bytes = 700;
        self.settings.chunk_events = 4;
        self.settings.group_bytes = 2000;
        self.settings.recent_bytes = 1500;
        self.settings.erase_bytes = 1000;
        self.settings.log_bytes = 64 * 1024;
        self
    }

    /// A store that tidies up only when it is asked.
    #[doc(hidden)]
    pub fn untidy(mut self) -> Self {
        self.settings.is_tidy = false;
        self
    }

    /// A disk on which the file cannot have more pages of 4 KiB, 1,024 of which
    /// are held in reserve.
    #[doc(hidden)]
    pub fn disk_pages(mut self, pages: u64) -> Self {
        self.settings.max_pages = Some(pages);
        self
    }

    /// Opens the store; makes it if there is none.
    ///
    /// # Errors
    ///
    /// - Another engine has the directory open: its process is named.
    /// - The directory cannot be made or written, or what is in it is something
    ///   else, of a newer version, or damaged.
    pub async fn open(self) -> Result<SqliteStore, Error> {
        let opened = tokio::task::spawn_blocking(move || {
            let dir = self.dir.clone();
            self.open_blocking().map_err(|failure| failure.at(&dir))
        });
        opened.await.map_err(|error| {
            Error::new(
                analytics_spec::ErrorKind::Internal,
                "the store could not be opened",
            )
            .with_source(error)
        })?
    }

    fn open_blocking(mut self) -> Outcome<SqliteStore> {
        let settings = &mut self.settings;
        if settings.max_bytes < MIN_BYTES {
            return Err(Failure::configuration(format!(
                "cannot work with max_bytes of {} bytes: it must be at least {MIN_BYTES} bytes (1MiB)",
                settings.max_bytes
            )));
        }
        settings.letters_bytes = settings.letters_bytes.min(settings.max_bytes / 4);
        ending::wait(&self.dir);
        let lock = Lock::take(&self.dir, LET_GO_WITHIN)?;
        place::check_left(&self.dir)?;
        let path = place::database(&self.dir);
        let mut reserve = Reserve::new(&self.dir);
        let conn = match schema::open(&path, self.checks) {
            // The log's own files need some room.
            Err(failure) if failure.kind == ErrorKind::Full && reserve.release_left() => {
                schema::open(&path, self.checks)
            }
            opened => opened,
        }?;
        let place = Place::of(path.clone())?;
        let state = State::load(&conn)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(
                self.settings.max_bytes,
                self.settings.group_bytes,
                self.settings.max_log_bytes(),
            ),
            committing: Mutex::default(),
            published: Mutex::new(Published::new(state)),
            on_erased: Mutex::default(),
            on_appended: Mutex::default(),
            trouble: Mutex::default(),
            hasher: state::hasher(&conn)?,
            readers: Readers::new(path),
            last_read: LastRead::default(),
            dir: self.dir.clone(),
        });
        let writer_shared = Arc::clone(&shared);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let mut writer = Writer::new(
            conn,
            lock,
            place,
            reserve,
            self.settings,
            Arc::clone(&shared),
        );
        let thread = std::thread::Builder::new().name("analytics-store".into());
        let (ended, has_ended) = watch::channel(None);
        let thread = thread.spawn(move || {
            let _end = End(writer_shared, ended);
            let begun = writer.begin();
            let is_begun = begun.is_ok();
            let _ = ready.send(begun);
            if is_begun {
                writer.run();
            }
            writer.end();
        });
        let thread =
            thread.map_err(|error| Failure::io("start a thread for", &self.dir, &error))?;
        let store = SqliteStore::new(shared, thread, has_ended);
        is_ready.recv().unwrap_or_else(|_| Err(Failure::closed()))?;
        Ok(store)
    }
}

/// Tasks of this process that have been aborted let go of a store within so
/// long.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Tells whoever waits, also if the thread panics.
struct End(Arc<Shared>, watch::Sender<Option<Ended>>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.queue.end();
        self.1.send_replace(Some(if std::thread::panicking() {
            Ended::Panicked
        } else {
            Ended::Well
        }));
    }
}

//! What the writer and everybody else have in common.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    super::{OnAppended, OnErased},
    failure::Failure,
    hash::Hasher,
    pull::LastRead,
    queue::Queue,
    reader::Readers,
    state::{Published, State, lock},
};

pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) published: Mutex<Published>,
    /// Held from a commit until everybody is shown it: whoever finds the file
    /// ahead of what is published waits here.
    pub(super) committing: Mutex<()>,
    pub(super) on_erased: Mutex<Option<OnErased>>,
    pub(super) on_appended: Mutex<Option<OnAppended>>,
    /// Why the last transaction failed, if it did.
    pub(super) trouble: Mutex<Option<Failure>>,
    pub(super) hasher: Hasher,
    pub(super) readers: Readers,
    pub(super) last_read: LastRead,
    pub(super) dir: PathBuf,
}

impl Shared {
    /// The store as it is in the file, once what is being committed is known.
    pub(super) fn settled_state(&self) -> Arc<State> {
        drop(lock(&self.committing));
        self.state()
    }

    /// The store as it was committed last.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&lock(&self.published).state)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("dir", &self.dir)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

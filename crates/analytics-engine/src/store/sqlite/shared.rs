//! What the writer and everybody else have in common.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    super::OnErased,
    hash::Hasher,
    queue::Queue,
    reader::Readers,
    state::{Published, State, lock},
};

pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) published: Mutex<Published>,
    pub(super) on_erased: Mutex<Option<OnErased>>,
    pub(super) hasher: Hasher,
    pub(super) readers: Readers,
    pub(super) dir: PathBuf,
}

impl Shared {
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

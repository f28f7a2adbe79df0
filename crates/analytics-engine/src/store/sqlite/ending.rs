//! Stores that were dropped where nobody may wait: each ends by itself, and
//! whoever opens its directory next waits for it.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    thread::JoinHandle,
};

use super::state::lock;

static ENDING: Mutex<Vec<(PathBuf, JoinHandle<()>)>> = Mutex::new(Vec::new());

/// Lets a writer end by itself.
pub(super) fn leave(dir: &Path, writer: JoinHandle<()>) {
    let dir = whole(dir);
    let mut ending = lock(&ENDING);
    ending.retain(|(_, writer)| !writer.is_finished());
    ending.push((dir, writer));
}

/// Waits until nobody of this process is about to let go of a directory.
pub(super) fn wait(dir: &Path) {
    let dir = whole(dir);
    let writers: Vec<_> = lock(&ENDING).extract_if(.., |(of, _)| *of == dir).collect();
    for (_, writer) in writers {
        join(writer);
    }
}

pub(super) fn join(writer: JoinHandle<()>) {
    if writer.join().is_err() {
        tracing::error!("the store's thread has panicked");
    }
}

fn whole(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned())
}

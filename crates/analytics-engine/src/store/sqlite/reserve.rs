//! Room on the disk that is given up when there is no other, so that what was
//! sent can still be written down.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::lock::private;

/// How much is held back.
pub(super) const BYTES: u64 = 4 * 1024 * 1024;

/// The file's name.
pub(super) const NAME: &str = "reserve";

/// How long to wait before taking room again.
const PAUSE: Duration = Duration::from_secs(1);

/// A file of nothing.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    is_held: bool,
    asked_at: Option<Instant>,
}

impl Reserve {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(NAME),
            is_held: false,
            asked_at: None,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Takes the room, unless it was asked for just now; whether it is there.
    pub(super) fn take(&mut self) -> bool {
        let is_soon = self.asked_at.is_some_and(|at| at.elapsed() < PAUSE);
        if self.is_held || is_soon {
            return self.is_held;
        }
        self.asked_at = Some(Instant::now());
        self.is_held = self.write().is_ok();
        if !self.is_held {
            self.remove();
        }
        self.is_held
    }

    fn write(&self) -> io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.len() == BYTES) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        private(&mut options);
        let mut file = options.open(&self.path)?;
        let block = [0_u8; 64 * 1024];
        for _ in 0..BYTES / block.len() as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()
    }

    /// Gives the room up; whether there was any.
    pub(super) fn release(&mut self) -> bool {
        self.asked_at = Some(Instant::now());
        self.remove();
        std::mem::take(&mut self.is_held)
    }

    /// Gives up what the last engine has left; whether there was anything.
    pub(super) fn release_left(&mut self) -> bool {
        let is_there = self.path.exists();
        self.release();
        is_there
    }

    fn remove(&self) {
        // It may not be there.
        let _ = std::fs::remove_file(&self.path);
    }
}

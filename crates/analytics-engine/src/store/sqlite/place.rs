//! Where the database is, and whether it is there: still where it was opened, for
//! what is written into a file that has been removed goes with the process; and
//! in a directory whose other files say that it was.

use std::path::{Path, PathBuf};

use analytics_spec::ErrorKind;

use super::{
    failure::{Failure, Outcome},
    reserve,
};

/// The file in a directory.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("events.db")
}

/// What SQLite has not moved into it.
pub(super) fn log(dir: &Path) -> PathBuf {
    dir.join("events.db-wal")
}

/// The file that was opened.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    file: Option<Identity>,
}

/// What tells a file from others, whatever they are called.
type Identity = (u64, u64);

impl Place {
    /// Where the file is now.
    pub(super) fn of(path: PathBuf) -> Outcome<Self> {
        let file = identity(&path).map_err(|error| Failure::io("look at", &path, &error))?;
        Ok(Self { path, file })
    }

    /// Looks whether it is still there. What cannot be looked at may be.
    pub(super) fn check(&self) -> Outcome<()> {
        let is_there = match identity(&self.path) {
            Ok(now) => now == self.file,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ),
        };
        if is_there {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Internal,
            "is gone: the directory was removed or replaced while in use; see to it, and open the \
             store again",
        ))
    }
}

/// Refuses a directory whose database is gone or has been emptied, and that says
/// by what else is in it that there was one: SQLite would begin anew, and throw
/// the log away, with all that stands in it alone.
pub(super) fn check_left(dir: &Path) -> Outcome<()> {
    let bytes = |path: PathBuf| std::fs::metadata(path).map(|file| file.len());
    let what = match bytes(database(dir)) {
        Ok(0) => "empty",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "missing",
        _ => return Ok(()),
    };
    let has_log = bytes(log(dir)).is_ok_and(|log| log > 0);
    // It is made when the database has been.
    if has_log || dir.join(reserve::NAME).exists() {
        return Err(Failure::corrupt(format!("its events.db is {what}")));
    }
    Ok(())
}

#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<Option<Identity>> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path)?;
    Ok(Some((file.dev(), file.ino())))
}

/// Elsewhere, what is open cannot be removed.
#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<Option<Identity>> {
    std::fs::metadata(path).map(|_| None)
}

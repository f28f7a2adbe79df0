//! One engine a directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use analytics_spec::ErrorKind;

use super::failure::{Failure, Outcome};

/// The lock of a directory, as long as it lives.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock; makes the directory if there is none.
    pub(super) fn take(dir: &Path) -> Outcome<Self> {
        make(dir)?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private(&mut options);
        let mut file = options
            .open(&path)
            .map_err(|e| Failure::io("write", &path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let by = match file.read_to_string(&mut pid) {
                    Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                    _ => "another process".into(),
                };
                return Err(Failure::configuration(format!(
                    "is in use by {by}: only one engine at a time works on a directory"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::io("lock", &path, &error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        let written = written.map_err(|e| Failure::io("write", &path, &e));
        match written {
            // It only tells others who it is.
            Err(failure) if failure.kind != ErrorKind::Full => Err(failure),
            _ => Ok(Self(file)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Who does not see the lock sees no process either. The lock goes with
        // the file, at the latest.
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

/// Only its owner may read and write what is made.
pub(super) fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}

fn make(dir: &Path) -> Outcome<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder
        .create(dir)
        .map_err(|e| Failure::io("make the directory", dir, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a").join("b");
        let lock = Lock::take(&dir).unwrap();
        let error = Lock::take(&dir).unwrap_err();
        let pid = std::process::id();
        assert!(
            error.message.contains(&format!("by process {pid}:")),
            "{error:?}"
        );
        assert_eq!(
            std::fs::read_to_string(dir.join("lock")).unwrap(),
            pid.to_string()
        );
        drop(lock);
        drop(Lock::take(&dir).unwrap());
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert_eq!(error.kind, analytics_spec::ErrorKind::Configuration);
        assert!(error.message.contains("make the directory"), "{error:?}");
    }
}

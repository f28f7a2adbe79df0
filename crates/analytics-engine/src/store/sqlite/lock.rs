//! One engine a directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use analytics_spec::ErrorKind;

use super::failure::{Failure, Outcome};

/// The lock of a directory, as long as it lives.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock; makes the directory if there is none. If this very
    /// process has it, waits a while: whoever let go of an engine cannot wait
    /// until its tasks have let go of the store.
    pub(super) fn take(dir: &Path, patience: Duration) -> Outcome<Self> {
        make(dir)?;
        let path = dir.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private(&mut options);
        let mut file = options
            .open(&path)
            .map_err(|e| Failure::io("write", &path, &e))?;
        let until = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(Failure::io("lock", &path, &error)),
            }
            let mut pid = String::new();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
            let pid = read.map_or("", |_| pid.trim());
            let is_own = pid == std::process::id().to_string();
            // Without a pid, somebody is just letting go, or taking it.
            if (is_own || pid.is_empty()) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let by = match pid {
                "" => "another process".to_owned(),
                pid if is_own => format!("this process ({pid}), which has not closed it"),
                pid => format!("process {pid}"),
            };
            return Err(Failure::configuration(format!(
                "is in use by {by}: only one engine at a time works on a directory"
            )));
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
    let missing = dir.ancestors().take_while(|dir| !dir.exists());
    let parents: Vec<_> = missing.filter_map(Path::parent).collect();
    builder
        .create(dir)
        .map_err(|e| Failure::io("make the directory", dir, &e))?;
    for parent in parents {
        keep_names(parent);
    }
    Ok(())
}

/// Puts the names in a directory on the disk: without its own, what is in a new
/// directory is not found after a loss of power.
fn keep_names(dir: &Path) {
    // One with no name is the one we are in.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    // Elsewhere, directories cannot be opened as files.
    #[cfg(unix)]
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        tracing::warn!(dir = %dir.display(), %error, "a new directory may not outlive a loss of power");
    }
    #[cfg(not(unix))]
    let _ = dir;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a").join("b");
        let take = || Lock::take(&dir, Duration::from_millis(50));
        let lock = take().unwrap();
        let error = take().unwrap_err();
        let pid = std::process::id();
        let by = format!("by this process ({pid}), which has not closed it:");
        assert!(error.message.contains(&by), "{error:?}");
        assert_eq!(
            std::fs::read_to_string(dir.join("lock")).unwrap(),
            pid.to_string()
        );
        // Of another one.
        std::fs::write(dir.join("lock"), "1").unwrap();
        let error = take().unwrap_err();
        assert!(error.message.contains("by process 1:"), "{error:?}");
        std::fs::write(dir.join("lock"), pid.to_string()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                drop(lock);
            });
            drop(Lock::take(&dir, Duration::from_secs(60)).unwrap());
        });
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let error = Lock::take(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind, analytics_spec::ErrorKind::Configuration);
        assert!(error.message.contains("make the directory"), "{error:?}");
    }
}

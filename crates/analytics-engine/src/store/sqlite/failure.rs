//! What goes wrong with a store, in sentences.

use std::{io, path::Path};

use analytics_spec::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// An error that several who wait for the same thing can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    /// What was written before may not be on disk.
    pub(super) is_lost_sync: bool,
    /// Whoever asked is wrong, not the store.
    pub(super) is_askers: bool,
}

/// What a step of the store comes to.
pub(super) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            is_lost_sync: false,
            is_askers: false,
        }
    }

    pub(super) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    pub(super) fn disk_full() -> Self {
        Self::new(
            ErrorKind::Full,
            "has no room: the disk is full; free some of it",
        )
    }

    pub(super) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "is closed")
    }

    /// The file says what it cannot say.
    pub(super) fn corrupt(found: impl std::fmt::Display) -> Self {
        Self::new(
            ErrorKind::Internal,
            format!(
                "is damaged ({found}): restore a copy of the directory, or move it away and start \
                 with an empty one"
            ),
        )
    }

    pub(super) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => ErrorKind::Configuration,
            _ => ErrorKind::Internal,
        };
        let what_to_do = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; run as the user who owns it, or give this one permission"
            }
            _ => "",
        };
        Self::new(
            kind,
            format!("cannot {doing} {}: {error}{what_to_do}", path.display()),
        )
    }

    /// This, said of the store in a directory.
    pub(super) fn at(&self, dir: &Path) -> Error {
        Error::new(
            self.kind,
            format!("the store {} {}", dir.display(), self.message),
        )
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        /// `SQLITE_IOERR_FSYNC` and `SQLITE_IOERR_DIR_FSYNC`.
        const LOST_SYNC: [i32; 2] = [1034, 1290];
        let rusqlite::Error::SqliteFailure(code, _) = &error else {
            return match &error {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..) => Self::corrupt(error),
                _ => Self::new(ErrorKind::Internal, format!("failed: {error}")),
            };
        };
        /// `SQLITE_IOERR_SHMSIZE`: no room for the index of the log.
        const NO_ROOM: i32 = 4874;
        match code.code {
            _ if code.extended_code == NO_ROOM => Self::disk_full(),
            ErrorCode::DiskFull => Self::disk_full(),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::corrupt(error),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::configuration(format!(
                "cannot be written: {error}; check who owns the directory"
            )),
            // SQLite's own words name the file as it is opened, and no reason.
            ErrorCode::CannotOpen => Self::configuration(
                "cannot be opened: check that this user has permission to read and write the \
                 directory and each file in it",
            ),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::new(
                ErrorKind::Internal,
                "is in use by another program that does not let go of it",
            ),
            ErrorCode::SystemIoFailure => Self {
                is_lost_sync: LOST_SYNC.contains(&code.extended_code),
                ..Self::new(
                    ErrorKind::Internal,
                    format!("cannot be read or written: {error}; check the disk"),
                )
            },
            _ => Self::new(ErrorKind::Internal, format!("failed: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, OpenFlags};

    use super::*;

    #[test]
    fn what_cannot_be_opened_says_what_to_check() {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let uri = "file:no/such/directory/events.db?immutable=1";
        let error = Connection::open_with_flags(uri, flags).map(|_| ());
        let failure = Failure::from(error.expect_err("there is no such directory"));
        assert_eq!(failure.kind, ErrorKind::Configuration);
        assert!(failure.message.contains("permission"), "{failure:?}");
        assert!(!failure.message.contains("file:"), "{failure:?}");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let failure = Failure::io("read", Path::new("kept/events.db"), &denied);
        assert!(failure.message.contains("give this one permission"));
    }
}

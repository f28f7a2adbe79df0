//! Connections that only read.

use std::{path::PathBuf, sync::Mutex};

use rusqlite::Connection;

use super::{
    failure::{Failure, Outcome},
    schema,
    state::lock,
};

/// At most so many are kept open.
const MOST: usize = 4;

/// Connections that nobody uses; `None` after the end.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Option<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// Reads one state of the file.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> Outcome<T>) -> Outcome<T> {
        let idle = match lock(&self.idle).as_mut() {
            Some(idle) => idle.pop(),
            None => return Err(Failure::closed()),
        };
        let conn = match idle {
            Some(conn) => conn,
            None => schema::open_read_only(&self.path)?,
        };
        let transaction = conn.unchecked_transaction()?;
        let read = read(&transaction);
        transaction.finish()?;
        if let Some(idle) = lock(&self.idle).as_mut()
            && idle.len() < MOST
        {
            idle.push(conn);
        }
        read
    }

    pub(super) fn close(&self) {
        lock(&self.idle).take();
    }
}

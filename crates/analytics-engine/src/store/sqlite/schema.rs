//! The file: whether it is one of ours, its tables, and how `SQLite` is to treat
//! it.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::{
    failure::{Failure, Outcome},
    lock::private,
    table,
};

/// Says that a file is ours: `anly`.
pub(super) const APPLICATION_ID: i32 = 0x616e_6c79;

/// How long a page is. Longer ones are some percent less work in a flood, but a
/// lone event writes a handful of them, and takes one or two for itself.
pub(super) const PAGE: u64 = 4096;
const PAGE_SIZE: &str = "4096";

/// How long a connection waits for another program's.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// How the file came to its form: each takes it one version further.
const MIGRATIONS: &[&str] = &[V1, V2];

const V1: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES('last', 0), ('stored', 0), ('scrub', 0), ('hash_key', randomblob(16));

CREATE TABLE chunks(
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    events INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    head BLOB NOT NULL,
    body BLOB NOT NULL
);

CREATE TABLE lanes(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    watermark INTEGER NOT NULL,
    until INTEGER,
    paused_until TEXT,
    delivered INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    this_minute INTEGER NOT NULL,
    last_minute INTEGER NOT NULL
);

CREATE TABLE settled(
    lane INTEGER NOT NULL,
    block INTEGER NOT NULL,
    bits BLOB NOT NULL,
    PRIMARY KEY(lane, block)
) WITHOUT ROWID;

CREATE TABLE retries(
    lane INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY(lane, seq)
) WITHOUT ROWID;

CREATE TABLE erasures(
    seq INTEGER PRIMARY KEY, user_id TEXT NOT NULL, is_for_nobody INTEGER NOT NULL
);
CREATE INDEX erasures_by_user ON erasures(user_id);

CREATE TABLE dead_letters(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    seq INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    kind TEXT,
    user_id TEXT,
    previous_user_id TEXT,
    attempts INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    refused_at INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    input TEXT NOT NULL
);
CREATE INDEX dead_letters_by_lane ON dead_letters(lane, bytes);
CREATE INDEX dead_letters_by_user ON dead_letters(user_id);
CREATE INDEX dead_letters_by_previous_user ON dead_letters(previous_user_id)
    WHERE previous_user_id IS NOT NULL;
CREATE INDEX dead_letters_by_time ON dead_letters(refused_at);
";

/// A `delete` that is replayed erases up to its first place: what it erases
/// through, if that is not its own place.
const V2: &str = "
ALTER TABLE erasures ADD COLUMN through INTEGER;
ALTER TABLE dead_letters ADD COLUMN through INTEGER;
";

/// Opens the file for writing; makes it if there is none.
pub(super) fn open(path: &Path, checks: bool) -> Outcome<Connection> {
    make_private(path)?;
    let mut conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(BUSY)?;
    let version = identify(&conn, MIGRATIONS.len())?;
    if version.is_none() {
        set(&conn, "page_size", PAGE_SIZE, PAGE_SIZE)?;
        set(&conn, "auto_vacuum", "INCREMENTAL", "2")?;
    }
    set(&conn, "journal_mode", "WAL", "wal")?;
    set(&conn, "synchronous", "FULL", "2")?;
    set(&conn, "secure_delete", "ON", "1")?;
    set(&conn, "wal_autocheckpoint", "0", "0")?;
    // Of macOS, where a plain fsync does not reach the disk.
    set(&conn, "fullfsync", "ON", "1")?;
    set(&conn, "checkpoint_fullfsync", "ON", "1")?;
    // Nothing of an event goes to a directory of temporary files.
    set(&conn, "temp_store", "MEMORY", "2")?;
    set(&conn, "trusted_schema", "OFF", "0")?;
    set(&conn, "cell_size_check", "ON", "1")?;
    set(&conn, "cache_size", "-8192", "-8192")?;
    conn.set_prepared_statement_cache_capacity(64);
    if checks && version.is_some() {
        quick_check(&conn)?;
    }
    migrate(&mut conn, version.unwrap_or(0), MIGRATIONS)?;
    if checks {
        table::check(&conn)?;
    }
    expect(&conn, "page_size", PAGE_SIZE)?;
    expect(&conn, "auto_vacuum", "2")?;
    Ok(conn)
}

/// Opens a file that is there, for reading only.
pub(super) fn open_read_only(path: &Path) -> Outcome<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare_reader(&conn)?;
    Ok(conn)
}

/// Opens a file that nobody has open, as it is: nothing is made beside it.
pub(super) fn open_immutable(path: &Path) -> Outcome<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let conn = Connection::open_with_flags(
        uri,
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    )?;
    prepare_reader(&conn)?;
    Ok(conn)
}

fn prepare_reader(conn: &Connection) -> Outcome<()> {
    conn.busy_timeout(BUSY)?;
    set(conn, "query_only", "ON", "1")?;
    set(conn, "temp_store", "MEMORY", "2")?;
    set(conn, "trusted_schema", "OFF", "0")?;
    conn.set_prepared_statement_cache_capacity(32);
    match identify(conn, MIGRATIONS.len())? {
        Some(version) if version == MIGRATIONS.len() => Ok(()),
        Some(version) => Err(Failure::configuration(format!(
            "is of an older version ({version}): an engine that opens it brings it up to date"
        ))),
        None => Err(Failure::configuration("has nothing in it yet")),
    }
}

/// Only its owner may read what people did.
fn make_private(path: &Path) -> Outcome<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    private(&mut options);
    let opened = options.open(path);
    opened.map(drop).map_err(|e| Failure::io("write", path, &e))
}

/// The version of our file; `None` if there is nothing in it.
fn identify(conn: &Connection, newest: usize) -> Outcome<Option<usize>> {
    let id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if id == APPLICATION_ID {
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        if version > newest {
            return Err(Failure::configuration(format!(
                "was written by a newer version of this program (its format is {version}, this \
                 program knows {newest}): use that version"
            )));
        }
        return Ok(Some(version));
    }
    let tables = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    if (id, version, tables?) == (0, 0, 0_i64) {
        return Ok(None);
    }
    Err(Failure::configuration(
        "is something else: its events.db is another program's database; give another directory",
    ))
}

fn quick_check(conn: &Connection) -> Outcome<()> {
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(Failure::corrupt(found))
}

/// Takes the file from a version to the newest, each step whole or not at all.
fn migrate(conn: &mut Connection, version: usize, migrations: &[&str]) -> Outcome<()> {
    for (at, migration) in migrations.iter().enumerate().skip(version) {
        let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Sets a pragma, and makes sure that it took.
fn set(conn: &Connection, pragma: &str, to: &str, reads: &str) -> Outcome<()> {
    // Some say what they were set to, others nothing.
    let sql = format!("PRAGMA {pragma} = {to}");
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    expect(conn, pragma, reads)
}

fn expect(conn: &Connection, pragma: &str, reads: &str) -> Outcome<()> {
    use rusqlite::types::Value;
    let read: Option<Value> = conn
        .query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
        .optional()?;
    let read = match read {
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Text(text)) => text,
        other => format!("{other:?}"),
    };
    if read == reads {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "cannot be kept safe here: {pragma} is {read} and does not become {reads}; use a local \
         disk"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(conn: &Connection) -> Option<usize> {
        identify(conn, 9).unwrap()
    }

    #[test]
    fn an_older_file_is_brought_up_to_date() {
        let mut conn = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE t(a); INSERT INTO t VALUES(1);";
        let second = "ALTER TABLE t ADD COLUMN b; UPDATE t SET b = a + 1;";
        assert_eq!(version(&conn), None);
        migrate(&mut conn, 0, &[first]).unwrap();
        assert_eq!(version(&conn), Some(1));
        // A step that fails leaves the version before.
        let third = "INSERT INTO t VALUES(7, 7); SELECT * FROM missing;";
        migrate(&mut conn, 1, &[first, second, third]).unwrap_err();
        assert_eq!(version(&conn), Some(2));
        let row = conn.query_row("SELECT a, b FROM t", [], |r| Ok((r.get(0)?, r.get(1)?)));
        assert_eq!(row, Ok((1, 2)));
        let rows = conn.query_row("SELECT count(*) FROM t", [], |r| r.get(0));
        assert_eq!(rows, Ok(1));
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t(a)").unwrap();
        let error = identify(&conn, 1).unwrap_err();
        assert!(
            error.message.contains("another program's database"),
            "{error:?}"
        );
        conn.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        conn.pragma_update(None, "user_version", 2).unwrap();
        let error = identify(&conn, 1).unwrap_err();
        assert!(error.message.contains("newer version"), "{error:?}");
    }

    #[test]
    fn a_pragma_that_does_not_take_is_an_error() {
        let conn = Connection::open_in_memory().unwrap();
        // Memory has no write-ahead log.
        let error = set(&conn, "journal_mode", "WAL", "wal").unwrap_err();
        assert!(
            error.message.contains("journal_mode is memory"),
            "{error:?}"
        );
    }
}

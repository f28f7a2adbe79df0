//! The rows of chunks.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    super::Seq,
    chunk::{Chunk, Encoded, checksum, decode},
    failure::{Failure, Outcome},
    state::{signed, unsigned},
};

/// The chunk that holds a place, if there is one.
pub(super) fn find(conn: &Connection, seq: Seq) -> Outcome<Option<Chunk>> {
    let sql = "SELECT first, last, accepted_at, crc, head, body FROM chunks WHERE first <= ?1 \
               ORDER BY first DESC LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([signed(seq)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    if unsigned(row.get(1)?)? < seq {
        return Ok(None);
    }
    read(row).map(Some)
}

fn read(row: &Row<'_>) -> Outcome<Chunk> {
    let (first, last) = (unsigned(row.get(0)?)?, unsigned(row.get(1)?)?);
    let damaged = || {
        Failure::corrupt(format!(
            "the row of the events {first} to {last} in the table chunks does not match its \
             checksum"
        ))
    };
    let crc: i64 = row.get(3).map_err(|_| damaged())?;
    let head = row.get_ref(4)?.as_blob().map_err(|_| damaged())?;
    let body: Vec<u8> = row.get(5).map_err(|_| damaged())?;
    if crc != i64::from(checksum(head, &body)) {
        return Err(damaged());
    }
    Ok(Chunk {
        first,
        last,
        accepted_at: row.get(2)?,
        records: decode(first, last, head, body.len()).ok_or_else(damaged)?,
        body: body.into(),
    })
}

/// Reads every chunk: SQLite's own check looks at how rows are linked, not at
/// what stands in them.
pub(super) fn check(conn: &Connection) -> Outcome<()> {
    let sql = "SELECT first, last, accepted_at, crc, head, body FROM chunks ORDER BY first";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        read(row)?;
    }
    Ok(())
}

/// When the event at a place was accepted, in milliseconds since 1970.
pub(super) fn accepted_at(conn: &Connection, seq: Seq) -> Outcome<Option<i64>> {
    let sql = "SELECT accepted_at FROM chunks WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement
        .query_row([signed(seq)], |row| row.get(0))
        .optional()?)
}

pub(super) fn insert(
    conn: &Connection,
    first: Seq,
    last: Seq,
    accepted_at: i64,
    chunk: &Encoded,
) -> Outcome<()> {
    let sql = "INSERT INTO chunks(first, last, events, accepted_at, crc, head, body) \
               VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    conn.prepare_cached(sql)?.execute(params![
        signed(first),
        signed(last),
        signed(chunk.events),
        accepted_at,
        chunk.crc,
        chunk.head,
        chunk.body
    ])?;
    Ok(())
}

/// Writes a chunk that some events have left.
pub(super) fn update(conn: &Connection, first: Seq, chunk: &Encoded) -> Outcome<()> {
    if chunk.events == 0 {
        return delete(conn, first);
    }
    let sql = "UPDATE chunks SET events = ?2, crc = ?3, head = ?4, body = ?5 WHERE first = ?1";
    conn.prepare_cached(sql)?.execute(params![
        signed(first),
        signed(chunk.events),
        chunk.crc,
        chunk.head,
        chunk.body
    ])?;
    Ok(())
}

pub(super) fn delete(conn: &Connection, first: Seq) -> Outcome<()> {
    let sql = "DELETE FROM chunks WHERE first = ?1";
    conn.prepare_cached(sql)?.execute([signed(first)])?;
    Ok(())
}

/// A chunk's row without its events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) events: u64,
    /// The length of its body.
    pub(super) bytes: u64,
}

/// The first chunks that begin after `after` and at `until` at the latest, at
/// most so many.
pub(super) fn spans(
    conn: &Connection,
    after: Seq,
    until: Seq,
    at_most: usize,
) -> Outcome<Vec<Span>> {
    // With a limit that is bound, SQLite would prepare it anew each time.
    let sql = "SELECT first, last, events, length(body) FROM chunks \
               WHERE first > ?1 AND first <= ?2 ORDER BY first";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![signed(after), signed(until)])?;
    let mut spans = Vec::new();
    while spans.len() < at_most
        && let Some(row) = rows.next()?
    {
        spans.push(Span {
            first: unsigned(row.get(0)?)?,
            last: unsigned(row.get(1)?)?,
            events: unsigned(row.get(2)?)?,
            bytes: unsigned(row.get(3)?)?,
        });
    }
    Ok(spans)
}

/// Chunks in which heads name somebody, and how far they were looked at.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) chunks: Vec<Seq>,
    /// Where the last one that was looked at begins.
    pub(super) through: Seq,
    pub(super) is_all: bool,
}

/// The chunks, of those that begin after `after` and at `until` at the latest,
/// in which a head names one of the people; at most about `max_bytes` of heads,
/// and of what is found.
pub(super) fn of_people(
    conn: &Connection,
    after: Seq,
    until: Seq,
    max_bytes: usize,
    people: impl Fn(u64) -> bool,
) -> Outcome<Found> {
    let sql = "SELECT first, last, length(body), head FROM chunks \
               WHERE first > ?1 AND first <= ?2 ORDER BY first";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([signed(after), signed(until)])?;
    let mut found = Found {
        chunks: Vec::new(),
        through: after,
        is_all: true,
    };
    let mut read = 0_usize;
    while let Some(row) = rows.next()? {
        if read > max_bytes {
            found.is_all = false;
            break;
        }
        let (first, last) = (unsigned(row.get(0)?)?, unsigned(row.get(1)?)?);
        let bytes = usize::try_from(unsigned(row.get(2)?)?).unwrap_or(usize::MAX);
        let head = row.get_ref(3)?.as_blob().map_err(Failure::corrupt)?;
        let records = decode(first, last, head, bytes).ok_or_else(|| {
            Failure::corrupt(format!(
                "the head of the events {first} to {last} in the table chunks cannot be read"
            ))
        })?;
        found.through = first;
        read = read.saturating_add(head.len());
        if records.iter().any(|r| r.people.iter().any(|p| people(*p))) {
            read = read.saturating_add(bytes);
            found.chunks.push(first);
        }
    }
    Ok(found)
}

//! What a lane has to do: from memory if it keeps up, else from the file.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use analytics_spec::{ErrorKind, Timestamp};
use bytes::Bytes;
use rusqlite::{Connection, params};

use super::{
    super::{Body, Pulled, Seq, Stored},
    chunk::Chunk,
    failure::{Failure, Outcome},
    lanes::{Waits, missing},
    shared::Shared,
    state::{Lane, LaneId, Recent, State, lock, signed, unsigned},
    table,
};

/// In one call, at most about so many times the bytes that are asked for are
/// read from the file.
const MOST_READ: usize = 4;

/// The chunk that each lane read last: the next call goes on in it.
pub(super) type LastRead = Mutex<HashMap<LaneId, (u64, Arc<Chunk>)>>;

/// What a lane has not settled, after `after`.
pub(super) async fn pull(
    shared: &Arc<Shared>,
    lane: &str,
    after: Seq,
    max_bytes: usize,
) -> Outcome<Pulled> {
    loop {
        let (state, recent, erasures) = {
            let published = lock(&shared.published);
            let state = Arc::clone(&published.state);
            let recent = (after >= published.recent_after).then(|| {
                let from = published
                    .recent
                    .partition_point(|recent| recent.events.last().is_none_or(|e| e.seq <= after));
                let mut bytes = 0_usize;
                let is_wanted = |recent: &&Arc<Recent>| {
                    let is_wanted = bytes <= max_bytes.saturating_mul(2);
                    bytes = bytes.saturating_add(recent.bytes);
                    is_wanted
                };
                let recent = published.recent.range(from..).take_while(is_wanted);
                let recent: Vec<_> = recent.cloned().collect();
                let is_all = from + recent.len() == published.recent.len();
                (recent, is_all)
            });
            (state, recent, published.erasures)
        };
        let Some((id, of_lane)) = state.lane(lane) else {
            return Ok(Pulled::new(Vec::new(), state.last));
        };
        let of_lane = Arc::clone(of_lane);
        let has_retries = of_lane.in_retry > 0 && after < of_lane.retried_through;
        let pulled = if let (Some((recent, is_all)), false) = (recent, has_retries) {
            lock(&shared.last_read).remove(&id);
            let through = state.last;
            match from_memory(&recent, is_all, &of_lane, after, max_bytes, through) {
                Some(pulled) => pulled,
                // All of it is settled, and there is more.
                None => {
                    let after = recent.last().and_then(|recent| recent.events.last());
                    let after = after.map_or(through, |event| event.seq);
                    return Box::pin(pull(shared, lane, after, max_bytes)).await;
                }
            }
        } else if of_lane.marks.next_pending(after).is_none() {
            Pulled::new(Vec::new(), state.last)
        } else {
            let shared = Arc::clone(shared);
            let read = tokio::task::spawn_blocking(move || {
                shared.readers.read(|conn| {
                    let file = File {
                        conn,
                        shared: &shared,
                        state: &state,
                        erasures,
                        id,
                        lane: &of_lane,
                    };
                    file.pull(after, max_bytes)
                })
            });
            read.await.map_err(|error| {
                Failure::new(ErrorKind::Internal, format!("could not be read: {error}"))
            })??
        };
        // Nothing is handed out of whom was erased meanwhile.
        if lock(&shared.published).erasures == erasures {
            return Ok(pulled);
        }
    }
}

fn from_memory(
    recent: &[Arc<Recent>],
    is_all: bool,
    lane: &Lane,
    after: Seq,
    max_bytes: usize,
    last: Seq,
) -> Option<Pulled> {
    let mut pulled = Pulled::new(Vec::new(), last);
    let mut bytes = 0_usize;
    let events = recent.iter().flat_map(|recent| &recent.events);
    let mut through = after;
    for event in events.filter(|event| event.seq > after) {
        if lane.marks.has(event.seq) {
            through = event.seq;
            continue;
        }
        if bytes >= max_bytes && !pulled.events.is_empty() {
            pulled.through = through;
            return Some(pulled);
        }
        through = event.seq;
        bytes = bytes.saturating_add(event.bytes);
        let body = Body::Loaded(Arc::clone(&event.loaded));
        let stored = Stored::new(
            event.seq,
            event.people.clone(),
            body,
            event.bytes,
            event.accepted_at,
        );
        pulled.events.push(stored);
    }
    if !is_all {
        if pulled.events.is_empty() {
            return None;
        }
        pulled.through = through;
    }
    Some(pulled)
}

/// One state of the file, for one lane.
struct File<'a> {
    conn: &'a Connection,
    shared: &'a Shared,
    state: &'a State,
    erasures: u64,
    id: LaneId,
    lane: &'a Lane,
}

impl File<'_> {
    fn pull(&self, after: Seq, max_bytes: usize) -> Outcome<Pulled> {
        let mut pulled = Pulled::new(Vec::new(), self.state.last);
        let (mut bytes, mut read) = (0_usize, 0_usize);
        let mut next = self.lane.marks.next_pending(after);
        while let Some(seq) = next {
            if !pulled.events.is_empty()
                && (bytes >= max_bytes || read >= max_bytes.saturating_mul(MOST_READ))
            {
                pulled.through = seq - 1;
                break;
            }
            let Some(chunk) = self.chunk(seq)? else {
                self.check(seq, seq, &[])?;
                next = self.lane.marks.next_pending(seq);
                continue;
            };
            read = read.saturating_add(chunk.body.len());
            let taken = self.take(&chunk, seq, max_bytes - bytes.min(max_bytes));
            let through = taken.last().map_or(chunk.last, |event| event.seq);
            self.check(seq, through, &taken)?;
            next = self.lane.marks.next_pending(through);
            bytes = taken
                .iter()
                .map(|event| event.bytes)
                .fold(bytes, usize::saturating_add);
            pulled.events.extend(taken);
        }
        self.add_retries(&mut pulled)?;
        Ok(pulled)
    }

    /// What is pending between two places was taken, or has been settled, or
    /// erased, since.
    fn check(&self, from: Seq, through: Seq, taken: &[Stored]) -> Outcome<()> {
        let mut taken = taken.iter().map(|event| event.seq).peekable();
        let mut next = self.lane.marks.next_pending(from - 1);
        while let Some(seq) = next.filter(|seq| *seq <= through) {
            if taken.next_if_eq(&seq).is_none() {
                let now = self.shared.settled_state();
                let now = now.lanes.get(&self.id);
                if now.is_some_and(|lane| !lane.marks.has(seq)) {
                    return Err(missing(seq));
                }
            }
            next = self.lane.marks.next_pending(seq);
        }
        Ok(())
    }

    fn chunk(&self, seq: Seq) -> Outcome<Option<Arc<Chunk>>> {
        if let Some((erasures, chunk)) = lock(&self.shared.last_read).get(&self.id)
            && *erasures == self.erasures
            && (chunk.first..=chunk.last).contains(&seq)
        {
            return Ok(Some(Arc::clone(chunk)));
        }
        let Some(chunk) = table::find(self.conn, seq)? else {
            return Ok(None);
        };
        let chunk = Arc::new(chunk);
        let last_read = (self.erasures, Arc::clone(&chunk));
        lock(&self.shared.last_read).insert(self.id, last_read);
        Ok(Some(chunk))
    }

    /// Events of a chunk, from `from` on, at most about `max_bytes`, and at
    /// least one.
    fn take(&self, chunk: &Chunk, from: Seq, max_bytes: usize) -> Vec<Stored> {
        let is_wanted = |seq| seq >= from && !self.lane.marks.has(seq);
        let mut bytes = 0_usize;
        let records: Vec<_> = chunk
            .records
            .iter()
            .filter(|record| is_wanted(record.seq))
            .take_while(|record| {
                let is_wanted = bytes == 0 || bytes < max_bytes;
                bytes = bytes.saturating_add(record.len);
                is_wanted
            })
            .collect();
        let accepted_at = Timestamp::from_millisecond(chunk.accepted_at).unwrap_or_default();
        let stored = records.into_iter().map(|record| {
            // A copy: one that waits for long does not hold all of the chunk in
            // memory.
            let body = Body::Json(Bytes::copy_from_slice(&chunk.json(record)));
            Stored::new(
                record.seq,
                record.people.clone(),
                body,
                record.len,
                accepted_at,
            )
        });
        stored.collect()
    }

    fn add_retries(&self, pulled: &mut Pulled) -> Outcome<()> {
        let (Some(first), Some(last)) = (pulled.events.first(), pulled.events.last()) else {
            return Ok(());
        };
        if self.lane.in_retry == 0 || first.seq > self.lane.retried_through {
            return Ok(());
        }
        let sql = "SELECT seq, state FROM retries WHERE lane = ?1 AND seq >= ?2 AND seq <= ?3";
        let mut statement = self.conn.prepare_cached(sql)?;
        let range = params![self.id, signed(first.seq), signed(last.seq)];
        let mut rows = statement.query(range)?;
        let mut waits = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let seq = unsigned(row.get(0)?)?;
            // As bytes: what is damaged need not be text.
            let state = row.get_ref(1)?.as_bytes().unwrap_or_default();
            match serde_json::from_slice::<Waits>(state) {
                Ok(state) => drop(waits.insert(seq, state)),
                // The event is whole, and waits no longer than one that is new.
                Err(_) => tracing::warn!(
                    integration = %self.lane.name,
                    seq,
                    "the store is damaged: how often the event was attempted is lost, and it is \
                     attempted as a new one"
                ),
            }
        }
        for event in &mut pulled.events {
            if let Some(waits) = waits.remove(&event.seq) {
                event.retries = waits.retries;
                event.not_before = Some(waits.not_before);
            }
        }
        Ok(())
    }
}

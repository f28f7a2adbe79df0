//! What is known of the store without reading it: as of the last commit.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use analytics_spec::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::{
    super::{LaneStatus, Loaded, People, Seq, rate::Rate},
    failure::{Failure, Outcome},
    hash::Hasher,
    marks::Marks,
};

pub(super) type LaneId = i64;

/// A lane as it was committed.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) name: Arc<str>,
    pub(super) marks: Marks,
    pub(super) is_attached: bool,
    pub(super) paused_until: Option<Timestamp>,
    pub(super) in_retry: u64,
    /// No event after this one has a row in `retries`.
    pub(super) retried_through: Seq,
    pub(super) delivered: Rate,
}

/// The store as it was committed. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) lanes: BTreeMap<LaneId, Arc<Lane>>,
    pub(super) last: Seq,
    /// Events in chunks, settled ones among them.
    pub(super) stored: u64,
    /// Erasures that wait for their `delete`.
    pub(super) owed: u64,
    /// Those of them whose `delete` is for no lane.
    pub(super) nobodys: Arc<BTreeSet<Seq>>,
    pub(super) dead: BTreeMap<Arc<str>, u64>,
    pub(super) dead_bytes: u64,
    /// Something was erased that may still stand in unused parts of the file.
    pub(super) must_scrub: bool,
}

impl State {
    pub(super) fn lane(&self, name: &str) -> Option<(LaneId, &Arc<Lane>)> {
        let mut lanes = self.lanes.iter();
        let (id, lane) = lanes.find(|(_, lane)| &*lane.name == name)?;
        Some((*id, lane))
    }

    /// Everything up to here is settled everywhere.
    pub(super) fn floor(&self) -> Seq {
        let pinned = self.lanes.values().filter(|lane| lane.marks.pending() > 0);
        let floor = pinned.map(|lane| lane.marks.watermark()).min();
        floor.unwrap_or(self.last)
    }

    /// Everything up to here is settled at every lane that is attached.
    pub(super) fn attached_floor(&self) -> Seq {
        let attached = self.lanes.values().filter(|lane| lane.is_attached);
        let pinned = attached.filter(|lane| lane.marks.pending() > 0);
        let floor = pinned.map(|lane| lane.marks.watermark()).min();
        floor.unwrap_or(self.last)
    }

    /// Whether a place is settled everywhere.
    pub(super) fn is_settled(&self, seq: Seq) -> bool {
        self.lanes.values().all(|lane| lane.marks.has(seq))
    }

    /// How every lane stands, but for what only the file knows.
    pub(super) fn status(&self, now: Timestamp) -> Vec<LaneStatus> {
        let dead = |name: &str| self.dead.get(name).copied().unwrap_or_default();
        let lanes = self.lanes.values().map(|lane| LaneStatus {
            integration: lane.name.to_string(),
            is_attached: lane.is_attached,
            pending: lane.marks.pending(),
            oldest: None,
            in_retry: lane.in_retry,
            dead: dead(&lane.name),
            paused_until: lane.paused_until,
            delivered: lane.delivered.total,
            delivered_last_minute: lane.delivered.last_minute(now),
        });
        let gone = self
            .dead
            .iter()
            .filter(|(name, dead)| **dead > 0 && self.lane(name).is_none());
        let gone = gone.map(|(name, dead)| LaneStatus {
            integration: name.to_string(),
            dead: *dead,
            ..LaneStatus::default()
        });
        let mut lanes: Vec<_> = lanes.chain(gone).collect();
        lanes.sort_by(|one, other| one.integration.cmp(&other.integration));
        lanes
    }

    /// As it is in the file.
    pub(super) fn load(conn: &Connection) -> Outcome<Self> {
        let last = meta(conn, "last")?;
        let mut state = Self {
            lanes: lanes(conn, last)?,
            last,
            stored: meta(conn, "stored")?,
            owed: count(conn, "SELECT count(*) FROM erasures")?,
            nobodys: Arc::new(nobodys(conn)?),
            dead: BTreeMap::new(),
            dead_bytes: 0,
            must_scrub: meta(conn, "scrub")? != 0,
        };
        let sql = "SELECT lane, count(*), sum(bytes) FROM dead_letters GROUP BY lane";
        let mut dead = conn.prepare(sql)?;
        let mut rows = dead.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            state.dead.insert(name.into(), unsigned(row.get(1)?)?);
            state.dead_bytes += unsigned(row.get(2)?)?;
        }
        Ok(state)
    }
}

fn lanes(conn: &Connection, last: Seq) -> Outcome<BTreeMap<LaneId, Arc<Lane>>> {
    let mut blocks: BTreeMap<LaneId, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
    let mut statement = conn.prepare("SELECT lane, block, bits FROM settled")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let of_lane = blocks.entry(row.get(0)?).or_default();
        of_lane.push((unsigned(row.get(1)?)?, row.get(2)?));
    }
    let mut retries: BTreeMap<LaneId, (u64, Seq)> = BTreeMap::new();
    let sql = "SELECT lane, count(*), max(seq) FROM retries GROUP BY lane";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let of_lane = (unsigned(row.get(1)?)?, unsigned(row.get(2)?)?);
        retries.insert(row.get(0)?, of_lane);
    }
    let sql = "SELECT id, name, watermark, until, paused_until, delivered, minute, this_minute, \
               last_minute FROM lanes";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut lanes = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let name: String = row.get(1)?;
        let until: Option<i64> = row.get(3)?;
        let end = until.map_or(Ok(last), unsigned)?;
        let blocks = blocks.remove(&id).unwrap_or_default();
        let marks = Marks::load(unsigned(row.get(2)?)?, end, blocks);
        let marks = marks.ok_or_else(|| {
            Failure::corrupt(format!("what is settled of {name:?} cannot be read"))
        })?;
        let (in_retry, retried_through) = retries.remove(&id).unwrap_or_default();
        let paused_until: Option<String> = row.get(4)?;
        let lane = Lane {
            marks,
            is_attached: until.is_none(),
            paused_until: paused_until.and_then(|time| time.parse().ok()),
            in_retry,
            retried_through,
            delivered: Rate {
                total: unsigned(row.get(5)?)?,
                minute: row.get(6)?,
                current: unsigned(row.get(7)?)?,
                previous: unsigned(row.get(8)?)?,
            },
            name: name.into(),
        };
        lanes.insert(id, Arc::new(lane));
    }
    Ok(lanes)
}

fn nobodys(conn: &Connection) -> Outcome<BTreeSet<Seq>> {
    let mut statement = conn.prepare("SELECT seq FROM erasures WHERE is_for_nobody")?;
    let mut rows = statement.query([])?;
    let mut nobodys = BTreeSet::new();
    while let Some(row) = rows.next()? {
        nobodys.insert(unsigned(row.get(0)?)?);
    }
    Ok(nobodys)
}

/// The key of the hashes of people.
pub(super) fn hasher(conn: &Connection) -> Outcome<Hasher> {
    let sql = "SELECT value FROM meta WHERE key = 'hash_key'";
    let key: Option<Vec<u8>> = conn.query_row(sql, [], |row| row.get(0)).optional()?;
    let key = key.and_then(|key| key.try_into().ok());
    let key = key.ok_or_else(|| Failure::corrupt("there is no hash key"))?;
    Ok(Hasher::new(key))
}

fn meta(conn: &Connection, key: &str) -> Outcome<u64> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    let value: Option<i64> = conn.query_row(sql, [key], |row| row.get(0)).optional()?;
    let value = value.ok_or_else(|| Failure::corrupt(format!("meta has no {key:?}")))?;
    unsigned(value)
}

fn count(conn: &Connection, sql: &str) -> Outcome<u64> {
    unsigned(conn.query_row(sql, [], |row| row.get(0))?)
}

/// A number that cannot be below zero.
pub(super) fn unsigned(number: i64) -> Outcome<u64> {
    u64::try_from(number)
        .map_err(|_| Failure::corrupt(format!("{number} stands where no negative number can be")))
}

/// As `SQLite` has numbers.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A chunk that was committed lately, with its events as they came.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) events: Vec<RecentEvent>,
    pub(super) bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct RecentEvent {
    pub(super) seq: Seq,
    pub(super) people: People,
    pub(super) bytes: usize,
    pub(super) accepted_at: Timestamp,
    pub(super) loaded: Arc<Loaded>,
}

/// What everybody may look at.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) state: Arc<State>,
    /// Everything after `recent_after`, in order.
    pub(super) recent: VecDeque<Arc<Recent>>,
    pub(super) recent_after: Seq,
    pub(super) recent_bytes: usize,
    /// Counts erasures: what was read before one may have to be read again.
    pub(super) erasures: u64,
}

impl Published {
    pub(super) fn new(state: State) -> Self {
        Self {
            recent: VecDeque::new(),
            recent_after: state.last,
            recent_bytes: 0,
            erasures: 0,
            state: Arc::new(state),
        }
    }

    /// Adds a chunk: those that are no longer recent.
    #[must_use]
    pub(super) fn push(&mut self, recent: Arc<Recent>, max_bytes: usize) -> Vec<Arc<Recent>> {
        let mut gone = Vec::new();
        self.recent_bytes += recent.bytes;
        self.recent.push_back(recent);
        while self.recent_bytes > max_bytes
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= oldest.bytes;
            if let Some(event) = oldest.events.last() {
                self.recent_after = event.seq;
            }
            gone.push(oldest);
        }
        gone
    }

    pub(super) fn forget_recent(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
        self.recent_after = self.state.last;
    }
}

/// Locks; nothing in here panics half-way through a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

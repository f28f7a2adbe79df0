//! One transaction: what it changes is seen by others when it is committed.

use std::sync::Arc;

use analytics_spec::Timestamp;
use rusqlite::{Connection, params};
use smallvec::SmallVec;

use super::{
    super::{Erasure, OnErased, People, Seq},
    chunk::{Chunk, Encoder},
    drafts::Drafts,
    failure::Outcome,
    hash::Hasher,
    options::Settings,
    state::{Lane, LaneId, Recent, RecentEvent, State, signed},
    table,
};

/// A transaction under way, and the store as it will be after it.
pub(in crate::store) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) settings: &'a Settings,
    pub(super) hasher: &'a Hasher,
    pub(super) now: Timestamp,
    base: Arc<State>,
    pub(super) state: State,
    /// Settled events that may be the `delete` that an erasure waits for.
    pub(super) maybe_due: Vec<Seq>,
    pub(super) erasures: Vec<Erasure>,
    /// Something was erased: nothing of it may be left on disk.
    pub(super) has_erased: bool,
    /// Whoever erased it waits until that is so.
    pub(super) scrubs: bool,
    /// Dead letters that there was no room for.
    pub(super) crowded_out: u64,
    pub(super) recent: Vec<Arc<Recent>>,
    pub(super) forgets_recent: bool,
    /// Who is told of erasures from here on, if that changes.
    pub(super) on_erased: Option<OnErased>,
    /// The chunk that was read last.
    chunk: Option<Chunk>,
}

/// An event to be placed.
pub(super) struct Item<'a> {
    pub(super) json: &'a [u8],
    pub(super) people: &'a People,
    pub(super) lanes: SmallVec<[LaneId; 4]>,
    /// The user to be erased after it.
    pub(super) deletes: Option<&'a str>,
    /// Up to where, if not up to the event itself.
    pub(super) through: Option<Seq>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        settings: &'a Settings,
        hasher: &'a Hasher,
        base: Arc<State>,
    ) -> Self {
        Self {
            conn,
            settings,
            hasher,
            now: Timestamp::now(),
            state: (*base).clone(),
            base,
            maybe_due: Vec::new(),
            erasures: Vec::new(),
            has_erased: false,
            scrubs: false,
            crowded_out: 0,
            recent: Vec::new(),
            forgets_recent: false,
            on_erased: None,
            chunk: None,
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.now.as_millisecond()
    }

    pub(super) fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.state.lanes.get_mut(&id).map(Arc::make_mut)
    }

    /// A lane by its name; one that was never there is made.
    pub(super) fn lane_or_new(&mut self, name: &Arc<str>) -> Outcome<LaneId> {
        if let Some((id, _)) = self.state.lane(name) {
            return Ok(id);
        }
        let sql = "INSERT INTO lanes(name, watermark, until, delivered, minute, this_minute, \
                   last_minute) VALUES(?1, ?2, ?2, 0, 0, 0, 0)";
        let mut statement = self.conn.prepare_cached(sql)?;
        let id = statement.insert(params![name, signed(self.state.last)])?;
        let lane = Lane {
            name: Arc::clone(name),
            marks: super::marks::Marks::new(self.state.last),
            is_attached: false,
            paused_until: None,
            in_retry: 0,
            retried_through: 0,
            delivered: Default::default(),
        };
        self.state.lanes.insert(id, Arc::new(lane));
        Ok(id)
    }

    /// The chunk that holds a place.
    pub(super) fn chunk(&mut self, seq: Seq) -> Outcome<Option<&Chunk>> {
        let holds = |chunk: &Chunk| (chunk.first..=chunk.last).contains(&seq);
        if !self.chunk.as_ref().is_some_and(holds) {
            self.chunk = table::find(self.conn, seq)?;
        }
        Ok(self.chunk.as_ref())
    }

    /// Chunks were changed.
    pub(super) fn forget_chunk(&mut self) {
        self.chunk = None;
    }

    /// Appends what was drafted: the place of the first.
    pub(super) fn append(&mut self, drafts: &Drafts) -> Outcome<Seq> {
        let mut items = Vec::with_capacity(drafts.len());
        let mut lanes = Default::default();
        for (json, draft) in drafts.iter() {
            if let Some(names) = &draft.lanes {
                let ids = names.iter().map(|name| self.lane_or_new(name));
                lanes = ids.collect::<Outcome<_>>()?;
            }
            items.push(Item {
                json,
                people: &draft.people,
                lanes: Clone::clone(&lanes),
                deletes: draft.deletes.as_deref(),
                through: None,
            });
        }
        let first = self.place(&items)?;
        let accepted_at = self.now_ms();
        for (seq, (json, draft)) in (first..).zip(drafts.iter()) {
            for (lane, reason) in &draft.refused {
                self.bury(lane, seq, 0, accepted_at, reason, json)?;
            }
        }
        let mut events = Vec::with_capacity(drafts.len());
        let mut bytes = 0;
        for (seq, (_, draft)) in (first..).zip(drafts.iter()) {
            bytes += draft.loaded.weight();
            events.push(RecentEvent {
                seq,
                people: draft.people.clone(),
                bytes: draft.bytes,
                accepted_at: self.now,
                loaded: Arc::clone(&draft.loaded),
            });
        }
        self.recent.push(Arc::new(Recent { events, bytes }));
        Ok(first)
    }

    /// Gives events their places, and writes them: the place of the first.
    pub(super) fn place(&mut self, items: &[Item<'_>]) -> Outcome<Seq> {
        let first = self.state.last + 1;
        for (id, lane) in &mut self.state.lanes {
            let is_for = |item: &Item<'_>| item.lanes.contains(id);
            if !lane.is_attached && !items.iter().any(is_for) {
                continue;
            }
            let lane = Arc::make_mut(lane);
            for (seq, item) in (first..).zip(items) {
                if is_for(item) {
                    lane.marks.add_pending(seq);
                } else if lane.is_attached {
                    lane.marks.add_marked(seq);
                }
            }
        }
        let (mut from, mut rest) = (first, items);
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(self.in_a_chunk(rest));
            self.insert(from, chunk)?;
            from += chunk.len() as u64;
            rest = behind;
        }
        for (seq, item) in (first..).zip(items) {
            let Some(user_id) = item.deletes else {
                continue;
            };
            let is_for_nobody = item.lanes.is_empty();
            let sql = "INSERT INTO erasures(seq, user_id, is_for_nobody, through) \
                       VALUES(?1, ?2, ?3, ?4)";
            let mut statement = self.conn.prepare_cached(sql)?;
            let through = item.through.map(signed);
            statement.execute(params![signed(seq), user_id, is_for_nobody, through])?;
            self.state.owed += 1;
            if is_for_nobody {
                Arc::make_mut(&mut self.state.nobodys).insert(seq);
            }
        }
        self.state.last += items.len() as u64;
        Ok(first)
    }

    /// How many of these events the next chunk has: at least one.
    fn in_a_chunk(&self, items: &[Item<'_>]) -> usize {
        let mut bytes = 0_usize;
        let fits = |item: &&Item<'_>| {
            bytes = bytes.saturating_add(item.json.len()).saturating_add(1);
            bytes <= self.settings.chunk_bytes
        };
        let events = items.iter().take(self.settings.chunk_events);
        events.take_while(fits).count().max(1)
    }

    /// Writes a chunk.
    fn insert(&mut self, first: Seq, items: &[Item<'_>]) -> Outcome<()> {
        let bytes = items.iter().map(|item| item.json.len()).sum();
        let mut encoder = Encoder::new(first, items.len(), bytes);
        for (seq, item) in (first..).zip(items) {
            encoder.add(seq, item.json, item.people);
        }
        let chunk = encoder.finish();
        self.state.stored += chunk.events;
        let last = first + chunk.events.saturating_sub(1);
        table::insert(self.conn, first, last, self.now_ms(), &chunk)
    }

    /// Writes what has changed.
    pub(super) fn flush(&mut self) -> Outcome<()> {
        for (id, lane) in &mut self.state.lanes {
            let base = self.base.lanes.get(id);
            if base.is_some_and(|base| Arc::ptr_eq(base, lane)) {
                continue;
            }
            write_lane(self.conn, *id, Arc::make_mut(lane))?;
        }
        let (base, state) = (&self.base, &self.state);
        let keys = [
            ("last", base.last, state.last),
            ("stored", base.stored, state.stored),
            (
                "scrub",
                u64::from(base.must_scrub),
                u64::from(state.must_scrub),
            ),
        ];
        for (key, was, is) in keys {
            if was != is {
                let sql = "UPDATE meta SET value = ?2 WHERE key = ?1";
                let mut statement = self.conn.prepare_cached(sql)?;
                statement.execute(params![key, signed(is)])?;
            }
        }
        Ok(())
    }
}

fn write_lane(conn: &Connection, id: LaneId, lane: &mut Lane) -> Outcome<()> {
    let sql = "UPDATE lanes SET watermark = ?2, until = ?3, paused_until = ?4, delivered = ?5, \
               minute = ?6, this_minute = ?7, last_minute = ?8 WHERE id = ?1";
    conn.prepare_cached(sql)?.execute(params![
        id,
        signed(lane.marks.watermark()),
        (!lane.is_attached).then(|| signed(lane.marks.end())),
        lane.paused_until.map(|time| time.to_string()),
        signed(lane.delivered.total),
        lane.delivered.minute,
        signed(lane.delivered.current),
        signed(lane.delivered.previous),
    ])?;
    for (block, bits) in lane.marks.take_changes() {
        match bits {
            Some(bits) => {
                let sql = "INSERT INTO settled(lane, block, bits) VALUES(?1, ?2, ?3) \
                           ON CONFLICT DO UPDATE SET bits = excluded.bits";
                let mut statement = conn.prepare_cached(sql)?;
                statement.execute(params![id, signed(block), bits])?;
            }
            None => {
                let sql = "DELETE FROM settled WHERE lane = ?1 AND block = ?2";
                conn.prepare_cached(sql)?
                    .execute(params![id, signed(block)])?;
            }
        }
    }
    Ok(())
}

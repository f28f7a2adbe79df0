//! Forgets people: their events, and their dead letters, some at a time.
//!
//! A `delete` that some vendor has yet to hear of is kept, and so is one that
//! was refused: they hold nothing but the id, and without them the vendor would
//! never forget.

use std::{collections::HashMap, sync::Arc};

use analytics_spec::{Kind, event::Person};
use rusqlite::{OptionalExtension as _, params};

use super::{
    super::{Erased, Erasure, Seq},
    failure::Outcome,
    hash::Hasher,
    raw::Ids,
    state::{signed, unsigned},
    table,
    tx::Tx,
};

/// At most so many dead letters are forgotten in one transaction, and looked for
/// those of so many people.
const LETTERS: u64 = 1000;
const PEOPLE: usize = 500;

/// Somebody to forget.
#[derive(Clone, Debug)]
pub(super) struct Forgotten {
    user_id: Arc<str>,
    /// The hash of the user's id.
    hash: u64,
    /// Their events after this one are kept.
    through: Seq,
    /// The event that says so. One that was replayed stands after `through`.
    pub(super) asked_at: Seq,
}

/// An erasure under way: one transaction after the other. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(super) struct Erasing {
    pub(super) forgotten: Arc<[Forgotten]>,
    /// Where they stand among those, by the hash of the id.
    by_hash: Arc<HashMap<u64, Vec<usize>>>,
    stage: Stage,
    /// Whoever asked for it waits until nothing is left on the disk.
    pub(super) is_awaited: bool,
    /// The chunks up to the one that begins here are done.
    pub(super) after: Seq,
    pub(super) erased: Erased,
    pub(super) is_done: bool,
}

/// How far an erasure has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The dead letters of so many people are gone.
    Letters(usize),
    Events,
    /// So many people have been looked at once more, for what was refused
    /// meanwhile, and are erased.
    End(usize),
}

impl Erasing {
    pub(super) fn new(forgotten: Vec<Forgotten>, is_awaited: bool) -> Self {
        let mut by_hash: HashMap<_, Vec<_>> = HashMap::with_capacity(forgotten.len());
        for (at, one) in forgotten.iter().enumerate() {
            by_hash.entry(one.hash).or_default().push(at);
        }
        Self {
            forgotten: forgotten.into(),
            by_hash: Arc::new(by_hash),
            stage: Stage::Letters(0),
            is_awaited,
            after: 0,
            erased: Erased::default(),
            is_done: false,
        }
    }
}

impl Forgotten {
    /// Everything of a user up to a place.
    pub(super) fn through(hasher: &Hasher, user_id: &str, through: Seq) -> Self {
        Self {
            hash: hasher.person(Person::User(user_id)),
            user_id: user_id.into(),
            through,
            asked_at: through,
        }
    }
}

impl Tx<'_> {
    /// Those whose `delete` is settled everywhere, after this transaction.
    pub(super) fn take_due(&mut self) -> Outcome<Vec<Forgotten>> {
        self.find_nobodys();
        let mut due = Vec::new();
        for seq in std::mem::take(&mut self.maybe_due) {
            if self.state.owed == 0 || !self.state.is_settled(seq) {
                continue;
            }
            let sql = "SELECT user_id, coalesce(through, seq) FROM erasures WHERE seq = ?1";
            let mut statement = self.conn.prepare_cached(sql)?;
            let row: Option<(String, i64)> = statement
                .query_row([signed(seq)], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((user_id, through)) = row {
                let one = Forgotten::through(self.hasher, &user_id, unsigned(through)?);
                due.push(Forgotten {
                    asked_at: seq,
                    ..one
                });
            }
        }
        Ok(due)
    }

    /// A `delete` that is for nobody waits until every lane has come past it,
    /// as it would if it were for all of them.
    fn find_nobodys(&mut self) {
        let behind = self.state.attached_floor() + 1;
        if self
            .state
            .nobodys
            .first()
            .is_none_or(|first| *first >= behind)
        {
            return;
        }
        let nobodys = Arc::make_mut(&mut self.state.nobodys);
        let left = nobodys.split_off(&behind);
        self.maybe_due.extend(std::mem::replace(nobodys, left));
    }

    /// Looks at every erasure that is owed.
    pub(super) fn find_due(&mut self) -> Outcome<()> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT seq FROM erasures WHERE NOT is_for_nobody")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq = unsigned(row.get(0)?)?;
            if self.state.is_settled(seq) {
                self.maybe_due.push(seq);
            }
        }
        Ok(())
    }

    /// Goes on with an erasure, as far as one transaction goes.
    pub(super) fn erase(&mut self, erasing: &Erasing) -> Outcome<Erasing> {
        let mut erasing = erasing.clone();
        self.state.must_scrub = true;
        let people = erasing.forgotten.len();
        if let Stage::Letters(from) = erasing.stage {
            let next = self.erase_letters(&mut erasing, from)?;
            erasing.stage = Stage::Letters(next);
            if next < people {
                return Ok(erasing);
            }
            erasing.stage = Stage::Events;
        }
        if let Stage::Events = erasing.stage {
            if !self.erase_events(&mut erasing)? {
                return Ok(erasing);
            }
            erasing.stage = Stage::End(0);
        }
        if let Stage::End(from) = erasing.stage {
            let next = self.erase_letters(&mut erasing, from)?;
            for one in erasing.forgotten.get(from..next).unwrap_or_default() {
                self.is_erased(one)?;
            }
            // Also what is settled, and no longer in the file.
            self.forgets_recent = true;
            erasing.stage = Stage::End(next);
            erasing.is_done = next >= people;
        }
        if erasing.is_done {
            self.has_erased = true;
            self.scrubs |= erasing.is_awaited;
        }
        Ok(erasing)
    }

    /// Forgets dead letters of some people, from one of them on: who is next.
    fn erase_letters(&mut self, erasing: &mut Erasing, from: usize) -> Outcome<usize> {
        let (mut gone, mut next) = (0, from);
        for one in erasing.forgotten.iter().skip(from).take(PEOPLE) {
            // Mostly there is none.
            if self.state.dead_bytes > 0 {
                let condition = "id IN (SELECT id FROM dead_letters \
                                 WHERE (user_id = ?1 OR previous_user_id = ?1) AND seq <= ?2 \
                                 AND kind IS NOT ?3 LIMIT ?4)";
                gone += self.unbury(
                    condition,
                    params![
                        one.user_id,
                        signed(one.through),
                        Kind::Delete.as_str(),
                        signed(LETTERS - gone)
                    ],
                )?;
                if gone >= LETTERS {
                    break;
                }
            }
            next += 1;
        }
        erasing.erased.dead_letters += gone;
        Ok(next)
    }

    /// Takes events out of their chunks; whether these were the last.
    fn erase_events(&mut self, erasing: &mut Erasing) -> Outcome<bool> {
        let (forgotten, by_hash) = (Arc::clone(&erasing.forgotten), &erasing.by_hash);
        let until = forgotten.iter();
        let until = until.map(|one| one.through.max(one.asked_at)).max();
        let found = table::of_people(
            self.conn,
            erasing.after,
            until.unwrap_or(0),
            self.settings.erase_bytes,
            |hash| by_hash.contains_key(&hash),
        )?;
        self.forget_chunk();
        for first in found.chunks {
            let Some(chunk) = table::find(self.conn, first)? else {
                continue;
            };
            let mut gone = Vec::new();
            for record in &chunk.records {
                let candidates = record.people.iter().filter_map(|hash| by_hash.get(hash));
                let mut candidates = candidates
                    .flatten()
                    .filter_map(|at| forgotten.get(*at))
                    .filter(|one| record.seq <= one.through || record.seq == one.asked_at)
                    .peekable();
                if candidates.peek().is_none() {
                    continue;
                }
                let ids = Ids::read(&chunk.json(record));
                let is_awaited =
                    ids.kind == Some(Kind::Delete) && !self.state.is_settled(record.seq);
                if !is_awaited && candidates.any(|one| ids.is_of(&one.user_id)) {
                    gone.push(record.seq);
                }
            }
            if gone.is_empty() {
                continue;
            }
            self.forgets_recent = true;
            let kept = chunk.keep(|record| gone.binary_search(&record.seq).is_err());
            table::update(self.conn, first, &kept)?;
            self.state.stored = self.state.stored.saturating_sub(gone.len() as u64);
            erasing.erased.events += gone.len() as u64;
            let lanes: Vec<_> = self.state.lanes.keys().copied().collect();
            for seq in gone {
                for lane in &lanes {
                    self.finish(*lane, seq)?;
                }
            }
        }
        erasing.after = found.through;
        Ok(found.is_all)
    }

    /// A user is erased: nothing is owed for what has come to its end, and
    /// everybody is told.
    fn is_erased(&mut self, one: &Forgotten) -> Outcome<()> {
        let mut settled = Vec::new();
        {
            let sql =
                "SELECT seq FROM erasures WHERE user_id = ?1 AND coalesce(through, seq) <= ?2";
            let mut statement = self.conn.prepare_cached(sql)?;
            let mut rows = statement.query(params![one.user_id, signed(one.through)])?;
            while let Some(row) = rows.next()? {
                let seq = unsigned(row.get(0)?)?;
                if self.state.is_settled(seq) {
                    settled.push(seq);
                }
            }
        }
        for seq in settled {
            let sql = "DELETE FROM erasures WHERE seq = ?1";
            self.conn.prepare_cached(sql)?.execute([signed(seq)])?;
            self.state.owed = self.state.owed.saturating_sub(1);
        }
        // Once for each user, also if there was more than one `delete`.
        let told = self
            .erasures
            .iter_mut()
            .find(|told| told.user_id == one.user_id);
        match told {
            Some(told) => told.through = told.through.max(one.through),
            None => {
                let user_id = Arc::clone(&one.user_id);
                self.erasures
                    .push(Erasure::new(user_id, one.hash, one.through));
            }
        }
        Ok(())
    }
}

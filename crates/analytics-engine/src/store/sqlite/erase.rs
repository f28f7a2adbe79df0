//! Forgets people: their events, and their dead letters.

use std::{collections::HashMap, sync::Arc};

use analytics_spec::event::Person;
use rusqlite::{OptionalExtension as _, params};

use super::{
    super::{Erased, Erasure, Seq},
    failure::Outcome,
    raw::Ids,
    state::{signed, unsigned},
    table,
    tx::Tx,
};

/// Somebody to forget.
struct Forgotten {
    user_id: Arc<str>,
    /// Their events after this one are kept.
    through: Seq,
    /// The hash of the user's id.
    hash: u64,
}

impl Tx<'_> {
    /// Forgets everything of a user.
    pub(super) fn erase_all(&mut self, user_id: &str) -> Outcome<Erased> {
        let forgotten = self.forgotten(user_id.into(), self.state.last);
        let dead_letters =
            self.unbury("user_id = ?1 OR previous_user_id = ?1", params![user_id])?;
        let events = self.erase(vec![forgotten])?;
        self.scrubs = true;
        Ok(Erased::new(events, dead_letters))
    }

    /// Erases those whose `delete` is settled everywhere.
    pub(super) fn erase_due(&mut self) -> Outcome<()> {
        // What is erased may have been what another one waited for.
        loop {
            self.find_nobodys();
            if self.maybe_due.is_empty() {
                return Ok(());
            }
            self.erase_if_due()?;
        }
    }

    fn erase_if_due(&mut self) -> Outcome<()> {
        let mut due = Vec::new();
        for seq in std::mem::take(&mut self.maybe_due) {
            if self.state.owed == 0 || !self.state.is_settled(seq) {
                continue;
            }
            let sql = "SELECT user_id FROM erasures WHERE seq = ?1";
            let mut statement = self.conn.prepare_cached(sql)?;
            let user_id: Option<String> = statement
                .query_row([signed(seq)], |row| row.get(0))
                .optional()?;
            if let Some(user_id) = user_id {
                due.push(self.forgotten(user_id.into(), seq));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        for forgotten in &due {
            self.unbury(
                "(user_id = ?1 OR previous_user_id = ?1) AND seq < ?2",
                params![forgotten.user_id, signed(forgotten.through)],
            )?;
        }
        self.erase(due)?;
        Ok(())
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

    fn forgotten(&self, user_id: Arc<str>, through: Seq) -> Forgotten {
        Forgotten {
            hash: self.hasher.person(Person::User(&user_id)),
            user_id,
            through,
        }
    }

    /// Takes events out of their chunks: how many.
    fn erase(&mut self, forgotten: Vec<Forgotten>) -> Outcome<u64> {
        let mut by_hash: HashMap<u64, Vec<&Forgotten>> = HashMap::new();
        for one in &forgotten {
            by_hash.entry(one.hash).or_default().push(one);
        }
        let until = forgotten.iter().map(|one| one.through).max().unwrap_or(0);
        let chunks = table::of_people(self.conn, until, |hash| by_hash.contains_key(&hash))?;
        self.forget_chunk();
        let mut erased = 0;
        for first in chunks {
            let Some(chunk) = table::find(self.conn, first)? else {
                continue;
            };
            let mut gone = Vec::new();
            for record in &chunk.records {
                let candidates = record.people.iter().filter_map(|hash| by_hash.get(hash));
                let mut candidates = candidates
                    .flatten()
                    .filter(|one| record.seq <= one.through)
                    .peekable();
                if candidates.peek().is_none() {
                    continue;
                }
                let ids = Ids::read(&chunk.json(record));
                if candidates.any(|one| ids.is_of(&one.user_id)) {
                    gone.push(record.seq);
                }
            }
            if gone.is_empty() {
                continue;
            }
            let kept = chunk.keep(|record| gone.binary_search(&record.seq).is_err());
            table::update(self.conn, first, &kept)?;
            self.state.stored = self.state.stored.saturating_sub(gone.len() as u64);
            erased += gone.len() as u64;
            let lanes: Vec<_> = self.state.lanes.keys().copied().collect();
            for seq in gone {
                for lane in &lanes {
                    self.finish(*lane, seq)?;
                }
            }
        }
        for one in forgotten {
            let sql = "DELETE FROM erasures WHERE user_id = ?1 AND seq <= ?2";
            let mut statement = self.conn.prepare_cached(sql)?;
            let gone = statement.execute(params![one.user_id, signed(one.through)])?;
            self.state.owed = self.state.owed.saturating_sub(gone as u64);
            self.erasures
                .push(Erasure::new(one.user_id, one.hash, one.through));
        }
        self.has_erased = true;
        self.forgets_recent = true;
        self.state.must_scrub = true;
        Ok(erased)
    }
}

//! Which lanes there are, and what they have settled.

use std::sync::Arc;

use analytics_spec::Timestamp;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{
    super::{Resumed, Seq, Settlement},
    failure::{Failure, Outcome},
    state::{LaneId, signed},
    tx::Tx,
};

/// A row of `retries`.
#[derive(Serialize, Deserialize)]
pub(super) struct Waits {
    pub(super) not_before: Timestamp,
    #[serde(flatten)]
    pub(super) retries: analytics_spec::Retries,
}

impl Tx<'_> {
    /// Says which lanes there are from here on.
    pub(super) fn attach(&mut self, names: &[Arc<str>]) -> Outcome<Vec<Resumed>> {
        // Another engine's integrations have to see events to map them.
        self.forgets_recent = true;
        let gone = self
            .state
            .lanes
            .iter()
            .filter(|(_, lane)| lane.is_attached && !names.contains(&lane.name));
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(lane) = self.lane_mut(id) {
                lane.is_attached = false;
            }
        }
        let mut resumed = Vec::with_capacity(names.len());
        for name in names {
            let id = self.lane_or_new(name)?;
            let last = self.state.last;
            if self
                .state
                .lanes
                .get(&id)
                .is_some_and(|lane| !lane.is_attached)
                && let Some(lane) = self.lane_mut(id)
            {
                lane.is_attached = true;
                lane.marks.add_marked(last);
            }
            if let Some(lane) = self.state.lanes.get(&id) {
                let through = lane.marks.watermark();
                let is_retrying = lane.in_retry > 0;
                resumed.push(Resumed::new(through, lane.paused_until, is_retrying));
            }
        }
        Ok(resumed)
    }

    /// Forgets a lane that is no longer attached: how many events were pending.
    pub(super) fn purge_lane(&mut self, name: &str) -> Outcome<u64> {
        let Some((id, lane)) = self.state.lane(name) else {
            return Ok(0);
        };
        if lane.is_attached {
            let failure = Failure::configuration(format!(
                "cannot forget {name}: it is attached; start the engine without it first"
            ));
            return Err(Failure {
                is_askers: true,
                ..failure
            });
        }
        let pending = lane.marks.pending();
        self.state.lanes.remove(&id);
        for sql in [
            "DELETE FROM lanes WHERE id = ?1",
            "DELETE FROM settled WHERE lane = ?1",
            "DELETE FROM retries WHERE lane = ?1",
        ] {
            self.conn.prepare_cached(sql)?.execute([id])?;
        }
        if self.state.owed > 0 {
            self.find_due()?;
        }
        Ok(pending)
    }

    /// Keeps how attempts ended.
    pub(super) fn settle(
        &mut self,
        name: &str,
        settlements: &[(Seq, Settlement)],
        paused_until: Option<Timestamp>,
    ) -> Outcome<()> {
        let Some((id, lane)) = self.state.lane(name) else {
            return Ok(());
        };
        let name = Arc::clone(&lane.name);
        let mut delivered = 0;
        for (seq, settlement) in settlements {
            match settlement {
                Settlement::Retry {
                    not_before,
                    retries,
                } => {
                    let waits = Waits {
                        not_before: *not_before,
                        retries: *retries,
                    };
                    self.retry(id, *seq, &waits)?;
                    continue;
                }
                Settlement::Delivered => {
                    if !self.finish(id, *seq)? {
                        continue;
                    }
                    delivered += 1;
                }
                Settlement::Refused { reason, attempts } => {
                    if !self.finish(id, *seq)? {
                        continue;
                    }
                    let (json, accepted_at) = self.json(*seq)?;
                    self.bury(&name, *seq, *attempts, accepted_at, reason, &json)?;
                }
            }
            if self.state.owed > 0 {
                self.maybe_due.push(*seq);
            }
        }
        let now = self.now;
        if let Some(lane) = self.lane_mut(id) {
            lane.paused_until = paused_until;
            if delivered > 0 {
                lane.delivered.count(delivered, now);
            }
        }
        Ok(())
    }

    fn json(&mut self, seq: Seq) -> Outcome<(bytes::Bytes, i64)> {
        let chunk = self.chunk(seq)?;
        let found = chunk.and_then(|chunk| {
            let record = chunk.record(seq)?;
            Some((chunk.json(record), chunk.accepted_at))
        });
        found.ok_or_else(|| missing(seq))
    }

    /// Marks an event as settled at a lane; whether it was not before.
    pub(super) fn finish(&mut self, id: LaneId, seq: Seq) -> Outcome<bool> {
        let conn = self.conn;
        let Some(lane) = self.lane_mut(id) else {
            return Ok(false);
        };
        if !lane.marks.mark(seq) {
            return Ok(false);
        }
        if lane.in_retry > 0 && seq <= lane.retried_through {
            let sql = "DELETE FROM retries WHERE lane = ?1 AND seq = ?2";
            let gone = conn
                .prepare_cached(sql)?
                .execute(params![id, signed(seq)])?;
            lane.in_retry = lane.in_retry.saturating_sub(gone as u64);
            if lane.in_retry == 0 {
                lane.retried_through = 0;
            }
        }
        Ok(true)
    }

    fn retry(&mut self, id: LaneId, seq: Seq, waits: &Waits) -> Outcome<()> {
        let conn = self.conn;
        let Some(lane) = self.lane_mut(id) else {
            return Ok(());
        };
        if lane.marks.has(seq) {
            return Ok(());
        }
        let state = serde_json::to_string(waits).map_err(|error| {
            Failure::new(
                analytics_spec::ErrorKind::Internal,
                format!("cannot write down a retry: {error}"),
            )
        })?;
        let sql = "UPDATE retries SET state = ?3 WHERE lane = ?1 AND seq = ?2";
        let is_there = conn
            .prepare_cached(sql)?
            .execute(params![id, signed(seq), state])?;
        if is_there == 0 {
            let sql = "INSERT INTO retries(lane, seq, state) VALUES(?1, ?2, ?3)";
            conn.prepare_cached(sql)?
                .execute(params![id, signed(seq), state])?;
            lane.in_retry += 1;
            lane.retried_through = lane.retried_through.max(seq);
        }
        Ok(())
    }
}

/// An event that is pending and nowhere.
pub(super) fn missing(seq: Seq) -> Failure {
    Failure::corrupt(format!("the event {seq} is missing in the table chunks"))
}

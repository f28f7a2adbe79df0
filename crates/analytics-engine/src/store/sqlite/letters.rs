//! The rows of dead letters.

use std::sync::Arc;

use analytics_spec::{Kind, Timestamp};
use rusqlite::{
    Connection, OptionalExtension as _, Row, ToSql, params, params_from_iter,
    types::{ToSqlOutput, Value as Column, ValueRef},
};
use serde_json::value::RawValue;
use smallvec::smallvec;

use super::{
    super::{DeadLetter, DeadLetterId, Filter, Reason, Replayed, Seq},
    failure::{Failure, Outcome},
    raw::{self, Ids},
    state::{signed, unsigned},
    tx::{Item, Tx},
};

/// At most so many dead letters are replayed or purged in one transaction.
const PAGE: usize = 256;

/// Those whose numbers are in a JSON array.
const CHOSEN: &str = "id IN (SELECT value FROM json_each(?1))";

/// Dead letters by their numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    after: DeadLetterId,
    /// Up to the last that there was at first.
    through: Option<DeadLetterId>,
}

impl Tx<'_> {
    /// Keeps an event that a lane will never accept.
    pub(super) fn bury(
        &mut self,
        lane: &Arc<str>,
        seq: Seq,
        attempts: u32,
        accepted_at: i64,
        reason: &Reason,
        json: &[u8],
    ) -> Outcome<()> {
        let ids = Ids::read(json);
        let reason = serde_json::to_string(&reason.cut()).map_err(|error| unwritable(&error))?;
        // As it is, also if nobody can read it.
        let input = match std::str::from_utf8(json) {
            Ok(text) => ValueRef::Text(text.as_bytes()),
            Err(_) => ValueRef::Blob(json),
        };
        let bytes = (json.len() + reason.len()) as u64;
        let through = self.erases_through(seq, ids.kind)?;
        let sql = "INSERT INTO dead_letters(lane, seq, bytes, kind, user_id, previous_user_id, \
                   attempts, accepted_at, refused_at, message_id, reason, input, through) \
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        self.conn.prepare_cached(sql)?.execute(params![
            lane,
            signed(seq),
            signed(bytes),
            ids.kind.map(Kind::as_str),
            ids.user_id,
            ids.previous_user_id,
            attempts,
            accepted_at,
            self.now_ms(),
            ids.message_id,
            reason,
            ToSqlOutput::Borrowed(input),
            through
        ])?;
        *self.state.dead.entry(Arc::clone(lane)).or_default() += 1;
        self.state.dead_bytes += bytes;
        Ok(())
    }

    /// Up to where a `delete` that was replayed erases.
    fn erases_through(&self, seq: Seq, kind: Option<Kind>) -> Outcome<Option<i64>> {
        if kind != Some(Kind::Delete) {
            return Ok(None);
        }
        let sql = "SELECT through FROM erasures WHERE seq = ?1";
        let mut statement = self.conn.prepare_cached(sql)?;
        let through = statement
            .query_row([signed(seq)], |row| row.get(0))
            .optional()?;
        Ok(through.flatten())
    }

    /// Deletes the dead letters for which a condition holds: how many.
    pub(super) fn unbury(&mut self, condition: &str, values: &[&dyn ToSql]) -> Outcome<u64> {
        let sql = format!("DELETE FROM dead_letters WHERE {condition} RETURNING lane, bytes");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query(values)?;
        let mut gone = 0;
        while let Some(row) = rows.next()? {
            let lane: String = row.get(0)?;
            let bytes = unsigned(row.get(1)?)?;
            if let Some(dead) = self.state.dead.get_mut(lane.as_str()) {
                *dead = dead.saturating_sub(1);
            }
            self.state.dead_bytes = self.state.dead_bytes.saturating_sub(bytes);
            gone += 1;
        }
        Ok(gone)
    }

    /// Forgets some: how many, and which are next.
    pub(super) fn purge(&mut self, filter: &Filter, span: Span) -> Outcome<(u64, Option<Span>)> {
        let (ids, next) = self.choose(filter, span)?;
        let gone = self.unbury(CHOSEN, params![ids])?;
        // What was refused is data of people as well.
        self.state.must_scrub |= gone > 0;
        Ok((gone, next))
    }

    /// Accepts some once more, and says which are next.
    pub(super) fn replay(
        &mut self,
        filter: &Filter,
        span: Span,
    ) -> Outcome<(Replayed, Option<Span>)> {
        let (ids, next) = self.choose(filter, span)?;
        let letters = replays(self.conn, &ids)?;
        let people = letters.iter();
        let people: Vec<_> = people
            .map(|letter| raw::people(&letter.input, self.hasher))
            .collect();
        let mut replayed = Replayed::default();
        let mut items = Vec::with_capacity(letters.len());
        for (letter, people) in letters.iter().zip(&people) {
            let lane = self.lane_or_new(&letter.lane)?;
            let lane_is = self.state.lanes.get(&lane);
            replayed.detached += u64::from(lane_is.is_some_and(|lane| !lane.is_attached));
            let is_delete = letter.kind.as_deref() == Some(Kind::Delete.as_str());
            items.push(Item {
                json: &letter.input,
                people,
                lanes: smallvec![lane],
                deletes: letter.user_id.as_deref().filter(|_| is_delete),
                through: Some(letter.through),
            });
        }
        self.place(&items)?;
        replayed.events = self.unbury(CHOSEN, params![ids])?;
        self.forgets_recent |= replayed.events > 0;
        Ok((replayed, next))
    }

    /// As many as go into one transaction, as a JSON array, and where the next
    /// ones are.
    fn choose(&self, filter: &Filter, span: Span) -> Outcome<(String, Option<Span>)> {
        let through = match span.through {
            Some(through) => through,
            // What is refused from now on is not meant.
            None => {
                let sql = "SELECT coalesce(max(id), 0) FROM dead_letters";
                unsigned(self.conn.query_row(sql, [], |row| row.get(0))?)?
            }
        };
        let (condition, mut values) = condition(filter, span.after);
        values.push(Column::Integer(signed(through)));
        let sql = format!(
            "SELECT id, bytes FROM dead_letters WHERE {condition} AND id <= ?{} ORDER BY id",
            values.len()
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut ids, mut bytes, mut next) = (Vec::new(), 0, None);
        while let Some(row) = rows.next()? {
            if ids.len() >= PAGE || bytes > self.settings.erase_bytes as u64 {
                let after = ids.last().copied().unwrap_or_default();
                next = Some(Span {
                    after,
                    through: Some(through),
                });
                break;
            }
            ids.push(unsigned(row.get(0)?)?);
            bytes += unsigned(row.get(1)?)?;
        }
        Ok((json_array(&ids), next))
    }

    /// Forgets what is too old: how many.
    pub(super) fn expire(&mut self) -> Outcome<u64> {
        let Some(age) = self.settings.letters_age else {
            return Ok(0);
        };
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = self.now_ms().saturating_sub(age);
        let condition = "id IN (SELECT id FROM dead_letters WHERE refused_at < ?1 \
                         ORDER BY refused_at LIMIT 1000)";
        self.unbury(condition, params![before])
    }

    /// Forgets the oldest, as long as there are too many.
    pub(super) fn shrink(&mut self) -> Outcome<()> {
        while self.state.dead_bytes > self.settings.letters_bytes {
            let surplus = self.state.dead_bytes - self.settings.letters_bytes;
            // As many of the oldest as make up the surplus.
            let condition = "id IN (SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes \
                             AS before FROM (SELECT id, bytes FROM dead_letters ORDER BY id LIMIT 1000)) \
                             WHERE before < ?1)";
            let now = self.unbury(condition, params![signed(surplus)])?;
            if now == 0 {
                break;
            }
            self.crowded_out += now;
        }
        Ok(())
    }
}

/// Dead letters after a number, by their number.
pub(super) fn page(
    conn: &Connection,
    filter: &Filter,
    after: DeadLetterId,
    limit: usize,
) -> Outcome<Vec<DeadLetter>> {
    let (condition, mut values) = condition(filter, after);
    values.push(Column::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT id, lane, seq, message_id, kind, user_id, attempts, accepted_at, refused_at, \
         reason, input FROM dead_letters WHERE {condition} ORDER BY id LIMIT ?{}",
        values.len()
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(read(row)?);
    }
    Ok(letters)
}

/// A dead letter on its way back.
struct Replay {
    lane: Arc<str>,
    kind: Option<String>,
    user_id: Option<String>,
    input: Vec<u8>,
    /// Up to where it erases, if it is a `delete`: whatever came after its
    /// first place is of a user who came back.
    through: Seq,
}

/// Dead letters as they are replayed.
fn replays(conn: &Connection, ids: &str) -> Outcome<Vec<Replay>> {
    let sql = format!(
        "SELECT lane, kind, user_id, input, coalesce(through, seq) FROM dead_letters \
         WHERE {CHOSEN} ORDER BY id"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([ids])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let lane: String = row.get(0)?;
        letters.push(Replay {
            lane: lane.into(),
            kind: row.get(1)?,
            user_id: row.get(2)?,
            input: bytes(row, 3)?.to_vec(),
            through: unsigned(row.get(4)?)?,
        });
    }
    Ok(letters)
}

/// A column of text, or of what is not even that.
fn bytes<'a>(row: &'a Row<'_>, at: usize) -> Outcome<&'a [u8]> {
    row.get_ref(at)?.as_bytes().map_err(Failure::corrupt)
}

/// An event as it was accepted; a JSON string, if it is no JSON.
fn event(input: &[u8]) -> serde_json::Result<Box<RawValue>> {
    let text = String::from_utf8_lossy(input);
    RawValue::from_string(text.clone().into_owned())
        .or_else(|_| serde_json::value::to_raw_value(&text))
}

fn read(row: &Row<'_>) -> Outcome<DeadLetter> {
    let id = unsigned(row.get(0)?)?;
    let damaged = |what: &str| Failure::corrupt(format!("the {what} of the dead letter {id}"));
    let time = |at: usize, what| {
        let time = Timestamp::from_millisecond(row.get(at)?);
        time.map_err(|_| damaged(what))
    };
    let kind: Option<String> = row.get(4)?;
    let reason: String = row.get(9)?;
    Ok(DeadLetter {
        id,
        integration: row.get(1)?,
        seq: unsigned(row.get(2)?)?,
        message_id: row.get(3)?,
        kind: kind.and_then(|kind| Kind::from_key(&kind)),
        user_id: row.get(5)?,
        attempts: row.get(6)?,
        accepted_at: time(7, "time of acceptance")?,
        refused_at: time(8, "time of refusal")?,
        reason: serde_json::from_str(&reason).map_err(|_| damaged("reason"))?,
        input: event(bytes(row, 10)?).map_err(|_| damaged("event"))?,
    })
}

fn condition(filter: &Filter, after: DeadLetterId) -> (String, Vec<Column>) {
    let mut condition = String::from("id > ?1");
    let mut values = vec![Column::Integer(signed(after))];
    let mut and = |sql: &str, value: Column| {
        values.push(value);
        condition.push_str(&format!(" AND {sql} ?{}", values.len()));
    };
    if let Some(integration) = &filter.integration {
        and("lane =", Column::Text(integration.clone()));
    }
    if let Some(kind) = filter.kind {
        and("kind =", Column::Text(kind.as_str().into()));
    }
    if let Some(since) = filter.since {
        and("refused_at >=", Column::Integer(ceil_ms(since)));
    }
    if let Some(user_id) = &filter.user_id {
        // In an alias, also the previous one.
        values.push(Column::Text(user_id.clone()));
        let nth = values.len();
        condition.push_str(&format!(
            " AND (user_id = ?{nth} OR previous_user_id = ?{nth})"
        ));
    }
    if !filter.ids.is_empty() {
        // One text, however many they are.
        values.push(Column::Text(json_array(&filter.ids)));
        let nth = values.len();
        condition.push_str(&format!(" AND id IN (SELECT value FROM json_each(?{nth}))"));
    }
    (condition, values)
}

fn json_array(ids: &[DeadLetterId]) -> String {
    let ids: Vec<i64> = ids.iter().map(|id| signed(*id)).collect();
    serde_json::to_string(&ids).unwrap_or_default()
}

/// Milliseconds since 1970, the next ones.
fn ceil_ms(time: Timestamp) -> i64 {
    let ms = time.as_millisecond();
    ms + i64::from(time.as_nanosecond() > i128::from(ms) * 1_000_000)
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::new(
        analytics_spec::ErrorKind::Internal,
        format!("cannot write down a dead letter: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_not_before() {
        let at = |ns| Timestamp::from_nanosecond(ns).unwrap();
        assert_eq!(ceil_ms(at(1_000_000)), 1);
        assert_eq!(ceil_ms(at(1_000_001)), 2);
    }
}

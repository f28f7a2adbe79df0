//! Makes room: chunks that nobody needs any more, and chunks of which little
//! is needed.

use super::{super::Seq, failure::Outcome, table, tx::Tx};

/// At most so much is freed in one transaction, for what is freed is written
/// over.
const TRIM_BYTES: u64 = 8 * 1024 * 1024;

/// At most so many rows.
const TRIM_ROWS: usize = 2048;

impl Tx<'_> {
    /// Deletes chunks in which everything is settled everywhere; whether there
    /// are more of them.
    pub(super) fn trim(&mut self) -> Outcome<bool> {
        let floor = self.state.floor();
        let spans = table::spans(self.conn, 0, floor, TRIM_ROWS)?;
        let is_all = spans.len() < TRIM_ROWS;
        let mut bytes = 0;
        for span in spans {
            if span.last > floor {
                return Ok(false);
            }
            if bytes > TRIM_BYTES {
                return Ok(true);
            }
            table::delete(self.conn, span.first)?;
            self.state.stored = self.state.stored.saturating_sub(span.events);
            bytes += span.bytes;
        }
        Ok(!is_all)
    }

    /// Takes what is settled everywhere out of the chunks after `after`, as far
    /// as one transaction goes: how far it came, and whether that is the end.
    pub(super) fn compact(&mut self, after: Seq) -> Outcome<(Seq, bool)> {
        let spans = table::spans(self.conn, after, self.state.last, TRIM_ROWS)?;
        let is_all = spans.len() < TRIM_ROWS;
        let (mut bytes, mut through) = (0, after);
        for span in spans {
            if bytes > TRIM_BYTES {
                return Ok((through, false));
            }
            through = span.first;
            let live = (span.first..=span.last).filter(|seq| !self.state.is_settled(*seq));
            let live = live.count() as u64;
            // Rewriting a chunk for a little is not worth it.
            if live.saturating_mul(4) > span.events.saturating_mul(3) {
                continue;
            }
            bytes += span.bytes;
            let left = if live == 0 {
                table::delete(self.conn, span.first)?;
                0
            } else {
                let Some(chunk) = table::find(self.conn, span.first)? else {
                    continue;
                };
                let state = &self.state;
                let kept = chunk.keep(|record| !state.is_settled(record.seq));
                table::update(self.conn, span.first, &kept)?;
                kept.events
            };
            let gone = span.events.saturating_sub(left);
            self.state.stored = self.state.stored.saturating_sub(gone);
        }
        self.forget_chunk();
        Ok((through, is_all))
    }
}

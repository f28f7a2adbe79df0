//! A chunk: events that were accepted together, in one row.
//!
//! The *body* is their JSON, one a line. The *head* says where each lies and
//! whose it is, in numbers of one to ten bytes (LEB128): how many records; of
//! each, its place after the one before, the length of its JSON, how many
//! people, and their hashes of eight bytes; and the head's checksum.

use bytes::Bytes;

use super::super::{People, Seq};

/// An event in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: Seq,
    /// Where its JSON begins in the body.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) people: People,
}

/// A chunk as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Milliseconds since 1970.
    pub(super) accepted_at: i64,
    pub(super) records: Vec<Record>,
    pub(super) body: Bytes,
}

impl Chunk {
    pub(super) fn json(&self, record: &Record) -> Bytes {
        let end = record.start + record.len;
        if end > self.body.len() {
            return Bytes::new();
        }
        self.body.slice(record.start..end)
    }

    pub(super) fn record(&self, seq: Seq) -> Option<&Record> {
        let at = self.records.binary_search_by_key(&seq, |r| r.seq).ok()?;
        self.records.get(at)
    }

    /// The same chunk with some of its events.
    pub(super) fn keep(&self, keeps: impl Fn(&Record) -> bool) -> Encoded {
        let mut encoder = Encoder::new(self.first, self.records.len(), self.body.len());
        for record in self.records.iter().filter(|record| keeps(record)) {
            encoder.add(record.seq, &self.json(record), &record.people);
        }
        encoder.finish()
    }
}

/// A chunk on its way into its row.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) events: u64,
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) crc: u32,
}

/// What a record takes in the head: that of an event of one person.
const RECORD: usize = 12;

/// Puts a chunk together.
#[derive(Debug)]
pub(super) struct Encoder {
    previous: Seq,
    events: u64,
    records: Vec<u8>,
    body: Vec<u8>,
}

impl Encoder {
    /// For about so many events, and bytes of their JSON.
    pub(super) fn new(first: Seq, events: usize, bytes: usize) -> Self {
        Self {
            previous: first,
            events: 0,
            records: Vec::with_capacity(events.saturating_mul(RECORD)),
            body: Vec::with_capacity(bytes.saturating_add(events)),
        }
    }

    pub(super) fn add(&mut self, seq: Seq, json: &[u8], people: &People) {
        if self.events > 0 {
            self.body.push(b'\n');
        }
        put(&mut self.records, seq.saturating_sub(self.previous));
        put(&mut self.records, json.len() as u64);
        put(&mut self.records, people.len() as u64);
        for person in people {
            self.records.extend_from_slice(&person.to_le_bytes());
        }
        self.body.extend_from_slice(json);
        self.previous = seq;
        self.events += 1;
    }

    pub(super) fn finish(self) -> Encoded {
        let mut head = Vec::with_capacity(self.records.len() + 8);
        put(&mut head, self.events);
        head.extend_from_slice(&self.records);
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        Encoded {
            events: self.events,
            crc: checksum(&head, &self.body),
            head,
            body: self.body,
        }
    }
}

/// Of a row.
pub(super) fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

/// The records that a head tells; `None` if it is not one.
pub(super) fn decode(first: Seq, last: Seq, head: &[u8], body_len: usize) -> Option<Vec<Record>> {
    let (told, crc) = head.split_at_checked(head.len().checked_sub(4)?)?;
    if crc32fast::hash(told).to_le_bytes() != crc {
        return None;
    }
    let mut head = told;
    let events = usize::try_from(take(&mut head)?).ok()?;
    // A record has three bytes at least.
    if events > head.len() / 3 + 1 {
        return None;
    }
    let mut records = Vec::with_capacity(events);
    let (mut seq, mut start) = (first, 0_usize);
    for at in 0..events {
        let gap = take(&mut head)?;
        let len = usize::try_from(take(&mut head)?).ok()?;
        let people = usize::try_from(take(&mut head)?).ok()?;
        let (hashes, rest) = head.split_at_checked(people.checked_mul(8)?)?;
        head = rest;
        seq = seq.checked_add(gap)?;
        if at > 0 {
            start = start.checked_add(1)?;
            if gap == 0 {
                return None;
            }
        }
        let hash = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        records.push(Record {
            seq,
            start,
            len,
            people: hashes.chunks_exact(8).map(hash).collect::<Option<_>>()?,
        });
        start = start.checked_add(len)?;
    }
    let is_whole = head.is_empty() && start == body_len && seq <= last;
    is_whole.then_some(records)
}

fn put(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Event = (u64, Vec<u8>, Vec<u64>);

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = (
            1..300_u64,
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(any::<u64>(), 0..5),
        );
        prop::collection::vec(event, 0..20)
    }

    fn chunk(first: Seq, events: &[Event]) -> (Chunk, Encoded) {
        let mut encoder = Encoder::new(first, 0, 0);
        let mut seq = first - 1;
        for (gap, json, people) in events {
            seq += gap;
            encoder.add(seq, json, &people.iter().copied().collect());
        }
        let encoded = encoder.finish();
        let last = seq.max(first);
        let chunk = Chunk {
            first,
            last,
            accepted_at: 0,
            records: decode(first, last, &encoded.head, encoded.body.len()).unwrap(),
            body: encoded.body.clone().into(),
        };
        (chunk, encoded)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(first in prop_oneof![Just(1_u64), 1..u64::MAX / 2], events in events()) {
            let (chunk, encoded) = chunk(first, &events);
            prop_assert_eq!(encoded.events, events.len() as u64);
            prop_assert_eq!(chunk.records.len(), events.len());
            let mut seq = first - 1;
            for (record, (gap, json, people)) in chunk.records.iter().zip(&events) {
                seq += gap;
                prop_assert_eq!(record.seq, seq);
                prop_assert_eq!(&chunk.json(record)[..], &json[..]);
                prop_assert_eq!(record.people.to_vec(), people.clone());
                prop_assert_eq!(chunk.record(seq), Some(record));
            }
        }

        #[test]
        fn some_are_kept(events in events(), every in 1..4_u64) {
            let (chunk, _) = chunk(7, &events);
            let kept = chunk.keep(|record| record.seq % every == 0);
            let records = decode(chunk.first, chunk.last, &kept.head, kept.body.len()).unwrap();
            let expected: Vec<_> = chunk.records.iter().filter(|r| r.seq % every == 0).collect();
            prop_assert_eq!(records.len(), expected.len());
            for (record, expected) in records.iter().zip(expected) {
                prop_assert_eq!((record.seq, &record.people), (expected.seq, &expected.people));
                prop_assert_eq!(&kept.body[record.start..record.start + record.len], &chunk.json(expected)[..]);
            }
        }

        #[test]
        fn what_is_cut_or_changed_is_refused(events in events(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let (chunk, mut encoded) = chunk(7, &events);
            let len = encoded.body.len();
            let cut = &encoded.head[..at.index(encoded.head.len())];
            prop_assert_eq!(decode(7, chunk.last, cut, len), None);
            prop_assert_eq!(decode(7, chunk.last, &encoded.head, len + 1), None);
            let changed = at.index(encoded.head.len());
            encoded.head[changed] ^= flip;
            prop_assert_eq!(decode(7, chunk.last, &encoded.head, len), None);
        }

        #[test]
        fn garbage_is_refused(mut garbage in prop::collection::vec(any::<u8>(), 0..200), body_len in 0..1000_usize) {
            prop_assert_eq!(decode(1, u64::MAX, &garbage, body_len), None);
            // Also under a checksum that fits, which must not panic.
            garbage.extend_from_slice(&crc32fast::hash(&garbage).to_le_bytes());
            let _ = decode(u64::MAX - 1, u64::MAX, &garbage, body_len);
        }
    }
}

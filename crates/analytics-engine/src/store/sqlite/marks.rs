//! What a lane has settled: everything up to a watermark, and a bitmap of what
//! is settled above it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::super::Seq;

/// So many places share a row.
pub(super) const BLOCK: u64 = 4096;

const WORDS: usize = (BLOCK / 64) as usize;

/// The places that a lane has settled, or was never to be given. Those after
/// `end` are not its business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    watermark: Seq,
    end: Seq,
    blocks: BTreeMap<u64, Block>,
    /// How many places after the watermark are marked.
    above: u64,
    /// Blocks that differ from their rows.
    dirty: BTreeSet<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    Full,
    Bits(Arc<Bits>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits {
    words: [u64; WORDS],
    ones: u64,
}

/// What is to be written of a block; `None`: nothing any more.
pub(super) type Change = (u64, Option<Vec<u8>>);

impl Bits {
    fn empty() -> Self {
        Self {
            words: [0; WORDS],
            ones: 0,
        }
    }

    fn has(&self, bit: u64) -> bool {
        let word = self.words.get((bit / 64) as usize).copied();
        word.unwrap_or_default() & (1 << (bit % 64)) != 0
    }

    fn set(&mut self, bit: u64) -> bool {
        let Some(word) = self.words.get_mut((bit / 64) as usize) else {
            return false;
        };
        let is_new = *word & (1 << (bit % 64)) == 0;
        *word |= 1 << (bit % 64);
        self.ones += u64::from(is_new);
        is_new
    }

    /// The first bit from `from` on that is not set.
    fn first_zero(&self, from: u64) -> Option<u64> {
        let start = (from / 64) as usize;
        let mut skipped = !(u64::MAX << (from % 64));
        for (at, word) in self.words.iter().enumerate().skip(start) {
            let unset = !(word | skipped);
            skipped = 0;
            if unset != 0 {
                return Some(at as u64 * 64 + u64::from(unset.trailing_zeros()));
            }
        }
        None
    }
}

impl Block {
    fn has(&self, bit: u64) -> bool {
        match self {
            Self::Full => true,
            Self::Bits(bits) => bits.has(bit),
        }
    }

    fn set(&mut self, bit: u64) -> bool {
        let Self::Bits(bits) = self else { return false };
        let bits = Arc::make_mut(bits);
        let is_new = bits.set(bit);
        if bits.ones == BLOCK {
            *self = Self::Full;
        }
        is_new
    }

    fn first_zero(&self, from: u64) -> Option<u64> {
        match self {
            Self::Full => None,
            Self::Bits(bits) => bits.first_zero(from),
        }
    }

    /// A full block is written as nothing at all.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Full => Vec::new(),
            Self::Bits(bits) => bits.words.iter().flat_map(|w| w.to_le_bytes()).collect(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Full);
        }
        if bytes.len() != WORDS * 8 {
            return None;
        }
        let mut bits = Bits::empty();
        for (word, bytes) in bits.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        bits.ones = bits.words.iter().map(|w| u64::from(w.count_ones())).sum();
        Some(Self::Bits(Arc::new(bits)))
    }
}

impl Marks {
    /// Of a lane that is given what comes after `at`.
    pub(super) fn new(at: Seq) -> Self {
        Self {
            watermark: at,
            end: at,
            blocks: BTreeMap::new(),
            above: 0,
            dirty: BTreeSet::new(),
        }
    }

    /// As they were written; `None` if that cannot be.
    pub(super) fn load(watermark: Seq, end: Seq, rows: Vec<(u64, Vec<u8>)>) -> Option<Self> {
        if watermark > end {
            return None;
        }
        let mut marks = Self {
            end,
            ..Self::new(watermark)
        };
        for (number, bytes) in rows {
            let block = Block::from_bytes(&bytes)?;
            let first = number.checked_mul(BLOCK)?;
            let bits = (0..BLOCK).filter(|bit| block.has(*bit));
            let mut above = 0;
            for bit in bits {
                let seq = first.checked_add(bit)?;
                if seq > end {
                    return None;
                }
                above += u64::from(seq > watermark);
            }
            marks.above += above;
            if above > 0 {
                marks.blocks.insert(number, block);
            }
        }
        marks.advance();
        Some(marks)
    }

    /// Everything up to here is settled.
    pub(super) fn watermark(&self) -> Seq {
        self.watermark
    }

    /// The last place that is the lane's business.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// How many places are not marked.
    pub(super) fn pending(&self) -> u64 {
        self.end - self.watermark - self.above
    }

    /// Whether a place is marked, or not the lane's business.
    pub(super) fn has(&self, seq: Seq) -> bool {
        if seq <= self.watermark || seq > self.end {
            return true;
        }
        let block = self.blocks.get(&(seq / BLOCK));
        block.is_some_and(|block| block.has(seq % BLOCK))
    }

    /// The first place after `after` that is not marked.
    pub(super) fn next_pending(&self, after: Seq) -> Option<Seq> {
        let mut seq = after.max(self.watermark).checked_add(1)?;
        while seq <= self.end {
            let number = seq / BLOCK;
            let Some(block) = self.blocks.get(&number) else {
                return Some(seq);
            };
            match block.first_zero(seq % BLOCK) {
                Some(bit) => {
                    let seq = number * BLOCK + bit;
                    return (seq <= self.end).then_some(seq);
                }
                None => seq = (number + 1) * BLOCK,
            }
        }
        None
    }

    /// Adds a place that is to be settled; what lies between the end and it is
    /// marked.
    pub(super) fn add_pending(&mut self, seq: Seq) {
        if seq <= self.end {
            return;
        }
        self.add_marked(seq - 1);
        self.end = seq;
    }

    /// Adds places up to here that need not be settled.
    pub(super) fn add_marked(&mut self, through: Seq) {
        if through <= self.end {
            return;
        }
        if self.pending() == 0 {
            self.end = through;
            self.watermark = through;
            self.forget_blocks();
            return;
        }
        let mut seq = self.end + 1;
        self.end = through;
        while seq <= through {
            let number = seq / BLOCK;
            let until = (number + 1) * BLOCK - 1;
            if seq.is_multiple_of(BLOCK) && until <= through {
                self.blocks.insert(number, Block::Full);
                self.above += BLOCK;
            } else {
                for seq in seq..=until.min(through) {
                    self.set(seq);
                }
            }
            self.dirty.insert(number);
            seq = until + 1;
        }
    }

    /// Marks a place; whether it was not marked before.
    pub(super) fn mark(&mut self, seq: Seq) -> bool {
        if seq <= self.watermark || seq > self.end {
            return false;
        }
        if seq == self.watermark + 1 && self.above == 0 {
            self.watermark = seq;
            return true;
        }
        if !self.set(seq) {
            return false;
        }
        if seq == self.watermark + 1 {
            self.advance();
        }
        true
    }

    fn set(&mut self, seq: Seq) -> bool {
        let number = seq / BLOCK;
        let empty = || Block::Bits(Arc::new(Bits::empty()));
        let block = self.blocks.entry(number).or_insert_with(empty);
        let is_new = block.set(seq % BLOCK);
        if is_new {
            self.above += 1;
            self.dirty.insert(number);
        }
        is_new
    }

    /// Moves the watermark as far as everything is marked.
    fn advance(&mut self) {
        let to = self
            .next_pending(self.watermark)
            .map_or(self.end, |first| first - 1);
        self.above -= to - self.watermark;
        self.watermark = to;
        if self.above == 0 {
            self.forget_blocks();
            return;
        }
        let first = (to + 1) / BLOCK;
        while let Some(entry) = self.blocks.first_entry() {
            if *entry.key() >= first {
                break;
            }
            self.dirty.insert(*entry.key());
            entry.remove();
        }
    }

    fn forget_blocks(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        self.dirty.extend(blocks.into_keys());
    }

    /// What has to be written since the last time.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let dirty = std::mem::take(&mut self.dirty);
        let change = |number| (number, self.blocks.get(&number).map(Block::to_bytes));
        dirty.into_iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Pending(u64),
        Marked(u64),
        Mark(u64),
        MarkRun(u64, u64),
        Reload,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..3_u64).prop_map(Step::Pending),
            2 => prop_oneof![1..9_u64, 1..10_000_u64].prop_map(Step::Marked),
            6 => (0..20_000_u64).prop_map(Step::Mark),
            3 => (0..20_000_u64, 1..5000_u64).prop_map(|(at, n)| Step::MarkRun(at, n)),
            1 => Just(Step::Reload),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn marks_are_a_set(start in prop_oneof![Just(0), 4090..4100_u64], steps in prop::collection::vec(step(), 1..40)) {
            let mut marks = Marks::new(start);
            let mut rows = BTreeMap::new();
            let mut pending = BTreeSet::new();
            let mut end = start;
            for step in steps {
                match step {
                    Step::Pending(n) => for _ in 0..n * 700 {
                        end += 1;
                        marks.add_pending(end);
                        pending.insert(end);
                    },
                    Step::Marked(n) => {
                        end += n;
                        marks.add_marked(end);
                    }
                    Step::Mark(seq) => prop_assert_eq!(marks.mark(start + seq), pending.remove(&(start + seq))),
                    Step::MarkRun(at, n) => for seq in start + at..start + at + n {
                        prop_assert_eq!(marks.mark(seq), pending.remove(&seq));
                    },
                    Step::Reload => {}
                }
                let is_reload = matches!(step, Step::Reload);
                for (number, bytes) in marks.take_changes() {
                    match bytes {
                        Some(bytes) => rows.insert(number, bytes),
                        None => rows.remove(&number),
                    };
                }
                if is_reload {
                    let loaded = Marks::load(marks.watermark(), marks.end(), rows.clone().into_iter().collect()).unwrap();
                    prop_assert_eq!(loaded.above, marks.above);
                    marks = loaded;
                }
                prop_assert_eq!(marks.pending(), pending.len() as u64);
                prop_assert_eq!(marks.end(), end);
                let first = pending.first().copied();
                prop_assert_eq!(marks.watermark(), first.map_or(end, |first| first - 1));
                prop_assert!(rows.keys().all(|number| (number + 1) * BLOCK > marks.watermark()));
            }
            let mut at = 0;
            for seq in &pending {
                prop_assert_eq!(marks.next_pending(at), Some(*seq));
                at = *seq;
            }
            prop_assert_eq!(marks.next_pending(at), None);
            for seq in start..=end {
                prop_assert_eq!(marks.has(seq), !pending.contains(&seq));
            }
        }
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        assert!(Marks::load(2, 1, Vec::new()).is_none());
        assert!(Marks::load(0, 10, vec![(0, vec![1, 2, 3])]).is_none());
        assert!(Marks::load(0, 10, vec![(0, Vec::new())]).is_none());
        assert!(Marks::load(0, u64::MAX, vec![(u64::MAX, Vec::new())]).is_none());
    }
}

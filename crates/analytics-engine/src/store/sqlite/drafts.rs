//! Events, ready to be written.

use std::{cell::Cell, sync::Arc};

use super::super::{Loaded, OnKept, People, Reason};

/// Events that are written together, their JSON in one piece: pieces of memory
/// that one thread makes and another frees are slow.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    json: Vec<u8>,
    events: Vec<Draft>,
    /// The lanes of the last event.
    lanes: Option<Arc<[Arc<str>]>>,
}

/// An event, ready to be written.
#[derive(Debug)]
pub(super) struct Draft {
    /// How long its JSON is.
    pub(super) bytes: usize,
    pub(super) loaded: Arc<Loaded>,
    /// The user to be erased after it.
    pub(super) deletes: Option<Box<str>>,
    pub(super) people: People,
    /// `None` for those of the event before it: nearly all events have the
    /// same, and to share them is to count them, on two cores.
    pub(super) lanes: Option<Arc<[Arc<str>]>>,
    pub(super) refused: Vec<(Arc<str>, Reason)>,
    pub(super) kept: Option<OnKept>,
}

/// Drafts that took more are not used again.
const MAX_SPARE: usize = 512 * 1024;

thread_local! {
    static SPARE: Cell<Option<Drafts>> = const { Cell::new(None) };
}

impl Drafts {
    /// No events yet, and often room for some.
    pub(super) fn spare() -> Self {
        SPARE.take().unwrap_or_default()
    }

    /// Keeps the room for the next ones.
    pub(super) fn reuse(mut self) {
        self.clear();
        if self.json.capacity() <= MAX_SPARE && self.events.capacity() <= MAX_SPARE / 64 {
            SPARE.set(Some(self));
        }
    }

    /// Adds an event, whose JSON is written behind the others': how long it is.
    pub(super) fn write<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let before = self.json.len();
        // Half an event would be taken for a part of the next one.
        write(&mut self.json).inspect_err(|_| self.json.truncate(before))?;
        Ok(self.json.len() - before)
    }

    /// The event whose JSON was written last.
    pub(super) fn push(&mut self, mut draft: Draft) {
        self.keep_lanes(&mut draft);
        self.events.push(draft);
    }

    /// Of lanes that are those of the event before, one is enough.
    fn keep_lanes(&mut self, draft: &mut Draft) {
        match (&self.lanes, &draft.lanes) {
            (Some(last), Some(own)) if Arc::ptr_eq(last, own) => draft.lanes = None,
            (_, Some(own)) => self.lanes = Some(Arc::clone(own)),
            (_, None) => {}
        }
    }

    /// Moves everything behind what others have.
    pub(super) fn move_to(&mut self, others: &mut Self) {
        others.json.extend_from_slice(&self.json);
        if let Some(first) = self.events.first_mut() {
            others.keep_lanes(first);
            others.lanes = self.lanes.take();
        }
        others.events.append(&mut self.events);
        self.json.clear();
    }

    pub(super) fn clear(&mut self) {
        self.json.clear();
        self.events.clear();
        self.lanes = None;
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How long all of their JSON is.
    pub(super) fn bytes(&self) -> usize {
        self.json.len()
    }

    /// How much room they have.
    pub(super) fn capacity(&self) -> usize {
        self.json.capacity()
    }

    /// Each with its JSON.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Draft)> {
        let mut rest = self.json.as_slice();
        self.events.iter().map(move |draft| {
            let (json, after) = rest.split_at_checked(draft.bytes).unwrap_or_default();
            rest = after;
            (json, draft)
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.events.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Input, Track};

    use super::*;

    fn add(drafts: &mut Drafts, json: &str) {
        add_for(drafts, json, &Arc::default());
    }

    fn add_for(drafts: &mut Drafts, json: &str, lanes: &Arc<[Arc<str>]>) {
        let bytes = drafts.write(|to| {
            to.extend_from_slice(json.as_bytes());
            Ok::<_, ()>(())
        });
        drafts.push(Draft {
            bytes: bytes.unwrap(),
            loaded: Arc::new(Loaded::new(Input::from(Track::new("e")).into_any())),
            deletes: None,
            people: People::default(),
            lanes: Some(Arc::clone(lanes)),
            refused: Vec::new(),
            kept: None,
        });
    }

    /// Each event's lanes, and whether it names them.
    fn lanes(drafts: &Drafts) -> String {
        let mut last = String::new();
        let each = drafts.iter().map(|(_, draft)| match &draft.lanes {
            Some(lanes) => {
                last = lanes.concat();
                last.clone()
            }
            None => last.to_lowercase(),
        });
        each.collect()
    }

    #[test]
    fn lanes_are_named_where_they_change() {
        let lane = |name: &str| -> Arc<[Arc<str>]> { Arc::new([Arc::from(name)]) };
        let (a, b) = (lane("A"), lane("B"));
        let mut group = Drafts::default();
        let calls: [&[_]; 6] = [&[&a, &a, &b], &[&b], &[&a, &b, &b], &[&b, &a], &[&a], &[&b]];
        for call in calls {
            let mut own = Drafts::spare();
            for lanes in call {
                add_for(&mut own, "1", lanes);
            }
            own.move_to(&mut group);
            assert!(own.lanes.is_none());
            own.reuse();
        }
        assert_eq!(lanes(&group), "AaBbABbbAaB");
        group.clear();
        add_for(&mut group, "1", &b);
        assert_eq!(lanes(&group), "B");
    }

    #[test]
    fn half_an_event_is_taken_back() {
        let mut drafts = Drafts::default();
        add(&mut drafts, "1");
        let written = drafts.write(|to| {
            to.extend_from_slice(b"{\"ha");
            Err("cannot")
        });
        assert_eq!(written, Err("cannot"));
        add(&mut drafts, "22");
        let json: Vec<_> = drafts.iter().map(|(json, _)| json).collect();
        assert_eq!(json, [&b"1"[..], b"22"]);
    }

    #[test]
    fn each_event_has_its_own_json() {
        let (mut group, mut own) = (Drafts::default(), Drafts::spare());
        add(&mut group, "1");
        add(&mut own, "22");
        add(&mut own, "");
        add(&mut own, "333");
        own.move_to(&mut group);
        assert!(own.is_empty() && own.bytes() == 0);
        add(&mut group, "4");
        let json: Vec<_> = group.iter().map(|(json, _)| json).collect();
        assert_eq!(json, [&b"1"[..], b"22", b"", b"333", b"4"]);
        assert_eq!((group.len(), group.bytes()), (5, 7));
        own.reuse();
    }
}

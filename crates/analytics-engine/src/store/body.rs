//! An event as a store hands it out.

use std::{fmt, sync::Arc};

use analytics_spec::{AnyInput, Kind, Prepared, ValidationError, event::Person};
use bytes::Bytes;
use smallvec::SmallVec;

/// An event as a store has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Body {
    /// In memory.
    Loaded(Arc<Loaded>),
    /// Its JSON.
    Json(Bytes),
}

impl Body {
    /// The event in memory.
    ///
    /// # Errors
    ///
    /// The JSON is not an event's: another version may have written it.
    pub fn load(&self) -> Result<Arc<Loaded>, ValidationError> {
        match self {
            Self::Loaded(loaded) => Ok(Arc::clone(loaded)),
            Self::Json(json) => {
                let input = Arc::new(AnyInput::from_json(json)?);
                Ok(Arc::new(Loaded::with_input(input, json.len())))
            }
        }
    }
}

/// An event in memory: what is needed of it to send it.
///
/// Its maps and texts take several times as much room as its JSON, and are
/// slow to free for whoever did not make them. So they are kept only if
/// somebody wants to see them.
#[non_exhaustive]
pub struct Loaded {
    /// In place, for each piece of memory is slow to free on another core.
    message_id: SmallVec<[u8; MESSAGE_ID]>,
    kind: Kind,
    input: Option<Arc<AnyInput>>,
    /// How long the input's JSON is, if it was kept.
    json: usize,
    /// What integrations will send of it.
    prepared: SmallVec<[(Arc<str>, Prepared); 1]>,
}

impl Loaded {
    /// An event, with everything that is known around it.
    #[must_use]
    pub fn new(input: impl Into<Arc<AnyInput>>) -> Self {
        let input = input.into();
        let json = json_len(&input);
        Self::with_input(input, json)
    }

    fn with_input(input: Arc<AnyInput>, json: usize) -> Self {
        let mut loaded = Self::without_input(&input);
        loaded.json = json;
        loaded.input = Some(input);
        loaded
    }

    /// An event of which nothing is kept but what integrations prepare.
    pub(crate) fn without_input(input: &AnyInput) -> Self {
        Self {
            message_id: SmallVec::from_slice(input.message_id().as_bytes()),
            kind: input.kind(),
            input: None,
            json: 0,
            prepared: SmallVec::new(),
        }
    }

    /// The same with what an integration will send of it; with the input, only
    /// if it is seen again.
    pub(crate) fn mapped(&self, lane: &Arc<str>, prepared: Prepared, is_seen: bool) -> Self {
        let mut all = self.prepared.clone();
        all.push((Arc::clone(lane), prepared));
        Self {
            message_id: self.message_id.clone(),
            kind: self.kind,
            input: self.input.clone().filter(|_| is_seen),
            json: if is_seen { self.json } else { 0 },
            prepared: all,
        }
    }

    /// Adds what integrations will send.
    pub(crate) fn with_prepared(self, prepared: SmallVec<[(Arc<str>, Prepared); 1]>) -> Self {
        Self { prepared, ..self }
    }

    /// The event's message id.
    #[must_use]
    pub fn message_id(&self) -> &str {
        // It is made of a text.
        str::from_utf8(&self.message_id).unwrap_or_default()
    }

    /// The event's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The event with what is known around it, if it was kept. What has
    /// policies of its own, or an integration that did not prepare it, always
    /// is.
    #[must_use]
    pub fn input(&self) -> Option<&Arc<AnyInput>> {
        self.input.as_ref()
    }

    /// What a lane will send of it, if its engine had it prepared. The name has
    /// to be the very same: another engine's integration of that name may send
    /// something else, or with other credentials.
    pub(crate) fn prepared(&self, lane: &Arc<str>) -> Option<&Prepared> {
        let mut prepared = self.prepared.iter();
        let (_, prepared) = prepared.find(|(name, _)| Arc::ptr_eq(name, lane))?;
        Some(prepared)
    }

    /// How many bytes of it a lane will send, or its JSON has.
    pub(crate) fn bytes_for(&self, lane: &str) -> usize {
        let mut prepared = self.prepared.iter();
        let prepared = prepared.find(|(name, _)| **name == *lane);
        prepared.map_or(self.json, |(_, prepared)| prepared.bytes())
    }

    /// How long its JSON is, and what integrations will send.
    pub(crate) fn bytes(&self) -> usize {
        let prepared = self.prepared.iter().map(|(_, prepared)| prepared.bytes());
        prepared.fold(self.json, usize::saturating_add)
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        // Maps and texts take some four times as much as their JSON.
        let maps = self.json.saturating_mul(3);
        let pieces = PARCEL.saturating_mul(1 + self.prepared.len());
        self.bytes().saturating_add(maps).saturating_add(pieces)
    }

    /// The same for an event with JSON of so many bytes, once it is mapped for
    /// one integration: what that will send is about as long.
    pub(crate) fn weight_mapped(json: usize, is_seen: bool) -> usize {
        let times = if is_seen { 5 } else { 1 };
        json.saturating_mul(times).saturating_add(2 * PARCEL)
    }

    /// Whether it is erased with a user, who is known to be among its people. A
    /// `delete` is not: it holds nothing but the id, and makes the vendors
    /// forget.
    pub(crate) fn is_forgotten_with(&self, user_id: &str) -> bool {
        // Two people may share a hash, but only once in a very long time.
        let is_of = |input: &Arc<AnyInput>| is_of(input, user_id);
        self.kind != Kind::Delete && self.input.as_ref().is_none_or(is_of)
    }
}

/// How long an event's JSON is.
fn json_len(input: &AnyInput) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut json = Count(0);
    // What cannot be written, nobody can keep or send either.
    let _ = serde_json::to_writer(&mut json, input);
    json.0
}

/// What an event, and each that is prepared of it, takes besides what is
/// sent, about.
const PARCEL: usize = 192;

/// As long as the ids that stamping makes.
const MESSAGE_ID: usize = "01890a5d-ac96-774b-bcce-b302099a8057".len();

/// Whether an event names a user.
fn is_of(input: &AnyInput, user_id: &str) -> bool {
    input
        .event
        .people()
        .any(|person| person == Person::User(user_id))
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("message_id", &self.message_id())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

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
            Self::Json(json) => AnyInput::from_json(json).map(|input| Loaded::new(input).into()),
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
    /// What integrations will send of it.
    prepared: SmallVec<[(Arc<str>, Prepared); 1]>,
}

impl Loaded {
    /// An event, with everything that is known around it.
    #[must_use]
    pub fn new(input: impl Into<Arc<AnyInput>>) -> Self {
        let input = input.into();
        Self {
            input: Some(Arc::clone(&input)),
            ..Self::without_input(&input)
        }
    }

    /// An event of which nothing is kept but what integrations prepare.
    pub(crate) fn without_input(input: &AnyInput) -> Self {
        Self {
            message_id: SmallVec::from_slice(input.message_id().as_bytes()),
            kind: input.kind(),
            input: None,
            prepared: SmallVec::new(),
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

    /// What an integration will send of it, if it was prepared.
    #[must_use]
    pub fn prepared(&self, integration: &str) -> Option<&Prepared> {
        let mut prepared = self.prepared.iter();
        let (_, prepared) = prepared.find(|(name, _)| **name == *integration)?;
        Some(prepared)
    }

    /// How many bytes integrations will send of it; `None`, if none of them
    /// prepared it.
    pub(crate) fn prepared_bytes(&self) -> Option<usize> {
        let prepared = self.prepared.iter().map(|(_, prepared)| prepared.bytes());
        (!self.prepared.is_empty()).then(|| prepared.sum())
    }

    /// About how many bytes it takes, if its JSON has so many.
    pub(crate) fn weight(&self, json: usize) -> usize {
        // Maps and texts take some four times as much as their JSON.
        let input = self.input.as_ref().map_or(0, |_| json.saturating_mul(4));
        let prepared = self.prepared.iter();
        let prepared = prepared.map(|(_, prepared)| prepared.bytes() + PARCEL);
        prepared
            .fold(PARCEL, usize::saturating_add)
            .saturating_add(input)
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

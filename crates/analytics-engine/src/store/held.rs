//! An event on its way into a store.

use std::{ops::Deref, sync::Arc};

use analytics_spec::AnyInput;

/// An event on its way into a store: shared only if somebody will see it again,
/// for most events go as they are written.
#[derive(Debug)]
pub enum Held {
    /// By the store alone.
    Own(Box<AnyInput>),
    /// By others too.
    Shared(Arc<AnyInput>),
}

impl Held {
    #[inline]
    pub(crate) fn new(input: Box<AnyInput>, is_seen: bool) -> Self {
        if is_seen {
            Self::Shared(Arc::new(*input))
        } else {
            Self::Own(input)
        }
    }

    /// The event, if it is shared.
    #[must_use]
    pub fn shared(&self) -> Option<&Arc<AnyInput>> {
        match self {
            Self::Own(_) => None,
            Self::Shared(input) => Some(input),
        }
    }
}

impl Deref for Held {
    type Target = AnyInput;

    fn deref(&self) -> &AnyInput {
        match self {
            Self::Own(input) => input,
            Self::Shared(input) => input,
        }
    }
}

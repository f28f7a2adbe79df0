//! An engine's dead letters.

use analytics_spec::Error;

use crate::{
    engine::Engine,
    store::{DeadLetter, DeadLetterId, DeadLetters, Filter, Replayed},
};

/// What integrations will never accept, in the store of an engine.
#[derive(Clone, Copy)]
pub struct Letters<'a> {
    engine: &'a Engine,
    letters: &'a dyn DeadLetters,
}

impl<'a> Letters<'a> {
    pub(crate) fn new(engine: &'a Engine, letters: &'a dyn DeadLetters) -> Self {
        Self { engine, letters }
    }

    /// Those with a number above `after`, by their number, at most so many.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn list(
        &self,
        filter: &Filter,
        after: DeadLetterId,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        self.letters.list(filter, after, limit).await
    }

    /// Accepts them once more, each for its own integration, under the same
    /// message id and timestamp. Those of integrations that this engine does
    /// not have are counted, and wait. Each is either a dead letter or accepted,
    /// whatever happens meanwhile.
    ///
    /// # Errors
    ///
    /// The store failed, or is full. Some may be accepted; the others are dead
    /// letters as before: ask again.
    pub async fn replay(&self, filter: &Filter) -> Result<Replayed, Error> {
        let replayed = self.letters.replay(filter).await?;
        if replayed.detached > 0 {
            tracing::warn!(
                events = replayed.detached,
                "dead letters of integrations that are not attached were replayed: they wait"
            );
        }
        self.engine.wake();
        Ok(replayed)
    }

    /// Forgets them, some at a time where they are many: how many.
    ///
    /// # Errors
    ///
    /// The store failed; some may be forgotten: ask again.
    pub async fn purge(&self, filter: &Filter) -> Result<u64, Error> {
        self.letters.purge(filter).await
    }
}

impl std::fmt::Debug for Letters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letters").finish_non_exhaustive()
    }
}

//! What a lane has not settled when it ends, and nobody else will have.

use std::{collections::HashSet, sync::Arc, time::Duration};

use analytics_spec::{Error, ErrorKind};

use super::{
    Running,
    outcome::{Attempted, Outcome},
};
use crate::{
    settled::Unsettled,
    store::{Body, Seq, Store},
};

/// A store has at least this long to say what is left, also when the time for
/// closing the engine is over.
pub(crate) const LIST_AT_LEAST: Duration = Duration::from_secs(1);

/// How much of what is left is read at once.
const PAGE_BYTES: usize = 1024 * 1024;

impl Running {
    /// What is not settled, whether it was at hand or still in the store: what
    /// it says before the deadline. Nothing, if the store outlives this.
    pub(super) async fn rest(self, deadline: impl Future<Output = ()>) -> Vec<Unsettled> {
        if self.lane.store.is_durable() {
            return Vec::new();
        }
        let mut left: Vec<_> = self
            .schedule
            .rest()
            .filter_map(|(seq, body, attempts, in_flight)| {
                unsettled(&self.lane.name, seq, body, attempts, in_flight)
            })
            .collect();
        // What could not be written may have arrived.
        let unwritten = self.writing.iter().flat_map(|writing| writing.iter());
        for outcome in unwritten.chain(&self.unwritten) {
            if let Outcome::Attempted(Attempted {
                event, next: None, ..
            }) = outcome
            {
                let (body, made) = (Body::Loaded(Arc::clone(&event.loaded)), event.retries.made);
                left.extend(unsettled(&self.lane.name, event.seq, &body, made, true));
            }
        }
        // Some of what the store has is at hand: of those who are away, nothing
        // is.
        let at_hand: HashSet<_> = left.iter().map(|left| left.seq).collect();
        let after = self.settled_through();
        let (store, name) = (&*self.lane.store, &*self.lane.name);
        let is_listed = |seq| at_hand.contains(&seq);
        list(store, name, after, false, is_listed, &mut left, deadline).await;
        left.sort_by_key(|left| left.seq);
        left
    }
}

fn unsettled(
    name: &str,
    seq: Seq,
    body: &Body,
    attempts: u32,
    in_flight: bool,
) -> Option<Unsettled> {
    let loaded = body.load().ok()?;
    Some(Unsettled {
        integration: name.to_owned(),
        seq,
        message_id: loaded.message_id().to_owned(),
        kind: loaded.kind(),
        attempts,
        in_flight,
    })
}

/// What a lane that ended by a mistake of its own had not settled, as far as
/// its store knows, and says before the deadline.
pub(crate) async fn left_in(
    store: &dyn Store,
    name: &str,
    deadline: impl Future<Output = ()>,
) -> Vec<Unsettled> {
    let mut left = Vec::new();
    if !store.is_durable() {
        // Whether an attempt was under way, nobody knows any more.
        list(store, name, 0, true, |_| false, &mut left, deadline).await;
    }
    left
}

/// Lists what a store has for a lane, page by page, until the deadline.
async fn list(
    store: &dyn Store,
    name: &str,
    mut after: Seq,
    in_flight: bool,
    is_listed: impl Fn(Seq) -> bool,
    left: &mut Vec<Unsettled>,
    deadline: impl Future<Output = ()>,
) {
    let pages = async {
        while after < store.last() {
            let pulled = store.pull(name, after, PAGE_BYTES).await?;
            if pulled.through <= after {
                let stuck = "the store does not go on where it was asked to";
                return Err(Error::new(ErrorKind::Internal, stuck));
            }
            after = pulled.through;
            left.extend(
                pulled
                    .events
                    .iter()
                    .filter(|event| !is_listed(event.seq))
                    .filter_map(|event| {
                        let attempts = event.retries.made;
                        unsettled(name, event.seq, &event.body, attempts, in_flight)
                    }),
            );
            // A store that always answers at once heeds the deadline as well.
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let listed = tokio::select! {
        listed = pages => listed,
        () = deadline => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            "the store did not answer in time",
        )),
    };
    if let Err(error) = listed {
        tracing::error!(
            integration = name, %error,
            "the store cannot be read: what it holds is not among what is left"
        );
    }
}

//! Where accepted events are kept.

use std::sync::Arc;

use analytics_kit::engine::{MemoryStore, Store};

/// How many events, and bytes of their JSON, are accepted and not settled.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A store that is gone with the process.
pub(crate) fn in_memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(MAX_EVENTS, MAX_BYTES))
}

//! Temporal.

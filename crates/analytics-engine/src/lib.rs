//! The embedded engine: carries every accepted event to its end on one
//! machine.
//!
//! An [`Engine`] does two things with the integrations that it is given. It
//! *executes* their workflows, one at a time and waited for, under the names
//! that every engine knows: `segment(analytics).Track`. And it *queues*
//! events: [`enqueue`](Engine::enqueue) returns when an event is accepted, and
//! the engine delivers it to every integration, in batches where the vendor
//! takes them, with retries, and with one person's events in their order.
//!
//! ```
//! # use analytics_spec::{AnyInput, Attempt, Delivery, Error, Integration, KindSet, ValidationError};
//! use std::{sync::Arc, time::Duration};
//!
//! use analytics_engine::Engine;
//! use analytics_spec::Track;
//!
//! # #[derive(Debug)]
//! # struct Printer;
//! # #[async_trait::async_trait]
//! # impl Integration for Printer {
//! #     fn vendor(&self) -> &'static str { "printer" }
//! #     fn name(&self) -> &str { "printer" }
//! #     fn supports(&self) -> KindSet { KindSet::ALL }
//! #     fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> { Ok(()) }
//! #     async fn deliver(&self, _: &Attempt<'_>) -> Result<Delivery, Error> { Ok(Delivery::default()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! # let integration = Arc::new(Printer);
//! let engine = Engine::builder()
//!     .integration(integration)
//!     .on_settled(|settled| println!("{settled}"))
//!     .build()
//!     .await?;
//! engine.enqueue(Track::new("Signed Up").user_id("u1")).await?;
//! let left = engine.close(Duration::from_secs(10)).await;
//! assert!(left.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - Every accepted event ends: delivered, or refused with a reason
//!   ([`Builder::on_settled`]); or, when the engine is closed, named in what
//!   [`close`](Engine::close) returns. What a store fails to say in
//!   time is not named, but still in the store. With the [`MemoryStore`], what is pending
//!   is lost if the process ends without `close`.
//! - Every attempt at an event carries the same message id and timestamp.
//! - Events that share a [`Person`](analytics_spec::event::Person) reach one
//!   integration in the order in which they were accepted, also over retries.
//!   Others do not wait for them, until what waits fills the
//!   [window](Builder::window_bytes).
//! - An integration that is down slows no other, until the store is full.
//! - A store that fails is asked again, with growing pauses; nothing is sent
//!   to a vendor while earlier outcomes cannot be written.
//! - Memory is bounded: [`enqueue`](Engine::enqueue) waits for room, and
//!   [`try_enqueue`](Engine::try_enqueue) says [`Full`](analytics_spec::ErrorKind::Full).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod by_seq;
mod engine;
mod gate;
mod health;
mod lane;
mod letters;
mod metrics;
mod schedule;
mod settled;
pub mod store;
mod worker;

pub use builder::Builder;
pub use engine::{Engine, Receipt};
pub use health::{Health, IntegrationHealth, State};
pub use letters::Letters;
pub use settled::{Left, Settled, Unsettled};
pub use store::{MemoryStore, Store};
pub use worker::EmbeddedWorker;

/// Nobody waits longer, and no clock overflows by it.
pub(crate) const LONGEST: std::time::Duration =
    std::time::Duration::from_secs(10 * 365 * 24 * 60 * 60);

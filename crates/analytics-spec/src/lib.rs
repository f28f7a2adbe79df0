//! One customer-data specification for many vendors.
//!
//! A program says what happened with one of seven events: [`Identify`],
//! [`Track`], [`Group`], [`Alias`], [`Page`], [`Screen`] and [`Delete`]. An
//! [`Integration`] carries an event to a vendor. A [`Handler`] binds an
//! integration to the names under which a [`Worker`], the engine, executes it.
//!
//! This crate has no HTTP and no async runtime: it is what events *are*, when
//! they are valid, and what integrations and engines owe each other. The feature
//! `tokio` adds the clock of programs that run on tokio.
//!
//! ```
//! use analytics_spec::{AnyInput, Context, Input, Track};
//!
//! let input = Input::new(
//!     Track::new("Order Completed")
//!         .user_id("u1")
//!         .property("revenue", 42.5),
//! )
//! .context(Context::new().locale("en-GB"));
//! input.validate()?;
//!
//! let json = serde_json::to_string(&input)?;
//! assert_eq!(
//!     json,
//!     r#"{"context":{"locale":"en-GB"},"track":{"user_id":"u1","event":"Order Completed","properties":{"revenue":42.5}}}"#
//! );
//! let read = AnyInput::from_json(json.as_bytes())?;
//! assert_eq!(read, input.into_any());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to find what
//!
//! | module | what is in it |
//! |---|---|
//! | [`mod@event`] | the seven events and [`AnyEvent`] |
//! | [`mod@context`] | what is known around an event |
//! | [`mod@envelope`] | [`Input`] and [`Output`], the JSON of every workflow |
//! | [`mod@batch`] | many events in one workflow: [`BatchInput`] and [`BatchOutput`] |
//! | [`mod@policies`] | time-outs and retries, and the decision whether to retry |
//! | [`mod@validation`] | [`ValidationError`]: all violations at once |
//! | [`mod@error`] | [`Error`], from which engines decide |
//! | [`mod@integration`] | [`Integration`], what a vendor implements |
//! | [`mod@prepared`] | mapping an event before it is sent |
//! | [`mod@handler`] | [`Handler`] and [`Worker`], what engines run |
//! | [`mod@config`] | configuration by key, file and environment variable |
//! | [`mod@clock`] | time and chance, injected |

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod batch;
pub mod clock;
pub mod config;
pub mod context;
mod decode;
pub mod envelope;
pub mod error;
pub mod event;
mod failure;
pub mod handler;
pub mod integration;
pub mod json;
mod kind;
mod nearest;
pub mod policies;
pub mod prepared;
mod response;
mod secret;
pub mod validation;
mod visible;

pub use batch::{BatchInput, BatchOutput};
pub use clock::Clock;
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
pub use context::Context;
pub use envelope::{
    AnyInput, AnyOutput, Input, InputAlias, InputDelete, InputGroup, InputIdentify, InputPage,
    InputScreen, InputTrack, Output, OutputAlias, OutputDelete, OutputGroup, OutputIdentify,
    OutputPage, OutputScreen, OutputTrack, Status,
};
pub use error::{Error, ErrorKind};
pub use event::{Alias, AnyEvent, Delete, Event, Group, Identify, Page, Screen, Track};
pub use failure::Failure;
pub use handler::{Handler, Worker};
pub use integration::{Attempt, Calls, Delivery, Integration, IntegrationExt, Progress};
/// A moment in UTC; written as RFC 3339.
pub use jiff::Timestamp;
pub use kind::{Kind, KindSet};
pub use nearest::nearest;
pub use policies::{ActivityPolicy, Policies, RequestPolicy, Retries, RetryPolicy};
pub use prepared::{Prepare, Prepared, PreparedAttempt};
pub use response::HttpResponse;
pub use secret::Secret;
/// A free dictionary: traits, properties, and whatever else is JSON.
pub use serde_json::{Map, Value};
pub use validation::{Code, ValidationError, Violation};
pub use visible::{visible, visible_json};

//! The request side that integrations share.
//!
//! A vendor reached over HTTP is a *mapping* and a *reading*, both pure: it
//! implements [`HttpVendor`], and [`Client`] makes an
//! [`Integration`](analytics_spec::Integration) of it. Everything else exists
//! here once: sending, time-outs, the order of one person's events, splitting
//! what is too large, retries of only what has not succeeded, compression,
//! `Retry-After`, redaction, tracing and previews.
//!
//! | module | what is in it |
//! |---|---|
//! | [`mod@vendor`] | what a vendor implements |
//! | [`mod@client`] | the integration made of it |
//! | [`mod@classify`] | from a status to a verdict |
//! | [`mod@request`] | building requests: base URLs, credentials, JSON |
//! | [`mod@transport`] | what sends requests: [`Transport`], and reqwest behind it |
//! | [`mod@redact`] | taking secrets out of what is shown |
//!
//! # Traces
//!
//! Every request has a span `analytics.request` with the fields `integration`,
//! `kind`, `message_id`, `attempt`, `events` and `status`. Where events share
//! a request, kind and id are the first one's, and the attempt is the highest.
//! No secret, no URL and nothing else of an event or an answer is in it.

mod batch;
pub mod classify;
pub mod client;
pub mod redact;
pub mod request;
mod response;
pub mod transport;
pub mod vendor;

pub use classify::{Refusal, Verdict, classify};
pub use client::Client;
pub use request::BaseUrl;
pub use transport::{Failure, ReqwestTransport, Transport, TransportError};
pub use vendor::{HttpVendor, Limits, Reading, Sending, Step};

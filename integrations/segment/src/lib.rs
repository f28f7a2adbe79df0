//! Segment for the analytics specification.
//!
//! ```no_run
//! use analytics_segment::{Calls, Config, Track};
//!
//! # async fn run() -> Result<(), analytics_segment::Error> {
//! let segment = Config::new("your write key").build()?;
//! segment
//!     .track(
//!         Track::new("Order Completed")
//!             .user_id("u1")
//!             .property("revenue", 42.5),
//!     )
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each call returns when Segment has accepted the event, or refused it for
//! good; failures that may pass are retried. With an engine, the same instance
//! carries many events in batches.
//!
//! | event | request |
//! |---|---|
//! | identify, track, group, alias, page, screen | `POST /v1/batch` of the [tracking API](https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/) |
//! | delete | `POST /regulations` of the [Public API](https://docs.segmentapis.com/tag/Deletion-and-Suppression), if [`Config::public_api_token`] is set |

mod alias;
mod config;
mod context;
mod delete;
mod group;
mod identify;
mod message;
mod outcome;
mod page;
mod screen;
mod track;
mod vendor;

pub use analytics_spec::{
    Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input, Output, Page, Screen,
    Track,
};
pub use config::{Config, Region, RegulationType};
pub use vendor::SegmentVendor;

/// A Segment source: an [`Integration`](analytics_spec::Integration), and by
/// itself a client with retries.
pub type Segment = analytics_http::Client<SegmentVendor>;

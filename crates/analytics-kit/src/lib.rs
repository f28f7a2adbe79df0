//! Customer data to many vendors: every integration behind a feature, one
//! client, one configuration.
//!
//! ```toml
//! [dependencies]
//! analytics-kit = { version = "0.1", features = ["segment", "mixpanel"] }
//! ```
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `engine` | [`Engine`], which carries events to every integration, and [`Configuration::engine`] | yes |
//! | `sqlite` | [`SqliteStore`]: with `data_dir` configured, accepted events outlive the process | yes |
//! | `temporal` | [`temporal`]: the same workflows on a Temporal server, and [`Configuration::temporal_worker`] | no |
//! | the vendor's name: `segment`, ... | the vendor's crate under that name, and its place in [`VENDORS`] | no |
//!
//! A feature only adds; none changes what another one does. Swapping a vendor
//! is another feature and another table in the configuration:
//!
//! ```
//! # #[cfg(all(feature = "engine", feature = "segment"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), analytics_kit::Error> {
//! use std::time::Duration;
//!
//! use analytics_kit::{Calls, Configuration, Track};
//!
//! let configuration = Configuration::from_toml(
//!     r#"
//!     [integrations.segment]
//!     write_key = "your write key"
//!     "#,
//! )?;
//! let analytics = configuration.engine().await?.build().await?;
//! # if false {
//! analytics
//!     .track(Track::new("Order Completed").user_id("u1").property("revenue", 42.5))
//!     .await?;
//! # }
//! for left in analytics.close(Duration::from_secs(10)).await.lost {
//!     eprintln!("{}: {} was not delivered", left.integration, left.kind);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "engine", feature = "segment")))]
//! # fn main() {}
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod configuration;
mod storage;
#[doc(hidden)]
pub mod units;
mod vendors;

#[cfg(feature = "sqlite")]
pub use analytics_engine::store::SqliteStore;
#[cfg(feature = "engine")]
pub use analytics_engine::{self as engine, Engine};
pub use analytics_http as http;
pub use analytics_spec::{
    self as spec, ActivityPolicy, Alias, AnyEvent, AnyInput, Calls, Code, Context, Delete, Error,
    ErrorKind, Event, Group, Handler, Identify, Input, Integration, IntegrationExt, Kind, KindSet,
    Map, Output, Page, Policies, RetryPolicy, Screen, Secret, Status, Timestamp, Track,
    ValidationError, Value, Violation,
};
#[cfg(feature = "temporal")]
pub use analytics_temporal as temporal;

pub use configuration::{Configuration, Reader};
pub use storage::Storage;
pub use vendors::*;

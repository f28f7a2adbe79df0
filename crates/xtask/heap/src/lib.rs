#![doc = include_str!("../README.md")]

mod config;
mod identify;
mod outcome;
mod properties;
mod track;
mod vendor;

pub use analytics_http::BaseUrl;
pub use analytics_spec::{
    ActivityPolicy, Calls, Context, Error, ErrorKind, Identify, Input, Integration, Output,
    Policies, RetryPolicy, Secret, Track,
    config::{Instance, VendorConfig},
};
pub use config::{Config, Region};
pub use vendor::{HeapVendor, Route};

/// An environment of Heap: an [`Integration`], and by itself a client with
/// retries.
pub type Heap = analytics_http::Client<HeapVendor>;

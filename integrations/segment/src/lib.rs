#![doc = include_str!("../README.md")]

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

pub use analytics_http::BaseUrl;
pub use analytics_spec::{
    ActivityPolicy, Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input,
    Integration, Output, Page, Policies, RetryPolicy, Screen, Secret, Track,
    config::{Instance, VendorConfig},
};
pub use config::{Config, Region, RegulationType};
pub use vendor::{Route, SegmentVendor};

/// A Segment source: an [`Integration`], and by
/// itself a client with retries.
pub type Segment = analytics_http::Client<SegmentVendor>;

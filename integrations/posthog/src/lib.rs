#![doc = include_str!("../README.md")]

mod alias;
mod config;
mod delete;
mod group;
mod identify;
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
pub use config::Config;
pub use vendor::{PosthogVendor, Route};

/// An account of Posthog: an [`Integration`], and by itself a client with retries.
pub type Posthog = analytics_http::Client<PosthogVendor>;

#![doc = include_str!("../README.md")]

mod alias;
mod capture;
mod config;
mod context;
mod delete;
mod group;
mod identify;
mod ids;
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
pub use config::{Config, PersonProfiles, Region};
pub use vendor::{PosthogVendor, Route};

/// A PostHog project: an [`Integration`], and by itself a client with retries.
pub type Posthog = analytics_http::Client<PosthogVendor>;

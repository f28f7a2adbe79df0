#![doc = include_str!("../README.md")]

mod alias;
mod config;
mod context;
mod delete;
mod event;
mod group;
mod identify;
mod ids;
mod outcome;
mod page;
mod profile;
mod screen;
mod template;
mod track;
mod vendor;

pub use analytics_http::BaseUrl;
pub use analytics_spec::{
    ActivityPolicy, Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input,
    Integration, Output, Page, Policies, RetryPolicy, Screen, Secret, Track,
    config::{Instance, VendorConfig},
};
pub use config::{ComplianceType, Config, Deletion, IdMerge, Region};
pub use vendor::{MixpanelVendor, Route};

/// A Mixpanel project: an [`Integration`], and by itself a client with retries.
pub type Mixpanel = analytics_http::Client<MixpanelVendor>;

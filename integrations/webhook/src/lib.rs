#![doc = include_str!("../README.md")]

mod config;
mod endpoint;
mod envelope;
mod headers;
mod id;
mod outcome;
mod signature;
mod statuses;
mod vendor;

pub use analytics_spec::{
    ActivityPolicy, Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input,
    Integration, Output, Page, Policies, RetryPolicy, Screen, Secret, Track,
    config::{Instance, VendorConfig},
};
pub use config::{Batch, Config, Method};
pub use endpoint::Endpoint;
pub use statuses::{Meaning, StatusPattern};
pub use vendor::{Route, WebhookVendor};

/// An HTTP endpoint: an [`Integration`], and by itself a client with retries.
pub type Webhook = analytics_http::Client<WebhookVendor>;

#![doc = include_str!("../README.md")]

mod config;
mod delete;
mod group;
mod identify;
mod language;
mod member;
mod merge;
mod outcome;
#[cfg(test)]
mod testing;
mod track;
mod vendor;

pub use analytics_http::BaseUrl;
pub use analytics_spec::{
    ActivityPolicy, Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input,
    Integration, Output, Page, Policies, RetryPolicy, Screen, Secret, Track,
    config::{Instance, VendorConfig},
};
pub use config::{Config, RegulationType};
pub use vendor::{MailchimpVendor, Route};

/// A Mailchimp audience: an [`Integration`], and by itself a client with
/// retries.
pub type Mailchimp = analytics_http::Client<MailchimpVendor>;

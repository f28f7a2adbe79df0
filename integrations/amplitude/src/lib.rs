#![doc = include_str!("../README.md")]

mod alias;
mod config;
mod context;
mod delete;
mod event;
mod group;
mod identify;
mod ids;
mod object;
mod outcome;
mod page;
mod rules;
mod screen;
mod track;
mod vendor;

pub use analytics_http::BaseUrl;
pub use analytics_spec::{
    ActivityPolicy, Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input,
    Integration, Output, Page, Policies, RetryPolicy, Screen, Secret, Track,
    config::{Instance, VendorConfig},
};
pub use config::{Api, Config, Region};
pub use vendor::{AmplitudeVendor, Route};

/// A project of Amplitude: an [`Integration`], and by itself a client with retries.
pub type Amplitude = analytics_http::Client<AmplitudeVendor>;

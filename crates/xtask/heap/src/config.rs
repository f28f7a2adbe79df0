//! What an environment of Heap needs to know.

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{Instance, VendorConfig},
    integration::Support,
};
use serde::Deserialize;

use crate::{Heap, HeapVendor};

/// Where an environment's data is kept.
///
/// <https://developers.heap.io/reference/track-1>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Region {
    /// The United States.
    #[default]
    Us,
    /// The European Union.
    Eu,
}

/// What an environment of Heap needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The environment's id: whoever has it can write into the environment.
    #[serde(default)]
    pub app_id: Secret,
    /// Where the environment's data is kept.
    #[serde(default)]
    pub region: Region,
    /// Replaces the API's URL.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
}

impl Config {
    /// An environment in the United States.
    pub fn new(app_id: impl Into<Secret>) -> Self {
        Self {
            app_id: app_id.into(),
            region: Region::default(),
            base_url: None,
        }
    }

    /// Sets where the environment's data is kept.
    #[must_use]
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Replaces the API's URL.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The instance called `heap`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Heap, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    pub(crate) fn url(&self) -> Result<BaseUrl, Error> {
        let own = match self.region {
            Region::Us => "https://heapanalytics.com",
            Region::Eu => "https://c.eu.heap-api.com",
        };
        BaseUrl::configured_or(self.base_url.as_ref(), own)
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "heap";

    type Integration = Heap;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Identify | Kind::Track => Support::Yes,
            Kind::Group | Kind::Alias | Kind::Page | Kind::Screen | Kind::Delete => Support::No,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Heap, Error> {
        Client::new(HeapVendor::new(self)?, instance)
    }
}

//! What a Segment source needs to know.

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{Instance, VendorConfig},
    integration::Support,
};
use serde::{Deserialize, Serialize};

use crate::{Segment, SegmentVendor};

/// Where a workspace's data is kept. Data sent to another region is lost.
///
/// <https://segment.com/docs/guides/regional-segment/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Region {
    /// Oregon.
    #[default]
    Us,
    /// Dublin.
    Eu,
}

/// What a `delete` asks of Segment.
///
/// Segment has two more, `SUPPRESS_ONLY` and `UNSUPPRESS`, that delete nothing:
/// a `delete` that asks for one would count as delivered.
///
/// <https://docs.segmentapis.com/tag/Deletion-and-Suppression>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum RegulationType {
    /// Delete what is known, and take nothing new.
    #[default]
    SuppressWithDelete,
    /// Delete what is known.
    DeleteOnly,
    /// Delete within Segment, not at its destinations.
    DeleteInternal,
    /// The same, and take nothing new.
    SuppressWithDeleteInternal,
}

/// What a Segment source needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The source's write key.
    #[serde(default)]
    pub write_key: Secret,
    /// Where the workspace's data is kept.
    #[serde(default)]
    pub region: Region,
    /// A token of the Public API. Without it, the instance does not support
    /// `delete`.
    #[serde(default)]
    pub public_api_token: Option<Secret>,
    /// What a `delete` asks for.
    #[serde(default)]
    pub regulation_type: RegulationType,
    /// Deletes from this source only, not from the whole workspace.
    #[serde(default)]
    pub source_id: Option<String>,
    /// Replaces the tracking API's URL, up to `/v1`.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Replaces the Public API's URL.
    #[serde(default)]
    pub public_api_base_url: Option<BaseUrl>,
}

impl Config {
    /// A source in the US region.
    pub fn new(write_key: impl Into<Secret>) -> Self {
        Self {
            write_key: write_key.into(),
            region: Region::default(),
            public_api_token: None,
            regulation_type: RegulationType::default(),
            source_id: None,
            base_url: None,
            public_api_base_url: None,
        }
    }

    /// Sets where the workspace's data is kept.
    #[must_use]
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Sets the Public API's token, which makes `delete` possible.
    #[must_use]
    pub fn public_api_token(mut self, token: impl Into<Secret>) -> Self {
        self.public_api_token = Some(token.into());
        self
    }

    /// Sets what a `delete` asks for.
    #[must_use]
    pub fn regulation_type(mut self, regulation_type: RegulationType) -> Self {
        self.regulation_type = regulation_type;
        self
    }

    /// Deletes from this source only.
    #[must_use]
    pub fn source_id(mut self, source_id: impl Into<String>) -> Self {
        self.source_id = Some(source_id.into());
        self
    }

    /// Replaces the tracking API's URL, up to `/v1`.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// Replaces the Public API's URL.
    #[must_use]
    pub fn public_api_base_url(mut self, url: BaseUrl) -> Self {
        self.public_api_base_url = Some(url);
        self
    }

    /// The instance called `segment`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Segment, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "segment";

    type Integration = Segment;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Delete => Support::When("public_api_token is set"),
            _ => Support::Yes,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Segment, Error> {
        Client::new(SegmentVendor::new(self)?, instance)
    }
}

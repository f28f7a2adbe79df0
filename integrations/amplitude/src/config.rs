//! What an Amplitude project needs to know.

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{Instance, VendorConfig, missing},
    integration::Support,
};
use serde::{Deserialize, Serialize};

use crate::{Amplitude, AmplitudeVendor};

/// Where a project's data is kept: each has hosts of its own.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#regions>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Region {
    /// The United States.
    #[default]
    Us,
    /// The European Union.
    Eu,
}

/// Which of the two APIs takes the events. They are the same for both.
///
/// <https://amplitude.com/docs/faq/api-choice>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Api {
    /// `/2/httpapi`: what a device sends is processed in its order, and soon;
    /// 30 events a second for one user or device.
    #[default]
    HttpV2,
    /// `/batch`: for much at once, such as years of history; 1,000 events a
    /// second for one user or device. An order is not promised.
    Batch,
}

/// What an Amplitude project needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The project's API key.
    #[serde(default)]
    pub api_key: Secret,
    /// The project's secret key. Without it, the instance does not support
    /// `delete`.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// Where the project's data is kept.
    #[serde(default)]
    pub region: Region,
    /// Which API takes the events.
    #[serde(default)]
    pub api: Api,
    /// What the groups of `group` events are to Amplitude: `company`, `team`.
    #[serde(default = "group")]
    pub group_type: String,
    /// The fewest characters of a user's or device's id: 5, if absent.
    #[serde(default)]
    pub min_id_length: Option<usize>,
    /// Replaces the hosts of all APIs.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
}

fn group() -> String {
    "group".to_owned()
}

impl Config {
    /// A project in the US region.
    pub fn new(api_key: impl Into<Secret>) -> Self {
        Self {
            api_key: api_key.into(),
            secret_key: None,
            region: Region::default(),
            api: Api::default(),
            group_type: group(),
            min_id_length: None,
            base_url: None,
        }
    }

    /// Sets the secret key, which makes `delete` possible.
    #[must_use]
    pub fn secret_key(mut self, key: impl Into<Secret>) -> Self {
        self.secret_key = Some(key.into());
        self
    }

    /// Sets where the project's data is kept.
    #[must_use]
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Sets which API takes the events.
    #[must_use]
    pub fn api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// Sets what the groups of `group` events are to Amplitude.
    #[must_use]
    pub fn group_type(mut self, group_type: impl Into<String>) -> Self {
        self.group_type = group_type.into();
        self
    }

    /// Sets the fewest characters of a user's or device's id.
    #[must_use]
    pub fn min_id_length(mut self, characters: usize) -> Self {
        self.min_id_length = Some(characters);
        self
    }

    /// Replaces the hosts of all APIs.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The instance called `amplitude`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Amplitude, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    /// Every key has a value that can be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.api_key.is_blank() {
            return Err(missing(Self::VENDOR, "api_key"));
        }
        if self.secret_key.as_ref().is_some_and(Secret::is_blank) {
            return Err(missing(Self::VENDOR, "secret_key"));
        }
        if self.group_type.trim().is_empty() {
            return Err(missing(Self::VENDOR, "group_type"));
        }
        if self.min_id_length == Some(0) {
            return Err(Error::configuration(
                "`min_id_length` is 0: an id has at least one character",
            ));
        }
        Ok(())
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "amplitude";

    type Integration = Amplitude;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Delete => Support::When("secret_key is set"),
            _ => Support::Yes,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Amplitude, Error> {
        Client::new(AmplitudeVendor::new(self)?, instance)
    }
}

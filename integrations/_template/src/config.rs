//! What an account of Acme Inc needs to know.

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{Instance, VendorConfig},
    integration::Support,
};
use serde::Deserialize;

use crate::{Acme, AcmeVendor};

/// What an account of Acme Inc needs to know.
// FILL IN: the vendor's keys: credentials as `Secret`, regions as an enum,
// everything but credentials with a default. A new key may only be optional.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The account's API key.
    #[serde(default)]
    pub api_key: Secret,
    /// Replaces the API's URL.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
}

impl Config {
    /// An account.
    pub fn new(api_key: impl Into<Secret>) -> Self {
        Self {
            api_key: api_key.into(),
            base_url: None,
        }
    }

    /// Replaces the API's URL.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The instance called `acme`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Acme, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    /// Where the API begins.
    // FILL IN: the API's URL, with its documentation page.
    pub(crate) fn url(&self) -> Result<BaseUrl, Error> {
        BaseUrl::configured_or(self.base_url.as_ref(), "https://api.acme.example")
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "acme";

    type Integration = Acme;

    // FILL IN: the kinds that Acme Inc has something for. What it has nothing for
    // is `Support::No`, and what depends on a key is `Support::When`.
    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Identify
            | Kind::Track
            | Kind::Group
            | Kind::Alias
            | Kind::Page
            | Kind::Screen
            | Kind::Delete => Support::Yes,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Acme, Error> {
        Client::new(AcmeVendor::new(self)?, instance)
    }
}

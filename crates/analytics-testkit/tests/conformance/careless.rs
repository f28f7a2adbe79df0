//! A configuration that is not thought through.

use analytics_http::Client;
use analytics_spec::{
    Error, Kind,
    config::{Instance, VendorConfig},
    integration::Support,
};
use serde::Deserialize;

use crate::acme::{Acme, Config};

/// A configuration that promises what no instance does, and needs no key.
#[derive(Debug, Deserialize)]
pub(crate) struct Careless(#[serde(default = "nothing")] pub(crate) Config);

fn nothing() -> Config {
    Config::new("")
}

impl VendorConfig for Careless {
    const VENDOR: &'static str = "acme";

    type Integration = Client<Acme>;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Alias => Support::Yes,
            other => Config::support(other),
        }
    }

    fn build_as(self, instance: Instance) -> Result<Client<Acme>, Error> {
        Client::new(Acme::new(self.0)?, instance)
    }
}

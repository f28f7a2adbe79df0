//! Where requests go.

use std::{fmt, str::FromStr};

use analytics_http::request::is_private;
use analytics_spec::{Error, Secret};
use http::Uri;
use serde::{Deserialize, Deserializer, de::Error as _};

/// The URL of an endpoint: scheme, host, and whatever path and query it has.
///
/// Many services put a credential into it, so `Debug` shows where it leads and
/// no more.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// What is shorter is a word of the path, and nobody's credential.
const MIN_CREDENTIAL: usize = 8;

impl Endpoint {
    /// The endpoint at a URL.
    ///
    /// # Errors
    ///
    /// It is not `http` or `https` with a host, has credentials before the
    /// host, which belong into a header, or a fragment, which is not sent.
    pub fn new(url: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::configuration(format!("the URL {what}")));
        let url = url.trim();
        if url.contains('#') {
            return wrong("must not have a fragment");
        }
        let Ok(uri) = url.parse::<Uri>() else {
            return wrong("is not one, such as https://receiver.example/events");
        };
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || uri.host().is_none_or(str::is_empty)
        {
            return wrong("must begin with https:// or http:// and a host");
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return wrong("must not have credentials before the host: send them in a header");
        }
        Ok(Self(uri))
    }

    /// Whether requests are encrypted, or stay on this machine.
    pub(crate) fn is_private(&self) -> bool {
        is_private(&self.0)
    }

    /// The whole URL.
    pub(crate) fn url(&self) -> String {
        self.0.to_string()
    }

    /// Scheme and host.
    pub(crate) fn origin(&self) -> String {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |a| a.as_str());
        format!("{scheme}://{authority}")
    }

    /// The URL without its query.
    pub(crate) fn without_query(&self) -> String {
        self.origin() + self.0.path()
    }

    /// The pieces of what follows the host that may be credentials.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = Secret> {
        let rest = self.0.path_and_query().map_or("", |rest| rest.as_str());
        long_enough(rest.split(['/', '?', '&', '=']))
    }

    /// The values of the query that may be credentials, as `?token=...` is.
    pub(crate) fn query_credentials(&self) -> impl Iterator<Item = Secret> {
        let pairs = self.0.query().unwrap_or_default().split('&');
        long_enough(pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)))
    }
}

fn long_enough<'a>(pieces: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Secret> {
    pieces
        .filter(|piece| piece.len() >= MIN_CREDENTIAL)
        .map(Secret::new)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/...", self.origin())
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        Self::new(url)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A type error would repeat what it found.
        let url = Secret::deserialize(deserializer)?;
        Self::new(url.expose()).map_err(|error| D::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_and_not_repeated() {
        for wrong in [
            "",
            "receiver.example/hunter2",
            "ftp://x/hunter2",
            "https://",
            "https://u:hunter2@x",
            "https://x/#hunter2",
            "https://x/hun ter2",
        ] {
            let error = Endpoint::new(wrong).unwrap_err().to_string();
            assert!(!error.contains("ter2"), "{error}");
        }
        let endpoint = Endpoint::new(" https://x.example/in/hunter2?k=v ").unwrap();
        assert_eq!(endpoint.url(), "https://x.example/in/hunter2?k=v");
        assert_eq!(endpoint.without_query(), "https://x.example/in/hunter2");
        assert_eq!(format!("{endpoint:?}"), "https://x.example/...");
        let number = serde_json::from_str::<Endpoint>("4711").unwrap_err();
        assert!(!number.to_string().contains("4711"), "{number}");
    }

    #[test]
    fn what_follows_the_host_can_be_a_credential() {
        let exposed =
            |all: Vec<Secret>| -> Vec<_> { all.iter().map(|s| s.expose().to_owned()).collect() };
        let url = "https://x.example/in/T0a1b2c3d4?key=u5v6w7x8y9=&v=2&z0a1b2c3d4";
        let endpoint = Endpoint::new(url).unwrap();
        assert_eq!(
            exposed(endpoint.credentials().collect()),
            ["T0a1b2c3d4", "u5v6w7x8y9", "z0a1b2c3d4"]
        );
        assert_eq!(
            exposed(endpoint.query_credentials().collect()),
            ["u5v6w7x8y9=", "z0a1b2c3d4"]
        );
        let endpoint = Endpoint::new("https://x.example").unwrap();
        assert_eq!(endpoint.credentials().count(), 0);
        assert_eq!(endpoint.query_credentials().count(), 0);
    }
}

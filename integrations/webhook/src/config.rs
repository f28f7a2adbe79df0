//! What an endpoint needs to know.

use std::collections::BTreeMap;

use analytics_http::Client;
use analytics_spec::{
    Error, Kind, Secret, Value,
    config::{Instance, VendorConfig, boolean, missing},
    integration::Support,
};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{Endpoint, Meaning, StatusPattern, Webhook, WebhookVendor};

/// How requests are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Method {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
}

/// Several events in one request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Batch {
    /// The most events of a request.
    pub max_items: usize,
    /// The most bytes of its body, before compression. An event that is larger
    /// by itself is sent alone.
    pub max_bytes: usize,
    /// Whether the answer has a result for each event.
    pub results: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_items: 100,
            max_bytes: 1_000_000,
            results: false,
        }
    }
}

impl Batch {
    /// At most 100 events and 1,000,000 bytes, with one answer for all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most events of a request.
    #[must_use]
    pub fn max_items(mut self, events: usize) -> Self {
        self.max_items = events;
        self
    }

    /// Sets the most bytes of a request's body.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Says that the answer has a result for each event.
    #[must_use]
    pub fn results(mut self) -> Self {
        self.results = true;
        self
    }
}

/// What an endpoint needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where events are sent.
    #[serde(default)]
    pub url: Option<Endpoint>,
    /// Whether what follows the host in the URL is a credential.
    #[serde(default, deserialize_with = "boolean")]
    pub url_is_secret: bool,
    /// Whether another host than this machine may be reached without TLS.
    #[serde(default, deserialize_with = "boolean")]
    pub allow_http: bool,
    /// How requests are sent.
    #[serde(default)]
    pub method: Method,
    /// What requests are signed with: each of them signs. Nothing is signed
    /// without one.
    #[serde(default, deserialize_with = "one_or_several")]
    pub secret: Vec<Secret>,
    /// Headers of one's own. Their values are treated as credentials.
    #[serde(default, deserialize_with = "by_name")]
    pub headers: BTreeMap<String, Secret>,
    /// Whether bodies of 1 KiB and more are compressed.
    #[serde(default, deserialize_with = "boolean")]
    pub gzip: bool,
    /// How many events a request has; one, if absent.
    #[serde(default)]
    pub batch: Option<Batch>,
    /// What statuses mean, where that is something else than everywhere.
    #[serde(default)]
    pub statuses: BTreeMap<StatusPattern, Meaning>,
    /// How many requests may be under way at the same time.
    #[serde(default = "four", deserialize_with = "count")]
    pub max_in_flight: usize,
}

fn four() -> usize {
    4
}

/// A secret, or a list of them; in a text, they have spaces between them, as
/// their signatures have.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text.split_whitespace().map(Secret::new).collect()),
        Value::Array(secrets) => secrets.into_iter().map(secret).collect(),
        // An error of serde's own would repeat what it found.
        _ => Err(de::Error::custom("expected a secret, or a list of them")),
    }
}

/// Values by name, of which no error repeats one.
fn by_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Secret>, D::Error> {
    let Value::Object(table) = Value::deserialize(deserializer)? else {
        return Err(de::Error::custom("expected a table of headers"));
    };
    let read = |(name, value)| match secret::<D::Error>(value) {
        Ok(value) => Ok((name, value)),
        Err(error) => Err(de::Error::custom(format!("`{name}`: {error}"))),
    };
    table.into_iter().map(read).collect()
}

fn secret<E: de::Error>(value: Value) -> Result<Secret, E> {
    Secret::deserialize(value).map_err(E::custom)
}

/// A number that may be written as text, as environment variables have it.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number")]
    enum Written {
        Number(usize),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => {
            let wrong = |_| de::Error::custom("expected a number, found another text");
            text.trim().parse().map_err(wrong)
        }
    }
}

impl Config {
    /// An endpoint that gets one event in a request, which is not signed.
    #[must_use]
    pub fn new(url: Endpoint) -> Self {
        Self {
            url: Some(url),
            url_is_secret: false,
            allow_http: false,
            method: Method::default(),
            secret: Vec::new(),
            headers: BTreeMap::new(),
            gzip: false,
            batch: None,
            statuses: BTreeMap::new(),
            max_in_flight: four(),
        }
    }

    /// Says that what follows the host in the URL is a credential.
    #[must_use]
    pub fn url_is_secret(mut self) -> Self {
        self.url_is_secret = true;
        self
    }

    /// Lets another host than this machine be reached without TLS.
    #[must_use]
    pub fn allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Sets how requests are sent.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Signs with this secret, and with those that are there already.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Secret>) -> Self {
        self.secret.push(secret.into());
        self
    }

    /// Sends a header of one's own.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Compresses bodies of 1 KiB and more.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Sends several events in one request.
    #[must_use]
    pub fn batch(mut self, batch: Batch) -> Self {
        self.batch = Some(batch);
        self
    }

    /// Sets what a status means, or a class of them.
    #[must_use]
    pub fn status(mut self, status: impl Into<StatusPattern>, meaning: Meaning) -> Self {
        self.statuses.insert(status.into(), meaning);
        self
    }

    /// Sets how many requests may be under way at the same time.
    #[must_use]
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// The instance called `webhook`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Webhook, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    /// The URL, if it may be used.
    pub(crate) fn endpoint(&self) -> Result<&Endpoint, Error> {
        let Some(url) = &self.url else {
            return Err(missing(Self::VENDOR, "url"));
        };
        if self.allow_http || url.is_private() {
            Ok(url)
        } else {
            Err(Error::configuration(
                "`url` must begin with https://: without it, everybody on the way reads the \
                 events. `allow_http` allows it",
            ))
        }
    }

    /// Numbers that nothing could be sent with.
    pub(crate) fn check_numbers(&self) -> Result<(), Error> {
        let batch = self.batch.as_ref();
        let numbers = [
            ("max_in_flight", Some(self.max_in_flight)),
            ("batch.max_items", batch.map(|batch| batch.max_items)),
            ("batch.max_bytes", batch.map(|batch| batch.max_bytes)),
        ];
        match numbers.iter().find(|(_, number)| *number == Some(0)) {
            Some((key, _)) => Err(Error::configuration(format!("`{key}` must be at least 1"))),
            None => Ok(()),
        }
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "webhook";

    type Integration = Webhook;

    fn support(_: Kind) -> Support {
        Support::Yes
    }

    fn build_as(self, instance: Instance) -> Result<Webhook, Error> {
        Client::new(WebhookVendor::new(self)?, instance)
    }
}

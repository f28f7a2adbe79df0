//! Acme Inc's mapping, limits and requests.

use analytics_http::{
    BaseUrl, HttpVendor, Limits, Reading, Sending, Step,
    request::{bearer, json, wrap},
    vendor::shown,
};
use analytics_spec::{
    AnyEvent, AnyInput, Error, ErrorKind, HttpResponse, Kind, KindSet, Map, Secret,
    ValidationError, Value,
    config::{VendorConfig, missing},
    integration::{Batching, Support},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::json;

use crate::{Config, alias, delete, group, identify, outcome, page, screen, track};

/// Events of one request, and the bytes of its body.
// FILL IN: the numbers, with their documentation page; 1, if a request takes
// one event.
const MAX_EVENTS: usize = 100;
const MAX_BYTES: usize = 1_000_000;

/// Acme Inc's mapping and reading.
#[derive(Debug)]
pub struct AcmeVendor {
    config: Config,
    base: BaseUrl,
    auth: HeaderValue,
}

/// Where a request goes.
// FILL IN: one for each endpoint. Steps on equal routes share requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// Events, several in one request.
    Events,
}

impl AcmeVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn new(config: Config) -> Result<Self, Error> {
        if config.api_key.is_blank() {
            return Err(missing(Config::VENDOR, "api_key"));
        }
        Ok(Self {
            base: config.url()?,
            auth: bearer(config.api_key.expose())?,
            config,
        })
    }
}

/// What a kind's file returns until its mapping is written.
// FILL IN: nothing; take this away when no kind needs it any more.
pub(crate) fn unwritten(kind: Kind) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("src/{kind}.rs does not map anything yet"),
    )
}

impl HttpVendor for AcmeVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    // FILL IN: nothing, unless `Config::support` has a condition: whether it
    // holds is known here.
    fn supports(&self) -> KindSet {
        let is_supported = |kind: &Kind| Config::support(*kind) == Support::Yes;
        Kind::ALL.into_iter().filter(is_supported).collect()
    }

    // FILL IN: what Acme Inc would refuse, or take and lose: an id of which it
    // knows nobody, a text that is too long. What is accepted here can be
    // mapped.
    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        // FILL IN: unsupported kinds together, with `Error::unsupported`.
        match &input.event {
            AnyEvent::Identify(event) => identify::steps(input, event),
            AnyEvent::Track(event) => track::steps(input, event),
            AnyEvent::Group(event) => group::steps(input, event),
            AnyEvent::Alias(event) => alias::steps(input, event),
            AnyEvent::Page(event) => page::steps(input, event),
            AnyEvent::Screen(event) => screen::steps(input, event),
            AnyEvent::Delete(event) => delete::steps(input, event),
        }
    }

    fn limits(&self, route: &Route) -> Limits {
        match route {
            Route::Events => Limits {
                max_items: MAX_EVENTS,
                max_bytes: MAX_BYTES,
                // What the body has around the events.
                envelope_bytes: r#"{"events":[]}"#.len(),
                // FILL IN: whether Acme Inc takes bodies that are compressed.
                gzip: false,
                // FILL IN: whether an answer may take a later event of a
                // request while an earlier one is to be sent again.
                one_per_person: false,
            },
        }
    }

    // FILL IN: the request of each route: method, path, credentials, body.
    fn request(
        &self,
        route: &Route,
        bodies: &[&Bytes],
        _: Sending,
    ) -> Result<Request<Bytes>, Error> {
        match route {
            Route::Events => {
                let body = wrap(r#"{"events":["#, bodies, "]}");
                json(
                    Method::POST,
                    &self.base.join("/events"),
                    Some(&self.auth),
                    body,
                )
            }
        }
    }

    fn read(&self, _: &Route, response: &HttpResponse, _: usize) -> Reading {
        outcome::read(response)
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.config.api_key]
    }

    // FILL IN: how many events to hand over at once, and how many requests may
    // be under way, with the documentation page of Acme Inc's rate limits.
    fn batching(&self) -> Batching {
        Batching {
            max_items: MAX_EVENTS,
            max_bytes: MAX_BYTES,
            max_in_flight: 4,
        }
    }

    // FILL IN: the keys of `Config` that people should see, and no credential.
    fn configuration(&self) -> Map<String, Value> {
        shown([("url", json!(self.base.as_str()))])
    }
}

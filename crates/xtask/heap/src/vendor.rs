//! Heap's mapping, limits and requests.

use analytics_http::{
    BaseUrl, HttpVendor, Limits, Reading, Sending, Step,
    request::{json, wrap},
    vendor::shown,
};
use analytics_spec::{
    AnyEvent, AnyInput, Code, Error, HttpResponse, Kind, KindSet, Map, Secret, ValidationError,
    Value, Violation,
    config::{VendorConfig, missing},
    integration::{Batching, Support},
};
use bytes::Bytes;
use http::{Method, Request};
use serde_json::json;

use crate::{Config, identify, outcome, properties, track};

/// Events, or users, of one request.
///
/// <https://developers.heap.io/reference/bulk-track>
const MAX_ITEMS: usize = 1_000;

/// Heap names no limit in bytes: one that any gateway takes.
const MAX_BYTES: usize = 1_000_000;

/// The most characters of an event's name.
///
/// <https://developers.heap.io/reference/track-1>
const MAX_NAME_CHARS: usize = 1024;

/// Heap's mapping and reading.
#[derive(Debug)]
pub struct HeapVendor {
    config: Config,
    base: BaseUrl,
    /// The environment's id as bodies have it.
    app_id_json: Secret,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// Events, several in one request.
    Events,
    /// Users' properties, several users in one request.
    Users,
}

impl HeapVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn new(config: Config) -> Result<Self, Error> {
        if config.app_id.is_blank() {
            return Err(missing(Config::VENDOR, "app_id"));
        }
        Ok(Self {
            base: config.url()?,
            app_id_json: Secret::new(Value::from(config.app_id.expose()).to_string()),
            config,
        })
    }
}

impl HttpVendor for HeapVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        let is_supported = |kind: &Kind| Config::support(*kind) == Support::Yes;
        Kind::ALL.into_iter().filter(is_supported).collect()
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let kind = input.kind();
        let mut violations = Vec::new();
        if input.event.user_id().is_none() {
            violations.push(Violation::new(
                format!("{kind}.user_id"),
                Code::Required,
                "Heap knows people by an identity, and nobody by an anonymous id",
            ));
        }
        match &input.event {
            AnyEvent::Identify(event) => {
                violations.extend(properties::violations("identify.traits", &event.traits));
            }
            AnyEvent::Track(event) => {
                if event.event.chars().count() > MAX_NAME_CHARS {
                    violations.push(Violation::new(
                        "track.event",
                        Code::TooLong,
                        format!("Heap takes at most {MAX_NAME_CHARS} characters"),
                    ));
                }
                let properties = &event.properties;
                violations.extend(properties::violations("track.properties", properties));
            }
            _ => {}
        }
        ValidationError::check(violations)
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        match &input.event {
            AnyEvent::Identify(event) => identify::steps(event),
            AnyEvent::Track(event) => track::steps(input, event),
            _ => Err(Error::unsupported(input.kind(), Self::VENDOR)),
        }
    }

    fn limits(&self, _: &Route) -> Limits {
        Limits {
            max_items: MAX_ITEMS,
            max_bytes: MAX_BYTES,
            // What the body has around the events: the keys, and the id.
            envelope_bytes: 32 + self.app_id_json.expose().len(),
            gzip: false,
            one_per_person: false,
        }
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[&Bytes],
        _: Sending,
    ) -> Result<Request<Bytes>, Error> {
        let (path, key) = match route {
            Route::Events => ("/api/track", "events"),
            Route::Users => ("/api/add_user_properties", "users"),
        };
        let app_id = self.app_id_json.expose();
        let before = format!(r#"{{"app_id":{app_id},"{key}":["#);
        let body = wrap(&before, bodies, "]}");
        json(Method::POST, &self.base.join(path), None, body)
    }

    fn read(&self, _: &Route, response: &HttpResponse, _: usize) -> Reading {
        outcome::read(response)
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.config.app_id]
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: MAX_ITEMS,
            max_bytes: MAX_BYTES,
            // 15,000 events a minute for an environment.
            max_in_flight: 2,
        }
    }

    fn configuration(&self) -> Map<String, Value> {
        shown([("url", json!(self.base.as_str()))])
    }
}

//! Segment's mapping, limits and requests.

use std::time::Duration;

use analytics_http::{
    BaseUrl, HttpVendor, Limits, Reading, Sending, Step,
    request::{Iso8601, basic, bearer, encode, json, wrap},
    vendor::shown,
};
use analytics_spec::{
    ActivityPolicy, AnyEvent, AnyInput, Code, Error, HttpResponse, Kind, KindSet, Map, Policies,
    RetryPolicy, Secret, ValidationError, Value, Violation,
    config::{VendorConfig, missing},
    integration::Batching,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::json;

use crate::{Config, config::Region, message::Body, outcome};

/// The most bytes of one message. Segment answers 200 to a larger one, and
/// drops it.
///
/// <https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size>
pub(crate) const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// The most properties or traits of one message.
pub(crate) const MAX_PROPERTIES: usize = 10_000;

/// A batch's limits are 500 KB and 2,500 messages; more messages are answered
/// with 200, and dropped. Segment's own libraries stay below the bytes.
const MAX_BATCH_BYTES: usize = 480_000;
const MAX_BATCH_MESSAGES: usize = 2_500;

/// The most subjects of one regulation.
const MAX_SUBJECTS: usize = 5_000;

/// Segment's mapping and reading.
#[derive(Debug)]
pub struct SegmentVendor {
    config: Config,
    tracking_url: String,
    regulations_url: String,
    tracking_auth: HeaderValue,
    public_api_auth: Option<HeaderValue>,
    /// The write key as a batch's body repeats it.
    write_key_json: Secret,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// Messages, together in one batch.
    Batch,
    /// A regulation for several users.
    Regulations,
}

impl SegmentVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A credential is missing, or it or a URL cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        if config.write_key.is_blank() {
            return Err(missing(Config::VENDOR, "write_key"));
        }
        let (tracking, public_api) = match config.region {
            Region::Us => ("https://api.segment.io", "https://api.segmentapis.com"),
            Region::Eu => (
                "https://events.eu1.segmentapis.com",
                "https://eu1.api.segmentapis.com",
            ),
        };
        let tracking = BaseUrl::configured_or(config.base_url.as_ref(), tracking)?;
        let own = config.public_api_base_url.as_ref();
        let public_api = BaseUrl::configured_or(own, public_api)?;
        let regulations = match &config.source_id {
            Some(source) if source.trim().is_empty() => {
                return Err(Error::configuration(
                    "`source_id` is blank: set it, or leave it out to delete from every source",
                ));
            }
            Some(source) => format!("/regulations/sources/{}", encode(source)),
            None => "/regulations".to_owned(),
        };
        let public_api_auth = match &config.public_api_token {
            Some(token) if token.is_blank() => {
                return Err(missing(Config::VENDOR, "public_api_token"));
            }
            Some(token) => Some(bearer(token.expose())?),
            None => None,
        };
        Ok(Self {
            tracking_url: tracking.join("/v1/batch"),
            regulations_url: public_api.join(&regulations),
            tracking_auth: basic(config.write_key.expose(), "")?,
            public_api_auth,
            write_key_json: Secret::new(Value::from(config.write_key.expose()).to_string()),
            config,
        })
    }
}

impl HttpVendor for SegmentVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        if self.public_api_auth.is_some() {
            KindSet::ALL
        } else {
            KindSet::ALL.without(Kind::Delete)
        }
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let kind = input.kind();
        // A delete sends nothing of the event but the id.
        if kind == Kind::Delete {
            return Ok(());
        }
        let mut violations = Vec::new();
        let event = &input.event;
        if let AnyEvent::Identify(identify) = event
            && identify.user_id.is_none()
            && identify.anonymous_id.is_none()
        {
            violations.push(Violation::new(
                "identify.user_id",
                Code::Required,
                "Segment needs user_id or anonymous_id",
            ));
        }
        for (name, map) in [
            ("traits", event.traits()),
            ("properties", event.properties()),
        ] {
            if map.is_some_and(|map| map.len() > MAX_PROPERTIES) {
                violations.push(Violation::new(
                    format!("{kind}.{name}"),
                    Code::TooLarge,
                    format!("Segment takes at most {MAX_PROPERTIES} of them"),
                ));
            }
        }
        ValidationError::check(violations)
    }

    fn validate_steps(
        &self,
        input: &AnyInput,
        steps: &[Step<Route>],
    ) -> Result<(), ValidationError> {
        let bodies = steps.iter().filter(|step| step.route == Route::Batch);
        let bytes: usize = bodies.map(|step| step.body.len()).sum();
        if bytes <= MAX_MESSAGE_BYTES {
            return Ok(());
        }
        ValidationError::check(vec![Violation::new(
            input.kind().as_str(),
            Code::TooLarge,
            format!(
                "is {bytes} bytes as Segment's message; Segment takes at most {MAX_MESSAGE_BYTES}"
            ),
        )])
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        let route = match input.kind() {
            Kind::Delete => Route::Regulations,
            _ => Route::Batch,
        };
        Ok(vec![Step::json(route, &Body(input))?])
    }

    fn limits(&self, route: &Route) -> Limits {
        match route {
            Route::Batch => Limits {
                max_items: MAX_BATCH_MESSAGES,
                max_bytes: MAX_BATCH_BYTES,
                // The keys, the time, and the write key.
                envelope_bytes: 64 + self.write_key_json.expose().len(),
                gzip: true,
                ..Limits::SINGLE
            },
            Route::Regulations => Limits {
                max_items: MAX_SUBJECTS,
                ..Limits::SINGLE
            },
        }
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[&Bytes],
        sending: Sending,
    ) -> Result<Request<Bytes>, Error> {
        match route {
            Route::Batch => {
                let end = format!(
                    r#"],"sentAt":"{}","writeKey":{}}}"#,
                    Iso8601(sending.at),
                    self.write_key_json.expose(),
                );
                let body = wrap(r#"{"batch":["#, bodies, &end);
                let mut request = json(
                    Method::POST,
                    &self.tracking_url,
                    Some(&self.tracking_auth),
                    body,
                )?;
                if sending.retry > 0 {
                    request
                        .headers_mut()
                        .insert("x-retry-count", HeaderValue::from(sending.retry));
                }
                Ok(request)
            }
            Route::Regulations => {
                let kind = json!(self.config.regulation_type);
                let start =
                    format!(r#"{{"regulationType":{kind},"subjectType":"USER_ID","subjectIds":["#);
                let body = wrap(&start, bodies, "]}");
                let auth = self.public_api_auth.as_ref();
                json(Method::POST, &self.regulations_url, auth, body)
            }
        }
    }

    fn read(&self, route: &Route, response: &HttpResponse, _: usize) -> Reading {
        match route {
            Route::Batch => outcome::tracking(response),
            Route::Regulations => outcome::regulation(response),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        let token = self.config.public_api_token.as_ref();
        std::iter::once(&self.config.write_key)
            .chain(token)
            .collect()
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: 500,
            max_bytes: MAX_BATCH_BYTES,
            max_in_flight: 4,
        }
    }

    /// As Segment's own libraries: from 500 ms, doubling up to 60 s, ten
    /// retries.
    fn policies(&self) -> Policies {
        Policies::new().request(
            ActivityPolicy::new().retry_policy(
                RetryPolicy::new()
                    .initial_interval(Duration::from_millis(500))
                    .maximum_interval(Duration::from_secs(60))
                    .maximum_attempts(11),
            ),
        )
    }

    fn configuration(&self) -> Map<String, Value> {
        let config = &self.config;
        shown([
            ("region", json!(config.region)),
            ("regulation_type", json!(config.regulation_type)),
            ("source_id", json!(config.source_id)),
            ("tracking_url", json!(self.tracking_url)),
            ("regulations_url", json!(self.regulations_url)),
        ])
    }
}

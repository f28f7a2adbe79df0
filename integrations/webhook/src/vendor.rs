//! The mapping, the limits and the requests of an endpoint.

use std::time::Duration;

use analytics_http::{
    HttpVendor, Limits, Reading, Sending, Step,
    request::{json, wrap},
    vendor::shown,
};
use analytics_spec::{
    ActivityPolicy, AnyInput, Error, ErrorKind, HttpResponse, KindSet, Map, Policies, RetryPolicy,
    Secret, ValidationError, Value, config::VendorConfig, integration::Batching,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::json;

use crate::{
    Batch, Config, Method,
    envelope::Envelope,
    headers, id, outcome,
    signature::{self, Keys},
    statuses::Statuses,
};

/// What a batch's body has around its events.
const BEFORE: &str = r#"{"batch":["#;
const AFTER: &str = "]}";

/// The headers of Standard Webhooks.
///
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#webhook-headers-sending-metadata-to-consumers>
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// An endpoint's mapping and reading.
#[derive(Debug)]
pub struct WebhookVendor {
    /// As it is shown.
    url: String,
    /// As it is used: who may see it, the configuration says.
    target: Secret,
    method: Method,
    keys: Keys,
    headers: HeaderMap,
    gzip: bool,
    batch: Option<Batch>,
    statuses: Statuses,
    max_in_flight: usize,
    credentials: Vec<Secret>,
}

/// Where a request goes: there is one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route;

impl WebhookVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check_numbers()?;
        let endpoint = config.endpoint()?;
        let bare = |secret| signature::bare(secret).map(Secret::new);
        let mut credentials: Vec<_> = config.secret.iter().filter_map(bare).collect();
        credentials.extend(config.secret.iter().cloned());
        credentials.extend(headers::credentials(&config.headers));
        let url = if config.url_is_secret {
            credentials.extend(endpoint.credentials());
            endpoint.origin()
        } else {
            credentials.extend(endpoint.query_credentials());
            endpoint.without_query()
        };
        Ok(Self {
            url,
            target: Secret::new(endpoint.url()),
            method: config.method,
            keys: Keys::read(&config.secret)?,
            headers: headers::read(&config.headers)?,
            gzip: config.gzip,
            batch: config.batch,
            statuses: Statuses::new(config.statuses)?,
            max_in_flight: config.max_in_flight,
            credentials,
        })
    }
}

impl HttpVendor for WebhookVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    /// A status is all that an endpoint has to say.
    const MAY_ANSWER_WITH_PAGES: bool = true;

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    /// Whatever is an event can be sent.
    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        Ok(vec![Step::json(Route, &Envelope(input))?])
    }

    fn limits(&self, _: &Route) -> Limits {
        let limits = Limits {
            gzip: self.gzip,
            ..Limits::SINGLE
        };
        match &self.batch {
            Some(batch) => Limits {
                max_items: batch.max_items,
                max_bytes: batch.max_bytes,
                envelope_bytes: BEFORE.len() + AFTER.len(),
                // A result may take a person's event and have an earlier one
                // sent again.
                one_per_person: batch.results,
                ..limits
            },
            None => limits,
        }
    }

    /// What is signed is the body before its compression: servers undo that
    /// before they hand it on.
    fn request(
        &self,
        _: &Route,
        bodies: &[&Bytes],
        sending: Sending,
    ) -> Result<Request<Bytes>, Error> {
        let method = match self.method {
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
        };
        let body = match bodies {
            [body] if self.batch.is_none() => Bytes::clone(body),
            _ => wrap(BEFORE, bodies, AFTER),
        };
        let id = id::of(bodies);
        let timestamp = sending.at.as_second();
        let signature = self.keys.sign(&id, timestamp, &body);
        let mut request = json(method, self.target.expose(), None, body)?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(ID, header(&id)?);
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        if let Some(signature) = signature {
            let mut signature = header(&signature)?;
            // For as long as the endpoint takes its timestamp, it vouches for
            // the request.
            signature.set_sensitive(true);
            headers.insert(SIGNATURE, signature);
        }
        Ok(request)
    }

    fn read(&self, _: &Route, response: &HttpResponse, items: usize) -> Reading {
        match &self.batch {
            Some(batch) if batch.results => outcome::each(&self.statuses, response, items),
            _ => Reading::All(outcome::whole(&self.statuses, response)),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.credentials.iter().collect()
    }

    fn batching(&self) -> Batching {
        match &self.batch {
            Some(batch) => Batching {
                max_items: batch.max_items,
                max_bytes: batch.max_bytes,
                max_in_flight: self.max_in_flight,
            },
            None => Batching::single(self.max_in_flight),
        }
    }

    /// As Standard Webhooks has it: 15 to 30 seconds for an attempt, and 5
    /// until the second one.
    ///
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#deliverability-and-reliability>
    fn policies(&self) -> Policies {
        Policies::new().request(
            ActivityPolicy::new()
                .single_attempt_timeout(Duration::from_secs(20))
                .retry_policy(RetryPolicy::new().initial_interval(Duration::from_secs(5))),
        )
    }

    fn configuration(&self) -> Map<String, Value> {
        let batch = self.batch.as_ref();
        shown([
            ("url", json!(self.url)),
            ("method", json!(self.method)),
            ("is_signed", json!(!self.keys.is_empty())),
            ("headers", json!(self.header_names())),
            ("gzip", json!(self.gzip)),
            ("max_items", json!(batch.map(|batch| batch.max_items))),
            ("max_bytes", json!(batch.map(|batch| batch.max_bytes))),
            ("results", json!(batch.map(|batch| batch.results))),
            ("statuses", json!(self.statuses)),
            ("max_in_flight", json!(self.max_in_flight)),
        ])
    }
}

impl WebhookVendor {
    fn header_names(&self) -> Vec<&str> {
        self.headers.keys().map(HeaderName::as_str).collect()
    }
}

fn header(value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value).map_err(|_| {
        let message = "a header of the signature cannot be written";
        Error::new(ErrorKind::Internal, message)
    })
}

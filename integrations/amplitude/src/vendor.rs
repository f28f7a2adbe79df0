//! Amplitude's mapping, limits and requests.

use analytics_http::{
    BaseUrl, HttpVendor, Limits, Reading, Sending, Step,
    request::{basic, encode, json, wrap},
    vendor::shown,
};
use analytics_spec::{
    AnyEvent, AnyInput, Code, Error, ErrorKind, HttpResponse, Kind, KindSet, Map, Secret,
    ValidationError, Value, Violation, config::VendorConfig, integration::Batching,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header::CONTENT_TYPE};
use serde_json::json;

use crate::{
    Config, alias,
    config::{Api, Region},
    delete, group, identify,
    ids::MIN_CHARS,
    outcome, page, rules, screen, track,
};

/// Events and bytes of one request to `/2/httpapi`: fewer than 2,000, and not
/// more than 1 MB.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#upload-limit>
const MAX_EVENTS: usize = 1_999;
const MAX_BYTES: usize = 1_000_000;

/// Events and bytes of one request to `/batch`.
///
/// <https://amplitude.com/docs/apis/analytics/batch-event-upload#responses>
const MAX_BATCH_EVENTS: usize = 2_000;
const MAX_BATCH_BYTES: usize = 20_000_000;

/// Mappings of one request: 2,000 are allowed, but no more than 1,500 in half a
/// minute, so that a request of more would never be let in. Its megabyte holds
/// a third of that in JSON, for each byte of it may become three.
///
/// <https://amplitude.com/docs/apis/analytics/user-mapping#limits>
const MAX_MAPPINGS: usize = 1_500;
const MAX_MAPPING_BYTES: usize = 300_000;

/// Users of one deletion.
///
/// <https://amplitude.com/docs/apis/analytics/user-privacy#limits>
const MAX_DELETIONS: usize = 100;

/// Who asks for deletions, in Amplitude's list of them.
const REQUESTER: &str = "analytics-rust";

/// Amplitude's mapping and reading.
#[derive(Debug)]
pub struct AmplitudeVendor {
    config: Config,
    upload_url: String,
    user_map_url: String,
    deletions_url: String,
    deletions_auth: Option<HeaderValue>,
    /// What an upload has before its events, the API key among it.
    upload_start: Secret,
    upload_end: String,
    /// What a form has before its mappings.
    user_map_start: Secret,
    user_map_end: String,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// `/2/httpapi` or `/batch`: events.
    Upload,
    /// `/usermap`: ids that are one user's.
    UserMap,
    /// The User Privacy API.
    Deletions,
}

impl AmplitudeVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        // - https://amplitude.com/docs/apis/analytics/http-v2#regions
        // - https://amplitude.com/docs/apis/analytics/user-mapping#regions
        // - https://amplitude.com/docs/apis/analytics/user-privacy#regions
        let (upload, user_map, deletions) = match config.region {
            Region::Us => (
                "https://api2.amplitude.com",
                "https://api.amplitude.com",
                "https://amplitude.com",
            ),
            Region::Eu => (
                "https://api.eu.amplitude.com",
                "https://api.eu.amplitude.com",
                "https://analytics.eu.amplitude.com",
            ),
        };
        let url = |default, path| {
            let base = BaseUrl::configured_or(config.base_url.as_ref(), default);
            base.map(|base| base.join(path))
        };
        let path = match config.api {
            Api::HttpV2 => "/2/httpapi",
            Api::Batch => "/batch",
        };
        let key = config.api_key.expose();
        let deletions_auth = match &config.secret_key {
            Some(secret) => Some(basic(key, secret.expose())?),
            None => None,
        };
        let options = config
            .min_id_length
            .map(|length| json!({ "min_id_length": length }).to_string());
        Ok(Self {
            upload_url: url(upload, path)?,
            user_map_url: url(user_map, "/usermap")?,
            deletions_url: url(deletions, "/api/2/deletions/users")?,
            deletions_auth,
            upload_start: format!(r#"{{"api_key":{},"events":["#, json!(key)).into(),
            upload_end: match &options {
                Some(options) => format!(r#"],"options":{options}}}"#),
                None => "]}".to_owned(),
            },
            user_map_start: format!("api_key={}&mapping=", encode(key)).into(),
            user_map_end: match &options {
                Some(options) => format!("&options={}", encode(options)),
                None => String::new(),
            },
            config,
        })
    }
}

impl HttpVendor for AmplitudeVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        if self.deletions_auth.is_some() {
            KindSet::ALL
        } else {
            KindSet::ALL.without(Kind::Delete)
        }
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let min_id_chars = self.config.min_id_length.unwrap_or(MIN_CHARS);
        ValidationError::check(rules::check(input, min_id_chars))
    }

    fn validate_steps(
        &self,
        input: &AnyInput,
        steps: &[Step<Route>],
    ) -> Result<(), ValidationError> {
        let mut violations = Vec::new();
        for step in steps {
            let limits = self.limits(&step.route);
            let most = limits.max_bytes.saturating_sub(limits.envelope_bytes);
            let bytes = step.body.len();
            if bytes > most {
                violations.push(Violation::new(
                    input.kind().as_str(),
                    Code::TooLarge,
                    format!("is {bytes} bytes as Amplitude's event; a request holds {most}"),
                ));
            }
        }
        ValidationError::check(violations)
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        match &input.event {
            AnyEvent::Identify(_) => identify::steps(input),
            AnyEvent::Track(event) => track::steps(input, event),
            AnyEvent::Group(event) => group::steps(input, event, &self.config.group_type),
            AnyEvent::Alias(event) => alias::steps(event),
            AnyEvent::Page(event) => page::steps(input, event),
            AnyEvent::Screen(event) => screen::steps(input, event),
            AnyEvent::Delete(event) => delete::steps(event),
        }
    }

    fn limits(&self, route: &Route) -> Limits {
        match route {
            Route::Upload => {
                let (max_items, max_bytes) = match self.config.api {
                    Api::HttpV2 => (MAX_EVENTS, MAX_BYTES),
                    Api::Batch => (MAX_BATCH_EVENTS, MAX_BATCH_BYTES),
                };
                Limits {
                    max_items,
                    max_bytes,
                    envelope_bytes: self.upload_start.expose().len() + self.upload_end.len(),
                    // As Amplitude's own libraries do, for both APIs.
                    gzip: true,
                    ..Limits::SINGLE
                }
            }
            Route::UserMap => Limits {
                max_items: MAX_MAPPINGS,
                max_bytes: MAX_MAPPING_BYTES,
                envelope_bytes: self.user_map_start.expose().len()
                    + "[]".len()
                    + self.user_map_end.len(),
                ..Limits::SINGLE
            },
            Route::Deletions => Limits {
                max_items: MAX_DELETIONS,
                ..Limits::SINGLE
            },
        }
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[&Bytes],
        _: Sending,
    ) -> Result<Request<Bytes>, Error> {
        match route {
            Route::Upload => {
                let body = wrap(self.upload_start.expose(), bodies, &self.upload_end);
                json(Method::POST, &self.upload_url, None, body)
            }
            // The documentation has it in the URL, where logs would keep the
            // key. Segment sends a form, `amplitude/mapUser` of
            // https://github.com/segmentio/action-destinations.
            Route::UserMap => {
                let mappings = wrap("[", bodies, "]");
                let mappings = encode(&String::from_utf8_lossy(&mappings));
                let (start, end) = (self.user_map_start.expose(), &self.user_map_end);
                form(&self.user_map_url, format!("{start}{mappings}{end}"))
            }
            // One id that is not known, and none is deleted: so that the answer
            // is everybody's, ids that are not known are not ignored.
            Route::Deletions => {
                let end = format!(r#"],"requester":"{REQUESTER}"}}"#);
                let body = wrap(r#"{"user_ids":["#, bodies, &end);
                let auth = self.deletions_auth.as_ref();
                json(Method::POST, &self.deletions_url, auth, body)
            }
        }
    }

    fn read(&self, route: &Route, response: &HttpResponse, items: usize) -> Reading {
        match route {
            Route::Upload => outcome::upload(response, items),
            Route::UserMap => outcome::user_map(response),
            Route::Deletions => outcome::deletions(response),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        std::iter::once(&self.config.api_key)
            .chain(&self.config.secret_key)
            .collect()
    }

    /// Amplitude advises small batches, unless there is much to send.
    ///
    /// <https://amplitude.com/docs/apis/analytics/http-v2#upload-limit>
    fn batching(&self) -> Batching {
        let (max_items, max_bytes) = match self.config.api {
            Api::HttpV2 => (500, MAX_BYTES),
            Api::Batch => (MAX_BATCH_EVENTS, 4_000_000),
        };
        Batching {
            max_items,
            max_bytes,
            max_in_flight: 4,
        }
    }

    fn configuration(&self) -> Map<String, Value> {
        let config = &self.config;
        let deletions = self.deletions_auth.as_ref().map(|_| &self.deletions_url);
        shown([
            ("region", json!(config.region)),
            ("api", json!(config.api)),
            ("group_type", json!(config.group_type)),
            ("min_id_length", json!(config.min_id_length)),
            ("upload_url", json!(self.upload_url)),
            ("user_map_url", json!(self.user_map_url)),
            ("deletions_url", json!(deletions)),
        ])
    }
}

/// A request whose body is a form.
fn form(url: &str, body: String) -> Result<Request<Bytes>, Error> {
    const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
    Request::post(url)
        .header(CONTENT_TYPE, FORM)
        .body(body.into())
        .map_err(|_| Error::new(ErrorKind::Internal, "the request's URL is not valid"))
}

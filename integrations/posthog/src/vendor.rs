//! PostHog's mapping, limits and requests.

use analytics_http::{
    BaseUrl, HttpVendor, Limits, Reading, Sending, Step,
    request::{bearer, encode, json, wrap},
    vendor::shown,
};
use analytics_spec::{
    AnyEvent, AnyInput, Code, Error, HttpResponse, Kind, KindSet, Map, Secret, ValidationError,
    Value, Violation, config::VendorConfig, integration::Batching,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::json;

use crate::{
    Config, alias, capture::unstamped_bytes, config::Region, delete, group, identify, ids, outcome,
    page, screen, track,
};

/// PostHog loses an event of more than 1 MB, after it has added what it knows
/// of the place and the person: that has to fit as well.
///
/// <https://posthog.com/docs/data/ingestion-warnings#discarded-event-exceeding-1mb-limit>
const MAX_EVENT_BYTES: usize = 950_000;

/// A request's body has to be less than 20 MB, however it is compressed. There
/// is no limit to the number of events.
///
/// <https://posthog.com/docs/api/capture#batch-events>
const MAX_BATCH_BYTES: usize = 19_999_999;

const BATCH_END: &str = "]}";

/// The most ids of one deletion.
///
/// <https://posthog.com/docs/api/persons>
const MAX_DELETIONS: usize = 1_000;

/// PostHog's mapping and reading.
#[derive(Debug)]
pub struct PosthogVendor {
    config: Config,
    capture_url: String,
    deletion: Option<Deletion>,
    /// What a batch's body begins with, the project's key included.
    batch_start: Secret,
}

/// Where persons are deleted, and by whom.
#[derive(Debug)]
struct Deletion {
    url: String,
    auth: HeaderValue,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// `/batch/`: events.
    Capture,
    /// The API that deletes persons.
    Deletion,
}

impl PosthogVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A credential is missing, or it or a URL cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let (capture, api) = match config.region {
            Region::Us => ("https://us.i.posthog.com", "https://us.posthog.com"),
            Region::Eu => ("https://eu.i.posthog.com", "https://eu.posthog.com"),
        };
        let own = config.base_url.as_ref();
        let capture = BaseUrl::configured_or(own, capture)?;
        let api = BaseUrl::configured_or(config.api_base_url.as_ref().or(own), api)?;
        let deletion = match (&config.project_id, &config.personal_api_key) {
            (Some(id), Some(key)) => Some(Deletion {
                url: api.join(&format!(
                    "/api/projects/{}/persons/bulk_delete/",
                    encode(id.trim())
                )),
                auth: bearer(key.expose())?,
            }),
            _ => None,
        };
        let key = json!(config.project_api_key.expose());
        let is_historical = config.historical_migration;
        Ok(Self {
            capture_url: capture.join("/batch/"),
            deletion,
            batch_start: Secret::new(format!(
                r#"{{"api_key":{key},"historical_migration":{is_historical},"batch":["#
            )),
            config,
        })
    }
}

impl HttpVendor for PosthogVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        if self.deletion.is_some() {
            KindSet::ALL
        } else {
            KindSet::ALL.without(Kind::Delete)
        }
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let mut violations = Vec::new();
        ids::check(&input.event, &mut violations);
        violations.extend(match &input.event {
            AnyEvent::Identify(event) => identify::check(event),
            AnyEvent::Track(event) => track::check(event),
            _ => None,
        });
        ValidationError::check(violations)
    }

    fn validate_steps(
        &self,
        input: &AnyInput,
        steps: &[Step<Route>],
    ) -> Result<(), ValidationError> {
        let captures = steps.iter().filter(|step| step.route == Route::Capture);
        let largest = captures.map(|step| step.body.len()).max().unwrap_or(0);
        let bytes = largest + unstamped_bytes(input);
        ValidationError::check(if bytes > MAX_EVENT_BYTES {
            vec![Violation::new(
                input.kind().as_str(),
                Code::TooLarge,
                format!("is {bytes} bytes as PostHog's event; at most {MAX_EVENT_BYTES} arrive"),
            )]
        } else {
            Vec::new()
        })
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        let profiles = self.config.person_profiles;
        let capture = match &input.event {
            AnyEvent::Identify(event) => match identify::check(event) {
                // Nobody's event would be everybody's.
                Some(violation) => return Err(ValidationError::from(violation).into()),
                None => identify::capture(input, event),
            },
            AnyEvent::Track(event) => track::capture(input, event, profiles),
            AnyEvent::Group(event) => group::capture(input, event, &self.config.group_type),
            AnyEvent::Alias(event) => alias::capture(input, event),
            AnyEvent::Page(event) => page::capture(input, event, profiles),
            AnyEvent::Screen(event) => screen::capture(input, event, profiles),
            AnyEvent::Delete(event) => return Ok(vec![delete::step(event)?]),
        };
        Ok(vec![capture.step()?])
    }

    fn limits(&self, route: &Route) -> Limits {
        match route {
            Route::Capture => Limits {
                max_items: usize::MAX,
                max_bytes: MAX_BATCH_BYTES,
                envelope_bytes: self.batch_start.expose().len() + BATCH_END.len(),
                gzip: true,
                ..Limits::SINGLE
            },
            Route::Deletion => Limits {
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
            Route::Capture => {
                let body = wrap(self.batch_start.expose(), bodies, BATCH_END);
                json(Method::POST, &self.capture_url, None, body)
            }
            Route::Deletion => {
                let Some(deletion) = &self.deletion else {
                    return Err(Error::unsupported(Kind::Delete, Self::VENDOR));
                };
                let end = r#"],"delete_events":true,"delete_recordings":true}"#;
                let body = wrap(r#"{"distinct_ids":["#, bodies, end);
                json(Method::POST, &deletion.url, Some(&deletion.auth), body)
            }
        }
    }

    fn read(&self, route: &Route, response: &HttpResponse, _: usize) -> Reading {
        match route {
            Route::Capture => outcome::captured(response),
            Route::Deletion => outcome::deleted(response),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        let personal = self.config.personal_api_key.as_ref();
        std::iter::once(&self.config.project_api_key)
            .chain(personal)
            .collect()
    }

    /// Events are not limited in their rate:
    /// <https://posthog.com/docs/api#rate-limiting>
    fn batching(&self) -> Batching {
        Batching {
            max_items: 500,
            max_bytes: 5_000_000,
            max_in_flight: 4,
        }
    }

    fn configuration(&self) -> Map<String, Value> {
        let config = &self.config;
        shown([
            ("region", json!(config.region)),
            ("group_type", json!(config.group_type)),
            ("person_profiles", json!(config.person_profiles)),
            ("historical_migration", json!(config.historical_migration)),
            ("project_id", json!(config.project_id)),
            ("capture_url", json!(self.capture_url)),
            (
                "deletion_url",
                json!(self.deletion.as_ref().map(|d| &d.url)),
            ),
        ])
    }
}

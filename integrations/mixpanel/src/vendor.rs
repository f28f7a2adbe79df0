//! Mixpanel's mapping, limits and requests.

use std::{borrow::Cow, time::Duration};

use analytics_http::{
    BaseUrl, HttpVendor, Limits, Reading, Sending, Step,
    request::{array, basic, bearer, encode, json, wrap},
    vendor::shown,
};
use analytics_spec::{
    ActivityPolicy, AnyEvent, AnyInput, Code, Error, Event as _, HttpResponse, Kind, KindSet, Map,
    Policies, RetryPolicy, Secret, ValidationError, Value, Violation, config::VendorConfig,
    integration::Batching,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::json;

use crate::{
    Config, alias,
    config::{Deletion, IdMerge, Region},
    delete,
    event::Properties,
    group, identify,
    ids::{DEVICE_PREFIX, MAX_CHARS, is_refused},
    outcome, page, screen,
    template::Template,
    track,
};

/// A record must be smaller.
///
/// <https://docs.mixpanel.com/reference/import-events#high-level-requirements>
const MAX_RECORD_BYTES: usize = 1_000_000;

/// An event must have fewer properties, an object among them fewer keys, and a
/// list fewer elements.
///
/// <https://docs.mixpanel.com/reference/import-events#high-level-requirements>
const MAX_ELEMENTS: usize = 255;

/// 1971-01-01 in milliseconds: Mixpanel takes nothing from before.
///
/// <https://docs.mixpanel.com/reference/import-events#properties-time>
const EARLIEST_MILLISECOND: i64 = 31_536_000_000;

/// The most records of one request to `/import`, `/engage` and `/groups`.
///
/// <https://docs.mixpanel.com/reference/import-events#request-format>
const MAX_RECORDS: usize = 2_000;

/// The documentation says 10 MB, and the answer that it shows for too many says
/// 2 MiB.
const MAX_BATCH_BYTES: usize = 2_000_000;

/// The most users of one deletion.
///
/// <https://docs.mixpanel.com/reference/gdpr-api>
const MAX_DELETIONS: usize = 1_999;

/// Mixpanel's mapping and reading.
#[derive(Debug)]
pub struct MixpanelVendor {
    config: Config,
    api: BaseUrl,
    app: BaseUrl,
    import_url: String,
    import_auth: HeaderValue,
    deletion_auth: Option<HeaderValue>,
    page_name: Option<Template>,
    screen_name: Option<Template>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// `/import`: events.
    Import,
    /// `/engage`: users' profiles.
    Engage,
    /// `/groups`: groups' profiles.
    Groups,
    /// The data-deletion API.
    Deletion,
}

impl MixpanelVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A credential is missing, or a template or a URL cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let (api, app) = match config.region {
            Region::Us => ("https://api.mixpanel.com", "https://mixpanel.com"),
            Region::Eu => ("https://api-eu.mixpanel.com", "https://eu.mixpanel.com"),
            Region::In => ("https://api-in.mixpanel.com", "https://in.mixpanel.com"),
        };
        let base = |own| BaseUrl::configured_or(config.base_url.as_ref(), own);
        let (api, app) = (base(api)?, base(app)?);
        let import = "/import?strict=1";
        // With the project's id, Mixpanel expects a service account; without
        // it, the token: https://docs.mixpanel.com/reference/import-events#authentication
        let (import, import_auth) = match (
            &config.project_id,
            &config.service_account_username,
            &config.service_account_secret,
        ) {
            (Some(id), Some(user), Some(secret)) => (
                format!("{import}&project_id={}", encode(id.trim())),
                basic(user.trim(), secret.expose())?,
            ),
            _ => (import.to_owned(), basic(config.project_token.expose(), "")?),
        };
        let deletion_auth = match (&config.gdpr_oauth_token, config.deletion) {
            (Some(token), Deletion::Gdpr) => Some(bearer(token.expose())?),
            _ => None,
        };
        let template = |key, text: &Option<String>| {
            let parse = |text: &String| Template::parse(key, text);
            text.as_ref().map(parse).transpose()
        };
        Ok(Self {
            import_url: api.join(&import),
            import_auth,
            deletion_auth,
            page_name: template("page_name", &config.page_name)?,
            screen_name: template("screen_name", &config.screen_name)?,
            api,
            app,
            config,
        })
    }

    /// The event's properties, if it becomes an event with properties of its
    /// own.
    fn properties<'a>(&self, input: &'a AnyInput) -> Option<Properties<'a>> {
        let id_merge = self.config.id_merge;
        match &input.event {
            AnyEvent::Track(event) => Some(track::properties(input, event, id_merge)),
            AnyEvent::Page(event) => Some(page::properties(input, event, id_merge)),
            AnyEvent::Screen(event) => Some(screen::properties(input, event, id_merge)),
            _ => None,
        }
    }

    fn check_ids(&self, event: &AnyEvent, violations: &mut Vec<Violation>) {
        let kind = event.kind();
        let previous = match event {
            AnyEvent::Alias(alias) => Some(alias.previous_user_id.as_str()),
            _ => None,
        };
        for (field, id) in [
            ("user_id", event.user_id()),
            ("anonymous_id", event.anonymous_id()),
            ("previous_user_id", previous),
        ] {
            if let Some(id) = id.filter(|id| is_refused(id)) {
                violations.push(Violation::new(
                    format!("{kind}.{field}"),
                    Code::Reserved,
                    format!("is {id:?}, which Mixpanel refuses: it stands for nobody"),
                ));
            }
        }
        let chars = event.anonymous_id().map_or(0, |id| id.chars().count());
        let most = MAX_CHARS - DEVICE_PREFIX.len();
        if self.config.id_merge == IdMerge::Simplified && chars > most {
            violations.push(Violation::new(
                format!("{kind}.anonymous_id"),
                Code::TooLong,
                format!("has {chars} characters; Mixpanel takes at most {most}, and cuts the rest"),
            ));
        }
    }

    fn check_properties(&self, input: &AnyInput, violations: &mut Vec<Violation>) {
        let Some(properties) = self.properties(input) else {
            return;
        };
        let path = format!("{}.properties", input.kind());
        if properties.len() >= MAX_ELEMENTS {
            violations.push(Violation::new(
                path.as_str(),
                Code::TooLarge,
                format!(
                    "are {} with those of the context; Mixpanel takes fewer than {MAX_ELEMENTS}",
                    properties.len()
                ),
            ));
        }
        for (key, value) in input.event.properties().into_iter().flatten() {
            if is_too_wide(value) {
                violations.push(Violation::new(
                    format!("{path}.{key}"),
                    Code::TooLarge,
                    format!("has an object or a list of {MAX_ELEMENTS} elements or more"),
                ));
            }
        }
    }
}

/// What the event of a page or a screen is called.
fn named<'a>(template: Option<&Template>, name: &str, otherwise: &'a str) -> Cow<'a, str> {
    match template {
        Some(template) => template.fill(name).into(),
        None => otherwise.into(),
    }
}

fn is_too_wide(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.len() >= MAX_ELEMENTS || values.iter().any(is_too_wide),
        Value::Object(map) => map.len() >= MAX_ELEMENTS || map.values().any(is_too_wide),
        _ => false,
    }
}

impl HttpVendor for MixpanelVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        match self.config.id_merge {
            IdMerge::Original => KindSet::ALL,
            IdMerge::Simplified => KindSet::ALL.without(Kind::Alias),
        }
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let mut violations = Vec::new();
        violations.extend(match &input.event {
            AnyEvent::Identify(event) => identify::check(event, self.config.id_merge),
            AnyEvent::Track(event) => track::check(event),
            _ => None,
        });
        self.check_ids(&input.event, &mut violations);
        self.check_properties(input, &mut violations);
        ValidationError::check(violations)
    }

    fn validate_steps(
        &self,
        input: &AnyInput,
        steps: &[Step<Route>],
    ) -> Result<(), ValidationError> {
        let mut violations = Vec::new();
        if let Some(largest) = steps.iter().map(|step| step.body.len()).max()
            && largest >= MAX_RECORD_BYTES
        {
            violations.push(Violation::new(
                input.kind().as_str(),
                Code::TooLarge,
                format!(
                    "is {largest} bytes as Mixpanel's record; Mixpanel takes fewer than \
                     {MAX_RECORD_BYTES}"
                ),
            ));
        }
        let is_early = |at: analytics_spec::Timestamp| at.as_millisecond() < EARLIEST_MILLISECOND;
        if input.context.timestamp.is_some_and(is_early)
            && steps.iter().any(|step| step.route == Route::Import)
        {
            violations.push(Violation::new(
                "context.timestamp",
                Code::OutOfRange,
                "Mixpanel takes no events from before 1971",
            ));
        }
        ValidationError::check(violations)
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        let config = &self.config;
        let token = &config.project_token;
        let one = |step: Result<Step<Route>, Error>| step.map(|step| vec![step]);
        match &input.event {
            AnyEvent::Identify(event) => match identify::check(event, config.id_merge) {
                // Without a request, the event would count as delivered.
                Some(violation) => Err(ValidationError::from(violation).into()),
                None => identify::steps(input, event, config.id_merge, token),
            },
            AnyEvent::Track(event) => {
                one(track::properties(input, event, config.id_merge).step(&event.event))
            }
            AnyEvent::Page(event) => {
                let properties = page::properties(input, event, config.id_merge);
                one(properties.step(&named(self.page_name.as_ref(), &event.name, page::EVENT)))
            }
            AnyEvent::Screen(event) => {
                let properties = screen::properties(input, event, config.id_merge);
                one(properties.step(&named(
                    self.screen_name.as_ref(),
                    &event.name,
                    screen::EVENT,
                )))
            }
            AnyEvent::Group(event) => {
                group::steps(input, event, config.id_merge, &config.group_key, token)
            }
            AnyEvent::Alias(event) => one(alias::step(input, event, token)),
            AnyEvent::Delete(event) => one(delete::step(event, config.deletion, token)),
        }
    }

    fn limits(&self, route: &Route) -> Limits {
        let records = Limits {
            max_items: MAX_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            envelope_bytes: 2,
            ..Limits::SINGLE
        };
        match route {
            Route::Import => Limits {
                gzip: true,
                ..records
            },
            Route::Engage | Route::Groups => records,
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
        // Without `ip=0`, Mixpanel would locate the profile where this server
        // is; with `strict` and `verbose`, it says which record it refuses, and
        // why: https://docs.mixpanel.com/reference/profile-set
        const PROFILES: &str = "?ip=0&strict=1&verbose=1";
        match route {
            Route::Import => {
                let auth = Some(&self.import_auth);
                json(Method::POST, &self.import_url, auth, array(bodies))
            }
            Route::Engage => {
                let url = self.api.join(&format!("/engage{PROFILES}"));
                json(Method::POST, &url, None, array(bodies))
            }
            Route::Groups => {
                let url = self.api.join(&format!("/groups{PROFILES}"));
                json(Method::POST, &url, None, array(bodies))
            }
            Route::Deletion => {
                let token = encode(self.config.project_token.expose());
                let path = format!("/api/app/data-deletions/v3.0/?token={token}");
                let law = json!(self.config.compliance_type);
                let start = format!(r#"{{"compliance_type":{law},"distinct_ids":["#);
                let auth = self.deletion_auth.as_ref();
                let body = wrap(&start, bodies, "]}");
                json(Method::POST, &self.app.join(&path), auth, body)
            }
        }
    }

    fn read(&self, route: &Route, response: &HttpResponse, items: usize) -> Reading {
        match route {
            Route::Import | Route::Engage | Route::Groups => outcome::records(response, items),
            Route::Deletion => outcome::deletion(response),
        }
    }

    fn secrets(&self) -> Vec<&Secret> {
        let config = &self.config;
        let others = [&config.service_account_secret, &config.gdpr_oauth_token];
        std::iter::once(&config.project_token)
            .chain(others.into_iter().flatten())
            .collect()
    }

    /// Mixpanel recommends full batches, and 10 to 20 of them at a time:
    /// <https://docs.mixpanel.com/reference/import-events#rate-limit>
    fn batching(&self) -> Batching {
        Batching {
            max_items: MAX_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            max_in_flight: 10,
        }
    }

    /// As Mixpanel recommends: from 2 s, doubling up to 60 s.
    ///
    /// <https://docs.mixpanel.com/reference/import-events#rate-limit>
    fn policies(&self) -> Policies {
        Policies::new().request(
            ActivityPolicy::new().retry_policy(
                RetryPolicy::new()
                    .initial_interval(Duration::from_secs(2))
                    .backoff_coefficient(2.0)
                    .maximum_interval(Duration::from_secs(60)),
            ),
        )
    }

    fn configuration(&self) -> Map<String, Value> {
        let config = &self.config;
        let is_gdpr = config.deletion == Deletion::Gdpr;
        shown([
            ("region", json!(config.region)),
            ("project_id", json!(config.project_id)),
            (
                "service_account_username",
                json!(config.service_account_username),
            ),
            ("id_merge", json!(config.id_merge)),
            ("group_key", json!(config.group_key)),
            ("deletion", json!(config.deletion)),
            (
                "compliance_type",
                json!(config.compliance_type.filter(|_| is_gdpr)),
            ),
            ("page_name", json!(config.page_name)),
            ("screen_name", json!(config.screen_name)),
            ("api_url", json!(self.api.as_str())),
            ("app_url", json!(is_gdpr.then(|| self.app.as_str()))),
        ])
    }
}

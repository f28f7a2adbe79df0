//! Mailchimp's mapping, limits and requests.

use std::time::Duration;

use analytics_http::{
    HttpVendor, Limits, Reading, Sending, Step,
    request::{basic, empty, json, single},
    vendor::shown,
};
use analytics_spec::{
    ActivityPolicy, AnyEvent, AnyInput, Error, ErrorKind, HttpResponse, Kind, KindSet, Map,
    Policies, Secret, ValidationError, Value, Violation,
    config::{VendorConfig as _, missing},
    integration::Batching,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::json as value;

use crate::{Config, delete, group, identify, merge::MergeFields, outcome, track};

/// How many requests Mailchimp takes from a key at once; it answers 429 to
/// more.
///
/// <https://mailchimp.com/developer/marketing/docs/fundamentals/>
const MAX_IN_FLIGHT: usize = 10;

/// Mailchimp's mapping and reading.
#[derive(Debug)]
pub struct MailchimpVendor {
    config: Config,
    merge_fields: MergeFields,
    /// The audience's URL.
    url: String,
    auth: HeaderValue,
}

/// Where a request goes: what is to be done with which member.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    action: Action,
    hash: String,
}

/// What is to be done with a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Upsert,
    Event,
    Tag,
    Archive,
    Erase,
}

impl Route {
    /// The route to a member, known by the hash of their email address.
    pub(crate) fn new(action: Action, hash: String) -> Self {
        Self { action, hash }
    }
}

impl MailchimpVendor {
    /// The mapping for a configuration.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn new(mut config: Config) -> Result<Self, Error> {
        if config.api_key.is_blank() {
            return Err(missing(Config::VENDOR, "api_key"));
        }
        // A file's last line break is not a part of the key.
        config.api_key = Secret::new(config.api_key.expose().trim());
        let audience = config.audience()?;
        Ok(Self {
            url: config.url()?.join(&format!("/3.0/lists/{audience}")),
            merge_fields: MergeFields::new(&config.merge_fields)?,
            // Mailchimp takes any user.
            auth: basic("anystring", config.api_key.expose())?,
            config,
        })
    }
}

impl HttpVendor for MailchimpVendor {
    type Route = Route;

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        let kinds = KindSet::from([Kind::Identify, Kind::Track, Kind::Delete]);
        if self.config.group_as_tag {
            kinds.with(Kind::Group)
        } else {
            kinds
        }
    }

    /// The mapping is what decides, so that the two cannot disagree.
    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        match self.steps(input) {
            Ok(_) => Ok(()),
            Err(error) => error
                .violations()
                .map_or(Ok(()), |violations| Err(violations.clone())),
        }
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        let step = match &input.event {
            AnyEvent::Identify(event) => identify::step(
                input,
                event,
                &self.merge_fields,
                self.config.enable_double_opt_in,
            ),
            AnyEvent::Track(event) => track::step(input, event),
            AnyEvent::Group(event) if self.config.group_as_tag => group::step(input, event),
            AnyEvent::Delete(_) => delete::step(input, self.config.regulation_type),
            AnyEvent::Group(_) | AnyEvent::Alias(_) | AnyEvent::Page(_) | AnyEvent::Screen(_) => {
                Err(Error::unsupported(input.kind(), Config::VENDOR))
            }
        };
        step.map(|step| vec![step])
    }

    /// Mailchimp's batch of members cannot be used: it has no `status_if_new`,
    /// and would subscribe people again who have left.
    ///
    /// <https://mailchimp.com/developer/marketing/api/lists/batch-subscribe-or-unsubscribe/>
    fn limits(&self, _: &Route) -> Limits {
        Limits::SINGLE
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[&Bytes],
        _: Sending,
    ) -> Result<Request<Bytes>, Error> {
        let member = format!("{}/members/{}", self.url, route.hash);
        let auth = Some(&self.auth);
        let body = || single(bodies);
        match route.action {
            Action::Upsert if self.config.skip_merge_validation => {
                let url = format!("{member}?skip_merge_validation=true");
                json(Method::PUT, &url, auth, body())
            }
            Action::Upsert => json(Method::PUT, &member, auth, body()),
            Action::Event => json(Method::POST, &format!("{member}/events"), auth, body()),
            Action::Tag => json(Method::POST, &format!("{member}/tags"), auth, body()),
            Action::Archive => empty(Method::DELETE, &member, auth),
            Action::Erase => {
                let url = format!("{member}/actions/delete-permanent");
                empty(Method::POST, &url, auth)
            }
        }
    }

    fn read(&self, route: &Route, response: &HttpResponse, _: usize) -> Reading {
        Reading::All(outcome::verdict(route.action, response))
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.config.api_key]
    }

    fn batching(&self) -> Batching {
        Batching::single(MAX_IN_FLIGHT)
    }

    /// Mailchimp takes its time, up to 120 s. An attempt that is given up too
    /// early may have been accepted, and an event is then recorded twice.
    ///
    /// <https://mailchimp.com/developer/marketing/docs/fundamentals/>
    fn policies(&self) -> Policies {
        Policies::new()
            .request(ActivityPolicy::new().single_attempt_timeout(Duration::from_secs(30)))
    }

    fn configuration(&self) -> Map<String, Value> {
        let config = &self.config;
        shown([
            ("url", value!(self.url)),
            ("audience_id", value!(config.audience_id.trim())),
            ("enable_double_opt_in", value!(config.enable_double_opt_in)),
            ("regulation_type", value!(config.regulation_type)),
            ("merge_fields", value!(self.merge_fields.table())),
            (
                "skip_merge_validation",
                value!(config.skip_merge_validation),
            ),
            ("group_as_tag", value!(config.group_as_tag)),
        ])
    }
}

/// Both, or the violations of both.
pub(crate) fn both<A, B>(
    a: Result<A, Vec<Violation>>,
    b: Result<B, Vec<Violation>>,
) -> Result<(A, B), Error> {
    let violations = match (a, b) {
        (Ok(a), Ok(b)) => return Ok((a, b)),
        (a, b) => a.err().into_iter().chain(b.err()).flatten().collect(),
    };
    ValidationError::check(violations)?;
    Err(Error::new(
        ErrorKind::Internal,
        "an event is refused without a reason",
    ))
}

//! A vendor with batches, several requests for one event, and ids in URLs; and
//! the mistakes that a mapping, a reading and a configuration can have.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use analytics_http::{
    BaseUrl, Client, HttpVendor, Limits, Reading, Refusal, Sending, Step, classify,
    classify::message,
    request::{bearer, encode, json as json_request, single, wrap},
};
use analytics_spec::{
    ActivityPolicy, AnyEvent, AnyInput, Code, Error, ErrorKind, HttpResponse, Kind, KindSet, Map,
    Policies, RetryPolicy, Secret, ValidationError, Value,
    config::{Instance, VendorConfig, missing},
    integration::{Batching, Support},
};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::broken::Defect::{self, self as D};

/// The most bytes of one event.
const MAX_EVENT_BYTES: usize = 60_000;

/// What Acme needs to know.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(default = "blank")]
    pub(crate) key: Secret,
    #[serde(default)]
    pub(crate) token: Option<Secret>,
    /// Where the account is.
    #[serde(skip)]
    pub(crate) in_eu: bool,
    /// There are more kinds, and most share the requests of events.
    #[serde(skip)]
    pub(crate) in_one: bool,
    #[serde(skip)]
    pub(crate) defect: Defect,
    #[serde(skip)]
    pub(crate) shared: Arc<AtomicU32>,
}

fn blank() -> Secret {
    Secret::new("")
}

impl Config {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            key: Secret::new(key),
            token: None,
            in_eu: false,
            in_one: false,
            defect: D::None,
            shared: Arc::default(),
        }
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "acme";

    type Integration = Client<Acme>;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Identify | Kind::Track | Kind::Group => Support::Yes,
            Kind::Delete => Support::When("token is set"),
            _ => Support::No,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Client<Acme>, Error> {
        if self.key.is_blank() {
            return Err(missing(Self::VENDOR, "key"));
        }
        Client::new(Acme::new(self)?, instance)
    }
}

pub(crate) struct Acme {
    config: Config,
    base: BaseUrl,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Acme");
        debug.field("config", &self.config);
        if self.config.defect == D::KeyInDebug {
            debug.field("key", &self.config.key.expose());
        }
        debug.finish()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Route {
    Profile,
    Events,
    Group(String),
    Delete,
}

impl Acme {
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let base = match config.defect {
            D::PlainHttp => "http://api.acme.example",
            D::PlainHttpInEu if config.in_eu => "http://eu.acme.example",
            D::IgnoresRegion => "https://api.acme.example",
            _ if config.in_eu => "https://eu.acme.example",
            _ => "https://api.acme.example",
        };
        Ok(Self {
            base: BaseUrl::allowing_http(base)?,
            config,
        })
    }

    fn is(&self, defect: Defect) -> bool {
        self.config.defect == defect
    }

    /// Where what has a route of its own goes.
    fn routed(&self, route: Route) -> Route {
        if self.config.in_one {
            Route::Events
        } else {
            route
        }
    }

    fn event(&self, input: &AnyInput, name: &str) -> Result<Step<Route>, Error> {
        let event = &input.event;
        let (mut user, mut anonymous) = (event.user_id(), event.anonymous_id());
        if self.is(D::SwapsIds) {
            std::mem::swap(&mut user, &mut anonymous);
        }
        let lowered = user.map(str::to_lowercase);
        if self.is(D::LowersIds) {
            user = lowered.as_deref();
        }
        if self.is(D::AnonymousAreOne) {
            (user, anonymous) = (Some(user.unwrap_or("")), None);
        }
        let short = user.map(|user| user.chars().take(64).collect::<String>());
        if self.is(D::CutsIds) {
            user = short.as_deref();
        }
        let name = match self.config.defect {
            D::TrimsNames => name.trim(),
            _ => name,
        };
        if self.is(D::CutsBytes) && name.len() > 3 {
            let _ = &name[..3];
        }
        if self.is(D::TracesUsers) {
            tracing::trace!(user, "mapped");
        }
        let mut id = input.message_id().to_owned();
        if self.is(D::NewMessageId) {
            id = self
                .config
                .shared
                .fetch_add(1, Ordering::Relaxed)
                .to_string();
        }
        let mut properties = event.properties().cloned().unwrap_or_default();
        if self.is(D::SwapsProperties) {
            let (label, currency) = (properties.remove("label"), properties.remove("currency"));
            properties.insert("currency".to_owned(), label.unwrap_or_default());
            properties.insert("label".to_owned(), currency.unwrap_or_default());
        }
        for value in properties.values_mut() {
            match value {
                Value::String(text) if self.is(D::CutsValues) => {
                    *text = text.chars().take(1_000).collect();
                }
                Value::Null if self.is(D::WritesNull) => *value = json!("null"),
                Value::Number(number) if self.is(D::RoundsNumbers) => {
                    *value = json!(number.as_f64());
                }
                _ => {}
            }
        }
        let id = match self.config.defect {
            D::OmitsMessageId => Value::Null,
            _ => Value::from(id),
        };
        let time = match self.config.defect {
            D::TimeOfSending => json!("(now)"),
            _ => json!(input.context.timestamp),
        };
        let mut map = Map::from_iter([
            ("id".to_owned(), id),
            ("time".to_owned(), time),
            ("name".to_owned(), json!(name)),
            ("user_id".to_owned(), json!(user)),
            ("anonymous_id".to_owned(), json!(anonymous)),
        ]);
        if self.is(D::DeviceFirst) {
            map.insert("distinct_id".to_owned(), json!(anonymous.or(user)));
        }
        let is_viewed = matches!(input.kind(), Kind::Page | Kind::Screen);
        if is_viewed {
            let what = match self.config.defect {
                D::ScreenAsPage => Kind::Page,
                _ => input.kind(),
            };
            map.insert("type".to_owned(), json!(what.as_str()));
        }
        for (key, value) in properties {
            if self.is(D::PropertiesWin) || !map.contains_key(&key) {
                map.insert(key, value);
            }
        }
        Step::json(Route::Events, &map)
    }
}

/// Whose event a body is, and what it is called.
fn whose(body: &Bytes) -> [Value; 2] {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    ["user_id", "name"].map(|key| body.get(key).cloned().unwrap_or_default())
}

impl HttpVendor for Acme {
    type Route = Route;

    const VENDOR: &'static str = "acme";

    fn supports(&self) -> KindSet {
        let kinds = KindSet::from([Kind::Identify, Kind::Track, Kind::Group]);
        let more = [
            (Kind::Delete, self.config.token.is_some()),
            (Kind::Alias, self.config.in_one),
            (Kind::Page, self.config.in_one),
            (Kind::Screen, self.config.in_one),
        ];
        let more = more.into_iter().filter(|(_, has)| *has);
        more.fold(kinds, |kinds, (kind, _)| kinds.with(kind))
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let is_fickle = self.is(D::FickleValidation)
            && self.config.shared.fetch_add(1, Ordering::Relaxed) % 5 == 4;
        let lacks_email = input
            .event
            .traits()
            .is_some_and(|t| !t.contains_key("email"));
        let must_have = input.kind() == Kind::Identify && !self.is(D::AcceptsTheInvalid);
        if is_fickle || (lacks_email && must_have) {
            return Err(ValidationError::new(
                "identify.traits.email",
                Code::Required,
                "acme needs it",
            ));
        }
        Ok(())
    }

    fn validate_steps(
        &self,
        input: &AnyInput,
        steps: &[Step<Route>],
    ) -> Result<(), ValidationError> {
        let largest = steps.iter().map(|step| step.body.len()).max();
        if largest.is_none_or(|bytes| bytes <= MAX_EVENT_BYTES) {
            return Ok(());
        }
        let code = match self.config.defect {
            D::WrongCode => Code::Required,
            _ => Code::TooLarge,
        };
        Err(ValidationError::new(
            input.kind().as_str(),
            code,
            "is too large for acme",
        ))
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        if self.is(D::RefusesInEu) && self.config.in_eu {
            return Err(Error::new(ErrorKind::Internal, "not in the EU"));
        }
        if self.is(D::SharesState) && self.config.shared.load(Ordering::Relaxed) > 0 {
            self.config.shared.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::RateLimited, "waits"));
        }
        match &input.event {
            AnyEvent::Identify(event) => {
                let again = self.is(D::OneIdForTwo);
                let profile = json!({
                    "user_id": event.user_id, "anonymous_id": event.anonymous_id,
                    "traits": event.traits,
                });
                let mut steps = vec![
                    Step::json(self.routed(Route::Profile), &profile)?,
                    self.event(input, "Identified")?,
                ];
                if again {
                    steps.push(self.event(input, "Seen")?);
                }
                Ok(steps)
            }
            AnyEvent::Track(event) => {
                if self.is(D::RefusesInSteps) && !event.event.is_ascii() {
                    return Err(Error::new(ErrorKind::Internal, "letters only"));
                }
                Ok(vec![self.event(input, &event.event)?])
            }
            AnyEvent::Group(event) => {
                let body = match self.config.defect {
                    D::ForgetsWhom => json!({"user_id": "nobody"}),
                    D::GroupOfNobody => json!({"traits": event.traits}),
                    _ => json!({
                        "user_id": event.user_id, "anonymous_id": event.anonymous_id,
                        "traits": event.traits,
                    }),
                };
                let group = match self.config.defect {
                    D::ForgetsWhom => "everybody",
                    _ => &event.group_id,
                };
                let id = if self.is(D::RawIdInUrl) {
                    group.replace(' ', "+")
                } else {
                    // A dot alone would be taken for a step up.
                    encode(&format!("g-{group}"))
                };
                Ok(vec![Step::json(Route::Group(id), &body)?])
            }
            AnyEvent::Delete(event) if self.supports().contains(Kind::Delete) => {
                let body = match self.config.defect {
                    D::TellsAllOnDelete => json!(event),
                    _ => json!({"user_id": event.user_id}),
                };
                Ok(vec![Step::json(self.routed(Route::Delete), &body)?])
            }
            AnyEvent::Alias(event) if self.config.in_one => {
                let (mut stays, mut goes) = (&event.user_id, &event.previous_user_id);
                if self.is(D::AliasSwapped) {
                    std::mem::swap(&mut stays, &mut goes);
                }
                let body = json!({"primary": {"id": stays}, "secondary": {"id": goes}});
                Ok(vec![Step::json(Route::Events, &body)?])
            }
            AnyEvent::Page(event) if self.config.in_one => {
                Ok(vec![self.event(input, &event.name)?])
            }
            AnyEvent::Screen(event) if self.config.in_one => {
                Ok(vec![self.event(input, &event.name)?])
            }
            _ => Err(Error::unsupported(input.kind(), Self::VENDOR)),
        }
    }

    fn limits(&self, route: &Route) -> Limits {
        match route {
            Route::Events => Limits {
                max_items: 4,
                max_bytes: 400_000,
                envelope_bytes: if self.is(D::NoEnvelope) { 0 } else { 64 },
                gzip: true,
                one_per_person: !self.is(D::MergesRepeats) && !self.is(D::TakesTheLater),
            },
            _ => Limits::SINGLE,
        }
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[&Bytes],
        sending: Sending,
    ) -> Result<http::Request<Bytes>, Error> {
        // Only with the token, the vendor deletes.
        let deletes = self.config.in_one && *route == Route::Events;
        let token = self.config.token.as_ref().filter(|_| deletes);
        let mut key = bearer(token.unwrap_or(&self.config.key).expose())?;
        if self.is(D::PlainHeader) {
            key.set_sensitive(false);
        }
        let single = single(bodies);
        if self.is(D::OffByOne) && single.len() + 8 > MAX_EVENT_BYTES {
            return Err(Error::new(ErrorKind::TooLarge, "just too large"));
        }
        match route {
            Route::Events => {
                let at = sending.at;
                let end = match self.config.defect {
                    D::BadJson => "]}".to_owned() + "}",
                    _ => format!("],\"sent_at\":\"{at}\"}}"),
                };
                let mut kept = bodies.to_vec();
                if self.is(D::MergesRepeats) {
                    kept.dedup_by_key(|body| whose(body));
                }
                let mut body = wrap("{\"events\":[", &kept, &end);
                if self.is(D::TimeOfSending) {
                    let text = String::from_utf8_lossy(&body).replace("(now)", &at.to_string());
                    body = Bytes::from(text);
                }
                let url = match self.config.defect {
                    D::KeyInUrl => format!("/events?key={}", self.config.key.expose()),
                    _ => "/events".to_owned(),
                };
                json_request(Method::POST, &self.base.join(&url), Some(&key), body)
            }
            Route::Profile => json_request(
                Method::POST,
                &self.base.join("/profiles"),
                Some(&key),
                single,
            ),
            Route::Group(id) => {
                let url = self.base.join(&format!("/groups/{id}"));
                json_request(Method::PUT, &url, Some(&key), single)
            }
            Route::Delete => {
                let token = self.config.token.as_ref().map_or("", Secret::expose);
                let token = bearer(token)?;
                json_request(
                    Method::POST,
                    &self.base.join("/delete"),
                    Some(&token),
                    single,
                )
            }
        }
    }

    fn read(&self, route: &Route, response: &HttpResponse, items: usize) -> Reading {
        let status = response.status_code;
        let refused = |kind| Reading::All(Err(Refusal::permanent(kind, "refused")));
        match self.config.defect {
            D::Believes2xx | D::BlankAnswer if status < 300 => return Reading::All(Ok(())),
            D::TakesEmpty if status < 300 && response.body.is_none() => {
                return Reading::All(Ok(()));
            }
            D::TakesAnyJson if status < 300 && response.field("ok").is_none() => {
                let is_json = response.body.as_ref().is_some_and(Value::is_object);
                if is_json {
                    return Reading::All(Ok(()));
                }
            }
            D::Retries410 if status == 410 => {
                return Reading::All(Err(Refusal::transient(
                    ErrorKind::RequestRejected,
                    message(response),
                )));
            }
            D::GoneIs404 if status == 404 => return Reading::All(Ok(())),
            D::Retries400 if [400, 404, 422].contains(&status) => {
                return Reading::All(Err(Refusal::transient(
                    ErrorKind::RequestRejected,
                    message(response),
                )));
            }
            D::Drops502 if status > 500 && status != 503 => return refused(ErrorKind::Unavailable),
            D::DropsGatewayPages if status >= 500 => {
                let is_page = response.body.as_ref().is_some_and(Value::is_string);
                if is_page {
                    return refused(ErrorKind::RequestRejected);
                }
            }
            D::TakesRedirects if (300..400).contains(&status) => return Reading::All(Ok(())),
            D::Drops500 if status >= 500 => return refused(ErrorKind::Unavailable),
            D::Keeps413 if status == 413 => return refused(ErrorKind::RequestRejected),
            D::Retries401 if status == 401 => {
                return Reading::All(Err(Refusal::transient(ErrorKind::Unauthorized, "later")));
            }
            D::Rejects500 if status == 500 => {
                return Reading::All(Err(Refusal::transient(
                    ErrorKind::RequestRejected,
                    "perhaps later",
                )));
            }
            D::DawdlesOn429 if status == 429 => {
                return Reading::All(Err(Refusal::transient(ErrorKind::RateLimited, "later")
                    .wait(Duration::from_secs(86_400))));
            }
            D::SharesState if status == 429 => self.config.shared.store(3, Ordering::Relaxed),
            _ => {}
        }
        if let Err(mut refusal) = classify(response) {
            let unknown = Some(&json!("no such user"));
            let deletes = *route == self.routed(Route::Delete);
            if deletes && status == 404 && response.field("error") == unknown {
                return Reading::All(Ok(()));
            }
            if [400, 422].contains(&status) {
                refusal.split = !self.is(D::LosesInnocents);
            }
            return Reading::All(Err(refusal));
        }
        match response.field("ok") {
            Some(Value::Bool(true)) => {}
            None if !self.is(D::RefusesForeign) => {
                return Reading::All(Err(Refusal::transient(
                    ErrorKind::Unavailable,
                    "not Acme's answer",
                )));
            }
            _ if self.is(D::LosesInnocentsIn2xx) => return refused(ErrorKind::RequestRejected),
            _ => {
                let refusal = Refusal::permanent(ErrorKind::RequestRejected, "refused");
                return Reading::All(Err(refusal.split()));
            }
        }
        let Some(failed) = response.field("failed").and_then(Value::as_array) else {
            return Reading::All(Ok(()));
        };
        let off = usize::from(self.is(D::MissesIndex));
        let failed: BTreeMap<_, _> = failed
            .iter()
            .filter_map(|item| Some((item.get("index")?.as_u64()?, item.get("retry").is_some())))
            .map(|(index, is_for_now)| (index as usize + off, is_for_now))
            .collect();
        let last = items.saturating_sub(1);
        let is_here = |index: &usize| *index < items + off;
        if !failed.keys().all(is_here) && !self.is(D::IgnoresStrangers) {
            // Which one, only a smaller request can tell.
            let refusal = Refusal::permanent(ErrorKind::RequestRejected, "some are too old");
            return Reading::All(Err(refusal.split()));
        }
        let verdict = |index| match failed.get(&index) {
            Some(_) if index == last && self.is(D::MissesTheLast) => Ok(()),
            Some(true) => Err(Refusal::transient(ErrorKind::Unavailable, "busy")),
            Some(false) => Err(Refusal::permanent(ErrorKind::RequestRejected, "too old")),
            None => Ok(()),
        };
        Reading::Each((0..items).map(verdict).collect())
    }

    fn secrets(&self) -> Vec<&Secret> {
        if self.is(D::ForgetsSecret) {
            return Vec::new();
        }
        std::iter::once(&self.config.key)
            .chain(&self.config.token)
            .collect()
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: 20,
            max_bytes: 400_000,
            max_in_flight: 3,
        }
    }

    fn policies(&self) -> Policies {
        let attempts = if self.is(D::OneAttemptOnly) { 1 } else { 4 };
        Policies::new().request(
            ActivityPolicy::new().retry_policy(RetryPolicy::new().maximum_attempts(attempts)),
        )
    }

    fn configuration(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("base_url".to_owned(), self.base.as_str().into());
        if self.is(D::KeyInConfiguration) {
            map.insert("key".to_owned(), self.config.key.expose().into());
        }
        map
    }
}

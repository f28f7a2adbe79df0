//! The conformance suite against a vendor that conforms, and against its
//! broken variants: each is to be rejected by the check made for it.

use std::{
    collections::BTreeSet,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use analytics_http::{
    BaseUrl, Client, HttpVendor, Limits, Reading, Refusal, Sending, Step, classify,
    request::{bearer, encode, json as json_request, wrap},
};
use analytics_spec::{
    ActivityPolicy, AnyEvent, AnyInput, Attempt, Code, Delivery, Error, ErrorKind, HttpResponse,
    Identify, Integration, Kind, KindSet, Map, Policies, Progress, RetryPolicy, Secret,
    ValidationError, Value,
    config::{Instance, VendorConfig, missing},
    integration::{Batching, Preview, Support},
};
use analytics_testkit::{
    Answer, Request,
    conformance::{Check, Report, Suite, World},
};
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;

const KEY: &str = "acme-key-7f3Q";
const TOKEN: &str = "acme-admin-9d2W";

/// What is wrong with a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Defect {
    #[default]
    None,
    // In the mapping and the reading.
    SwapsIds,
    SwapsProperties,
    OmitsMessageId,
    NewMessageId,
    TimeOfSending,
    PropertiesWin,
    CutsBytes,
    RawIdInUrl,
    RefusesInSteps,
    BadJson,
    PlainHttp,
    MapsUndeclared,
    KeyInDebug,
    KeyInConfiguration,
    ForgetsSecret,
    PlainHeader,
    TracesUsers,
    Believes2xx,
    Retries401,
    Keeps413,
    Drops500,
    DawdlesOn429,
    TakesRedirects,
    Rejects500,
    MissesIndex,
    SharesState,
    FickleValidation,
    AcceptsTheInvalid,
    OneAttemptOnly,
    // In an integration of its own.
    OtherName,
    NoLimits,
    LosesOutcome,
    ReversesOutcomes,
    RetriesInside,
    NeverEnds,
    ForgetsProgress,
    NamesAnother,
    KeyInError,
    ForgetsOrder,
    TooManyAtOnce,
    DropsTimeouts,
    LosesAnswer,
    NoPreview,
    // In the configuration.
    PromisesAlias,
    NeedsNoKey,
    // In the suite's own settings.
    NoSecretsNamed,
    NeedlessVolatile,
    // In the package.
    LeavesOpen,
}

use Defect as D;

impl Defect {
    fn is_of_the_integration(self) -> bool {
        self as u8 >= D::OtherName as u8 && (self as u8) < D::PromisesAlias as u8
    }
}

const TABLE: &[(Defect, &[Check])] = &[
    (D::SwapsIds, &[Check::Names, Check::Snapshot]),
    (D::SwapsProperties, &[Check::Snapshot]),
    (D::OmitsMessageId, &[Check::MessageId]),
    (
        D::NewMessageId,
        &[Check::StableRetries, Check::StableReplay],
    ),
    (D::TimeOfSending, &[Check::Timestamp, Check::StableRetries]),
    (D::PropertiesWin, &[Check::ReservedNames]),
    (D::CutsBytes, &[Check::Panics]),
    (D::RawIdInUrl, &[Check::Hostile]),
    (D::RefusesInSteps, &[Check::Hostile]),
    (D::BadJson, &[Check::Requests]),
    (D::PlainHttp, &[Check::Requests]),
    (D::MapsUndeclared, &[Check::Unsupported]),
    (D::KeyInDebug, &[Check::Secrets]),
    (D::KeyInConfiguration, &[Check::Secrets]),
    (D::ForgetsSecret, &[Check::Secrets]),
    (D::PlainHeader, &[Check::Secrets]),
    (D::TracesUsers, &[Check::Traces]),
    (D::Believes2xx, &[Check::RefusalIn2xx]),
    (D::Retries401, &[Check::Unauthorized]),
    (D::Keeps413, &[Check::TooLarge, Check::Splits]),
    (D::Drops500, &[Check::ServerError]),
    (D::DawdlesOn429, &[Check::RateLimited]),
    (D::TakesRedirects, &[Check::Redirect]),
    (D::Rejects500, &[Check::GivesUp]),
    (D::MissesIndex, &[Check::PartialRefusal]),
    (D::SharesState, &[Check::Isolation]),
    (D::FickleValidation, &[Check::Validation]),
    (D::AcceptsTheInvalid, &[Check::Invalid]),
    (D::OneAttemptOnly, &[Check::Policies]),
    (D::OtherName, &[Check::Builds]),
    (D::NoLimits, &[Check::Batching]),
    (D::LosesOutcome, &[Check::Batch]),
    (D::ReversesOutcomes, &[Check::Splits, Check::PartialRefusal]),
    (D::RetriesInside, &[Check::OneAttempt]),
    (D::NeverEnds, &[Check::Ends]),
    (D::ForgetsProgress, &[Check::Resumes]),
    (D::NamesAnother, &[Check::NamedErrors]),
    (D::KeyInError, &[Check::Secrets]),
    (D::ForgetsOrder, &[Check::Order]),
    (D::TooManyAtOnce, &[Check::InFlight]),
    (D::DropsTimeouts, &[Check::Network]),
    (D::LosesAnswer, &[Check::Delivers]),
    (D::NoPreview, &[Check::Preview]),
    (D::PromisesAlias, &[Check::Support]),
    (D::NeedsNoKey, &[Check::MissingCredentials]),
    (D::NoSecretsNamed, &[Check::Setup]),
    (D::NeedlessVolatile, &[Check::Setup]),
    (D::LeavesOpen, &[Check::Unwritten]),
];

/// The defects of one part of the table that their checks do not find.
async fn not_found(part: usize) -> Vec<String> {
    let snapshots = Snapshots::new(&format!("defects-{part}"));
    suite(D::None, &snapshots)
        .update_snapshots(true)
        .run()
        .await;
    let mut missed = Vec::new();
    for (defect, checks) in TABLE.iter().skip(part).step_by(PARTS) {
        let report = suite(*defect, &snapshots).report().await;
        for check in checks.iter().filter(|check| !report.has(**check)) {
            missed.push(format!("{defect:?} is not found by {check}:\n{report}"));
        }
    }
    missed
}

/// So that they run side by side.
const PARTS: usize = 4;

#[tokio::test]
async fn defects_are_found_1() {
    assert_eq!(not_found(0).await, [""; 0]);
}

#[tokio::test]
async fn defects_are_found_2() {
    assert_eq!(not_found(1).await, [""; 0]);
}

#[tokio::test]
async fn defects_are_found_3() {
    assert_eq!(not_found(2).await, [""; 0]);
}

#[tokio::test]
async fn defects_are_found_4() {
    assert_eq!(not_found(3).await, [""; 0]);
}

#[test]
fn every_check_finds_some_defect() {
    let tested: BTreeSet<_> = TABLE.iter().flat_map(|(_, checks)| *checks).collect();
    let untested: Vec<_> = Check::ALL.iter().filter(|c| !tested.contains(c)).collect();
    assert!(untested.is_empty(), "no defect for {untested:?}");
}

#[tokio::test]
async fn what_has_no_defect_conforms() {
    let snapshots = Snapshots::new("none");
    let written = suite(D::None, &snapshots).update_snapshots(true);
    written.run().await;
    suite(D::None, &snapshots).run().await;
    wrapped(D::None, &snapshots).run().await;
}

#[tokio::test]
async fn a_missing_snapshot_is_a_failure_and_a_stale_one_too() {
    let snapshots = Snapshots::new("missing");
    let report = suite(D::None, &snapshots).report().await;
    assert!(report.has(Check::Snapshot), "{report}");
    let text = report.to_string();
    assert!(text.contains("UPDATE_CONFORMANCE=1"), "{text}");

    suite(D::None, &snapshots)
        .update_snapshots(true)
        .run()
        .await;
    std::fs::write(snapshots.0.join("alias.json"), "{}").unwrap();
    let report = suite(D::None, &snapshots).report().await;
    let kinds: Vec<_> = report.failures.iter().map(|f| (f.check, f.kinds)).collect();
    assert_eq!(kinds, [(Check::Snapshot, KindSet::from([Kind::Alias]))]);
}

#[tokio::test]
#[should_panic(expected = "acme does not conform")]
async fn a_failure_fails_the_test() {
    suite(D::None, &Snapshots::new("failing")).run().await;
}

/// A directory that is gone after the test.
struct Snapshots(PathBuf);

impl Snapshots {
    fn new(name: &str) -> Self {
        let name = format!("analytics-conformance-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn suite(defect: Defect, snapshots: &Snapshots) -> Suite {
    match defect {
        D::PromisesAlias | D::NeedsNoKey => common(
            Suite::new(|| Careless(config(D::None)))
                .also("without a token", || Careless(Config::new(KEY))),
            snapshots,
        )
        .secrets([KEY, TOKEN]),
        D::NoSecretsNamed => common(Suite::new(|| config(D::None)), snapshots),
        D::LeavesOpen => {
            let package = snapshots.0.join("package");
            std::fs::create_dir_all(&package).unwrap();
            let open = concat!("// FILL ", "IN: the page");
            std::fs::write(package.join("README.md"), open).unwrap();
            suite(D::None, snapshots).package(package)
        }
        D::NeedlessVolatile => suite(D::None, snapshots).volatile(["name"]),
        defect if defect.is_of_the_integration() => wrapped(defect, snapshots),
        defect => {
            let shared = Arc::new(AtomicU32::new(0));
            let with = move |config: Config| Config {
                shared: Arc::clone(&shared),
                ..config
            };
            let without_token = with.clone();
            common(
                Suite::new(move || with(config(defect))).also("without a token", move || {
                    without_token(Config {
                        token: None,
                        ..config(defect)
                    })
                }),
                snapshots,
            )
            .secrets([KEY, TOKEN])
        }
    }
}

fn wrapped(defect: Defect, snapshots: &Snapshots) -> Suite {
    let build = move |instance: Instance, world: &World| {
        let client = config(D::None).build_as(instance)?;
        Ok(Wrapped {
            inner: client
                .with_transport(world.transport())
                .with_clock(world.clock()),
            defect,
        })
    };
    common(Suite::wired("acme", build), snapshots).secrets([KEY, TOKEN])
}

fn common(suite: Suite, snapshots: &Snapshots) -> Suite {
    suite
        .snapshots(&snapshots.0)
        .update_snapshots(false)
        .answers(|_| Answer::json(200, &json!({"ok": true})))
        .refusal(|_| {
            Some(Answer::json(
                200,
                &json!({"ok": false, "error": "no such field"}),
            ))
        })
        .refuses_item(|request: &Request, index| {
            let failed = json!([{"index": index, "error": "too old"}]);
            (request.path == "/events")
                .then(|| Answer::json(207, &json!({"ok": true, "failed": failed})))
        })
        .volatile(["sent_at"])
        .message_id_in([Kind::Identify, Kind::Track])
        .timestamp_in([Kind::Identify, Kind::Track])
        .invalid(Identify::new().user_id("u1"))
}

fn config(defect: Defect) -> Config {
    Config {
        token: Some(Secret::new(TOKEN)),
        defect,
        ..Config::new(KEY)
    }
}

/// A vendor with batches, several requests for one event, and ids in URLs.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    #[serde(default = "blank")]
    key: Secret,
    #[serde(default)]
    token: Option<Secret>,
    #[serde(skip)]
    defect: Defect,
    #[serde(skip)]
    shared: Arc<AtomicU32>,
}

fn blank() -> Secret {
    Secret::new("")
}

impl Config {
    fn new(key: &str) -> Self {
        Self {
            key: Secret::new(key),
            token: None,
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

/// A configuration that promises what no instance does, and needs no key.
#[derive(Debug, Deserialize)]
struct Careless(#[serde(default = "nothing")] Config);

fn nothing() -> Config {
    Config::new("")
}

impl VendorConfig for Careless {
    const VENDOR: &'static str = "acme";

    type Integration = Client<Acme>;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Alias => Support::Yes,
            other => Config::support(other),
        }
    }

    fn build_as(self, instance: Instance) -> Result<Client<Acme>, Error> {
        Client::new(Acme::new(self.0)?, instance)
    }
}

struct Acme {
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
enum Route {
    Profile,
    Events,
    Group(String),
    Delete,
}

impl Acme {
    fn new(config: Config) -> Result<Self, Error> {
        let base = match config.defect {
            D::PlainHttp => "http://api.acme.example",
            _ => "https://api.acme.example",
        };
        Ok(Self {
            base: BaseUrl::new(base)?,
            config,
        })
    }

    fn is(&self, defect: Defect) -> bool {
        self.config.defect == defect
    }

    fn event(&self, input: &AnyInput, name: &str) -> Result<Step<Route>, Error> {
        let event = &input.event;
        let (mut user, mut anonymous) = (event.user_id(), event.anonymous_id());
        if self.is(D::SwapsIds) {
            std::mem::swap(&mut user, &mut anonymous);
        }
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
        for (key, value) in properties {
            if self.is(D::PropertiesWin) || !map.contains_key(&key) {
                map.insert(key, value);
            }
        }
        Step::json(Route::Events, &map)
    }
}

impl HttpVendor for Acme {
    type Route = Route;

    const VENDOR: &'static str = "acme";

    fn supports(&self) -> KindSet {
        let kinds = KindSet::from([Kind::Identify, Kind::Track, Kind::Group]);
        match self.config.token {
            Some(_) => kinds.with(Kind::Delete),
            None => kinds,
        }
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

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        if self.is(D::SharesState) && self.config.shared.load(Ordering::Relaxed) > 0 {
            self.config.shared.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::RateLimited, "waits"));
        }
        match &input.event {
            AnyEvent::Identify(event) => {
                let profile = json!({
                    "user_id": event.user_id, "anonymous_id": event.anonymous_id,
                    "traits": event.traits,
                });
                Ok(vec![
                    Step::json(Route::Profile, &profile)?,
                    self.event(input, "Identified")?,
                ])
            }
            AnyEvent::Track(event) => {
                if self.is(D::RefusesInSteps) && !event.event.is_ascii() {
                    return Err(Error::new(ErrorKind::Internal, "letters only"));
                }
                Ok(vec![self.event(input, &event.event)?])
            }
            AnyEvent::Group(event) => {
                let body = json!({"user_id": event.user_id, "traits": event.traits});
                let id = if self.is(D::RawIdInUrl) {
                    event.group_id.replace(' ', "+")
                } else {
                    // A dot alone would be taken for a step up.
                    encode(&format!("g-{}", event.group_id))
                };
                Ok(vec![Step::json(Route::Group(id), &body)?])
            }
            AnyEvent::Delete(event) if self.supports().contains(Kind::Delete) => {
                Ok(vec![Step::json(
                    Route::Delete,
                    &json!({"user_id": event.user_id}),
                )?])
            }
            AnyEvent::Alias(_) if self.is(D::MapsUndeclared) => {
                Ok(vec![self.event(input, "Alias")?])
            }
            _ => Err(Error::unsupported(input.kind(), Self::VENDOR)),
        }
    }

    fn limits(&self, route: &Route) -> Limits {
        match route {
            Route::Events => Limits {
                max_items: 4,
                max_bytes: 400_000,
                envelope_bytes: 64,
                gzip: true,
            },
            _ => Limits::SINGLE,
        }
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[Bytes],
        sending: Sending,
    ) -> Result<http::Request<Bytes>, Error> {
        let mut key = bearer(self.config.key.expose())?;
        if self.is(D::PlainHeader) {
            key.set_sensitive(false);
        }
        let single = bodies.first().cloned().unwrap_or_default();
        match route {
            Route::Events => {
                let at = sending.at;
                let end = match self.config.defect {
                    D::BadJson => "]}".to_owned() + "}",
                    _ => format!("],\"sent_at\":\"{at}\"}}"),
                };
                let mut body = wrap("{\"events\":[", bodies, &end);
                if self.is(D::TimeOfSending) {
                    let text = String::from_utf8_lossy(&body).replace("(now)", &at.to_string());
                    body = Bytes::from(text);
                }
                json_request(Method::POST, &self.base.join("/events"), Some(&key), body)
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

    fn read(&self, _: &Route, response: &HttpResponse, items: usize) -> Reading {
        let status = response.status_code;
        let refused = |kind| Reading::All(Err(Refusal::permanent(kind, "refused")));
        match self.config.defect {
            D::Believes2xx if status < 300 => return Reading::All(Ok(())),
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
        if let Err(refusal) = classify(response) {
            return Reading::All(Err(refusal));
        }
        if response.field("ok") != Some(&Value::Bool(true)) {
            return refused(ErrorKind::RequestRejected);
        }
        let Some(failed) = response.field("failed").and_then(Value::as_array) else {
            return Reading::All(Ok(()));
        };
        let off = usize::from(self.is(D::MissesIndex));
        let failed: Vec<_> = failed
            .iter()
            .filter_map(|item| item.get("index")?.as_u64())
            .map(|index| index as usize + off)
            .collect();
        let verdict = |index| match failed.contains(&index) {
            true => Err(Refusal::permanent(ErrorKind::RequestRejected, "too old")),
            false => Ok(()),
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

/// An integration that does not leave everything to the client.
#[derive(Debug)]
struct Wrapped {
    inner: Client<Acme>,
    defect: Defect,
}

impl Wrapped {
    fn bent(&self, outcome: Result<Delivery, Error>) -> Result<Delivery, Error> {
        match (self.defect, outcome) {
            (D::LosesAnswer, Ok(_)) => Ok(Delivery::default()),
            (D::ForgetsProgress, Err(error)) => Err(error.with_progress(Progress::NONE)),
            (D::NamesAnother, Err(error)) => Err(error.with_integration("acme")),
            (D::KeyInError, Err(error)) => Err(error.with_source(format!("with {KEY}"))),
            (D::DropsTimeouts, Err(error)) if error.kind() == ErrorKind::Timeout => {
                Err(error.with_retryable(false))
            }
            (_, outcome) => outcome,
        }
    }
}

#[async_trait]
impl Integration for Wrapped {
    fn vendor(&self) -> &'static str {
        Integration::vendor(&self.inner)
    }

    fn name(&self) -> &str {
        match self.defect {
            D::OtherName => "acme",
            _ => self.inner.name(),
        }
    }

    fn supports(&self) -> KindSet {
        self.inner.supports()
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        self.inner.validate(input)
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        let mut outcome = self.inner.deliver(attempt).await;
        let again = match self.defect {
            D::RetriesInside => 2,
            D::NeverEnds => 100_000,
            _ => 0,
        };
        for _ in 0..again {
            if outcome.as_ref().is_err_and(Error::is_retryable) {
                outcome = self.inner.deliver(attempt).await;
            }
        }
        self.bent(outcome)
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        if self.defect == D::ForgetsOrder {
            let mut outcomes = Vec::new();
            for attempt in attempts {
                outcomes.push(self.deliver(attempt).await);
            }
            return outcomes;
        }
        let outcomes = self.inner.deliver_batch(attempts).await;
        let mut outcomes: Vec<_> = outcomes.into_iter().map(|o| self.bent(o)).collect();
        match self.defect {
            D::LosesOutcome => drop(outcomes.pop()),
            D::ReversesOutcomes => outcomes.reverse(),
            _ => {}
        }
        outcomes
    }

    fn batching(&self) -> Batching {
        let batching = self.inner.batching();
        match self.defect {
            D::NoLimits => Batching {
                max_items: 0,
                ..batching
            },
            D::TooManyAtOnce => Batching {
                max_in_flight: 1,
                ..batching
            },
            _ => batching,
        }
    }

    fn policies(&self) -> Policies {
        self.inner.policies()
    }

    fn allows_policies_override(&self) -> bool {
        self.inner.allows_policies_override()
    }

    fn configuration(&self) -> Map<String, Value> {
        self.inner.configuration()
    }

    fn preview(&self, input: &AnyInput) -> Result<Vec<Preview>, Error> {
        match self.defect {
            D::NoPreview => Ok(Vec::new()),
            _ => self.inner.preview(input),
        }
    }
}

/// What is not reached over HTTP: a list in memory.
#[derive(Debug)]
struct Memory {
    instance: Instance,
    loses: bool,
}

#[async_trait]
impl Integration for Memory {
    fn vendor(&self) -> &'static str {
        "memory"
    }

    fn name(&self) -> &str {
        &self.instance.name
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    async fn deliver(&self, _: &Attempt<'_>) -> Result<Delivery, Error> {
        Ok(Delivery::default())
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        let lost = usize::from(self.loses);
        attempts
            .iter()
            .skip(lost)
            .map(|_| Ok(Delivery::default()))
            .collect()
    }

    fn policies(&self) -> Policies {
        self.instance.policies.clone()
    }

    fn allows_policies_override(&self) -> bool {
        self.instance.allow_policies_override
    }
}

#[tokio::test]
async fn what_has_no_requests_is_checked_too() {
    let report = |loses| async move {
        let build = move |instance: Instance| Ok(Memory { instance, loses });
        let none: [&str; 0] = [];
        let report: Report = Suite::direct("memory", build).secrets(none).report().await;
        report
    };
    let clean = report(false).await;
    assert!(clean.is_clean(), "{clean}");
    assert!(report(true).await.has(Check::Batch));
}

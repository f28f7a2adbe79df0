//! What a test says of a vendor.

use std::{collections::BTreeMap, fmt, fmt::Debug, path::PathBuf, sync::Arc};

use analytics_http::{Client, HttpVendor};
use analytics_spec::{
    AnyInput, Error, ErrorKind, Event, Input, Integration, Kind, KindSet, Map,
    config::{Instance, VendorConfig},
    integration::Support,
};
use serde_json::json;
use tracing::instrument::WithSubscriber as _;

use super::{
    checks,
    configuration::Configuration,
    fixtures, places,
    report::Report,
    trace,
    trial::{NAME, Run},
    wire::{Answering, World},
};
use crate::server::{Answer, Request};

pub(crate) type Refusing = Arc<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;
type Matching = Arc<dyn Fn(&Request) -> bool + Send + Sync>;
type Retrying = Arc<dyn Fn(&Request, u16) -> bool + Send + Sync>;
pub(crate) type RefusingItem = Arc<dyn Fn(&Request, usize) -> Option<Answer> + Send + Sync>;
type Failing = Arc<dyn Fn(u16, &str) -> Answer + Send + Sync>;

/// What a vendor's key holds in the requests of a kind.
pub(crate) struct Meaning {
    kind: Kind,
    pub(crate) key: String,
    pub(crate) field: String,
}

impl Meaning {
    /// Whether a path in a request ends with the key.
    pub(crate) fn is_of(&self, pointer: &str) -> bool {
        let split = |path: &str| -> Vec<String> {
            let names = path.split(['/', '.']).map(str::to_owned);
            names
                .filter(|name| name.parse::<usize>().is_err())
                .collect()
        };
        split(pointer).ends_with(&split(&self.key))
    }
}

/// The conformance suite of one integration; see the [module](crate::conformance).
#[must_use = "a suite that is not run proves nothing"]
pub struct Suite {
    pub(super) vendor: String,
    pub(super) configurations: Vec<Configuration>,
    pub(super) support: Option<fn(Kind) -> Support>,
    /// What becomes of a configuration without a single key.
    pub(super) blank: Option<Box<dyn Fn() -> Result<(), ErrorKind>>>,
    /// Requests go through the world's transport.
    pub(super) wired: bool,
    pub(super) answers: Option<Answering>,
    /// Of which requests only the status is the vendor's answer.
    pub(super) says_nothing: Option<Matching>,
    pub(super) errors: Failing,
    pub(super) retries: Option<Retrying>,
    pub(super) refusal: Option<Refusing>,
    pub(super) refuses_by_status: bool,
    pub(super) already_gone: Option<Refusing>,
    pub(super) refuses_item: Option<RefusingItem>,
    pub(super) delays_item: Option<RefusingItem>,
    pub(super) delays_no_item: bool,
    pub(super) takes_all_or_nothing: bool,
    pub(super) volatile: Vec<String>,
    pub(super) meanings: Vec<Meaning>,
    pub(super) secrets: Option<Vec<String>>,
    pub(super) signing: Vec<String>,
    pub(super) credentials_in_url: bool,
    pub(super) cuts_names: bool,
    pub(super) screens_are_pages: bool,
    pub(super) delete_has_traits: bool,
    pub(super) message_id_in: Option<KindSet>,
    pub(super) timestamp_in: Option<KindSet>,
    pub(super) fixtures: BTreeMap<Kind, AnyInput>,
    pub(super) invalid: Vec<AnyInput>,
    pub(super) accepts_whatever: bool,
    pub(super) package: PathBuf,
    pub(super) snapshots: PathBuf,
    pub(super) update: bool,
}

impl Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite")
            .field("vendor", &self.vendor)
            .finish_non_exhaustive()
    }
}

impl Suite {
    /// A suite for a vendor that is reached through a [`Client`]. The
    /// configuration is one that supports as many kinds as possible.
    pub fn new<C, V>(config: impl Fn() -> C + 'static) -> Self
    where
        C: VendorConfig<Integration = Client<V>> + Debug + 'static,
        V: HttpVendor,
    {
        let configuration = Configuration::of_client(None, config);
        Self {
            support: Some(C::support),
            blank: Some(Box::new(|| {
                let read = analytics_spec::config::read::<C>(Map::new(), &|_| None);
                read.and_then(|config| config.build_as(Instance::new(NAME)))
                    .map(|_| ())
                    .map_err(|error| error.kind())
            })),
            ..Self::of(C::VENDOR, configuration, true)
        }
    }

    /// A suite for any integration that sends its requests through the world's
    /// transport, and takes the time from its clock.
    pub fn wired<I: Integration>(
        vendor: &str,
        build: impl Fn(Instance, &World) -> Result<I, Error> + 'static,
    ) -> Self {
        let configuration = Configuration::of(None, build);
        Self::of(vendor, configuration, true)
    }

    /// A suite for an integration that is not reached over HTTP. What it would
    /// reach has to accept everything. Checks of requests, of answers and of
    /// retries after them are not made: [`Check::needs_requests`](super::Check::needs_requests).
    pub fn direct<I: Integration>(
        vendor: &str,
        build: impl Fn(Instance) -> Result<I, Error> + 'static,
    ) -> Self {
        let configuration = Configuration::of(None, move |instance, _: &World| build(instance));
        Self::of(vendor, configuration, false)
    }

    fn of(vendor: &str, configuration: Configuration, wired: bool) -> Self {
        // Set by cargo for tests; without it, the directory is the package's.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, Into::into);
        Self {
            vendor: vendor.to_owned(),
            configurations: vec![configuration],
            support: None,
            blank: None,
            wired,
            answers: None,
            says_nothing: None,
            errors: Arc::new(|status, words| {
                let body = json!({
                    "status": status, "title": words, "detail": words, "error": words,
                    "message": words, "errors": [{"message": words}],
                });
                Answer::json(status, &body)
            }),
            retries: None,
            refusal: None,
            refuses_by_status: false,
            already_gone: None,
            refuses_item: None,
            delays_item: None,
            delays_no_item: false,
            takes_all_or_nothing: false,
            volatile: Vec::new(),
            meanings: Vec::new(),
            secrets: None,
            signing: Vec::new(),
            credentials_in_url: false,
            cuts_names: false,
            screens_are_pages: false,
            delete_has_traits: false,
            message_id_in: None,
            timestamp_in: None,
            fixtures: BTreeMap::new(),
            invalid: Vec::new(),
            accepts_whatever: false,
            snapshots: package.join("tests").join("conformance"),
            package,
            update: std::env::var_os("UPDATE_CONFORMANCE").is_some_and(|value| value == "1"),
        }
    }

    /// Adds a configuration of the same vendor: one without a condition of
    /// [`Support::When`], or one with a key that changes what is sent, such as a
    /// region. Each kind that it supports is delivered through it; where that sends
    /// anything else than the first configuration that delivers the kind, the
    /// snapshot `also.json` has what, below this name.
    pub fn also<C, V>(mut self, name: &str, config: impl Fn() -> C + 'static) -> Self
    where
        C: VendorConfig<Integration = Client<V>> + Debug + 'static,
        V: HttpVendor,
    {
        self.configurations
            .push(Configuration::of_client(Some(name.to_owned()), config));
        self
    }

    /// Every credential in the configurations, each distinct and of at least
    /// eight characters; none, if the vendor needs none.
    pub fn secrets<S: Into<String>>(mut self, secrets: impl IntoIterator<Item = S>) -> Self {
        self.secrets = Some(secrets.into_iter().map(Into::into).collect());
        self
    }

    /// Credentials that sign requests, besides those that are in them: they are
    /// in none.
    pub fn signing_secrets<S: Into<String>>(
        mut self,
        secrets: impl IntoIterator<Item = S>,
    ) -> Self {
        self.signing.extend(secrets.into_iter().map(Into::into));
        self
    }

    /// Says that the vendor wants a credential in the URL, where proxies and logs
    /// see it: it is in none, unless this says so.
    pub fn credentials_in_url(mut self) -> Self {
        self.credentials_in_url = true;
        self
    }

    /// Says that names of events, pages and screens are cut to the vendor's length,
    /// and that the vendor's page tells users so: what differs after that is one
    /// thing. Ids never are.
    pub fn cuts_names(mut self) -> Self {
        self.cuts_names = true;
        self
    }

    /// Says that the vendor itself has a screen sent as it has a page, and that its
    /// page says so.
    pub fn screens_are_pages(mut self) -> Self {
        self.screens_are_pages = true;
        self
    }

    /// How the vendor answers a request when it accepts, in the words by which
    /// the reading knows that it is the vendor who answers.
    pub fn answers(mut self, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        self.answers = Some(Arc::new(answer));
        self
    }

    /// The requests that the vendor answers with a status alone, or with words
    /// that it does not document: of these, a 2xx with anything but a web page is
    /// its answer. `|_| true`, if it is so with all.
    pub fn says_nothing(mut self, to: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.says_nothing = Some(Arc::new(to));
        self
    }

    /// How the vendor answers a request with a 2xx that is a failure; `None`
    /// for a request that it does not answer so. A vendor that has no such answer
    /// [refuses by status](Self::refuses_by_status).
    pub fn refusal(
        mut self,
        answer: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.refusal = Some(Arc::new(answer));
        self
    }

    /// Says that the vendor refuses with a status of failure, and never with a 2xx.
    pub fn refuses_by_status(mut self) -> Self {
        self.refuses_by_status = true;
        self
    }

    /// How the vendor answers a delete of somebody whom it does not know, where
    /// that is a status of failure; `None` for a request that it does not answer
    /// so. Any other 404 is a failure: nobody has been asked to delete.
    pub fn already_gone(
        mut self,
        answer: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.already_gone = Some(Arc::new(answer));
        self
    }

    /// How the vendor answers a request of which it refuses one item for good,
    /// the others being accepted; `None` for a request that it takes or
    /// refuses as a whole. A vendor that always does so
    /// [takes all or nothing](Self::takes_all_or_nothing).
    ///
    /// The index counts from 0, and may be beyond what the request carries. If the
    /// answer names it all the same, as `"index": 1000000` does, the reading must
    /// not take it for a success of all. If it is another form of "all taken", such
    /// as a list with a verdict for each item, there is nothing to look at.
    pub fn refuses_item(
        mut self,
        answer: impl Fn(&Request, usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.refuses_item = Some(Arc::new(answer));
        self
    }

    /// How the vendor answers a request of which it leaves one item to be sent
    /// again, the others being accepted; `None` for a request that it does not
    /// answer so. A vendor that has no such answer [delays no
    /// item](Self::delays_no_item).
    pub fn delays_item(
        mut self,
        answer: impl Fn(&Request, usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.delays_item = Some(Arc::new(answer));
        self
    }

    /// Says that the vendor refuses items of a request for good, and never leaves one
    /// to be sent again.
    pub fn delays_no_item(mut self) -> Self {
        self.delays_no_item = true;
        self
    }

    /// Says that the vendor takes or refuses a request as a whole, and never one
    /// item of it; or that a request has one item.
    pub fn takes_all_or_nothing(mut self) -> Self {
        self.takes_all_or_nothing = true;
        self
    }

    /// Which requests are refused for now with a status below 500, besides 408 and
    /// 429: what is refused with another one is refused for good. 401, 403 and 413
    /// have checks of their own, which this does not change.
    pub fn retries(
        mut self,
        is_for_now: impl Fn(&Request, u16) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.retries = Some(Arc::new(is_for_now));
        self
    }

    /// How the vendor answers with a status of failure and these words. Unless
    /// this says otherwise, JSON that has the words wherever vendors have
    /// them.
    pub fn errors(mut self, answer: impl Fn(u16, &str) -> Answer + Send + Sync + 'static) -> Self {
        self.errors = Arc::new(answer);
        self
    }

    /// The keys in a request's JSON, and the headers, whose values say when it
    /// was sent, and so differ between attempts.
    pub fn volatile<S: Into<String>>(mut self, keys: impl IntoIterator<Item = S>) -> Self {
        self.volatile.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Which field of ours a vendor's key holds in the requests of a kind, where
    /// its name does not tell, or is that of another field: in an alias, `user_id`
    /// may be the id before, `previous_user_id`. Where the last key is not enough,
    /// the end of the path says which: `primary/id`, or `primary.id`. Indices are
    /// left out.
    pub fn means(mut self, kind: Kind, key: &str, field: &str) -> Self {
        let (key, field) = (key.to_owned(), places::normal(field));
        self.meanings.push(Meaning { kind, key, field });
        self
    }

    /// The kinds whose requests depend on the message id: all, unless this
    /// says otherwise.
    pub fn message_id_in(mut self, kinds: impl Into<KindSet>) -> Self {
        self.message_id_in = Some(kinds.into());
        self
    }

    /// The kinds whose requests depend on the timestamp: all, unless this says
    /// otherwise.
    pub fn timestamp_in(mut self, kinds: impl Into<KindSet>) -> Self {
        self.timestamp_in = Some(kinds.into());
        self
    }

    /// Says that a delete is sent with its traits: by which of them a person is
    /// known, only the receiver can say.
    pub fn delete_has_traits(mut self) -> Self {
        self.delete_has_traits = true;
        self
    }

    /// Replaces the fixture of a kind, for a vendor that does not accept the
    /// one of the suite. What its context leaves out is taken from there.
    pub fn fixture<E: Event>(mut self, input: impl Into<Input<E>>) -> Self {
        let input = fixtures::completed(input.into().into_any());
        self.fixtures.insert(input.kind(), input);
        self
    }

    /// Says that the vendor has no rules of its own: whatever is an event, it
    /// takes.
    pub fn accepts_whatever(mut self) -> Self {
        self.accepts_whatever = true;
        self
    }

    /// Adds an input that the vendor's own rules refuse.
    pub fn invalid<E: Event>(mut self, input: impl Into<Input<E>>) -> Self {
        self.invalid.push(input.into().into_any());
        self
    }

    /// Where the snapshots are, from the package's directory:
    /// `tests/conformance`, unless this says otherwise. For a second suite of
    /// one package.
    pub fn snapshots(mut self, directory: impl Into<PathBuf>) -> Self {
        self.snapshots = self.package.join(directory.into());
        self
    }

    /// The directory of the integration's package: that of the test, unless
    /// this says otherwise.
    pub fn package(mut self, directory: impl Into<PathBuf>) -> Self {
        self.package = directory.into();
        self
    }

    /// Whether to write the snapshots instead of comparing them: if
    /// `UPDATE_CONFORMANCE` is `1` in the environment, unless this says
    /// otherwise.
    pub fn update_snapshots(mut self, update: bool) -> Self {
        self.update = update;
        self
    }

    /// Makes every check.
    ///
    /// # Panics
    ///
    /// If one failed, with the report of all that did.
    pub async fn run(self) {
        let report = self.report().await;
        assert!(report.is_clean(), "{report}");
    }

    /// Makes every check, and says what was found.
    pub async fn report(self) -> Report {
        let lines = trace::Lines::default();
        let run = Run::new(&self);
        checks::all(&run).with_subscriber(lines.clone()).await;
        checks::traces(&run, &lines.take());
        run.finish(&self.vendor)
    }

    /// Every credential, whatever it is for.
    pub(super) fn credentials(&self) -> impl Iterator<Item = &String> {
        self.secrets.iter().flatten().chain(&self.signing)
    }

    pub(super) fn answering(&self) -> Answering {
        let given = self.answers.clone();
        given.unwrap_or_else(|| Arc::new(|_| Answer::json(200, &json!({}))))
    }

    /// Whether a request is refused for now with a status.
    pub(super) fn is_retried(&self, request: &Request, status: u16) -> bool {
        let retries = self.retries.as_ref();
        retries.is_some_and(|is_for_now| is_for_now(request, status))
    }

    /// Whether only the status of a request's answer is the vendor's.
    pub(super) fn says_nothing_to(&self, request: &Request) -> bool {
        self.says_nothing.as_ref().is_some_and(|to| to(request))
    }

    /// What was said of the keys of a kind.
    pub(super) fn meant(&self, kind: Kind) -> impl Iterator<Item = &Meaning> {
        let meanings = self.meanings.iter();
        meanings.filter(move |meaning| meaning.kind == kind)
    }

    /// The field that stands in a place, if something was said of it.
    pub(super) fn meant_by(&self, kind: Kind, pointer: &str) -> Option<&str> {
        let mut meanings = self.meant(kind);
        let meaning = meanings.find(|meaning| meaning.is_of(pointer));
        meaning.map(|meaning| meaning.field.as_str())
    }

    /// The kinds that any configuration declares.
    pub(super) fn kinds(&self) -> KindSet {
        let declared = self.configurations.iter().map(Configuration::supports);
        Kind::ALL
            .into_iter()
            .filter(|kind| declared.clone().any(|kinds| kinds.contains(*kind)))
            .collect()
    }

    /// The first configuration that declares a kind.
    pub(super) fn configuration_of(&self, kind: Kind) -> Option<&Configuration> {
        self.configurations
            .iter()
            .find(|configuration| configuration.supports().contains(kind))
    }

    pub(super) fn fixture_of(&self, kind: Kind) -> AnyInput {
        self.fixtures
            .get(&kind)
            .cloned()
            .unwrap_or_else(|| fixtures::input(kind))
    }
}

//! What a vendor implements, and what follows from it.

use std::{
    collections::HashSet,
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Alias, AnyInput, Clock, Delete, Error, ErrorKind, Event, Group, HttpResponse, Identify, Input,
    KindSet, Page, Policies, Prepare, Prepared, RequestPolicy, Screen, Track, ValidationError,
    policies::Retries,
    validation::{Code, Violation},
};

/// How many of an event's requests the vendor has accepted.
///
/// An event may need several. A later attempt begins where the last one
/// stopped, so that nothing is sent twice that is known to have arrived.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Progress(pub u32);

impl Progress {
    /// Nothing has been accepted yet.
    pub const NONE: Self = Self(0);
}

/// One attempt to deliver an event. The input is stamped: it has a message id
/// and a timestamp.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The event and what is known around it.
    pub input: &'a AnyInput,
    /// Which attempt this is, from 1.
    pub number: u32,
    /// What earlier attempts got through.
    pub progress: Progress,
    /// How long each request may take.
    pub timeout: Duration,
    /// When no further request begins, if there is such a time: see
    /// [`Integration::deliver_batch`].
    pub deadline: Option<Instant>,
}

impl Attempt<'_> {
    /// Whether its [`deadline`](Self::deadline) is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }
}

/// The vendor accepted an event.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The answer to the last request, where there is one; shared by the
    /// events of a batch.
    pub response: Option<Arc<HttpResponse>>,
}

impl Delivery {
    /// An accepted event, and the vendor's last answer.
    #[must_use]
    pub fn new(response: Option<Arc<HttpResponse>>) -> Self {
        Self { response }
    }

    /// The answer, taken out of what shares it.
    #[must_use]
    pub fn into_response(self) -> Option<HttpResponse> {
        self.response.map(Arc::unwrap_or_clone)
    }
}

/// How many events an integration takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    /// The most events in one [`Integration::deliver_batch`].
    pub max_items: usize,
    /// About how many bytes those events may have together, as JSON or as what
    /// is sent of them.
    pub max_bytes: usize,
    /// How many deliveries may be under way at the same time.
    pub max_in_flight: usize,
}

impl Batching {
    /// One event at a time, `max_in_flight` of them side by side.
    #[must_use]
    pub const fn single(max_in_flight: usize) -> Self {
        Self {
            max_items: 1,
            max_bytes: usize::MAX,
            max_in_flight,
        }
    }
}

/// A request as it would be sent, without its secrets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preview {
    /// `POST`, ...
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Every header, its name in lower case.
    pub headers: std::collections::BTreeMap<String, String>,
    /// JSON where it is JSON, else a string; `null` if there is none.
    pub body: Value,
}

/// A configured instance for one vendor.
///
/// A vendor that is reached over HTTP implements `HttpVendor` of
/// `analytics-http` instead, which brings sending, splitting and redaction.
#[async_trait]
pub trait Integration: Debug + Send + Sync + 'static {
    /// The vendor's name, in lower case: `segment`.
    fn vendor(&self) -> &'static str;

    /// The instance's name, which is part of workflow names. Several instances
    /// of one vendor differ by it.
    fn name(&self) -> &str;

    /// The kinds that this instance, as it is configured, can deliver.
    ///
    /// - A kind that is declared is delivered.
    /// - One that is not is refused before [`deliver`](Self::deliver) is asked.
    fn supports(&self) -> KindSet;

    /// Checks the vendor's own rules.
    ///
    /// - Is pure: the same input gives the same answer, and nothing is sent.
    /// - Is asked only for inputs that satisfy the specification.
    /// - Reports everything that is wrong at once.
    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError>;

    /// Makes one attempt to deliver one event.
    ///
    /// - Is asked only for supported kinds and valid inputs.
    /// - Does not retry: whoever asks does, by the error.
    /// - Sends the input's message id and timestamp, where the vendor has a
    ///   place for them, and makes neither up.
    /// - Says in an error's [`progress`](Error::progress) what it got through.
    /// - Begins no further request after the [`deadline`](Attempt::deadline): the
    ///   event is [`Deferred`](ErrorKind::Deferred) then.
    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error>;

    /// Makes one attempt to deliver several events.
    ///
    /// - Gives one outcome per attempt, in their order.
    /// - One event's failure is not another's.
    /// - Events that share a [`Person`](crate::event::Person) arrive in their
    ///   order: after a failure that may pass, or for want of the right
    ///   credentials, the later ones are [`Deferred`](ErrorKind::Deferred).
    /// - So are those for which there was no time before the attempts'
    ///   [`deadline`](Attempt::deadline), and one that needs further requests,
    ///   with its [`progress`](Error::progress). The first request is made
    ///   whatever the time.
    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        let mut waiting = HashSet::new();
        let mut outcomes = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let event = &attempt.input.event;
            let outcome = if event.people().any(|person| waiting.contains(&person)) {
                Err(deferred())
            } else if attempt.is_over() {
                Err(unattempted())
            } else {
                self.deliver(attempt).await
            };
            let may_pass = |error: &Error| {
                // Credentials may be put right.
                error.is_retryable() || error.kind() == ErrorKind::Unauthorized
            };
            if outcome.as_ref().is_err_and(may_pass) {
                waiting.extend(event.people());
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// What it can do if it maps events ahead of their delivery. An engine then
    /// has each event prepared when it is accepted, and delivers what was
    /// prepared.
    fn as_prepare(&self) -> Option<&dyn Prepare> {
        None
    }

    /// How many events to hand over at once: one, unless the vendor takes
    /// more.
    fn batching(&self) -> Batching {
        Batching::single(8)
    }

    /// The policies of this instance.
    fn policies(&self) -> Policies {
        Policies::new()
    }

    /// Whether an input may bring policies of its own.
    fn allows_policies_override(&self) -> bool {
        false
    }

    /// The configuration, for people to read. No secret is in it.
    fn configuration(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The requests that an event would cause; none if they cannot be shown.
    ///
    /// # Errors
    ///
    /// Whatever prevents the requests from being made.
    fn preview(&self, input: &AnyInput) -> Result<Vec<Preview>, Error> {
        let _ = input;
        Ok(Vec::new())
    }

    /// Called once, before the first event.
    async fn init(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Called once, after the last event.
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The outcome of an attempt that was not made, because an earlier event of
/// the same person has to arrive first.
#[must_use]
pub fn deferred() -> Error {
    Error::new(
        ErrorKind::Deferred,
        "waits for an earlier event of the same person",
    )
}

/// The outcome of an attempt that was not made, because its
/// [`deadline`](Attempt::deadline) was over before its turn.
#[must_use]
pub fn unattempted() -> Error {
    Error::new(
        ErrorKind::Deferred,
        "waits for the next attempt: the time of this one was over before its turn",
    )
}

/// What every integration can do because of what it implements.
#[async_trait]
pub trait IntegrationExt: Integration {
    /// Checks everything that can be checked before a request: the
    /// specification's rules, that the kind is supported, that policies may be
    /// given, and the vendor's rules.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported), or
    /// [`Validation`](ErrorKind::Validation) with every violation.
    fn check(&self, input: &AnyInput) -> Result<(), Error> {
        input
            .validate()
            .map_err(|error| Error::from(error).with_integration(self.name()))?;
        self.check_own(input)
    }

    /// The part of [`check`](Self::check) that is this integration's own, for
    /// an input that satisfies the specification.
    ///
    /// # Errors
    ///
    /// See [`check`](Self::check).
    fn check_own(&self, input: &AnyInput) -> Result<(), Error> {
        own(self, input, |input| Ok(self.validate(input)?))
    }

    /// Does the same, and has the event mapped, if the integration does so
    /// ahead of its delivery.
    ///
    /// # Errors
    ///
    /// See [`check`](Self::check); the event cannot be mapped.
    fn prepare_own(&self, input: &AnyInput) -> Result<Option<Prepared>, Error> {
        own(self, input, |input| match self.as_prepare() {
            Some(mapper) => match mapper.prepare(input) {
                Ok(prepared) => Ok(Some(prepared)),
                // The same event gives the same error.
                Err(error) => Err(error.with_retryable(false)),
            },
            None => Ok(self.validate(input).map(|()| None)?),
        })
    }

    /// The policy for one input: its own where it may have one, then the
    /// instance's, then the defaults.
    fn request_policy(&self, input: &AnyInput) -> RequestPolicy {
        policy_for(input, &self.policies(), self.allows_policies_override())
    }

    /// Checks an input and delivers it, with retries by its policy.
    ///
    /// The input is stamped if it is not yet, so that the vendor sees the same
    /// message id and timestamp in every attempt.
    ///
    /// # Errors
    ///
    /// What [`check`](Self::check) finds, or the last attempt's error with the
    /// progress of all attempts. A delay beyond [`PATIENCE`] is not waited for:
    /// its error comes back.
    async fn send_with(&self, clock: &dyn Clock, input: &mut AnyInput) -> Result<Delivery, Error> {
        input.stamp(clock.now());
        self.check(input)?;
        let policy = self.request_policy(input);
        let attempt = |attempt| Box::pin(async move { self.deliver(&attempt).await }) as _;
        drive(clock, &policy, input, PATIENCE, attempt).await
    }
}

impl<I: Integration + ?Sized> IntegrationExt for I {}

/// What holds for every integration, and what `validate` says of this one's
/// own rules.
fn own<T>(
    integration: &(impl Integration + ?Sized),
    input: &AnyInput,
    validate: impl FnOnce(&AnyInput) -> Result<T, Error>,
) -> Result<T, Error> {
    let check = || {
        if !integration.supports().contains(input.kind()) {
            return Err(Error::unsupported(input.kind(), integration.name()));
        }
        let validated = validate(input);
        if input.policies.is_none() || integration.allows_policies_override() {
            return validated;
        }
        let mut violations = vec![Violation::new(
            "policies",
            Code::NotAllowed,
            "this integration does not take policies from inputs: \
             leave them out, or set allow_policies_override in its configuration",
        )];
        if let Err(error) = &validated
            && let Some(own) = error.violations()
        {
            violations.extend_from_slice(own.violations());
        }
        ValidationError::check(violations)?;
        validated
    };
    check().map_err(|error: Error| error.with_integration(integration.name()))
}

/// How long a call without an engine waits, in all, for delays that a vendor
/// asks for. Somebody waits for the call.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A boxed attempt at an event.
pub type Attempting<'a> = Pin<Box<dyn Future<Output = Result<Delivery, Error>> + Send + 'a>>;

/// Makes attempts at one event until the vendor accepts it or a failure is
/// final: for whoever waits for the end.
///
/// # Errors
///
/// The last attempt's error, with the progress of all attempts; also if what
/// the vendor asks to wait is, in all, longer than `patience`.
pub async fn drive<'a>(
    clock: &dyn Clock,
    policy: &RequestPolicy,
    input: &'a AnyInput,
    patience: Duration,
    mut attempt: impl FnMut(Attempt<'a>) -> Attempting<'a> + Send,
) -> Result<Delivery, Error> {
    let mut retries = Retries::new();
    let mut asked = Duration::ZERO;
    loop {
        let error = match attempt(retries.attempt(input, policy)).await {
            Ok(delivery) => return Ok(delivery),
            Err(error) => error,
        };
        let vendors = error.retry_after().max(error.wait()).unwrap_or_default();
        asked = asked.saturating_add(vendors);
        // There is no earlier event here that a deferred one could wait for.
        let is_final = error.kind() == ErrorKind::Deferred || asked > patience;
        match retries.failed(&error, policy, clock.jitter()) {
            Some(pause) if !is_final => clock.sleep(pause).await,
            _ => return Err(error.with_progress(retries.progress)),
        }
    }
}

/// The policy for one input, over the policies that hold where it is handled.
pub(crate) fn policy_for(input: &AnyInput, base: &Policies, may_override: bool) -> RequestPolicy {
    match &input.policies {
        Some(own) if may_override => {
            let mut policies = own.clone();
            policies.inherit(base);
            policies.resolve()
        }
        _ => base.resolve(),
    }
}

/// The seven calls, on whatever takes events: an integration alone, or a
/// client that carries them to several.
pub trait Calls: Sync {
    /// What is known when a call returns.
    type Receipt<E: Event>;

    /// Takes an event.
    fn send<E: Event>(
        &self,
        input: impl Into<Input<E>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<E>, Error>> + Send;

    /// Says who a user is.
    fn identify(
        &self,
        input: impl Into<Input<Identify>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Identify>, Error>> + Send {
        self.send(input)
    }

    /// Says what a user did.
    fn track(
        &self,
        input: impl Into<Input<Track>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Track>, Error>> + Send {
        self.send(input)
    }

    /// Says which group a user belongs to.
    fn group(
        &self,
        input: impl Into<Input<Group>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Group>, Error>> + Send {
        self.send(input)
    }

    /// Says that two ids are one user.
    fn alias(
        &self,
        input: impl Into<Input<Alias>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Alias>, Error>> + Send {
        self.send(input)
    }

    /// Says which page a user saw.
    fn page(
        &self,
        input: impl Into<Input<Page>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Page>, Error>> + Send {
        self.send(input)
    }

    /// Says which screen a user saw.
    fn screen(
        &self,
        input: impl Into<Input<Screen>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Screen>, Error>> + Send {
        self.send(input)
    }

    /// Asks to forget a user.
    fn delete(
        &self,
        input: impl Into<Input<Delete>> + Send,
    ) -> impl Future<Output = Result<Self::Receipt<Delete>, Error>> + Send {
        self.send(input)
    }
}

/// Whether a vendor can do something with a kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It can, if the configuration is so: the condition in a few words.
    When(&'static str),
    /// It cannot.
    No,
}

impl Support {
    /// Whether an instance of some configuration can.
    #[must_use]
    pub fn is_possible(self) -> bool {
        self != Self::No
    }
}

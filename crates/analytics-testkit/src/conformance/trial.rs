//! One instance in a world of its own, and what it does there.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    error::Error as _,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Integration, IntegrationExt as _, Kind,
    Progress,
    config::Instance,
    prepared::{Prepared, PreparedAttempt},
};

use super::{
    configuration::Configuration,
    places::shorten,
    report::{Check, Report},
    secrets::Needles,
    suite::Suite,
    wire::{FakeClock, Plan, Reply, Sent, Wire, World},
};

/// The outcome of an event.
pub(crate) type Outcome = Result<Delivery, Error>;

/// Longer than any check takes; shorter than anybody waits.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// A suite under way.
pub(crate) struct Run<'s> {
    pub(crate) suite: &'s Suite,
    report: RefCell<Report>,
    pub(crate) needles: RefCell<Needles>,
    /// Something did not end: there is no use in waiting for it again.
    is_stuck: Cell<bool>,
}

impl<'s> Run<'s> {
    pub(crate) fn new(suite: &'s Suite) -> Self {
        Self {
            suite,
            report: RefCell::default(),
            needles: RefCell::new(Needles::new(suite.credentials())),
            is_stuck: Cell::new(false),
        }
    }

    pub(crate) fn fail(
        &self,
        check: Check,
        kind: impl Into<Option<Kind>>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) {
        let seen = seen.into();
        self.report
            .borrow_mut()
            .add(check, kind.into(), expected.into(), seen);
    }

    /// Fails because of what stands in a file.
    pub(crate) fn fail_in(&self, check: Check, file: &str, expected: String, seen: String) {
        let mut report = self.report.borrow_mut();
        report.add_of(check, file.to_owned(), expected, seen);
    }

    /// Fails unless `holds`.
    pub(crate) fn expect(
        &self,
        holds: bool,
        check: Check,
        kind: impl Into<Option<Kind>>,
        expected: impl Into<String>,
        seen: impl FnOnce() -> String,
    ) -> bool {
        if !holds {
            self.fail(check, kind, expected, seen());
        }
        holds
    }

    pub(crate) fn finish(self, vendor: &str) -> Report {
        let mut report = self.report.into_inner();
        report.finish(vendor, &self.suite.package);
        report
    }

    /// A text that somebody may read: no secret may be in it.
    pub(crate) fn shown(&self, kind: Option<Kind>, what: &str, text: &str) {
        if let Some(form) = self.needles.borrow().found_in(text) {
            self.fail(
                Check::Secrets,
                kind,
                "no credential in anything but requests",
                format!("{what} shows {form}"),
            );
        }
    }

    /// An instance of the configuration that delivers a kind.
    pub(crate) fn trial_of(&self, kind: Kind, plan: Plan) -> Option<Trial<'_>> {
        let configuration = self.suite.configuration_of(kind)?;
        self.trial(configuration, NAME, Duration::ZERO, plan)
    }

    /// An instance of a configuration, `later` than the others.
    pub(crate) fn trial(
        &self,
        configuration: &Configuration,
        name: &str,
        later: Duration,
        plan: Plan,
    ) -> Option<Trial<'_>> {
        self.trial_as(configuration, Instance::new(name), later, plan)
    }

    pub(crate) fn trial_as(
        &self,
        configuration: &Configuration,
        instance: Instance,
        later: Duration,
        plan: Plan,
    ) -> Option<Trial<'_>> {
        if self.is_stuck.get() {
            return None;
        }
        let world = World {
            wire: Arc::new(Wire::new(self.suite.answering(), plan)),
            clock: Arc::new(FakeClock::after(later)),
        };
        let built = catch_unwind(AssertUnwindSafe(|| (configuration.build)(instance, &world)));
        match built {
            Ok(Ok(subject)) => Some(Trial {
                run: self,
                wire: world.wire,
                clock: world.clock,
                subject,
            }),
            Ok(Err(error)) => {
                self.fail(
                    Check::Builds,
                    None,
                    format!("the {} makes an instance", configuration.label()),
                    error.to_string(),
                );
                None
            }
            Err(panic) => {
                self.panicked(None, "building an instance", panic.as_ref());
                None
            }
        }
    }

    pub(crate) fn panicked(&self, kind: Option<Kind>, doing: &str, panic: &(dyn Any + Send)) {
        self.fail(
            Check::Panics,
            kind,
            format!("no panic when {doing}"),
            words(panic),
        );
    }
}

/// The name of instances under test.
pub(crate) const NAME: &str = "conformance-instance";

fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    shorten(&words.unwrap_or_else(|| "a panic without words".to_owned()))
}

/// The future's result, or what it panicked with.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// One instance in a world of its own.
pub(crate) struct Trial<'r> {
    run: &'r Run<'r>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) subject: Arc<dyn Integration>,
}

impl Trial<'_> {
    /// Sends one input with retries, as a client does; the input is stamped.
    pub(crate) async fn send(&self, input: &mut AnyInput) -> Outcome {
        let kind = input.kind();
        let sending = self.subject.send_with(self.clock.as_ref(), input);
        let outcome = self.guarded(kind, "an event is sent", sending).await;
        self.note(kind, outcome)
    }

    /// Whether validation accepts an input; where it panics, whoever sends it
    /// finds that out.
    pub(crate) fn accepts(&self, input: &AnyInput) -> bool {
        let check = AssertUnwindSafe(|| self.subject.check(input).is_ok());
        catch_unwind(check).unwrap_or(true)
    }

    /// Whether an input can be mapped ahead of its delivery.
    pub(crate) fn prepares(&self, input: &AnyInput) -> bool {
        let prepare = AssertUnwindSafe(|| self.subject.prepare_own(input).is_ok());
        catch_unwind(prepare).unwrap_or(false)
    }

    /// Makes one attempt for what was prepared of an input.
    pub(crate) async fn prepared(&self, input: &AnyInput, parcel: &Prepared) -> Vec<Outcome> {
        let Some(mapper) = self.subject.as_prepare() else {
            return Vec::new();
        };
        let attempt = self.first_attempt(input);
        let attempts = [PreparedAttempt {
            prepared: parcel,
            kind: input.kind(),
            message_id: input.message_id(),
            people: &[1],
            event: Some(&input.event),
            number: attempt.number,
            progress: attempt.progress,
            timeout: attempt.timeout,
        }];
        let delivering = async { Ok(mapper.deliver_prepared(&attempts).await) };
        let when = "what was prepared is sent";
        let outcomes = self.guarded(input.kind(), when, delivering).await;
        outcomes.unwrap_or_default()
    }

    /// Makes one attempt for one input.
    pub(crate) async fn attempt(&self, input: &AnyInput) -> Outcome {
        let attempt = self.first_attempt(input);
        let outcome = self
            .guarded(
                input.kind(),
                "an attempt is made",
                self.subject.deliver(&attempt),
            )
            .await;
        self.note(input.kind(), outcome)
    }

    pub(crate) fn first_attempt<'a>(&self, input: &'a AnyInput) -> Attempt<'a> {
        Attempt {
            input,
            number: 1,
            progress: Progress::NONE,
            timeout: self.subject.request_policy(input).single_attempt_timeout,
            deadline: None,
        }
    }

    /// Makes one attempt for several inputs; `None` if there is not one
    /// outcome for each.
    pub(crate) async fn batch(&self, attempts: &[Attempt<'_>]) -> Option<Vec<Outcome>> {
        let delivering = async { Ok(self.subject.deliver_batch(attempts).await) };
        let kind = attempts.first()?.input.kind();
        let outcomes = match self.guarded(kind, "a batch is sent", delivering).await {
            Ok(outcomes) => outcomes,
            Err(_) => return None,
        };
        let fits = self.run.expect(
            outcomes.len() == attempts.len(),
            Check::Batch,
            None,
            "one outcome for each event of a batch",
            || {
                let (some, all) = (outcomes.len(), attempts.len());
                format!("{some} outcomes for {all} events")
            },
        );
        for (attempt, outcome) in attempts.iter().zip(&outcomes) {
            self.look_at(attempt.input.kind(), outcome);
        }
        fits.then_some(outcomes)
    }

    /// What a future comes to; a panic and endless waiting are failures.
    async fn guarded<T>(
        &self,
        kind: Kind,
        when: &str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let ended = tokio::time::timeout(LONGEST, caught(future)).await;
        if self.wire.is_overrun() {
            self.stuck(kind, when, "requests, and no end");
        }
        match ended {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                self.run.panicked(Some(kind), when, panic.as_ref());
                Err(Error::new(ErrorKind::Internal, "a panic").with_integration(NAME))
            }
            Err(_) => {
                self.stuck(
                    kind,
                    when,
                    &format!("requests, and waiting for {LONGEST:?}"),
                );
                Err(Error::new(ErrorKind::Internal, "no end").with_integration(NAME))
            }
        }
    }

    fn stuck(&self, kind: Kind, when: &str, seen: &str) {
        self.run.is_stuck.set(true);
        self.run.fail(
            Check::Ends,
            kind,
            format!("an end when {when}; nothing is checked after this"),
            format!("{} {seen}", self.wire.count()),
        );
    }

    fn note(&self, kind: Kind, outcome: Outcome) -> Outcome {
        self.look_at(kind, &outcome);
        outcome
    }

    /// Whatever comes out anywhere shows no secret, and errors name the
    /// instance.
    pub(crate) fn look_at(&self, kind: Kind, outcome: &Outcome) {
        self.wire
            .each_new(|sent| self.run.needles.borrow_mut().learn(sent));
        let shown = |what: &str, text: &str| self.run.shown(Some(kind), what, text);
        let json = |response| serde_json::to_string(response).unwrap_or_default();
        match outcome {
            Ok(delivery) => {
                if let Some(response) = &delivery.response {
                    shown("a delivery's answer", &json(response.as_ref()));
                }
            }
            Err(error) => {
                shown("an error's Display", &error.to_string());
                shown("an error's Debug", &format!("{error:?}"));
                if let Some(response) = error.response() {
                    shown("an error's answer", &json(response));
                }
                if let Some(violations) = error.violations() {
                    shown("a violation", &format!("{violations} {violations:?}"));
                }
                let mut source = error.source();
                while let Some(cause) = source {
                    shown("an error's source", &format!("{cause} {cause:?}"));
                    source = cause.source();
                }
                self.run.expect(
                    error.integration() == Some(self.subject.name()),
                    Check::NamedErrors,
                    kind,
                    "the instance's name in every error",
                    || {
                        format!(
                            "{:?} in `{}`",
                            error.integration(),
                            shorten(&error.to_string())
                        )
                    },
                );
            }
        }
    }

    /// The requests as documents.
    pub(crate) fn documents(&self) -> Vec<serde_json::Value> {
        documents(&self.wire.sent(), &self.run.suite.volatile)
    }
}

pub(crate) fn documents(sent: &[Sent], volatile: &[String]) -> Vec<serde_json::Value> {
    sent.iter().map(|sent| sent.document(volatile)).collect()
}

/// The vendor accepts everything.
pub(crate) fn accepting() -> Plan {
    Box::new(|_, _| Reply::Accept)
}

/// The vendor accepts everything but its `nth` request, from 0.
pub(crate) fn failing_once(nth: usize, reply: Reply) -> Plan {
    Box::new(move |_, before| {
        if before == nth {
            reply.clone()
        } else {
            Reply::Accept
        }
    })
}

/// The vendor accepts the first `nth` requests, and none of the rest.
pub(crate) fn failing_from(nth: usize, reply: Reply) -> Plan {
    Box::new(move |_, before| {
        if before >= nth {
            reply.clone()
        } else {
            Reply::Accept
        }
    })
}

/// What an outcome is, in a few words.
pub(crate) fn brief(outcome: &Outcome) -> String {
    match outcome {
        Ok(_) => "delivered".to_owned(),
        Err(error) => {
            let lasting = if error.is_retryable() {
                "retryable"
            } else {
                "permanent"
            };
            shorten(&format!("{lasting}: {error}"))
        }
    }
}

//! The integration made of a vendor's mapping and reading.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    sync::Arc,
    time::Duration,
};

use analytics_spec::{
    AnyInput, Attempt, Calls, Clock, Delivery, Error, ErrorKind, Event, HttpResponse, Input,
    Integration, IntegrationExt as _, KindSet, Map, Output, Policies, Prepare, Prepared,
    PreparedAttempt, Secret, Status, Timestamp, TokioClock, ValidationError, Value,
    config::Instance,
    integration::{Batching, Preview},
    prepared::not_its_own,
};
use async_trait::async_trait;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderValue, Request,
    header::{CONTENT_ENCODING, USER_AGENT},
};
use smallvec::SmallVec;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span, field};

use crate::{
    batch::{Answer, Batch, Group, Item, Lead},
    classify::{Refusal, Verdict, message, retry_after},
    redact::Redactor,
    response,
    transport::{self, Transport},
    vendor::{HttpVendor, Reading, Sending, Step},
};

/// Bodies of fewer bytes are not worth compressing.
const COMPRESS_FROM: usize = 1024;

/// A vendor with what reaches it: an [`Integration`], and by itself a client
/// with retries (see [`Calls`]).
pub struct Client<V> {
    vendor: V,
    instance: Instance,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    redactor: Redactor,
    /// Vendors count simultaneous connections by key, whoever opens them.
    in_flight: Semaphore,
}

/// Not what it sends through: a transport's TLS alone is pages.
impl<V: fmt::Debug> fmt::Debug for Client<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("vendor", &self.vendor)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl<V: HttpVendor> Client<V> {
    /// An instance of a vendor.
    ///
    /// # Errors
    ///
    /// A [configuration](ErrorKind::Configuration) error: the instance's name
    /// or policies are wrong, or TLS cannot be set up.
    pub fn new(vendor: V, instance: Instance) -> Result<Self, Error> {
        instance.check()?;
        Ok(Self {
            redactor: Redactor::new(vendor.secrets()),
            in_flight: Semaphore::new(
                vendor
                    .batching()
                    .max_in_flight
                    .clamp(1, Semaphore::MAX_PERMITS),
            ),
            vendor,
            instance,
            transport: transport::shared()?,
            clock: Arc::new(TokioClock::new()),
        })
    }

    /// Sends through another transport.
    #[must_use]
    pub fn with_transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// Takes time and chance from another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The vendor's mapping and reading.
    #[must_use]
    pub fn mapping(&self) -> &V {
        &self.vendor
    }

    /// The vendor's mapping of a kind that this configuration can deliver.
    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<V::Route>>, Error> {
        let kind = input.kind();
        if self.vendor.supports().contains(kind) {
            self.vendor.steps(input)
        } else {
            Err(Error::unsupported(kind, V::VENDOR))
        }
    }

    /// The input with the id and the time that it will have when it is accepted:
    /// what counts bytes, counts them too.
    fn stamped<'a>(&self, input: &'a AnyInput) -> Cow<'a, AnyInput> {
        let context = &input.context;
        if context.message_id.is_some() && context.timestamp.is_some() {
            return Cow::Borrowed(input);
        }
        // As many digits as a time can have.
        let now = self.clock.now();
        let now = Timestamp::new(now.as_second(), 123_456_789).unwrap_or(now);
        let mut input = input.clone();
        input.stamp(now);
        Cow::Owned(input)
    }

    /// Sends one group of steps and reads the answer.
    async fn exchange(&self, group: &Group<'_, V::Route>, batch: &Batch<'_, V>) -> Answer {
        let Some(first) = batch.leads(group).next() else {
            let refusal = Refusal::permanent(ErrorKind::Internal, "a request without events");
            return Answer {
                reading: Reading::All(Err(refusal)),
                response: None,
            };
        };
        // What is a retry for one of its events is one for the request, and
        // it takes no longer than any of them may.
        let (number, timeout) = batch
            .leads(group)
            .fold((first.number, first.timeout), |(number, timeout), lead| {
                (number.max(lead.number), timeout.min(lead.timeout))
            });
        let span = tracing::info_span!(
            "analytics.request",
            integration = self.instance.name,
            kind = %first.kind,
            message_id = first.message_id,
            attempt = number,
            events = group.members.len(),
            status = field::Empty,
        );
        self.send(group, number, timeout, &span)
            .instrument(span.clone())
            .await
    }

    async fn send(
        &self,
        group: &Group<'_, V::Route>,
        number: u32,
        timeout: Duration,
        span: &Span,
    ) -> Answer {
        // The semaphore is never closed, so there is always a permit to wait for.
        // A request is made when it can be sent: vendors compare clocks by its
        // time.
        let _permit = self.in_flight.acquire().await;
        let sending = self.sending(number);
        let request = match self.vendor.request(&group.route, &group.bodies, sending) {
            Ok(request) => request,
            Err(error) => {
                let reading = Reading::All(Err(Refusal::permanent(error.kind(), error.message())));
                log(&reading);
                return Answer {
                    reading,
                    response: None,
                };
            }
        };
        let redactor = self.redactor.with_request(&request);
        let request = finish(request, group.limits.gzip);
        let answer = self.transport.send(request, timeout).await;
        match answer {
            Ok(answer) => {
                let mut response = response::keep(&answer);
                span.record("status", response.status_code);
                let mut reading = self.read(group, &response);
                self.honour_retry_after(&mut reading, &response);
                // What an answer means is not to hang on what stands in a header.
                let said = response.clone();
                redactor.response(&mut response);
                if response != said {
                    say_it_as(&mut reading, self.read(group, &response), &response);
                }
                log(&reading);
                Answer {
                    reading,
                    response: Some(Arc::new(response)),
                }
            }
            Err(error) => {
                let failure = error.failure();
                span.record("status", field::display(failure.kind()));
                let mut message = error.to_string();
                redactor.text(&mut message);
                let refusal = if failure.is_retryable() {
                    Refusal::transient(failure.kind(), message)
                } else {
                    Refusal::permanent(failure.kind(), message)
                };
                let reading = Reading::All(Err(refusal));
                log(&reading);
                Answer {
                    reading,
                    response: None,
                }
            }
        }
    }

    /// What an answer says of a group. A web page is somebody else's.
    fn read(&self, group: &Group<'_, V::Route>, response: &HttpResponse) -> Reading {
        if is_page(response) && !V::MAY_ANSWER_WITH_PAGES {
            return Reading::All(Err(Refusal::foreign(V::VENDOR, response)));
        }
        let items = group.members.len();
        self.vendor.read(&group.route, response, items)
    }

    /// A refusal for now waits as long as the answer asks, whatever its status.
    fn honour_retry_after(&self, reading: &mut Reading, response: &HttpResponse) {
        let Some(asked) = retry_after(response, self.clock.as_ref()) else {
            return;
        };
        for refusal in verdicts(reading)
            .iter_mut()
            .filter_map(|v| v.as_mut().err())
        {
            if refusal.retryable {
                refusal.retry_after = Some(asked);
            }
        }
    }
}

fn verdicts(reading: &mut Reading) -> &mut [Verdict] {
    match reading {
        Reading::All(verdict) => std::slice::from_mut(verdict),
        Reading::Each(verdicts) => verdicts.as_mut_slice(),
    }
}

/// Gives refusals the words that are read from the answer without secrets. To take
/// secrets out of the words would be too late: they are cut, perhaps within one.
fn say_it_as(reading: &mut Reading, mut redacted: Reading, response: &HttpResponse) {
    let is_alike = std::mem::discriminant(&*reading) == std::mem::discriminant(&redacted);
    let redacted = verdicts(&mut redacted);
    for (index, verdict) in verdicts(reading).iter_mut().enumerate() {
        let Err(refusal) = verdict else { continue };
        refusal.message = match redacted.get_mut(index) {
            Some(Err(redacted)) if is_alike && redacted.kind == refusal.kind => {
                std::mem::take(&mut redacted.message)
            }
            // Without its secrets, the answer reads as another one.
            _ => message(response),
        };
    }
}

/// Whether a 2xx is a web page, such as a network's that wants one to sign in. Some
/// vendors call by that type what is none.
fn is_page(response: &HttpResponse) -> bool {
    let Some(Value::String(text)) = &response.body else {
        return false;
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let is_called_html = || {
        let content_type = response.header_value("content-type").unwrap_or_default();
        content_type.to_ascii_lowercase().contains("html")
    };
    let begins_with = |tag: &str| {
        let start = text.get(..tag.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(tag))
    };
    (200..300).contains(&response.status_code)
        && text.starts_with('<')
        && (is_called_html() || begins_with("<html") || begins_with("<!doctype html"))
}

/// Says that a request failed, without the vendor's words: they may repeat
/// what was sent.
fn log(reading: &Reading) {
    match reading {
        Reading::All(Ok(())) => tracing::debug!("accepted"),
        Reading::All(Err(refusal)) => {
            tracing::warn!(error = %refusal.kind, retryable = refusal.retryable, "refused");
        }
        Reading::Each(verdicts) => {
            let refused = verdicts.iter().filter(|v| v.is_err()).count();
            if refused == 0 {
                tracing::debug!("accepted");
            } else {
                tracing::warn!(refused, "refused in part");
            }
        }
    }
}

/// Adds what every request has.
fn finish(mut request: Request<Bytes>, gzip: bool) -> Request<Bytes> {
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if gzip && request.body().len() >= COMPRESS_FROM {
        let compressed = compress(request.body());
        if let Some(compressed) = compressed {
            *request.body_mut() = compressed;
            request
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    request
}

const AGENT: &str = concat!("analytics-rust/", env!("CARGO_PKG_VERSION"));

/// `None` only if memory cannot be written to.
fn compress(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[async_trait]
impl<V: HttpVendor> Integration for Client<V> {
    fn vendor(&self) -> &'static str {
        V::VENDOR
    }

    fn name(&self) -> &str {
        &self.instance.name
    }

    fn supports(&self) -> KindSet {
        self.vendor.supports()
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let input = &*self.stamped(input);
        let rules = self.vendor.validate(input);
        // What cannot be mapped breaks a rule, or says so when it is sent.
        let sizes = match self.steps(input) {
            Ok(steps) => self.vendor.validate_steps(input, &steps),
            Err(_) => Ok(()),
        };
        both(rules, sizes)
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        let mut outcomes = self.deliver_batch(std::slice::from_ref(attempt)).await;
        outcomes.pop().unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Internal,
                "a batch of one has no outcome",
            ))
        })
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        let hasher = RandomState::new();
        let mut mapped: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                let people = attempt.input.event.people();
                let people: Vec<_> = people.map(|person| hasher.hash_one(person)).collect();
                (people, self.steps(attempt.input))
            })
            .collect();
        let items = attempts
            .iter()
            .zip(&mut mapped)
            .map(|(attempt, (people, steps))| {
                let lead = Lead {
                    kind: attempt.input.kind(),
                    message_id: attempt.input.message_id(),
                    people,
                    number: attempt.number,
                    progress: attempt.progress,
                    timeout: attempt.timeout,
                };
                let steps = match steps {
                    Ok(steps) => Ok(steps.as_slice()),
                    Err(error) => Err(std::mem::replace(error, not_its_own())),
                };
                Item::new(lead, steps)
            });
        let is_over = || attempts.iter().any(Attempt::is_over);
        self.carry(items.collect(), is_over).await
    }

    fn as_prepare(&self) -> Option<&dyn Prepare> {
        Some(self)
    }

    fn batching(&self) -> Batching {
        self.vendor.batching()
    }

    fn policies(&self) -> Policies {
        let mut policies = self.instance.policies.clone();
        policies.inherit(&self.vendor.policies());
        policies
    }

    fn allows_policies_override(&self) -> bool {
        self.instance.allow_policies_override
    }

    fn configuration(&self) -> Map<String, Value> {
        self.vendor.configuration()
    }

    fn preview(&self, input: &AnyInput) -> Result<Vec<Preview>, Error> {
        self.steps(input)?
            .into_iter()
            .map(|step| {
                let request = self
                    .vendor
                    .request(&step.route, &[&step.body], self.sending(1))?;
                Ok(self.show(&finish(request, false)))
            })
            .collect()
    }
}

/// An event's steps, mapped ahead of their delivery. Nearly always one, which
/// then lies in the parcel itself: what travels to another core is in few
/// pieces, for each is slow to free there.
struct Parcel<R>(SmallVec<[Step<R>; 1]>);

#[async_trait]
impl<V: HttpVendor> Prepare for Client<V> {
    fn prepare(&self, input: &AnyInput) -> Result<Prepared, Error> {
        let rules = self.vendor.validate(input);
        let steps = match self.steps(input) {
            Ok(steps) => steps,
            // What breaks a rule need not have steps.
            Err(error) => return Err(rules.err().map_or(error, Error::from)),
        };
        both(rules, self.vendor.validate_steps(input, &steps))?;
        let bytes = steps.iter().map(|step| step.body.len()).sum();
        Ok(Prepared::new(Parcel(steps.into_iter().collect()), bytes))
    }

    async fn deliver_prepared(
        &self,
        attempts: &[PreparedAttempt<'_>],
    ) -> Vec<Result<Delivery, Error>> {
        let items = attempts.iter().map(|attempt| {
            let lead = Lead {
                kind: attempt.kind,
                message_id: attempt.message_id,
                people: attempt.people,
                number: attempt.number,
                progress: attempt.progress,
                timeout: attempt.timeout,
            };
            let parcel = attempt.prepared.parcel::<Parcel<V::Route>>();
            let steps = parcel.map(|parcel| parcel.0.as_slice());
            Item::new(lead, steps.ok_or_else(not_its_own))
        });
        self.carry(items.collect(), || false).await
    }
}

impl<V: HttpVendor> Client<V> {
    /// Takes a batch to its end, or as far as there is time.
    async fn carry(
        &self,
        items: Vec<Item<'_, V::Route>>,
        is_over: impl Fn() -> bool,
    ) -> Vec<Result<Delivery, Error>> {
        let mut batch = Batch::new(&self.vendor, items);
        // Without any request, the next call would be the same again.
        let mut has_sent = false;
        while let Some(group) = batch.next()
            && !(has_sent && is_over())
        {
            let answer = self.exchange(&group, &batch).await;
            batch.answered(&group, &answer);
            has_sent = true;
        }
        let named = |error: Error| error.with_integration(&self.instance.name);
        batch
            .finish()
            .into_iter()
            .map(|outcome| outcome.map_err(named))
            .collect()
    }
}

/// Everything that is wrong, whoever found it.
fn both(
    rules: Result<(), ValidationError>,
    sizes: Result<(), ValidationError>,
) -> Result<(), ValidationError> {
    match (rules, sizes) {
        (Err(rules), Err(sizes)) => {
            let mut violations = rules.into_violations();
            violations.extend(sizes.into_violations());
            ValidationError::check(violations)
        }
        (rules, sizes) => rules.and(sizes),
    }
}

impl<V> Client<V> {
    fn sending(&self, attempt: u32) -> Sending {
        Sending {
            at: self.clock.now(),
            retry: attempt.saturating_sub(1),
        }
    }

    fn show(&self, request: &Request<Bytes>) -> Preview {
        let redactor = self.redactor.with_request(request);
        let mut url = request.uri().to_string();
        redactor.text(&mut url);
        let headers: BTreeMap<_, _> = request
            .headers()
            .iter()
            .map(|(name, value)| {
                let mut shown = if value.is_sensitive() {
                    Secret::REDACTED.to_owned()
                } else {
                    String::from_utf8_lossy(value.as_bytes()).into_owned()
                };
                redactor.text(&mut shown);
                (name.as_str().to_owned(), shown)
            })
            .collect();
        let body = request.body();
        let mut body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(body)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body)))
        };
        redactor.value(&mut body);
        Preview {
            method: request.method().to_string(),
            url,
            headers,
            body,
        }
    }
}

/// By itself, an integration delivers each event with its retries, and returns
/// when the vendor has accepted it or refused it for good.
impl<V: HttpVendor> Calls for Client<V> {
    type Receipt<E: Event> = Output<E>;

    async fn send<E: Event>(&self, input: impl Into<Input<E>> + Send) -> Result<Output<E>, Error> {
        let input = input.into();
        let event = input.event.clone();
        let mut input = input.into_any();
        let delivery = self.send_with(self.clock.as_ref(), &mut input).await?;
        Ok(Output::new(
            Status::Success,
            event,
            delivery.into_response(),
        ))
    }
}

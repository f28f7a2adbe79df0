//! The world that a suite puts an instance into: a transport without a network
//! and a clock without waiting.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_http::{Failure, Transport, TransportError};
use analytics_spec::{Clock, Timestamp, clock::Sleep};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use jiff::SignedDuration;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

use crate::server::{Answer, Request};

/// More than any scenario needs: whoever sends as many does not stop.
const MAX_REQUESTS: usize = 500;

/// No body that a suite causes is larger once it is unpacked.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// What the clock's jitter always is.
const JITTER: f64 = 0.25;

/// What an instance under test gets instead of a network and of time.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) wire: Arc<Wire>,
    pub(crate) clock: Arc<FakeClock>,
}

impl World {
    /// What answers the requests.
    #[must_use]
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.wire.clone()
    }

    /// What tells the time, and keeps a record of the pauses instead of making
    /// them.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }
}

/// What comes back for a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The vendor accepts, in its own words.
    Accept,
    /// The vendor says this.
    Answer(Answer),
    /// There is no answer.
    Lost(Failure),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(Answer::empty(status))
    }
}

/// What decides on the reply: the request, and how many came before it.
pub(crate) type Plan = Box<dyn FnMut(&Sent, usize) -> Reply + Send>;

/// How the vendor answers when it accepts.
pub(crate) type Answering = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A request that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) request: Request,
    pub(crate) url: String,
    pub(crate) sensitive: Vec<HeaderName>,
    pub(crate) timeout: Duration,
    /// Why the body cannot be read, if it cannot.
    pub(crate) unreadable: Option<String>,
    pub(crate) accepted: bool,
}

/// The transport: remembers every request, and answers by the plan.
pub(crate) struct Wire {
    accept: Answering,
    state: Mutex<State>,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
}

struct State {
    plan: Plan,
    sent: Vec<Sent>,
    looked_at: usize,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(crate) fn new(accept: Answering, plan: Plan) -> Self {
        Self {
            accept,
            state: Mutex::new(State {
                plan,
                sent: Vec::new(),
                looked_at: 0,
            }),
            in_flight: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every request so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.state().sent.clone()
    }

    /// Looks at every request since the last time.
    pub(crate) fn each_new(&self, look: impl FnMut(&Sent)) {
        let mut state = self.state();
        state.sent.iter().skip(state.looked_at).for_each(look);
        state.looked_at = state.sent.len();
    }

    pub(crate) fn count(&self) -> usize {
        self.state().sent.len()
    }

    /// Forgets the requests so far, and answers by another plan.
    pub(crate) fn restart(&self, plan: Plan) {
        let mut state = self.state();
        state.sent.clear();
        state.looked_at = 0;
        state.plan = plan;
    }

    /// Whether an instance did not stop sending.
    pub(crate) fn is_overrun(&self) -> bool {
        self.count() >= MAX_REQUESTS
    }

    /// The most requests that were under way at the same time.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    fn take(&self, request: &http::Request<Bytes>, timeout: Duration) -> Reply {
        let mut sent = Sent::new(request, timeout);
        let mut state = self.state();
        let before = state.sent.len();
        let reply = if before >= MAX_REQUESTS {
            Reply::status(400)
        } else {
            (state.plan)(&sent, before)
        };
        sent.accepted = matches!(reply, Reply::Accept);
        let reply = match reply {
            Reply::Accept => Reply::Answer((self.accept)(&sent.request)),
            other => other,
        };
        if before < MAX_REQUESTS {
            state.sent.push(sent);
        }
        reply
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(
        &self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        // Lets whatever else is under way come as far as this.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let reply = self.take(&request, timeout);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        match reply {
            Reply::Answer(answer) => Ok(response(answer)),
            Reply::Lost(error) => Err(error.into()),
            Reply::Accept => Ok(Response::new(Bytes::new())),
        }
    }
}

/// An answer as a transport gives it. What HTTP does not allow is left out.
fn response(answer: Answer) -> Response<Bytes> {
    let mut response = Response::new(answer.body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

impl Sent {
    fn new(request: &http::Request<Bytes>, timeout: Duration) -> Self {
        let url = request.uri().to_string();
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let mut read = Request::new(request.method().as_str(), target).raw(request.body().clone());
        read.headers = request.headers().clone();
        read.encoded_length = request.body().len();
        let unreadable = match read.decode(MAX_BODY_BYTES) {
            Ok(()) => is_no_json(&read),
            Err(problem) => Some(format!("{problem:?}")),
        };
        let sensitive = request
            .headers()
            .iter()
            .filter(|(_, value)| value.is_sensitive())
            .map(|(name, _)| name.clone())
            .collect();
        Self {
            request: read,
            url,
            sensitive,
            timeout,
            unreadable,
            accepted: false,
        }
    }
}

fn is_no_json(request: &Request) -> Option<String> {
    let says_json = request
        .media_type()
        .is_some_and(|media| media == "application/json" || media.ends_with("+json"));
    if !says_json {
        return None;
    }
    serde_json::from_slice::<Once>(&request.body)
        .err()
        .map(|error| format!("not JSON as it should be: {error}"))
}

/// JSON in which no key stands twice in one object: of such a one, vendors read
/// one value and lose the other.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Once)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value::<Self>()?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("`{twice}` stands twice")));
            }
        }
        Ok(self)
    }
}

/// A clock that stands still until somebody sleeps.
pub(crate) struct FakeClock {
    state: Mutex<(Timestamp, Vec<Duration>)>,
}

impl fmt::Debug for FakeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeClock")
    }
}

impl FakeClock {
    /// A clock that says: this long after 2026-03-01, 12:00 UTC.
    pub(crate) fn after(start: Duration) -> Self {
        let clock = Self {
            state: Mutex::new((
                Timestamp::from_second(1_772_366_400).unwrap_or_default(),
                Vec::new(),
            )),
        };
        clock.advance(start);
        clock
    }

    fn state(&self) -> std::sync::MutexGuard<'_, (Timestamp, Vec<Duration>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.state();
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        state.0 = state.0.saturating_add(by).unwrap_or(state.0);
    }

    /// Every pause so far.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.state().1.clone()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.state().0
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Box::pin(async move {
            self.advance(duration);
            self.state().1.push(duration);
        })
    }

    fn jitter(&self) -> f64 {
        JITTER
    }
}

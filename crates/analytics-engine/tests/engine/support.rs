//! A clock that follows tokio's, an integration that does as it is told, and
//! somebody who writes down how events end.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    thread::ThreadId,
    time::Duration,
};

use analytics_engine::{Builder, Engine, Settled, store::Seq};
use analytics_spec::{
    AnyEvent, AnyInput, Attempt, Clock, Delivery, Error, ErrorKind, Integration, KindSet, Policies,
    Prepare, Prepared, PreparedAttempt, RetryPolicy, Timestamp, Track, ValidationError,
    clock::Sleep,
    integration::{Batching, deferred},
    policies::ActivityPolicy,
};
use tokio::{sync::watch, time::Instant};

/// Tokio's time, and no chance: pauses have their full length.
#[derive(Debug)]
pub(crate) struct TestClock {
    begin: Instant,
    /// By how many seconds somebody has set it.
    set: AtomicI64,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            set: AtomicI64::new(0),
        })
    }

    /// Sets it by so many seconds, backward if that is less than none.
    pub(crate) fn set_by(&self, secs: i64) {
        self.set.fetch_add(secs, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let begin = 1_800_000_000 + self.set.load(Ordering::SeqCst);
        Timestamp::from_second(begin).unwrap() + self.begin.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn jitter(&self) -> f64 {
        1.0
    }
}

pub(crate) fn engine() -> Builder {
    Engine::builder().clock(TestClock::new())
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// An event with a name by which tests know it.
pub(crate) fn event(user: &str, name: impl Into<String>) -> Track {
    Track::new(name).user_id(user)
}

pub(crate) fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "503")
}

/// Pauses of 1 s, 2 s, 4 s, ... between so many attempts.
pub(crate) fn attempts(maximum: u32) -> Policies {
    let retry = RetryPolicy::new()
        .initial_interval(secs(1))
        .maximum_attempts(maximum);
    Policies::new().request(ActivityPolicy::new().retry_policy(retry))
}

/// An attempt at an event, as the vendor saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) message_id: String,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) number: u32,
    pub(crate) timeout: Duration,
}

/// A delivery as the vendor saw it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Since the vendor was made.
    pub(crate) at: Duration,
    pub(crate) events: Vec<Seen>,
}

type Answer = Box<dyn Fn(&Attempt<'_>) -> Result<(), Error> + Send + Sync>;
type Outcomes = Vec<Result<Delivery, Error>>;

/// An integration that does as it is told.
pub(crate) struct Vendor {
    pub(crate) name: &'static str,
    pub(crate) supports: KindSet,
    pub(crate) batching: Batching,
    pub(crate) policies: Policies,
    pub(crate) allows_policies: bool,
    /// Whether it maps events when they are accepted.
    pub(crate) prepares: bool,
    /// How often it did.
    pub(crate) prepared: AtomicUsize,
    /// How long a delivery takes.
    pub(crate) takes: Duration,
    /// What the vendor says to each event.
    pub(crate) answer: Answer,
    /// What the integration makes of a batch's outcomes.
    pub(crate) spoil: fn(Outcomes) -> Outcomes,
    pub(crate) rule: fn(&AnyInput) -> Result<(), ValidationError>,
    pub(crate) init: fn() -> Result<(), Error>,
    pub(crate) closing_takes: Duration,
    pub(crate) closed: AtomicUsize,
    pub(crate) most_in_flight: AtomicUsize,
    in_flight: AtomicUsize,
    held: watch::Sender<bool>,
    begin: Instant,
    sent: Mutex<Vec<Sent>>,
    /// Whose events are under way. Two deliveries at once with one person's
    /// events would arrive in any order.
    people: Mutex<HashSet<String>>,
    in_two_at_once: Mutex<Vec<String>>,
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vendor").field("name", &self.name).finish()
    }
}

impl Vendor {
    /// Takes one event at a time, eight side by side, at once.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            supports: KindSet::ALL,
            batching: Batching::single(8),
            policies: Policies::new(),
            allows_policies: false,
            prepares: true,
            prepared: AtomicUsize::new(0),
            takes: Duration::ZERO,
            answer: Box::new(|_| Ok(())),
            spoil: |outcomes| outcomes,
            rule: |_| Ok(()),
            init: || Ok(()),
            closing_takes: Duration::ZERO,
            closed: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            held: watch::Sender::new(false),
            begin: Instant::now(),
            sent: Mutex::default(),
            people: Mutex::default(),
            in_two_at_once: Mutex::default(),
        }
    }

    pub(crate) fn batches(mut self, max_items: usize, max_in_flight: usize) -> Self {
        self.batching = Batching {
            max_items,
            max_bytes: usize::MAX,
            max_in_flight,
        };
        self
    }

    /// It is shown events when they are delivered, and not before.
    pub(crate) fn unprepared(mut self) -> Self {
        self.prepares = false;
        self
    }

    pub(crate) fn takes(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    pub(crate) fn policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    pub(crate) fn answers(
        mut self,
        answer: impl Fn(&Attempt<'_>) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.answer = Box::new(answer);
        self
    }

    /// Asks to come back in ten minutes, 150 times, and then takes what it gets.
    pub(crate) fn puts_off(self) -> Self {
        self.answers(|attempt| {
            if attempt.number > 150 {
                return Ok(());
            }
            Err(unavailable().with_retry_after(secs(600)))
        })
    }

    /// Deliveries do not return before [`release`](Self::release).
    pub(crate) fn hold(self) -> Self {
        self.held.send_replace(true);
        self
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    pub(crate) fn begin(&self) -> Instant {
        self.begin
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        let in_two_at_once = self.in_two_at_once.lock().unwrap();
        assert!(in_two_at_once.is_empty(), "{in_two_at_once:?}");
        self.sent.lock().unwrap().clone()
    }

    /// The names of the events of each delivery.
    pub(crate) fn batch_names(&self) -> Vec<Vec<String>> {
        let name = |seen: Seen| seen.name;
        let sent = self.sent().into_iter();
        sent.map(|sent| sent.events.into_iter().map(name).collect())
            .collect()
    }

    /// The names of all events that were sent, in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.batch_names().into_iter().flatten().collect()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.sent().into_iter().flat_map(|s| s.events).collect()
    }

    /// When deliveries began.
    pub(crate) fn times(&self) -> Vec<Duration> {
        self.sent().into_iter().map(|sent| sent.at).collect()
    }

    async fn exchange(&self, attempts: &[Attempt<'_>]) -> Outcomes {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let _under_way = UnderWay::new(self, attempts);
        let events = attempts.iter().map(|attempt| Seen {
            name: name(&attempt.input.event),
            message_id: attempt.input.message_id().to_owned(),
            timestamp: attempt.input.context.timestamp,
            number: attempt.number,
            timeout: attempt.timeout,
        });
        self.sent.lock().unwrap().push(Sent {
            at: self.begin.elapsed(),
            events: events.collect(),
        });
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        let mut waiting = HashSet::new();
        let mut outcomes = Vec::new();
        for attempt in attempts {
            let people = || people(attempt.input);
            let outcome = if people().iter().any(|p| waiting.contains(p)) {
                Err(deferred())
            } else {
                (self.answer)(attempt).map(|()| Delivery::default())
            };
            if outcome.as_ref().is_err_and(Error::is_retryable) {
                waiting.extend(people());
            }
            outcomes.push(outcome);
        }
        (self.spoil)(outcomes)
    }
}

fn people(input: &AnyInput) -> HashSet<String> {
    input.event.people().map(|p| format!("{p:?}")).collect()
}

/// Ends well also if the vendor panics, or its task is aborted.
struct UnderWay<'a> {
    vendor: &'a Vendor,
    people: HashSet<String>,
}

impl<'a> UnderWay<'a> {
    fn new(vendor: &'a Vendor, attempts: &[Attempt<'_>]) -> Self {
        let people: HashSet<_> = attempts.iter().flat_map(|a| people(a.input)).collect();
        let mut others = vendor.people.lock().unwrap();
        let both: Vec<_> = others.intersection(&people).cloned().collect();
        others.extend(people.iter().cloned());
        drop(others);
        // Not asserted here: the engine would take it for the integration's
        // panic, and try again.
        vendor.in_two_at_once.lock().unwrap().extend(both);
        Self { vendor, people }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.vendor.in_flight.fetch_sub(1, Ordering::SeqCst);
        let mut people = self.vendor.people.lock().unwrap();
        people.retain(|person| !self.people.contains(person));
    }
}

pub(crate) fn name(event: &AnyEvent) -> String {
    match event {
        AnyEvent::Track(track) => track.event.clone(),
        other => analytics_spec::Event::kind(other).to_string(),
    }
}

#[async_trait::async_trait]
impl Integration for Vendor {
    fn vendor(&self) -> &'static str {
        "scripted"
    }

    fn name(&self) -> &str {
        self.name
    }

    fn supports(&self) -> KindSet {
        self.supports
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        (self.rule)(input)
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        let mut outcomes = self.exchange(&[*attempt]).await;
        outcomes.remove(0)
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Outcomes {
        assert!(!self.prepares, "what was prepared is delivered so");
        self.exchange(attempts).await
    }

    fn as_prepare(&self) -> Option<&dyn Prepare> {
        self.prepares.then_some(self)
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    fn policies(&self) -> Policies {
        self.policies.clone()
    }

    fn allows_policies_override(&self) -> bool {
        self.allows_policies
    }

    async fn init(&self) -> Result<(), Error> {
        (self.init)()
    }

    async fn close(&self) -> Result<(), Error> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.closing_takes).await;
        Ok(())
    }
}

/// What travels is the event itself.
struct Parcel(AnyInput);

#[async_trait::async_trait]
impl Prepare for Vendor {
    fn prepare(&self, input: &AnyInput) -> Result<Prepared, Error> {
        self.prepared.fetch_add(1, Ordering::SeqCst);
        (self.rule)(input)?;
        let bytes = serde_json::to_vec(input).unwrap().len();
        Ok(Prepared::new(Parcel(input.clone()), bytes))
    }

    async fn deliver_prepared(&self, attempts: &[PreparedAttempt<'_>]) -> Outcomes {
        let people: Vec<HashSet<_>> = attempts
            .iter()
            .map(|attempt| attempt.people.iter().collect())
            .collect();
        let attempts: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                let Parcel(input) = attempt.prepared.parcel().unwrap();
                assert_eq!(attempt.message_id, input.message_id());
                assert_eq!(attempt.kind, input.kind());
                assert!(attempt.event.is_none_or(|known| *known == input.event));
                Attempt {
                    input,
                    number: attempt.number,
                    progress: attempt.progress,
                    timeout: attempt.timeout,
                    deadline: None,
                }
            })
            .collect();
        // Who shares an id shares a number.
        for (one, ours) in attempts.iter().zip(&people) {
            for (other, theirs) in attempts.iter().zip(&people) {
                let (a, b) = (self::people(one.input), self::people(other.input));
                assert_eq!(a.is_disjoint(&b), ours.is_disjoint(theirs) || a.is_empty());
            }
        }
        self.exchange(&attempts).await
    }
}

/// How an event ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) integration: String,
    pub(crate) name: String,
    pub(crate) message_id: String,
    pub(crate) seq: Option<Seq>,
    pub(crate) attempts: u32,
    pub(crate) error: Option<ErrorKind>,
}

/// Writes down how events end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Arc<Mutex<Vec<End>>>);

impl Ends {
    pub(crate) fn observer(&self) -> impl Fn(&Settled<'_>) + Send + Sync + 'static {
        let ends = Arc::clone(&self.0);
        move |settled| {
            ends.lock().unwrap().push(End {
                integration: settled.integration.to_owned(),
                name: name(&settled.input.event),
                message_id: settled.input.message_id().to_owned(),
                seq: settled.seq,
                attempts: settled.attempts,
                error: settled.outcome.err().map(Error::kind),
            });
        }
    }

    pub(crate) fn all(&self) -> Vec<End> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The names of the events that ended at an integration, in that order,
    /// each with why it was refused.
    pub(crate) fn at(&self, integration: &str) -> Vec<(String, Option<ErrorKind>)> {
        let ends = self.all().into_iter();
        ends.filter(|end| end.integration == integration)
            .map(|end| (end.name, end.error))
            .collect()
    }

    /// Every event ended once at every integration.
    pub(crate) fn assert_once(&self) {
        let mut counts: HashMap<_, u32> = HashMap::new();
        for end in self.all() {
            *counts.entry((end.integration, end.message_id)).or_default() += 1;
        }
        assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    }
}

/// What was said as a warning, by everybody, with the thread that said it.
static SAID: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

struct Recorder;

impl tracing::Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn fmt::Debug| {
                line.push_str(&format!("{field}={value:?} "));
            },
        );
        let thread = std::thread::current().id();
        SAID.lock().unwrap().push((thread, line));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// From here on, warnings are written down.
pub(crate) fn record_warnings() {
    static RECORDS: OnceLock<()> = OnceLock::new();
    RECORDS.get_or_init(|| {
        tracing::subscriber::set_global_default(Recorder).unwrap();
        // Another test may have asked in between.
        tracing::callsite::rebuild_interest_cache();
    });
}

/// This thread's warnings in which a text occurs.
pub(crate) fn warnings(text: &str) -> Vec<String> {
    let thread = std::thread::current().id();
    let said = SAID.lock().unwrap();
    said.iter()
        .filter(|(by, line)| *by == thread && line.contains(text))
        .map(|(_, line)| line.clone())
        .collect()
}

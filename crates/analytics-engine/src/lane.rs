//! One integration's way out: pulls events from the store, sends what may be
//! sent, and settles what comes back. One task owns all of its state.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_spec::{
    AnyInput, Clock, Delivery, Error, ErrorKind, Handler, RequestPolicy, Timestamp,
    integration::Batching,
};
use futures::future::OptionFuture;
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinSet},
};

use crate::{
    schedule::{Claimed, Schedule},
    settled::{Settled, Unsettled},
    store::{Seq, Settlement, Store},
};

/// Called when an event has come to its end.
pub(crate) type Observer = Arc<dyn Fn(&Settled<'_>) + Send + Sync>;

/// After so many failed deliveries in a row, whose reasons usually pass, the
/// vendor counts as down: one delivery at a time finds out when it is back.
const DOWN_AFTER: u32 = 5;

/// What the engine tells a lane, and what it learns from it.
#[derive(Debug)]
pub(crate) struct Signals {
    /// There may be something to do.
    pub(crate) wake: Notify,
    /// How many flushes wait: batches do not wait to fill up.
    pub(crate) flushes: AtomicUsize,
    /// Nothing new is to be sent.
    pub(crate) halted: AtomicBool,
    /// End when everything is settled.
    pub(crate) closing: AtomicBool,
    /// End now, also with deliveries under way.
    pub(crate) abandoned: AtomicBool,
    /// Everything up to this event is settled.
    pub(crate) settled: watch::Sender<Seq>,
}

impl Signals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            wake: Notify::new(),
            flushes: AtomicUsize::new(0),
            halted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            settled: watch::Sender::new(0),
        })
    }
}

/// What came of a batch.
struct Finished {
    batch: Vec<Claimed>,
    outcomes: Vec<Result<Delivery, Error>>,
}

/// What a lane is given.
pub(crate) struct Lane {
    pub(crate) handler: Handler,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Option<Observer>,
    pub(crate) signals: Arc<Signals>,
    /// How long a batch waits to fill up.
    pub(crate) linger: Duration,
    /// How much is pulled ahead.
    pub(crate) window_bytes: usize,
}

/// A lane at work.
struct Running {
    lane: Lane,
    batching: Batching,
    /// The policy of inputs that bring none.
    policy: Arc<RequestPolicy>,
    schedule: Schedule,
    deliveries: JoinSet<Finished>,
    /// What each delivery carries, should it panic.
    under_way: HashMap<Id, Vec<Claimed>>,
    pulled_through: Seq,
    /// Nothing is sent before: the vendor asked, or is down.
    paused_until: Option<Timestamp>,
    failures_in_a_row: u32,
    /// Since when a batch has waited to fill up.
    lingering_since: Option<Timestamp>,
}

impl Lane {
    /// Works until it is told to end; what is not settled then.
    pub(crate) async fn run(self) -> Vec<Unsettled> {
        let integration = self.handler.integration();
        let batching = integration.batching();
        let running = Running {
            batching: Batching {
                max_items: batching.max_items.max(1),
                max_in_flight: batching.max_in_flight.max(1),
                ..batching
            },
            policy: Arc::new(self.handler.policies().resolve()),
            schedule: Schedule::default(),
            deliveries: JoinSet::new(),
            under_way: HashMap::new(),
            pulled_through: 0,
            paused_until: None,
            failures_in_a_row: 0,
            lingering_since: None,
            lane: self,
        };
        running.run().await
    }
}

impl Running {
    async fn run(mut self) -> Vec<Unsettled> {
        let signals = Arc::clone(&self.lane.signals);
        loop {
            // Registered before looking, so that no wake-up is missed.
            let woken = signals.wake.notified();
            let closing = signals.closing.load(Ordering::Acquire);
            let halted = signals.halted.load(Ordering::Acquire);
            self.pull().await;
            let next = if halted {
                None
            } else {
                self.start_deliveries()
            };
            signals.settled.send_replace(self.settled_through());
            let idle = self.deliveries.is_empty();
            if signals.abandoned.load(Ordering::Acquire)
                || (halted && idle)
                || (closing && idle && self.schedule.is_empty() && self.is_pulled())
            {
                break;
            }
            let clock = Arc::clone(&self.lane.clock);
            let pause = OptionFuture::from(next.map(|pause| clock.sleep(pause)));
            tokio::select! {
                () = woken => {}
                Some(()) = pause => {}
                Some(finished) = self.deliveries.join_next_with_id(), if !idle => {
                    self.finished(finished).await;
                }
            }
        }
        self.rest().await
    }

    fn now(&self) -> Timestamp {
        self.lane.clock.now()
    }

    fn is_pulled(&self) -> bool {
        self.pulled_through >= self.lane.store.last()
    }

    fn settled_through(&self) -> Seq {
        match self.schedule.oldest() {
            Some(oldest) => oldest - 1,
            None => self.pulled_through,
        }
    }

    /// Takes from the store what there is room for.
    async fn pull(&mut self) {
        let room = self.lane.window_bytes.saturating_sub(self.schedule.bytes());
        if room > 0 && !self.is_pulled() {
            self.pull_up_to(room).await;
        }
    }

    async fn pull_up_to(&mut self, room: usize) {
        let name = self.lane.handler.name();
        match self.lane.store.pull(name, self.pulled_through, room).await {
            Ok(pulled) => {
                self.pulled_through = pulled.through;
                for event in pulled.events {
                    self.schedule.push(event);
                }
            }
            Err(error) => tracing::error!(integration = name, %error, "the store cannot be read"),
        }
    }

    /// Starts what may be started; how long until there may be more, if no
    /// event and no answer comes before.
    fn start_deliveries(&mut self) -> Option<Duration> {
        let now = self.now();
        self.schedule.wake(now);
        if let Some(until) = self.paused_until {
            if until > now {
                return Some(between(now, until));
            }
            self.paused_until = None;
        }
        let is_down = self.failures_in_a_row >= DOWN_AFTER;
        let max_in_flight = if is_down {
            1
        } else {
            self.batching.max_in_flight
        };
        while self.schedule.is_ready() && self.deliveries.len() < max_in_flight {
            if let Some(rest) = self.lingers(now) {
                let wake = self.schedule.next_wake().map(|until| between(now, until));
                return Some(wake.map_or(rest, |wake| wake.min(rest)));
            }
            self.lingering_since = None;
            let Batching {
                max_items,
                max_bytes,
                ..
            } = self.batching;
            let batch = self.schedule.claim(max_items, max_bytes, now);
            self.start(batch);
        }
        self.schedule.next_wake().map(|until| between(now, until))
    }

    /// How much longer a batch should wait to fill up, if at all.
    fn lingers(&mut self, now: Timestamp) -> Option<Duration> {
        let (items, bytes) = self.schedule.waiting();
        let signals = &self.lane.signals;
        let is_full = items >= self.batching.max_items || bytes >= self.batching.max_bytes;
        let is_urgent =
            signals.flushes.load(Ordering::Acquire) > 0 || signals.closing.load(Ordering::Acquire);
        if is_full || is_urgent || self.lane.linger.is_zero() {
            return None;
        }
        let since = *self.lingering_since.get_or_insert(now);
        let rest = self.lane.linger.saturating_sub(between(since, now));
        (!rest.is_zero()).then_some(rest)
    }

    fn start(&mut self, batch: Vec<Claimed>) {
        let handler = self.lane.handler.clone();
        let policy = Arc::clone(&self.policy);
        let carried = batch.clone();
        let handle = self.deliveries.spawn(async move {
            let outcomes = deliver(&handler, &policy, &batch).await;
            Finished { batch, outcomes }
        });
        self.under_way.insert(handle.id(), carried);
    }

    async fn finished(&mut self, joined: Result<(Id, Finished), tokio::task::JoinError>) {
        let finished = match joined {
            Ok((id, finished)) => {
                self.under_way.remove(&id);
                finished
            }
            Err(error) => {
                let batch = self.under_way.remove(&error.id()).unwrap_or_default();
                let name = self.lane.handler.name();
                tracing::error!(
                    integration = name,
                    events = batch.len(),
                    "a delivery panicked"
                );
                let outcomes = batch.iter().map(|_| Err(panicked(name))).collect();
                Finished { batch, outcomes }
            }
        };
        self.settle(finished).await;
    }

    async fn settle(&mut self, finished: Finished) {
        let Finished {
            batch,
            mut outcomes,
        } = finished;
        let name = self.lane.handler.name().to_owned();
        outcomes.resize_with(batch.len(), || Err(missing_outcome(&name)));
        let now = self.now();
        let mut settlements = Vec::with_capacity(batch.len());
        let mut asked = Duration::ZERO;
        let mut reached = false;
        let mut down = None;
        for (claimed, outcome) in batch.iter().zip(&outcomes) {
            let input = &claimed.input;
            let mut retries = claimed.retries;
            let settlement = match outcome {
                Ok(delivery) => {
                    reached = true;
                    Settlement::Delivered(delivery)
                }
                Err(error) => {
                    if !error.is_retryable() {
                        reached = true;
                    } else if error.kind() != ErrorKind::Deferred {
                        asked = asked.max(error.retry_after().unwrap_or_default());
                        down = Some(error.kind());
                    }
                    let policy = self.policy(input);
                    match retries.failed(error, &policy, self.lane.clock.jitter()) {
                        Some(pause) => Settlement::Retry {
                            not_before: after(now, pause),
                            retries,
                            error,
                        },
                        None => Settlement::Refused(error),
                    }
                }
            };
            match &settlement {
                Settlement::Retry { not_before, .. } => {
                    self.schedule.retry(claimed.seq, *not_before, retries);
                }
                Settlement::Delivered(_) | Settlement::Refused(_) => {
                    self.schedule.settle(claimed.seq);
                    let attempts = claimed.retries.made.saturating_add(1);
                    self.report(input, attempts, outcome.as_ref());
                }
            }
            settlements.push((claimed.seq, settlement));
        }
        if !asked.is_zero() {
            let until = after(now, asked);
            self.paused_until = self.paused_until.max(Some(until));
            tracing::info!(
                integration = name,
                seconds = asked.as_secs(),
                "paused as the vendor asks"
            );
        }
        self.count_failures(reached, down);
        if let Err(error) = self.lane.store.settle(&name, &settlements).await {
            tracing::error!(integration = name, %error, "the store cannot be written");
        }
    }

    /// Finds out whether the vendor is down, and when it is back.
    fn count_failures(&mut self, reached: bool, down: Option<ErrorKind>) {
        if reached {
            self.failures_in_a_row = 0;
        } else if let Some(kind) = down {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            if let Some(nth) = self
                .failures_in_a_row
                .checked_sub(DOWN_AFTER - 1)
                .filter(|n| *n > 0)
            {
                let pause = self.policy.pause(nth, self.lane.clock.jitter());
                self.paused_until = self.paused_until.max(Some(after(self.now(), pause)));
                let name = self.lane.handler.name();
                tracing::warn!(integration = name, error = %kind, ?pause, "seems to be down");
            }
        }
    }

    fn policy(&self, input: &AnyInput) -> Arc<RequestPolicy> {
        if input.policies.is_none() {
            Arc::clone(&self.policy)
        } else {
            Arc::new(self.lane.handler.request_policy(input))
        }
    }

    fn report(&self, input: &AnyInput, attempts: u32, outcome: Result<&Delivery, &Error>) {
        if let Err(error) = outcome {
            self.lane.handler.workflow_failed(&input.event, error);
        }
        if let Some(observer) = &self.lane.observer {
            observer(&Settled {
                integration: self.lane.handler.name(),
                input,
                attempts,
                outcome,
            });
        }
    }

    /// What is not settled, whether it was at hand or still in the store.
    async fn rest(mut self) -> Vec<Unsettled> {
        self.pull_up_to(usize::MAX).await;
        self.schedule
            .rest()
            .map(|(input, attempts, in_flight)| Unsettled {
                integration: self.lane.handler.name().to_owned(),
                message_id: input.message_id().to_owned(),
                kind: input.kind(),
                attempts,
                in_flight,
            })
            .collect()
    }
}

/// One attempt for each event of a batch.
async fn deliver(
    handler: &Handler,
    default: &RequestPolicy,
    batch: &[Claimed],
) -> Vec<Result<Delivery, Error>> {
    let inputs: Vec<_> = batch
        .iter()
        .map(|claimed| handler.complete(&claimed.input))
        .collect();
    let attempts: Vec<_> = batch
        .iter()
        .zip(&inputs)
        .map(|(claimed, input)| {
            if input.policies.is_none() {
                claimed.retries.attempt(input, default)
            } else {
                claimed
                    .retries
                    .attempt(input, &handler.request_policy(input))
            }
        })
        .collect();
    handler.request_batch(&attempts).await
}

fn panicked(integration: &str) -> Error {
    Error::new(ErrorKind::Internal, "the integration panicked")
        .with_retryable(true)
        .with_integration(integration)
}

fn missing_outcome(integration: &str) -> Error {
    Error::new(ErrorKind::Internal, "the integration gave no outcome")
        .with_retryable(true)
        .with_integration(integration)
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

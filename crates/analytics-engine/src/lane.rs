//! One integration's way out: pulls events from the store, sends what may be
//! sent, and settles what comes back. One task owns all of its state.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_spec::{
    AnyInput, Clock, Delivery, Error, ErrorKind, Handler, RequestPolicy, Retries, Timestamp,
    integration::Batching, policies::MAX_ASKED,
};
use futures::future::OptionFuture;
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinSet},
};

use crate::{
    gate::Gate,
    schedule::{Claimed, Schedule},
    settled::{Observer, Settled, Unsettled},
    store::{Reason, Seq, Settlement, Store, Stored},
};

/// After so many failed deliveries in a row, whose reasons usually pass, the
/// vendor counts as down: one delivery at a time finds out when it is back.
const DOWN_AFTER: u32 = 5;

/// A store has at least this long to say what is left, also when the time for
/// closing the engine is over.
pub(crate) const LIST_AT_LEAST: Duration = Duration::from_secs(1);

/// How much of what is left is read at once.
const PAGE_BYTES: usize = 1024 * 1024;

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
    pub(crate) abandoned: Notify,
    /// How far the lane has come.
    pub(crate) reached: watch::Sender<Reached>,
    /// How many events are queued for the lane, and not pulled yet. The lane
    /// may pull an event before it is counted.
    pub(crate) ahead: AtomicIsize,
    /// How many events the lane has pulled, and not settled.
    pub(crate) at_hand: AtomicUsize,
}

/// How far a lane has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Everything up to this event is settled.
    pub(crate) through: Seq,
    /// The lane has ended.
    pub(crate) is_over: bool,
}

impl Signals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            wake: Notify::new(),
            flushes: AtomicUsize::new(0),
            halted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            abandoned: Notify::new(),
            reached: watch::Sender::default(),
            ahead: AtomicIsize::new(0),
            at_hand: AtomicUsize::new(0),
        })
    }

    /// How many events the lane has not settled.
    pub(crate) fn unsettled(&self) -> usize {
        let ahead = usize::try_from(self.ahead.load(Ordering::Acquire)).unwrap_or_default();
        self.at_hand.load(Ordering::Acquire).saturating_add(ahead)
    }
}

/// An event under way.
#[derive(Clone)]
struct Carried {
    seq: Seq,
    input: Arc<AnyInput>,
    retries: Retries,
}

/// What came of a batch.
struct Finished {
    batch: Vec<Carried>,
    outcomes: Vec<Result<Delivery, Error>>,
}

/// What came of an event in a batch, and what follows.
struct Attempted {
    event: Carried,
    outcome: Result<Delivery, Error>,
    /// When to try again, if at all.
    next: Option<(Timestamp, Retries)>,
}

impl Attempted {
    fn settlement(&self) -> Settlement {
        match (&self.outcome, self.next) {
            (Ok(_), _) => Settlement::Delivered,
            (Err(error), None) => {
                Settlement::refused(Reason::from(error), self.event.retries.made + 1)
            }
            (Err(_), Some((not_before, retries))) => Settlement::retry(not_before, retries),
        }
    }
}

/// What a lane is given.
pub(crate) struct Lane {
    pub(crate) handler: Handler,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Observer,
    /// The store's end when the engine was built: what came before is another
    /// engine's.
    pub(crate) begin: Seq,
    pub(crate) gate: Arc<Gate>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) batching: Batching,
    /// How long a batch waits to fill up.
    pub(crate) linger: Duration,
    /// How much is pulled ahead.
    pub(crate) window_bytes: usize,
}

/// A lane at work.
struct Running {
    lane: Lane,
    /// The policy of inputs that bring none.
    policy: Arc<RequestPolicy>,
    schedule: Schedule,
    deliveries: JoinSet<Finished>,
    /// What each delivery carries, should it panic.
    under_way: HashMap<Id, Vec<Carried>>,
    /// What the store does not know yet. To the schedule it is under way.
    unwritten: Vec<Attempted>,
    pulled_through: Seq,
    /// Nothing is sent before: the vendor asked, or is down.
    paused_until: Option<Timestamp>,
    failures_in_a_row: u32,
    /// The store is not asked before: it failed.
    store_paused_until: Option<Timestamp>,
    store_failures_in_a_row: u32,
    /// Since when a batch has waited to fill up.
    lingering_since: Option<Timestamp>,
}

impl Lane {
    /// Works until it is told to end; what is not settled then.
    pub(crate) async fn run(self) -> Vec<Unsettled> {
        let signals = Arc::clone(&self.signals);
        let mut running = Running {
            policy: Arc::new(self.handler.policies().resolve()),
            schedule: Schedule::default(),
            deliveries: JoinSet::new(),
            under_way: HashMap::new(),
            unwritten: Vec::new(),
            pulled_through: 0,
            paused_until: None,
            failures_in_a_row: 0,
            store_paused_until: None,
            store_failures_in_a_row: 0,
            lingering_since: None,
            lane: self,
        };
        let is_abandoned = tokio::select! {
            () = running.work() => false,
            () = signals.abandoned.notified() => true,
        };
        signals
            .reached
            .send_modify(|reached| reached.is_over = true);
        let deadline = async {
            if !is_abandoned {
                signals.abandoned.notified().await;
            }
            tokio::time::sleep(LIST_AT_LEAST).await;
        };
        let left = running.rest(deadline).await;
        signals.at_hand.store(left.len(), Ordering::Release);
        signals.ahead.store(0, Ordering::Release);
        left
    }
}

impl Running {
    /// Every wait in here may be cut off: what the store does not know of is
    /// still in the schedule.
    async fn work(&mut self) {
        let signals = Arc::clone(&self.lane.signals);
        let clock = Arc::clone(&self.lane.clock);
        loop {
            self.visit_store().await;
            let next = earliest(self.start_deliveries(), self.store_paused_until);
            let through = self.settled_through();
            signals
                .reached
                .send_modify(|reached| reached.through = through);
            if self.is_done() {
                return;
            }
            let now = self.now();
            let pause = OptionFuture::from(next.map(|until| clock.sleep(between(now, until))));
            tokio::select! {
                () = signals.wake.notified() => {}
                Some(()) = pause => {}
                Some(joined) = self.deliveries.join_next_with_id() => {
                    self.joined(joined);
                    // What came back meanwhile is written together.
                    while let Some(joined) = self.deliveries.try_join_next_with_id() {
                        self.joined(joined);
                    }
                }
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.lane.clock.now()
    }

    fn is_done(&self) -> bool {
        let signals = &self.lane.signals;
        let is_idle = self.deliveries.is_empty() && self.unwritten.is_empty();
        if signals.halted.load(Ordering::Acquire) {
            return is_idle;
        }
        // The gate is asked first: once it is quiet, the store's end is final.
        signals.closing.load(Ordering::Acquire)
            && is_idle
            && self.lane.gate.is_quiet()
            && self.is_pulled()
            && self.schedule.is_empty()
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

    /// Writes what came back, and takes what there is room for; after an error
    /// again, when the store has had time to recover.
    async fn visit_store(&mut self) {
        if self
            .store_paused_until
            .is_some_and(|until| until > self.now())
        {
            return;
        }
        let visited = match self.write().await {
            Ok(()) => self.pull().await,
            Err(error) => Err(error),
        };
        match visited {
            Ok(()) => {
                self.store_paused_until = None;
                self.store_failures_in_a_row = 0;
            }
            Err(error) => {
                self.store_failures_in_a_row = self.store_failures_in_a_row.saturating_add(1);
                let pause = RequestPolicy::default()
                    .pause(self.store_failures_in_a_row, self.lane.clock.jitter());
                self.store_paused_until = Some(after(self.now(), pause));
                let name = self.lane.handler.name();
                tracing::error!(integration = name, %error, ?pause, "the store failed");
            }
        }
    }

    /// Writes what came back; then it counts.
    async fn write(&mut self) -> Result<(), Error> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let settlements: Vec<_> = self
            .unwritten
            .iter()
            .map(|attempted| (attempted.event.seq, attempted.settlement()))
            .collect();
        let name = self.lane.handler.name();
        self.lane
            .store
            .settle(name, &settlements, self.paused_until)
            .await?;
        for Attempted {
            event,
            outcome,
            next,
        } in std::mem::take(&mut self.unwritten)
        {
            if let Some((not_before, retries)) = next {
                self.schedule.retry(event.seq, not_before, retries);
            } else {
                self.schedule.settle(event.seq);
                self.lane.signals.at_hand.fetch_sub(1, Ordering::AcqRel);
                let settled = Settled {
                    integration: self.lane.handler.name(),
                    seq: Some(event.seq),
                    input: &event.input,
                    attempts: event.retries.made.saturating_add(1),
                    outcome: outcome.as_ref(),
                };
                self.lane.observer.report(&self.lane.handler, &settled);
            }
        }
        Ok(())
    }

    async fn pull(&mut self) -> Result<(), Error> {
        let room = self.lane.window_bytes.saturating_sub(self.schedule.bytes());
        if room > 0 && !self.is_pulled() {
            self.pull_up_to(room).await?;
        }
        Ok(())
    }

    async fn pull_up_to(&mut self, room: usize) -> Result<(), Error> {
        let name = self.lane.handler.name();
        let pulled = self
            .lane
            .store
            .pull(name, self.pulled_through, room)
            .await?;
        self.pulled_through = pulled.through;
        let mut own = 0;
        for event in pulled.events {
            own += isize::from(event.seq > self.lane.begin);
            self.schedule.push(event);
        }
        let signals = &self.lane.signals;
        signals
            .at_hand
            .store(self.schedule.len(), Ordering::Release);
        signals.ahead.fetch_sub(own, Ordering::AcqRel);
        Ok(())
    }

    /// Starts what may be started; when there may be more, if no event and no
    /// answer comes before.
    fn start_deliveries(&mut self) -> Option<Timestamp> {
        let now = self.now();
        self.schedule.wake(now);
        // While the store cannot write, every delivery would be made again
        // should the process end.
        if self.lane.signals.halted.load(Ordering::Acquire) || !self.unwritten.is_empty() {
            return None;
        }
        if self.schedule.is_ready() {
            self.lingering_since.get_or_insert(now);
        }
        if let Some(until) = self.paused_until {
            if until > now {
                return Some(until);
            }
            self.paused_until = None;
        }
        let is_down = self.failures_in_a_row >= DOWN_AFTER;
        let max_in_flight = if is_down {
            1
        } else {
            self.lane.batching.max_in_flight
        };
        while self.schedule.is_ready() && self.deliveries.len() < max_in_flight {
            if let Some(until) = self.lingers_until(now) {
                return earliest(Some(until), self.schedule.next_wake());
            }
            self.lingering_since = None;
            let Batching {
                max_items,
                max_bytes,
                ..
            } = self.lane.batching;
            let batch = self.schedule.claim(max_items, max_bytes, now);
            self.start(batch);
        }
        self.schedule.next_wake()
    }

    /// Until when a batch should wait to fill up, if at all.
    fn lingers_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        let Batching {
            max_items,
            max_bytes,
            ..
        } = self.lane.batching;
        let open = self.schedule.open();
        let is_full = open.items >= max_items || open.bytes >= max_bytes;
        let signals = &self.lane.signals;
        let is_urgent =
            signals.flushes.load(Ordering::Acquire) > 0 || signals.closing.load(Ordering::Acquire);
        if is_full || is_urgent || self.lane.linger.is_zero() {
            return None;
        }
        let since = *self.lingering_since.get_or_insert(now);
        let until = after(since, self.lane.linger);
        (until > now).then_some(until)
    }

    fn start(&mut self, batch: Vec<Claimed>) {
        let batch: Vec<_> = batch
            .into_iter()
            .filter_map(|event| {
                let Claimed { seq, body, retries } = event;
                let input = body.read().ok()?;
                Some(Carried {
                    seq,
                    input,
                    retries,
                })
            })
            .collect();
        let handler = self.lane.handler.clone();
        let policy = Arc::clone(&self.policy);
        let carried = batch.clone();
        let handle = self.deliveries.spawn(async move {
            let outcomes = deliver(&handler, &policy, &batch).await;
            Finished { batch, outcomes }
        });
        self.under_way.insert(handle.id(), carried);
    }

    fn joined(&mut self, joined: Result<(Id, Finished), JoinError>) {
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
        self.take(finished);
    }

    /// Decides what follows, for each event and for the vendor.
    fn take(&mut self, finished: Finished) {
        let Finished {
            batch,
            mut outcomes,
        } = finished;
        let name = self.lane.handler.name();
        outcomes.resize_with(batch.len(), || Err(no_outcome(name)));
        let now = self.now();
        let mut asked = Duration::ZERO;
        let mut is_reached = false;
        let mut has_failed = false;
        let mut down = None;
        for (event, mut outcome) in batch.into_iter().zip(outcomes) {
            if !has_failed && matches!(&outcome, Err(e) if e.kind() == ErrorKind::Deferred) {
                // Nothing that it could wait for: it would be tried at once,
                // for ever.
                outcome = Err(no_outcome(name));
            }
            let mut next = None;
            match &outcome {
                Ok(_) => is_reached = true,
                Err(error) => {
                    if !error.is_retryable() {
                        is_reached = true;
                    } else if error.kind() != ErrorKind::Deferred {
                        has_failed = true;
                        let delay = error.retry_after().unwrap_or_default();
                        asked = asked.max(delay);
                        // Who says when to come back is not down.
                        if delay.is_zero() {
                            down = Some(error.kind());
                        }
                    }
                    let mut retries = event.retries;
                    let policy = self.policy(&event.input);
                    next = retries
                        .failed(error, &policy, self.lane.clock.jitter())
                        .map(|pause| (after(now, pause), retries));
                }
            }
            self.unwritten.push(Attempted {
                event,
                outcome,
                next,
            });
        }
        if !asked.is_zero() {
            let pause = asked.min(MAX_ASKED);
            self.paused_until = self.paused_until.max(Some(after(now, pause)));
            let name = self.lane.handler.name();
            tracing::warn!(integration = name, ?pause, "paused as the vendor asks");
        }
        self.count_failures(is_reached, down);
    }

    /// Finds out whether the vendor is down, and when it is back.
    fn count_failures(&mut self, is_reached: bool, down: Option<ErrorKind>) {
        if is_reached {
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

    /// What is not settled, whether it was at hand or still in the store: what
    /// it says before the deadline.
    async fn rest(self, deadline: impl Future<Output = ()>) -> Vec<Unsettled> {
        let name = self.lane.handler.name();
        let mut left: Vec<_> = self
            .schedule
            .rest()
            .filter_map(|(seq, body, attempts, in_flight)| {
                let input = body.read().ok()?;
                Some(Unsettled {
                    integration: name.to_owned(),
                    seq,
                    message_id: input.message_id().to_owned(),
                    kind: input.kind(),
                    attempts,
                    in_flight,
                })
            })
            .collect();
        let after = self.pulled_through;
        list(&*self.lane.store, name, after, false, &mut left, deadline).await;
        left
    }
}

/// What a lane that ended by a mistake of its own had not settled, as far as
/// its store knows, and says before the deadline.
pub(crate) async fn left_in(
    store: &dyn Store,
    name: &str,
    deadline: impl Future<Output = ()>,
) -> Vec<Unsettled> {
    let mut left = Vec::new();
    // Whether an attempt was under way, nobody knows any more.
    list(store, name, 0, true, &mut left, deadline).await;
    left
}

/// Lists what a store has for a lane, page by page, until the deadline.
async fn list(
    store: &dyn Store,
    name: &str,
    mut after: Seq,
    in_flight: bool,
    left: &mut Vec<Unsettled>,
    deadline: impl Future<Output = ()>,
) {
    let pages = async {
        while after < store.last() {
            let pulled = store.pull(name, after, PAGE_BYTES).await?;
            if pulled.through <= after {
                let stuck = "the store does not go on where it was asked to";
                return Err(Error::new(ErrorKind::Internal, stuck));
            }
            after = pulled.through;
            let unsettled = |event: Stored| {
                let input = event.body.read().ok()?;
                Some(Unsettled {
                    integration: name.to_owned(),
                    seq: event.seq,
                    message_id: input.message_id().to_owned(),
                    kind: input.kind(),
                    attempts: event.retries.made,
                    in_flight,
                })
            };
            left.extend(pulled.events.into_iter().filter_map(unsettled));
            // A store that always answers at once heeds the deadline as well.
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let listed = tokio::select! {
        listed = pages => listed,
        () = deadline => Err(Error::new(
            ErrorKind::DeadlineExceeded,
            "the store did not answer in time",
        )),
    };
    if let Err(error) = listed {
        tracing::error!(
            integration = name, %error,
            "the store cannot be read: what it holds is not among what is left"
        );
    }
}

/// One attempt for each event of a batch.
async fn deliver(
    handler: &Handler,
    default: &RequestPolicy,
    batch: &[Carried],
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

fn no_outcome(integration: &str) -> Error {
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

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

//! One integration's way out: pulls events from the store, sends what may be
//! sent, and settles what comes back. One task owns all of its state.

mod again;
mod attempt;
mod clock;
mod condition;
mod left;
mod outcome;
mod visit;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

use analytics_spec::{Clock, Handler, Retries, Timestamp, batch::share, integration::Batching};
use futures::future::OptionFuture;
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinSet},
};

pub(crate) use condition::{Condition, STOPPED};
pub(crate) use left::{LIST_AT_LEAST, left_in};

use crate::{
    gate::Gate,
    metrics::LaneMetrics,
    schedule::{Claimed, Limits, Schedule},
    settled::{Observer, Unsettled},
    store::{Erasure, Erasures, Loaded, People, Resumed, Seq, Store},
};
use again::Again;
use attempt::{Came, Sender};
use outcome::{Held, Outcome};
use visit::Visit;

/// So many outcomes may wait for the store; each would be found out again,
/// should the process end.
const UNWRITTEN_AT_MOST: usize = 10_000;

/// A store that is writing when the lane is abandoned has so long to say that
/// it is done.
const FINISH_WITHIN: Duration = Duration::from_millis(500);

/// What the engine tells a lane, and what it learns from it.
#[derive(Debug)]
pub(crate) struct Signals {
    /// There may be something to do.
    pub(crate) wake: Notify,
    /// The event at which a lane that waits is to be woken: earlier ones can
    /// wait as well. The lane says so before it waits, and then looks again
    /// how far the store is; whoever brings events looks here afterwards. One
    /// of them sees the other.
    wanted: AtomicU64,
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
    /// Whom the store has erased since the lane last looked.
    erasures: Mutex<Vec<Erasure>>,
    /// How it goes.
    condition: Mutex<Condition>,
}

/// No event is awaited.
const NOTHING: Seq = Seq::MAX;

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
            wanted: AtomicU64::new(NOTHING),
            flushes: AtomicUsize::new(0),
            halted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            abandoned: Notify::new(),
            reached: watch::Sender::default(),
            ahead: AtomicIsize::new(0),
            at_hand: AtomicUsize::new(0),
            erasures: Mutex::default(),
            condition: Mutex::default(),
        })
    }

    /// How many events the lane has not settled.
    pub(crate) fn unsettled(&self) -> usize {
        let ahead = usize::try_from(self.ahead.load(Ordering::Acquire)).unwrap_or_default();
        self.at_hand.load(Ordering::Acquire).saturating_add(ahead)
    }

    /// The store has events up to this one.
    pub(crate) fn accepted(&self, last: Seq) {
        fence(Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        // One of those who bring events is enough to wake it.
        let is_first = || {
            self.wanted
                .compare_exchange(wanted, NOTHING, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        if last >= wanted && is_first() {
            self.wake.notify_one();
        }
    }

    /// Asks to be woken at an event; whether the store has it already.
    fn want(&self, wanted: Seq, store: &dyn Store) -> bool {
        self.wanted.store(wanted, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        wanted != NOTHING && store.last() >= wanted
    }

    /// The store has erased somebody.
    pub(crate) fn erased(&self, erasure: Erasure) {
        if self.reached.borrow().is_over {
            return;
        }
        let mut erasures = self.erasures.lock().unwrap_or_else(PoisonError::into_inner);
        erasures.push(erasure);
        drop(erasures);
        self.wake.notify_one();
    }

    fn take_erasures(&self) -> Vec<Erasure> {
        let mut erasures = self.erasures.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *erasures)
    }

    /// Where the lane goes on.
    pub(crate) fn resume(&self, resumed: &Resumed) {
        let mut condition = self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *condition = Condition::resumed(resumed, 0);
    }

    /// How it goes.
    pub(crate) fn condition(&self) -> Condition {
        let condition = self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        condition.clone()
    }
}

/// An event under way.
struct Carried {
    seq: Seq,
    loaded: Arc<Loaded>,
    people: People,
    accepted_at: Timestamp,
    retries: Retries,
    /// What it counts for in [`Running::carried`].
    weight: usize,
}

/// Says that a lane has ended, also if that is by a mistake: a clock or a
/// recorder that panics takes it along.
struct End {
    signals: Arc<Signals>,
    is_well: bool,
}

impl End {
    fn new(signals: &Arc<Signals>) -> Self {
        Self {
            signals: Arc::clone(signals),
            is_well: false,
        }
    }

    fn all_is_well(mut self) {
        self.is_well = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let signals = &self.signals;
        if !self.is_well {
            let mut condition = signals
                .condition
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            condition.stopped();
        }
        signals
            .reached
            .send_modify(|reached| reached.is_over = true);
        // Nobody takes them any more.
        signals.take_erasures();
    }
}

/// What a lane is given.
pub(crate) struct Lane {
    /// The very text by which the engine marks what it has prepared.
    pub(crate) name: Arc<str>,
    pub(crate) handler: Handler,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Observer,
    /// The store's end when the engine was built: what came before is another
    /// engine's.
    pub(crate) begin: Seq,
    /// Where it goes on.
    pub(crate) resumed: Resumed,
    pub(crate) gate: Arc<Gate>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) metrics: Arc<LaneMetrics>,
    pub(crate) batching: Batching,
    /// How long a batch waits to fill up.
    pub(crate) linger: Duration,
    /// How much is pulled ahead.
    pub(crate) window_bytes: usize,
}

/// A lane at work.
struct Running {
    lane: Lane,
    sender: Sender,
    /// Nobody waits for the outcome, and nothing is lost by time: what fails
    /// because the vendor is down for everybody is tried until it is back.
    is_patient: bool,
    schedule: Schedule,
    deliveries: JoinSet<Came>,
    /// What each delivery carries, should it panic.
    under_way: HashMap<Id, UnderWay>,
    /// About how many bytes events take in memory that are under way, or whose
    /// outcomes the store does not know yet.
    carried: usize,
    /// What the store does not know yet.
    unwritten: Vec<Outcome>,
    /// What it is told.
    writing: Option<Arc<[Outcome]>>,
    /// The events among these that have come to their end.
    ended: BTreeSet<Seq>,
    /// What the store is being asked.
    visit: Option<Visit>,
    /// The last thing that the store did was to write.
    has_written: bool,
    /// How many more events would change what there is to do: none, if
    /// something else has to happen first.
    appetite: Option<u64>,
    /// There is more in the store, and no room for it.
    is_full: bool,
    /// Since when.
    full_since: Option<Timestamp>,
    /// How far any pull has come.
    pulled_through: Seq,
    /// What has to be pulled once more, before that.
    again: Again,
    /// How many places that were, the last time that somebody came back.
    read_again: u64,
    /// How large events are, about: those that were pulled last.
    event_bytes: usize,
    /// Whom the store erased while it was being asked for events.
    erasures: Vec<Erasure>,
    /// Whom the store erased: should they be away, they need not be waited for.
    recalled: Vec<Erasure>,
    /// Events that were let go for them: what is being pulled may hold them
    /// once more.
    let_go: HashSet<Seq>,
    /// Events under way that were erased meanwhile.
    erased: HashSet<Seq>,
    /// Events that are held back for credentials that are wrong.
    held: HashMap<Seq, Held>,
    condition: Condition,
    /// The store is not asked before: it failed.
    store_paused_until: Option<Timestamp>,
    store_failures_in_a_row: u32,
    /// Since when a batch has waited to fill up.
    lingering_since: Option<Timestamp>,
    /// The time, when the clock was last looked at.
    seen_at: Timestamp,
    /// It went back since the lane began.
    is_set_back: bool,
}

/// A delivery under way.
struct UnderWay {
    batch: Arc<[Claimed]>,
    was_down: bool,
}

impl Lane {
    /// Works until it is told to end; what is not settled then, if the store
    /// will not have it either.
    pub(crate) async fn run(self) -> Vec<Unsettled> {
        let signals = Arc::clone(&self.signals);
        let end = End::new(&signals);
        let policy = self.handler.policies().resolve();
        let is_patient = self.store.is_durable();
        let maximum_attempts = if is_patient {
            policy.maximum_attempts
        } else {
            0
        };
        let mut running = Running {
            sender: Sender {
                name: Arc::clone(&self.name),
                handler: self.handler.clone(),
                policy: Arc::new(policy),
                is_shown: self.observer.is_there() || self.handler.has_hooks(),
            },
            is_patient,
            schedule: Schedule::default(),
            deliveries: JoinSet::new(),
            under_way: HashMap::new(),
            carried: 0,
            unwritten: Vec::new(),
            writing: None,
            ended: BTreeSet::new(),
            visit: None,
            has_written: false,
            appetite: None,
            is_full: false,
            full_since: None,
            pulled_through: self.resumed.through,
            again: Again::default(),
            read_again: 0,
            event_bytes: 1024,
            erasures: Vec::new(),
            recalled: Vec::new(),
            let_go: HashSet::new(),
            erased: HashSet::new(),
            held: HashMap::new(),
            condition: Condition::resumed(&self.resumed, maximum_attempts),
            store_paused_until: None,
            store_failures_in_a_row: 0,
            lingering_since: None,
            seen_at: self.clock.now(),
            is_set_back: false,
            lane: self,
        };
        let is_abandoned = tokio::select! {
            () = running.work() => false,
            () = signals.abandoned.notified() => true,
        };
        if is_abandoned {
            running.finish_writing().await;
        }
        end.all_is_well();
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
            self.heed_clock(None);
            self.heed_erasures();
            self.visit_store();
            let next = earliest(self.start_deliveries(), self.store_paused_until);
            let through = self.settled_through();
            signals.reached.send_if_modified(|reached| {
                let is_further = reached.through < through;
                reached.through = reached.through.max(through);
                is_further
            });
            self.publish();
            if self.is_done() {
                return;
            }
            let is_there = signals.want(self.wanted(), &*self.lane.store);
            let now = self.now();
            // What is over and was not acted upon waits for the store.
            let next = next.filter(|until| *until > now || self.visit.is_none());
            let pause = OptionFuture::from(next.map(|until| clock.sleep(between(now, until))));
            tokio::select! {
                () = signals.wake.notified() => {}
                // Everything else gets its turn, however fast events come.
                () = tokio::task::yield_now(), if is_there => {}
                Some(()) = pause => self.heed_clock(next),
                Some(visited) = OptionFuture::from(self.visit.as_mut()) => {
                    self.visit = None;
                    self.visited(visited);
                }
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

    /// What the store is being told it may know already, and nobody would ever
    /// hear of its end.
    async fn finish_writing(&mut self) {
        if self.writing.is_none() {
            return;
        }
        let Some(visit) = self.visit.take() else {
            return;
        };
        if let Ok(visited) = tokio::time::timeout(FINISH_WITHIN, visit).await {
            self.visited(visited);
        }
    }

    fn now(&self) -> Timestamp {
        self.lane.clock.now()
    }

    /// At which event to go on, if nothing else happens before.
    fn wanted(&self) -> Seq {
        // What ends any of these wakes the lane by itself.
        if self.visit.is_some() || self.is_full || self.store_paused_until.is_some() {
            return NOTHING;
        }
        self.appetite
            .map_or(NOTHING, |events| self.pulled_through.saturating_add(events))
    }

    fn publish(&mut self) {
        self.condition.in_flight = self.deliveries.len();
        if !self.condition.is_published() {
            let mut condition = self
                .lane
                .signals
                .condition
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.condition.publish(&mut condition);
        }
    }

    fn is_done(&self) -> bool {
        let signals = &self.lane.signals;
        let is_idle = self.deliveries.is_empty() && !self.has_outcomes() && self.visit.is_none();
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
        self.again.first().is_none() && self.pulled_through >= self.lane.store.last()
    }

    /// Lets go what was erased.
    fn heed_erasures(&mut self) {
        let erasures = self.lane.signals.take_erasures();
        if !erasures.is_empty() {
            self.erase(&erasures);
            self.recalled.extend(erasures.iter().cloned());
            self.erasures.extend(erasures);
        }
        if self.visit.is_none() {
            self.erasures.clear();
            self.let_go.clear();
        }
    }

    fn erase(&mut self, erasures: &[Erasure]) {
        let erasures = Erasures::new(erasures);
        let (erased, under_way) = self.schedule.erase(|seq, people, body| {
            erasures
                .of(seq, people)
                .any(|erasure| erasure.covers(seq, people, body))
        });
        self.erased.extend(under_way);
        self.held.retain(|seq, held| {
            self.schedule.contains(*seq) || erasures.of(*seq, &held.people).next().is_none()
        });
        for event in erased {
            if !self.let_go.insert(event.seq) {
                continue;
            }
            if let Ok(loaded) = event.body.load() {
                self.report(
                    &Carried::new(event, loaded, 0),
                    Err(&outcome::erased(&self.lane.name)),
                );
            }
        }
    }

    /// Starts what may be started; when there may be more, if no event and no
    /// answer comes before.
    fn start_deliveries(&mut self) -> Option<Timestamp> {
        let now = self.now();
        self.schedule.wake(now);
        self.appetite = None;
        // While the store cannot write, every delivery would be made again
        // should the process end.
        let is_unwritable = self.store_failures_in_a_row > 0 && self.has_outcomes();
        let is_behind =
            self.is_laden() || self.ended.len().max(self.unwritten.len()) >= UNWRITTEN_AT_MOST;
        if self.lane.signals.halted.load(Ordering::Acquire) || is_unwritable || is_behind {
            return None;
        }
        if self.schedule.is_ready() {
            self.lingering_since.get_or_insert(now);
        }
        if let Some(until) = self.condition.pauses(now) {
            return Some(until);
        }
        // One event finds out whether the vendor is back, each time another
        // one: should it be an event that the vendor cannot take, the next one
        // shows it.
        let is_down = self.condition.is_down();
        let batching = self.lane.batching;
        let (max_in_flight, max_items) = match is_down {
            true if self.is_patient => (1, 1),
            true => (1, batching.max_items),
            false => (batching.max_in_flight, batching.max_items),
        };
        let is_full = |lane: &Self| lane.deliveries.len() >= max_in_flight || lane.is_laden();
        while self.schedule.is_ready() && !is_full(self) {
            if let Some(until) = self.lingers_until(now) {
                self.appetite = Some(self.missing());
                return earliest(Some(until), self.schedule.next_wake());
            }
            self.lingering_since = None;
            let maximum_attempts = self.sender.policy.maximum_attempts;
            let limits = Limits {
                max_items,
                max_bytes: self.lane.batching.max_bytes,
                share: |retries: &Retries| share(max_items, maximum_attempts, retries),
            };
            let batch = self.schedule.claim(&limits, now);
            self.start(batch, is_down);
        }
        if is_full(self) {
            return self.schedule.next_wake();
        }
        // While others are under way, the next batch is likely to fill up as
        // well: its first event need not wake anybody, which takes longer than
        // to send it.
        let until = if self.deliveries.is_empty() {
            None
        } else {
            self.lingers_until(now)
        };
        if until.is_none() {
            self.lingering_since = None;
        }
        self.appetite = Some(until.map_or(1, |_| self.missing()));
        earliest(until, self.schedule.next_wake())
    }

    /// About how many events a batch that waits to fill up has room for.
    fn missing(&self) -> u64 {
        let Batching {
            max_items,
            max_bytes,
            ..
        } = self.lane.batching;
        let open = self.schedule.open();
        let average = (open.bytes / open.items.max(1)).max(1);
        let by_items = max_items.saturating_sub(open.items);
        let by_bytes = max_bytes.saturating_sub(open.bytes) / average;
        by_items.min(by_bytes).max(1) as u64
    }

    /// Until when a batch should wait to fill up, if at all.
    fn lingers_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        let Batching {
            max_items,
            max_bytes,
            ..
        } = self.lane.batching;
        let open = self.schedule.open();
        // Or there is no room for more.
        let is_full = open.items >= max_items || open.bytes >= max_bytes || self.is_full;
        let signals = &self.lane.signals;
        let is_urgent =
            signals.flushes.load(Ordering::Acquire) > 0 || signals.closing.load(Ordering::Acquire);
        if is_full || is_urgent || self.lane.linger.is_zero() || self.condition.is_down() {
            return None;
        }
        let since = *self.lingering_since.get_or_insert(now);
        let until = after(since, self.lane.linger);
        (until > now).then_some(until)
    }

    fn start(&mut self, batch: Vec<Claimed>, was_down: bool) {
        let batch: Arc<[Claimed]> = batch.into();
        self.lane.metrics.batch(batch.len());
        let weights = batch.iter().map(|event| self.sender.weight(&event.body));
        self.carried = weights.fold(self.carried, usize::saturating_add);
        let carries = Arc::clone(&batch);
        let sender = self.sender.clone();
        let deliver = async move { sender.deliver(&batch).await };
        let handle = self.deliveries.spawn(deliver);
        let under_way = UnderWay {
            batch: carries,
            was_down,
        };
        self.under_way.insert(handle.id(), under_way);
    }

    fn joined(&mut self, joined: Result<(Id, Came), JoinError>) {
        self.heed_clock(None);
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(UnderWay { batch, was_down }) = self.under_way.remove(&id) else {
            return;
        };
        let came = joined.map(|(_, came)| came).unwrap_or_else(|_| {
            tracing::error!(
                integration = %self.lane.name,
                events = batch.len(),
                "a delivery panicked"
            );
            let name = &self.lane.name;
            self.sender.all(&batch, || outcome::panicked(name))
        });
        self.take(came, was_down);
    }

    /// Whether as much is under way, or not written, as may be at a time.
    fn is_laden(&self) -> bool {
        self.carried >= self.lane.window_bytes
    }
}

impl Carried {
    fn new(event: Claimed, loaded: Arc<Loaded>, weight: usize) -> Self {
        Self {
            seq: event.seq,
            loaded,
            people: event.people,
            accepted_at: event.accepted_at,
            retries: event.retries,
            weight,
        }
    }
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

/// As long before, or as early as can be.
fn before(time: Timestamp, pause: Duration) -> Timestamp {
    time.checked_sub(pause).unwrap_or(Timestamp::MIN)
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

//! The way to the writer: events gather in an open group, jobs in a queue, and
//! the writer takes all of it at once.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_spec::ErrorKind;
use tokio::sync::{Notify, oneshot};

use super::{
    super::{Erased, Seq, line::Line, retired::Retired},
    drafts::Drafts,
    failure::{Failure, Outcome},
    state::{RecentEvent, lock},
    tx::Tx,
};

/// Events that are committed together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The place of the first.
    done: OnceLock<Outcome<Seq>>,
    notify: Notify,
}

impl Group {
    pub(super) fn finish(&self, outcome: Outcome<Seq>) {
        let _ = self.done.set(outcome);
        self.notify.notify_waiters();
    }

    async fn wait(&self) -> Outcome<Seq> {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(outcome) = self.done.get() {
                return outcome.clone();
            }
            notified.await;
        }
    }
}

/// A group that events were added to, and how many came before them.
#[derive(Debug)]
pub(super) struct Entered {
    group: Arc<Group>,
    offset: u64,
}

impl Entered {
    /// Waits until they are committed: the place of the first.
    pub(super) async fn place(self) -> Outcome<Seq> {
        Ok(self.group.wait().await? + self.offset)
    }
}

/// What became of events when they came.
pub(super) enum Coming<'a> {
    Entered(Entered),
    InLine(InLine<'a>),
}

/// Events that wait for room, or for the next group.
#[derive(Debug)]
struct Late {
    drafts: Drafts,
    bytes: u64,
    /// For room as well.
    is_patient: bool,
}

/// A place in line. Whoever drops it gives it up.
pub(super) struct InLine<'a> {
    queue: &'a Queue,
    number: u64,
    bytes: u64,
    told: oneshot::Receiver<Outcome<Entered>>,
    patience: Duration,
    has_left: bool,
}

impl InLine<'_> {
    /// Waits for room no longer than the patience, and then until the events
    /// are committed: the place of the first.
    pub(super) async fn place(mut self) -> Outcome<Seq> {
        let admitted = if self.patience.is_zero() {
            // There is room behind those who are in line.
            (&mut self.told).await
        } else {
            let patience = self.patience.min(crate::LONGEST);
            match tokio::time::timeout(patience, &mut self.told).await {
                Ok(admitted) => admitted,
                Err(_) if self.leave() => return Err(self.queue.full(self.bytes)),
                // It was let in at the last moment.
                Err(_) => (&mut self.told).await,
            }
        };
        self.has_left = true;
        let entered = admitted.unwrap_or_else(|_| Err(Failure::closed()))?;
        drop(self);
        entered.place().await
    }

    /// Whether it still stood there.
    fn leave(&mut self) -> bool {
        self.has_left = true;
        self.queue.leave(self.number)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            self.leave();
        }
    }
}

/// Something to do in a transaction.
pub(super) trait Job: Send {
    /// May be asked again after the transaction failed.
    fn run(&mut self, tx: &mut Tx<'_>) -> Outcome<()>;

    /// Tells who waits.
    fn finish(self: Box<Self>, outcome: Outcome<()>);

    /// Whether it wants a transaction for itself.
    fn is_exclusive(&self) -> bool;
}

struct Call<T, F> {
    run: F,
    value: Option<T>,
    reply: oneshot::Sender<Outcome<T>>,
    is_exclusive: bool,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send> Job for Call<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> Outcome<()> {
        self.value = Some((self.run)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Outcome<()>) {
        let Self { value, reply, .. } = *self;
        let value = outcome.and_then(|()| value.ok_or_else(Failure::closed));
        // Whoever asked may have gone.
        let _ = reply.send(value);
    }

    fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }
}

/// What the writer takes.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) jobs: Vec<Box<dyn Job>>,
    pub(super) drafts: Drafts,
    pub(super) group: Option<Arc<Group>>,
    pub(super) is_closing: bool,
    pub(super) erasures: Vec<Asked>,
    /// Checkpoints that somebody waits for.
    pub(super) chores: Vec<Chore>,
}

impl Taken {
    /// Whether somebody waits for more than having their events kept.
    fn is_wanted(&self) -> bool {
        self.is_closing
            || !self.jobs.is_empty()
            || !self.erasures.is_empty()
            || !self.chores.is_empty()
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.jobs.is_empty()
            && self.group.is_none()
            && self.erasures.is_empty()
            && self.chores.is_empty()
    }
}

impl Drop for Taken {
    /// Should the writer panic, nobody waits for ever.
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            group.finish(Err(Failure::closed()));
        }
    }
}

/// A user to erase, in as many transactions as it takes.
pub(super) struct Asked {
    pub(super) user_id: String,
    pub(super) reply: oneshot::Sender<Outcome<Erased>>,
}

/// What the writer is asked to do outside a transaction.
pub(super) struct Chore {
    pub(super) what: What,
    pub(super) reply: oneshot::Sender<Outcome<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Moves the log into the file, as far as nobody reads it.
    Checkpoint,
    /// Does what is otherwise done when there is nothing else to do.
    Tidy,
    /// Carries out every erasure that is due.
    Erase,
}

#[derive(Default)]
struct Waiting {
    taken: Taken,
    /// Bytes of the open group.
    open: u64,
    /// Bytes that the writer has taken, and not committed.
    writing: u64,
    is_over: bool,
    /// The writer waits to be woken.
    is_asleep: bool,
    /// The writer waits for more events, and is woken for anything else.
    is_gathering: bool,
    /// How many calls the open group has events of.
    calls: usize,
    line: Line<Late, Outcome<Entered>>,
    /// Bytes of those in line.
    late: u64,
    /// Empty: room for the next group.
    spare: Drafts,
    /// Events that are no longer recent.
    retired: Retired<RecentEvent>,
}

impl Waiting {
    fn is_closed(&self) -> bool {
        self.taken.is_closing || self.is_over
    }
}

/// So many calls are a crowd.
const CROWD: usize = 16;

/// The longest that is waited for more, and how often is looked whether they
/// come.
const GATHER: Duration = Duration::from_millis(2);
const GLANCE: Duration = Duration::from_micros(150);

/// A group that took more gives its room back.
const MAX_SPARE: usize = 4 * 1024 * 1024;

/// The limits of what may wait, and what waits.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Bytes of the file that are in use, as of the last commit.
    used: AtomicU64,
    /// Bytes of the log, as of the last commit or checkpoint.
    log: AtomicU64,
    /// Whether somebody found the store full lately.
    pub(super) is_short: std::sync::atomic::AtomicBool,
    max_bytes: u64,
    max_group: u64,
    max_log: u64,
}

impl Queue {
    pub(super) fn new(max_bytes: u64, max_group: u64, max_log: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            used: AtomicU64::new(0),
            log: AtomicU64::new(0),
            is_short: false.into(),
            max_bytes,
            max_group,
            max_log,
        }
    }

    /// Adds events that are committed together, or puts them in line: here and
    /// now, so that the order in which calls come is the order of events.
    ///
    /// Without patience they do not wait for room, but may for the next group.
    pub(super) fn append(&self, mut drafts: Drafts, patience: Duration) -> Outcome<Coming<'_>> {
        let (coming, bytes) = (drafts.len(), drafts.bytes() as u64);
        let is_patient = !patience.is_zero();
        let mut guard = lock(&self.waiting);
        let waiting = &mut *guard;
        if waiting.line.is_empty() {
            if let Some(entered) = self.enter(waiting, &mut drafts, is_patient)? {
                let retired = waiting.retired.take(coming);
                self.wake(guard);
                drop(retired);
                drafts.reuse();
                return Ok(Coming::Entered(entered));
            }
        } else if waiting.is_closed() {
            return Err(Failure::closed());
        } else if !is_patient && !self.has_room(waiting, waiting.late + bytes) {
            return Err(self.no_room(waiting, bytes));
        }
        waiting.late += bytes;
        let (number, told) = waiting.line.join(Late {
            drafts,
            bytes,
            is_patient,
        });
        Ok(Coming::InLine(InLine {
            queue: self,
            number,
            bytes,
            told,
            patience,
            has_left: false,
        }))
    }

    fn has_room(&self, waiting: &Waiting, bytes: u64) -> bool {
        self.taken_up(waiting).saturating_add(bytes) <= self.max_bytes
    }

    fn taken_up(&self, waiting: &Waiting) -> u64 {
        self.used() + self.long_log() + waiting.writing + waiting.open
    }

    /// What the log has above its limit.
    fn long_log(&self) -> u64 {
        let log = self.log.load(Ordering::Acquire);
        log.saturating_sub(self.max_log)
    }

    /// There is no room for so many bytes: the writer may make some.
    fn no_room(&self, waiting: &Waiting, bytes: u64) -> Failure {
        if !self.is_short.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
        let log = match self.long_log() {
            0 => String::new(),
            log => format!(
                ", {log} of them by its log (events.db-wal), which another program that reads \
                 events.db keeps from being emptied: end its transaction"
            ),
        };
        Failure::new(
            ErrorKind::Full,
            format!(
                "has no room for {bytes} bytes: {} of at most {} are in use{log}, and {} are \
                 waited for; wait until more is delivered, or raise its max_bytes",
                self.taken_up(waiting),
                self.max_bytes,
                waiting.late
            ),
        )
    }

    fn full(&self, bytes: u64) -> Failure {
        self.no_room(&lock(&self.waiting), bytes)
    }

    /// Adds events to the open group. Not, if there is no room and they wait for
    /// it, or if the group is full.
    fn enter(
        &self,
        waiting: &mut Waiting,
        drafts: &mut Drafts,
        is_patient: bool,
    ) -> Outcome<Option<Entered>> {
        let bytes = drafts.bytes() as u64;
        if waiting.is_closed() {
            return Err(Failure::closed());
        }
        if !self.has_room(waiting, bytes) {
            let failure = self.no_room(waiting, bytes);
            let is_in_vain = !is_patient || bytes > self.max_bytes / 2;
            return if is_in_vain { Err(failure) } else { Ok(None) };
        }
        if waiting.open > 0 && waiting.open + bytes > self.max_group {
            return Ok(None);
        }
        let offset = waiting.taken.drafts.len() as u64;
        waiting.open += bytes;
        waiting.calls += 1;
        drafts.move_to(&mut waiting.taken.drafts);
        let group = Arc::clone(waiting.taken.group.get_or_insert_default());
        Ok(Some(Entered { group, offset }))
    }

    /// Lets in whom there is room for.
    fn admit(&self, mut guard: MutexGuard<'_, Waiting>) {
        let waiting = &mut *guard;
        if waiting.line.is_empty() {
            return;
        }
        let mut line = std::mem::take(&mut waiting.line);
        line.admit(|late| {
            let entered = self.enter(waiting, &mut late.drafts, late.is_patient);
            let entered = entered.transpose()?;
            waiting.late -= late.bytes;
            Some(entered)
        });
        waiting.line = line;
        if waiting.taken.group.is_some() {
            self.wake(guard);
        }
    }

    /// Gives a place in line up; whether somebody still stood there.
    fn leave(&self, number: u64) -> bool {
        let mut waiting = lock(&self.waiting);
        let Some(late) = waiting.line.leave(number) else {
            return false;
        };
        waiting.late -= late.bytes;
        self.admit(waiting);
        true
    }

    /// Runs something on the writer, in a transaction.
    pub(super) async fn call<T, F>(&self, is_exclusive: bool, run: F) -> Outcome<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Call {
            run,
            value: None,
            reply,
            is_exclusive,
        });
        self.push(|taken| taken.jobs.push(job))?;
        answer.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    /// Forgets a user.
    pub(super) async fn erase(&self, user_id: String) -> Outcome<Erased> {
        let (reply, answer) = oneshot::channel();
        self.push(|taken| taken.erasures.push(Asked { user_id, reply }))?;
        answer.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    pub(super) async fn chore(&self, what: What) -> Outcome<()> {
        let (reply, answer) = oneshot::channel();
        self.push(|taken| taken.chores.push(Chore { what, reply }))?;
        answer.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    fn push(&self, add: impl FnOnce(&mut Taken)) -> Outcome<()> {
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed() {
            return Err(Failure::closed());
        }
        add(&mut waiting.taken);
        waiting.is_asleep |= waiting.is_gathering;
        self.wake(waiting);
        Ok(())
    }

    /// Wakes the writer, if it sleeps. Once: to wake is to ask the system.
    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let is_asleep = std::mem::take(&mut waiting.is_asleep);
        drop(waiting);
        if is_asleep {
            self.wake.notify_one();
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.taken.is_closing = true;
        self.admit(waiting);
        self.wake.notify_one();
    }

    /// Everything that waits; nothing after `patience`.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let waiting = lock(&self.waiting);
        let is_idle = |waiting: &mut Waiting| {
            let is_short = self.is_short.load(Ordering::Acquire);
            waiting.is_asleep =
                waiting.taken.is_nothing() && !waiting.taken.is_closing && !is_short;
            waiting.is_asleep
        };
        let waited = self.wake.wait_timeout_while(waiting, patience, is_idle);
        let (mut waiting, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        waiting.is_asleep = false;
        let spare = std::mem::take(&mut waiting.spare);
        let taken = std::mem::take(&mut waiting.taken);
        waiting.taken.drafts = spare;
        waiting.taken.is_closing = taken.is_closing;
        waiting.writing = std::mem::take(&mut waiting.open);
        waiting.calls = 0;
        self.admit(waiting);
        taken
    }

    /// Lets a crowd gather: where as many come during a commit as a part of what
    /// it carried, fewer and larger ones take less time in all. As soon as
    /// nobody comes any more, all of them are waiting for the next.
    pub(super) fn gather(&self, carried: usize, took: Duration) {
        let until = Instant::now() + took.saturating_mul(4).min(GATHER);
        let mut waiting = lock(&self.waiting);
        let mut there = waiting.taken.drafts.len();
        if waiting.calls < CROWD || there < carried / 4 {
            return;
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_wanted = waiting.taken.is_wanted() || !waiting.line.is_empty();
            if left.is_zero() || is_wanted {
                return;
            }
            waiting.is_gathering = true;
            let waited = self.wake.wait_timeout(waiting, left.min(GLANCE));
            (waiting, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            waiting.is_gathering = false;
            waiting.is_asleep = false;
            let now = waiting.taken.drafts.len();
            if now == there {
                return;
            }
            there = now;
        }
    }

    /// Has events freed by those who append.
    pub(super) fn retire(&self, events: Vec<RecentEvent>) {
        let events = events.into_iter().map(|event| {
            let weight = event.loaded.weight();
            (event, weight)
        });
        let rest = lock(&self.waiting).retired.put(events);
        drop(rest);
    }

    /// Frees what was left to others.
    pub(super) fn forget_retired(&self) {
        let retired = lock(&self.waiting).retired.clear();
        drop(retired);
    }

    /// Gives back the room of drafts that are written.
    pub(super) fn reuse(&self, mut drafts: Drafts) {
        drafts.clear();
        if (1..=MAX_SPARE).contains(&drafts.capacity()) {
            lock(&self.waiting).spare = drafts;
        }
    }

    /// So much of the file is in use.
    pub(super) fn uses(&self, used: u64) {
        if used < self.used.swap(used, Ordering::AcqRel) {
            self.admit(lock(&self.waiting));
        }
    }

    /// The log is so long.
    pub(super) fn logs(&self, bytes: u64) {
        let before = self.log.swap(bytes, Ordering::AcqRel);
        if bytes < before && before > self.max_log {
            self.admit(lock(&self.waiting));
        }
    }

    /// The group that was taken is committed, and counts as used; or it has
    /// failed.
    pub(super) fn written(&self) {
        let mut waiting = lock(&self.waiting);
        if std::mem::take(&mut waiting.writing) > 0 {
            self.admit(waiting);
        }
    }

    /// Whether the writer has ended.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.waiting).is_over
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The writer has ended: whoever waits is told.
    pub(super) fn end(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.is_over = true;
        let left = std::mem::take(&mut waiting.taken);
        self.admit(waiting);
        drop(left);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("used", &self.used)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Input, Track};

    use super::{
        super::{
            super::{Loaded, People},
            drafts::Draft,
        },
        *,
    };

    fn drafts(bytes: usize) -> Drafts {
        let mut drafts = Drafts::default();
        let bytes = drafts.write(|json| {
            json.resize(bytes, b' ');
            Ok::<_, Failure>(())
        });
        drafts.push(Draft {
            bytes: bytes.unwrap(),
            loaded: Arc::new(Loaded::new(Input::from(Track::new("e")).into_any())),
            deletes: None,
            kept: None,
            people: People::default(),
            lanes: Some(Arc::default()),
            refused: Vec::new(),
        });
        drafts
    }

    async fn append(queue: Arc<Queue>, bytes: usize) -> Outcome<Seq> {
        match queue.append(drafts(bytes), Duration::from_secs(60))? {
            Coming::Entered(entered) => entered.place().await,
            Coming::InLine(late) => late.place().await,
        }
    }

    fn enters(queue: &Queue, bytes: usize) -> bool {
        match queue.append(drafts(bytes), Duration::ZERO) {
            Ok(Coming::Entered(_)) => true,
            Ok(Coming::InLine(_)) => false,
            Err(failure) => {
                assert_eq!(failure.kind, ErrorKind::Full);
                false
            }
        }
    }

    #[test]
    fn what_the_writer_has_taken_counts_until_it_is_written() {
        let queue = Queue::new(1000, 1000, 0);
        assert!(enters(&queue, 600));
        let taken = queue.take(Duration::ZERO);
        assert_eq!(taken.drafts.len(), 1);
        // Another job of the same round was committed meanwhile.
        queue.uses(100);
        assert!(!enters(&queue, 500));
        assert!(enters(&queue, 300));
        queue.written();
        assert!(enters(&queue, 500));
    }

    #[test]
    fn a_log_that_is_too_long_takes_room() {
        let queue = Queue::new(1000, 1000, 50);
        queue.logs(50);
        assert!(enters(&queue, 900));
        queue.logs(151);
        let error = queue.append(drafts(10), Duration::ZERO).err().unwrap();
        assert!(
            error.message.contains("101 of them by its log"),
            "{error:?}"
        );
        let waiting = queue.append(drafts(10), Duration::MAX).unwrap();
        assert!(matches!(waiting, Coming::InLine(_)));
        queue.logs(60);
        assert_eq!(queue.take(Duration::ZERO).drafts.len(), 2);
    }

    #[tokio::test]
    async fn who_does_not_wait_overtakes_nobody() {
        let queue = Arc::new(Queue::new(1000, 1000, 0));
        assert!(enters(&queue, 600));
        let waiting = tokio::spawn(append(Arc::clone(&queue), 500));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // It would fit, were there nobody in line.
        assert!(!enters(&queue, 100));
        // Who goes leaves no trace.
        waiting.abort();
        assert!(waiting.await.is_err());
        assert!(enters(&queue, 100));
        let waiting = tokio::spawn(append(Arc::clone(&queue), 500));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let taken = queue.take(Duration::ZERO);
        queue.written();
        drop(taken);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let taken = queue.take(Duration::ZERO);
        assert_eq!(taken.drafts.len(), 1);
        assert!(enters(&queue, 100));
        drop(taken);
        assert!(waiting.await.is_ok_and(|waited| waited.is_err()));
    }

    /// And who does not fit is let in without being polled.
    #[tokio::test]
    async fn who_fits_into_a_group_overtakes_nobody_who_does_not() {
        let queue = Queue::new(10_000, 1000, 0);
        let append = |bytes, patience| queue.append(drafts(bytes), patience).unwrap();
        let in_line = |coming: &Coming<'_>| matches!(coming, Coming::InLine(_));
        let calls = [
            append(800, Duration::MAX),
            append(500, Duration::MAX),
            append(100, Duration::ZERO),
            append(600, Duration::MAX),
        ];
        assert_eq!(calls.each_ref().map(in_line), [false, true, true, true]);
        for bytes in [800, 600, 600] {
            let mut taken = queue.take(Duration::ZERO);
            assert_eq!(taken.drafts.bytes(), bytes);
            if let Some(group) = taken.group.take() {
                group.finish(Ok(100 * bytes as u64));
            }
        }
        let mut places = Vec::new();
        for call in calls {
            let place = match call {
                Coming::Entered(entered) => entered.place().await,
                Coming::InLine(late) => late.place().await,
            };
            places.push(place.unwrap());
        }
        assert_eq!(places, [80_000, 60_000, 60_001, 60_000]);
    }

    #[test]
    fn who_does_not_wait_is_refused_only_if_there_is_no_room_behind_the_others() {
        let queue = Queue::new(1000, 500, 0);
        let append = |bytes, patience| queue.append(drafts(bytes), patience);
        let _first = append(400, Duration::MAX).unwrap();
        let _second = append(300, Duration::MAX).unwrap();
        let _third = append(200, Duration::ZERO).unwrap();
        let error = append(200, Duration::ZERO).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Full);
        assert!(
            error
                .message
                .contains("400 of at most 1000 are in use, and 500 are waited")
        );
    }
}

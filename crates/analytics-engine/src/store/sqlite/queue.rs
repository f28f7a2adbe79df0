//! The way to the writer: events gather in an open group, jobs in a queue, and
//! the writer takes all of it at once.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use analytics_spec::ErrorKind;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    super::{Erased, Seq, retired::Retired},
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

/// Events that were not added at once.
pub(super) enum Late<'a> {
    /// Whoever waits stands in line.
    Waits(Drafts, InLine<'a>),
    Failed(Failure),
}

/// Somebody who waits, for room or for the next group: nobody who comes later
/// goes before.
pub(super) struct InLine<'a>(&'a Queue);

impl<'a> InLine<'a> {
    fn new(queue: &'a Queue) -> Self {
        queue.in_line.fetch_add(1, Ordering::AcqRel);
        Self(queue)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.in_line.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A group that events were added to, and how many came before them.
type Entered = (Arc<Group>, u64);

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
    /// Empty: room for the next group.
    spare: Drafts,
    /// Events that are no longer recent.
    retired: Retired<RecentEvent>,
}

/// A group that took more gives its room back.
const MAX_SPARE: usize = 4 * 1024 * 1024;

/// The limits of what may wait, and what waits.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// There may be room.
    room: Notify,
    /// Whoever waits for room does so behind those who came before.
    line: tokio::sync::Mutex<()>,
    in_line: AtomicU64,
    /// Bytes of the file that are in use, as of the last commit.
    used: AtomicU64,
    /// Whether somebody found the store full lately.
    pub(super) is_short: std::sync::atomic::AtomicBool,
    max_bytes: u64,
    max_group: u64,
}

impl Queue {
    pub(super) fn new(max_bytes: u64, max_group: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            room: Notify::new(),
            line: tokio::sync::Mutex::new(()),
            in_line: AtomicU64::new(0),
            used: AtomicU64::new(0),
            is_short: false.into(),
            max_bytes,
            max_group,
        }
    }

    /// Adds events that are committed together, if there is room at once:
    /// whoever is committed with them tells the place of the first.
    pub(super) fn append(
        &self,
        mut drafts: Drafts,
        patience: Duration,
    ) -> Result<impl Future<Output = Outcome<Seq>> + use<>, Late<'_>> {
        let bytes = drafts.bytes() as u64;
        let entered = if self.in_line.load(Ordering::Acquire) == 0 {
            self.enter(&mut drafts, bytes, !patience.is_zero())
        } else if patience.is_zero() {
            Err(awaited())
        } else {
            Ok(None)
        };
        match entered {
            Ok(Some((group, offset))) => {
                drafts.reuse();
                Ok(async move { Ok(group.wait().await? + offset) })
            }
            Ok(None) => Err(Late::Waits(drafts, InLine::new(self))),
            Err(failure) => Err(Late::Failed(failure)),
        }
    }

    /// Does the same for those for whom there was no room: waits for it no
    /// longer than `patience`.
    pub(super) async fn append_late(&self, late: Late<'_>, patience: Duration) -> Outcome<Seq> {
        let (mut drafts, in_line) = match late {
            Late::Waits(drafts, in_line) => (drafts, in_line),
            Late::Failed(failure) => return Err(failure),
        };
        let bytes = drafts.bytes() as u64;
        let waited = self.wait_in_line(&mut drafts, bytes, patience);
        let (group, offset) = waited.await?;
        drop(in_line);
        drop(drafts);
        Ok(group.wait().await? + offset)
    }

    /// Waits in line, so that what is large is not overtaken for ever.
    async fn wait_in_line(
        &self,
        drafts: &mut Drafts,
        bytes: u64,
        patience: Duration,
    ) -> Outcome<Entered> {
        if patience.is_zero() {
            let _first = self.line.try_lock().map_err(|_| awaited())?;
            return self.wait(drafts, bytes, false).await;
        }
        let until = Instant::now() + patience.min(crate::LONGEST);
        let _first = timeout_at(until, self.line.lock())
            .await
            .map_err(|_| awaited())?;
        match timeout_at(until, self.wait(drafts, bytes, true)).await {
            Ok(entered) => entered,
            // Says what there is no room in, unless there is some just now.
            Err(_) => self.wait(drafts, bytes, false).await,
        }
    }

    /// Waits for room, or, if it is not to wait for that, for the writer, who
    /// has what is committed next.
    async fn wait(&self, drafts: &mut Drafts, bytes: u64, waits: bool) -> Outcome<Entered> {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(entered) = self.enter(drafts, bytes, waits)? {
                return Ok(entered);
            }
            notified.await;
        }
    }

    fn enter(&self, drafts: &mut Drafts, bytes: u64, waits: bool) -> Outcome<Option<Entered>> {
        let mut waiting = lock(&self.waiting);
        if waiting.taken.is_closing || waiting.is_over {
            return Err(Failure::closed());
        }
        let used = self.used.load(Ordering::Acquire);
        let after = used + waiting.writing + waiting.open + bytes;
        if after > self.max_bytes {
            if !waits || bytes > self.max_bytes / 2 {
                self.is_short.store(true, Ordering::Release);
                self.wake.notify_one();
                return Err(Failure::new(
                    ErrorKind::Full,
                    format!(
                        "has no room: {} of at most {} bytes are in use; wait until more is \
                         delivered, or raise its max_bytes",
                        used + waiting.writing + waiting.open,
                        self.max_bytes
                    ),
                ));
            }
            if !self.is_short.swap(true, Ordering::AcqRel) {
                self.wake.notify_one();
            }
            return Ok(None);
        }
        if waiting.open > 0 && waiting.open + bytes > self.max_group {
            return Ok(None);
        }
        let coming = drafts.len();
        let offset = waiting.taken.drafts.len() as u64;
        waiting.open += bytes;
        drafts.move_to(&mut waiting.taken.drafts);
        let group = Arc::clone(waiting.taken.group.get_or_insert_default());
        let retired = waiting.retired.take(coming);
        self.wake(waiting);
        drop(retired);
        Ok(Some((group, offset)))
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
        if waiting.taken.is_closing || waiting.is_over {
            return Err(Failure::closed());
        }
        add(&mut waiting.taken);
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
        lock(&self.waiting).taken.is_closing = true;
        self.wake.notify_one();
        self.room.notify_waiters();
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
        drop(waiting);
        if taken.group.is_some() {
            self.room.notify_waiters();
        }
        taken
    }

    /// How many events wait to be written.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting).taken.drafts.len()
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
            self.room.notify_waiters();
        }
    }

    /// The group that was taken is committed, and counts as used; or it has
    /// failed.
    pub(super) fn written(&self) {
        let written = std::mem::take(&mut lock(&self.waiting).writing);
        if written > 0 {
            self.room.notify_waiters();
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
        let left = {
            let mut waiting = lock(&self.waiting);
            waiting.is_over = true;
            std::mem::take(&mut waiting.taken)
        };
        drop(left);
        self.room.notify_waiters();
    }
}

/// There may be room, but not for those who do not wait.
fn awaited() -> Failure {
    Failure::new(
        ErrorKind::Full,
        "has no room at once: others wait for it; wait longer, or try again",
    )
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
            lanes: Arc::default(),
            refused: Vec::new(),
        });
        drafts
    }

    async fn append(queue: Arc<Queue>, bytes: usize) -> Outcome<Seq> {
        let patience = Duration::from_secs(60);
        match queue.append(drafts(bytes), patience) {
            Ok(entered) => entered.await,
            Err(late) => queue.append_late(late, patience).await,
        }
    }

    fn enters(queue: &Queue, bytes: usize) -> bool {
        match queue.append(drafts(bytes), Duration::ZERO) {
            Ok(_) => true,
            Err(Late::Waits(..)) => false,
            Err(Late::Failed(failure)) => {
                assert_eq!(failure.kind, ErrorKind::Full);
                false
            }
        }
    }

    #[test]
    fn what_the_writer_has_taken_counts_until_it_is_written() {
        let queue = Queue::new(1000, 1000);
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

    #[tokio::test]
    async fn who_does_not_wait_overtakes_nobody() {
        let queue = Arc::new(Queue::new(1000, 1000));
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

    #[tokio::test]
    async fn who_fits_into_a_group_overtakes_nobody_who_does_not() {
        let queue = Arc::new(Queue::new(10_000, 1000));
        assert!(enters(&queue, 800));
        let waiting = tokio::spawn(append(Arc::clone(&queue), 500));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!enters(&queue, 100));
        let first = queue.take(Duration::ZERO);
        assert_eq!(first.drafts.len(), 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(enters(&queue, 100));
        let next = queue.take(Duration::ZERO);
        assert_eq!(next.drafts.len(), 2);
        drop((first, next));
        assert!(waiting.await.is_ok_and(|waited| waited.is_err()));
    }
}

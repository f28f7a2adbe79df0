//! The one thread that writes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_spec::ErrorKind;
use rusqlite::Connection;

use super::{
    super::{Erasure, OnErased, Seq},
    drafts::Drafts,
    erase::{Erasing, Forgotten},
    erasures::{Asked, Erasures},
    failure::{Failure, Outcome},
    lock::Lock,
    options::Settings,
    place::Place,
    queue::{Job, Taken, What},
    reserve::{self, Reserve},
    schema::{self, PAGE},
    shared::Shared,
    state::{State, lock},
    tx::Tx,
};

/// After so long without anything to do, the writer tidies up.
const REST: Duration = Duration::from_millis(250);

/// How often it looks for what is too old.
const ROUND: Duration = Duration::from_secs(60);

/// Erasures go on for so long after the store was closed; then when it is
/// opened again.
const LAST_ERASURES: Duration = Duration::from_secs(2);

/// Who reads a log that is too long is waited for so long, and then not again
/// before the next.
const LOG_PATIENCE: Duration = Duration::from_millis(200);
const LOG_PAUSE: Duration = Duration::from_secs(5);

/// How often it looks whether the directory is still there, if it has nothing to
/// write.
const LOOK: Duration = Duration::from_secs(5);

/// How often the file is written anew, if nobody waits for it.
const SCRUB_EVERY: Duration = Duration::from_secs(5 * 60);

/// Free pages that the file may keep.
const FREE_PAGES: u64 = 256;

pub(super) struct Writer {
    conn: Connection,
    shared: Arc<Shared>,
    settings: Settings,
    reserve: Reserve,
    /// Pages in the log that were not in it after the last checkpoint.
    log_pages: Arc<AtomicI64>,
    /// How far a compaction has come.
    compacting: Option<Seq>,
    /// How much was stored, and pending, after the last compaction.
    compacted_at: Option<(u64, u64)>,
    expired_at: Option<Instant>,
    scrubbed_at: Option<Instant>,
    /// When somebody who reads was waited for in vain.
    waited_at: Option<Instant>,
    /// Dead letters that there was no room for, and that nobody was told of.
    crowded_out: u64,
    crowded_out_at: Option<Instant>,
    has_more_to_trim: bool,
    /// There was no room to look for the erasures that are due.
    must_find_due: bool,
    /// The log has yet to be emptied after an erasure.
    owes_truncate: bool,
    erasures: Erasures,
    /// What makes it impossible to go on.
    broken: Option<Failure>,
    lock: Option<Lock>,
    place: Place,
    /// When a log that is too long was spoken of.
    log_told_at: Option<Instant>,
}

/// What is done in one transaction.
type Step<'a> = &'a mut dyn FnMut(&mut Tx<'_>) -> Outcome<()>;

impl Writer {
    pub(super) fn new(
        conn: Connection,
        lock: Lock,
        place: Place,
        reserve: Reserve,
        settings: Settings,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            conn,
            shared,
            settings,
            reserve,
            log_pages: Arc::default(),
            compacting: None,
            compacted_at: None,
            expired_at: None,
            scrubbed_at: None,
            waited_at: None,
            crowded_out: 0,
            crowded_out_at: None,
            has_more_to_trim: false,
            must_find_due: false,
            owes_truncate: false,
            erasures: Erasures::default(),
            broken: None,
            lock: Some(lock),
            place,
            log_told_at: None,
        }
    }

    /// Does what was left undone the last time.
    pub(super) fn begin(&mut self) -> Outcome<()> {
        let pages = Arc::clone(&self.log_pages);
        self.conn.wal_hook(Some(
            move |_: &mut rusqlite::hooks::Wal, in_log: std::ffi::c_int| {
                pages.store(i64::from(in_log), Ordering::Relaxed);
                Ok(())
            },
        ))?;
        self.reserve.take();
        self.limit_pages()?;
        self.measure()?;
        self.owes_truncate = self.shared.state().must_scrub;
        // A disk that is full keeps nobody from delivering: that makes room.
        unless_full(self.find_due())?;
        unless_full(self.expire())?;
        unless_full(self.shrink())
    }

    /// Finds the erasures that came due before the store was opened.
    fn find_due(&mut self) -> Outcome<()> {
        self.must_find_due = true;
        self.attempt(
            &mut [&mut |tx: &mut Tx<'_>| tx.find_due()],
            &Drafts::default(),
        )?;
        self.must_find_due = false;
        Ok(())
    }

    fn shrink(&mut self) -> Outcome<()> {
        self.attempt(
            &mut [&mut |tx: &mut Tx<'_>| tx.shrink()],
            &Drafts::default(),
        )
        .map(drop)
    }

    pub(super) fn run(&mut self) {
        let mut tidy_at = Instant::now() + REST;
        let mut closing_since = None;
        loop {
            let must_erase = self.erasures.is_waiting();
            let taken = self.shared.queue.take(self.patience(tidy_at));
            if taken.is_closing {
                let since: Instant = *closing_since.get_or_insert_with(Instant::now);
                if taken.is_nothing() && (!must_erase || since.elapsed() > LAST_ERASURES) {
                    return;
                }
            }
            if !taken.is_nothing() {
                let began = Instant::now();
                let events = taken.drafts.len();
                self.commit(taken);
                let took = began.elapsed();
                self.press();
                self.shared.queue.gather(events, took);
                tidy_at = Instant::now() + REST;
            } else if self.shared.queue.is_short.swap(false, Ordering::AcqRel) {
                self.press();
                tidy_at = Instant::now() + REST;
            } else if must_erase {
                tidy_at = Instant::now() + REST;
            } else {
                self.idle(&mut tidy_at);
            }
            // One step: settlements come in between.
            if must_erase {
                self.erase();
            }
        }
    }

    /// How long it waits for something to do.
    fn patience(&self, tidy_at: Instant) -> Duration {
        if self.erasures.is_waiting() {
            return Duration::ZERO;
        }
        let most = if self.is_log_long() { REST } else { LOOK };
        let rest = tidy_at.saturating_duration_since(Instant::now()).min(most);
        let until = self.erasures.until();
        until.map_or(rest, |until| until.min(rest))
    }

    /// What is done when nobody wants anything.
    fn idle(&mut self, tidy_at: &mut Instant) {
        warn(self.look());
        if Instant::now() >= *tidy_at {
            let has_tidied = self.settings.is_tidy && self.tidy(false);
            let rest = if has_tidied { Duration::ZERO } else { ROUND };
            *tidy_at = Instant::now() + rest;
        } else if self.is_log_long() {
            // Who waits for room is let in as soon as nobody reads it.
            self.press();
        }
    }

    /// Looks whether the directory is still there; without it, nothing more is
    /// accepted.
    fn look(&mut self) -> Outcome<()> {
        if self.broken.is_some() {
            return Ok(());
        }
        let looked = self.place.check();
        if let Err(failure) = &looked {
            self.broken = Some(failure.clone());
            *lock(&self.shared.trouble) = Some(failure.clone());
            tracing::error!(dir = %self.shared.dir.display(), "the store {}", failure.message);
        }
        looked
    }

    /// One step of an erasure.
    fn erase(&mut self) {
        if let Some(Asked { erasing, reply }) = self.erasures.next_asked() {
            // Whoever asked may have gone.
            match self.erase_step(&erasing) {
                Ok(erasing) if erasing.is_done => drop(reply.send(Ok(erasing.erased))),
                Ok(erasing) => self.erasures.go_on_asked(Asked { erasing, reply }),
                Err(failure) => drop(reply.send(Err(failure))),
            }
        } else if let Some(erasing) = self.erasures.next_due() {
            match self.erase_step(&erasing) {
                Ok(erasing) => self.erasures.go_on(erasing),
                Err(failure) => {
                    tracing::warn!("an erasure is put off: the store {}", failure.message);
                    self.erasures.put_off(erasing);
                }
            }
        }
        // What it writes over goes through the log.
        self.press();
    }

    fn erase_all(&mut self) {
        while self.erasures.is_waiting() {
            self.erase();
        }
    }

    fn erase_step(&mut self, erasing: &Erasing) -> Outcome<Erasing> {
        let mut next = None;
        self.persist(&mut |tx| {
            next = Some(tx.erase(erasing)?);
            Ok(())
        })?;
        self.measure()?;
        next.ok_or_else(Failure::closed)
    }

    /// Ends well: everything is in the file, and the lock is given back.
    pub(super) fn end(mut self) {
        self.shared.queue.end();
        self.shared.readers.close();
        if let Err(failure) = self.truncate() {
            tracing::warn!("the store's log is left behind: it {}", failure.message);
        }
        // The lock goes last.
        let lock = self.lock.take();
        drop(self);
        drop(lock);
    }

    fn commit(&mut self, mut taken: Taken) {
        let mut light = Vec::new();
        for job in taken.jobs.drain(..) {
            if job.is_exclusive() {
                self.together(std::mem::take(&mut light), &mut Taken::default());
                self.together(vec![job], &mut Taken::default());
            } else {
                light.push(job);
            }
        }
        self.together(light, &mut taken);
        self.shared.queue.written();
        for asked in std::mem::take(&mut taken.erasures) {
            let through = self.shared.state().last;
            let one = Forgotten::through(&self.shared.hasher, &asked.user_id, through);
            self.erasures.ask(Asked {
                erasing: Erasing::new(vec![one], true),
                reply: asked.reply,
            });
        }
        for chore in std::mem::take(&mut taken.chores) {
            let done = match chore.what {
                What::Checkpoint => self.checkpoint().map(drop),
                What::Tidy => {
                    self.erase_all();
                    while self.tidy(true) {}
                    self.broken.clone().map_or(Ok(()), Err)
                }
                What::Erase => {
                    self.erase_all();
                    Ok(())
                }
            };
            let _ = chore.reply.send(done);
        }
    }

    /// Jobs and a group of events in one transaction, or, if that fails, each
    /// in its own: none suffers from another's mistake.
    fn together(&mut self, mut jobs: Vec<Box<dyn Job>>, taken: &mut Taken) {
        if jobs.is_empty() && taken.group.is_none() {
            return;
        }
        let done = {
            let mut runs: Vec<_> = jobs
                .iter_mut()
                .map(|job| |tx: &mut Tx<'_>| job.run(tx))
                .collect();
            let mut steps: Vec<Step<'_>> = runs.iter_mut().map(|run| run as Step<'_>).collect();
            self.attempt(&mut steps, &taken.drafts)
        };
        let mut drafts = std::mem::take(&mut taken.drafts);
        match done {
            Ok(first) => {
                tell_kept(&mut drafts, first);
                if let Some(group) = taken.group.take() {
                    group.finish(Ok(first));
                }
                for job in jobs {
                    job.finish(Ok(()));
                }
            }
            Err(failure) => {
                let is_alone = jobs.len() + usize::from(taken.group.is_some()) == 1;
                for mut job in jobs {
                    let is_full = failure.kind == ErrorKind::Full;
                    let done = if is_alone && !is_full {
                        Err(failure.clone())
                    } else {
                        self.persist(&mut |tx| job.run(tx))
                    };
                    job.finish(done);
                }
                if let Some(group) = taken.group.take() {
                    let done = if is_alone {
                        Err(failure)
                    } else {
                        self.attempt(&mut [], &drafts)
                    };
                    if let Ok(first) = done {
                        tell_kept(&mut drafts, first);
                    }
                    group.finish(done);
                }
            }
        }
        self.shared.queue.reuse(drafts);
        if let Err(failure) = self.measure() {
            tracing::warn!("the store {}", failure.message);
        }
    }

    /// A step that finds room also on a disk that is full.
    fn persist(&mut self, step: Step<'_>) -> Outcome<()> {
        match self.attempt(&mut [&mut *step], &Drafts::default()) {
            Err(failure) if failure.kind == ErrorKind::Full => {
                // What is in the log gives its room back, if it can go into the
                // file.
                let _ = self.truncate();
                if self.attempt(&mut [&mut *step], &Drafts::default()).is_ok() {
                    return Ok(());
                }
                if self.reserve.release() {
                    tracing::warn!("the disk is full: the store uses its reserve");
                    self.limit_pages()?;
                    let _ = self.truncate();
                }
                self.attempt(&mut [&mut *step], &Drafts::default())
                    .map(drop)
            }
            done => done.map(drop),
        }
    }

    /// One transaction: the place of the first event. How it went is seen in
    /// [`Store::trouble`](super::super::Store::trouble).
    fn attempt(&mut self, steps: &mut [Step<'_>], drafts: &Drafts) -> Outcome<Seq> {
        let done = self.transact(steps, drafts);
        if !done.as_ref().is_err_and(|failure| failure.is_askers) {
            *lock(&self.shared.trouble) = done.as_ref().err().cloned();
        }
        done
    }

    fn transact(&mut self, steps: &mut [Step<'_>], drafts: &Drafts) -> Outcome<Seq> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if !drafts.is_empty() && !self.reserve.is_held() {
            // What is accepted now might take the room of what is settled.
            if !self.reserve.take() {
                return Err(Failure::disk_full());
            }
            self.limit_pages()?;
        }
        let base = self.shared.state();
        self.execute("BEGIN IMMEDIATE")?;
        let done = work(
            &self.conn,
            &self.settings,
            &self.shared,
            base,
            steps,
            drafts,
        );
        let shared = Arc::clone(&self.shared);
        let committing = lock(&shared.committing);
        let done = done.and_then(|done| {
            self.execute("COMMIT")?;
            // What was written may be nowhere.
            self.look()?;
            Ok(done)
        });
        let mut done = match done {
            Ok(done) => done,
            Err(failure) => {
                if !self.conn.is_autocommit()
                    && let Err(rollback) = self.execute("ROLLBACK")
                {
                    self.broken = Some(Failure::new(
                        ErrorKind::Internal,
                        format!(
                            "cannot take back what failed: it {}; open the store again",
                            rollback.message
                        ),
                    ));
                }
                if failure.is_lost_sync {
                    self.broken = Some(Failure::new(
                        ErrorKind::Internal,
                        "could not be written safely: the disk failed; check it, and open the \
                         store again",
                    ));
                }
                return Err(failure);
            }
        };
        self.has_more_to_trim = done.has_more_to_trim;
        let first = done.first;
        self.erasures.owe(std::mem::take(&mut done.due));
        self.crowded_out += done.crowded_out;
        self.tell_crowded_out();
        self.publish(done, committing);
        Ok(first)
    }

    /// Once in a while: where everything is refused, each refusal crowds one
    /// out.
    fn tell_crowded_out(&mut self) {
        let is_soon = self.crowded_out_at.is_some_and(|at| at.elapsed() < ROUND);
        if self.crowded_out == 0 || is_soon {
            return;
        }
        self.crowded_out_at = Some(Instant::now());
        tracing::warn!(
            dead_letters = std::mem::take(&mut self.crowded_out),
            "the dead letters took more than {} bytes: the oldest were forgotten",
            self.settings.letters_bytes
        );
    }

    /// Shows everybody what was committed.
    fn publish(&mut self, done: Done, committing: MutexGuard<'_, ()>) {
        if let Some(on_erased) = done.on_erased {
            *lock(&self.shared.on_erased) = Some(on_erased);
        }
        let last = done.state.last;
        let mut gone = Vec::new();
        let has_appended = {
            let mut published = lock(&self.shared.published);
            let has_appended = published.state.last < last;
            published.state = Arc::new(done.state);
            if done.forgets_recent {
                published.forget_recent();
            } else {
                for recent in done.recent {
                    gone.extend(published.push(recent, self.settings.recent_bytes));
                }
            }
            if !done.erasures.is_empty() {
                published.erasures += 1;
            }
            has_appended
        };
        drop(committing);
        if done.forgets_recent {
            self.shared.queue.forget_retired();
            lock(&self.shared.last_read).clear();
        }
        for recent in gone {
            // Whoever reads it just now frees it as well.
            if let Some(recent) = Arc::into_inner(recent) {
                self.shared.queue.retire(recent.events);
            }
        }
        if has_appended {
            let on_appended = lock(&self.shared.on_appended).clone();
            if let Some(on_appended) = on_appended {
                on_appended(last);
            }
        }
        if !done.erasures.is_empty() {
            let on_erased = lock(&self.shared.on_erased).clone();
            for erasure in &done.erasures {
                let Some(on_erased) = &on_erased else { break };
                let told = catch_unwind(AssertUnwindSafe(|| on_erased(erasure)));
                if told.is_err() {
                    tracing::error!("whoever is told of erasures has panicked");
                }
            }
        }
        if done.has_erased {
            self.owes_truncate = true;
            let scrubbed = if done.scrubs {
                self.scrub()
            } else {
                self.truncate()
            };
            if let Err(failure) = scrubbed {
                tracing::warn!(
                    "what was erased may still be on the disk, until it is tried again: the \
                     store {}",
                    failure.message
                );
            }
        }
    }

    /// Tells how much of the file is in use.
    fn measure(&mut self) -> Outcome<()> {
        let used = self.pages()? - self.free_pages()?;
        self.shared.queue.uses(used * PAGE);
        self.shared.queue.logs(self.log_bytes());
        Ok(())
    }

    fn log_bytes(&self) -> u64 {
        self.log_pages.load(Ordering::Relaxed).unsigned_abs() * PAGE
    }

    fn is_log_long(&self) -> bool {
        self.log_bytes() > self.settings.max_log_bytes()
    }

    fn pages(&self) -> Outcome<u64> {
        self.number("PRAGMA page_count")
    }

    fn free_pages(&self) -> Outcome<u64> {
        self.number("PRAGMA freelist_count")
    }

    fn number(&self, sql: &str) -> Outcome<u64> {
        let mut statement = self.conn.prepare_cached(sql)?;
        super::state::unsigned(statement.query_row([], |row| row.get(0))?)
    }

    fn execute(&self, sql: &str) -> Outcome<()> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    fn limit_pages(&self) -> Outcome<()> {
        if let Some(pages) = self.settings.max_pages {
            let held = if self.reserve.is_held() {
                reserve::BYTES / PAGE
            } else {
                0
            };
            let sql = format!("PRAGMA max_page_count = {}", pages.saturating_sub(held));
            self.conn.query_row(&sql, [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Moves the log into the file, as far as nobody reads it; whether all of
    /// it was moved.
    fn checkpoint(&mut self) -> Outcome<bool> {
        let (log, moved): (i64, i64) =
            self.conn
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                    Ok((row.get(1)?, row.get(2)?))
                })?;
        if moved >= log {
            self.log_pages.store(0, Ordering::Relaxed);
        }
        Ok(moved >= log)
    }

    /// Moves the log into the file, and empties it.
    fn truncate(&mut self) -> Outcome<()> {
        if self.try_truncate()? {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Internal,
            "cannot empty its log while another program reads it",
        ))
    }

    /// Whether nobody was in the way.
    fn try_truncate(&mut self) -> Outcome<bool> {
        let is_busy: bool = self
            .conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if !is_busy {
            self.log_pages.store(0, Ordering::Relaxed);
            self.owes_truncate = false;
        }
        Ok(!is_busy)
    }

    /// Leaves nothing of what was erased. `secure_delete` writes zeros over
    /// what is deleted, but SQLite leaves copies in unused parts of pages when
    /// it moves rows from one to another. So the file is written anew, unless
    /// it is large: then as soon as it is not.
    fn scrub(&mut self) -> Outcome<()> {
        if self.can_scrub() {
            self.scrubbed_at = Some(Instant::now());
            self.conn.execute_batch("VACUUM")?;
            self.attempt(
                &mut [&mut |tx: &mut Tx<'_>| {
                    tx.state.must_scrub = false;
                    Ok(())
                }],
                &Drafts::default(),
            )?;
            self.measure()?;
        }
        self.truncate()
    }

    fn can_scrub(&self) -> bool {
        self.shared.queue.used() <= self.settings.scrub_bytes
    }

    /// What cannot wait until there is nothing else to do.
    fn press(&mut self) {
        if !self.reserve.is_held() {
            // The disk is full: a log that grows takes the room that the file
            // needs to take in the log.
            warn(self.checkpoint().map(drop));
        }
        if self.must_find_due {
            warn(self.find_due());
        }
        if !self.settings.is_tidy {
            return;
        }
        let mut done = if self.is_log_long() {
            self.cut_log()
        } else if self.log_bytes() > self.settings.log_bytes {
            self.checkpoint().map(drop)
        } else {
            Ok(())
        };
        if done.is_ok() && self.must_compact() {
            done = self.compact();
        }
        if done.is_ok() && self.is_round() {
            done = self.expire();
        }
        if done.is_ok() && self.must_scrub() {
            done = self.scrub();
        }
        warn(done);
    }

    /// Moves the log into the file, and empties it between two who read it;
    /// for new ones read the file alone once all of it has been moved.
    fn cut_log(&mut self) -> Outcome<()> {
        let bytes = self.log_bytes();
        let is_moved = self.checkpoint()?;
        if is_moved || self.waited_at.is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
            self.conn.busy_timeout(LOG_PATIENCE)?;
            let is_cut = self.try_truncate();
            self.conn.busy_timeout(schema::BUSY)?;
            self.waited_at = (!is_cut?).then(Instant::now);
        }
        if self.is_log_long() && self.log_told_at.is_none_or(|at| at.elapsed() >= ROUND) {
            self.log_told_at = Some(Instant::now());
            tracing::warn!(
                "the log of the store {} has {bytes} bytes, and grows: another program that \
                 reads events.db keeps it from being emptied; end its transaction",
                self.shared.dir.display()
            );
        }
        self.shared.queue.logs(self.log_bytes());
        Ok(())
    }

    fn must_scrub(&self) -> bool {
        let is_due = self.scrubbed_at.is_none_or(|at| at.elapsed() > SCRUB_EVERY);
        // Not before all of it is erased.
        let is_over = !self.erasures.is_waiting();
        is_due && is_over && self.shared.state().must_scrub && self.can_scrub()
    }

    /// Does one thing that need not be done at once; whether there was one.
    fn tidy(&mut self, is_asked: bool) -> bool {
        if self.broken.is_some() {
            return false;
        }
        let done = self.tidy_one(is_asked);
        let is_done = *done.as_ref().unwrap_or(&false);
        warn(done.map(drop));
        is_done
    }

    fn tidy_one(&mut self, is_asked: bool) -> Outcome<bool> {
        if !self.reserve.is_held() && self.reserve.take() {
            self.limit_pages()?;
            return Ok(true);
        }
        let state = self.shared.state();
        if self.has_more_to_trim || state.stored > 0 && state.floor() == state.last {
            let before = state.stored;
            self.attempt(&mut [], &Drafts::default())?;
            self.measure()?;
            return Ok(self.shared.state().stored < before);
        }
        if self.must_compact() {
            self.compact()?;
            return Ok(true);
        }
        if self.is_round() {
            self.expire()?;
            return Ok(true);
        }
        let free = self.free_pages()?;
        if free > if is_asked { 0 } else { FREE_PAGES } {
            let mut statement = self.conn.prepare_cached("PRAGMA incremental_vacuum(256)")?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            drop(rows);
            drop(statement);
            self.measure()?;
            return Ok(self.free_pages()? < free);
        }
        // Once: a reader may be in the way for long.
        if self.log_pages.load(Ordering::Relaxed) > 0 && self.checkpoint()? {
            return Ok(true);
        }
        if self.owes_truncate {
            self.truncate()?;
            return Ok(true);
        }
        if self.must_scrub() || is_asked && state.must_scrub && self.can_scrub() {
            self.scrub()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether far more is stored than is pending.
    fn must_compact(&self) -> bool {
        if self.compacting.is_some() {
            return true;
        }
        let state = self.shared.state();
        let pending = || state.lanes.values().map(|lane| lane.marks.pending());
        let total: u64 = pending().sum();
        let most = pending().max().unwrap_or(0);
        let queue = &self.shared.queue;
        let is_short = queue.used() > queue.max_bytes() / 2;
        let is_much = state.stored > total.saturating_mul(2).saturating_add(10_000)
            || is_short && state.stored > most.saturating_add(most / 4);
        let has_changed = self.compacted_at.is_none_or(|(stored, then)| {
            let least = (stored / 16).max(1);
            state.stored >= stored + least || total + least <= then
        });
        is_much && has_changed
    }

    fn compact(&mut self) -> Outcome<()> {
        let after = self.compacting.unwrap_or(0);
        let (mut through, mut is_all) = (after, true);
        self.attempt(
            &mut [&mut |tx: &mut Tx<'_>| {
                (through, is_all) = tx.compact(after)?;
                Ok(())
            }],
            &Drafts::default(),
        )?;
        self.measure()?;
        if is_all {
            self.compacting = None;
            let state = self.shared.state();
            let pending = state.lanes.values().map(|lane| lane.marks.pending());
            self.compacted_at = Some((state.stored, pending.sum()));
        } else {
            self.compacting = Some(through);
        }
        Ok(())
    }

    fn is_round(&self) -> bool {
        self.expired_at.is_none_or(|at| at.elapsed() >= ROUND)
    }

    /// Forgets dead letters that are too old.
    fn expire(&mut self) -> Outcome<()> {
        self.expired_at = Some(Instant::now());
        let mut total = 0;
        loop {
            let mut gone = 0;
            self.attempt(
                &mut [&mut |tx: &mut Tx<'_>| {
                    gone = tx.expire()?;
                    Ok(())
                }],
                &Drafts::default(),
            )?;
            total += gone;
            if gone == 0 {
                break;
            }
        }
        if total > 0 {
            tracing::info!(dead_letters = total, "dead letters were too old: forgotten");
            self.measure()?;
        }
        Ok(())
    }
}

/// Tells whoever may not wait any more.
fn tell_kept(drafts: &mut Drafts, first: Seq) {
    for (seq, draft) in (first..).zip(drafts.iter_mut()) {
        if let Some(kept) = draft.kept.take() {
            kept.tell(seq);
        }
    }
}

/// What finds no room is done later.
fn unless_full(done: Outcome<()>) -> Outcome<()> {
    match done {
        Err(failure) if failure.kind == ErrorKind::Full => {
            warn(Err(failure));
            Ok(())
        }
        done => done,
    }
}

fn warn(done: Outcome<()>) {
    if let Err(failure) = done {
        tracing::warn!("the store {}", failure.message);
    }
}

/// What a transaction has changed.
struct Done {
    first: Seq,
    state: State,
    /// Whom to erase next.
    due: Vec<Forgotten>,
    crowded_out: u64,
    erasures: Vec<Erasure>,
    has_erased: bool,
    scrubs: bool,
    recent: Vec<Arc<super::state::Recent>>,
    forgets_recent: bool,
    on_erased: Option<OnErased>,
    has_more_to_trim: bool,
}

fn work(
    conn: &Connection,
    settings: &Settings,
    shared: &Shared,
    base: Arc<State>,
    steps: &mut [Step<'_>],
    drafts: &Drafts,
) -> Outcome<Done> {
    let mut tx = Tx::new(conn, settings, &shared.hasher, base);
    for step in steps {
        step(&mut tx)?;
    }
    // What is freed is used again at once.
    let has_more_to_trim = tx.trim()?;
    let first = if drafts.is_empty() {
        tx.state.last
    } else {
        tx.append(drafts)?
    };
    tx.shrink()?;
    let due = tx.take_due()?;
    tx.flush()?;
    Ok(Done {
        first,
        state: tx.state,
        due,
        crowded_out: tx.crowded_out,
        erasures: tx.erasures,
        has_erased: tx.has_erased,
        scrubs: tx.scrubs,
        recent: tx.recent,
        forgets_recent: tx.forgets_recent,
        on_erased: tx.on_erased,
        has_more_to_trim,
    })
}

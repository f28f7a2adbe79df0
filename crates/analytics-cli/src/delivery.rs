//! The way of a file: lines are read, accepted by the engine, and carried to
//! every integration.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use analytics_kit::{
    Configuration, Engine, Error, ErrorKind, Handler, Policies, Storage,
    engine::{Receipt, Store},
    spec::handler,
};
use futures::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    events::{Line, Source},
    exit::Failure,
    ledger::{Ledger, Totals, Unsettled},
    lines::Lines,
    output::Console,
    pauses,
    problem::Problem,
    progress,
    stop::Stop,
    storage::{self, Keeping},
};

/// How many lines are read ahead of the engine.
const READ_AHEAD: usize = 16;

/// How many lines, and bytes of them, are on their way into a durable store at
/// a time: it writes together what comes together.
const MAX_UNDER_WAY: usize = 1000;
const MAX_BYTES_UNDER_WAY: u64 = 8 * 1024 * 1024;

/// What is on its way into the store when the command is stopped has so long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a delivery ended.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) totals: Totals,
    /// What is not settled.
    pub(crate) unsettled: Unsettled,
    /// Whether that is kept for the next run.
    pub(crate) is_durable: bool,
    /// What is kept for integrations that this run did not have: how many
    /// events.
    pub(crate) detached: BTreeMap<String, u64>,
    /// Why the end of the file was not reached.
    pub(crate) ended_early: Option<EndedEarly>,
}

#[derive(Debug)]
pub(crate) enum EndedEarly {
    /// The command was asked to stop; this line was the first that was not
    /// read, if the reading was not done.
    Stopped { at_line: Option<u64> },
    /// The file could not be read on, after this line.
    Unreadable { after_line: u64, error: io::Error },
    /// The store did not take some lines.
    NotAccepted(NotAccepted),
}

/// Lines that the store did not take.
#[derive(Debug)]
pub(crate) struct NotAccepted {
    /// Which they are: lines after them may have been taken.
    pub(crate) lines: Lines,
    /// Those that were still on their way at the end: whether the store took
    /// them is not known.
    pub(crate) unknown: Lines,
    /// The first that was not read, if the reading was not done.
    pub(crate) unread_from: Option<u64>,
    /// What it said of the first.
    pub(crate) error: Error,
}

impl EndedEarly {
    /// Whether what was accepted may still be delivered: a store without room
    /// gets some by that.
    fn goes_on(&self) -> bool {
        match self {
            Self::Stopped { .. } => false,
            Self::Unreadable { .. } => true,
            Self::NotAccepted(lines) => lines.error.kind() == ErrorKind::Full,
        }
    }
}

impl Summary {
    /// Whether everything was valid, and is delivered or unsupported; or was
    /// erased with its user.
    pub(crate) fn is_all_well(&self) -> bool {
        self.ended_early.is_none()
            && self.totals.invalid == 0
            && (self.totals.integrations.values()).all(|tally| {
                tally.failed == 0
                    && tally.earlier.failed == 0
                    && tally.not_sent == 0
                    && tally.kept == 0
            })
    }

    /// How much waits for the next run.
    pub(crate) fn kept(&self) -> u64 {
        let tallies = self.totals.integrations.values();
        tallies.map(|tally| tally.kept).sum()
    }

    /// Counts what the store keeps.
    async fn look(&mut self, storage: &Storage) -> Result<(), Failure> {
        let status = storage::inspect(storage).await?.status().await;
        for lane in status.map_err(|error| Failure::failed(error.message()))? {
            if let Some(tally) = self.totals.integrations.get_mut(&*lane.integration) {
                tally.kept = lane.pending;
            } else if lane.pending > 0 {
                self.detached.insert(lane.integration, lane.pending);
            }
        }
        Ok(())
    }
}

/// What is to be delivered, and how.
pub(crate) struct Plan<'a> {
    pub(crate) configuration: &'a Configuration,
    /// They win over the integrations' own.
    pub(crate) policies: Policies,
    pub(crate) keeping: Keeping,
    pub(crate) stop: Stop,
    /// Told at once what was wrong.
    pub(crate) on_problem: Box<dyn Fn(Problem) + Send + Sync>,
    /// Told of every line and its receipt, as soon as it is accepted.
    pub(crate) on_accepted: OnAccepted<'a>,
    /// Somebody waits for it.
    pub(crate) watch: Option<Watch<'a>>,
}

pub(crate) type OnAccepted<'a> = Box<dyn FnMut(u64, &Receipt) -> Result<(), Failure> + 'a>;

/// How somebody waits for a delivery.
pub(crate) struct Watch<'a> {
    pub(crate) console: &'a Console,
    /// No longer than this, if no vendor answers.
    pub(crate) give_up_after: Duration,
    /// No longer than this.
    pub(crate) timeout: Option<Duration>,
}

/// Carries every line to its end, and what the store has from earlier runs.
pub(crate) async fn carry(plan: Plan<'_>, source: Option<Source>) -> Result<Summary, Failure> {
    let (store, is_durable) = (plan.keeping.store(), plan.keeping.is_durable());
    let integrations = plan.configuration.integrations();
    let ledger = Arc::new(Ledger::new(integrations, store.last(), plan.on_problem));
    let engine = engine(plan.configuration, &plan.policies, store, &ledger).await?;
    let bytes = source.as_ref().and_then(|source| source.bytes);
    let console = plan.watch.as_ref().map(|watch| watch.console);
    let carrier = Carrier {
        engine: &engine,
        ledger: &ledger,
        stop: &plan.stop,
        is_durable,
        on_accepted: plan.on_accepted,
    };
    // What is accepted into a directory is worth going on for, though nobody
    // answers.
    let accepted = || if is_durable { ledger.read() } else { 0 };
    let carried = carrier.carry(source);
    let mut summary = match plan.watch {
        None => carried.await?,
        Some(watch) => tokio::select! {
            summary = carried => summary?,
            never = progress::show(watch.console, bytes, || ledger.totals()) => match never {},
            never = pauses::say(watch.console, &engine) => match never {},
            never = plan.stop.on_silence(watch.give_up_after, &engine, accepted, watch.console) => {
                match never {}
            }
            never = plan.stop.on_timeout(watch.timeout, watch.console) => match never {},
        },
    };
    if let Keeping::Disk(storage, _) = &plan.keeping {
        match (summary.look(storage).await, &summary.ended_early) {
            // A disk that is full may not even let itself be looked at: what is
            // known already is worth more.
            (Err(failure), Some(EndedEarly::NotAccepted(_))) => {
                if let Some(console) = console {
                    let why = failure.message;
                    console.note(format_args!("what is kept cannot be counted: {why}"));
                }
            }
            (looked, _) => looked?,
        }
    }
    Ok(summary)
}

/// An engine for these integrations that tells the ledger.
async fn engine(
    configuration: &Configuration,
    policies: &Policies,
    store: Arc<dyn Store>,
    ledger: &Arc<Ledger>,
) -> Result<Engine, Failure> {
    let ledger = Arc::clone(ledger);
    let mut builder = Engine::builder()
        .store(store)
        // Whoever has no patience says so: `--give-up-after`.
        .room_within(Duration::MAX)
        .on_settled(move |settled| ledger.settled(settled));
    for integration in configuration.integrations() {
        let config = handler::Config::new(Arc::clone(integration)).policies(policies.clone());
        let handler = Handler::new(config).map_err(|error| Failure::configuration(&error))?;
        builder = builder.handler(handler);
    }
    builder
        .build()
        .await
        .map_err(|error| Failure::configuration(&error))
}

/// What carries lines.
struct Carrier<'a> {
    engine: &'a Engine,
    ledger: &'a Ledger,
    stop: &'a Stop,
    is_durable: bool,
    on_accepted: OnAccepted<'a>,
}

/// An event may need so many requests, each with a time-out of its own.
const REQUESTS_AT_MOST: u32 = 8;

impl Carrier<'_> {
    /// How long what is in flight may take.
    fn longest_delivery(&self) -> Duration {
        let timeouts = (self.engine.handlers())
            .map(|handler| handler.policies().resolve().single_attempt_timeout);
        let longest = timeouts.max().unwrap_or_default();
        longest.saturating_mul(REQUESTS_AT_MOST)
    }

    async fn carry(mut self, source: Option<Source>) -> Result<Summary, Failure> {
        let accepted = match source {
            Some(source) => self.accept(source).await,
            None => Ok(None),
        };
        let mut ended_early = match accepted {
            Ok(ended_early) => ended_early,
            Err(failure) => {
                // What was accepted is not lost for it, if it is kept.
                let _ = self.engine.halt(LAST_WORDS).await;
                return Err(failure);
            }
        };
        let mut is_done = false;
        if ended_early.as_ref().is_none_or(EndedEarly::goes_on) {
            tokio::select! {
                flushed = self.engine.flush(Duration::MAX) => is_done = flushed.is_ok(),
                () = self.stop.requested() => {
                    ended_early.get_or_insert(EndedEarly::Stopped { at_line: None });
                }
            }
        }
        // What is in flight ends by its time-out; nothing else is left to wait
        // for, unless the store cannot be written. The ledger knows what is
        // left, and on which lines it stands.
        let _ = self.engine.halt(self.longest_delivery() + LAST_WORDS).await;
        let mut unsettled = self.ledger.close();
        let mut totals = self.ledger.totals();
        if is_done {
            // Of what was erased before a lane had read it, nobody hears.
            std::mem::take(&mut unsettled).count(|name, events| {
                let tally = totals.integrations.entry(Arc::clone(name));
                tally.or_default().erased += events;
            });
        } else if !self.is_durable {
            unsettled.count(|name, events| {
                let tally = totals.integrations.entry(Arc::clone(name));
                tally.or_default().not_sent += events;
            });
        }
        Ok(Summary {
            totals,
            unsettled,
            is_durable: self.is_durable,
            detached: BTreeMap::new(),
            ended_early,
        })
    }

    /// Hands the lines to the engine, in their order, as fast as it has room.
    async fn accept(&mut self, source: Source) -> Result<Option<EndedEarly>, Failure> {
        // Without a disk to wait for, it is one at a time.
        let max_under_way = if self.is_durable { MAX_UNDER_WAY } else { 1 };
        let mut lines = read_ahead(source);
        let mut under_way = FuturesOrdered::new();
        let mut window = Window::default();
        let mut next = 1;
        let mut end = None;
        let mut is_stopped = false;
        let mut missed: Option<NotAccepted> = None;
        while !is_stopped && missed.is_none() && (end.is_none() || !under_way.is_empty()) {
            let has_room = window.lines.len() < max_under_way && window.bytes < MAX_BYTES_UNDER_WAY;
            tokio::select! {
                biased;
                () = self.stop.requested() => is_stopped = true,
                // Before the next line: there may always be one.
                Some(accepted) = under_way.next(), if !under_way.is_empty() => {
                    self.account(&mut window, accepted, &mut missed)?;
                }
                line = lines.recv(), if end.is_none() && has_room => match line {
                    None => end = Some(None),
                    Some(Err(error)) => {
                        end = Some(Some(EndedEarly::Unreadable { after_line: next - 1, error }));
                    }
                    Some(Ok(Line { number, bytes, input })) => {
                        next = number + 1;
                        match input {
                            Err(violations) => self.ledger.invalid(number, bytes, &violations),
                            Ok(input) => {
                                window.enter(number, bytes);
                                under_way.push_back(self.engine.enqueue(input));
                            }
                        }
                    }
                },
            }
        }
        if !is_stopped && missed.is_none() {
            return Ok(end.flatten());
        }
        // Who waits for room in memory is not accepted. What is on its way to
        // a disk may be.
        if self.is_durable {
            let deadline = Instant::now() + LAST_WORDS;
            while let Ok(Some(accepted)) = timeout_at(deadline, under_way.next()).await {
                self.account(&mut window, accepted, &mut missed)?;
            }
        }
        if let Some(mut missed) = missed {
            for (line, _) in window.lines {
                missed.unknown.push(line);
            }
            missed.unread_from = end.is_none().then_some(next);
            return Ok(Some(EndedEarly::NotAccepted(missed)));
        }
        let at_line = match (window.lines.front(), end) {
            (Some((first, _)), _) => Some(*first),
            (None, Some(None)) => None,
            (None, _) => Some(next),
        };
        Ok(Some(EndedEarly::Stopped { at_line }))
    }

    /// The first line that was on its way into the store is in there, or was
    /// not taken.
    fn account(
        &mut self,
        window: &mut Window,
        accepted: Result<Receipt, Error>,
        missed: &mut Option<NotAccepted>,
    ) -> Result<(), Failure> {
        let Some((line, bytes)) = window.leave() else {
            return Ok(());
        };
        match accepted {
            Ok(receipt) => {
                (self.on_accepted)(line, &receipt)?;
                self.ledger.accepted(line, bytes, &receipt);
            }
            Err(error) => {
                let missed = missed.get_or_insert(NotAccepted {
                    lines: Lines::default(),
                    unknown: Lines::default(),
                    unread_from: None,
                    error,
                });
                missed.lines.push(line);
            }
        }
        Ok(())
    }
}

/// The lines that are on their way into the store.
#[derive(Debug, Default)]
struct Window {
    /// Their numbers, and the bytes of the file that end with each.
    lines: VecDeque<(u64, u64)>,
    /// How many bytes of the file they are.
    bytes: u64,
    /// Those that ended with the last line that left.
    left: u64,
}

impl Window {
    fn enter(&mut self, line: u64, bytes: u64) {
        self.lines.push_back((line, bytes));
        self.bytes = bytes.saturating_sub(self.left);
    }

    fn leave(&mut self) -> Option<(u64, u64)> {
        let (line, bytes) = self.lines.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes.saturating_sub(self.left));
        self.left = bytes;
        Some((line, bytes))
    }
}

/// Reads on a thread of its own: reading blocks, and on standard input it may
/// do so for ever.
pub(crate) fn read_ahead(source: Source) -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for line in source.lines() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                break;
            }
        }
    });
    receiver
}

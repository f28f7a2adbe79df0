//! The way of a file through Temporal: its events travel in batches, one after
//! the other for each integration, so that a person's events keep their order.
//!
//! A batch's workflow id is made of its events' message ids. So the same file
//! sent again finds its batches, and sends only what failed in them: what is
//! left of a batch is a batch of its own, which the next run finds as well.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    sync::Arc,
    time::Duration,
};

use analytics_kit::{
    AnyInput, Error, ErrorKind, Integration, Timestamp,
    spec::BatchInput,
    temporal::{Client, Connection, Started},
};
use futures::future::join_all;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::Plan;
use crate::{
    delivery::{EndedEarly, NotAccepted, Summary, read_ahead},
    events::{Line, Source},
    exit::Failure,
    ledger::{Tally, Totals, Unsettled},
    lines::Lines,
    output::Out,
    problem::{Place, Problem},
    progress,
    progress::grouped,
    stop::silence,
};

/// How many events, and bytes of their JSON, one batch has; an event that is
/// larger has one for itself.
const MAX_EVENTS: usize = 500;
const MAX_BYTES: usize = 512 * 1024;

/// How often it is looked why nothing comes of a batch, and whether the server
/// answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many batches are read ahead of the slowest integration.
const READ_AHEAD: usize = 2;

/// How long an event waits for others, where events come as they happen: a file
/// makes the same batches however slowly it is read.
const LINGER: Duration = Duration::from_secs(1);

/// After how long a server that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Lines that travel together.
#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u64>,
    inputs: Vec<AnyInput>,
    bytes: usize,
}

impl Chunk {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.lines.is_empty()
            || (self.lines.len() < MAX_EVENTS && self.bytes.saturating_add(bytes) <= MAX_BYTES)
    }

    fn batch(&self, places: &[usize]) -> BatchInput {
        let inputs = places.iter().filter_map(|place| self.inputs.get(*place));
        BatchInput::new(inputs.cloned())
    }

    fn line(&self, place: usize) -> u64 {
        self.lines.get(place).copied().unwrap_or_default()
    }
}

/// What of a chunk is not settled at an integration.
#[derive(Debug, Default)]
struct Open {
    places: Vec<usize>,
    /// The workflow that has them.
    workflow_id: Option<String>,
}

/// How an integration's batches ended.
#[derive(Default)]
struct Lane {
    name: Arc<str>,
    /// Up to this line, everything is settled, on its way, or in `not_sent`.
    through: u64,
    not_sent: Vec<u64>,
}

/// A receipt as `--receipts` prints it.
#[derive(Serialize)]
struct Begun<'a> {
    line: u64,
    message_id: &'a str,
    integration: &'a str,
    workflow_id: &'a str,
}

/// Carries every line to its end.
pub(crate) async fn carry(plan: Plan<'_>, source: Source) -> Result<Summary, Failure> {
    let connection = plan.server.connect().await?;
    look_for_a_worker(&connection, &plan).await;
    let carrier = Carrier::new(&plan, &connection);
    let bytes = source.bytes;
    tokio::select! {
        summary = carrier.carry(source) => summary,
        never = progress::show(plan.console, bytes, || carrier.progress()) => match never {},
        never = carrier.give_up() => match never {},
        never = carrier.watch(&connection) => match never {},
    }
}

async fn look_for_a_worker(connection: &Connection, plan: &Plan<'_>) {
    if let Ok(false) = connection.has_worker().await {
        plan.console.note(format_args!(
            "no worker polls the task queue {}: events wait until `analytics worker` runs",
            connection.task_queue()
        ));
    }
}

struct Carrier<'a> {
    plan: &'a Plan<'a>,
    client: Client,
    totals: RefCell<Totals>,
    /// How many integrations wait for a batch.
    waiting: Cell<usize>,
    /// Grows when a batch has started or ended.
    moved: Cell<u64>,
    /// Whether it is said that the server does not answer.
    complained: Cell<bool>,
    /// Why no batch can be started any more.
    broken: RefCell<Option<Error>>,
    /// The chunks that an integration may still have before it.
    recent: RefCell<VecDeque<Arc<Chunk>>>,
}

impl<'a> Carrier<'a> {
    fn new(plan: &'a Plan<'a>, connection: &Connection) -> Self {
        let tallies = plan.integrations.iter();
        let tallies = tallies.map(|one| (one.name().into(), Tally::default()));
        Self {
            plan,
            client: Client::new(connection),
            totals: RefCell::new(Totals {
                integrations: tallies.collect(),
                ..Totals::default()
            }),
            waiting: Cell::new(0),
            moved: Cell::new(0),
            complained: Cell::new(false),
            broken: RefCell::new(None),
            recent: RefCell::new(VecDeque::new()),
        }
    }

    async fn carry(&self, source: Source) -> Result<Summary, Failure> {
        let mut senders = Vec::new();
        let mut lanes = Vec::new();
        for integration in self.plan.integrations {
            let (sender, chunks) = mpsc::channel(READ_AHEAD);
            senders.push(sender);
            lanes.push(self.lane(integration.as_ref(), chunks));
        }
        let (read, lanes) = tokio::join!(self.read(source, senders), join_all(lanes));
        let ended_early = read?;
        let lanes = lanes.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(self.summary(ended_early, &lanes))
    }

    /// Reads the lines, and hands them to every integration.
    async fn read(
        &self,
        source: Source,
        lanes: Vec<mpsc::Sender<Arc<Chunk>>>,
    ) -> Result<Option<EndedEarly>, Failure> {
        let lingers = source.bytes.is_none();
        let mut lines = read_ahead(source);
        let mut chunk = Chunk::default();
        let mut due = None;
        let mut next = 1;
        let mut end: Option<io::Error> = None;
        loop {
            let line = tokio::select! {
                biased;
                () = self.plan.stop.requested() => {
                    self.remember(chunk);
                    return Ok(Some(EndedEarly::Stopped { at_line: Some(next) }));
                }
                line = lines.recv() => line,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    self.hand_over(std::mem::take(&mut chunk), &lanes).await;
                    continue;
                }
            };
            let Line {
                number,
                bytes,
                input,
            } = match line {
                None => break,
                Some(Ok(line)) => line,
                Some(Err(error)) => {
                    end = Some(error);
                    break;
                }
            };
            next = number + 1;
            {
                let mut totals = self.totals.borrow_mut();
                totals.read += 1;
                totals.bytes = bytes;
                totals.invalid += u64::from(input.is_err());
            }
            match input {
                Err(violations) => (self.plan.on_problem)(Problem::invalid(number, &violations)),
                Ok(input) => {
                    let (input, bytes) = stamped(input, Timestamp::now());
                    if !chunk.has_room_for(bytes) {
                        self.hand_over(std::mem::take(&mut chunk), &lanes).await;
                    }
                    if lingers && chunk.lines.is_empty() {
                        due = Some(Instant::now() + LINGER);
                    }
                    chunk.lines.push(number);
                    chunk.inputs.push(input);
                    chunk.bytes += bytes;
                }
            }
        }
        self.hand_over(chunk, &lanes).await;
        Ok(end.map(|error| EndedEarly::Unreadable {
            after_line: next - 1,
            error,
        }))
    }

    async fn hand_over(&self, chunk: Chunk, lanes: &[mpsc::Sender<Arc<Chunk>>]) {
        let Some(chunk) = self.remember(chunk) else {
            return;
        };
        for lane in lanes {
            tokio::select! {
                biased;
                () = self.plan.stop.requested() => return,
                // One that has ended takes nothing more.
                _ = lane.send(Arc::clone(&chunk)) => {}
            }
        }
    }

    /// What is not sent is named: so much is not settled at most.
    fn remember(&self, chunk: Chunk) -> Option<Arc<Chunk>> {
        if chunk.lines.is_empty() {
            return None;
        }
        let chunk = Arc::new(chunk);
        let mut recent = self.recent.borrow_mut();
        recent.push_back(Arc::clone(&chunk));
        // Those that wait, the one on its way, the one being handed over, and
        // the one being read.
        if recent.len() > READ_AHEAD + 3 {
            recent.pop_front();
        }
        Some(chunk)
    }

    /// Carries an integration's batches, one after the other.
    async fn lane(
        &self,
        integration: &dyn Integration,
        mut chunks: mpsc::Receiver<Arc<Chunk>>,
    ) -> Result<Lane, Failure> {
        let mut lane = Lane {
            name: integration.name().into(),
            ..Lane::default()
        };
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.plan.stop.requested() => break,
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => chunk,
                    None => break,
                },
            };
            let open = RefCell::new(Open {
                places: (0..chunk.lines.len()).collect(),
                workflow_id: None,
            });
            self.waiting.set(self.waiting.get() + 1);
            let ended = tokio::select! {
                biased;
                ended = self.batch(&lane.name, &chunk, &open) => ended?,
                () = self.plan.stop.requested() => Ok(()),
            };
            self.waiting.set(self.waiting.get() - 1);
            if let Err(error) = ended {
                self.broken.borrow_mut().get_or_insert(error);
                self.plan.stop.ask();
            }
            self.leave(&mut lane, &chunk, &open.into_inner());
            lane.through = chunk.lines.last().copied().unwrap_or_default();
        }
        Ok(lane)
    }

    /// Accounts for what of a chunk is left open.
    fn leave(&self, lane: &mut Lane, chunk: &Chunk, open: &Open) {
        if open.places.is_empty() {
            return;
        }
        match &open.workflow_id {
            Some(workflow_id) => {
                let events = u64::try_from(open.places.len()).unwrap_or(u64::MAX);
                self.tally(&lane.name, |tally| tally.kept += events);
                self.plan.console.note(format_args!(
                    "{}: {} on their way in {workflow_id}",
                    lane.name,
                    grouped(events)
                ));
            }
            None => {
                let lines = open.places.iter().map(|place| chunk.line(*place));
                lane.not_sent.extend(lines);
            }
        }
    }

    /// Carries a chunk to its end at an integration: what is delivered already
    /// is not sent again.
    async fn batch(
        &self,
        name: &Arc<str>,
        chunk: &Chunk,
        open: &RefCell<Open>,
    ) -> Result<Result<(), Error>, Failure> {
        let mut is_first = true;
        let mut restart = false;
        loop {
            let places = open.borrow().places.clone();
            let batch = chunk.batch(&places);
            let started = if restart {
                self.client.restart_batch(name, batch).await
            } else {
                self.client.start_batch(name, batch).await
            };
            let started = match started {
                Ok(started) => started,
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    self.pause(&error).await;
                    continue;
                }
                Err(error) if is_about_the_server(&error) => return Ok(Err(error)),
                // Too large for a workflow.
                Err(error) => {
                    for place in std::mem::take(&mut open.borrow_mut().places) {
                        self.settle(name, chunk.line(place), Some(&error), true);
                    }
                    return Ok(Ok(()));
                }
            };
            self.has_moved();
            open.borrow_mut().workflow_id = Some(started.workflow_id().to_owned());
            if let Some(out) = self.plan.receipts.filter(|_| is_first) {
                let mut out = out.borrow_mut();
                receipts(&mut out, name, chunk, started.workflow_id())?;
            }
            is_first = false;
            let output = loop {
                let result = tokio::select! {
                    result = started.result() => result,
                    never = self.explain(name, &started) => match never {},
                };
                match result {
                    Err(error) if error.kind() == ErrorKind::Unavailable => {
                        self.pause(&error).await;
                    }
                    output => break output,
                }
            };
            self.has_moved();
            let outcomes = match output {
                Ok(output) => output.outcomes,
                Err(error) if is_about_the_server(&error) => return Ok(Err(error)),
                Err(error) => {
                    for place in std::mem::take(&mut open.borrow_mut().places) {
                        self.settle(name, chunk.line(place), Some(&error), started.is_new());
                    }
                    return Ok(Ok(()));
                }
            };
            let is_final = started.is_new() || restart;
            let mut left = Vec::new();
            let mut outcomes = outcomes.into_iter();
            for place in &places {
                let error = match outcomes.next() {
                    Some(outcome) => outcome.to_error(),
                    None => Some(Error::new(ErrorKind::Internal, "the batch has no outcome")),
                };
                let is_permanent = |error: &Error| error.kind() == ErrorKind::Unsupported;
                if is_final || error.as_ref().is_none_or(is_permanent) {
                    let line = chunk.line(*place);
                    self.settle(name, line, error.as_ref(), started.is_new());
                } else {
                    left.push(*place);
                }
            }
            restart = left.len() == places.len();
            let is_done = left.is_empty();
            *open.borrow_mut() = Open {
                places: left,
                workflow_id: None,
            };
            if is_done {
                return Ok(Ok(()));
            }
        }
    }

    /// Says why nothing comes of a batch, and says it again if it is another
    /// reason.
    async fn explain<T>(&self, name: &str, started: &Started<T>) -> Infallible {
        let mut said = String::new();
        loop {
            tokio::time::sleep(PATIENCE).await;
            if let Ok(Some(waits_for)) = started.waits_for().await {
                let why = waits_for.to_string();
                if said != why {
                    self.plan.console.note(format_args!("{name}: {why}"));
                }
                said = why;
            }
        }
    }

    /// An event came to its end at an integration: by this run, or by an
    /// earlier one.
    fn settle(&self, name: &Arc<str>, line: u64, error: Option<&Error>, is_new: bool) {
        self.tally(name, |tally| match (error, is_new) {
            (Some(error), _) if error.kind() == ErrorKind::Unsupported => tally.unsupported += 1,
            (None, true) => tally.delivered += 1,
            (None, false) => tally.earlier.delivered += 1,
            (Some(_), true) => tally.failed += 1,
            (Some(_), false) => tally.earlier.failed += 1,
        });
        if let Some(error) = error.filter(|error| error.kind() != ErrorKind::Unsupported) {
            (self.plan.on_problem)(Problem::new(Place::Line(line), name, error, 1));
        }
    }

    fn tally(&self, name: &Arc<str>, change: impl FnOnce(&mut Tally)) {
        let mut totals = self.totals.borrow_mut();
        change(totals.integrations.entry(Arc::clone(name)).or_default());
    }

    fn has_moved(&self) {
        self.moved.set(self.moved.get() + 1);
        self.complained.set(false);
    }

    async fn pause(&self, error: &Error) {
        if !self.complained.replace(true) {
            self.plan
                .console
                .note(format_args!("{error}; it is asked again"));
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// Says that the server does not answer, sooner than what it is asked for is
    /// over.
    async fn watch(&self, connection: &Connection) -> Infallible {
        loop {
            tokio::time::sleep(PATIENCE).await;
            if !connection.answers().await && !self.complained.replace(true) {
                self.plan.console.note(format_args!(
                    "Temporal at {} does not answer; it is asked again",
                    connection.address()
                ));
            }
        }
    }

    async fn give_up(&self) -> Infallible {
        let look = async || Some((self.waiting.get() > 0, self.moved.get()));
        silence(self.plan.give_up_after, look).await;
        self.plan
            .console
            .note("giving up: no batch has ended for too long (--give-up-after)");
        self.plan.stop.ask();
        std::future::pending().await
    }

    /// What a progress bar shows: that an earlier run did something is as good.
    fn progress(&self) -> Totals {
        let mut totals = self.totals.borrow().clone();
        for tally in totals.integrations.values_mut() {
            let earlier = std::mem::take(&mut tally.earlier);
            tally.delivered += earlier.delivered;
            tally.failed += earlier.failed;
        }
        totals
    }

    fn summary(&self, ended_early: Option<EndedEarly>, lanes: &[Lane]) -> Summary {
        let recent = self.recent.borrow();
        let mut unsettled = Unsettled::default();
        for lane in lanes {
            let of_others = recent.iter().flat_map(|chunk| &chunk.lines);
            let of_others = of_others.filter(|line| **line > lane.through);
            let mut lines: Vec<_> = lane.not_sent.iter().chain(of_others).collect();
            lines.sort_unstable();
            let events = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            self.tally(&lane.name, |tally| tally.not_sent += events);
            let named = lines
                .into_iter()
                .map(|line| (*line, Arc::clone(&lane.name)));
            unsettled.lines.extend(named);
        }
        unsettled.lines.sort();
        let totals = self.totals.borrow().clone();
        let kept = totals.integrations.values().any(|tally| tally.kept > 0);
        let unread_from = match &ended_early {
            Some(EndedEarly::Stopped { at_line }) => *at_line,
            _ => None,
        };
        let mut lines = Lines::default();
        let mut last = None;
        for (line, _) in &unsettled.lines {
            // One that several integrations lack is one line.
            if last.replace(*line) != Some(*line) {
                lines.push(*line);
            }
        }
        let ended_early = match self.broken.take() {
            Some(error) if !lines.is_empty() => Some(EndedEarly::NotAccepted(NotAccepted {
                lines,
                unknown: Lines::default(),
                unread_from,
                error,
            })),
            None if lines.is_empty() && !kept => ended_early,
            // The file was read, and not everything came to its end.
            _ => ended_early.or(Some(EndedEarly::Stopped { at_line: None })),
        };
        Summary {
            totals,
            unsettled,
            is_durable: false,
            detached: BTreeMap::new(),
            ended_early,
        }
    }
}

/// An input as it is sent, and its bytes without what this run adds: the same
/// file makes the same batches, also of events without a time.
fn stamped(mut input: AnyInput, now: Timestamp) -> (AnyInput, usize) {
    let bytes = serde_json::to_vec(&input).map_or(0, |json| json.len());
    input.stamp(now);
    (input, bytes)
}

/// A line for each event that a workflow has.
fn receipts(
    out: &mut Out,
    integration: &str,
    chunk: &Chunk,
    workflow_id: &str,
) -> Result<(), Failure> {
    for (line, input) in chunk.lines.iter().zip(&chunk.inputs) {
        let receipt = Begun {
            line: *line,
            message_id: input.message_id(),
            integration,
            workflow_id,
        };
        // Numbers and text can always be written.
        out.line(serde_json::to_string(&receipt).unwrap_or_default())?;
    }
    out.flush()
}

/// Whether the server refuses whatever is asked: not this batch, nor this
/// event.
fn is_about_the_server(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Configuration | ErrorKind::Unauthorized
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_run_makes_no_other_batches() {
        let input = AnyInput::from_json(
            br#"{"context":{"message_id":"m"},"track":{"user_id":"u","event":"e"}}"#,
        );
        let input = input.unwrap();
        let bytes = |nanos| {
            let now = Timestamp::new(1_700_000_000, nanos).unwrap();
            let (input, bytes) = stamped(input.clone(), now);
            assert_eq!(input.context.timestamp, Some(now));
            bytes
        };
        assert_eq!(bytes(0), bytes(123_456_789));
    }
}

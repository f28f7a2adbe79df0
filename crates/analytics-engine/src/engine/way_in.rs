//! The way of events into the store: checked, mapped, brought, and told of when
//! they have arrived.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use analytics_spec::{
    AnyInput, Error, ErrorKind, Handler, Kind, Prepared, ValidationError, Violation,
};
use pin_project_lite::pin_project;
use smallvec::SmallVec;
use tokio::sync::{futures::Notified, oneshot};

use super::{Engine, Receipt, closed};
use crate::{
    gate::Ticket,
    metrics,
    settled::{Observer, Settled},
    store::{Accepted, Appending, Held, Loaded, OnKept, Seq},
};

/// What integrations will send of an event.
type Ready = SmallVec<[(Arc<str>, Prepared); 1]>;

pub(super) type Receipts = SmallVec<[Receipt; 1]>;

impl Engine {
    /// Brings events on their way into the store; `located` says which of them
    /// an error is about.
    pub(super) fn bring(
        &self,
        inputs: impl IntoIterator<Item = Box<AnyInput>>,
        patience: Duration,
        located: impl Fn(usize, Error) -> Error,
    ) -> Coming<'_> {
        let coming = self.begin(inputs, patience, located);
        coming.unwrap_or_else(|error| {
            self.refused(&error);
            Coming::arrived(Err(error))
        })
    }

    /// Counts calls that end with an error.
    fn refused(&self, error: &Error) {
        metrics::refused(error);
        if error.kind() == ErrorKind::Full {
            self.no_room.found(self.clock.now());
        }
    }

    fn begin(
        &self,
        inputs: impl IntoIterator<Item = Box<AnyInput>>,
        patience: Duration,
        located: impl Fn(usize, Error) -> Error,
    ) -> Result<Coming<'_>, Error> {
        let sealed = self.gate.sealed();
        let mut entry = self.enter()?;
        let mut refusals = Refusals::new(self);
        let mut refused = Vec::new();
        let mut receipts = Receipts::new();
        let inputs = inputs.into_iter();
        let mut kept = Vec::with_capacity(inputs.size_hint().0);
        let mut kinds = SmallVec::new();
        for (place, mut input) in inputs.enumerate() {
            let (mut receipt, prepared) = self
                .accept(&mut input)
                .map_err(|error| located(place, error))?;
            let is_kept = self.is_kept(&input, &receipt);
            // Whoever has it mapped needs nothing else of it, as a rule.
            let is_seen = self.is_shown
                || input.policies.is_some()
                || !receipt.refused.is_empty()
                || prepared.len() < receipt.queued.len();
            let input = Held::new(input, is_seen);
            if !receipt.refused.is_empty()
                && let Some(input) = input.shared()
            {
                refused.push((place, Arc::clone(input)));
            }
            if is_kept {
                // Which place it has is known when the store has it.
                receipt.seq = Some(0);
                kinds.push(input.kind());
                let mut accepted = accepted(input, prepared, &receipt);
                accepted.kept = refusals.watch(place, &accepted.input, &mut receipt);
                kept.push(accepted);
            }
            receipts.push(receipt);
        }
        // A store that is done at once, or never says so, need not be asked.
        if self.store.is_durable()
            && let Some(last) = kept.last_mut()
        {
            last.kept = Some(OnKept::leaving(last.kept.take(), entry.ticket()));
        }
        let appending = (!kept.is_empty()).then(|| self.store.append(kept, patience));
        let arrival = Arrival {
            entry,
            receipts,
            kinds,
            refusals,
            refused,
        };
        match appending {
            None => arrival.finish(None).map(Ok).map(Coming::arrived),
            Some(Appending::Done(Some(appended))) => {
                let arrived = arrival.finish(Some(appended?));
                arrived.map(Ok).map(Coming::arrived)
            }
            Some(appending) => Ok(Coming::Underway {
                arrival: Some(arrival),
                appending,
                sealed,
            }),
        }
    }

    fn enter(&self) -> Result<Entry<'_>, Error> {
        self.gate.enter();
        let entry = Entry {
            engine: self,
            ticket: None,
        };
        if self.gate.is_closed() {
            return Err(closed());
        }
        Ok(entry)
    }

    /// Whether there is anything for the store to keep: also of whom everybody
    /// refuses a durable one keeps the dead letters, and whoever is deleted is
    /// forgotten here as well.
    fn is_kept(&self, input: &AnyInput, receipt: &Receipt) -> bool {
        !receipt.queued.is_empty()
            || input.kind() == Kind::Delete
            || (self.store.is_durable() && !receipt.refused.is_empty())
    }

    /// Completes, stamps and validates; who is to get the event, and what they
    /// will send of it.
    fn accept(&self, input: &mut AnyInput) -> Result<(Receipt, Ready), Error> {
        if let Some(context) = &self.context {
            input.context.inherit(context);
        }
        input.stamp(self.clock.now());
        input.validate()?;
        let mut receipt = Receipt {
            message_id: input.message_id().to_owned(),
            seq: None,
            queued: Arc::clone(&self.names),
            unsupported: Vec::new(),
            refused: Vec::new(),
        };
        let mut ready = Ready::new();
        for lane in &self.lanes {
            let name = &lane.name;
            if !lane.handler.integration().supports().contains(input.kind()) {
                receipt.unsupported.push(Arc::clone(name));
                continue;
            }
            match lane.prepare(input) {
                Ok(prepared) => ready.extend(prepared.map(|one| (Arc::clone(name), one))),
                // The engine ended meanwhile: it is not the event's fault.
                Err(_) if self.gate.is_sealed() => return Err(closed()),
                Err(error) => receipt.refused.push((Arc::clone(name), error)),
            }
        }
        if !receipt.unsupported.is_empty() || !receipt.refused.is_empty() {
            let is_left_out = |name: &Arc<str>| {
                receipt.unsupported.contains(name)
                    || receipt.refused.iter().any(|(refused, _)| refused == name)
            };
            let queued = self.names.iter().filter(|name| !is_left_out(name));
            receipt.queued = queued.map(Arc::clone).collect();
        }
        Ok((receipt, ready))
    }

    /// Tells everybody which integrations refused an accepted event.
    fn refuse(&self, input: &AnyInput, receipt: &Receipt) {
        for (name, error) in &receipt.refused {
            if let Some(lane) = self.lanes.iter().find(|lane| lane.name == *name) {
                refuse(&self.observer, &lane.handler, input, receipt.seq, error);
            }
        }
    }
}

/// Somebody on the way in, until this is dropped or the store says that it has
/// everything: nobody may poll who waits for that.
struct Entry<'a> {
    engine: &'a Engine,
    /// What the store has of it.
    ticket: Option<Ticket>,
}

impl Entry<'_> {
    fn ticket(&mut self) -> Ticket {
        let new = || Ticket::new(&self.engine.gate);
        self.ticket.get_or_insert_with(new).clone()
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        match &self.ticket {
            Some(ticket) => ticket.leave(),
            None => self.engine.gate.leave(),
        }
    }
}

/// An event as the store takes it.
#[inline]
fn accepted(input: Held, ready: Ready, receipt: &Receipt) -> Accepted {
    let loaded = match input.shared() {
        Some(input) => Loaded::new(Arc::clone(input)),
        None => Loaded::without_input(&input),
    };
    let reasons = receipt.refused.iter();
    Accepted {
        input,
        loaded: Arc::new(loaded.with_prepared(ready)),
        lanes: Arc::clone(&receipt.queued),
        refused: reasons
            .map(|(name, error)| (Arc::clone(name), error.into()))
            .collect(),
        kept: None,
    }
}

pin_project! {
    /// Events that are on their way into the store, or there already. Written
    /// out, for it takes a sixth of the room that the compiler would give it,
    /// and there is one for each event that somebody waits for.
    #[project = ComingNow]
    pub(super) enum Coming<'a> {
        Arrived {
            receipts: Option<Result<Receipts, Error>>,
        },
        Underway {
            arrival: Option<Arrival<'a>>,
            appending: Appending<'a>,
            #[pin]
            sealed: Notified<'a>,
        },
    }
}

impl Coming<'_> {
    fn arrived(receipts: Result<Receipts, Error>) -> Self {
        Self::Arrived {
            receipts: Some(receipts),
        }
    }
}

/// Asked again when it is done, it never is again.
impl Future for Coming<'_> {
    type Output = Result<Receipts, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (arrival, appending, sealed) = match self.project() {
            ComingNow::Arrived { receipts } => {
                return receipts.take().map_or(Poll::Pending, Poll::Ready);
            }
            ComingNow::Underway {
                arrival,
                appending,
                sealed,
            } => (arrival, appending, sealed),
        };
        if arrival.is_none() {
            return Poll::Pending;
        }
        let appended = match Pin::new(appending).poll(cx) {
            Poll::Ready(appended) => Some(appended),
            Poll::Pending => {
                ready!(sealed.poll(cx));
                None
            }
        };
        let Some(arrival) = arrival.take() else {
            return Poll::Pending;
        };
        let engine = arrival.entry.engine;
        let arrived = match appended {
            Some(appended) => appended.and_then(|first| arrival.finish(Some(first))),
            None => Err(overtaken(&arrival.receipts)),
        };
        Poll::Ready(arrived.inspect_err(|error| engine.refused(error)))
    }
}

/// What is to be done when events have arrived.
pub(super) struct Arrival<'a> {
    entry: Entry<'a>,
    receipts: Receipts,
    /// Of those that the store keeps.
    kinds: SmallVec<[Kind; 1]>,
    refusals: Refusals<'a>,
    refused: Vec<(usize, Arc<AnyInput>)>,
}

impl Arrival<'_> {
    /// The events are in the store, from this place on: the lanes will find
    /// them, unless they have ended.
    fn finish(self, first: Option<Seq>) -> Result<Receipts, Error> {
        let Self {
            entry,
            mut receipts,
            kinds,
            refusals,
            refused,
        } = self;
        let engine = entry.engine;
        for kind in kinds {
            engine.metrics.count(kind);
        }
        let mut last = None;
        if let Some(first) = first {
            let places = receipts.iter_mut().filter_map(|one| one.seq.as_mut());
            for (place, seq) in places.zip(first..) {
                *place = seq;
                last = Some(seq);
            }
        }
        refusals.give_back(&mut receipts);
        for receipt in &receipts {
            for lane in &engine.lanes {
                if receipt.queued.contains(&lane.name) {
                    lane.signals.ahead.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        if let Some(last) = last {
            for lane in &engine.lanes {
                lane.signals.accepted(last);
            }
        }
        for (place, input) in &refused {
            if let Some(receipt) = receipts.get(*place) {
                engine.refuse(input, receipt);
            }
        }
        // What a durable store has is accepted, whoever delivers it.
        if last.is_some() && engine.gate.is_sealed() && !engine.store.is_durable() {
            return Err(overtaken(&receipts));
        }
        Ok(receipts)
    }
}

/// Tells everybody that an integration refused an accepted event.
fn refuse(
    observer: &Observer,
    handler: &Handler,
    input: &AnyInput,
    seq: Option<Seq>,
    error: &Error,
) {
    let name = handler.name();
    // By this target, who tells of it in another way can leave it out.
    tracing::warn!(
        target: "analytics_engine::refused",
        integration = %name,
        kind = %input.kind(),
        message_id = input.message_id(),
        error = %error.kind(),
        "an integration refused an event"
    );
    metrics::failed(name, error);
    let settled = Settled {
        integration: name,
        seq,
        input,
        attempts: 0,
        outcome: Err(error),
    };
    observer.report(handler, &settled);
}

/// What integrations refused of events on their way into the store. Should
/// nobody wait for them any more, the store may keep them all the same: then it
/// is reported when it says so.
struct Refusals<'a> {
    engine: &'a Engine,
    refused: Vec<Refused>,
}

/// Who refused an event.
struct Refused {
    /// Among those that are on the way together.
    place: usize,
    input: Arc<AnyInput>,
    by: Vec<(Arc<str>, Error)>,
    kept: oneshot::Receiver<Seq>,
}

impl<'a> Refusals<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            refused: Vec::new(),
        }
    }

    /// Whom the store is to tell of an event, if anybody refused it. Until the
    /// store has answered, this has what the receipt says of it.
    fn watch(&mut self, place: usize, input: &Held, receipt: &mut Receipt) -> Option<OnKept> {
        if receipt.refused.is_empty() {
            return None;
        }
        let input = input.shared()?;
        let (told, kept) = OnKept::new();
        self.refused.push(Refused {
            place,
            input: Arc::clone(input),
            by: std::mem::take(&mut receipt.refused),
            kept,
        });
        Some(told)
    }

    /// The store has the events, and somebody waits for them.
    fn give_back(mut self, receipts: &mut [Receipt]) {
        for refused in self.refused.drain(..) {
            if let Some(receipt) = receipts.get_mut(refused.place) {
                receipt.refused = refused.by;
            }
        }
    }
}

impl Drop for Refusals<'_> {
    fn drop(&mut self) {
        for refused in self.refused.drain(..) {
            let Refused {
                input, by, kept, ..
            } = refused;
            let lane = |name| self.engine.lanes.iter().find(|lane| lane.name == name);
            let by = by.into_iter();
            let by = by.filter_map(|(name, error)| Some((lane(name)?.handler.clone(), error)));
            let by: Vec<_> = by.collect();
            let observer = self.engine.observer.clone();
            self.engine.runtime.spawn(async move {
                if let Ok(seq) = kept.await {
                    for (handler, error) in &by {
                        refuse(&observer, handler, &input, Some(seq), error);
                    }
                }
            });
        }
    }
}

/// The engine ended while events were on their way into the store.
fn overtaken(receipts: &[Receipt]) -> Error {
    let id = receipts.first().map_or("", |one| one.message_id.as_str());
    let which = match receipts.len() {
        0 | 1 => format!("the event {id}"),
        many => format!("the {many} events from {id} on"),
    };
    Error::new(
        ErrorKind::Closed,
        format!("the engine was closed meanwhile: {which} may have been accepted"),
    )
}

/// What is wrong with one of several events.
pub(super) fn at(place: usize, error: Error) -> Error {
    let Some(violations) = error.violations() else {
        return error;
    };
    let violations = violations.violations().iter().map(|violation| {
        let path = format!("[{place}].{}", violation.path);
        Violation::new(path, violation.code, violation.message.clone())
    });
    match ValidationError::check(violations.collect()) {
        Err(placed) => placed.into(),
        Ok(()) => error,
    }
}

/// The receipt of a single event.
pub(super) fn one(receipts: Result<Receipts, Error>) -> Result<Receipt, Error> {
    receipts?
        .pop()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "an event without a receipt"))
}

//! Several events at once: one outcome each, in order, nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use analytics_spec::{AnyInput, Attempt, Error, ErrorKind, Kind, Timestamp};

use super::Base;
use crate::conformance::{
    Configuration, fixtures,
    places::{leaves, text},
    report::Check,
    trial::{NAME, Outcome, Run, Trial, accepting, brief},
    wire::{Reply, Sent},
};

/// People in a mixed batch, and in one of a single kind.
const PEOPLE: usize = 3;
const MANY: usize = 7;

/// Events of several people, and how to find them in requests.
struct Crowd<'r> {
    run: &'r Run<'r>,
    configuration: &'r Configuration,
    inputs: Vec<AnyInput>,
    owners: Arc<Owners>,
    /// How many requests each event takes alone.
    alone: Vec<usize>,
}

/// Which event a text in a request gives away.
#[derive(Default)]
struct Owners(HashMap<String, usize>);

impl Owners {
    /// The events that a request carries, in its order.
    fn carried(&self, sent: &Sent) -> Vec<usize> {
        let mut carried = Vec::new();
        let body = leaves(&sent.body())
            .into_iter()
            .map(|leaf| text(&leaf.value));
        let others = sent.tokens().into_iter();
        for owner in body.chain(others).filter_map(|token| self.0.get(&token)) {
            if !carried.contains(owner) {
                carried.push(*owner);
            }
        }
        carried
    }

    fn is_known(&self, event: usize) -> bool {
        self.0.values().any(|owner| *owner == event)
    }
}

/// The input as another event of another person, distinct in ids and texts.
fn varied(input: &AnyInput, person: usize, serial: usize) -> Option<AnyInput> {
    let id = |text: &str| Some(format!("p{person}-{text}"));
    let free = |text: &str| is_plain(text).then(|| format!("{text} {serial}"));
    let mut input = fixtures::renamed(input, id, free)?;
    input.context.message_id = Some(format!("019c9d2a-6f40-7c31-b0a5-{serial:012x}"));
    Some(input)
}

/// A text that no vendor reads anything into.
fn is_plain(text: &str) -> bool {
    text.len() > 3
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || " -_".contains(c))
        && text.parse::<Timestamp>().is_err()
}

impl<'r> Crowd<'r> {
    async fn new(
        run: &'r Run<'r>,
        configuration: &'r Configuration,
        bases: &[&Base],
        people: usize,
    ) -> Option<Self> {
        let mut inputs = Vec::new();
        for base in bases {
            for person in 0..people {
                inputs.push(varied(&base.input, person, inputs.len() + 1)?);
            }
        }
        let mut tokens: Vec<BTreeSet<String>> = Vec::new();
        let mut alone = Vec::new();
        for input in &inputs {
            let trial = run.trial(configuration, NAME, Duration::ZERO, accepting())?;
            let outcome = trial.attempt(input).await;
            if !run.expect(
                outcome.is_ok() && trial.accepts(input),
                Check::Batch,
                input.kind(),
                "the fixture is also delivered for other people",
                || brief(&outcome),
            ) {
                return None;
            }
            let sent = trial.wire.sent();
            tokens.push(sent.iter().flat_map(Sent::tokens).collect());
            alone.push(sent.len());
        }
        let mut owners: HashMap<String, Option<usize>> = HashMap::new();
        for (index, tokens) in tokens.into_iter().enumerate() {
            for token in tokens {
                owners
                    .entry(token)
                    .and_modify(|owner| *owner = None)
                    .or_insert(Some(index));
            }
        }
        let owners = owners
            .into_iter()
            .filter_map(|(token, owner)| Some((token, owner?)))
            .collect();
        Some(Self {
            run,
            configuration,
            inputs,
            owners: Arc::new(Owners(owners)),
            alone,
        })
    }

    fn trial(&self, plan: crate::conformance::wire::Plan) -> Option<Trial<'r>> {
        self.run
            .trial(self.configuration, NAME, Duration::ZERO, plan)
    }

    async fn deliver(&self, trial: &Trial<'_>) -> Option<Vec<Outcome>> {
        let attempts: Vec<_> = self.inputs.iter().map(|i| trial.first_attempt(i)).collect();
        trial.batch(&attempts).await
    }

    fn kind(&self, event: usize) -> Option<Kind> {
        self.inputs.get(event).map(AnyInput::kind)
    }

    /// Each event was accepted in as many requests as it takes, except those
    /// that failed.
    fn accepted_once(&self, check: Check, sent: &[Sent], failed: &[usize]) {
        let mut counts = vec![0; self.inputs.len()];
        for sent in sent.iter().filter(|sent| sent.accepted) {
            for event in self.owners.carried(sent) {
                if let Some(count) = counts.get_mut(event) {
                    *count += 1;
                }
            }
        }
        for (event, (count, alone)) in counts.iter().zip(&self.alone).enumerate() {
            if failed.contains(&event) || !self.owners.is_known(event) {
                continue;
            }
            self.run.expect(
                count == alone,
                check,
                self.kind(event),
                "each event accepted in as many requests as when it is alone",
                || format!("{count} requests instead of {alone}"),
            );
        }
    }

    /// Whether two events belong to one person.
    fn share(&self, one: usize, other: usize) -> bool {
        let people = |event: usize| {
            let input = self.inputs.get(event);
            input.into_iter().flat_map(|input| input.event.people())
        };
        people(one).any(|person| people(other).any(|p| p == person))
    }
}

/// The kinds of the first configuration.
fn first<'r, 'b>(
    run: &'r Run<'_>,
    bases: &'b [Base],
) -> Option<(&'r Configuration, Vec<&'b Base>)> {
    let configuration = run.suite.configurations.first()?;
    let bases: Vec<_> = bases
        .iter()
        .filter(|base| configuration.supports().contains(base.kind))
        .collect();
    (!bases.is_empty()).then_some((configuration, bases))
}

/// A mixed batch of all kinds and several people, all of it accepted.
pub(crate) async fn outcomes(run: &Run<'_>, bases: &[Base]) {
    let Some((configuration, bases)) = first(run, bases) else {
        return;
    };
    let Some(crowd) = Crowd::new(run, configuration, &bases, PEOPLE).await else {
        return;
    };
    let Some(trial) = crowd.trial(accepting()) else {
        return;
    };
    let Some(outcomes) = crowd.deliver(&trial).await else {
        return;
    };
    for (event, outcome) in outcomes.iter().enumerate() {
        run.expect(
            outcome.is_ok(),
            Check::Batch,
            crowd.kind(event),
            "every event of a batch is delivered when the vendor accepts it",
            || brief(outcome),
        );
    }
    crowd.accepted_once(Check::Batch, &trial.wire.sent(), &[]);
    run.expect(
        trial
            .batch(&[])
            .await
            .is_none_or(|outcomes| outcomes.is_empty()),
        Check::Batch,
        None,
        "nothing for an empty batch",
        || "an outcome".to_owned(),
    );
}

/// 413 for whatever carries several events, and for one event always.
pub(crate) async fn splits(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let Some(configuration) = run.suite.configuration_of(base.kind) else {
            continue;
        };
        let Some(crowd) = Crowd::new(run, configuration, &[base], MANY).await else {
            continue;
        };
        let owners = Arc::clone(&crowd.owners);
        let trial = crowd.trial(Box::new(move |sent, _| {
            if owners.carried(sent).len() > 1 {
                Reply::status(413)
            } else {
                Reply::Accept
            }
        }));
        if let Some(trial) = trial {
            split(&crowd, &trial, &[]).await;
        }
    }
    let Some((configuration, bases)) = first(run, bases) else {
        return;
    };
    let Some(crowd) = Crowd::new(run, configuration, &bases, PEOPLE).await else {
        return;
    };
    let known: Vec<_> = (0..crowd.inputs.len())
        .filter(|event| crowd.owners.is_known(*event))
        .collect();
    let mut poisons: Vec<_> = known.first().into_iter().chain(known.last()).collect();
    poisons.extend(known.get(known.len() / 2));
    for poison in poisons.into_iter().copied() {
        let owners = Arc::clone(&crowd.owners);
        let trial = crowd.trial(Box::new(move |sent, _| {
            if owners.carried(sent).contains(&poison) {
                Reply::status(413)
            } else {
                Reply::Accept
            }
        }));
        if let Some(trial) = trial {
            split(&crowd, &trial, &[poison]).await;
        }
    }
}

/// Everything is delivered but the poisoned, in requests that shrink.
async fn split(crowd: &Crowd<'_>, trial: &Trial<'_>, poisoned: &[usize]) {
    let Some(outcomes) = crowd.deliver(trial).await else {
        return;
    };
    for (event, outcome) in outcomes.iter().enumerate() {
        let is_poisoned = poisoned.contains(&event);
        let fits = match outcome {
            Ok(_) => !is_poisoned,
            Err(error) => {
                is_poisoned && error.kind() == ErrorKind::TooLarge && !error.is_retryable()
            }
        };
        let expected = if is_poisoned {
            "TooLarge and permanent, for the event that is too large alone"
        } else {
            "delivered, after a 413 that was about the request or another event"
        };
        crowd
            .run
            .expect(fits, Check::Splits, crowd.kind(event), expected, || {
                brief(outcome)
            });
    }
    let sent = trial.wire.sent();
    crowd.accepted_once(Check::Splits, &sent, poisoned);
    // The bytes of the smallest request in which an event was refused. Not all
    // that a request carries can be told, so that its events cannot be counted.
    let mut refused: HashMap<usize, usize> = HashMap::new();
    for sent in &sent {
        let carried = crowd.owners.carried(sent);
        let bytes = sent.request.body.len();
        // Once what is too large has been found, the others need not go on in
        // small requests.
        let is_about = |event| poisoned.is_empty() || poisoned.contains(event);
        let about_it = carried.iter().any(is_about);
        for event in &carried {
            let before = refused.get(event).copied().unwrap_or(usize::MAX);
            crowd.run.expect(
                !about_it || bytes < before,
                Check::Splits,
                crowd.kind(*event),
                "a smaller request after a 413",
                || format!("{bytes} bytes, after {before} had been refused"),
            );
            if sent.accepted {
                // Its next step is another matter.
                refused.remove(event);
            } else {
                refused.insert(*event, bytes);
            }
        }
    }
}

/// The vendor refuses one item of a request and takes the others.
pub(crate) async fn partial(run: &Run<'_>, bases: &[Base]) {
    let Some(refuses) = &run.suite.refuses_item else {
        return;
    };
    let mut was_asked = false;
    for base in bases {
        let Some(configuration) = run.suite.configuration_of(base.kind) else {
            continue;
        };
        let Some(crowd) = Crowd::new(run, configuration, &[base], MANY).await else {
            continue;
        };
        for place in [Some(0), Some(2), None] {
            let victim: Arc<Mutex<Option<usize>>> = Arc::default();
            let (owners, refuses) = (Arc::clone(&crowd.owners), Arc::clone(refuses));
            let found = Arc::clone(&victim);
            let trial = crowd.trial(Box::new(move |sent, _| {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let carried = owners.carried(sent);
                // The first, one between, and the last.
                let place = place.unwrap_or_else(|| carried.len().saturating_sub(1));
                match (*found, carried.get(place), refuses(&sent.request, place)) {
                    (None, Some(event), Some(answer)) if carried.len() > 1 => {
                        *found = Some(*event);
                        Reply::Answer(answer)
                    }
                    _ => Reply::Accept,
                }
            }));
            let Some(trial) = trial else { continue };
            let Some(outcomes) = crowd.deliver(&trial).await else {
                continue;
            };
            let Some(victim) = *victim.lock().unwrap_or_else(PoisonError::into_inner) else {
                continue;
            };
            was_asked = true;
            for (event, outcome) in outcomes.iter().enumerate() {
                let fits = match outcome {
                    Ok(_) => event != victim,
                    Err(error) => event == victim && !error.is_retryable(),
                };
                let expected = if event == victim {
                    "permanent, for the event that the vendor refused"
                } else {
                    "delivered, for the vendor refused another event of the request"
                };
                run.expect(fits, Check::PartialRefusal, base.kind, expected, || {
                    brief(outcome)
                });
            }
            let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
            for event in trial
                .wire
                .sent()
                .iter()
                .flat_map(|s| crowd.owners.carried(s))
            {
                *counts.entry(event).or_default() += 1;
            }
            let is_again = |(event, count): (&usize, &usize)| {
                crowd.alone.get(*event).is_some_and(|alone| count > alone)
            };
            run.expect(
                !counts.iter().any(is_again),
                Check::PartialRefusal,
                base.kind,
                "nothing sent again after one event was refused for good",
                || format!("{counts:?}"),
            );
        }
    }
    run.expect(
        was_asked || bases.is_empty(),
        Check::Setup,
        None,
        "`refuses_item` answers a request that carries several events",
        || "`None` for all of them, or there is none".to_owned(),
    );
}

/// Each request of a mixed batch fails once. What it delayed is delivered by a
/// second attempt; each person's events arrive in order, and once.
pub(crate) async fn order(run: &Run<'_>, bases: &[Base]) {
    let Some((configuration, bases)) = first(run, bases) else {
        return;
    };
    let Some(crowd) = Crowd::new(run, configuration, &bases, PEOPLE).await else {
        return;
    };
    let Some(trial) = crowd.trial(accepting()) else {
        return;
    };
    if crowd.deliver(&trial).await.is_none() {
        return;
    }
    for nth in 0..trial.wire.count() {
        let plan = crate::conformance::trial::failing_once(nth, Reply::status(503));
        let Some(trial) = crowd.trial(plan) else {
            return;
        };
        let Some(outcomes) = crowd.deliver(&trial).await else {
            return;
        };
        let first_round = trial.wire.sent();
        blocked(&crowd, &outcomes, &first_round, nth);
        again(&crowd, &trial, &outcomes).await;
    }
}

/// After the first attempt: later events of a person who has to wait were not
/// sent, and nobody else had to wait.
fn blocked(crowd: &Crowd<'_>, outcomes: &[Outcome], sent: &[Sent], failed: usize) {
    let run = crowd.run;
    let in_failed: HashSet<usize> = sent
        .get(failed)
        .into_iter()
        .flat_map(|sent| crowd.owners.carried(sent))
        .collect();
    let after: HashSet<usize> = sent
        .iter()
        .skip(failed + 1)
        .flat_map(|sent| crowd.owners.carried(sent))
        .collect();
    for (event, outcome) in outcomes.iter().enumerate() {
        let kind = crowd.kind(event);
        let waits_for = (0..event).find(|earlier| {
            crowd.share(*earlier, event)
                && outcomes
                    .get(*earlier)
                    .is_some_and(|o| o.as_ref().is_err_and(Error::is_retryable))
        });
        let state = outcome.as_ref().err();
        let may_retry = state.is_some_and(Error::is_retryable);
        match waits_for {
            Some(_) => {
                run.expect(
                    may_retry && !after.contains(&event),
                    Check::Order,
                    kind,
                    "retryable and unsent, after an earlier event of the person failed for now",
                    || {
                        let unsent = if after.contains(&event) {
                            "sent"
                        } else {
                            "unsent"
                        };
                        format!("{}, {unsent}", brief(outcome))
                    },
                );
                run.expect(
                    !crowd.owners.is_known(event)
                        || in_failed.contains(&event)
                        || state.is_none_or(|e| e.kind() == ErrorKind::Deferred),
                    Check::Order,
                    kind,
                    "Deferred, for the attempt was not made",
                    || brief(outcome),
                );
            }
            None if crowd.owners.is_known(event) => {
                run.expect(
                    in_failed.contains(&event) == state.is_some()
                        && (state.is_none() || may_retry),
                    Check::Order,
                    kind,
                    "a retryable failure for what was in the failed request, and delivery otherwise",
                    || brief(outcome),
                );
            }
            None => {}
        }
    }
}

/// The second attempt, for what the first delayed.
async fn again(crowd: &Crowd<'_>, trial: &Trial<'_>, outcomes: &[Outcome]) {
    let run = crowd.run;
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    for (input, outcome) in crowd.inputs.iter().zip(outcomes) {
        if let Err(error) = outcome {
            attempts.push(Attempt {
                number: 2,
                progress: error.progress(),
                ..trial.first_attempt(input)
            });
        }
    }
    if attempts.is_empty() {
        return;
    }
    let Some(second) = trial.batch(&attempts).await else {
        return;
    };
    for (attempt, outcome) in attempts.iter().zip(&second) {
        run.expect(
            outcome.is_ok(),
            Check::Order,
            attempt.input.kind(),
            "delivered by the second attempt",
            || brief(outcome),
        );
    }
    let sent = trial.wire.sent();
    crowd.accepted_once(Check::Order, &sent, &[]);
    let mut places: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (place, sent) in sent.iter().filter(|sent| sent.accepted).enumerate() {
        for event in crowd.owners.carried(sent) {
            places
                .entry(event)
                .and_modify(|(_, last)| *last = place)
                .or_insert((place, place));
        }
    }
    for (event, (first, _)) in &places {
        for (earlier, (_, last)) in places.range(..event) {
            run.expect(
                !crowd.share(*earlier, *event) || last <= first,
                Check::Order,
                crowd.kind(*event),
                "one person's events accepted in the order in which they came",
                || {
                    let earlier = crowd.kind(*earlier).map_or("", Kind::as_str);
                    format!("an earlier {earlier} was accepted after it")
                },
            );
        }
    }
}

//! Several events at once: one outcome each, and nothing twice.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use analytics_spec::{Error, ErrorKind};

use super::{
    Base,
    answers::WORDS,
    crowd::{Crowd, MANY, PEOPLE, first},
};
use crate::{
    conformance::{
        report::Check,
        suite::{Refusing, RefusingItem},
        trial::{Run, Trial, accepting, brief},
        wire::Reply,
    },
    server::{Answer, Request},
};

/// Events of one kind and one person in a batch.
const ALIKE: usize = 3;

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

/// Events of one person that differ in little: none stands for another.
pub(crate) async fn repeats(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let Some(configuration) = run.suite.configuration_of(base.kind) else {
            continue;
        };
        let Some(crowd) = Crowd::repeating(run, configuration, base, 1, ALIKE).await else {
            continue;
        };
        let Some(trial) = crowd.trial(accepting()) else {
            continue;
        };
        let Some(outcomes) = crowd.deliver(&trial).await else {
            continue;
        };
        run.expect(
            outcomes.iter().all(Result::is_ok),
            Check::Batch,
            base.kind,
            format!("{ALIKE} events of one person, all delivered when the vendor accepts them"),
            || outcomes.iter().map(brief).collect::<Vec<_>>().join("; "),
        );
        crowd.accepted_once(Check::Batch, &trial.wire.sent(), &[]);
    }
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

/// Something is wrong with one event, and the vendor refuses every request that
/// carries it.
pub(crate) async fn bad_event(run: &Run<'_>, bases: &[Base]) {
    for base in bases {
        let Some(configuration) = run.suite.configuration_of(base.kind) else {
            continue;
        };
        let Some(crowd) = Crowd::new(run, configuration, &[base], MANY).await else {
            continue;
        };
        let Some(bad) = (MANY / 2..MANY).find(|event| crowd.owners.is_known(*event)) else {
            continue;
        };
        for status in [400, 422] {
            let errors = Arc::clone(&run.suite.errors);
            let mut sent = base.sent.iter();
            if !sent.any(|sent| run.suite.is_retried(&sent.request, status)) {
                let answer = move |_: &Request| Some(errors(status, WORDS));
                alone(&crowd, base, bad, Arc::new(answer), &status.to_string()).await;
            }
        }
        if let (Some(refusal), true) = (&run.suite.refusal, run.suite.takes_all_or_nothing) {
            let what = "2xx that says failure";
            alone(&crowd, base, bad, Arc::clone(refusal), what).await;
        }
    }
}

/// Of a request that is refused for one event, the others arrive.
async fn alone(crowd: &Crowd<'_>, base: &Base, bad: usize, refusal: Refusing, what: &str) {
    let owners = Arc::clone(&crowd.owners);
    let trial = crowd.trial(Box::new(move |sent, _| {
        let is_refused = owners.carried(sent).contains(&bad);
        match is_refused.then(|| refusal(&sent.request)).flatten() {
            Some(answer) => Reply::Answer(answer),
            None => Reply::Accept,
        }
    }));
    let Some(trial) = trial else { return };
    let Some(outcomes) = crowd.deliver(&trial).await else {
        return;
    };
    for (event, outcome) in outcomes.iter().enumerate() {
        // For now, nothing is lost.
        let is_kept = outcome.as_ref().map_or_else(Error::is_retryable, |_| true);
        crowd.run.expect(
            event == bad || is_kept,
            Check::BadEvent,
            base.kind,
            format!(
                "delivered: the {what} to {MANY} events in one request was about another one of \
                 them"
            ),
            || brief(outcome),
        );
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
        beyond(&crowd, base, refuses).await;
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

/// More events than any request has.
const BEYOND: usize = 1_000_000;

/// The vendor refuses an event that cannot be told from its answer: it is not known
/// which one has not arrived, so that not all have.
async fn beyond(crowd: &Crowd<'_>, base: &Base, refuses: &RefusingItem) {
    let refuses = Arc::clone(refuses);
    let was_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&was_asked);
    let trial = crowd.trial(Box::new(move |sent, _| {
        // Who answers for the events that there are, has none for this one.
        let answering = |index| {
            let answering = AssertUnwindSafe(|| refuses(&sent.request, index));
            catch_unwind(answering).ok().flatten()
        };
        // An answer that is the same for another one does not say which.
        let body = |answer: &Answer| answer.body.clone();
        let other = answering(BEYOND + 1).as_ref().map(body);
        match answering(BEYOND).filter(|answer| Some(body(answer)) != other) {
            Some(answer) => {
                asked.store(true, Ordering::Relaxed);
                Reply::Answer(answer)
            }
            None => Reply::Accept,
        }
    }));
    let Some(trial) = trial else { return };
    let Some(outcomes) = crowd.deliver(&trial).await else {
        return;
    };
    crowd.run.expect(
        !was_asked.load(Ordering::Relaxed) || outcomes.iter().any(Result::is_err),
        Check::PartialRefusal,
        base.kind,
        "not all delivered, where the vendor refuses an event that the request does not have: \
         then the whole request is refused, with `.split()`",
        || "all delivered".to_owned(),
    );
}

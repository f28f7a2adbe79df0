//! One person's events keep their order, whatever becomes of them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use analytics_spec::{Attempt, Error, ErrorKind, Kind};

use super::{
    Base,
    crowd::{Crowd, PEOPLE, first},
};
use crate::conformance::{
    report::Check,
    trial::{Outcome, Run, Trial, accepting, brief, failing_once},
    wire::{Reply, Sent},
};

/// Each request of a mixed batch fails once. What it delayed is delivered by a
/// second attempt; each person's events arrive in order, and once.
pub(crate) async fn kept(run: &Run<'_>, bases: &[Base]) {
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
        let plan = failing_once(nth, Reply::status(503));
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

/// The vendor takes a request but for one event, which is to be sent again: no
/// later one of that person may have been in it.
pub(crate) async fn in_part(run: &Run<'_>, bases: &[Base]) {
    let Some(delays) = &run.suite.delays_item else {
        return;
    };
    let mut was_asked = false;
    for base in bases {
        let Some(configuration) = run.suite.configuration_of(base.kind) else {
            continue;
        };
        let Some(crowd) = Crowd::repeating(run, configuration, base, 2, 2).await else {
            continue;
        };
        let delayed: Arc<Mutex<Vec<usize>>> = Arc::default();
        let (owners, delays) = (Arc::clone(&crowd.owners), Arc::clone(delays));
        let found = Arc::clone(&delayed);
        let trial = crowd.trial(Box::new(move |sent, _| {
            let carried = owners.carried(sent);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match delays(&sent.request, 0) {
                Some(answer) if found.is_empty() && carried.len() > 1 => {
                    *found = carried;
                    Reply::Answer(answer)
                }
                _ => Reply::Accept,
            }
        }));
        let Some(trial) = trial else { continue };
        let Some(outcomes) = crowd.deliver(&trial).await else {
            continue;
        };
        let carried = std::mem::take(&mut *delayed.lock().unwrap_or_else(PoisonError::into_inner));
        let Some((first, taken)) = carried.split_first() else {
            continue;
        };
        was_asked = true;
        let outcome = |event: usize| outcomes.get(event);
        run.expect(
            outcome(*first).is_some_and(|o| o.as_ref().is_err_and(Error::is_retryable)),
            Check::Order,
            base.kind,
            "retryable, for the event that the answer of `delays_item` leaves to be sent again",
            || outcome(*first).map(brief).unwrap_or_default(),
        );
        for event in taken {
            run.expect(
                !crowd.share(*first, *event),
                Check::Order,
                base.kind,
                "one event of a person in a request, for the vendor may take the later and leave \
                 the earlier: set `one_per_person` in the route's `limits`",
                || format!("a request with both, of {} events", carried.len()),
            );
            run.expect(
                outcome(*event).is_some_and(Result::is_ok),
                Check::Order,
                base.kind,
                "delivered, for the answer of `delays_item` is about another event",
                || outcome(*event).map(brief).unwrap_or_default(),
            );
        }
    }
    run.expect(
        was_asked || bases.is_empty(),
        Check::Setup,
        None,
        "`delays_item` answers a request that carries several events",
        || "`None` for all of them, or there is none: say `delays_no_item()`".to_owned(),
    );
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

//! The vendor's limits, wherever they are: found from outside, and tried on
//! both sides.

use std::iter::successors;

use analytics_spec::{AnyInput, Code, ErrorKind, Kind, Value};
use serde_json::{Map, json};

use super::Base;
use crate::conformance::{
    full::Full,
    report::Check,
    trial::{Run, Trial, accepting, brief},
};

/// An event that no vendor takes; where one does, it has no limit of its own.
const LARGEST_BYTES: usize = 2 << 20;
const USUAL_BYTES: usize = 128 << 10;
const MOST_ENTRIES: usize = 20_000;

/// The key of what is added.
const KEY: &str = "padding";

/// Who counts characters where the vendor counts bytes, counts these wrong.
pub(super) const PAIR: &str = "\u{1f409}a";

/// How an event grows.
#[derive(Clone, Copy)]
enum Growth {
    /// One text of so many pairs of characters, one of them of four bytes.
    Text,
    /// So many entries.
    Entries,
}

impl Growth {
    /// The input with so much more in its traits or properties.
    fn grown(self, input: &AnyInput, by: usize) -> Option<AnyInput> {
        let mut json = serde_json::to_value(input).ok()?;
        let event = json.get_mut(input.kind().as_str())?;
        let dictionaries = ["properties", "traits"];
        let dictionary = dictionaries.iter().find(|key| event.get(**key).is_some())?;
        let Some(Value::Object(entries)) = event.get_mut(*dictionary) else {
            return None;
        };
        let more: Map<String, Value> = match self {
            Self::Text => Map::from_iter([(KEY.to_owned(), json!(PAIR.repeat(by)))]),
            Self::Entries => (0..by)
                .map(|nth| (format!("{KEY}{nth}"), json!(1)))
                .collect(),
        };
        entries.extend(more);
        AnyInput::from_value(json).ok()
    }

    fn what(self, by: usize) -> String {
        match self {
            Self::Text => {
                let (characters, bytes) = (2 * by, PAIR.len() * by);
                format!("a text of {characters} characters, which are {bytes} bytes")
            }
            Self::Entries => format!("{by} more entries"),
        }
    }
}

pub(crate) async fn all(run: &Run<'_>, bases: &[Base]) {
    // To look for what is largest takes a while: it is done for one kind. Of the
    // others, a text of what is usual tells.
    let first = bases.iter().find(|base| base.kind == Kind::Track);
    let first = first.or(bases.first()).map(|base| base.kind);
    for base in bases {
        let tried: &[_] = if Some(base.kind) == first {
            &[
                (Growth::Text, LARGEST_BYTES / PAIR.len()),
                (Growth::Entries, MOST_ENTRIES),
            ]
        } else {
            &[(Growth::Text, USUAL_BYTES / PAIR.len())]
        };
        envelopes(run, base);
        for (growth, most) in tried.iter().copied() {
            let Some(trial) = run.trial_of(base.kind, accepting()) else {
                continue;
            };
            if let Some(most) = limit(&trial, base, growth, most) {
                both_sides(run, base, growth, most).await;
            }
        }
    }
}

/// A request that is full is not more than the vendor takes.
fn envelopes(run: &Run<'_>, base: &Base) {
    let configurations = run.suite.configurations.iter();
    let supporting = configurations.filter(|all| all.supports().contains(base.kind));
    let full = supporting.filter_map(|configuration| configuration.full.as_ref());
    for full in full.filter_map(|full| full(&base.input)).flatten() {
        run.expect(
            full.besides <= full.envelope_bytes,
            Check::Limits,
            base.kind,
            format!(
                "a full request on {} of at most {} bytes: besides the events and the commas, \
                 at most the {} that its limits name as `envelope_bytes`",
                full.route, full.max_bytes, full.envelope_bytes
            ),
            || {
                let Full {
                    bytes,
                    besides,
                    items,
                    ..
                } = full;
                format!("{besides} besides {items} events; {bytes} in all. Correct `limits`")
            },
        );
    }
}

/// The most that validation accepts, if it is less than what is tried.
fn limit(trial: &Trial<'_>, base: &Base, growth: Growth, most: usize) -> Option<usize> {
    let fits = |by| {
        let grown = growth.grown(&base.input, by);
        grown.is_some_and(|input| trial.accepts(&input))
    };
    largest(most, fits).filter(|most| *most > 0)
}

/// The largest number that fits, or 0; `None` if all do, as far as `most`.
pub(super) fn largest(most: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    // From below: limits are far smaller than what is tried at most.
    let mut doubled = successors(Some(1), |by| (*by < most).then(|| most.min(by * 2)));
    let mut too_much = doubled.find(|by| !fits(*by))?;
    let mut most = too_much / 2;
    while most + 1 < too_much {
        let middle = usize::midpoint(most, too_much);
        if fits(middle) {
            most = middle;
        } else {
            too_much = middle;
        }
    }
    Some(most)
}

async fn both_sides(run: &Run<'_>, base: &Base, growth: Growth, most: usize) {
    for (by, fits) in [(most, true), (most + 1, false)] {
        let Some(input) = growth.grown(&base.input, by) else {
            return;
        };
        let what = growth.what(by);
        let Some(trial) = run.trial_of(base.kind, accepting()) else {
            return;
        };
        let outcome = trial.send(&mut input.clone()).await;
        if fits {
            run.expect(
                outcome.is_ok(),
                Check::Limits,
                base.kind,
                format!("what validation just accepts is delivered: {what}"),
                || brief(&outcome),
            );
        } else {
            refused(run, base, &trial, &outcome, &what);
        }
        unstamped(run, base, input, &what).await;
    }
}

/// Refused as what it is, before anything is sent.
fn refused(
    run: &Run<'_>,
    base: &Base,
    trial: &Trial<'_>,
    outcome: &crate::conformance::trial::Outcome,
    what: &str,
) {
    let says_why = outcome.as_ref().is_err_and(|error| {
        let is_size = |code| matches!(code, Code::TooLarge | Code::TooLong | Code::OutOfRange);
        let violations = error.violations().map(|all| all.violations());
        error.kind() == ErrorKind::Validation
            && violations.is_some_and(|all| all.iter().any(|one| is_size(one.code)))
    });
    run.expect(
        says_why && trial.wire.count() == 0,
        Check::Limits,
        base.kind,
        format!("too_large or too_long, and no request, for one more than fits: {what}"),
        || format!("{}, {} requests", brief(outcome), trial.wire.count()),
    );
}

/// What is accepted before it has an id and a time, fits with them too.
async fn unstamped(run: &Run<'_>, base: &Base, mut input: AnyInput, what: &str) {
    input.context.message_id = None;
    input.context.timestamp = None;
    let Some(trial) = run.trial_of(base.kind, accepting()) else {
        return;
    };
    if !trial.accepts(&input) {
        return;
    }
    let outcome = trial.send(&mut input).await;
    run.expect(
        outcome.is_ok(),
        Check::Limits,
        base.kind,
        format!("what is accepted without a message id and a time, is with them: {what}"),
        || brief(&outcome),
    );
}

//! What the configurations that were given with `also` send.

use std::{collections::BTreeMap, time::Duration};

use analytics_spec::{Kind, Value};

use super::Base;
use crate::conformance::{
    configuration::Configuration,
    places::{Difference, differences},
    report::Check,
    snapshot,
    trial::{NAME, Run, accepting, brief, documents},
};

/// What a kind's fixture causes through another configuration than the first that
/// delivers it.
pub(crate) struct Other<'r> {
    configuration: &'r Configuration,
    pub(crate) base: Base,
}

/// Each kind is delivered through every configuration that supports it.
pub(crate) async fn delivered<'r>(run: &'r Run<'_>, bases: &[Base]) -> Vec<Other<'r>> {
    let mut others = Vec::new();
    for configuration in &run.suite.configurations {
        for base in bases {
            let kind = base.kind;
            let first = run.suite.configuration_of(kind);
            let is_first = first.is_some_and(|first| std::ptr::eq(first, configuration));
            if is_first || !configuration.supports().contains(kind) {
                continue;
            }
            let Some(trial) = run.trial(configuration, NAME, Duration::ZERO, accepting()) else {
                break;
            };
            let mut input = base.input.clone();
            let outcome = trial.send(&mut input).await;
            let sent = trial.wire.sent();
            let is_delivered = run.expect(
                outcome.is_ok(),
                Check::Delivers,
                kind,
                format!("the fixture is delivered by the {}", configuration.label()),
                || brief(&outcome),
            );
            if is_delivered {
                let documents = documents(&sent, &run.suite.volatile);
                let base = Base {
                    kind,
                    input,
                    sent,
                    documents,
                };
                others.push(Other {
                    configuration,
                    base,
                });
            }
        }
    }
    others
}

/// What differs from the first configuration's requests was reviewed, and is
/// something: a key that changes nothing is one that nobody looks at.
pub(crate) fn reviewed(run: &Run<'_>, bases: &[Base], others: &[Other<'_>]) {
    let mut found: BTreeMap<&str, BTreeMap<Kind, BTreeMap<String, Value>>> = BTreeMap::new();
    for Other {
        configuration,
        base,
    } in others
    {
        snapshot::names(run, base.kind, &base.input, &base.documents);
        let first = bases.iter().find(|first| first.kind == base.kind);
        let first = first.map_or_else(Vec::new, |first| first.documents.clone());
        let differences = differences(&first.into(), &base.documents.clone().into());
        if let (Some(name), false) = (&configuration.name, differences.is_empty()) {
            let places = differences.into_iter().map(place).collect();
            found.entry(name).or_default().insert(base.kind, places);
        }
    }
    snapshot::also(run, &found);
    let Some((first, rest)) = run.suite.configurations.split_first() else {
        return;
    };
    for configuration in rest {
        let name = configuration.name.as_deref().unwrap_or_default();
        let is_delivered = configuration.supports().iter().all(|kind| {
            let mut of = others.iter().filter(|other| other.base.kind == kind);
            of.any(|other| std::ptr::eq(other.configuration, configuration))
        });
        run.expect(
            !is_delivered
                || found.contains_key(name)
                || configuration.supports() != first.supports(),
            Check::Also,
            None,
            format!(
                "the {} supports other kinds than the first, or sends something else",
                configuration.label()
            ),
            || "the same kinds, and the same requests".to_owned(),
        );
    }
}

/// Where requests differ, and what the other configuration has there.
fn place(difference: Difference) -> (String, Value) {
    let pointer = difference.pointer.trim_start_matches('/').to_owned();
    let seen = difference.after.unwrap_or_else(|| "(not sent)".into());
    (pointer, seen)
}

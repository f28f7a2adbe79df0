//! Events of several people, and how to find them in requests.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use analytics_spec::{AnyInput, Kind, Timestamp};

use super::Base;
use crate::conformance::{
    configuration::Configuration,
    fixtures,
    places::{leaves, text},
    report::Check,
    trial::{NAME, Outcome, Run, Trial, accepting, brief},
    wire::{Plan, Sent},
};

/// People in a mixed batch, and in one of a single kind.
pub(crate) const PEOPLE: usize = 3;
pub(crate) const MANY: usize = 7;

/// Events of several people, and how to find them in requests.
pub(crate) struct Crowd<'r> {
    pub(crate) run: &'r Run<'r>,
    configuration: &'r Configuration,
    pub(crate) inputs: Vec<AnyInput>,
    pub(crate) owners: Arc<Owners>,
    /// In how many requests each event is found when it is alone.
    pub(crate) alone: Vec<usize>,
}

/// Which event a text in a request gives away.
#[derive(Default)]
pub(crate) struct Owners(HashMap<String, usize>);

impl Owners {
    /// The events that a request carries, in its order.
    pub(crate) fn carried(&self, sent: &Sent) -> Vec<usize> {
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

    pub(crate) fn is_known(&self, event: usize) -> bool {
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
    /// An event of each kind for each of several people.
    pub(crate) async fn new(
        run: &'r Run<'r>,
        configuration: &'r Configuration,
        bases: &[&Base],
        people: usize,
    ) -> Option<Self> {
        let each = bases
            .iter()
            .flat_map(|base| (0..people).map(move |person| (*base, person)));
        Self::of(run, configuration, each).await
    }

    /// Several events of one kind for each of several people.
    pub(crate) async fn repeating(
        run: &'r Run<'r>,
        configuration: &'r Configuration,
        base: &Base,
        people: usize,
        events: usize,
    ) -> Option<Self> {
        let each = (0..events).flat_map(|_| (0..people).map(move |person| (base, person)));
        Self::of(run, configuration, each).await
    }

    async fn of<'b>(
        run: &'r Run<'r>,
        configuration: &'r Configuration,
        each: impl Iterator<Item = (&'b Base, usize)>,
    ) -> Option<Self> {
        let mut inputs = Vec::new();
        for (base, person) in each {
            inputs.push(varied(&base.input, person, inputs.len() + 1)?);
        }
        let mut alone: Vec<Vec<Sent>> = Vec::new();
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
            alone.push(trial.wire.sent());
        }
        let mut owners: HashMap<String, Option<usize>> = HashMap::new();
        for (index, sent) in alone.iter().enumerate() {
            let tokens: BTreeSet<_> = sent.iter().flat_map(Sent::tokens).collect();
            for token in tokens {
                owners
                    .entry(token)
                    .and_modify(|owner| *owner = None)
                    .or_insert(Some(index));
            }
        }
        let owners = owners
            .into_iter()
            .filter_map(|(token, owner)| Some((token, owner?)));
        let owners = Owners(owners.collect());
        let count = |(event, sent): (usize, &Vec<Sent>)| {
            let carrying = sent
                .iter()
                .filter(|sent| owners.carried(sent).contains(&event));
            carrying.count()
        };
        let alone = alone.iter().enumerate().map(count).collect();
        Some(Self {
            run,
            configuration,
            inputs,
            owners: Arc::new(owners),
            alone,
        })
    }

    pub(crate) fn trial(&self, plan: Plan) -> Option<Trial<'r>> {
        self.run
            .trial(self.configuration, NAME, Duration::ZERO, plan)
    }

    pub(crate) async fn deliver(&self, trial: &Trial<'_>) -> Option<Vec<Outcome>> {
        let attempts: Vec<_> = self.inputs.iter().map(|i| trial.first_attempt(i)).collect();
        trial.batch(&attempts).await
    }

    pub(crate) fn kind(&self, event: usize) -> Option<Kind> {
        self.inputs.get(event).map(AnyInput::kind)
    }

    /// Each event was accepted in as many requests as it takes, except those
    /// that failed.
    pub(crate) fn accepted_once(&self, check: Check, sent: &[Sent], failed: &[usize]) {
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
    pub(crate) fn share(&self, one: usize, other: usize) -> bool {
        let people = |event: usize| {
            let input = self.inputs.get(event);
            input.into_iter().flat_map(|input| input.event.people())
        };
        people(one).any(|person| people(other).any(|p| p == person))
    }
}

/// The kinds of the first configuration.
pub(crate) fn first<'r, 'b>(
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

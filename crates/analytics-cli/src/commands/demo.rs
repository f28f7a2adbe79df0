//! `analytics demo`

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use analytics_kit::{Configuration, Integration, IntegrationExt as _, Kind, Policies, Storage};
use analytics_testkit::{Keep, vendors::Stage};
use clap::Args;

use crate::{
    Globals,
    delivery::{self, Plan, Summary},
    events::Source,
    exit::{Exit, Failure},
    output::Out,
    problem::Problem,
    scripted,
    stop::Stop,
    storage::Keeping,
    table,
};

const NAME: &str = "examples/events.jsonl";
const EVENTS: &str = include_str!("../../events.jsonl");

/// See it work: example events, sent to vendors that run inside the command
///
/// Needs no account, no configuration and no network. Accepted events are kept
/// in a temporary directory until they are delivered. What is shown as received
/// is what the vendors recorded.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep accepted events in memory, not in a directory
    #[arg(long)]
    in_memory: bool,
}

impl Demo {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let stages = start().await?;
        // What the environment holds belongs to real accounts.
        let configuration =
            Configuration::from_toml_with(&scripted::configuration(&stages), &|_| None)
                .map_err(|error| Failure::configuration(&error))?;
        // Removed when it is dropped.
        let dir = (!self.in_memory).then(tempfile::tempdir).transpose();
        let dir = dir.map_err(|error| {
            Failure::failed(format!(
                "no temporary directory can be made: {error}; try --in-memory"
            ))
        })?;
        let mut storage = Storage::default();
        storage.data_dir = dir.as_ref().map(|dir| dir.path().to_owned());
        let (summary, problems) = deliver(&configuration, storage).await?;
        drop(dir);
        let view = View {
            stages: &stages,
            integrations: configuration.integrations(),
            summary: &summary,
            problems: &problems,
        };
        let mut out = Out::new();
        view.print(&mut out)?;
        out.flush()?;
        let surprises = view.surprises();
        for surprise in &surprises {
            globals.console.note(surprise);
        }
        Ok(Exit::success_if(surprises.is_empty()))
    }
}

async fn start() -> Result<Vec<Stage>, Failure> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let stages = scripted::start(any_port, Keep::Everything)
        .await
        .map_err(|error| Failure::failed(error.to_string()))?;
    if stages.is_empty() {
        return Err(Failure::usage("no vendor is compiled in"));
    }
    Ok(stages)
}

/// Sends the events as `send` does.
async fn deliver(
    configuration: &Configuration,
    storage: Storage,
) -> Result<(Summary, Vec<Problem>), Failure> {
    let problems = Arc::new(Mutex::new(Vec::new()));
    let plan = Plan {
        configuration,
        policies: Policies::new(),
        keeping: Keeping::configured(storage).await?,
        stop: Stop::never(),
        on_problem: Box::new({
            let problems = Arc::clone(&problems);
            move |problem| {
                let mut problems = problems.lock().unwrap_or_else(PoisonError::into_inner);
                problems.push(problem);
            }
        }),
        on_accepted: Box::new(|_, _| Ok(())),
        watch: None,
    };
    let summary = delivery::carry(plan, Some(Source::text(NAME, EVENTS))).await?;
    let mut problems = problems.lock().unwrap_or_else(PoisonError::into_inner);
    let mut problems = std::mem::take(&mut *problems);
    problems.sort_by(|a, b| (&a.place, &a.integration).cmp(&(&b.place, &b.integration)));
    Ok((summary, problems))
}

/// What there is to show.
struct View<'a> {
    stages: &'a [Stage],
    integrations: &'a [Arc<dyn Integration>],
    summary: &'a Summary,
    problems: &'a [Problem],
}

impl View<'_> {
    fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let totals = &self.summary.totals;
        let count = self.stages.len();
        out.line(format_args!(
            "Sent {NAME}, {} events, to {count} scripted vendor{} on this machine.\n",
            totals.read,
            if count == 1 { "" } else { "s" }
        ))?;
        out.line("What they received, in their own words:\n")?;
        out.line(self.received())?;
        out.line("\nWhat was refused before anything was sent, and why:\n")?;
        out.line(self.refused())?;
        if self.surprises().is_empty() {
            out.line("\nEverything else arrived, and the vendors found nothing wrong with it.")?;
        }
        out.line("Next: `analytics sandbox`, or `analytics send` with an account of yours.")
    }

    /// A row for each vendor and kind: any number of vendors fits.
    fn received(&self) -> String {
        let mut table = table::new(["", "vendor", "received"]);
        table::keep_whole(&mut table, 2);
        let received: Vec<_> = self.stages.iter().map(Stage::in_words).collect();
        for kind in Kind::ALL {
            let mut label = kind.to_string();
            for (integration, items) in self.integrations.iter().zip(&received) {
                let of_kind = items.iter().filter(|item| item.0 == kind);
                let texts = if integration.supports().contains(kind) {
                    counted(of_kind.map(|item| item.1.as_str()))
                } else {
                    "not supported".to_owned()
                };
                let label = std::mem::take(&mut label);
                table.add_row([label.as_str(), integration.name(), texts.as_str()]);
            }
        }
        table::show(&table)
    }

    fn refused(&self) -> String {
        let mut table = table::new(["line", "for", "why"]);
        table::keep_whole(&mut table, 2);
        for problem in self.problems {
            table.add_row([
                problem.place.to_string(),
                problem.integration.clone().unwrap_or("all".to_owned()),
                problem.reasons.join("\n"),
            ]);
        }
        table::show(&table)
    }

    /// What did not happen as it should: an event that a vendor had to receive
    /// and did not, or something that it had to complain of.
    fn surprises(&self) -> Vec<String> {
        let mut surprises = Vec::new();
        for (stage, integration) in self.stages.iter().zip(self.integrations) {
            let name = stage.name;
            let received = stage.in_words();
            for (kind, expected) in expected(integration.as_ref()) {
                let items = received.iter().filter(|item| item.0 == kind).count();
                if items < expected {
                    surprises.push(format!(
                        "{name}: {expected} {kind} events sent, {items} received"
                    ));
                }
            }
            for violation in stage.violations() {
                surprises.push(format!("{name}: {}: {}", violation.rule, violation.reason));
            }
        }
        if self.summary.ended_early.is_some() || !self.summary.unsettled.is_empty() {
            surprises.push("not everything was sent".to_owned());
        }
        surprises
    }
}

/// How many events of each kind are right for an integration.
fn expected(integration: &dyn Integration) -> BTreeMap<Kind, usize> {
    let mut expected = BTreeMap::new();
    let lines = Source::text(NAME, EVENTS).lines();
    for mut input in lines.flatten().filter_map(|line| line.input.ok()) {
        input.stamp(analytics_kit::Timestamp::UNIX_EPOCH);
        if integration.check(&input).is_ok() {
            *expected.entry(input.kind()).or_default() += 1;
        }
    }
    expected
}

/// Each text once, with how often it came.
fn counted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let texts: Vec<_> = counts
        .into_iter()
        .map(|(text, count)| match count {
            1 => text.to_owned(),
            _ => format!("{text} ×{count}"),
        })
        .collect();
    texts.join(", ")
}

//! `analytics drain`

use std::{collections::BTreeMap, time::Duration};

use analytics_kit::Policies;
use clap::Args;
use serde::Serialize;

use crate::{
    Globals, configuration,
    delivery::{self, Plan, Summary, Watch},
    duration::duration,
    exit::{Exit, Failure},
    output::Out,
    progress::grouped,
    report,
    stop::Stop,
    storage::{self, DataDir, Keeping},
    table,
};

/// Deliver what is kept, and take nothing new
///
/// Exits with 0 if nothing is left for the configured integrations: everything
/// is delivered, or refused for good and among the dead letters.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    data_dir: DataDir,

    /// How long it may take: what is left then is kept
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    timeout: Duration,

    /// End with one line of JSON on stdout, for scripts
    #[arg(long)]
    json: bool,
}

impl Drain {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let configuration = configuration::load(&globals.config)?;
        let storage = self.data_dir.over(configuration.storage());
        // A directory that is not there was mistyped: none is made.
        storage::inspect(&storage).await?;
        let console = &globals.console;
        let plan = Plan {
            configuration: &configuration,
            policies: Policies::new(),
            keeping: Keeping::configured(storage).await?,
            stop: Stop::on_signals(console.clone())?,
            on_problem: Box::new({
                let console = console.clone();
                move |problem| report::say(&console, "", &problem)
            }),
            on_accepted: Box::new(|_, _| Ok(())),
            watch: Some(Watch {
                console,
                give_up_after: Duration::MAX,
                timeout: Some(self.timeout),
            }),
        };
        let summary = delivery::carry(plan, None).await?;
        let mut out = Out::new();
        if self.json {
            out.line(json(&summary))?;
        } else {
            out.line(show(&summary))?;
        }
        out.flush()?;
        Ok(Exit::success_if(summary.kept() == 0))
    }
}

/// How one integration was drained.
#[derive(Serialize)]
struct Drained {
    delivered: u64,
    failed: u64,
    erased: u64,
    kept: u64,
}

fn json(summary: &Summary) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        integrations: BTreeMap<&'a str, Drained>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        detached: &'a BTreeMap<String, u64>,
    }
    let tallies = summary.totals.integrations.iter();
    let drained = tallies.map(|(name, tally)| {
        let drained = Drained {
            delivered: tally.earlier.delivered,
            failed: tally.earlier.failed,
            erased: tally.earlier.erased,
            kept: tally.kept,
        };
        (&**name, drained)
    });
    let report = Report {
        integrations: drained.collect(),
        detached: &summary.detached,
    };
    // Numbers under text keys can always be written.
    serde_json::to_string(&report).unwrap_or_default()
}

fn show(summary: &Summary) -> String {
    let mut table = table::new(["integration", "delivered", "failed", "left"]);
    table::align_right(&mut table, 1);
    for (name, tally) in &summary.totals.integrations {
        table.add_row([
            name.to_string(),
            grouped(tally.earlier.delivered),
            grouped(tally.earlier.failed),
            grouped(tally.kept),
        ]);
    }
    format!("{}{}", table::show(&table), report::detached(summary))
}

//! `analytics status`

use std::path::Path;

use analytics_kit::{Timestamp, engine::store::LaneStatus};
use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    age::age,
    exit::{Exit, Failure},
    output::Out,
    progress::grouped,
    storage::{self, DataDir},
    table,
};

/// Show what is kept for every integration, also while another process
/// delivers it
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    data_dir: DataDir,

    /// As one line of JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let storage = self.data_dir.find(&globals.config)?;
        let status = storage::inspect(&storage).await?.status().await;
        let status = status.map_err(|error| Failure::failed(error.message()))?;
        let dir = storage::directory(&storage)?;
        let mut out = Out::new();
        if self.json {
            out.line(json(dir, &status)?)?;
        } else {
            out.line(show(&status))?;
        }
        out.flush()?;
        Ok(Exit::Success)
    }
}

fn json(dir: &Path, status: &[LaneStatus]) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Report<'a> {
        data_dir: String,
        integrations: &'a [LaneStatus],
    }
    let report = Report {
        data_dir: dir.display().to_string(),
        integrations: status,
    };
    serde_json::to_string(&report).map_err(|error| Failure::failed(error.to_string()))
}

fn show(status: &[LaneStatus]) -> String {
    if status.is_empty() {
        return "nothing was ever accepted here".to_owned();
    }
    let now = Timestamp::now();
    let mut table = table::new([
        "integration",
        "pending",
        "oldest",
        "in retry",
        "dead",
        "paused for",
        "last minute",
    ]);
    table::keep_whole(&mut table, 1);
    table::align_right(&mut table, 1);
    for lane in status {
        let paused = lane.paused_until.filter(|until| *until > now);
        table.add_row([
            if lane.is_attached {
                lane.integration.clone()
            } else {
                format!("{} (gone)", lane.integration)
            },
            grouped(lane.pending),
            lane.oldest.map_or_else(none, |oldest| age(oldest, now)),
            grouped(lane.in_retry),
            grouped(lane.dead),
            paused.map_or_else(none, |until| age(now, until)),
            grouped(lane.delivered_last_minute),
        ]);
    }
    let mut shown = table::show(&table);
    if status.iter().any(|lane| !lane.is_attached) {
        shown += "\n\n(gone): no engine delivered to it lately. What is pending waits until one \
                  does, or `analytics purge` forgets it.";
    }
    shown
}

fn none() -> String {
    "–".to_owned()
}

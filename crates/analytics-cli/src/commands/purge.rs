//! `analytics purge`

use std::sync::Arc;

use analytics_kit::engine::Store as _;
use clap::Args;

use crate::{
    Globals, configuration,
    exit::{Exit, Failure},
    output::Out,
    storage::{self, DataDir},
};

/// Forget what is pending for an integration that is no longer configured
///
/// Its dead letters stay: `analytics dead-letters purge` forgets them.
#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// The integration's name
    integration: String,

    #[command(flatten)]
    data_dir: DataDir,

    /// Do it; without this, it is only said what would be forgotten
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let configuration = configuration::read(&globals.config)?;
        let storage = self.data_dir.over(configuration.storage());
        let name = self.integration.as_str();
        let integrations = configuration.integrations();
        if integrations.iter().any(|one| one.name() == name) {
            return Err(Failure::usage(format!(
                "{name} is configured, and its events will be delivered: remove \
                 [integrations.{name}] from {} first",
                globals.config.display()
            )));
        }
        let status = storage::inspect(&storage).await?.status().await;
        let status = status.map_err(|error| Failure::failed(error.message()))?;
        let lane = status.iter().find(|lane| lane.integration == name);
        let pending = lane.map(|lane| lane.pending).ok_or_else(|| {
            let known: Vec<_> = status.iter().map(|lane| &*lane.integration).collect();
            Failure::usage(format!(
                "nothing is kept for {name}: there is something for {}",
                if known.is_empty() {
                    "nobody".to_owned()
                } else {
                    known.join(", ")
                }
            ))
        })?;
        if pending == 0 && !self.yes {
            let mut out = Out::new();
            out.line(format_args!("nothing is pending for {name}"))?;
            out.flush()?;
            return Ok(Exit::Success);
        }
        if !self.yes {
            return Err(Failure::usage(format!(
                "this forgets {} that {name} did not get: say --yes to do it",
                storage::counted(pending, "event")
            )));
        }
        let store = storage::open(&storage).await?;
        // As an engine does that has only the configured ones.
        let names: Vec<Arc<str>> = integrations.iter().map(|one| one.name().into()).collect();
        let attached = store.attach(&names, Arc::new(|_| {})).await;
        attached.map_err(|error| Failure::failed(error.message()))?;
        let purged = store.purge_lane(name).await;
        let purged = purged.map_err(|error| Failure::failed(error.message()))?;
        storage::close(&store).await?;
        let mut out = Out::new();
        out.line(format_args!(
            "forgotten: {} of {name}",
            storage::counted(purged, "event")
        ))?;
        out.flush()?;
        Ok(Exit::Success)
    }
}

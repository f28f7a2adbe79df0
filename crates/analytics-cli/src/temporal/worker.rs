//! Working on task queues until the process is asked to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use analytics_kit::{
    Error, ErrorKind,
    temporal::{Connection, TemporalWorker},
};

use super::Server;
use crate::{
    Globals, configuration,
    exit::{Exit, Failure},
    output::Out,
    stop::Stop,
    table,
};

/// Executes the workflows of everything that is configured.
pub(crate) async fn work(
    server: &Server,
    json: bool,
    grace: Option<Duration>,
    globals: &Globals,
) -> Result<Exit, Failure> {
    let configuration = configuration::load(&globals.config)?;
    let mut worker = configuration
        .temporal_worker()
        .map_err(|error| Failure::configuration(&error))?;
    if let Some(grace) = grace {
        worker = worker.grace(grace);
    }
    let stop = Stop::when_signalled(globals.console.clone(), || {
        tracing::info!("stopping: what is in flight is finished; a second signal ends at once");
    })?;
    let connection = server.connect().await?;
    let registered = Registered::of(&worker);
    let failed = |error: Error| Failure::failed(error.message());
    let mut running = worker
        .start(&connection)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Configuration => Failure::usage(error.message()),
            _ => failed(error),
        })?;
    if json {
        registered.log(&connection);
    } else {
        let mut out = Out::new();
        out.line(registered.show(&connection))?;
        out.flush()?;
    }
    tracing::info!(
        address = connection.address(),
        namespace = connection.namespace(),
        task_queue = connection.task_queue(),
        integrations = registered.0.len(),
        "working"
    );
    tokio::select! {
        ended = running.ended() => ended.map_err(failed)?,
        () = stop.requested() => {
            running.stop();
            running.ended().await.map_err(failed)?;
        }
    }
    tracing::info!("ended");
    Ok(Exit::Success)
}

/// What each integration has on the server.
struct Registered(BTreeMap<String, Names>);

#[derive(Default)]
struct Names {
    /// How many activities are under way at once.
    at_once: usize,
    workflows: Vec<String>,
    activities: Vec<String>,
}

impl Registered {
    fn of(worker: &TemporalWorker) -> Self {
        let mut by_integration = BTreeMap::<String, Names>::new();
        let integration = |name: &str| name.split('(').next().unwrap_or(name).to_owned();
        for (name, at_once) in worker.integrations() {
            by_integration.entry(name.to_owned()).or_default().at_once = at_once;
        }
        for name in worker.workflows() {
            let names = by_integration.entry(integration(name)).or_default();
            names.workflows.push(name.to_owned());
        }
        for name in worker.activities() {
            let names = by_integration.entry(integration(name)).or_default();
            names.activities.push(name.to_owned());
        }
        Self(by_integration)
    }

    fn log(&self, connection: &Connection) {
        for (integration, names) in &self.0 {
            tracing::info!(
                integration,
                task_queue = connection.activity_task_queue(integration),
                at_once = names.at_once,
                workflows = names.workflows.join(" "),
                activities = names.activities.join(" "),
                "registered"
            );
        }
    }

    /// A row for each integration. The activities have the names of their
    /// workflows, with the same endings for all.
    fn show(&self, connection: &Connection) -> String {
        let mut table = table::new(["integration", "its task queue", "at once", "workflows"]);
        table::keep_whole(&mut table, 3);
        let mut steps = BTreeSet::new();
        for (integration, names) in &self.0 {
            let start = format!("{integration}(analytics)");
            let kinds = names.workflows.iter().map(|name| name.replace(&start, ""));
            let kinds = kinds.collect::<Vec<_>>().join(" ");
            table.add_row([
                integration.clone(),
                connection.activity_task_queue(integration),
                names.at_once.to_string(),
                format!("{start}{kinds}"),
            ]);
            for activity in &names.activities {
                steps.extend(
                    activity
                        .rsplit_once('.')
                        .map(|(_, step)| format!(".{step}")),
                );
            }
        }
        format!(
            "Temporal at {}, namespace {}, task queue {}\n\n{}\n\nActivities, on the \
             integration's task queue: each workflow's name with {}.\nCtrl-C ends it.\n",
            connection.address(),
            connection.namespace(),
            connection.task_queue(),
            table::show(&table),
            steps.into_iter().collect::<Vec<_>>().join(" and ")
        )
    }
}

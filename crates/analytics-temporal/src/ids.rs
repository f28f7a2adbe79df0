//! Message ids and timestamps that an input lacks, from the workflow's or the
//! activity's own ids: the same over retries, replays, resets and restarts.

use std::time::{Duration, SystemTime};

use analytics_spec::{AnyInput, Timestamp};
use temporalio_sdk::{WorkflowContextView, activities::ActivityInfo};
use uuid::Uuid;

/// What a workflow's events get their ids and their time from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    id: String,
    time: Timestamp,
}

impl Origin {
    pub(crate) fn of(workflow: &WorkflowContextView) -> Self {
        // A workflow that is retried, continued or reset keeps its first run's.
        let first = workflow.first_execution_run_id();
        let started = workflow.start_time();
        if workflow.cron_schedule().is_none() {
            return Self {
                id: first.to_owned(),
                time: time_of(first).unwrap_or_else(|| timestamp(started)),
            };
        }
        // The runs of a cron workflow are so many events. Each is scheduled when
        // the one before has ended, and waits for its time; one that is reset has
        // another run id, and stays scheduled when it was.
        let wait = workflow.raw().cron_schedule_to_schedule_interval;
        let wait = wait.and_then(|wait| Duration::try_from(wait).ok());
        let due = started.and_then(|at| at.checked_add(wait.unwrap_or_default()));
        Self {
            id: match started.map(|at| at.duration_since(SystemTime::UNIX_EPOCH)) {
                Some(Ok(scheduled)) => derived(first, &scheduled.as_nanos().to_string()),
                _ => workflow.run_id().to_owned(),
            },
            time: timestamp(due),
        }
    }

    /// Fixes the identity of the workflow's one event.
    pub(crate) fn stamp(&self, input: &mut AnyInput) {
        stamp(input, || self.id.clone(), || self.time);
    }

    /// Fixes the identity of the event at a place of a batch.
    pub(crate) fn stamp_at(&self, index: usize, input: &mut AnyInput) {
        let id = || derived(&self.id, &index.to_string());
        stamp(input, id, || self.time);
    }
}

/// When a run started: servers make run ids that say so. A retried run has
/// another time of its own.
fn time_of(run_id: &str) -> Option<Timestamp> {
    let id = Uuid::parse_str(run_id).ok()?;
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let seconds = i64::try_from(seconds).ok()?;
    Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()
}

/// Fixes the identity of the event of an activity that was executed alone, or
/// by somebody else's workflow.
pub(crate) fn stamp_activity(info: &ActivityInfo, input: &mut AnyInput) {
    let id = || match (&info.activity_run_id, &info.workflow_run_id) {
        (Some(run_id), _) => run_id.clone(),
        (None, Some(run_id)) => derived(run_id, &info.activity_id),
        (None, None) => derived("", &info.activity_id),
    };
    stamp(input, id, || timestamp(info.scheduled_time));
}

/// The same for the event at a place of a batch.
pub(crate) fn stamp_activity_at(info: &ActivityInfo, index: usize, input: &mut AnyInput) {
    let run_id = info
        .activity_run_id
        .as_ref()
        .or(info.workflow_run_id.as_ref());
    let id = || {
        let name = format!("{}/{index}", info.activity_id);
        derived(run_id.map_or("", String::as_str), &name)
    };
    stamp(input, id, || timestamp(info.scheduled_time));
}

fn stamp(input: &mut AnyInput, id: impl FnOnce() -> String, time: impl FnOnce() -> Timestamp) {
    let context = &mut input.context;
    context.message_id.get_or_insert_with(id);
    context.timestamp.get_or_insert_with(time);
}

/// An id of something within a run.
pub(crate) fn derived(run_id: &str, name: &str) -> String {
    let space = Uuid::parse_str(run_id)
        .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, run_id.as_bytes()));
    Uuid::new_v5(&space, name.as_bytes()).to_string()
}

fn timestamp(time: Option<SystemTime>) -> Timestamp {
    time.and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

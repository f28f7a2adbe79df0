//! What the tests share: where the server is, and workers on it.

use std::time::{Duration, SystemTime};

use analytics_kit::Configuration;
use analytics_temporal::{Client, ConnectOptions, Connection, Running, TemporalWorker};
use serde_json::{Value, json};
use temporalio_client::{
    UntypedWorkflow, WorkflowFetchHistoryOptions, WorkflowGetResultOptions, WorkflowHandle,
    WorkflowStartOptions, errors::WorkflowGetResultError,
};
use temporalio_common::{
    data_converters::RawValue,
    protos::temporal::api::{common::v1::Payload, failure::v1::failure::FailureInfo},
};
use tokio::process::Command;

/// No workflow of these tests takes longer, unless it hangs.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A variable that `cargo xtask test` sets.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts a Temporal server")
    })
}

pub(crate) fn address() -> String {
    variable("ANALYTICS_TEMPORAL_ADDRESS")
}

pub(crate) async fn connect(task_queue: &str) -> Connection {
    let options = ConnectOptions::isolated(address()).task_queue(task_queue);
    options.connect().await.unwrap()
}

/// A script that finds Temporal's SDK for Python.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    let sdk = variable("ANALYTICS_TEMPORAL_PYTHONPATH");
    command.arg(script).env("PYTHONPATH", sdk);
    command.kill_on_drop(true);
    command
}

/// A task queue of its own, and a worker on it.
pub(crate) struct World {
    pub(crate) connection: Connection,
    pub(crate) client: Client,
    pub(crate) running: Running,
}

impl World {
    pub(crate) async fn new(worker: TemporalWorker) -> Self {
        let connection = connect(&unique("queue")).await;
        let running = worker.start(&connection).await.unwrap();
        Self {
            client: Client::new(&connection),
            connection,
            running,
        }
    }

    pub(crate) async fn of(toml: &str) -> Self {
        Self::new(worker(toml)).await
    }

    /// Starts a workflow as any client would.
    pub(crate) async fn start(
        &self,
        name: &str,
        input: RawValue,
    ) -> WorkflowHandle<temporalio_client::Client, UntypedWorkflow> {
        let options = WorkflowStartOptions::new(self.connection.task_queue(), unique("wf")).build();
        let client = self.connection.client();
        let workflow = UntypedWorkflow::new(name);
        client
            .start_workflow(workflow, input, options)
            .await
            .unwrap()
    }

    pub(crate) async fn stop(mut self) {
        self.running.stop();
        self.running.ended().await.unwrap();
        let again = self.running.ended().await.unwrap_err();
        assert!(again.message().contains("has ended"), "{again}");
    }
}

pub(crate) fn worker(toml: &str) -> TemporalWorker {
    let mut worker = TemporalWorker::new();
    for integration in Configuration::from_toml(toml).unwrap().integrations() {
        worker.integration(integration.clone()).unwrap();
    }
    worker
}

/// A text that no earlier run has used.
pub(crate) fn unique(start: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("{start}-{now}-{next}")
}

pub(crate) fn payload(encoding: &str, data: impl Into<Vec<u8>>) -> Payload {
    Payload {
        metadata: [("encoding".to_owned(), encoding.into())].into(),
        data: data.into(),
        ..Payload::default()
    }
}

pub(crate) fn input(value: &Value) -> RawValue {
    RawValue::new(vec![payload("json/plain", value.to_string())])
}

/// How a workflow ended.
#[derive(Debug)]
pub(crate) enum End {
    Output(Value),
    /// The failure's type, whether it is for good, and its first detail.
    Failed(String, bool, Value),
    Cancelled,
}

impl End {
    pub(crate) fn error_type(&self) -> &str {
        match self {
            Self::Failed(error_type, true, _) => error_type,
            other => panic!("no failure for good: {other:?}"),
        }
    }

    pub(crate) fn detail(&self) -> &Value {
        match self {
            Self::Failed(_, _, detail) => detail,
            other => panic!("no failure: {other:?}"),
        }
    }
}

pub(crate) async fn end(
    handle: &WorkflowHandle<temporalio_client::Client, UntypedWorkflow>,
) -> End {
    let result = handle.get_result(WorkflowGetResultOptions::default());
    let result = tokio::time::timeout(SOON, result).await;
    match result.expect("the workflow hangs") {
        Ok(output) => End::Output(serde_json::from_slice(&output.payloads[0].data).unwrap()),
        Err(WorkflowGetResultError::Cancelled { .. }) => End::Cancelled,
        Err(WorkflowGetResultError::Failed(error)) => {
            let Some(FailureInfo::ApplicationFailureInfo(info)) = &error.failure().failure_info
            else {
                panic!("not an application's failure: {error:?}");
            };
            let details = info.details.as_ref().and_then(|d| d.payloads.first());
            let detail = details.map(|d| serde_json::from_slice(&d.data).unwrap());
            End::Failed(
                info.r#type.clone(),
                info.non_retryable,
                detail.unwrap_or(Value::Null),
            )
        }
        Err(other) => panic!("{other}"),
    }
}

/// An activity, executed alone: its output, or what is said of its failure.
pub(crate) async fn alone(queue: &str, name: &str, input: &Value) -> Result<Value, String> {
    alone_with(queue, name, input, &["--start-to-close-timeout", "30s"]).await
}

/// The same with other options of the command.
pub(crate) async fn alone_with(
    queue: &str,
    name: &str,
    input: &Value,
    options: &[&str],
) -> Result<Value, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input.to_string()).unwrap();
    let output = Command::new(variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(["activity", "execute", "--address", &address()])
        .args(["--task-queue", queue])
        .args(["--type", name, "--activity-id", &unique("activity")])
        .args(options)
        .args(["--output", "json"])
        .arg("--input-file")
        .arg(file.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, output).await;
    let output = output.expect("the activity hangs").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if output.status.success() => Ok(value["result"].clone()),
        _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The types of the events in a workflow's history, and the names of what was
/// scheduled.
pub(crate) async fn history(
    handle: &WorkflowHandle<temporalio_client::Client, UntypedWorkflow>,
) -> Vec<u8> {
    let history = handle.fetch_history(WorkflowFetchHistoryOptions::default());
    history.to_json().await.unwrap()
}

/// An input of each kind, with what every vendor asks for.
pub(crate) fn every_kind(user: &str) -> Vec<(&'static str, Value)> {
    let traits = json!({"email": user, "first_name": "Ada"});
    vec![
        (
            "Identify",
            json!({"identify": {"user_id": user, "traits": traits}}),
        ),
        (
            "Track",
            json!({"track": {"user_id": user, "event": "Signed Up", "traits": traits}}),
        ),
        (
            "Group",
            json!({"group": {"user_id": user, "group_id": "g1", "traits": traits}}),
        ),
        (
            "Alias",
            json!({"alias": {"previous_user_id": format!("old-{user}"), "user_id": user}}),
        ),
        ("Page", json!({"page": {"user_id": user, "name": "Home"}})),
        (
            "Screen",
            json!({"screen": {"user_id": user, "name": "Cart"}}),
        ),
        (
            "Delete",
            json!({"delete": {"user_id": user, "traits": traits}}),
        ),
    ]
}

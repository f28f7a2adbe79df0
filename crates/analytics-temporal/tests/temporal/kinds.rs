//! All kinds at all vendors, from every client.

use std::{collections::BTreeMap, process::Stdio};

use analytics_kit::{Configuration, spec::AnyInput};
use analytics_testkit::{
    MailchimpAccount, MixpanelAccount, ScriptedMailchimp, ScriptedMixpanel, ScriptedSegment,
    SegmentAccount, vendors::IdMerge,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::world::{self, World, every_kind};

struct Vendors {
    shop: ScriptedSegment,
    blog: ScriptedSegment,
    mixpanel: ScriptedMixpanel,
    mailchimp: ScriptedMailchimp,
}

impl Vendors {
    async fn start() -> Self {
        let segment =
            |key: &'static str| SegmentAccount::new(key).public_api_token("public-api-token");
        Self {
            shop: ScriptedSegment::start(segment("shop-key")).await.unwrap(),
            blog: ScriptedSegment::start(segment("blog-key")).await.unwrap(),
            mixpanel: ScriptedMixpanel::start(
                MixpanelAccount::new("token").id_merge(IdMerge::Original),
            )
            .await
            .unwrap(),
            mailchimp: ScriptedMailchimp::start(MailchimpAccount::new("key-us1", "audience"))
                .await
                .unwrap(),
        }
    }

    fn toml(&self) -> String {
        let segment = |name: &str, url: String| {
            format!(
                "[integrations.{name}]\nvendor = \"segment\"\nwrite_key = \"{name}-key\"\n\
                 public_api_token = \"public-api-token\"\nbase_url = \"{url}\"\npublic_api_base_url = \"{url}\"\n"
            )
        };
        format!(
            "{}{}[integrations.mixpanel]\nproject_token = \"token\"\nid_merge = \"original\"\n\
             base_url = \"{}\"\n[integrations.mailchimp]\napi_key = \"key-us1\"\n\
             audience_id = \"audience\"\ngroup_as_tag = true\nbase_url = \"{}\"\n",
            segment("shop", self.shop.base_url()),
            segment("blog", self.blog.base_url()),
            self.mixpanel.base_url(),
            self.mailchimp.base_url(),
        )
    }

    /// What arrived is what the vendors take, and nothing twice.
    fn check(&self, from_shop: usize) {
        assert_eq!(self.shop.violations(), []);
        assert_eq!(self.blog.violations(), []);
        assert_eq!(self.mixpanel.violations(), []);
        assert_eq!(self.mailchimp.violations(), []);
        assert_eq!(self.shop.received().len(), from_shop);
        assert_eq!(self.blog.received().len(), from_shop);
        assert_eq!(self.shop.duplicates(), Vec::<String>::new());
        assert!(!self.mixpanel.received().is_empty());
        assert!(!self.mailchimp.received().is_empty());
    }

    fn clear(&self) {
        self.shop.clear();
        self.blog.clear();
        self.mixpanel.clear();
        self.mailchimp.clear();
    }
}

/// Everything that the configured instances support: names and inputs.
fn everything(toml: &str, user: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for integration in Configuration::from_toml(toml).unwrap().integrations() {
        for (title, input) in every_kind(user) {
            let any = AnyInput::from_value(input.clone()).unwrap();
            if integration.supports().contains(any.kind()) {
                all.push((format!("{}(analytics).{title}", integration.name()), input));
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_at_every_vendor_from_every_client() {
    let vendors = Vendors::start().await;
    let toml = vendors.toml();
    let world = World::of(&toml).await;

    // Rust, with the specification's types.
    for (name, input) in everything(&toml, "rust@example.com") {
        let (integration, _) = name.split_once('(').unwrap();
        let input = AnyInput::from_value(input).unwrap();
        let event = input.event.clone();
        let started = world.client.start(integration, input).await.unwrap();
        assert!(started.workflow_id().starts_with(&name), "{started:?}");
        let output = started.result().await.unwrap();
        assert_eq!(output.status, analytics_kit::Status::Success, "{name}");
        assert_eq!(output.event, event);
        assert!(output.response.is_some_and(|r| r.status_code < 300));
        // The validation is a local activity, the request one of the server's.
        let history = world::history(started.handle()).await;
        let history: Value = serde_json::from_slice(&history).unwrap();
        let text = history.to_string();
        assert!(text.contains("core_local_activity"), "{name}");
        assert!(text.contains(&format!("{name}.Request")), "{name}");
        assert_eq!(
            text.matches("ActivityTaskScheduledEventAttributes").count()
                + text.matches("activityTaskScheduledEventAttributes").count(),
            1,
            "{name}"
        );
    }
    vendors.check(7);
    vendors.clear();

    // Python, in one process.
    let all = everything(&toml, "python@example.com");
    let outputs = python(&world, &all).await;
    assert_eq!(outputs.len(), all.len());
    for (name, output) in &outputs {
        assert_eq!(output["status"], "success", "{name}: {output}");
    }
    vendors.check(7);
    vendors.clear();

    // The command.
    for (name, input) in everything(&toml, "cli@example.com") {
        let output = cli(&world, &name, &input).await;
        assert_eq!(output["status"], "success", "{name}: {output}");
    }
    vendors.check(7);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_event_started_twice_is_one_workflow() {
    let vendors = Vendors::start().await;
    let world = World::of(&vendors.toml()).await;
    let id = world::unique("order");
    let order = || {
        let context = analytics_kit::Context::new().message_id(id.clone());
        analytics_kit::Input::new(analytics_kit::Track::new("Order").user_id("u1")).context(context)
    };
    let first = world.client.start("shop", order()).await.unwrap();
    let second = world.client.start("shop", order()).await.unwrap();
    assert!(first.is_new() && !second.is_new());
    assert_eq!(first.workflow_id(), format!("shop(analytics).Track/{id}"));
    assert_eq!(
        first.result().await.unwrap(),
        second.result().await.unwrap()
    );
    // Servers say of an ended workflow that it is not there, or nothing.
    if let Err(error) = first.cancel().await {
        assert_eq!(error.kind(), analytics_kit::ErrorKind::Closed, "{error}");
    }
    let third = world.client.start("shop", order()).await.unwrap();
    assert!(!third.is_new());
    assert_eq!(vendors.shop.received().len(), 1);
    assert_eq!(vendors.shop.received()[0].body["messageId"], json!(id));
    world.stop().await;
}

#[test]
fn an_instances_name_is_taken_once() {
    let toml = "[integrations.segment]\nwrite_key = \"k\"\n";
    let mut worker = world::worker(toml);
    let again = Configuration::from_toml(toml).unwrap().integrations()[0].clone();
    let error = worker.integration(again).unwrap_err();
    assert!(error.message().contains("segment is registered already"));
    let names: Vec<_> = worker.workflows().collect();
    assert!(names.contains(&"segment(analytics).Batch"), "{names:?}");
}

/// The outputs of these workflows, executed by the Python SDK.
async fn python(world: &World, all: &[(String, Value)]) -> BTreeMap<String, Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/temporal/execute.py");
    let mut child = world::python(script)
        .args([&world::address(), world.connection.task_queue()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    use tokio::io::AsyncWriteExt as _;
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(&serde_json::to_vec(all).unwrap())
        .await
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The output of a workflow, executed by the `temporal` command.
async fn cli(world: &World, name: &str, input: &Value) -> Value {
    let output = Command::new(world::variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(["workflow", "execute", "--address", &world::address()])
        .args([
            "--task-queue",
            world.connection.task_queue(),
            "--type",
            name,
        ])
        .args(["--input", &input.to_string(), "--output", "json"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{output:?}");
    let value: Value = serde_json::from_str(&text).unwrap();
    value["result"].clone()
}

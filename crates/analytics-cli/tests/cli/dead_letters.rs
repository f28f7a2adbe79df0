//! What was refused for good, and people who are to be forgotten.

use std::path::Path;

use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};
use serde_json::{Value, json};

use crate::support::{Dir, Run, patient};

const KEY: &str = "key-of-the-shop";

async fn vendor() -> (ScriptedSegment, Dir) {
    let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let dir = Dir::configured(&format!(
        "[engine]\ndata_dir = 'kept'\n{}",
        patient(&vendor.base_url(), KEY)
    ));
    (vendor, dir)
}

const EVENTS: &str = r#"{"context":{"message_id":"m-1"},"track":{"user_id":"ada","event":"Ordered"}}
{"context":{"message_id":"m-2"},"page":{"user_id":"ada","name":"Home"}}
{"context":{"message_id":"m-3"},"track":{"user_id":"grace","event":"Shipped","properties":{"note":"a\u202eb\u009bc"}}}
"#;

/// Everything is refused for good.
async fn refused() -> (ScriptedSegment, Dir) {
    let (vendor, dir) = vendor().await;
    vendor.faults().push(Fault::status(400).always());
    dir.write("events.jsonl", EVENTS);
    let run = dir.run(&["send", "events.jsonl", "--json"]);
    assert!(run.ends_with(1).stdout.contains(r#""failed":3"#), "{run:?}");
    vendor.faults().clear();
    vendor.clear();
    (vendor, dir)
}

fn list(dir: &Dir, filter: &[&str]) -> Vec<Value> {
    let run = dir.run(&[&["dead-letters", "list", "--json"], filter].concat());
    let lines = run.ends_with(0).stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(dir: &Dir, filter: &[&str]) -> Vec<String> {
    let letters = list(dir, filter);
    letters
        .iter()
        .map(|letter| letter["message_id"].as_str().unwrap().to_owned())
        .collect()
}

fn letters(dir: &Dir, args: &[&str]) -> Run {
    dir.run(&[&["dead-letters"], args].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_listed_and_shown_with_the_reason() {
    let (_vendor, dir) = refused().await;
    assert_eq!(ids(&dir, &[]), ["m-1", "m-2", "m-3"]);
    assert_eq!(ids(&dir, &["--user", "ada"]), ["m-1", "m-2"]);
    assert_eq!(ids(&dir, &["--user", "ada", "--kind", "page"]), ["m-2"]);
    assert_eq!(ids(&dir, &["--integration", "segment"]).len(), 3);
    assert_eq!(ids(&dir, &["--integration", "else"]).len(), 0);
    assert_eq!(ids(&dir, &["--since", "1h"]).len(), 3);
    assert_eq!(ids(&dir, &["--since", "2026-03-02T09:00:00Z"]).len(), 3);
    assert_eq!(ids(&dir, &["--since", "2999-01-01T00:00:00Z"]).len(), 0);
    assert_eq!(ids(&dir, &["2", "3"]), ["m-2", "m-3"]);
    letters(&dir, &["list", "--kind", "tack"])
        .ends_with(2)
        .says("expected one of identify, track");
    letters(&dir, &["list", "--since", "soon"])
        .ends_with(2)
        .says("a duration such as 24h");

    let run = letters(&dir, &["list"]);
    let rows: Vec<_> = run.ends_with(0).stdout.lines().skip(2).collect();
    assert_eq!(rows.len(), 3, "{run:#?}");
    assert!(
        rows[0].contains("ada") && rows[0].contains("400"),
        "{run:#?}"
    );

    let first = &list(&dir, &["1"])[0];
    assert_eq!(first["integration"], "segment");
    assert_eq!(first["kind"], "track");
    assert_eq!(first["attempts"], 1);
    assert_eq!(first["reason"]["response"]["status_code"], 400);
    assert_eq!(first["input"]["track"]["event"], "Ordered");
    assert_eq!(first["input"]["context"]["message_id"], "m-1");

    let run = letters(&dir, &["show", "1"]);
    for text in [
        "integration  segment\n",
        "message id   m-1\n",
        "user id      ada\n",
        "attempts     1\n",
        "why          ",
        "    \"event\": \"Ordered\"",
    ] {
        assert!(run.ends_with(0).stdout.contains(text), "{text:?}: {run:#?}");
    }
    // The event is JSON, and turns no text round.
    let run = letters(&dir, &["show", "3"]);
    let shown = &run.ends_with(0).stdout;
    assert!(!shown.contains(['\u{202e}', '\u{9b}']), "{shown:?}");
    let event = &shown[shown.find("\n{").unwrap()..];
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["track"]["properties"]["note"], "a\u{202e}b\u{9b}c");
    letters(&dir, &["show", "77"])
        .ends_with(1)
        .says("there is no dead letter 77");
    letters(&dir, &["purge", "77"])
        .ends_with(1)
        .says("1 of the numbers given is of no dead letter");
    assert!(!run.all().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_they_are_delivered_with_their_ids() {
    let (vendor, dir) = refused().await;
    letters(&dir, &["replay"]).ends_with(2).says("or --all");
    letters(&dir, &["replay", "--all", "--user", "ada"]).ends_with(2);
    let run = letters(&dir, &["replay", "--user", "ada"]);
    assert_eq!(
        run.ends_with(0).stdout,
        "replayed: 2 dead letters; `analytics drain`, or the service, delivers\n"
    );
    assert_eq!(ids(&dir, &[]), ["m-3"]);
    assert_eq!(vendor.received().len(), 0, "nothing is sent yet");
    dir.run(&["drain"]).ends_with(0);
    let received: Vec<_> = vendor
        .received()
        .iter()
        .map(|item| item.body["messageId"].clone())
        .collect();
    assert_eq!(received, ["m-1", "m-2"]);
    let run = letters(&dir, &["replay", "--user", "nobody"]);
    assert_eq!(run.ends_with(0).stdout, "replayed: 0 dead letters\n");
    letters(&dir, &["replay", "--all"]).ends_with(0);
    dir.run(&["drain"]).ends_with(0);
    assert_eq!(vendor.received().len(), 3);
    assert_eq!(ids(&dir, &[]).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_and_refused_again_they_are_dead_letters_again() {
    let (vendor, dir) = refused().await;
    vendor.faults().push(Fault::status(400).always());
    letters(&dir, &["replay", "3"]).ends_with(0);
    dir.run(&["drain"])
        .ends_with(0)
        .says("earlier: track m-3: segment: ");
    let mut all = ids(&dir, &[]);
    all.sort_unstable();
    assert_eq!(all, ["m-1", "m-2", "m-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_they_are_gone() {
    let (_vendor, dir) = refused().await;
    letters(&dir, &["purge"]).ends_with(2).says("or --all");
    let run = letters(&dir, &["purge", "1"]);
    assert_eq!(run.ends_with(0).stdout, "forgotten: 1 dead letter\n");
    assert_eq!(ids(&dir, &[]), ["m-2", "m-3"]);
    let run = letters(&dir, &["purge", "--all"]);
    assert_eq!(run.ends_with(0).stdout, "forgotten: 2 dead letters\n");
    assert_eq!(ids(&dir, &[]).len(), 0);
}

/// What an integration's own rules refuse is a dead letter too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_anything_is_sent_is_kept() {
    let (vendor, dir) = vendor().await;
    let large = "x".repeat(33 * 1024);
    dir.write(
        "events.jsonl",
        format!(r#"{{"track":{{"user_id":"u1","event":"E","properties":{{"p":"{large}"}}}}}}"#),
    );
    let run = dir.run(&["send", "events.jsonl", "--receipts", "--json"]);
    run.ends_with(1)
        .says("events.jsonl:1: segment: track: too_large");
    let receipt: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(receipt["seq"], 1);
    assert_eq!(list(&dir, &[])[0]["attempts"], 0);
    assert_eq!(vendor.requests().len(), 0);
}

/// Whether any file of a directory has a text in it.
fn holds(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_user_leaves_no_byte() {
    let (vendor, dir) = vendor().await;
    let kept = dir.path().join("kept");
    let user = "somebody-who-wants-to-be-forgotten";
    let event = |user: &str, n: usize| {
        format!("{{\"track\":{{\"user_id\":\"{user}\",\"event\":\"E{n}\"}}}}\n")
    };
    // One dead letter of each, and what waits.
    vendor.faults().push(Fault::status(400).always());
    dir.write("events.jsonl", event(user, 0) + &event("stays", 0));
    dir.run(&["send", "events.jsonl"]).ends_with(1);
    assert_eq!(list(&dir, &[]).len(), 2);
    vendor.faults().clear();
    vendor.faults().push(Fault::status(503).always());
    let lines = (1..200).map(|n| event(user, n) + &event("stays", n));
    dir.write("events.jsonl", lines.collect::<String>());
    dir.run(&["send", "events.jsonl", "--give-up-after", "1s"])
        .ends_with(1);
    assert!(holds(&kept, user));
    let run = dir.run(&["erase", user]);
    assert_eq!(
        run.ends_with(0).stdout,
        "erased: 199 events, 1 dead letter\n"
    );
    assert!(!holds(&kept, user), "something of the user is left");
    let run = dir.run(&["erase", user]);
    assert_eq!(
        run.ends_with(0).stdout,
        "erased: 0 events, 0 dead letters\n"
    );
    vendor.faults().clear();
    vendor.clear();
    dir.run(&["drain"]).ends_with(0);
    let received = vendor.received();
    assert_eq!(received.len(), 199);
    assert!(received.iter().all(|r| r.user.as_deref() == Some("stays")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_that_is_removed_keeps_its_events_until_they_are_purged() {
    let (vendor, dir) = vendor().await;
    let engine = "[engine]\ndata_dir = 'kept'\n";
    let table = |name: &str, url: &str| {
        format!(
            "[integrations.{name}]\nvendor = 'segment'\nwrite_key = '{KEY}'\nbase_url = '{url}'\n"
        )
    };
    let shop = table("shop", &vendor.base_url());
    let blog = table("blog", "http://127.0.0.1:9");
    dir.write("analytics.toml", format!("{engine}{shop}{blog}"));
    dir.write("events.jsonl", EVENTS);
    dir.run(&["send", "events.jsonl", "--give-up-after", "1s"])
        .ends_with(1);
    assert_eq!(vendor.received().len(), 3);
    dir.run(&["purge", "blog", "--yes"])
        .ends_with(2)
        .says("blog is configured");

    dir.write("analytics.toml", format!("{engine}{shop}"));
    let run = dir.run(&["drain", "--json"]);
    let report: Value = serde_json::from_str(&run.ends_with(0).stdout).unwrap();
    assert_eq!(report["detached"], json!({"blog": 3}), "{report}");
    let run = dir.run(&["status"]);
    assert!(run.stdout.contains(" blog (gone) "), "{run:#?}");
    dir.run(&["purge", "blgo"])
        .ends_with(2)
        .says("nothing is kept for blgo: there is something for blog, shop");
    dir.run(&["purge", "blog"])
        .ends_with(2)
        .says("this forgets 3 events that blog did not get: say --yes to do it");
    let run = dir.run(&["purge", "blog", "--yes"]);
    assert_eq!(run.ends_with(0).stdout, "forgotten: 3 events of blog\n");

    // Nothing to forget is no mistake.
    dir.write("analytics.toml", engine);
    let run = dir.run(&["purge", "shop"]);
    assert_eq!(run.ends_with(0).stdout, "nothing is pending for shop\n");
    dir.write("analytics.toml", format!("{engine}{shop}"));
    let run = dir.run(&["status", "--json"]);
    let report: Value = serde_json::from_str(&run.ends_with(0).stdout).unwrap();
    assert_eq!(
        report["integrations"].as_array().unwrap().len(),
        1,
        "{report}"
    );
}

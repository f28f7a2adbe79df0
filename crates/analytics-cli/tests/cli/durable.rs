//! Events that outlive the process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};
use serde_json::{Value, json};

use crate::support::{Dir, Run, patient};

const KEY: &str = "key-of-the-shop";

async fn vendor() -> (ScriptedSegment, Dir) {
    let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let dir = Dir::configured(&patient(&vendor.base_url(), KEY));
    (vendor, dir)
}

/// A vendor that is gone, and may come back at the same address.
async fn gone() -> (SocketAddr, Dir) {
    let (vendor, dir) = vendor().await;
    let address = vendor.base_url();
    let address = address.strip_prefix("http://").unwrap().parse().unwrap();
    vendor.shutdown().await;
    (address, dir)
}

async fn back(address: SocketAddr) -> ScriptedSegment {
    ScriptedSegment::start_on(address, SegmentAccount::new(KEY))
        .await
        .unwrap()
}

/// Events of several people, each with its number as its name.
fn events(numbers: std::ops::Range<usize>) -> String {
    let line = |n: usize| {
        format!(
            "{{\"track\":{{\"user_id\":\"u{}\",\"event\":\"E{n}\"}}}}\n",
            n % 7
        )
    };
    numbers.map(line).collect()
}

/// The names of what a vendor received, sorted by number.
fn names(vendor: &ScriptedSegment) -> Vec<usize> {
    let received = vendor.received();
    let mut names: Vec<usize> = received
        .iter()
        .map(|item| item.body["event"].as_str().unwrap()[1..].parse().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

fn status(dir: &Dir) -> Value {
    let run = dir.run(&["status", "--data-dir", "kept", "--json"]);
    parse(&run.ends_with(0).stdout)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

fn end(child: Child) -> Run {
    child.wait_with_output().unwrap().into()
}

const SEND: [&str; 6] = [
    "send",
    "events.jsonl",
    "--data-dir",
    "kept",
    "--give-up-after",
    "1s",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_down_for_the_whole_run_gets_everything_once_in_the_next() {
    let (address, dir) = gone().await;
    dir.write("events.jsonl", events(0..3000));
    let run = dir.run(&SEND);
    run.ends_with(1)
        .says("giving up: no vendor has answered")
        .says("with -v, every line that is kept is named");
    assert!(
        run.stdout
            .contains("\n\n3,000 kept: `analytics drain --data-dir kept` goes on\n"),
        "{run:#?}"
    );
    dir.write("events.jsonl", events(3000..3010));
    let run = dir.run(&[&SEND[..], &["--json"]].concat());
    let report = parse(&run.ends_with(1).stdout);
    let tally = &report["integrations"]["segment"];
    assert_eq!(tally["kept"], 3010, "{report}");
    assert_eq!(tally["delivered"], 0, "{report}");
    assert_eq!(
        tally["failed"], 0,
        "an outage uses up no attempts: {report}"
    );

    let run = dir.run(&["drain", "--data-dir", "kept", "--timeout", "1s", "--json"]);
    run.ends_with(1).says("the time is over");
    assert_eq!(
        parse(&run.stdout)["integrations"]["segment"]["kept"],
        3010,
        "{run:#?}"
    );

    let vendor = back(address).await;
    let run = dir.run(&["drain", "--data-dir", "kept", "--json"]);
    assert_eq!(
        parse(&run.ends_with(0).stdout),
        json!({"integrations": {"segment":
            {"delivered": 3010, "failed": 0, "erased": 0, "kept": 0}}})
    );
    assert_eq!(names(&vendor), (0..3010).collect::<Vec<_>>());
    let run = dir.run(&["drain", "--data-dir", "kept"]);
    run.ends_with(0);
    assert_eq!(vendor.received().len(), 3010, "nothing arrives twice");
    assert!(vendor.violations().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_send_delivers_what_is_left_and_tells_it_apart() {
    let (address, dir) = gone().await;
    dir.write("events.jsonl", events(0..5));
    dir.run(&SEND).ends_with(1);
    let vendor = back(address).await;
    dir.write("events.jsonl", events(5..8));
    let run = dir.run(&[&SEND[..], &["--json"]].concat());
    assert_eq!(
        parse(&run.ends_with(0).stdout),
        json!({"read": 3, "invalid": 0, "integrations": {"segment": {
            "delivered": 3, "failed": 0, "unsupported": 0,
            "earlier": {"delivered": 5, "failed": 0},
        }}})
    );
    assert_eq!(names(&vendor), (0..8).collect::<Vec<_>>());
    let order: Vec<_> = vendor.received().iter().map(|r| r.user.clone()).collect();
    assert_eq!(
        order.iter().filter(|u| u.as_deref() == Some("u0")).count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_is_said_to_people() {
    let (address, dir) = gone().await;
    dir.write("events.jsonl", events(0..2));
    dir.run(&SEND).ends_with(1);
    let _vendor = back(address).await;
    dir.write("events.jsonl", "");
    let run = dir.run(&SEND);
    assert_eq!(
        run.ends_with(0).stdout,
        "\
0 events read, all valid

 integration   delivered   failed   unsupported
────────────────────────────────────────────────
 segment               0        0             0

from earlier runs, segment: 2 delivered, 0 failed
"
    );
    assert_eq!(run.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_may_be_configured_and_memory_wins() {
    let (vendor, dir) = vendor().await;
    let configuration = patient(&vendor.base_url(), KEY);
    dir.write(
        "analytics.toml",
        configuration + "\n[engine]\ndata_dir = 'kept'\nmax_bytes = '64MiB'\n",
    );
    dir.write("events.jsonl", events(0..3));
    let run = dir.run(&["send", "events.jsonl", "--in-memory"]);
    assert_eq!(run.ends_with(0).stderr, "");
    assert!(!dir.path().join("kept").exists());
    dir.run(&["send", "events.jsonl"]).ends_with(0);
    assert!(dir.path().join("kept").exists());
    let run = dir.run(&["status"]);
    assert!(run.ends_with(0).stdout.contains(" segment "), "{run:?}");
    dir.run(&["send", "events.jsonl", "--in-memory", "--data-dir", "x"])
        .ends_with(2);
    dir.write(
        "analytics.toml",
        patient(&vendor.base_url(), KEY) + "\n[engine]\ndata_dri = 'kept'\n",
    );
    dir.run(&["send", "events.jsonl"])
        .ends_with(2)
        .says("`data_dri` is not known here: did you mean `data_dir`?");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_directory_it_is_said_that_nothing_is_kept() {
    let (_vendor, dir) = vendor().await;
    dir.write("events.jsonl", events(0..1));
    dir.run(&["send", "events.jsonl"])
        .ends_with(0)
        .says("accepted events are in memory");
    for args in [
        &["status"][..],
        &["drain"],
        &["erase", "u1"],
        &["dead-letters", "list"],
        &["dead-letters", "replay", "--all"],
        &["purge", "x"],
    ] {
        dir.run(args).ends_with(2).says("give --data-dir DIR");
        let args = [args, &["--data-dir", "nowhere"]].concat();
        dir.run(&args).ends_with(2).says("nowhere");
        assert!(!dir.path().join("nowhere").exists(), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_each_integration_stands() {
    let (address, dir) = gone().await;
    dir.write("events.jsonl", events(0..4));
    dir.run(&SEND).ends_with(1);
    let report = status(&dir);
    let lane = &report["integrations"][0];
    assert_eq!(lane["integration"], "segment");
    assert_eq!(lane["is_attached"], true);
    assert_eq!(lane["pending"], 4);
    assert_eq!(lane["dead"], 0);
    assert_eq!(lane["delivered"], 0);
    assert!(lane["in_retry"].as_u64().unwrap() > 0, "{report}");
    assert!(lane["oldest"].is_string(), "{report}");
    let run = dir.run(&["status", "--data-dir", "kept"]);
    let row = run.ends_with(0).stdout.lines().nth(2).unwrap();
    assert!(row.starts_with(" segment "), "{run:#?}");
    let vendor = back(address).await;
    dir.run(&["drain", "--data-dir", "kept"]).ends_with(0);
    assert_eq!(vendor.received().len(), 4);
    let report = status(&dir);
    let lane = &report["integrations"][0];
    assert_eq!(
        (&lane["pending"], &lane["delivered"]),
        (&json!(0), &json!(4))
    );
    assert_eq!(lane["oldest"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_waits_says_for_whom() {
    let (vendor, dir) = vendor().await;
    vendor.faults().push(Fault::retry_after(3600).always());
    dir.write("events.jsonl", events(0..1));
    let send = ["send", "events.jsonl", "--data-dir", "kept"];
    dir.run(&[&send[..], &["--give-up-after", "2s"]].concat())
        .ends_with(1)
        .says("segment: nothing is sent until 20")
        .says(": it has asked for a pause; the last error: ")
        .says("429");
    // Another process knows that it lasts, and not what was said.
    dir.run(&["drain", "--data-dir", "kept", "--timeout", "2s"])
        .ends_with(1)
        .says("segment: nothing is sent until 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_works_on_a_directory_and_others_may_look() {
    let (vendor, dir) = vendor().await;
    vendor.faults().push(Fault::Hang);
    dir.write("events.jsonl", events(0..3));
    let child = dir
        .command(&[
            "send",
            "events.jsonl",
            "--data-dir",
            "kept",
            "--timeout",
            "1h",
        ])
        .spawn()
        .unwrap();
    while vendor.faults().pending() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let by = format!("is in use by process {}", child.id());
    for args in [
        &["send", "events.jsonl", "--data-dir", "kept"][..],
        &["drain", "--data-dir", "kept"],
        &["erase", "u1", "--data-dir", "kept"],
        &["dead-letters", "replay", "--all", "--data-dir", "kept"],
        &["dead-letters", "purge", "--all", "--data-dir", "kept"],
    ] {
        dir.run(args).ends_with(2).says(&by);
    }
    let report = status(&dir);
    assert_eq!(report["integrations"][0]["pending"], 3, "{report}");
    let run = dir.run(&["dead-letters", "list", "--data-dir", "kept"]);
    assert_eq!(run.ends_with(0).stdout, "no dead letters\n");
    signal(&child, "KILL");
    end(child);
    // What it had accepted is delivered by the next.
    dir.run(&["drain", "--data-dir", "kept"]).ends_with(0);
    assert_eq!(names(&vendor), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_finishes_what_is_in_flight_and_keeps_the_rest() {
    let (vendor, dir) = vendor().await;
    vendor
        .faults()
        .push(Fault::Delay(Duration::from_millis(1000)));
    // Events of one person, more than one batch takes.
    let one = |n| format!("{{\"track\":{{\"user_id\":\"u\",\"event\":\"E{n}\"}}}}\n");
    dir.write("events.jsonl", (0..6000).map(one).collect::<String>());
    let args = [
        "send",
        "events.jsonl",
        "--data-dir",
        "kept",
        "--json",
        "--receipts",
    ];
    let child = dir.command(&args).spawn().unwrap();
    while vendor.faults().pending() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    signal(&child, "INT");
    let run = end(child);
    run.ends_with(1)
        .says("stopping: what is in flight is finished");
    let (receipts, report) = run.stdout.trim_end().rsplit_once('\n').unwrap();
    let report = parse(report);
    let accepted = receipts.lines().count();
    assert_eq!(report["read"], accepted, "{report}");
    assert_eq!(report["ended_early"], true, "{report}");
    let received = vendor.received().len();
    let tally = &report["integrations"]["segment"];
    assert!(received > 0 && received < accepted, "{report}");
    assert_eq!(tally["delivered"], received, "{report}");
    assert_eq!(tally["kept"], accepted - received, "{report}");
    dir.run(&["drain", "--data-dir", "kept"]).ends_with(0);
    assert_eq!(names(&vendor), (0..accepted).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_as_many_as_lines_and_in_their_order() {
    let (vendor, dir) = vendor().await;
    let id = r#"{"context":{"message_id":"m-1"},"page":{"user_id":"u1","name":"Home"}}"#;
    dir.write("events.jsonl", format!("{id}\n\n{{}}\n{}", events(0..500)));
    let args = ["send", "events.jsonl", "--data-dir", "kept", "--receipts"];
    let run = dir.run(&args);
    run.ends_with(1)
        .says("events.jsonl:3: $: required")
        .says("502 events read, 1 invalid");
    let receipts: Vec<Value> = run.stdout.lines().map(parse).collect();
    assert_eq!(receipts.len(), 501);
    assert_eq!(
        receipts[0],
        json!({"line": 1, "message_id": "m-1", "seq": 1})
    );
    for (place, receipt) in receipts.iter().enumerate().skip(1) {
        assert_eq!(receipt["line"], place + 3, "{receipt}");
        assert_eq!(receipt["seq"], place + 1, "{receipt}");
        assert!(!receipt["message_id"].as_str().unwrap().is_empty());
    }
    let first = run.stdout.lines().next().unwrap();
    assert_eq!(first, r#"{"line":1,"message_id":"m-1","seq":1}"#);
    assert_eq!(vendor.received().len(), 501);
}

/// Whoever keeps them as proof has to know that some are missing.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_nobody_reads_are_an_error_and_the_events_are_delivered() {
    let (vendor, dir) = vendor().await;
    dir.write("events.jsonl", events(0..3));
    let args = ["send", "events.jsonl", "--data-dir", "kept", "--receipts"];
    let mut child = dir.command(&args).spawn().unwrap();
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().unwrap());
    // The report is there all the same.
    run.ends_with(1)
        .says("3 events read, all valid")
        .says("error: stdout was closed: not all receipts were given");
    assert_eq!(names(&vendor), [0, 1, 2]);
}

/// As `head -n 3` does.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_after_the_last_receipt_has_all_of_them() {
    let (vendor, dir) = vendor().await;
    dir.write("events.jsonl", events(0..3));
    // The report is written when this one is answered.
    vendor.faults().push(Fault::Delay(Duration::from_secs(1)));
    let kept = ["send", "events.jsonl", "--data-dir", "kept"];
    let mut child = dir
        .command(&[&kept[..], &["--receipts", "--json"]].concat())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.take(3).filter_map(Result::ok).count(), 3);
    let run = Run::from(child.wait_with_output().unwrap());
    run.ends_with(0);
    assert_eq!(run.stderr.matches("error").count(), 0, "{run:#?}");
    assert_eq!(names(&vendor), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_kept_is_read_though_no_vendor_answers() {
    let (address, dir) = gone().await;
    let args = ["send", "-", "--data-dir", "kept", "--give-up-after", "1s"];
    let mut child = dir.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 0..6 {
        stdin.write_all(events(n..n + 1).as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    drop(stdin);
    let run = end(child);
    run.ends_with(1)
        .says("stdin: stopped; the file had been read");
    assert!(run.stdout.contains("\n\n6 kept: "), "{run:#?}");
    let vendor = back(address).await;
    dir.run(&["drain", "--data-dir", "kept"]).ends_with(0);
    assert_eq!(names(&vendor), [0, 1, 2, 3, 4, 5]);
}

/// What a receipt was written for is delivered, wherever the process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_with_a_receipt_is_lost() {
    for after in [0, 30, 60, 90, 150, 250] {
        let (vendor, dir) = vendor().await;
        dir.write("events.jsonl", events(0..20_000));
        let args = ["send", "events.jsonl", "--data-dir", "kept", "--receipts"];
        let out = std::fs::File::create(dir.path().join("receipts")).unwrap();
        let mut child = dir.command(&args).stdout(out).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(after)).await;
        signal(&child, "KILL");
        child.wait().unwrap();
        let receipts = std::fs::read_to_string(dir.path().join("receipts")).unwrap();
        let accepted = receipts.matches('\n').count();
        let run = dir.run(&["drain", "--data-dir", "kept"]);
        if accepted == 0 && run.code == Some(2) {
            // It had not even made the directory.
            continue;
        }
        run.ends_with(0);
        let mut names = names(&vendor);
        names.dedup();
        assert!(names.len() >= accepted, "{} of {accepted}", names.len());
        assert_eq!(names, (0..names.len()).collect::<Vec<_>>());
    }
}

/// The disk is full: what it took is delivered, which makes room, and the rest
/// is named.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a disk, which `cargo xtask test` does if it may"]
async fn a_full_disk_ends_with_a_summary() {
    let (vendor, dir) = vendor().await;
    let kept = dir.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(args[0]);
        let run = command.args(&args[1..]).arg(&kept).output();
        run.is_ok_and(|run| run.status.success())
    };
    assert!(run(&["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs"]));
    // Nothing is settled until the disk is full.
    let delay = Duration::from_millis(1000);
    vendor.faults().push(Fault::Delay(delay));
    let filler = "x".repeat(4000);
    let one = |n| {
        format!(
            "{{\"track\":{{\"user_id\":\"u\",\"event\":\"E{n}\",\"properties\":{{\"p\":\"{filler}\"}}}}}}\n"
        )
    };
    dir.write("events.jsonl", (0..5000).map(one).collect::<String>());
    let args = [
        "send",
        "events.jsonl",
        "--data-dir",
        "kept",
        "--json",
        "--receipts",
    ];
    let sent = dir.run(&args);
    assert!(run(&["umount", "-l"]));
    sent.ends_with(1)
        .says("the disk is full")
        .says("not accepted")
        .says("not read from line");
    let (receipts, report) = sent.stdout.trim_end().rsplit_once('\n').unwrap();
    let report = parse(report);
    let accepted = receipts.lines().count();
    assert!(0 < accepted && accepted < 5000, "{report}");
    assert_eq!(report["read"], accepted, "{report}");
    assert_eq!(report["ended_early"], true, "{report}");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains("the disk is full"), "{report}");
    // Each line is accepted, named, or after what was read, and no two of them.
    let line = |receipt| parse(receipt)["line"].as_u64().unwrap();
    let mut lines: Vec<u64> = receipts.lines().map(line).collect();
    for range in report["not_accepted"].as_array().unwrap() {
        lines.extend(range[0].as_u64().unwrap()..=range[1].as_u64().unwrap());
    }
    lines.sort_unstable();
    let unread_from = report["unread_from"].as_u64().unwrap();
    assert_eq!(lines, (1..unread_from).collect::<Vec<_>>(), "{report}");
    let tally = &report["integrations"]["segment"];
    assert_eq!(tally["delivered"], accepted, "{report}");
    assert_eq!(names(&vendor).len(), accepted);
}

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};

use crate::support::{Dir, Run, segment};

const KEY: &str = "key-of-the-shop";

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

async fn vendor() -> (ScriptedSegment, Dir) {
    let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let dir = Dir::configured(&segment(&vendor.base_url(), KEY));
    (vendor, dir)
}

/// Waits until a request has met the vendor's one fault.
async fn heard(vendor: &ScriptedSegment) {
    while vendor.faults().pending() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Events of one person: each batch waits for the one before.
fn events(count: usize) -> String {
    (0..count)
        .map(|n| format!("{{\"page\":{{\"user_id\":\"u1\",\"name\":\"P{n}\"}}}}\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_and_the_rest_is_named() {
    for name in ["INT", "TERM"] {
        let (vendor, dir) = vendor().await;
        vendor
            .faults()
            .push(Fault::Delay(Duration::from_millis(1000)));
        // More than one batch takes: what is beyond waits for the first.
        dir.write("events.jsonl", events(6000));
        let child = dir
            .command(&["send", "events.jsonl", "--json", "-v"])
            .spawn()
            .unwrap();
        heard(&vendor).await;
        signal(&child, name);
        let run = end(child);
        run.ends_with(1)
            .says("stopping: what is in flight is finished")
            .says(": segment: not sent\n");
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let tally = &report["integrations"]["segment"];
        let received = vendor.received().len();
        assert!(received > 0, "{report}");
        assert_eq!(tally["delivered"], received, "{report}");
        assert_eq!(tally["failed"], 0, "{report}");
        let not_sent = usize::try_from(report["read"].as_u64().unwrap()).unwrap() - received;
        assert!(not_sent > 0, "{report}");
        assert_eq!(tally["not_sent"], not_sent, "{report}");
        assert_eq!(report["ended_early"], true, "{report}");
        let named = run.stderr.matches(": segment: not sent\n").count();
        assert_eq!(named, not_sent);
        let first = format!("\nevents.jsonl:{}: segment: not sent\n", received + 1);
        run.says(&first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_ends_at_once() {
    let (vendor, dir) = vendor().await;
    vendor.faults().push(Fault::Hang);
    dir.write("events.jsonl", events(3));
    let mut child = dir
        .command(&["send", "events.jsonl", "--timeout", "1h", "--in-memory"])
        .spawn()
        .unwrap();
    heard(&vendor).await;
    signal(&child, "INT");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("once more ends at once"), "{line}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(child.try_wait().unwrap(), None, "it waits for the answer");
    let asked = Instant::now();
    signal(&child, "INT");
    end(child).ends_with(130);
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_that_never_ends_holds_nothing_up() {
    let (vendor, dir) = vendor().await;
    let mut child = dir
        .command(&["send", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(events(2).as_bytes()).unwrap();
    let arrived = vendor
        .wait_until(Duration::from_secs(10), |counts| counts.received == 2)
        .await;
    assert!(arrived, "what is read is sent, though more may come");
    signal(&child, "INT");
    end(child)
        .ends_with(1)
        .says("stdin: stopped; not read from line 3 on");
    drop(stdin);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_runs_until_it_is_stopped() {
    let dir = Dir::new();
    let mut child = dir.command(&["sandbox"]).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut configuration = String::new();
    for line in stdout.lines() {
        let line = line.unwrap();
        configuration += &line;
        configuration.push('\n');
        // The last line of the last vendor's table.
        if line.starts_with("public_api_base_url") {
            break;
        }
    }
    dir.write("analytics.toml", configuration);
    dir.write(
        "events.jsonl",
        events(3) + "{\"delete\":{\"user_id\":\"u1\"}}\n",
    );
    dir.run(&["send", "events.jsonl", "--to", "segment"])
        .ends_with(0);
    signal(&child, "INT");
    end(child)
        .ends_with(0)
        .says("segment    http://127.0.0.1:")
        .says("segment    200 POST /v1/batch: 3 received\n")
        .says("segment    200 POST /regulations: 1 received\n");
}

//! The command, killed at any moment (`SIGKILL`: nothing of it runs any
//! more), again and again, while the vendor fails one request in ten. What it
//! said it had accepted arrives: exactly as it was, in each user's order, and
//! twice only under the same message id.
//!
//! ```text
//! ANALYTICS_CRASHES=100 cargo test -p analytics-cli --all-features --test crash -- --nocapture
//! ```
//!
//! `ANALYTICS_CRASH_SEED` repeats a run, as far as time can be repeated.

#![cfg(all(unix, feature = "segment"))]
#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use analytics_testkit::{Keep, Scripted, ScriptedSegment, SegmentAccount, ServerOptions};
use serde_json::{Value, json};

/// Crashes, unless the environment says how many.
const CRASHES: usize = 12;

const USERS: u64 = 17;

/// The longest that a run lives.
const LONGEST_MS: u64 = 700;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// An event's line; what is in it follows from its number.
fn line(number: u64) -> Value {
    let len = (number * 7919 % 1500) as usize;
    json!({
        "context": {"message_id": format!("m{number}")},
        "track": {
            "user_id": format!("u{}", number % USERS),
            "event": "Order Completed",
            "properties": {"number": number, "text": "é".repeat(len), "nested": {"a": [1, 2.5, null]}},
        },
    })
}

/// A run of the command that is still alive.
struct Run {
    child: Child,
    receipts: std::thread::JoinHandle<Vec<String>>,
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analytics"));
    command.args(args).current_dir(dir).env_clear();
    command
}

/// The message ids that the command says it has accepted. A line that was cut
/// by the end says nothing.
fn receipts(stdout: ChildStdout) -> Vec<String> {
    let mut stdout = BufReader::new(stdout);
    let mut accepted = Vec::new();
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if line.ends_with('\n') {
            let receipt: Value = serde_json::from_str(&line).unwrap();
            let id = receipt.get("message_id").unwrap();
            accepted.push(id.as_str().unwrap().to_owned());
        }
        line.clear();
    }
    accepted
}

impl Run {
    fn start(dir: &Path) -> (Self, std::process::ChildStdin) {
        let args = ["send", "-", "--data-dir", "events", "--receipts"];
        let mut child = command(dir, &args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = child.stdout.take().unwrap();
        let receipts = std::thread::spawn(move || receipts(stdout));
        (Self { child, receipts }, stdin)
    }

    /// Ends it without a word: what it had accepted.
    fn kill(mut self) -> Vec<String> {
        // SIGKILL, on Unix.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.receipts.join().unwrap()
    }
}

#[test]
fn what_was_accepted_arrives_whatever_happens_to_the_process() {
    let crashes = number("ANALYTICS_CRASHES").map_or(CRASHES, |n| n as usize);
    let seed = number("ANALYTICS_CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let options = ServerOptions::default().keep(Keep::Everything);
    let account = SegmentAccount::new("write-key");
    let vendor: ScriptedSegment = runtime
        .block_on(Scripted::start_with(options, account))
        .unwrap();
    vendor.faults().random(0.1, seed);

    let dir = tempfile::tempdir().unwrap();
    let configuration = format!(
        "[integrations.segment]\nwrite_key = \"write-key\"\nbase_url = \"{}\"\n\
         [integrations.segment.policies.request]\n\
         retry_policy = {{ initial_interval = \"5ms\", maximum_interval = \"50ms\" }}\n",
        vendor.base_url()
    );
    std::fs::write(dir.path().join("analytics.toml"), configuration).unwrap();

    let mut next = 0;
    let mut accepted = Vec::new();
    for crash in 0..crashes {
        let (run, mut stdin) = Run::start(dir.path());
        let lives = Duration::from_millis(chance.u64(1..LONGEST_MS));
        let end = Instant::now() + lives;
        // Bursts and pauses, until it is killed. What was written and not
        // accepted may have been accepted all the same: nobody knows.
        let writer = Arc::new(Mutex::new(next));
        let written = Arc::clone(&writer);
        let mut pace = chance.fork();
        let writing = std::thread::spawn(move || {
            loop {
                let burst = pace.u64(1..25);
                let mut lines = String::new();
                {
                    let mut next = written.lock().unwrap();
                    for _ in 0..burst {
                        writeln!(lines, "{}", line(*next)).unwrap();
                        *next += 1;
                    }
                }
                if stdin.write_all(lines.as_bytes()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(pace.u64(0..8)));
            }
        });
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let receipts = run.kill();
        writing.join().unwrap();
        next = *writer.lock().unwrap();
        println!(
            "crash {crash} after {} ms: {} accepted, {} written in all",
            lives.as_millis(),
            receipts.len(),
            next
        );
        accepted.extend(receipts);
    }
    assert!(accepted.len() > crashes, "hardly anything was accepted");

    let drained = command(
        dir.path(),
        &["drain", "--data-dir", "events", "--timeout", "2m"],
    )
    .output()
    .unwrap();
    let said = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert!(drained.status.success(), "{said}");

    let received = vendor.received();
    let mut arrived = BTreeSet::new();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for received in &received {
        let body = &received.body;
        let number = body["properties"]["number"].as_u64().unwrap();
        let sent = line(number);
        assert!(number < next, "{number} was never written");
        assert_eq!(body["messageId"], sent["context"]["message_id"]);
        assert_eq!(body["properties"], sent["track"]["properties"]);
        assert_eq!(body["userId"], sent["track"]["user_id"]);
        assert_eq!(body["event"], sent["track"]["event"]);
        assert!(arrived.insert(body["messageId"].as_str().unwrap()));
        let user = body["userId"].as_str().unwrap().to_owned();
        if let Some(before) = last.insert(user, number) {
            assert!(before < number, "{before} came before {number}");
        }
    }
    for id in &accepted {
        assert!(
            arrived.contains(id.as_str()),
            "{id} was accepted, and is lost"
        );
    }
    assert!(vendor.violations().is_empty(), "{:?}", vendor.violations());
    println!(
        "{crashes} crashes: {} accepted, {} arrived, {} of them also a second time, \
         {} requests of {} failed",
        accepted.len(),
        arrived.len(),
        vendor.duplicates().len(),
        vendor.counts().faults,
        vendor.counts().requests
    );
}

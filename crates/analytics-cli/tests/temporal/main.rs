//! The command on a real Temporal server, with scripted vendors on loopback.
//!
//! `cargo xtask test` starts the server and says where it is.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests, also where they are helpers"
)]

#[path = "../cli/support.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod support;

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::ffi::OsStrExt as _,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use analytics_testkit::{Answer, Fault, ScriptedSegment, SegmentAccount};
use serde_json::{Value, json};

use crate::support::{Dir, Run, segment};

const KEY: &str = "key-of-the-shop";

const SOON: Duration = Duration::from_secs(60);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, which starts a Temporal server")
    })
}

/// A vendor, a configuration that leads to it, and a task queue of its own.
struct World {
    vendor: ScriptedSegment,
    dir: Dir,
    queue: String,
}

impl World {
    async fn new(test: &str) -> Self {
        let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
            .await
            .unwrap();
        let dir = Dir::configured(&segment(&vendor.base_url(), KEY));
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let queue = format!("{test}-{now}");
        Self { vendor, dir, queue }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.dir.command(args);
        command
            .env("TEMPORAL_ADDRESS", variable("ANALYTICS_TEMPORAL_ADDRESS"))
            .args(["--task-queue", &self.queue]);
        command
    }

    /// A worker that works.
    fn worker(&self, args: &[&str]) -> Worker {
        let mut child = self.command(&[&["worker"], args].concat()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        while !log.contains("working") {
            log += &said
                .next()
                .unwrap_or_else(|| panic!("it ended: {log}"))
                .unwrap();
            log += "\n";
        }
        let rest = std::thread::spawn(move || said.map(|line| line.unwrap() + "\n").collect());
        Worker { child, log, rest }
    }

    fn send(&self, args: &[&str]) -> Run {
        let all = [&["send", "events.jsonl", "--engine", "temporal"], args].concat();
        self.command(&all).output().unwrap().into()
    }

    fn send_json(&self, code: i32) -> Value {
        let run = self.send(&["--json"]);
        serde_json::from_str(&run.ends_with(code).stdout).unwrap()
    }

    /// Events of one person, with message ids of their own.
    fn events(&self, count: usize) {
        let line = |n| {
            let id = format!("{}-{n}", self.queue);
            let context = json!({"message_id": id, "timestamp": "2026-03-02T09:14:05Z"});
            let track = json!({"user_id": "u1", "event": format!("E{n}")});
            format!("{}\n", json!({"context": context, "track": track}))
        };
        self.dir
            .write("events.jsonl", (0..count).map(line).collect::<String>());
    }
}

struct Worker {
    child: Child,
    log: String,
    rest: std::thread::JoinHandle<String>,
}

impl Worker {
    /// Asks it to end: how it did, and what it printed.
    fn end(mut self, signal: &str) -> Run {
        assert!(kill(signal, &self.child.id().to_string()));
        let mut stdout = String::new();
        let pipe = self.child.stdout.as_mut().unwrap();
        pipe.read_to_string(&mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        let stderr = std::mem::take(&mut self.log) + &self.rest.join().unwrap();
        Run {
            code,
            stdout,
            stderr,
        }
    }
}

fn kill(signal: &str, id: &str) -> bool {
    let sent = Command::new("kill").args([signal, id]).status();
    sent.unwrap().success()
}

/// A workflow, executed by the `temporal` command.
fn execute(queue: &str, name: &str, input: &Value) -> Output {
    Command::new(variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(["workflow", "execute", "--output", "json", "--type", name])
        .args(["--address", &variable("ANALYTICS_TEMPORAL_ADDRESS")])
        .args(["--task-queue", queue, "--input", &input.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_works_until_it_is_asked_to_end() {
    for (signal, format) in [("-TERM", "text"), ("-INT", "json")] {
        let world = World::new("worker").await;
        let worker = world.worker(&["--log-format", format]);
        let input = json!({"identify": {"user_id": "u1", "traits": {"plan": "pro"}}});
        let output = execute(&world.queue, "segment(analytics).Identify", &input);
        let output: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output["result"]["status"], "success", "{output}");
        let of_ada = json!({"email": "ada@example.com"});
        for wrong in [
            json!({"track": {"user_id": "u1", "event": "", "traits": of_ada}}),
            json!({"track": {"user_id": 7, "event": "x", "traits": of_ada}}),
        ] {
            let output = execute(&world.queue, "segment(analytics).Track", &wrong);
            assert!(!output.status.success());
        }
        let run = worker.end(signal);
        // The event's failure is logged, and nothing of what was in it.
        run.ends_with(0);
        if format == "text" {
            run.says("an event failed integration=\"segment\" kind=track message_id=")
                .says("events failed that could not be read integration=\"segment\" events=1")
                .says("WARN analytics_temporal::failed: ");
        }
        assert!(!run.all().contains("ada@"), "{run:#?}");
        assert_eq!(world.vendor.received().len(), 1);
        assert_eq!(world.vendor.violations(), []);
        if format == "json" {
            assert_eq!(run.stdout, "");
            let lines = run.stderr.lines();
            let lines: Vec<Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
            assert_eq!(lines[0]["message"], "registered", "{run:#?}");
            assert_eq!(lines[0]["integration"], "segment", "{run:#?}");
            assert_eq!(lines[0]["at_once"], 4, "{run:#?}");
            let queue = format!("{}/segment", world.queue);
            assert_eq!(lines[0]["task_queue"], json!(queue), "{run:#?}");
            let names = |key: &str| lines[0][key].as_str().unwrap().to_owned();
            assert!(names("workflows").contains("segment(analytics).Batch"));
            assert!(names("activities").contains("segment(analytics).Track.Request"));
            assert!(lines.iter().all(|line| line["timestamp"].is_string()));
            assert_eq!(lines[1]["task_queue"], json!(world.queue), "{run:#?}");
        } else {
            let head = run.stdout.lines().next().unwrap();
            assert!(head.ends_with(&format!("namespace default, task queue {}", world.queue)));
            for part in [
                &format!(" {}/segment ", world.queue),
                "segment(analytics).Alias",
                ".Track",
                "Activities, on the integration's task queue: each workflow's name with .Request \
                 and .Validation.",
            ] {
                assert!(run.stdout.contains(part), "{run:#?}");
            }
            let first = run.stderr.lines().next().unwrap();
            assert!(
                first.starts_with("20") && first.contains(" INFO "),
                "{run:#?}"
            );
            run.says("ended");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_sent_twice_is_delivered_once() {
    let world = World::new("twice").await;
    let worker = world.worker(&[]);
    // More than one batch.
    world.events(1200);
    let report = world.send_json(0);
    let tally = json!({"delivered": 1200, "failed": 0, "unsupported": 0});
    let whole =
        |tally: Value| json!({"read": 1200, "invalid": 0, "integrations": {"segment": tally}});
    assert_eq!(report, whole(tally));
    let names = |world: &World| -> Vec<String> {
        let received = world.vendor.received();
        let names = received
            .iter()
            .map(|r| r.body["event"].as_str().unwrap().to_owned());
        names.collect()
    };
    let in_order: Vec<_> = (0..1200).map(|n| format!("E{n}")).collect();
    assert_eq!(names(&world), in_order);
    let report = world.send_json(0);
    let earlier = json!({"delivered": 1200, "failed": 0});
    let tally = json!({"delivered": 0, "failed": 0, "unsupported": 0, "earlier": earlier});
    assert_eq!(report, whole(tally));
    assert_eq!(names(&world), in_order);
    let run = world.send(&["--receipts"]);
    let receipt: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(receipt["line"], 1);
    assert_eq!(receipt["message_id"], json!(format!("{}-0", world.queue)));
    let id = receipt["workflow_id"].as_str().unwrap();
    assert!(id.starts_with("segment(analytics).Batch/"), "{receipt}");
    assert_eq!(run.stdout.lines().count(), 1200);
    run.ends_with(0)
        .says("from earlier runs, segment: 1,200 delivered, 0 failed");
    worker.end("-TERM").ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_sent_again_and_nothing_else_is() {
    let world = World::new("again").await;
    let worker = world.worker(&[]);
    world.events(3);
    let mut events = std::fs::read(world.dir.path().join("events.jsonl")).unwrap();
    let large = json!({
        "context": {"message_id": format!("{}-large", world.queue)},
        "track": {"user_id": "u1", "event": "x", "properties": {"p": "x".repeat(33 * 1024)}},
    });
    events.extend_from_slice(format!("{large}\n{{\"track\":{{\"user_id\":\"u1\"}}}}\n").as_bytes());
    world.dir.write("events.jsonl", events);
    // Nothing goes through: every event of the batch failed.
    world.vendor.faults().push(Fault::status(401).always());
    let report = world.send_json(1);
    assert_eq!(report["integrations"]["segment"]["failed"], 4, "{report}");
    world.vendor.faults().clear();
    let run = world.send(&["--json"]);
    run.ends_with(1)
        .says("events.jsonl:5: track.event: required: must not be empty")
        .says("events.jsonl:4: segment: track: too_large: ");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let tally = json!({"delivered": 3, "failed": 1, "unsupported": 0});
    assert_eq!(report["integrations"]["segment"], tally, "{report}");
    assert_eq!(world.vendor.received().len(), 3);
    // A part of the batch, and once more.
    for _ in 0..2 {
        let report = world.send_json(1);
        let earlier = json!({"delivered": 3, "failed": 0});
        let tally = json!({"delivered": 0, "failed": 1, "unsupported": 0, "earlier": earlier});
        assert_eq!(report["integrations"]["segment"], tally, "{report}");
    }
    assert_eq!(world.vendor.received().len(), 3);
    assert_eq!(world.vendor.duplicates(), Vec::<String>::new());
    worker.end("-TERM").ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_events_wait_in_temporal() {
    let world = World::new("waits").await;
    // One batch on its way, and one that waits for it.
    world.events(600);
    let run = world.send(&["--json", "--give-up-after", "2s", "-v"]);
    run.ends_with(1)
        .says("no worker polls the task queue waits-")
        .says("giving up: no batch has ended for too long")
        .says("segment: 500 on their way in segment(analytics).Batch/")
        .says("events.jsonl:501: segment: not sent\n");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let tally = &report["integrations"]["segment"];
    assert_eq!(tally["kept"], 500, "{report}");
    assert_eq!(tally["not_sent"], 100, "{report}");
    assert_eq!(report["ended_early"], true, "{report}");
    let worker = world.worker(&[]);
    let report = world.send_json(0);
    let tally = &report["integrations"]["segment"];
    assert_eq!(tally["delivered"], 100, "{report}");
    assert_eq!(tally["earlier"]["delivered"], 500, "{report}");
    assert_eq!(world.vendor.received().len(), 600);
    worker.end("-TERM").ends_with(0);
}

/// Whoever writes into a pipe as things happen does not fill a batch.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_slow_pipe_do_not_wait_for_its_end() {
    let world = World::new("pipe").await;
    let worker = world.worker(&[]);
    let mut command = world.command(&["send", "-", "--engine", "temporal", "--json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    for n in 1..3 {
        let track = json!({"user_id": "u1", "event": format!("E{n}")});
        writeln!(pipe, "{}", json!({"track": track})).unwrap();
        let begun = Instant::now();
        while world.vendor.received().len() < n {
            assert!(begun.elapsed() < SOON, "event {n} waits");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    drop(pipe);
    let run = Run::from(child.wait_with_output().unwrap());
    let report: Value = serde_json::from_str(&run.ends_with(0).stdout).unwrap();
    assert_eq!(
        report["integrations"]["segment"]["delivered"], 2,
        "{report}"
    );
    worker.end("-TERM").ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_nothing_comes_is_said() {
    let world = World::new("silent").await;
    let patient = segment(&world.vendor.base_url(), KEY);
    let patient = patient.replace("10ms", "5m").replace("20ms", "5m");
    world.dir.write("analytics.toml", patient);
    let worker = world.worker(&[]);
    world.events(2);
    let down = Answer::text(503, "down for today");
    world.vendor.faults().push(Fault::Answer(down).always());
    let run = world.send(&["--give-up-after", "12s"]);
    run.ends_with(1)
        .says("segment: an attempt failed, and is made again: ")
        .says("503")
        .says("giving up: no batch has ended for too long");
    assert_eq!(run.stderr.matches("is made again").count(), 1, "{run:#?}");
    worker.end("-TERM").ends_with(0);
}

/// A request that is never answered has its own time, unless the worker has no
/// more.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_when_its_time_is_over_or_at_the_second_signal() {
    for (args, signals, code) in [
        (&["--grace", "1s"][..], &["-TERM"][..], 0),
        (&[], &["-INT", "-INT"], 130),
    ] {
        let world = World::new("grace").await;
        world.vendor.faults().push(Fault::AcceptThenHang.always());
        let worker = world.worker(args);
        world.events(1);
        let mut send = world.command(&["send", "events.jsonl", "--engine", "temporal"]);
        let mut send = send.spawn().unwrap();
        let is_under_way = world.vendor.wait_until(SOON, |counts| counts.requests >= 1);
        assert!(is_under_way.await);
        // It says that Temporal goes on.
        let (id, begin) = (send.id().to_string(), Instant::now());
        assert!(kill("-INT", &id));
        let mut said = String::new();
        let mut pipe = send.stderr.take().unwrap();
        pipe.read_to_string(&mut said).unwrap();
        assert_eq!(send.wait().unwrap().code(), Some(1), "{said}");
        for part in [
            "stopping: Temporal goes on",
            "on their way in segment(analytics).Batch/",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let (last, first) = signals.split_last().unwrap();
        for signal in first {
            assert!(kill(signal, &worker.child.id().to_string()));
            std::thread::sleep(Duration::from_millis(500));
        }
        let run = worker.end(last);
        run.ends_with(code);
        if code == 0 {
            run.says("an attempt was given up: it was cancelled, or its worker ends activity=");
        }
        assert!(begin.elapsed() < Duration::from_secs(15));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_one_line_without_the_key() {
    let world = World::new("wrong").await;
    world.events(1);
    let address = variable("ANALYTICS_TEMPORAL_ADDRESS");
    world.dir.write("key", "hunter2\n");
    world.dir.write("empty", "\n");
    world.dir.write("two", "hunter2\nhunter3\n");
    world.dir.write(
        "broken.toml",
        "[profile.default]\napi_key = \"hunter2\" x\n",
    );
    world.dir.write(
        "profiles.toml",
        "[profile.other]\naddress = \"127.0.0.1:1\"\n",
    );
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &["--address", "127.0.0.1:1"],
            1,
            "127.0.0.1:1/: Connection refused",
        ),
        (
            &["--temporal-config", "profiles.toml", "--profile", "other"],
            1,
            "127.0.0.1:1/: Connection refused",
        ),
        (
            &["--address", &address, "--namespace", "nowhere"],
            2,
            "has no namespace nowhere",
        ),
        (
            &["--temporal-config", "nothing.toml"],
            2,
            "nothing.toml: No such file",
        ),
        (&["--temporal-config", "broken.toml"], 2, "line 2"),
        (&["--profile", "nobody"], 2, "'nobody' not found"),
        (
            &["--address", &address, "--tls-ca-path", "ca.pem"],
            2,
            "ca.pem: No such file",
        ),
        (
            &["--api-key-file", "empty"],
            2,
            "the API key file empty is empty",
        ),
        (
            &["--api-key-file", "two"],
            2,
            "the API key file two has a line break",
        ),
    ];
    for command in [
        &["worker"][..],
        &["send", "events.jsonl", "--engine", "temporal"],
    ] {
        for (args, code, said) in cases {
            let output = world
                .dir
                .command(&[command, args].concat())
                // Whatever else is there: it has nothing to do with Temporal.
                .env("OTHER", OsStr::from_bytes(b"\xff"))
                .output()
                .unwrap();
            let run = Run::from(output);
            run.ends_with(code).says("error: ").says(said);
            assert_eq!(run.stderr.lines().count(), 1, "{run:#?}");
            assert!(!run.all().contains("hunter2"), "{run:#?}");
        }
        // With a key, it is TLS, which this server does not speak.
        let with_key: [&[&str]; 2] = [&["--api-key-file", "key"], &[]];
        for args in with_key {
            let args = [command, &["--address", &address], args].concat();
            let mut command = world.dir.command(&args);
            let run = Run::from(command.env("TEMPORAL_API_KEY", "hunter2").output().unwrap());
            run.ends_with(1)
                .says(&format!("https://{address}"))
                .says("it does not speak TLS");
            assert!(!run.all().contains("hunter2"), "{run:#?}");
        }
    }
}

/// One of its own, which the test may freeze; killed at its end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As it hangs when its disk does.
#[tokio::test(flavor = "multi_thread")]
async fn that_the_server_does_not_answer_is_said_and_that_it_does_again() {
    let world = World::new("frozen").await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let server = Command::new(variable("ANALYTICS_TEMPORAL_COMMAND"))
        .args(["server", "start-dev", "--headless", "--port"])
        .arg(address.port().to_string())
        .stdout(Stdio::null())
        .spawn();
    let server = Server(server.unwrap());
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begin.elapsed() < SOON, "it does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    let worker = world.worker(&["--address", &address.to_string()]);
    let send = ["send", "-", "--engine", "temporal"];
    let mut send = world
        .command(&send)
        .args(["--address", &address.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let id = server.0.id().to_string();
    assert!(kill("-STOP", &id));
    std::thread::sleep(Duration::from_secs(22));
    assert!(kill("-CONT", &id));
    std::thread::sleep(Duration::from_secs(12));
    let event = json!({"track": {"user_id": "u1", "event": "Thawed"}}).to_string();
    let mut events = send.stdin.take().unwrap();
    events.write_all(event.as_bytes()).unwrap();
    drop(events);
    let sent = Run::from(send.wait_with_output().unwrap());
    let run = worker.end("-TERM");
    run.ends_with(0)
        .says("WARN analytics_temporal::server: the server does not answer: ")
        .says("INFO analytics_temporal::server: the server answers again ");
    sent.ends_with(0)
        .says(&format!("Temporal at http://{address}/ does not answer"));
    assert_eq!(world.vendor.received().len(), 1);
}

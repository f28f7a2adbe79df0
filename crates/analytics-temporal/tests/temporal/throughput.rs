//! What events cost on Temporal, one workflow each or in batches: prints the
//! table of docs/performance.md.
//!
//! `cargo xtask test-temporal --release --test temporal -- --ignored --nocapture throughput`

use std::{
    fs,
    ops::RangeInclusive,
    process::Command,
    time::{Duration, Instant},
};

use analytics_kit::{
    Input, Track,
    spec::{BatchInput, Delivery},
};
use analytics_temporal::TemporalWorker;
use futures::future::join_all;
use serde_json::Value;
use temporalio_client::UntypedWorkflow;

use crate::{
    puppet::{Puppet, in_twos},
    world::{World, history, variable},
};

/// Of each load, in turns, after one that is not counted.
const RUNS: usize = 5;

const BATCH: usize = 500;

/// So many workflows at once, of so many events.
#[derive(Clone, Copy)]
struct Load {
    workflows: usize,
    events: usize,
}

const LOADS: [Load; 3] = [
    Load {
        workflows: 500,
        events: 1,
    },
    Load {
        workflows: 1,
        events: BATCH,
    },
    Load {
        workflows: 20,
        events: BATCH,
    },
];

/// A run of a load.
struct Run {
    took: Duration,
    /// Processor time of the server; of this process, which is client, worker
    /// and vendor.
    server: Duration,
    own: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    let puppet = Puppet {
        batching: in_twos(BATCH),
        ..Puppet::new(|_| Ok(Delivery::default()))
    };
    let mut worker = TemporalWorker::new();
    worker.integration(std::sync::Arc::new(puppet)).unwrap();
    let world = World::new(worker).await;

    let mut runs = LOADS.map(|_| Vec::new());
    let mut histories = LOADS.map(|_| (0, 0));
    for turn in 0..=RUNS {
        for ((load, runs), history) in LOADS.iter().zip(&mut runs).zip(&mut histories) {
            let (run, of_one) = measure(&world, *load).await;
            *history = of_one;
            if turn > 0 {
                runs.push(run);
            }
        }
    }
    world.stop().await;

    println!("{}", machine());
    println!(
        "| workflows | events in each | events/s | from .. to | server's CPU ms/event | \
         client's and worker's | history events/event | history bytes/event |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for ((load, runs), (in_history, bytes)) in LOADS.iter().zip(&runs).zip(histories) {
        let events = (load.workflows * load.events) as f64;
        let (rate, range) = median(runs.iter().map(|run| events / run.took.as_secs_f64()));
        let ms = |time: Duration| time.as_secs_f64() * 1000.0 / events;
        let (server, _) = median(runs.iter().map(|run| ms(run.server)));
        let (own, _) = median(runs.iter().map(|run| ms(run.own)));
        println!(
            "| {} | {} | {rate:.0} | {:.0} .. {:.0} | {server:.2} | {own:.2} | {:.3} | {} |",
            load.workflows,
            load.events,
            range.start(),
            range.end(),
            f64::from(in_history) / load.events as f64,
            bytes / load.events,
        );
    }
}

/// One run, and how many events and bytes the history of one workflow has.
async fn measure(world: &World, load: Load) -> (Run, (u32, usize)) {
    let server_id = variable("ANALYTICS_TEMPORAL_SERVER_ID");
    let (server, own) = (cpu(&server_id), cpu("self"));
    let begin = Instant::now();
    let workflows = (0..load.workflows).map(|n| execute(world, n, load.events));
    let ids = join_all(workflows).await;
    let run = Run {
        took: begin.elapsed(),
        server: cpu(&server_id) - server,
        own: cpu("self") - own,
    };
    let client = world.connection.client();
    let handle = client.get_workflow_handle::<UntypedWorkflow>(&ids[0]);
    let history = history(&handle).await;
    let json: Value = serde_json::from_slice(&history).unwrap();
    let events = json["events"].as_array().unwrap().len();
    (run, (u32::try_from(events).unwrap(), history.len()))
}

/// Executes a workflow; its id.
async fn execute(world: &World, n: usize, events: usize) -> String {
    if events == 1 {
        let started = world.client.start::<Track>("puppet", track(n)).await;
        let started = started.unwrap();
        started.result().await.unwrap();
        return started.workflow_id().to_owned();
    }
    let batch = BatchInput::new((0..events).map(|n| track(n).into_any()));
    let started = world.client.start_batch("puppet", batch).await.unwrap();
    let output = started.result().await.unwrap();
    assert_eq!(output.failures().count(), 0);
    started.workflow_id().to_owned()
}

fn track(n: usize) -> Input<Track> {
    Input::new(
        Track::new("Order Completed")
            .user_id(format!("u{n}"))
            .property("revenue", 42.5),
    )
}

/// The processor time of a process, as Linux tells it in hundredths of a second.
fn cpu(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, which comes before, may have spaces.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// The server's version and the machine.
fn machine() -> String {
    let command = Command::new(variable("ANALYTICS_TEMPORAL_COMMAND"))
        .arg("--version")
        .output()
        .unwrap();
    let processors = std::thread::available_parallelism().unwrap();
    format!(
        "{}, {processors} processors, {RUNS} runs of each: the medians\n",
        String::from_utf8_lossy(&command.stdout).trim()
    )
}

fn median(values: impl Iterator<Item = f64>) -> (f64, RangeInclusive<f64>) {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let range = values[0]..=values[values.len() - 1];
    (values[values.len() / 2], range)
}

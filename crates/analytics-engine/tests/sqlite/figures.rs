//! How fast it is on this machine: `cargo test --release -p analytics-engine
//! --test sqlite -- --ignored --nocapture figures`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_engine::{
    Store,
    store::{Accepted, Erasure, Settlement},
};
use analytics_spec::{AnyInput, Delete, Track};

use crate::support::*;

/// An event of 400 bytes.
fn event(n: usize) -> AnyInput {
    let event = Track::new("Order Completed")
        .user_id(format!("user-{}", n % 10_000))
        .property("order_id", format!("order-{n:010}"))
        .property("text", "x".repeat(190));
    input(event, &format!("0193-{n:016}"))
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap_or("VmRSS: unknown").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long, and tells nothing but figures"]
async fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).await);
    attach(&store, &["a", "b"]).await;
    println!(
        "an event has {} bytes",
        serde_json::to_vec(&event(1)).unwrap().len()
    );

    let mut times = Vec::new();
    for n in 0..500 {
        let accepted = vec![Accepted::new(event(n), names(&["a", "b"]))];
        let begun = Instant::now();
        store.append(accepted, Duration::MAX).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "alone: p50 {:?}, p99 {:?}, most {:?}",
        times[250], times[495], times[499]
    );

    let total = 1_000_000_usize;
    let begun = Instant::now();
    let lanes = names(&["a", "b"]);
    let tasks = (0..4096).map(|task| {
        let (store, lanes) = (Arc::clone(&store), lanes.clone());
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            for n in (task..total).step_by(4096) {
                let accepted = vec![Accepted::new(event(n), lanes.clone())];
                let begun = Instant::now();
                store.append(accepted, Duration::MAX).await.unwrap();
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        })
    });
    let mut slowest = Duration::ZERO;
    for task in tasks.collect::<Vec<_>>() {
        slowest = slowest.max(task.await.unwrap());
    }
    let took = begun.elapsed();
    println!(
        "flood: {:.0} events a second, the slowest {slowest:?}",
        total as f64 / took.as_secs_f64()
    );
    println!(
        "{} with {} pending",
        resident(),
        status(&store, "a").await.pending
    );
    store.close().await.unwrap();
    let size = std::fs::metadata(dir.path().join("events.db"))
        .unwrap()
        .len();
    println!("file: {} MiB", size >> 20);

    for checks in [true, false] {
        let begun = Instant::now();
        let store = options(dir.path()).check(checks).open().await.unwrap();
        println!(
            "open (checks: {checks}): {:?}, {}",
            begun.elapsed(),
            resident()
        );
        drop(store);
    }
    let store = open(dir.path()).await;
    let begun = Instant::now();
    let (mut after, mut count) = (0, 0);
    loop {
        let pulled = store.pull("a", after, 1 << 20).await.unwrap();
        if pulled.events.is_empty() {
            break;
        }
        count += pulled.events.len();
        after = pulled.through;
    }
    println!(
        "pull of a backlog: {:?} an event, {}",
        begun.elapsed() / count as u32,
        resident()
    );

    let last = store.last();
    for (lane, what) in [
        ("a", "while another lane is behind"),
        ("b", "by the last lane"),
    ] {
        let begun = Instant::now();
        let mut batches = 0;
        for first in (1..=last / 2).step_by(500) {
            let batch: Vec<_> = (first..first + 500)
                .map(|seq| (seq, Settlement::Delivered))
                .collect();
            settle(&store, lane, &batch).await;
            batches += 1;
        }
        let took = begun.elapsed();
        println!(
            "settle {what}: {:?} an event, {:?} a batch",
            took / (last / 2) as u32,
            took / batches
        );
    }
    // From the middle, in strides: nothing is in order.
    let begun = Instant::now();
    let mut batches = 0;
    for stride in 0..200 {
        let batch: Vec<_> = (0..500)
            .map(|n| (last / 2 + 1000 + stride + n * 200, Settlement::Delivered))
            .collect();
        settle(&store, "a", &batch).await;
        batches += 1;
    }
    println!(
        "settle out of order: {:?} a batch",
        begun.elapsed() / batches
    );
    let begun = Instant::now();
    let erased = store.erase("user-77").await.unwrap();
    println!("erase of {} events: {:?}", erased.events, begun.elapsed());
    let begun = Instant::now();
    let all: Vec<_> = (1..=last).map(|seq| (seq, Settlement::Delivered)).collect();
    settle(&store, "a", &all).await;
    settle(&store, "b", &all).await;
    println!("settle the rest: {:?}", begun.elapsed());
    let begun = Instant::now();
    store.tidy().await.unwrap();
    println!("tidy: {:?}", begun.elapsed());
    store.close().await.unwrap();
    let size = std::fs::metadata(dir.path().join("events.db"))
        .unwrap()
        .len();
    println!("file: {} KiB", size >> 10);
}

/// Many users who are deleted at the same time, while others are accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long, and tells nothing but figures"]
async fn bulk_deletes() {
    let dir = temporary();
    let store = open(dir.path()).await;
    let erased = Arc::new(AtomicU64::new(0));
    let on_erased = {
        let erased = Arc::clone(&erased);
        Arc::new(move |_: &Erasure| {
            erased.fetch_add(1, Ordering::Relaxed);
        })
    };
    store.attach(&names(&["a"]), on_erased).await.unwrap();
    append(&store, event(0), &["a"]).await;
    settle(&store, "a", &[(1, refused())]).await;
    let number = std::env::var("DELETES").map_or(100_000, |n| n.parse().unwrap());
    let deletes: Vec<_> = (0..number)
        .map(|n| Accepted::new(input(Delete::new(format!("u{n}")), "m"), names(&["a"])))
        .collect();
    store.append(deletes, Duration::MAX).await.unwrap();
    let all: Vec<_> = (2..number + 2)
        .map(|seq| (seq, Settlement::Delivered))
        .collect();
    let begun = Instant::now();
    store.settle("a", &all, None).await.unwrap();
    println!("settled: {:?}", begun.elapsed());
    let mut slowest = Duration::ZERO;
    let mut n = 0;
    while erased.load(Ordering::Relaxed) < number {
        n += 1;
        let begun = Instant::now();
        append(&store, event(n), &["a"]).await;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "{number} users: {:?}; {n} events accepted meanwhile, the slowest after {slowest:?}",
        begun.elapsed()
    );
}

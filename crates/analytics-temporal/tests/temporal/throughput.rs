//! How fast it is here: `cargo test --release -p analytics-temporal --test
//! temporal -- --ignored --nocapture throughput`, with a server as
//! `cargo xtask test` starts it.

use std::time::Instant;

use analytics_kit::{
    Input, Track,
    spec::{BatchInput, Delivery},
};
use analytics_temporal::TemporalWorker;
use futures::future::join_all;

use crate::{puppet::Puppet, world::World};

const EVENTS: usize = 500;
const BATCHES: usize = 20;

fn track(n: usize) -> Input<Track> {
    Input::new(
        Track::new("Order Completed")
            .user_id(format!("u{n}"))
            .property("revenue", 42.5),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    let puppet = Puppet {
        max_items: 500,
        ..Puppet::new(|_| Ok(Delivery::default()))
    };
    let mut worker = TemporalWorker::new();
    worker.integration(std::sync::Arc::new(puppet)).unwrap();
    let world = World::new(worker).await;

    let begin = Instant::now();
    let single = (0..EVENTS).map(|n| world.client.execute::<Track>("puppet", track(n)));
    for output in join_all(single).await {
        output.unwrap();
    }
    let rate = EVENTS as f64 / begin.elapsed().as_secs_f64();
    println!("one workflow per event: {rate:.0} events/s");

    let batch = || BatchInput::new((0..EVENTS).map(|n| track(n).into_any()));
    let begin = Instant::now();
    let output = world.client.execute_batch("puppet", batch()).await.unwrap();
    assert_eq!(output.failures().count(), 0);
    println!("one batch of {EVENTS} events: {:?}", begin.elapsed());

    let begin = Instant::now();
    let batches = (0..BATCHES).map(|_| world.client.execute_batch("puppet", batch()));
    for output in join_all(batches).await {
        assert_eq!(output.unwrap().failures().count(), 0);
    }
    let rate = (EVENTS * BATCHES) as f64 / begin.elapsed().as_secs_f64();
    println!("{BATCHES} batches of {EVENTS} events: {rate:.0} events/s");
    world.stop().await;
}

//! The functions that every event goes through, one by one.

#![expect(clippy::unwrap_used, reason = "what cannot be set up is not measured")]

use std::{hint::black_box, io::Write as _};

use analytics_bench::{
    order::Order,
    subjects::limit::{requests, stamped},
};
use analytics_http::HttpVendor as _;
use analytics_segment::{Config, Segment};
use analytics_spec::{AnyInput, Timestamp};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compression, write::GzEncoder};

const NUMBER: u64 = 1_234_567;

fn segment() -> Segment {
    Config::new("key").build().unwrap()
}

/// What `enqueue` does before the store has the event.
fn accepting(c: &mut Criterion) {
    c.bench_function("order", |b| b.iter(|| Order::new(black_box(NUMBER))));
    c.bench_function("build", |b| {
        b.iter_batched(
            || Order::new(NUMBER),
            |order| order.into_input().into_any(),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("stamp", |b| {
        b.iter_batched_ref(
            || Order::new(NUMBER).into_input().into_any(),
            |input| input.stamp(Timestamp::now()),
            BatchSize::SmallInput,
        );
    });
    let input = stamped(NUMBER).unwrap();
    c.bench_function("validate", |b| b.iter(|| black_box(&input).validate()));
    let segment = segment();
    c.bench_function("segment/validate", |b| {
        b.iter(|| segment.mapping().validate(black_box(&input)));
    });
    c.bench_function("drop", |b| {
        b.iter_batched(|| input.clone(), drop, BatchSize::SmallInput);
    });
}

/// What a lane does with it.
fn delivering(c: &mut Criterion) {
    let input = stamped(NUMBER).unwrap();
    let segment = segment();
    c.bench_function("segment/steps", |b| {
        b.iter(|| segment.mapping().steps(black_box(&input)));
    });
    let bodies: Vec<_> = (0..500)
        .flat_map(|number| segment.mapping().steps(&stamped(number).unwrap()).unwrap())
        .map(|step| step.body)
        .collect();
    let sending = analytics_http::Sending {
        at: Timestamp::UNIX_EPOCH,
        retry: 0,
    };
    let bodies: Vec<_> = bodies.iter().collect();
    let mut batch = c.benchmark_group("batch of 500");
    batch.throughput(Throughput::Elements(500));
    batch.bench_function("segment/request", |b| {
        b.iter(|| {
            let route = &analytics_segment::Route::Batch;
            segment.mapping().request(route, &bodies, sending)
        });
    });
    let requests = requests("http://127.0.0.1", 500).unwrap();
    let body = requests.first().unwrap().body();
    batch.bench_function("gzip", |b| {
        b.iter(|| {
            let out = Vec::with_capacity(body.len() / 4);
            let mut encoder = GzEncoder::new(out, Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        });
    });
    batch.finish();
}

/// What a store that writes does with it.
fn keeping(c: &mut Criterion) {
    let input = stamped(NUMBER).unwrap();
    let json = serde_json::to_vec(&input).unwrap();
    let mut group = c.benchmark_group("json");
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("write", |b| {
        b.iter(|| serde_json::to_vec(black_box(&input)));
    });
    group.bench_function("read", |b| {
        b.iter(|| AnyInput::from_json(black_box(&json)));
    });
    group.finish();
}

criterion_group!(benches, accepting, delivering, keeping);
criterion_main!(benches);

//! Many events, many tasks, real threads. Nothing here asks how long it takes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_engine::{Builder, Engine, MemoryStore};
use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Integration, KindSet, Policies, RetryPolicy,
    Track, ValidationError, integration::Batching, policies::ActivityPolicy,
};

use crate::support::{Ends, Vendor, event, secs};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_at_once_and_everything_arrives_in_order() {
    const TASKS: usize = 16;
    const EVENTS: usize = 200;
    const PEOPLE: usize = 3;
    let ends = Ends::default();
    let (one, many) = (
        Arc::new(Vendor::new("one")),
        Arc::new(Vendor::new("many").batches(50, 4)),
    );
    let engine = Engine::builder()
        .integration(one.clone())
        .integration(many.clone())
        .on_settled(ends.observer())
        .store(Arc::new(MemoryStore::new(100, 1_000_000)))
        .linger(Duration::from_millis(1))
        .build()
        .await
        .unwrap();
    let engine = Arc::new(engine);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                for n in 0..EVENTS {
                    // Tasks share their people.
                    let user = format!("u{}", n % PEOPLE);
                    engine
                        .enqueue(event(&user, format!("{task} {n}")))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(engine.close(secs(60)).await.is_empty());
    ends.assert_once();
    assert_eq!(ends.count(), TASKS * EVENTS * 2);
    assert_eq!(one.names().len(), TASKS * EVENTS);
    assert_eq!(many.names().len(), TASKS * EVENTS);
    for integration in ["one", "many"] {
        let mut next: HashMap<(String, usize), usize> = HashMap::new();
        for (name, error) in ends.at(integration) {
            assert_eq!(error, None);
            let (task, n) = name.split_once(' ').unwrap();
            let n: usize = n.parse().unwrap();
            let next = next
                .entry((task.to_owned(), n % PEOPLE))
                .or_insert(n % PEOPLE);
            assert_eq!(n, *next, "{integration}: of task {task}");
            *next += PEOPLE;
        }
    }
}

/// Counts, and nothing else; down for its first so many deliveries.
#[derive(Debug)]
struct Counter {
    name: &'static str,
    batching: Batching,
    failures: AtomicUsize,
    count: AtomicUsize,
    /// The number of the last event of each person.
    last: Mutex<HashMap<String, u64>>,
    is_in_order: AtomicBool,
}

impl Counter {
    fn new(name: &'static str, max_items: usize, failures: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            batching: Batching {
                max_items,
                max_bytes: usize::MAX,
                max_in_flight: 8,
            },
            failures: AtomicUsize::new(failures),
            count: AtomicUsize::new(0),
            last: Mutex::default(),
            is_in_order: AtomicBool::new(true),
        })
    }
}

#[async_trait::async_trait]
impl Integration for Counter {
    fn vendor(&self) -> &'static str {
        "counter"
    }

    fn name(&self) -> &str {
        self.name
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        self.deliver_batch(&[*attempt]).await.remove(0)
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        let fails = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
        if fails {
            let down = || Err(Error::new(ErrorKind::Unavailable, "503"));
            return attempts.iter().map(|_| down()).collect();
        }
        let mut last = self.last.lock().unwrap();
        for attempt in attempts {
            let analytics_spec::AnyEvent::Track(track) = &attempt.input.event else {
                continue;
            };
            let n: u64 = track.event.parse().unwrap();
            let user = attempt.input.event.user_id().unwrap();
            if let Some(last) = last.get_mut(user) {
                if *last >= n {
                    self.is_in_order.store(false, Ordering::SeqCst);
                }
                *last = n;
            } else {
                last.insert(user.to_owned(), n);
            }
        }
        self.count.fetch_add(attempts.len(), Ordering::SeqCst);
        attempts.iter().map(|_| Ok(Delivery::default())).collect()
    }

    fn batching(&self) -> Batching {
        self.batching
    }

    fn policies(&self) -> Policies {
        let retry = RetryPolicy::new()
            .initial_interval(Duration::from_millis(1))
            .maximum_attempts(0);
        Policies::new().request(ActivityPolicy::new().retry_policy(retry))
    }
}

/// So many events to three integrations, one of which is down at first.
async fn run(events: u64, builder: Builder, user: fn(u64) -> u64) {
    let counters = [
        Counter::new("one", 1, 0),
        Counter::new("many", 2000, 0),
        Counter::new("down", 50, 3),
    ];
    let settled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&settled);
    let mut builder = builder.on_settled(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    for counter in &counters {
        builder = builder.integration(counter.clone());
    }
    let engine = builder.build().await.unwrap();
    for n in 0..events {
        let track = Track::new(n.to_string()).user_id(format!("u{}", user(n)));
        engine.enqueue(track).await.unwrap();
    }
    assert!(engine.close(secs(300)).await.is_empty());
    assert_eq!(settled.load(Ordering::SeqCst) as u64, events * 3);
    for counter in &counters {
        assert_eq!(counter.count.load(Ordering::SeqCst) as u64, events);
        assert!(
            counter.is_in_order.load(Ordering::SeqCst),
            "{}",
            counter.name
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_of_any_shape() {
    let whole = || Engine::builder().store(Arc::new(MemoryStore::new(200_000, 1 << 30)));
    let small = || Engine::builder().store(Arc::new(MemoryStore::new(1000, 1 << 20)));
    // One person.
    run(10_000, whole(), |_| 0).await;
    // Everybody else.
    run(10_000, whole(), |n| n).await;
    // A thousand people, and little room.
    run(5_000, small(), |n| n % 1000).await;
}

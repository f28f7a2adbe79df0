//! The engine over the store on disk. Time is real: the store has a thread of
//! its own.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_engine::{Engine, Store, store::SqliteStore};
use analytics_spec::{
    Alias, Context, Event as _, Input, Policies, RetryPolicy, Track, policies::ActivityPolicy,
};

use crate::{
    stores::Disk,
    support::{Vendor, event, ms, secs, unavailable},
};

async fn tiny(dir: &Path) -> Arc<SqliteStore> {
    let options = SqliteStore::options(dir).tiny().check(false);
    Arc::new(options.open().await.unwrap())
}

async fn over(store: Arc<dyn Store>, vendor: &Arc<Vendor>, window_bytes: usize) -> Engine {
    Engine::builder()
        .integration(Arc::clone(vendor) as Arc<dyn analytics_spec::Integration>)
        .store(store)
        .linger(ms(1))
        .window_bytes(window_bytes)
        .build()
        .await
        .unwrap()
}

/// Pauses of a few milliseconds, for ever.
fn short() -> Policies {
    let retry = RetryPolicy::new()
        .initial_interval(ms(1))
        .maximum_interval(ms(5))
        .maximum_attempts(0);
    Policies::new().request(ActivityPolicy::new().retry_policy(retry))
}

/// An event as the test knows it: its people, and the users whose it is.
struct Known {
    people: Vec<String>,
    users: Vec<String>,
}

/// Any failures, any people, little room, engines that end at any time, and
/// users who are erased: everything else arrives, in order.
#[tokio::test]
async fn order_and_completeness_survive_restarts_and_erasures() {
    const RUNS: u64 = 4;
    let begin = Instant::now();
    for seed in 0..30_u64 {
        // However slow the disk is.
        if seed >= 3 && begin.elapsed() > secs(10) {
            break;
        }
        let chance = Arc::new(AtomicU64::new(seed * 7919 + 1));
        let roll = move |sides: u64| {
            let next = |n: u64| {
                n.wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407)
            };
            let old = chance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(next(n)));
            (next(old.unwrap()) >> 33) % sides
        };
        let dir = tempfile::tempdir().unwrap();
        let mut known: Vec<Known> = Vec::new();
        // Of whom nothing up to an event is to be sent any more.
        let mut erased: HashMap<String, usize> = HashMap::new();
        let mut has_arrived: HashSet<usize> = HashSet::new();
        for run in 0..RUNS {
            let gone: HashSet<usize> = (0..known.len())
                .filter(|n| is_erased(*n, &known, &erased))
                .collect();
            let arrived = Arc::new(Mutex::new(Vec::new()));
            let (rolls, arrives) = (roll.clone(), Arc::clone(&arrived));
            let vendor = Vendor::new("a")
                .batches(7, 3)
                .policies(short())
                .takes(ms(1))
                .answers(move |attempt| match rolls(4) {
                    0 => Err(unavailable().with_wait(ms(rolls(20)))),
                    _ => {
                        let n: usize = attempt.input.message_id().parse().unwrap();
                        arrives.lock().unwrap().push(n);
                        Ok(())
                    }
                });
            let vendor = Arc::new(vendor);
            let engine = over(tiny(dir.path()).await, &vendor, 6000).await;
            for _ in 0..12 {
                let first = known.len();
                let inputs = (0..=roll(9)).map(|more| {
                    let id = (first as u64 + more).to_string();
                    let (user, other) = (format!("u{}", roll(8)), format!("v{}", roll(4)));
                    let (any, users) = match roll(8) {
                        0 => (
                            Alias::new(user.clone(), other.clone()).into_any(),
                            vec![user, other],
                        ),
                        1 => (Track::new("e").anonymous_id(user).into_any(), vec![]),
                        _ => (event(&user, "e").into_any(), vec![user]),
                    };
                    let people = any.people().map(|person| format!("{person:?}")).collect();
                    known.push(Known { people, users });
                    Input::new(any).context(Context::new().message_id(id))
                });
                let inputs: Vec<_> = inputs.collect();
                engine.enqueue_all(inputs).await.unwrap();
                if roll(6) == 0 {
                    let user = format!("u{}", roll(8));
                    engine.erase_user(&user).await.unwrap();
                    erased.insert(user, known.len());
                }
            }
            if run + 1 == RUNS {
                engine.flush(secs(60)).await.unwrap();
                assert!(engine.close(secs(10)).await.is_empty());
            } else if roll(4) == 0 {
                drop(engine);
            } else {
                let left = engine.halt(ms(roll(30))).await;
                assert!(left.lost.is_empty());
            }
            // Two deliveries at once with one person's events are seen here.
            vendor.sent();
            let mut last: HashMap<&str, usize> = HashMap::new();
            for n in arrived.lock().unwrap().iter() {
                assert!(!gone.contains(n), "seed {seed}: {n} was erased");
                for person in &known[*n].people {
                    if let Some(last) = last.insert(person, *n) {
                        assert!(last < *n, "seed {seed}: {person}: {last} before {n}");
                    }
                    // Nobody's event was left behind.
                    let earlier = (0..*n).filter(|m| known[*m].people.contains(person));
                    for m in earlier {
                        let is_over = has_arrived.contains(&m) || is_erased(m, &known, &erased);
                        assert!(is_over, "seed {seed}: {person}: {n} without {m}");
                    }
                }
                has_arrived.insert(*n);
            }
        }
        for n in 0..known.len() {
            let is_over = has_arrived.contains(&n) || is_erased(n, &known, &erased);
            assert!(is_over, "seed {seed}: {n} is missing");
        }
    }
}

fn is_erased(n: usize, known: &[Known], erased: &HashMap<String, usize>) -> bool {
    let is_gone = |user: &String| erased.get(user).is_some_and(|through| n < *through);
    known[n].users.iter().any(is_gone)
}

/// Whoever waits for an event may do something else first: the store has it,
/// and the engine can end.
#[tokio::test]
async fn close_does_not_wait_for_who_is_not_polled() {
    let dir = tempfile::tempdir().unwrap();
    let vendor = Arc::new(Vendor::new("a"));
    let engine = over(tiny(dir.path()).await, &vendor, 1_000_000).await;
    let one = engine.enqueue(event("u1", "1"));
    let several = engine.enqueue_all([event("u1", "2"), event("u2", "3")]);
    let begin = Instant::now();
    assert!(engine.close(secs(30)).await.is_empty());
    assert!(begin.elapsed() < secs(15), "{:?}", begin.elapsed());
    let names: HashSet<_> = vendor.names().into_iter().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(one.await.unwrap().seq.is_some());
    assert_eq!(several.await.unwrap().len(), 2);
}

/// What an engine said when it was closed, it says again.
#[tokio::test]
async fn a_closed_engine_tells_what_it_kept() {
    let dir = tempfile::tempdir().unwrap();
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = over(tiny(dir.path()).await, &vendor, 1_000_000).await;
    for n in 0..11 {
        engine.enqueue(event("u1", format!("{n}"))).await.unwrap();
    }
    assert!(engine.health().await.unwrap().is_accepting);
    for _ in 0..2 {
        assert_eq!(engine.close(ms(1)).await.kept, 11);
        let health = engine.health().await.unwrap();
        assert!(!health.is_accepting && !health.is_well());
        assert_eq!(health.integrations[0].status.pending, 11);
    }
}

/// How large an event is, in a window of ten times that. An event that is
/// seen when it is sent takes five times its JSON.
const LARGE: usize = 100_000;

/// So many fill the window; the one that does so is let in.
const CARRIED: usize = 2;

/// A directory with large events, none of them in memory.
async fn large(dir: &Path) {
    let vendor = Arc::new(Vendor::new("a").hold());
    let engine = over(tiny(dir).await, &vendor, 1).await;
    for n in 0..40 {
        let large = event(&format!("u{n}"), "e").property("text", "x".repeat(LARGE));
        engine.enqueue(large).await.unwrap();
    }
    assert_eq!(engine.halt(Duration::ZERO).await.kept, 40);
}

#[tokio::test]
async fn what_is_under_way_is_bounded_by_its_size() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path()).await;
    let vendor = Vendor::new("a").batches(1, 100).unprepared();
    let vendor = Arc::new(vendor.takes(ms(20)));
    let engine = over(tiny(dir.path()).await, &vendor, 10 * LARGE).await;
    engine.flush(secs(60)).await.unwrap();
    assert_eq!(vendor.names().len(), 40);
    let most = vendor.most_in_flight.load(Ordering::SeqCst);
    assert_eq!(most, CARRIED, "as many as fit");
    assert!(engine.close(secs(10)).await.is_empty());
}

/// A store that is slow to write does not fill the memory with what it has
/// yet to hear.
#[tokio::test]
async fn what_is_not_written_is_bounded_by_its_size() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path()).await;
    let store = Arc::new(Disk::over(tiny(dir.path()).await));
    store.stick();
    let vendor = Arc::new(Vendor::new("a").batches(1, 1).unprepared());
    let engine = over(store, &vendor, 10 * LARGE).await;
    let all_that_may = async {
        while vendor.names().len() < CARRIED {
            tokio::time::sleep(ms(5)).await;
        }
    };
    tokio::time::timeout(secs(30), all_that_may).await.unwrap();
    tokio::time::sleep(ms(300)).await;
    assert_eq!(vendor.names().len(), CARRIED);
    assert_eq!(engine.halt(ms(1)).await.kept, 40);
}

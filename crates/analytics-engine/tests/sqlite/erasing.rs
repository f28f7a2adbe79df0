//! Forgetting people.

use std::time::Duration;

use analytics_engine::{
    Store,
    store::{Accepted, Erased, Erasure, Filter, Settlement},
};
use analytics_spec::{Alias, Delete, Identify, Retries, Timestamp, Track};

use crate::support::*;

#[tokio::test]
async fn nothing_of_a_user_is_left_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let told = Told::default();
    store
        .attach(&names(&["a", "b"]), told.on_erased())
        .await
        .unwrap();
    let mut seq = 0;
    for n in 0..300 {
        let events: Vec<_> = (0..n % 5 + 1)
            .map(|k| {
                let user = if (n + k) % 3 == 0 {
                    "ada@secret.example"
                } else {
                    "somebody"
                };
                let filler = "x".repeat((n * 37 + k * 101) % 3000);
                let secret = if user == "somebody" {
                    "public"
                } else {
                    "hidden-payload"
                };
                let event = Track::new("e")
                    .user_id(user)
                    .property("p", format!("{secret}{filler}"));
                Accepted::new(
                    input(event, &format!("{secret}-{n}-{k}")),
                    names(&["a", "b"]),
                )
            })
            .collect();
        let len = events.len() as u64;
        store.append(events, Duration::MAX).await.unwrap();
        // Some are delivered everywhere, some refused, some in retry.
        for seq in seq + 1..=seq + len {
            let settlement = match seq % 7 {
                0 => refused(),
                1 => Settlement::retry(Timestamp::now(), Retries::new()),
                2 => continue,
                _ => Settlement::Delivered,
            };
            settle(&store, "a", &[(seq, settlement)]).await;
            if seq % 2 == 0 {
                settle(&store, "b", &[(seq, Settlement::Delivered)]).await;
            }
        }
        seq += len;
    }
    append(
        &store,
        input(Alias::new("ada@secret.example", "ada2"), "hidden-payload"),
        &["a"],
    )
    .await;
    let others = |all: Vec<analytics_engine::store::Stored>| {
        let all = all
            .into_iter()
            .map(|e| e.body.load().unwrap().message_id().to_owned());
        all.filter(|id| id.starts_with("public"))
            .collect::<Vec<_>>()
    };
    let before = (
        others(pull_all(&store, "a", 5000).await),
        others(pull_all(&store, "b", 5000).await),
    );
    assert!(!holding(dir.path(), "hidden-payload").is_empty());
    let erased = store.erase("ada@secret.example").await.unwrap();
    assert!(
        erased.events > 100 && erased.dead_letters > 10,
        "{erased:?}"
    );
    assert_eq!(
        told.take(),
        [("ada@secret.example".to_owned(), store.last())]
    );
    assert_eq!(holding(dir.path(), "ada@secret"), [] as [&str; 0]);
    assert_eq!(holding(dir.path(), "hidden-payload"), [] as [&str; 0]);
    assert!(!holding(dir.path(), "public").is_empty());
    assert_eq!(
        store.erase("ada@secret.example").await.unwrap(),
        Erased::new(0, 0)
    );
    let mut store = store;
    for _ in 0..2 {
        let (a, b) = (
            pull_all(&store, "a", 5000).await,
            pull_all(&store, "b", 5000).await,
        );
        assert_eq!(status(&store, "a").await.pending, a.len() as u64);
        assert_eq!(status(&store, "b").await.pending, b.len() as u64);
        let in_retry = a.iter().filter(|event| event.not_before.is_some()).count();
        assert_eq!(status(&store, "a").await.in_retry, in_retry as u64);
        assert_eq!((others(a), others(b)), before);
        drop(store);
        store = open(dir.path()).await;
    }
}

#[tokio::test]
async fn a_delete_erases_when_every_lane_has_settled_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let told = Told::default();
    store
        .attach(&names(&["a", "b", "c"]), told.on_erased())
        .await
        .unwrap();
    append(&store, track("u", "m1"), &["a", "b", "c"]).await;
    append(&store, track("v", "m2"), &["a", "b", "c"]).await;
    settle(&store, "c", &[(1, refused())]).await;
    append(&store, input(Delete::new("u"), "d"), &["a", "b"]).await;
    append(&store, track("u", "back"), &["a", "b", "c"]).await;
    settle(&store, "a", &[(3, Settlement::Delivered)]).await;
    assert!(told.take().is_empty());
    assert_eq!(ids(&store, "a").await, ["m1", "m2", "back"]);
    settle(&store, "b", &[(3, refused())]).await;
    assert_eq!(told.take(), [("u".to_owned(), 3)]);
    for lane in ["a", "b", "c"] {
        assert_eq!(ids(&store, lane).await, ["m2", "back"]);
    }
    // Of the dead letters, the one of the delete itself is left.
    let letters = store
        .dead_letters()
        .unwrap()
        .list(&Filter::all(), 0, 9)
        .await
        .unwrap();
    assert_eq!(letters.iter().map(|l| l.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(holding(dir.path(), "\"m1\""), [] as [&str; 0]);
}

#[tokio::test]
async fn an_erasure_is_owed_over_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m1"), &["a"]).await;
    append(&store, input(Delete::new("u"), "d"), &["a"]).await;
    let crashed = crash(dir.path());
    let store = open(crashed.path()).await;
    let told = Told::default();
    store
        .attach(&names(&["a"]), told.on_erased())
        .await
        .unwrap();
    settle(&store, "a", &[(2, Settlement::Delivered)]).await;
    assert_eq!(told.take().len(), 1);
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
    // The lane that it waits for is forgotten.
    append(&store, track("v", "m2"), &["a"]).await;
    append(&store, input(Delete::new("v"), "d"), &["b"]).await;
    assert_eq!(ids(&store, "a").await, ["m2"]);
    store.purge_lane("b").await.unwrap();
    store.erase_due().await.unwrap();
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
    append(&store, track("w", "m3"), &["a"]).await;
    // One for no lane at all waits until every lane has come past it.
    append(&store, input(Delete::new("w"), "d"), &[]).await;
    let after = append(&store, track("w", "m4"), &["a"]).await;
    assert_eq!(ids(&store, "a").await, ["m3", "m4"]);
    let again = crash(crashed.path());
    let store = open(again.path()).await;
    attach(&store, &["a"]).await;
    settle(&store, "a", &[(after - 2, refused())]).await;
    assert_eq!(ids(&store, "a").await, ["m4"]);
    let letters = store
        .dead_letters()
        .unwrap()
        .list(&Filter::all(), 0, 9)
        .await
        .unwrap();
    assert!(letters.is_empty(), "{letters:?}");
}

#[tokio::test]
async fn only_the_users_own_events_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(
        &store,
        input(Identify::new().anonymous_id("u"), "anonymous"),
        &["a"],
    )
    .await;
    append(
        &store,
        input(
            Track::new("e").user_id("v").property("user_id", "u"),
            "other",
        ),
        &["a"],
    )
    .await;
    append(&store, input(Alias::new("u", "v"), "alias"), &["a"]).await;
    append(&store, input(Alias::new("v", "u"), "to"), &["a"]).await;
    assert_eq!(store.erase("u").await.unwrap().events, 2);
    assert_eq!(ids(&store, "a").await, ["anonymous", "other"]);
}

#[tokio::test]
async fn an_observer_that_panics_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let panics = std::sync::Arc::new(|_: &Erasure| panic!("the observer's mistake"));
    store.attach(&names(&["a"]), panics).await.unwrap();
    append(&store, track("u", "m1"), &["a"]).await;
    assert_eq!(store.erase("u").await.unwrap(), Erased::new(1, 0));
    append(&store, track("v", "m2"), &["a"]).await;
    assert_eq!(ids(&store, "a").await, ["m2"]);
}

/// What a lane is handed after it was told of an erasure has nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_and_an_erasure_at_once() {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
    let dir = temporary();
    let store = Arc::new(options(dir.path()).tiny().open().await.unwrap());
    let through = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&through);
    let on_erased =
        Arc::new(move |erasure: &Erasure| seen.store(erasure.through, Ordering::SeqCst));
    store.attach(&names(&["a"]), on_erased).await.unwrap();
    for round in 0..40 {
        for _ in 0..5 {
            let events = (0..4).map(|n| {
                let user = if n == 1 { "u" } else { "v" };
                Accepted::new(track(user, "m"), names(&["a"]))
            });
            store.append(events.collect(), Duration::MAX).await.unwrap();
        }
        let erasing = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.erase("u").await.unwrap() })
        };
        while !erasing.is_finished() {
            let told = through.load(Ordering::SeqCst);
            let pulled = store.pull("a", round, usize::MAX).await.unwrap();
            for event in pulled.events {
                if event.seq <= told {
                    let input = event.body.load().unwrap();
                    assert_ne!(
                        input.input().unwrap().event.user_id(),
                        Some("u"),
                        "{} of {told}",
                        event.seq
                    );
                }
            }
        }
        assert_eq!(erasing.await.unwrap().events, 5);
    }
}

/// When rows go, SQLite moves others from page to page, and leaves copies.
#[tokio::test]
async fn rows_that_were_moved_leave_nothing_behind() {
    let dir = temporary();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    let mut rng = fastrand::Rng::with_seed(7);
    for n in 0..1500 {
        let user = rng.u32(0..12);
        let filler = "x".repeat(rng.usize(0..1500));
        let text = format!("<payload-of-{user}>{filler}</payload-of-{user}>");
        let event = Track::new("e")
            .user_id(format!("user-{user}"))
            .property("p", text);
        append(&store, input(event, &format!("m{n}")), &["a"]).await;
    }
    for user in 0..11 {
        store.erase(&format!("user-{user}")).await.unwrap();
        assert_eq!(
            holding(dir.path(), &format!("payload-of-{user}>")),
            [] as [&str; 0]
        );
    }
    assert!(!ids(&store, "a").await.is_empty());
}

/// By them the vendors forget the user as well.
#[tokio::test]
async fn a_delete_outlives_the_erasure_of_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let told = Told::default();
    store
        .attach(&names(&["a", "b", "gone"]), told.on_erased())
        .await
        .unwrap();
    append(&store, track("u", "m1"), &["a", "b", "gone"]).await;
    append(&store, input(Delete::new("u"), "d1"), &["a", "b", "gone"]).await;
    settle(&store, "a", &[(2, refused())]).await;
    settle(&store, "a", &[(1, refused())]).await;
    store
        .attach(&names(&["a", "b"]), told.on_erased())
        .await
        .unwrap();
    let lanes = async || {
        let mut all = Vec::new();
        for lane in ["a", "b", "gone"] {
            all.push(ids(&store, lane).await.join(" "));
        }
        let letters = store.dead_letters().unwrap();
        let letters = letters.list(&Filter::all(), 0, 9).await.unwrap();
        all.extend(letters.iter().map(|letter| letter.message_id.clone()));
        all
    };
    assert_eq!(lanes().await, ["", "m1 d1", "m1 d1", "d1", "m1"]);
    // Asked for here.
    assert_eq!(store.erase("u").await.unwrap(), Erased::new(1, 1));
    assert_eq!(lanes().await, ["", "d1", "d1", "d1"]);
    assert_eq!(told.take(), [("u".to_owned(), 2)]);
    // By another delete.
    append(&store, track("u", "m2"), &["b"]).await;
    append(&store, input(Delete::new("u"), "d2"), &["a"]).await;
    settle(&store, "a", &[(4, Settlement::Delivered)]).await;
    assert_eq!(lanes().await, ["", "d1", "d1", "d1"]);
    assert_eq!(told.take(), [("u".to_owned(), 4)]);
    // What was kept still counts, and leaves nothing when it is over.
    settle(&store, "b", &[(2, Settlement::Delivered)]).await;
    assert!(told.take().is_empty());
    settle(&store, "gone", &[(2, Settlement::Delivered)]).await;
    assert_eq!(told.take(), [("u".to_owned(), 2)]);
    let letters = store.dead_letters().unwrap();
    assert_eq!(letters.purge(&Filter::all()).await.unwrap(), 1);
    store.tidy().await.unwrap();
    assert_eq!(holding(dir.path(), "\"user_id\":\"u\""), [] as [&str; 0]);
}

/// A store in which the last event, a delete, is settled at the lane "a", and
/// nothing is erased yet, as after a crash.
async fn owing(events: usize) -> (tempfile::TempDir, u64) {
    let dir = temporary();
    let store = options(dir.path()).tiny().untidy().open().await.unwrap();
    attach(&store, &["a", "b"]).await;
    for n in 0..events {
        append(&store, track("u", &format!("m{n}")), &["b"]).await;
    }
    append(&store, track("v", "other"), &["b"]).await;
    let delete = append(&store, input(Delete::new("u"), "d"), &["a"]).await;
    store.close().await.unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
    let settled = "UPDATE lanes SET watermark = ?1 WHERE name = 'a'";
    assert_eq!(conn.execute(settled, [delete as i64]), Ok(1));
    let marks = "DELETE FROM settled WHERE lane = (SELECT id FROM lanes WHERE name = 'a')";
    conn.execute(marks, []).unwrap();
    (dir, delete)
}

#[tokio::test]
async fn an_erasure_that_a_crash_cut_off_is_made_up_for() {
    let (dir, _) = owing(50).await;
    let store = options(dir.path()).tiny().open().await.unwrap();
    attach(&store, &["a", "b"]).await;
    store.erase_due().await.unwrap();
    assert_eq!(ids(&store, "b").await, ["other"]);
    store.tidy().await.unwrap();
    assert_eq!(holding(dir.path(), "\"user_id\":\"u\""), [] as [&str; 0]);
    // Once is enough.
    let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
    let owed = conn.query_row("SELECT count(*) FROM erasures", [], |row| row.get(0));
    assert_eq!(owed, Ok(0));
}

#[tokio::test]
async fn a_large_erasure_holds_nobody_up() {
    let dir = temporary();
    let store = options(dir.path()).tiny().open().await.unwrap();
    let told = Told::default();
    store
        .attach(&names(&["a", "b"]), told.on_erased())
        .await
        .unwrap();
    for n in 0..600 {
        append(&store, track("u", &format!("m{n}")), &["b"]).await;
    }
    append(&store, track("v", "other"), &["a", "b"]).await;
    let delete = append(&store, input(Delete::new("u"), "d"), &["a"]).await;
    let done = [(delete, Settlement::Delivered)];
    store.settle("a", &done, None).await.unwrap();
    assert!(told.take().is_empty());
    let done = [(delete - 1, Settlement::Delivered)];
    store.settle("a", &done, None).await.unwrap();
    // It is under way.
    assert!(told.take().is_empty());
    store.erase_due().await.unwrap();
    assert_eq!(told.take(), [("u".to_owned(), delete)]);
    assert_eq!(ids(&store, "b").await, ["other"]);
}

#[tokio::test]
async fn an_erasure_that_fails_fails_no_settlement() {
    let dir = temporary();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    append(&store, track("u", "m"), &["b"]).await;
    append(&store, input(Delete::new("u"), "d"), &["a"]).await;
    append(&store, track("v", "m"), &["a"]).await;
    let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
    let whole: Vec<u8> = conn
        .query_row("SELECT head FROM chunks WHERE first = 1", [], |row| {
            row.get(0)
        })
        .unwrap();
    conn.execute("UPDATE chunks SET head = x'00' WHERE first = 1", [])
        .unwrap();
    let done = |seq| [(seq, Settlement::Delivered)];
    store.settle("a", &done(2), None).await.unwrap();
    store.settle("a", &done(3), None).await.unwrap();
    assert_eq!(status(&store, "a").await.pending, 0);
    conn.execute("UPDATE chunks SET head = ?1 WHERE first = 1", [whole])
        .unwrap();
    drop(conn);
    store.close().await.unwrap();
    let store = open(dir.path()).await;
    store.erase_due().await.unwrap();
    assert_eq!(ids(&store, "b").await, [] as [&str; 0]);
}

#[tokio::test]
async fn an_erasure_that_several_bring_about_is_told_once() {
    let dir = temporary();
    let store = open(dir.path()).await;
    let told = Told::default();
    store
        .attach(&names(&["a", "b"]), told.on_erased())
        .await
        .unwrap();
    for id in ["d1", "d2"] {
        append(&store, input(Delete::new("u"), id), &["a", "b"]).await;
    }
    let all: Vec<_> = (1..=2).map(|seq| (seq, Settlement::Delivered)).collect();
    settle(&store, "a", &all).await;
    assert!(told.take().is_empty());
    settle(&store, "b", &all).await;
    assert_eq!(told.take(), [("u".to_owned(), 2)]);
}

/// How often the file was written anew.
fn rewritten(dir: &std::path::Path) -> i64 {
    let conn = rusqlite::Connection::open(dir.join("events.db")).unwrap();
    conn.query_row("PRAGMA schema_version", [], |row| row.get(0))
        .unwrap()
}

/// Each of many deletes overwrites what it takes; all of them together have the
/// file written anew, and not each of them.
#[tokio::test]
async fn deletes_do_not_rewrite_the_file_each() {
    let dir = temporary();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    let before = rewritten(dir.path());
    for n in 0..3 {
        append(&store, track("u", &format!("m{n}")), &["b"]).await;
        let delete = append(&store, input(Delete::new("u"), "d"), &["a"]).await;
        settle(&store, "a", &[(delete, Settlement::Delivered)]).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(rewritten(dir.path()) - before, 1);
    assert_eq!(holding(dir.path(), "\"m0\""), [] as [&str; 0]);
    // Who asks waits for it.
    store.erase("u").await.unwrap();
    assert_eq!(rewritten(dir.path()) - before, 2);
}

#[tokio::test]
async fn a_large_erasure_does_not_swell_the_log() {
    let dir = temporary();
    let store = options(dir.path()).tiny().open().await.unwrap();
    attach(&store, &["a"]).await;
    for n in 0..600 {
        let event = Track::new("e").user_id("u").property("p", "x".repeat(6000));
        append(&store, input(event, &format!("m{n}")), &["a"]).await;
    }
    let store = std::sync::Arc::new(store);
    let erasing = {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move { store.erase("u").await.unwrap() })
    };
    let log = dir.path().join("events.db-wal");
    let (mut most, mut looks) = (0, 0);
    while !erasing.is_finished() {
        most = std::fs::metadata(&log).unwrap().len().max(most);
        looks += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(erasing.await.unwrap().events, 600);
    // Some 5 MB went through it.
    assert!(looks > 20 && most < 1_000_000, "{looks} {most}");
}

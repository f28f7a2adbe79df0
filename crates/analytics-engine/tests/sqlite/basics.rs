//! What goes in comes out, also after the process has ended.

use std::{sync::Arc, time::Duration};

use analytics_engine::{
    Store,
    store::{Accepted, Body, Settlement, SqliteStore},
};
use analytics_spec::{ErrorKind, Retries, Timestamp, Track};

use crate::support::*;

#[tokio::test]
async fn what_is_appended_is_pulled_in_order_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert_eq!((store.last(), store.is_durable()), (0, true));
    attach(&store, &["a", "b"]).await;
    let inputs: Vec<_> = (0..10).map(|n| track("u", &format!("m{n}"))).collect();
    for (n, input) in inputs.iter().enumerate() {
        let lanes: &[_] = if n % 2 == 0 { &["a", "b"] } else { &["a"] };
        assert_eq!(append(&store, input.clone(), lanes).await, n as u64 + 1);
        assert_eq!(store.last(), n as u64 + 1);
    }
    for reopened in [false, true] {
        let store = if reopened {
            open(dir.path()).await
        } else {
            let pulled = pull_all(&store, "a", usize::MAX).await;
            assert!(matches!(pulled[0].body, Body::Loaded(_)));
            store.close().await.unwrap();
            continue;
        };
        for page in [1, 300, usize::MAX] {
            let pulled = pull_all(&store, "a", page).await;
            let seqs: Vec<_> = pulled.iter().map(|event| event.seq).collect();
            assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
            for (event, input) in pulled.iter().zip(&inputs) {
                let Body::Json(json) = &event.body else {
                    panic!("{event:?}")
                };
                assert_eq!(*json, serde_json::to_vec(input).unwrap());
                assert_eq!(event.bytes, json.len());
                assert_eq!(**event.body.load().unwrap().input().unwrap(), *input);
                assert_eq!((event.retries, event.not_before), (Retries::new(), None));
            }
        }
        let pulled = pull_all(&store, "b", usize::MAX).await;
        let seqs: Vec<_> = pulled.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [1, 3, 5, 7, 9]);
    }
}

#[tokio::test]
async fn people_have_the_same_hash_from_memory_and_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(
        &store,
        input(Track::new("e").user_id("u").anonymous_id("u"), "m"),
        &["a"],
    )
    .await;
    append(&store, track("u", "n"), &["a"]).await;
    let before = pull_all(&store, "a", usize::MAX).await;
    drop(store);
    let store = open(dir.path()).await;
    let after = pull_all(&store, "a", usize::MAX).await;
    assert_eq!(before[0].people.len(), 2);
    assert_ne!(before[0].people[0], before[0].people[1]);
    assert_eq!(before[0].people[0], before[1].people[0]);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.people, after.people);
    }
}

#[tokio::test]
async fn settled_events_are_gone_and_places_are_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        let store = open(dir.path()).await;
        attach(&store, &["a"]).await;
        assert_eq!(store.last(), round * 4);
        for n in 1..=4 {
            assert_eq!(append(&store, track("u", "m"), &["a"]).await, round * 4 + n);
        }
        let pulled = pull_all(&store, "a", usize::MAX).await;
        assert_eq!(pulled.len(), 4);
        // Out of order, and one of them twice.
        for at in [2, 0, 3, 3, 1] {
            let seq = pulled[at].seq;
            settle(&store, "a", &[(seq, Settlement::Delivered)]).await;
            assert!(!ids(&store, "a").await.is_empty() || at == 1);
        }
        let status = status(&store, "a").await;
        assert_eq!((status.pending, status.delivered), (0, (round + 1) * 4));
        store.tidy().await.unwrap();
        store.close().await.unwrap();
        let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
        for table in ["chunks", "settled", "retries"] {
            let sql = format!("SELECT count(*) FROM {table}");
            assert_eq!(conn.query_row(&sql, [], |row| row.get(0)), Ok(0), "{table}");
        }
    }
}

#[tokio::test]
async fn retries_are_kept_until_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    for n in 0..3 {
        append(&store, track("u", &format!("m{n}")), &["a", "b"]).await;
    }
    let mut retries = Retries::new();
    retries.made = 7;
    retries.asked = Duration::from_nanos(1_234_567_890);
    let not_before = Timestamp::now();
    let retry = Settlement::retry(not_before, retries);
    settle(
        &store,
        "a",
        &[(2, Settlement::retry(Timestamp::MIN, Retries::new()))],
    )
    .await;
    let paused = Timestamp::from_second(4_000_000_000).unwrap();
    store
        .settle("a", &[(2, retry), (9, Settlement::Delivered)], Some(paused))
        .await
        .unwrap();
    let mut store = store;
    for _ in 0..2 {
        let pulled = pull_all(&store, "a", 1).await;
        assert_eq!(pulled.len(), 3);
        assert_eq!(
            (pulled[1].retries, pulled[1].not_before),
            (retries, Some(not_before))
        );
        assert_eq!(pulled[2].not_before, None);
        assert_eq!(pull_all(&store, "b", usize::MAX).await[1].not_before, None);
        let status = status(&store, "a").await;
        assert_eq!((status.pending, status.in_retry), (3, 1));
        assert_eq!(status.paused_until, Some(paused));
        drop(store);
        store = open(dir.path()).await;
        assert_eq!(
            attach(&store, &["a", "b"]).await[0].paused_until,
            Some(paused)
        );
    }
    settle(&store, "a", &[(2, Settlement::Delivered)]).await;
    let status = status(&store, "a").await;
    assert_eq!(
        (status.pending, status.in_retry, status.paused_until),
        (2, 0, None)
    );
}

#[tokio::test]
async fn a_new_lane_has_no_history_and_an_old_one_comes_back_to_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert_eq!(attach(&store, &["a"]).await[0].through, 0);
    append(&store, track("u", "m1"), &["a"]).await;
    append(&store, track("u", "m2"), &["a"]).await;
    settle(&store, "a", &[(1, Settlement::Delivered)]).await;
    let resumed = attach(&store, &["b"]).await;
    assert_eq!(resumed[0].through, 2);
    assert_eq!(ids(&store, "b").await, [] as [&str; 0]);
    append(&store, track("u", "m3"), &["b"]).await;
    assert!(
        store
            .purge_lane("b")
            .await
            .unwrap_err()
            .to_string()
            .contains("is attached")
    );
    let gone = status(&store, "a").await;
    assert_eq!((gone.is_attached, gone.pending), (false, 1));
    drop(store);
    let store = open(dir.path()).await;
    let resumed = attach(&store, &["a", "b"]).await;
    assert_eq!((resumed[0].through, resumed[1].through), (1, 2));
    append(&store, track("u", "m4"), &["a", "b"]).await;
    assert_eq!(ids(&store, "a").await, ["m2", "m4"]);
    assert_eq!(ids(&store, "b").await, ["m3", "m4"]);
    // What is pending for a lane that is gone holds no later events.
    attach(&store, &["b"]).await;
    for seq in 3..=4 {
        settle(&store, "b", &[(seq, Settlement::Delivered)]).await;
    }
    let last = append(&store, track("u", "m5"), &["b"]).await;
    settle(&store, "b", &[(last, Settlement::Delivered)]).await;
    assert_eq!(ids(&store, "a").await, ["m2", "m4"]);
    assert_eq!(store.purge_lane("a").await.unwrap(), 2);
    assert_eq!(store.purge_lane("a").await.unwrap(), 0);
    let lanes: Vec<_> = store.status().await.unwrap();
    assert_eq!(lanes.len(), 1);
    assert_eq!(attach(&store, &["a", "b"]).await[0].through, last);
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
}

#[tokio::test]
async fn events_for_nobody_hold_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m1"), &[]).await;
    append(&store, track("u", "m2"), &["never there"]).await;
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
    assert_eq!(ids(&store, "never there").await, ["m2"]);
    assert!(!status(&store, "never there").await.is_attached);
    assert_eq!(store.last(), 2);
    let pulled = store.pull("unknown", 0, 1).await.unwrap();
    assert_eq!((pulled.events.len(), pulled.through), (0, 2));
    settle(&store, "unknown", &[(1, Settlement::Delivered)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_each_get_their_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(options(dir.path()).tiny().open().await.unwrap());
    attach(&store, &["a"]).await;
    let tasks = (0..200).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let events = (0..n % 4 + 1)
                .map(|k| Accepted::new(track("u", &format!("{n}-{k}")), names(&["a"])));
            let first = store.append(events.collect(), Duration::MAX).await.unwrap();
            assert!(store.last() >= first + n % 4);
            (first, n)
        })
    });
    let mut expected = std::collections::BTreeMap::new();
    for task in tasks.collect::<Vec<_>>() {
        let (first, n) = task.await.unwrap();
        for k in 0..n % 4 + 1 {
            assert!(expected.insert(first + k, format!("{n}-{k}")).is_none());
        }
    }
    let expected: Vec<_> = expected.into_values().collect();
    assert_eq!(ids(&store, "a").await, expected);
    let crashed = crash(dir.path());
    let store = open(crashed.path()).await;
    assert_eq!(ids(&store, "a").await, expected);
}

#[tokio::test]
async fn an_append_that_is_dropped_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    for n in 0..20 {
        let accepted = Accepted::new(track("u", &format!("m{n}")), names(&["a"]));
        let mut append = store.append(vec![accepted], Duration::MAX);
        let _ = futures::poll!(&mut append);
    }
    append(&store, track("u", "last"), &["a"]).await;
    let ids = ids(&store, "a").await;
    assert_eq!(ids.last().map(String::as_str), Some("last"));
    assert_eq!(ids.len() as u64, store.last());
}

#[tokio::test]
async fn nothing_is_asked_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m"), &["a"]).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let accepted = Accepted::new(track("u", "m"), names(&["a"]));
    let error = store
        .append(vec![accepted], Duration::MAX)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = store.settle("a", &[], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let mut files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["events.db", "lock", "reserve"]);
    let _: SqliteStore = open(dir.path()).await;
}

#[tokio::test]
async fn backlogs_of_many_chunks_are_read_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = options(dir.path()).tiny().open().await.unwrap();
    attach(&store, &["a", "b"]).await;
    for n in 0..30 {
        let batch = (0..7)
            .map(|k| Accepted::new(track("u", &format!("m{}", n * 7 + k)), names(&["a", "b"])));
        store.append(batch.collect(), Duration::MAX).await.unwrap();
    }
    let all: Vec<_> = (0..210).map(|n| format!("m{n}")).collect();
    for page in [1, 500, 5000, usize::MAX] {
        let pulled = pull_all(&store, "a", page).await;
        let ids: Vec<_> = pulled
            .iter()
            .map(|e| e.body.load().unwrap().message_id().to_owned())
            .collect();
        assert_eq!(ids, all);
    }
    // A page is not much more than was asked for.
    let pulled = store.pull("a", 0, 1000).await.unwrap();
    let bytes: usize = pulled.events.iter().map(|event| event.bytes).sum();
    assert!((1000..1200).contains(&bytes), "{bytes}");
    // Every third remains.
    let settled: Vec<_> = (1..=210)
        .filter(|seq| seq % 3 != 0)
        .map(|seq| (seq, Settlement::Delivered))
        .collect();
    settle(&store, "a", &settled).await;
    for page in [1, 500, usize::MAX] {
        let seqs: Vec<_> = pull_all(&store, "a", page)
            .await
            .iter()
            .map(|e| e.seq)
            .collect();
        assert_eq!(seqs, (1..=70).map(|n| n * 3).collect::<Vec<_>>());
    }
    assert_eq!(pull_all(&store, "b", 1).await.len(), 210);
}

#[tokio::test]
async fn oldest_is_when_the_first_pending_event_was_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    assert_eq!(status(&store, "a").await.oldest, None);
    append(&store, track("u", "m"), &["a"]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = Timestamp::now();
    append(&store, track("u", "n"), &["a"]).await;
    assert!(status(&store, "a").await.oldest.unwrap() < between);
    settle(&store, "a", &[(1, Settlement::Delivered)]).await;
    assert!(
        status(&store, "a").await.oldest.unwrap()
            >= Timestamp::from_millisecond(between.as_millisecond()).unwrap()
    );
}

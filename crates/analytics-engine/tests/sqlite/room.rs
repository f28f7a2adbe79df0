//! Limits, disks that are full, and room that is given back.

use std::{sync::Arc, time::Duration};

use analytics_engine::{
    Store,
    store::{Accepted, Settlement, SqliteStore},
};
use analytics_spec::{AnyInput, ErrorKind, Track};

use crate::support::*;

fn large(n: u64) -> AnyInput {
    let text: String = (0..4000).map(|_| fastrand::alphanumeric()).collect();
    input(
        Track::new("e").user_id(format!("u{n}")).property("p", text),
        &format!("m{n}"),
    )
}

/// Appends until there is no room: how many there are.
async fn fill(store: &SqliteStore, lanes: &[&str]) -> u64 {
    for n in 0..100_000 {
        let accepted = Accepted::new(large(n), names(lanes));
        if let Err(error) = store.append(vec![accepted], Duration::ZERO).await {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            assert!(error.to_string().contains("has no room"), "{error}");
            return n;
        }
    }
    panic!("it is never full");
}

#[tokio::test]
async fn a_full_store_waits_or_refuses_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let max = 1024 * 1024;
    let store = Arc::new(options(dir.path()).max_bytes(max).open().await.unwrap());
    attach(&store, &["a", "b"]).await;
    let stored = fill(&store, &["a", "b"]).await;
    assert!((150..300).contains(&stored), "{stored}");
    let accepted = Accepted::new(large(0), names(&["a"]));
    let error = store
        .append(vec![accepted], Duration::ZERO)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("1048576") && text.contains(&*dir.path().to_string_lossy()),
        "{text}"
    );
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { append(&store, large(7), &["a", "b"]).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    // Settled at one of two is no room.
    let all: Vec<_> = (1..=stored)
        .map(|seq| (seq, Settlement::Delivered))
        .collect();
    settle(&store, "a", &all).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    settle(&store, "b", &all[..20]).await;
    let last = tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last, stored + 1);
    assert_eq!(status(&store, "b").await.pending, stored + 1 - 20);
}

#[tokio::test]
async fn one_event_that_is_stuck_holds_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = options(dir.path())
        .max_bytes(1024 * 1024)
        .open()
        .await
        .unwrap();
    attach(&store, &["a"]).await;
    append(&store, track("u", "stuck"), &["a"]).await;
    let mut delivered = 1;
    for n in 2..1500_u64 {
        let accepted = Accepted::new(large(n), names(&["a"]));
        let seq = tokio::time::timeout(
            Duration::from_secs(5),
            store.append(vec![accepted], Duration::MAX),
        );
        let seq = seq.await.expect("it is full of what is settled").unwrap();
        settle(&store, "a", &[(seq, Settlement::Delivered)]).await;
        delivered += 1;
    }
    assert_eq!(store.last(), delivered);
    assert_eq!(ids(&store, "a").await, ["stuck"]);
    let size = std::fs::metadata(dir.path().join("events.db"))
        .unwrap()
        .len();
    assert!(size < 2 * 1024 * 1024, "{size}");
}

#[tokio::test]
async fn much_that_is_settled_is_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    for n in 0..60 {
        let batch = (0..400)
            .map(|k| Accepted::new(track("u", &format!("m{}", n * 400 + k)), names(&["a", "b"])));
        store.append(batch.collect(), Duration::MAX).await.unwrap();
    }
    // Every 100th is stuck at one of the two.
    let most: Vec<_> = (1..=24_000)
        .filter(|seq| seq % 100 != 1)
        .map(|seq| (seq, Settlement::Delivered))
        .collect();
    settle(&store, "a", &most).await;
    let all: Vec<_> = (1..=24_000)
        .map(|seq| (seq, Settlement::Delivered))
        .collect();
    settle(&store, "b", &all).await;
    store.tidy().await.unwrap();
    let expected: Vec<_> = (0..240).map(|n| format!("m{}", n * 100)).collect();
    assert_eq!(ids(&store, "a").await, expected);
    store.close().await.unwrap();
    let size = std::fs::metadata(dir.path().join("events.db"))
        .unwrap()
        .len();
    assert!(size < 400_000, "{size}");
    let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
    let stored = conn.query_row("SELECT sum(events) FROM chunks", [], |row| row.get(0));
    assert_eq!(stored, Ok(240));
    let told = conn.query_row("SELECT value FROM meta WHERE key = 'stored'", [], |row| {
        row.get(0)
    });
    assert_eq!(told, Ok(240));
    drop(conn);
    let store = open(dir.path()).await;
    assert_eq!(ids(&store, "a").await, expected);
}

#[tokio::test]
async fn the_file_shrinks_when_a_backlog_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    for n in 0..1500 {
        append(&store, large(n), &["a"]).await;
    }
    store.checkpoint().await.unwrap();
    let size = || {
        std::fs::metadata(dir.path().join("events.db"))
            .unwrap()
            .len()
    };
    assert!(size() > 6_000_000, "{}", size());
    let all: Vec<_> = (1..=1500).map(|seq| (seq, Settlement::Delivered)).collect();
    settle(&store, "a", &all).await;
    store.tidy().await.unwrap();
    assert!(size() < 400_000, "{}", size());
}

#[tokio::test]
async fn what_is_settled_is_written_also_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = options(dir.path())
        .disk_pages(1024 + 300)
        .open()
        .await
        .unwrap();
    check_full_disk(&store).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "mounts a disk, which `cargo xtask test` does if it may"]
async fn what_is_settled_is_written_also_on_a_disk_that_is_really_full() {
    let disk = SmallDisk::mount();
    let store = open(disk.path()).await;
    check_full_disk(&store).await;
    store.close().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "mounts a disk, which `cargo xtask test` does if it may"]
async fn a_disk_that_is_full_can_be_delivered_from() {
    // With the reserve, and without.
    for leaving in [0, 80 * 1024] {
        let disk = SmallDisk::mount();
        let store = open(disk.path()).await;
        attach(&store, &["a"]).await;
        for n in 1..=100 {
            append(&store, large(n), &["a"]).await;
        }
        let dead: Vec<_> = (1..=60).map(|seq| (seq, refused())).collect();
        settle(&store, "a", &dead).await;
        store.close().await.unwrap();
        if leaving > 0 {
            std::fs::remove_file(disk.path().join("reserve")).unwrap();
        }
        disk.fill(leaving);
        // There is much to forget, which takes room.
        let expires = options(disk.path()).dead_letters_max_age(Duration::from_millis(1));
        let store = expires.open().await.unwrap();
        attach(&store, &["a"]).await;
        let pending = pull_all(&store, "a", usize::MAX).await;
        assert_eq!(pending.len(), 40);
        for event in pending {
            settle(&store, "a", &[(event.seq, Settlement::Delivered)]).await;
        }
        assert_eq!(status(&store, "a").await.pending, 0);
        store.close().await.unwrap();
    }
}

async fn check_full_disk(store: &SqliteStore) {
    attach(store, &["a", "b"]).await;
    let stored = fill(store, &["a", "b"]).await;
    assert!(stored > 50, "{stored}");
    assert_eq!(status(store, "a").await.pending, stored);
    // Out of order, with refusals, which take room themselves.
    for seq in (1..=stored).rev() {
        let settlement = if seq % 10 == 0 {
            refused()
        } else {
            Settlement::Delivered
        };
        settle(store, "a", &[(seq, settlement)]).await;
    }
    assert_eq!(status(store, "a").await.pending, 0);
    assert_eq!(status(store, "a").await.dead, stored / 10);
    assert_eq!(status(store, "b").await.pending, stored);
    for seq in 1..=stored {
        settle(store, "b", &[(seq, Settlement::Delivered)]).await;
    }
    assert_eq!(status(store, "b").await.pending, 0);
    // There is room again.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    store.tidy().await.unwrap();
    assert_eq!(append(store, large(1), &["a"]).await, stored + 1);
}

#[tokio::test]
async fn the_log_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    for _ in 0..120 {
        let batch = (0..100).map(|n| Accepted::new(large(n), names(&["a"])));
        store.append(batch.collect(), Duration::MAX).await.unwrap();
    }
    let size = |name| std::fs::metadata(dir.path().join(name)).unwrap().len() >> 20;
    assert!(size("events.db-wal") < 20, "{}", size("events.db-wal"));
    assert!(size("events.db") > 30, "{}", size("events.db"));
}

/// One begins before the other ends, again and again.
#[tokio::test]
async fn readers_without_a_gap_do_not_keep_the_log() {
    let dir = temporary();
    let store = options(dir.path()).tiny().open().await.unwrap();
    attach(&store, &["a"]).await;
    let path = dir.path().join("events.db");
    let reading = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let readers = {
        let reading = Arc::clone(&reading);
        std::thread::spawn(move || {
            let open = || rusqlite::Connection::open(&path).unwrap();
            let conns = [open(), open()];
            let begin = |at: usize| {
                let sql = "BEGIN; SELECT count(*) FROM meta";
                conns[at].execute_batch(sql).unwrap();
            };
            begin(0);
            for round in 0.. {
                std::thread::sleep(Duration::from_millis(3));
                begin((round + 1) % 2);
                conns[round % 2].execute_batch("COMMIT").unwrap();
                if !reading.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        })
    };
    for n in 0..2000 {
        append(&store, large(n), &["a"]).await;
    }
    let log = std::fs::metadata(dir.path().join("events.db-wal"))
        .unwrap()
        .len();
    reading.store(false, std::sync::atomic::Ordering::Relaxed);
    readers.join().unwrap();
    // 8 MB and more went through it.
    assert!(log < 2_000_000, "{log}");
}

/// As an open `sqlite3` does, or a backup.
#[tokio::test]
async fn a_reader_that_stays_takes_room_and_not_the_disk() {
    let dir = temporary();
    let max = 1024 * 1024;
    let store = options(dir.path()).tiny().max_bytes(max).open().await;
    let store = Arc::new(store.unwrap());
    attach(&store, &["a"]).await;
    let reader = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
    let begin = "BEGIN; SELECT count(*) FROM meta";
    reader.execute_batch(begin).unwrap();
    let mut refused = None;
    for n in 0..2000 {
        let accepted = Accepted::new(large(n), names(&["a"]));
        match store.append(vec![accepted], Duration::ZERO).await {
            Ok(seq) => settle(&store, "a", &[(seq, Settlement::Delivered)]).await,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let error = refused.expect("the log grows without end");
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.message().contains("events.db-wal"), "{error}");
    let log = std::fs::metadata(dir.path().join("events.db-wal"));
    let log = log.unwrap().len();
    assert!(log < 2 * max, "{log}");
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { append(&store, large(7), &["a"]).await })
    };
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!waiting.is_finished());
    reader.execute_batch("COMMIT").unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.expect("nobody is reading any more").unwrap();
}

//! Directories that are in use, damaged, or something else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use analytics_engine::{
    Store,
    store::{Accepted, Erasure, Filter, Settlement, SqliteStore},
};
use analytics_spec::{Delete, ErrorKind, Retries, Timestamp};
use rusqlite::Connection;

use crate::support::*;

async fn refusal(dir: &std::path::Path) -> (ErrorKind, String) {
    let error = options(dir).open().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&*dir.to_string_lossy()), "{text}");
    (error.kind(), text)
}

#[tokio::test]
async fn a_directory_has_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (kind, text) = refusal(dir.path()).await;
    assert_eq!(kind, ErrorKind::Configuration);
    assert!(
        text.contains(&format!("by this process ({})", std::process::id())),
        "{text}"
    );
    drop(store);
    open(dir.path()).await;
}

/// Not even while its writer is busy.
#[tokio::test]
async fn dropping_holds_nobody_up_and_gives_the_directory_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).await);
    let busy = Arc::new(|_: &Erasure| std::thread::sleep(Duration::from_millis(800)));
    store.attach(&names(&["a"]), busy).await.unwrap();
    append(&store, track("u", "m1"), &["a"]).await;
    append(&store, track("v", "m2"), &["a"]).await;
    let erasing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.erase("u").await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    erasing.abort();
    assert!(erasing.await.is_err());
    let begin = Instant::now();
    drop(store);
    assert!(begin.elapsed() < Duration::from_millis(300));
    let store = open(&dir.path().join(".")).await;
    assert!(begin.elapsed() > Duration::from_millis(500));
    assert_eq!(ids(&store, "a").await, ["m2"]);
    // Where there is no runtime, it is done when it has been dropped.
    std::thread::spawn(move || drop(store)).join().unwrap();
    let lock = std::fs::File::open(dir.path().join("lock")).unwrap();
    assert!(lock.try_lock().is_ok());
}

#[tokio::test]
async fn something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.db");
    let other = "not a database at all, but long enough to be one. ".repeat(100);
    std::fs::write(&path, &other).unwrap();
    let (_, text) = refusal(dir.path()).await;
    assert!(
        text.contains("is damaged") && text.contains("move it away"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t(a)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let (kind, text) = refusal(dir.path()).await;
    assert_eq!(kind, ErrorKind::Configuration);
    assert!(text.contains("another program's database"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await.unwrap();
    let path = dir.path().join("events.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let (kind, text) = refusal(dir.path()).await;
    assert_eq!(kind, ErrorKind::Configuration);
    assert!(
        text.contains("newer version") && text.contains("99"),
        "{text}"
    );
    let error = SqliteStore::inspect(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}

/// Of the first format, with an erasure that is owed and a dead letter.
#[tokio::test]
async fn an_older_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m"), &["a"]).await;
    append(&store, input(Delete::new("u"), "d"), &["a"]).await;
    append(&store, track("v", "other"), &["a"]).await;
    settle(&store, "a", &[(3, refused())]).await;
    store.close().await.unwrap();
    Connection::open(dir.path().join("events.db"))
        .unwrap()
        .execute_batch(
            "ALTER TABLE erasures DROP COLUMN through;
             ALTER TABLE dead_letters DROP COLUMN through;
             PRAGMA user_version = 1",
        )
        .unwrap();
    let error = SqliteStore::inspect(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("older version"), "{error}");
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    assert_eq!(ids(&store, "a").await, ["m", "d"]);
    settle(&store, "a", &[(2, Settlement::Delivered)]).await;
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
    assert_eq!(status(&store, "a").await.dead, 1);
}

#[tokio::test]
async fn what_cannot_be_a_directory_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(refusal(&file).await.0, ErrorKind::Configuration);
    // Also root cannot write there.
    if std::path::Path::new("/proc/self").exists() {
        let (_, text) = refusal(std::path::Path::new("/proc/self/store")).await;
        assert!(text.contains("cannot make the directory"), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "mounts a disk, which `cargo xtask test` does if it may"]
async fn a_disk_that_is_read_only_is_said() {
    let disk = crate::support::SmallDisk::mount();
    disk.make_read_only();
    let (kind, text) = refusal(disk.path()).await;
    assert_eq!(kind, ErrorKind::Configuration);
    assert!(text.contains("cannot write"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new");
    let store = open(&dir).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m"), &["a"]).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&dir) & 0o777, 0o700);
    for file in [
        "events.db",
        "events.db-wal",
        "events.db-shm",
        "lock",
        "reserve",
    ] {
        assert_eq!(mode(&dir.join(file)) & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn damage_is_found_when_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    for n in 0..200 {
        append(&store, track("u", &format!("m{n}")), &["a"]).await;
    }
    store.close().await.unwrap();
    let path = dir.path().join("events.db");
    let whole = std::fs::read(&path).unwrap();
    let mut found = 0;
    // Each page in turn is overwritten.
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..page * 4096 + 64].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        match options(dir.path()).open().await {
            Err(error) => {
                found += 1;
                let text = error.to_string();
                assert!(
                    text.contains("restore a copy") || text.contains("another program"),
                    "{text}"
                );
            }
            // A page that nothing needs.
            Ok(store) => {
                assert_eq!(
                    store.pull("a", 0, usize::MAX).await.unwrap().events.len(),
                    200
                );
                store.close().await.unwrap();
            }
        }
    }
    assert!(found > 5, "{found}");
}

/// SQLite would begin a new one, and throw the log of the old one away.
#[tokio::test]
async fn a_store_whose_database_is_gone_or_empty_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = options(dir.path()).untidy().open().await.unwrap();
    append(&store, track("u", "m"), &["a"]).await;
    let in_use = tempfile::tempdir().unwrap();
    for name in ["events.db", "events.db-wal"] {
        std::fs::copy(dir.path().join(name), in_use.path().join(name)).unwrap();
    }
    store.close().await.unwrap();
    // With what only the log has, and with what is left after a good end.
    for dir in [in_use.path(), dir.path()] {
        let database = dir.join("events.db");
        let whole = std::fs::read(&database).unwrap();
        for emptied in [true, false] {
            if emptied {
                std::fs::write(&database, "").unwrap();
            } else {
                std::fs::remove_file(&database).unwrap();
            }
            let what = if emptied { "empty" } else { "missing" };
            let (_, text) = refusal(dir).await;
            assert!(text.contains(&format!("its events.db is {what}")), "{text}");
            let error = SqliteStore::inspect(dir).await.unwrap_err();
            assert!(error.to_string().contains("restore a copy"), "{error}");
            assert_eq!(database.exists(), emptied);
        }
        std::fs::write(&database, &whole).unwrap();
        let store = open(dir).await;
        assert_eq!(ids(&store, "a").await, ["m"]);
        store.close().await.unwrap();
    }
}

/// An event that waits for its next attempt is not held up by it.
#[tokio::test]
async fn retries_that_are_damaged_are_begun_anew() {
    for damage in ["'{'", "CAST(x'7b80' AS TEXT)", "x'00ff'", "1"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        attach(&store, &["a"]).await;
        append(&store, track("u", "m"), &["a"]).await;
        let later = Timestamp::now() + Duration::from_secs(3600);
        let retry = Settlement::retry(later, Retries::new());
        store.settle("a", &[(1, retry)], None).await.unwrap();
        store.close().await.unwrap();
        let conn = Connection::open(dir.path().join("events.db")).unwrap();
        let damage = format!("UPDATE retries SET state = {damage}");
        assert_eq!(conn.execute(&damage, []), Ok(1));
        drop(conn);
        let store = open(dir.path()).await;
        let pulled = store.pull("a", 0, usize::MAX).await.unwrap();
        assert_eq!(pulled.events[0].not_before, None, "{damage}");
        let delivered = [(1, Settlement::Delivered)];
        store.settle("a", &delivered, None).await.unwrap();
        let now = status(&store, "a").await;
        assert_eq!((now.pending, now.in_retry), (0, 0));
    }
}

#[tokio::test]
async fn damaged_events_are_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    for n in 0..3 {
        append(&store, track("u", &format!("m{n}")), &["a"]).await;
    }
    store.close().await.unwrap();
    let path = dir.path().join("events.db");
    let conn = Connection::open(&path).unwrap();
    for damage in [
        "body = CAST(replace(body, 'm1', 'mX') AS BLOB)",
        "body = 'text'",
        "head = zeroblob(length(head))",
        "crc = crc + 1",
    ] {
        let whole = std::fs::read(&path).unwrap();
        conn.execute(&format!("UPDATE chunks SET {damage} WHERE first = 2"), [])
            .unwrap();
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        let error = options(dir.path()).open().await.unwrap_err();
        assert!(error.to_string().contains("events 2 to 2"), "{error}");
        // Should it come later.
        let store = options(dir.path()).check(false).open().await.unwrap();
        let pulled = store.pull("a", 0, 1).await.unwrap();
        assert_eq!((pulled.events.len(), pulled.through), (1, 1));
        let error = store.pull("a", 1, usize::MAX).await.unwrap_err();
        assert!(error.to_string().contains("events 2 to 2"), "{error}");
        let error = store
            .settle("a", &[(2, refused())], None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("events 2 to 2"), "{error}");
        // One job's error is nobody else's.
        let (bad, good, _) = tokio::join!(
            async {
                store
                    .settle("a", &[(3, Settlement::Delivered), (2, refused())], None)
                    .await
            },
            store.settle("a", &[(1, Settlement::Delivered)], None),
            append(&store, track("u", "later"), &["a"]),
        );
        assert!(bad.is_err() && good.is_ok(), "{bad:?} {good:?}");
        assert_eq!(status(&store, "a").await.pending, 3);
        store.close().await.unwrap();
        std::fs::write(&path, whole).unwrap();
    }
    conn.execute("DELETE FROM chunks WHERE first = 2", [])
        .unwrap();
    drop(conn);
    let store = open(dir.path()).await;
    let error = store.pull("a", 0, usize::MAX).await.unwrap_err();
    assert!(error.to_string().contains("event 2 is missing"), "{error}");
}

#[tokio::test]
async fn a_look_from_outside_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let error = SqliteStore::inspect(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m"), &["a"]).await;
    append(&store, track("u", "n"), &["a"]).await;
    settle(&store, "a", &[(1, refused())]).await;
    let look = SqliteStore::inspect(dir.path()).await.unwrap();
    assert_eq!(look.status().await.unwrap(), store.status().await.unwrap());
    assert_eq!(
        look.dead_letters(&Filter::all(), 0, 9).await.unwrap().len(),
        1
    );
    // It does not hold on to what it saw, nor hold up the engine.
    settle(&store, "a", &[(2, Settlement::Delivered)]).await;
    assert_eq!(look.status().await.unwrap()[0].pending, 0);
    assert_eq!(store.erase("u").await.unwrap().dead_letters, 1);
    assert_eq!(look.status().await.unwrap()[0].dead, 0);
    drop(look);
    store.close().await.unwrap();
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (e.file_name(), std::fs::read(e.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    let look = SqliteStore::inspect(dir.path()).await.unwrap();
    assert_eq!(look.status().await.unwrap()[0].delivered, 1);
    drop(look);
    assert!(before == files());
}

/// SQLite would go on writing into a file that nobody finds again.
#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_goes_is_noticed() {
    let parent = temporary();
    let dir = parent.path().join("store");
    for is_replaced in [false, true] {
        let store = open(&dir).await;
        attach(&store, &["a"]).await;
        append(&store, track("u", "m1"), &["a"]).await;
        assert!(store.trouble().is_none());
        let away = parent.path().join("away");
        std::fs::rename(&dir, &away).unwrap();
        if is_replaced {
            std::fs::create_dir(&dir).unwrap();
            std::fs::copy(away.join("events.db"), dir.join("events.db")).unwrap();
        }
        for _ in 0..2 {
            let accepted = Accepted::new(track("u", "m2"), names(&["a"]));
            let error = store.append(vec![accepted], Duration::MAX).await;
            let error = error.unwrap_err();
            let says = "the directory was removed or replaced while in use";
            assert!(error.message().contains(says), "{error}");
            assert!(store.trouble().unwrap().message().contains(says));
        }
        drop(store);
        std::fs::remove_dir_all(&away).unwrap();
    }
}

#[tokio::test]
async fn whoever_closes_it_again_waits_as_well() {
    let dir = temporary();
    let store = Arc::new(open(dir.path()).await);
    // Busy, so that nobody has closed it at once.
    let busy = Arc::new(|_: &Erasure| std::thread::sleep(Duration::from_millis(800)));
    store.attach(&names(&["a"]), busy).await.unwrap();
    append(&store, track("u", "m1"), &["a"]).await;
    let erasing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.erase("u").await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut first = store.close();
    tokio::select! {
        biased;
        _ = &mut first => panic!("it has not even begun"),
        () = std::future::ready(()) => {}
    }
    drop(first);
    store.close().await.unwrap();
    assert!(!dir.path().join("events.db-wal").exists());
    store.close().await.unwrap();
    erasing.await.unwrap().unwrap();
}

//! Dead letters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use analytics_engine::{
    Store,
    store::{Accepted, Body, DeadLetters, Filter, Reason, Replayed, Settlement},
};
use analytics_spec::{Alias, Delete, Error, ErrorKind, Kind, Timestamp};

use crate::support::*;

fn letters(store: &impl Store) -> &dyn DeadLetters {
    store.dead_letters().unwrap()
}

#[tokio::test]
async fn what_is_refused_is_kept_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    let before = Timestamp::now();
    let event = track("u", "m1");
    append(&store, event.clone(), &["a", "b"]).await;
    let error = Error::new(ErrorKind::Unsupported, "not here");
    let mut accepted = Accepted::new(track("v", "m2"), names(&["a"]));
    accepted.refused = vec![("b".into(), Reason::from(&error))];
    store.append(vec![accepted], Duration::MAX).await.unwrap();
    settle(&store, "a", &[(1, refused()), (1, refused())]).await;
    drop(store);
    let store = open(dir.path()).await;
    let all = letters(&store).list(&Filter::all(), 0, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(
        (&*all[0].integration, all[0].seq, all[0].attempts),
        ("b", 2, 0)
    );
    let letter = &all[1];
    assert_eq!(
        (&*letter.integration, letter.seq, letter.attempts),
        ("a", 1, 3)
    );
    assert_eq!(
        (letter.kind, letter.user_id.as_deref()),
        (Some(Kind::Track), Some("u"))
    );
    assert_eq!(letter.message_id, "m1");
    assert_eq!(letter.input.get(), serde_json::to_string(&event).unwrap());
    assert_eq!(letter.reason.error, "RequestRejected");
    assert_eq!(letter.reason.response.as_ref().unwrap().status_code, 400);
    assert!(letter.accepted_at <= letter.refused_at && letter.refused_at <= Timestamp::now());
    assert!(letter.accepted_at.as_millisecond() >= before.as_millisecond());
    assert_eq!(
        (
            status(&store, "a").await.dead,
            status(&store, "b").await.dead
        ),
        (1, 1)
    );
    assert_eq!(
        (
            status(&store, "a").await.pending,
            status(&store, "b").await.pending
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn filters_and_pages_choose() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    for (n, user) in ["u", "v", "u", "w"].iter().enumerate() {
        let event = if n == 3 {
            input(Delete::new(*user), "m")
        } else {
            track(user, "m")
        };
        append(&store, event, &["a", "b"]).await;
        let lane = if n == 1 { "b" } else { "a" };
        settle(&store, lane, &[(n as u64 + 1, refused())]).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let list = async |filter: &Filter, after, limit| {
        let found = letters(&store).list(filter, after, limit).await.unwrap();
        found.iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    let with = |set: fn(&mut Filter)| {
        let mut filter = Filter::all();
        set(&mut filter);
        filter
    };
    assert_eq!(list(&Filter::all(), 0, 9).await, [1, 2, 3, 4]);
    assert_eq!(list(&Filter::all(), 1, 2).await, [2, 3]);
    assert_eq!(
        list(&with(|f| f.integration = Some("b".into())), 0, 9).await,
        [2]
    );
    assert_eq!(
        list(&with(|f| f.kind = Some(Kind::Delete)), 0, 9).await,
        [4]
    );
    assert_eq!(
        list(&with(|f| f.user_id = Some("u".into())), 0, 9).await,
        [1, 3]
    );
    assert_eq!(list(&with(|f| f.ids = vec![4, 2, 99]), 0, 9).await, [2, 4]);
    assert_eq!(
        list(
            &with(|f| {
                f.ids = vec![1, 2];
                f.user_id = Some("u".into());
            }),
            0,
            9
        )
        .await,
        [1]
    );
    let third = letters(&store).list(&Filter::all(), 2, 1).await.unwrap();
    let mut since = Filter::all();
    since.since = Some(third[0].refused_at);
    assert_eq!(list(&since, 0, 9).await, [3, 4]);
    assert_eq!(
        letters(&store)
            .purge(&with(|f| f.user_id = Some("u".into())))
            .await
            .unwrap(),
        2
    );
    assert_eq!(list(&Filter::all(), 0, 9).await, [2, 4]);
    assert_eq!(
        (
            status(&store, "a").await.dead,
            status(&store, "b").await.dead
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_replay_is_for_one_lane_under_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a", "b"]).await;
    for n in 0..600 {
        let events = vec![Accepted::new(
            track("u", &format!("m{n}")),
            names(&["a", "b"]),
        )];
        store.append(events, Duration::MAX).await.unwrap();
    }
    let all: Vec<_> = (1..=600).map(|seq| (seq, refused())).collect();
    settle(&store, "a", &all).await;
    let done: Vec<_> = (1..=600).map(|seq| (seq, Settlement::Delivered)).collect();
    settle(&store, "b", &done).await;
    let before = pull_all(&store, "a", 1).await;
    assert!(before.is_empty());
    assert_eq!(
        letters(&store).replay(&Filter::all()).await.unwrap(),
        Replayed::new(600, 0)
    );
    assert_eq!(
        letters(&store).replay(&Filter::all()).await.unwrap(),
        Replayed::default()
    );
    assert_eq!(store.last(), 1200);
    let expected: Vec<_> = (0..600).map(|n| format!("m{n}")).collect();
    assert_eq!(ids(&store, "a").await, expected);
    assert_eq!(ids(&store, "b").await, [] as [&str; 0]);
    assert_eq!(status(&store, "a").await.dead, 0);
    let store = {
        drop(store);
        open(dir.path()).await
    };
    assert_eq!(ids(&store, "a").await, expected);
    assert_eq!(store.last(), 1200);
}

#[tokio::test]
async fn a_replay_waits_for_a_lane_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    append(&store, track("u", "m"), &["a"]).await;
    settle(&store, "a", &[(1, refused())]).await;
    attach(&store, &["b"]).await;
    assert_eq!(store.purge_lane("a").await.unwrap(), 0);
    assert_eq!(status(&store, "a").await.dead, 1);
    append(&store, track("u", "n"), &["b"]).await;
    let replayed = letters(&store).replay(&Filter::all()).await.unwrap();
    assert_eq!(replayed, Replayed::new(1, 1));
    assert_eq!(status(&store, "a").await.pending, 1);
    append(&store, track("u", "o"), &["b"]).await;
    attach(&store, &["a", "b"]).await;
    assert_eq!(ids(&store, "a").await, ["m"]);
    assert_eq!(ids(&store, "b").await, ["n", "o"]);
}

#[tokio::test]
async fn letters_are_not_kept_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = options(dir.path())
        .dead_letters_max_bytes(10_000)
        .open()
        .await
        .unwrap();
    attach(&store, &["a"]).await;
    for seq in 1..=100 {
        append(&store, track("u", &format!("m{seq}")), &["a"]).await;
        settle(&store, "a", &[(seq, refused())]).await;
    }
    let left = letters(&store).list(&Filter::all(), 0, 200).await.unwrap();
    assert!((20..60).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last().unwrap().seq, 100);
    assert_eq!(status(&store, "a").await.dead, left.len() as u64);
    let bytes: usize = left.iter().map(|l| l.input.get().len()).sum();
    assert!(bytes < 10_000);
    drop(store);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let store = options(dir.path())
        .dead_letters_max_age(Duration::from_millis(1))
        .open()
        .await
        .unwrap();
    assert!(
        letters(&store)
            .list(&Filter::all(), 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(status(&store, "a").await.dead, 0);
}

#[tokio::test]
async fn a_replayed_delete_is_owed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let told = Told::default();
    store
        .attach(&names(&["a"]), told.on_erased())
        .await
        .unwrap();
    append(&store, track("u", "m"), &["a"]).await;
    append(&store, input(Delete::new("u"), "d"), &["a"]).await;
    settle(&store, "a", &[(2, refused())]).await;
    assert_eq!(told.take().len(), 1);
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
    // The dead letter of the delete itself stays.
    append(&store, track("u", "back"), &["a"]).await;
    for seq in [4, 5] {
        let replayed = letters(&store).replay(&Filter::all()).await.unwrap();
        assert_eq!(replayed, Replayed::new(1, 0));
        assert_eq!(ids(&store, "a").await, ["back", "d"]);
        assert!(told.take().is_empty());
        // It erases up to where it stood first: the user came back.
        let end = if seq == 4 {
            refused()
        } else {
            Settlement::Delivered
        };
        settle(&store, "a", &[(seq, end)]).await;
        assert_eq!(told.take(), [("u".to_owned(), 2)]);
        assert_eq!(ids(&store, "a").await, ["back"]);
    }
    // And is not left on the disk itself.
    store.tidy().await.unwrap();
    assert_eq!(holding(dir.path(), "\"delete\""), [] as [&str; 0]);
}

/// Somebody, or another version, wrote what nobody can read: it is refused,
/// and kept as it is.
#[tokio::test]
async fn what_nobody_can_read_is_buried_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    let bodies: [&[u8]; 3] = [b"{\"later\":1}", b"{not JSON", b"\xff\xfe \xe4"];
    for _ in bodies {
        append(&store, track("u", "m"), &["a"]).await;
    }
    store.close().await.unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
    for (first, body) in (1_i64..).zip(bodies) {
        let head: Vec<u8> = conn
            .query_row("SELECT head FROM chunks WHERE first = ?1", [first], |row| {
                row.get(0)
            })
            .unwrap();
        let head = with_length(&head, body.len());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(body);
        conn.execute(
            "UPDATE chunks SET head = ?2, body = ?3, crc = ?4 WHERE first = ?1",
            rusqlite::params![first, head, body, crc.finalize()],
        )
        .unwrap();
    }
    drop(conn);
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    let pulled = pull_all(&store, "a", usize::MAX).await;
    assert!(pulled.iter().all(|event| event.body.load().is_err()));
    for _ in 0..2 {
        let pulled = pull_all(&store, "a", usize::MAX).await;
        let found = pulled.iter().map(|event| match &event.body {
            Body::Json(json) => json.to_vec(),
            other => panic!("{other:?}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), bodies);
        let all = pulled.iter().map(|event| (event.seq, refused()));
        settle(&store, "a", &all.collect::<Vec<_>>()).await;
        let found = letters(&store).list(&Filter::all(), 0, 9).await.unwrap();
        let inputs: Vec<_> = found.iter().map(|letter| letter.input.get()).collect();
        assert_eq!(
            inputs,
            [
                "{\"later\":1}",
                "\"{not JSON\"",
                "\"\u{fffd}\u{fffd} \u{fffd}\""
            ]
        );
        assert_eq!(status(&store, "a").await.pending, 0);
        // Replaying it changes nothing of it.
        let replayed = letters(&store).replay(&Filter::all()).await.unwrap();
        assert_eq!(replayed, Replayed::new(3, 0));
    }
}

/// The head of a chunk of one event, with another length: one record, its place
/// and its length, the latter of one or two bytes.
fn with_length(head: &[u8], len: usize) -> Vec<u8> {
    assert!(len < 0x80 && head[..2] == [1, 0]);
    let rest = if head[2] < 0x80 { 3 } else { 4 };
    let mut new = vec![1, 0, len as u8];
    new.extend_from_slice(&head[rest..head.len() - 4]);
    let crc = crc32fast::hash(&new);
    new.extend_from_slice(&crc.to_le_bytes());
    new
}

/// Counts what is logged of one store.
struct Lines(Arc<AtomicUsize>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Told(bool);
        impl tracing::field::Visit for Told {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= format!("{value:?}").contains("more than 10007 bytes");
            }
        }
        let mut told = Told(false);
        event.record(&mut told);
        self.0.fetch_add(usize::from(told.0), Ordering::SeqCst);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Where everything is refused, each refusal crowds out another one.
#[tokio::test]
async fn that_letters_are_crowded_out_is_said_once_in_a_while() {
    let lines = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(Lines(Arc::clone(&lines))).unwrap();
    // Another test may have asked in between.
    tracing::callsite::rebuild_interest_cache();
    let dir = tempfile::tempdir().unwrap();
    let limited = options(dir.path()).dead_letters_max_bytes(10_007);
    let store = limited.open().await.unwrap();
    attach(&store, &["a"]).await;
    for seq in 1..=100 {
        append(&store, track("u", "m"), &["a"]).await;
        settle(&store, "a", &[(seq, refused())]).await;
    }
    assert!(status(&store, "a").await.dead < 60);
    assert_eq!(lines.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_alias_is_of_both_its_users() {
    let dir = temporary();
    let store = open(dir.path()).await;
    attach(&store, &["a"]).await;
    for (n, event) in [
        input(Alias::new("u1", "u2"), "m1"),
        input(Alias::new("u2", "u1"), "m2"),
        track("u1", "m3"),
        track("u2", "m4"),
    ]
    .into_iter()
    .enumerate()
    {
        append(&store, event, &["a"]).await;
        settle(&store, "a", &[(n as u64 + 1, refused())]).await;
    }
    let mut filter = Filter::all();
    filter.user_id = Some("u1".into());
    assert_eq!(letters(&store).list(&filter, 0, 9).await.unwrap().len(), 3);
    assert_eq!(letters(&store).purge(&filter).await.unwrap(), 3);
    let left = letters(&store).list(&Filter::all(), 0, 9).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].message_id, "m4");
}

/// What is refused again meanwhile is not replayed for ever.
#[tokio::test]
async fn many_are_replayed_some_at_a_time() {
    let dir = temporary();
    let store = Arc::new(options(dir.path()).tiny().open().await.unwrap());
    attach(&store, &["a"]).await;
    let number = 300;
    for n in 1..=number {
        append(&store, track("u", &format!("m{n}")), &["a"]).await;
    }
    let all: Vec<_> = (1..=number).map(|seq| (seq, refused())).collect();
    settle(&store, "a", &all).await;
    let replaying = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { letters(&*store).replay(&Filter::all()).await.unwrap() })
    };
    // Whoever ends in between finds each once.
    let mut has_been_between = false;
    let mut refused_through = number;
    while !replaying.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let last = store.last();
        let again: Vec<_> = (refused_through + 1..=last)
            .map(|seq| (seq, refused()))
            .collect();
        has_been_between |= !again.is_empty() && last < 2 * number;
        store.settle("a", &again, None).await.unwrap();
        refused_through = last;
        let now = status(&store, "a").await;
        assert_eq!(now.pending + now.dead, number);
    }
    assert!(has_been_between);
    assert_eq!(replaying.await.unwrap(), Replayed::new(number, 0));
    assert_eq!(store.last(), 2 * number);
    let dead = status(&store, "a").await.dead;
    assert_eq!(letters(&*store).purge(&Filter::all()).await.unwrap(), dead);
    assert_eq!(status(&store, "a").await.dead, 0);
}

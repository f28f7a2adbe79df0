//! Dead letters.

use std::time::Duration;

use analytics_engine::{
    Store,
    store::{Accepted, DeadLetters, Filter, Reason, Settlement},
};
use analytics_spec::{Delete, Error, ErrorKind, Kind, Timestamp};

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
    assert_eq!(letters(&store).replay(&Filter::all()).await.unwrap(), 600);
    assert_eq!(letters(&store).replay(&Filter::all()).await.unwrap(), 0);
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
    assert_eq!(letters(&store).replay(&Filter::all()).await.unwrap(), 1);
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
    append(&store, track("u", "later"), &["a"]).await;
    assert_eq!(letters(&store).replay(&Filter::all()).await.unwrap(), 1);
    assert_eq!(ids(&store, "a").await, ["later", "d"]);
    assert!(told.take().is_empty());
    settle(&store, "a", &[(4, Settlement::Delivered)]).await;
    assert_eq!(told.take().len(), 1);
    assert_eq!(ids(&store, "a").await, [] as [&str; 0]);
}

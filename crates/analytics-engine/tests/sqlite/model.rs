//! Anything in any order, against a model of a few lines.

use std::time::Duration;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use analytics_engine::{
    Store,
    store::{Accepted, Filter, Reason, Settlement, SqliteStore},
};
use analytics_spec::{
    Alias, AnyEvent, AnyInput, Delete, Error, ErrorKind, Identify, Kind, Retries, Timestamp, Track,
};
use proptest::prelude::*;

use crate::support::*;

const LANES: [&str; 3] = ["a", "b", "c"];
const USERS: [&str; 3] = ["ada", "bob", "eve"];

#[derive(Clone, Debug)]
enum Kinds {
    Track,
    Anonymous,
    Alias,
    Delete,
}

#[derive(Clone, Debug)]
struct NewEvent {
    kind: Kinds,
    user: usize,
    size: usize,
    lanes: u8,
    refused: u8,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    Refused,
    Retry(u32),
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<NewEvent>),
    /// Several at once, of which the commits may be shared.
    Concurrently(Vec<NewEvent>),
    Settle(usize, Vec<(prop::sample::Index, bool, End)>),
    SettleAll(usize),
    Replay(Option<usize>),
    Purge(usize),
    Erase(usize),
    Attach(u8),
    PurgeLane(usize),
    Crash,
    Reopen,
    Tidy,
    Checkpoint,
}

fn new_event() -> impl Strategy<Value = NewEvent> {
    let kind = prop_oneof![
        6 => Just(Kinds::Track),
        2 => Just(Kinds::Anonymous),
        1 => Just(Kinds::Alias),
        2 => Just(Kinds::Delete),
    ];
    let lanes = prop_oneof![2 => Just(7_u8), 2 => 0..8_u8];
    let refused = prop_oneof![6 => Just(0_u8), 1 => 0..8_u8];
    let size = prop_oneof![4 => 0..50_usize, 1 => 500..6000_usize];
    (kind, 0..3_usize, size, lanes, refused).prop_map(|(kind, user, size, lanes, refused)| {
        NewEvent {
            kind,
            user,
            size,
            lanes,
            refused: refused & !lanes,
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let end = prop_oneof![
        3 => Just(End::Delivered),
        1 => Just(End::Refused),
        1 => (0..9_u32).prop_map(End::Retry),
    ];
    let one = (any::<prop::sample::Index>(), prop::bool::weighted(0.9), end);
    prop_oneof![
        8 => prop::collection::vec(new_event(), 1..7).prop_map(Op::Append),
        2 => prop::collection::vec(new_event(), 1..7).prop_map(Op::Concurrently),
        10 => (0..3_usize, prop::collection::vec(one, 1..9)).prop_map(|(l, s)| Op::Settle(l, s)),
        2 => (0..3_usize).prop_map(Op::SettleAll),
        2 => prop::option::of(0..3_usize).prop_map(Op::Replay),
        1 => (0..3_usize).prop_map(Op::Purge),
        1 => (0..3_usize).prop_map(Op::Erase),
        2 => (0..8_u8).prop_map(Op::Attach),
        1 => (0..3_usize).prop_map(Op::PurgeLane),
        2 => Just(Op::Crash),
        2 => Just(Op::Reopen),
        2 => Just(Op::Tidy),
        1 => Just(Op::Checkpoint),
    ]
}

#[derive(Debug, Default)]
struct Lane {
    pending: BTreeMap<u64, (String, Option<(Timestamp, Retries)>)>,
    is_attached: bool,
    paused: Option<Timestamp>,
    delivered: u64,
}

#[derive(Debug, PartialEq)]
struct Letter {
    lane: String,
    seq: u64,
    json: String,
    /// Up to where it erases, if it is a delete that was replayed.
    through: u64,
}

/// An erasure that waits for its delete.
#[derive(Clone, Debug)]
struct Owed {
    user: String,
    /// Whether the delete is for any lane.
    is_for_any: bool,
    through: u64,
}

#[derive(Debug, Default)]
struct Model {
    last: u64,
    lanes: BTreeMap<String, Lane>,
    letters: BTreeMap<u64, Letter>,
    next_letter: u64,
    owed: BTreeMap<u64, Owed>,
    told: BTreeMap<String, u64>,
}

fn read(json: &str) -> AnyInput {
    AnyInput::from_json(json.as_bytes()).unwrap()
}

/// Whether an event goes with a user: a delete that is still needed does not.
fn is_of(json: &str, user: &str) -> bool {
    read(json).kind() != Kind::Delete && names_user(json, user)
}

fn names_user(json: &str, user: &str) -> bool {
    let event = read(json).event;
    let is_previous = matches!(&event, AnyEvent::Alias(alias) if alias.previous_user_id == user);
    event.user_id() == Some(user) || is_previous
}

impl Model {
    fn append(&mut self, json: &str, lanes: &[String], refused: &[String], through: Option<u64>) {
        self.last += 1;
        for lane in lanes {
            let lane = self.lanes.entry(lane.clone()).or_default();
            lane.pending.insert(self.last, (json.into(), None));
        }
        for lane in refused {
            self.bury(lane, self.last, json);
        }
        if let AnyEvent::Delete(delete) = read(json).event {
            let owed = Owed {
                user: delete.user_id,
                is_for_any: !lanes.is_empty(),
                through: through.unwrap_or(self.last),
            };
            self.owed.insert(self.last, owed);
        }
    }

    fn bury(&mut self, lane: &str, seq: u64, json: &str) {
        self.next_letter += 1;
        let letter = Letter {
            lane: lane.into(),
            seq,
            json: json.into(),
            through: self.owed.get(&seq).map_or(seq, |owed| owed.through),
        };
        self.letters.insert(self.next_letter, letter);
    }

    fn due(&mut self) {
        loop {
            let attached = self.lanes.values().filter(|lane| lane.is_attached);
            let oldest = attached.filter_map(|lane| lane.pending.keys().next()).min();
            let oldest = oldest.copied().unwrap_or(u64::MAX);
            let is_pending = |seq: &u64| self.lanes.values().any(|l| l.pending.contains_key(seq));
            let is_due = |seq: &u64, is_for_any| match is_for_any {
                true => !is_pending(seq),
                false => *seq < oldest,
            };
            let due: Vec<_> = self
                .owed
                .iter()
                .filter(|(seq, owed)| is_due(seq, owed.is_for_any))
                .map(|(_, owed)| owed.clone())
                .collect();
            if due.is_empty() {
                return;
            }
            for Owed { user, through, .. } in due {
                self.letters
                    .retain(|_, letter| letter.seq > through || !is_of(&letter.json, &user));
                self.erase(&user, through);
            }
        }
    }

    fn erase(&mut self, user: &str, through: u64) -> usize {
        let mut gone = BTreeSet::new();
        for lane in self.lanes.values_mut() {
            lane.pending.retain(|seq, (json, _)| {
                let is_gone = *seq <= through && is_of(json, user);
                if is_gone {
                    gone.insert(*seq);
                }
                !is_gone
            });
        }
        let lanes = &self.lanes;
        let is_pending = |seq: &u64| lanes.values().any(|lane| lane.pending.contains_key(seq));
        self.owed
            .retain(|seq, owed| owed.through > through || owed.user != user || is_pending(seq));
        let told = self.told.entry(user.into()).or_default();
        *told = through.max(*told);
        gone.len()
    }
}

impl Model {
    /// Whether there are deletes of a user that somebody has to see to.
    fn deletes(&self, user: &str) -> bool {
        let pending = self.lanes.values().flat_map(|lane| lane.pending.values());
        let letters = self.letters.values().map(|letter| &letter.json);
        let mut all = pending
            .map(|(json, _)| json)
            .chain(letters)
            .map(|json| read(json));
        all.any(|input| input.kind() == Kind::Delete && input.event.user_id() == Some(user))
    }
}

/// The store and its model.
struct Test {
    dir: tempfile::TempDir,
    store: Option<SqliteStore>,
    told: Told,
    model: Model,
    named: u64,
    attached: Vec<&'static str>,
    /// It crashed, and may have erased before anybody was there to be told.
    has_crashed: bool,
}

async fn open_tiny(dir: &Path) -> SqliteStore {
    options(dir).tiny().open().await.unwrap()
}

fn chosen(mask: u8) -> Vec<&'static str> {
    let lanes = LANES.iter().enumerate();
    lanes
        .filter(|(at, _)| mask & (1 << at) != 0)
        .map(|(_, lane)| *lane)
        .collect()
}

impl Test {
    async fn new(start: u64) -> Self {
        let dir = temporary();
        let mut model = Model::default();
        if start > 0 {
            // Near the end of a block of marks.
            open_tiny(dir.path()).await.close().await.unwrap();
            let conn = rusqlite::Connection::open(dir.path().join("events.db")).unwrap();
            conn.execute(
                "UPDATE meta SET value = ?1 WHERE key = 'last'",
                [start as i64],
            )
            .unwrap();
            model.last = start;
        }
        let mut test = Self {
            store: Some(open_tiny(dir.path()).await),
            dir,
            told: Told::default(),
            model,
            named: 0,
            attached: Vec::new(),
            has_crashed: false,
        };
        test.attach(vec!["a", "b"]).await;
        test
    }

    fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }

    async fn attach(&mut self, lanes: Vec<&'static str>) {
        self.store().erase_due().await.unwrap();
        let resumed = self
            .store()
            .attach(&names(&lanes), self.told.on_erased())
            .await
            .unwrap();
        for lane in self.model.lanes.values_mut() {
            lane.is_attached = false;
        }
        for (name, resumed) in lanes.iter().zip(resumed) {
            let lane = self.model.lanes.entry((*name).into()).or_default();
            lane.is_attached = true;
            let first = lane.pending.keys().next();
            assert_eq!(
                resumed.through,
                first.map_or(self.model.last, |seq| seq - 1)
            );
            assert_eq!(resumed.paused_until, lane.paused);
        }
        self.model.due();
        self.attached = lanes;
    }

    fn make(&mut self, new: &NewEvent) -> (Accepted, String) {
        self.named += 1;
        let user = USERS[new.user];
        let filler = "x".repeat(new.size);
        let event: AnyEvent = match new.kind {
            Kinds::Track => Track::new("e").user_id(user).property("p", filler).into(),
            Kinds::Anonymous => Identify::new()
                .anonymous_id(user)
                .trait_("p", filler)
                .into(),
            Kinds::Alias => Alias::new(user, USERS[(new.user + 1) % 3]).into(),
            Kinds::Delete => Delete::new(user).into(),
        };
        let input = input(event, &format!("m{}", self.named));
        let json = serde_json::to_string(&input).unwrap();
        let mut accepted = Accepted::new(input, names(&chosen(new.lanes)));
        let reason = Reason::from(&Error::new(ErrorKind::Unsupported, "no"));
        let refused = names(&chosen(new.refused)).into_iter();
        accepted.refused = refused.map(|lane| (lane, reason.clone())).collect();
        (accepted, json)
    }

    fn took(&mut self, first: u64, events: &[(NewEvent, String)]) {
        assert_eq!(first, self.model.last + 1);
        for (new, json) in events {
            let of = |mask| {
                chosen(mask)
                    .into_iter()
                    .map(String::from)
                    .collect::<Vec<_>>()
            };
            self.model
                .append(json, &of(new.lanes), &of(new.refused), None);
        }
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(new) => {
                let made: Vec<_> = new.iter().map(|new| self.make(new)).collect();
                let (accepted, jsons): (Vec<_>, Vec<_>) = made.into_iter().unzip();
                let first = self.store().append(accepted, Duration::MAX).await.unwrap();
                let events: Vec<_> = new.iter().cloned().zip(jsons).collect();
                self.took(first, &events);
                self.model.due();
            }
            Op::Concurrently(new) => {
                let made: Vec<_> = new.iter().map(|new| self.make(new)).collect();
                let (accepted, jsons): (Vec<_>, Vec<_>) = made.into_iter().unzip();
                let appends = accepted
                    .into_iter()
                    .map(|one| self.store().append(vec![one], Duration::MAX));
                let firsts = futures::future::join_all(appends).await;
                let mut events: Vec<_> = firsts
                    .into_iter()
                    .map(Result::unwrap)
                    .zip(new.iter().cloned().zip(jsons))
                    .collect();
                assert!(events.is_sorted_by_key(|(seq, _)| *seq));
                for (seq, event) in events.drain(..) {
                    self.took(seq, &[event]);
                }
                self.model.due();
            }
            Op::Settle(lane, picks) => {
                let name = LANES[*lane];
                let mut settlements = Vec::new();
                for (at, is_pending, end) in picks {
                    let lane = self.model.lanes.get(name);
                    let pending: Vec<_> = lane
                        .into_iter()
                        .flat_map(|lane| lane.pending.keys().copied())
                        .collect();
                    let seq = if *is_pending && !pending.is_empty() {
                        *at.get(&pending)
                    } else {
                        // Anything, also what is settled, or not there yet.
                        at.index(self.model.last as usize + 3) as u64
                    };
                    settlements.push((seq, *end));
                }
                self.settle(name, settlements).await;
            }
            Op::SettleAll(lane) => {
                let name = LANES[*lane];
                let lane = self.model.lanes.get(name);
                let pending = lane.into_iter().flat_map(|lane| lane.pending.keys());
                let all = pending.map(|seq| (*seq, End::Delivered)).collect();
                self.settle(name, all).await;
            }
            Op::Replay(user) => {
                let mut filter = Filter::all();
                filter.user_id = user.map(|user| USERS[user].into());
                let replayed = self
                    .store()
                    .dead_letters()
                    .unwrap()
                    .replay(&filter)
                    .await
                    .unwrap();
                let chosen: Vec<_> = self
                    .model
                    .letters
                    .iter()
                    .filter(|(_, letter)| {
                        let user = filter.user_id.as_deref();
                        user.is_none_or(|user| names_user(&letter.json, user))
                    })
                    .map(|(id, _)| *id)
                    .collect();
                assert_eq!(replayed.events, chosen.len() as u64);
                let mut detached = 0;
                for id in chosen {
                    let Letter {
                        lane,
                        json,
                        through,
                        ..
                    } = self.model.letters.remove(&id).unwrap();
                    detached += u64::from(!self.attached.contains(&&*lane));
                    self.model.append(&json, &[lane], &[], Some(through));
                }
                assert_eq!(replayed.detached, detached);
                self.model.due();
            }
            Op::Purge(lane) => {
                let mut filter = Filter::all();
                filter.integration = Some(LANES[*lane].into());
                filter.kind = Some(Kind::Track);
                let purged = self
                    .store()
                    .dead_letters()
                    .unwrap()
                    .purge(&filter)
                    .await
                    .unwrap();
                let before = self.model.letters.len();
                self.model.letters.retain(|_, letter| {
                    letter.lane != LANES[*lane] || read(&letter.json).kind() != Kind::Track
                });
                assert_eq!(purged, (before - self.model.letters.len()) as u64);
            }
            Op::Erase(user) => {
                let user = USERS[*user];
                let erased = self.store().erase(user).await.unwrap();
                let before = self.model.letters.len();
                self.model
                    .letters
                    .retain(|_, letter| !is_of(&letter.json, user));
                assert_eq!(
                    erased.dead_letters,
                    (before - self.model.letters.len()) as u64
                );
                // What is settled may still be on disk.
                let gone = self.model.erase(user, self.model.last);
                assert!(erased.events >= gone as u64, "{erased:?} {gone}");
                self.model.due();
                if !self.model.deletes(user) {
                    let left = format!("\"user_id\":\"{user}\"");
                    assert_eq!(holding(self.dir.path(), &left), [] as [&str; 0]);
                }
            }
            Op::Attach(mask) => self.attach(chosen(*mask)).await,
            Op::PurgeLane(lane) => {
                let name = LANES[*lane];
                let purged = self.store().purge_lane(name).await;
                match self.model.lanes.get(name) {
                    Some(lane) if lane.is_attached => assert!(purged.is_err()),
                    lane => {
                        assert_eq!(
                            purged.unwrap(),
                            lane.map_or(0, |lane| lane.pending.len() as u64)
                        );
                        self.model.lanes.remove(name);
                        self.model.due();
                    }
                }
            }
            Op::Crash => {
                let crashed = crash(self.dir.path());
                self.has_crashed = true;
                self.store().close().await.unwrap();
                self.dir = crashed;
                self.store = Some(open_tiny(self.dir.path()).await);
                self.attach(self.attached.clone()).await;
            }
            Op::Reopen => {
                self.has_crashed = true;
                self.store().close().await.unwrap();
                self.store = Some(open_tiny(self.dir.path()).await);
                self.attach(self.attached.clone()).await;
            }
            Op::Tidy => self.store().tidy().await.unwrap(),
            Op::Checkpoint => self.store().checkpoint().await.unwrap(),
        }
    }

    async fn settle(&mut self, name: &str, settlements: Vec<(u64, End)>) {
        let paused = Timestamp::from_second(settlements.len() as i64)
            .ok()
            .filter(|_| settlements.len().is_multiple_of(2));
        let not_before = Timestamp::from_nanosecond(1_234_567_890_123).unwrap();
        let retries = |made| {
            let mut retries = Retries::new();
            retries.made = made;
            retries
        };
        let given: Vec<_> = settlements
            .iter()
            .map(|(seq, end)| {
                (
                    *seq,
                    match end {
                        End::Delivered => Settlement::Delivered,
                        End::Refused => refused(),
                        End::Retry(made) => Settlement::retry(not_before, retries(*made)),
                    },
                )
            })
            .collect();
        self.store().settle(name, &given, paused).await.unwrap();
        let Some(mut lane) = self.model.lanes.remove(name) else {
            return;
        };
        lane.paused = paused;
        for (seq, end) in settlements {
            if let End::Retry(made) = end {
                if let Some(pending) = lane.pending.get_mut(&seq) {
                    pending.1 = Some((not_before, retries(made)));
                }
            } else if let Some((json, _)) = lane.pending.remove(&seq) {
                match end {
                    End::Delivered => lane.delivered += 1,
                    _ => self.model.bury(name, seq, &json),
                }
            }
        }
        self.model.lanes.insert(name.into(), lane);
        self.model.due();
    }

    async fn check(&mut self, page: usize) {
        let store = self.store();
        store.erase_due().await.unwrap();
        assert_eq!(store.last(), self.model.last);
        let status = store.status().await.unwrap();
        let mut dead = BTreeMap::new();
        for letter in self.model.letters.values() {
            *dead.entry(letter.lane.clone()).or_insert(0) += 1;
        }
        for (name, lane) in &self.model.lanes {
            let pulled = pull_all(store, name, page).await;
            let found: Vec<_> = pulled
                .iter()
                .map(|event| {
                    let json = match &event.body {
                        analytics_engine::store::Body::Json(json) => {
                            String::from_utf8(json.to_vec()).unwrap()
                        }
                        body => {
                            serde_json::to_string(&**body.load().unwrap().input().unwrap()).unwrap()
                        }
                    };
                    assert_eq!(event.bytes, json.len());
                    (
                        event.seq,
                        (json, event.not_before.map(|at| (at, event.retries))),
                    )
                })
                .collect();
            let expected: Vec<_> = lane.pending.clone().into_iter().collect();
            assert_eq!(found, expected, "{name}");
            let status = status
                .iter()
                .find(|status| status.integration == *name)
                .unwrap();
            assert_eq!(status.pending, lane.pending.len() as u64);
            let in_retry = lane
                .pending
                .values()
                .filter(|(_, retry)| retry.is_some())
                .count();
            assert_eq!(status.in_retry, in_retry as u64);
            assert_eq!(status.oldest.is_some(), !lane.pending.is_empty());
            assert_eq!(
                (status.is_attached, status.paused_until),
                (lane.is_attached, lane.paused)
            );
            assert_eq!(
                (status.delivered, status.dead),
                (lane.delivered, dead.remove(name).unwrap_or(0))
            );
        }
        for status in status {
            if !self.model.lanes.contains_key(&status.integration) {
                assert_eq!(Some(status.dead), dead.remove(&status.integration));
            }
        }
        assert!(dead.is_empty(), "{dead:?}");
        let letters = store
            .dead_letters()
            .unwrap()
            .list(&Filter::all(), 0, usize::MAX)
            .await
            .unwrap();
        let letters: BTreeMap<_, _> = letters
            .into_iter()
            .map(|letter| {
                (
                    letter.id,
                    Letter {
                        lane: letter.integration,
                        seq: letter.seq,
                        json: letter.input.get().into(),
                        // Seen when it is replayed.
                        through: self.model.letters.get(&letter.id).map_or(0, |l| l.through),
                    },
                )
            })
            .collect();
        assert_eq!(letters, self.model.letters);
        let mut told: BTreeMap<String, u64> = BTreeMap::new();
        for (user_id, reached) in self.told.take() {
            let through = told.entry(user_id).or_default();
            *through = reached.max(*through);
        }
        let mut expected = std::mem::take(&mut self.model.told);
        if std::mem::take(&mut self.has_crashed) {
            expected.retain(|user, _| told.contains_key(user));
        }
        assert_eq!(told, expected);
    }
}

/// `PROPTEST_CASES`, or some hundreds.
fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(250)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(cases()) })]
    #[test]
    fn the_store_does_as_the_model(
        start in prop_oneof![Just(0_u64), 4080..4096_u64],
        ops in prop::collection::vec((op(), prop_oneof![Just(1_usize), 100..3000_usize, Just(usize::MAX)]), 1..45),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut test = Test::new(start).await;
            for (at, (op, page)) in ops.iter().enumerate() {
                test.apply(op).await;
                // What is erased after a step may be cut off.
                if !matches!(ops.get(at + 1), Some((Op::Crash | Op::Reopen, _))) {
                    test.check(*page).await;
                }
            }
        });
    }
}

#[test]
fn stores_are_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Arc<SqliteStore>>();
}

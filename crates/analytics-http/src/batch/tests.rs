//! A model of what a batch owes: random events, vendors and answers.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
};

use analytics_spec::{
    Alias, AnyEvent, AnyInput, Context, ErrorKind, Identify, Input, KindSet, Map, Secret, Track,
    ValidationError, Value, event::Person, integration::Batching,
};
use http::Request;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::vendor::Sending;

/// A vendor whose mapping is a table.
#[derive(Debug)]
struct Fake {
    limits: [Limits; 3],
    steps: HashMap<String, Result<Vec<Step<u8>>, bool>>,
}

impl HttpVendor for Fake {
    type Route = u8;

    const VENDOR: &'static str = "fake";

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<u8>>, Error> {
        self.steps[input.message_id()].clone().map_err(|retryable| {
            Error::new(ErrorKind::Internal, "no mapping").with_retryable(retryable)
        })
    }

    fn limits(&self, route: &u8) -> Limits {
        self.limits[usize::from(*route)]
    }

    fn request(&self, _: &u8, _: &[&Bytes], _: Sending) -> Result<Request<Bytes>, Error> {
        unreachable!("a batch builds no request")
    }

    fn read(&self, _: &u8, _: &HttpResponse, _: usize) -> Reading {
        unreachable!("a batch reads no answer")
    }

    fn secrets(&self) -> Vec<&Secret> {
        Vec::new()
    }

    fn batching(&self) -> Batching {
        Batching::single(1)
    }

    fn configuration(&self) -> Map<String, Value> {
        Map::new()
    }
}

const LIMITS: Limits = Limits {
    max_items: usize::MAX,
    max_bytes: usize::MAX,
    envelope_bytes: 0,
    gzip: false,
    one_per_person: false,
};

/// An event of the model: whose it is, and its steps as routes and sizes.
#[derive(Clone, Debug)]
struct Planned {
    event: AnyEvent,
    /// `Err` where the mapping fails, and whether that may pass.
    steps: Result<Vec<(u8, usize)>, bool>,
    progress: u32,
}

fn user(name: &str, steps: &[(u8, usize)]) -> Planned {
    Planned {
        event: Track::new("t").user_id(name).into(),
        steps: Ok(steps.to_vec()),
        progress: 0,
    }
}

/// What makes a batch, kept apart from it because the batch borrows.
struct World {
    fake: Fake,
    inputs: Vec<AnyInput>,
    planned: Vec<Planned>,
}

type Mapped = (Vec<u64>, Result<Vec<Step<u8>>, Error>);

impl World {
    fn new(planned: Vec<Planned>, limits: [Limits; 3]) -> Self {
        let id = |index: usize| index.to_string();
        let inputs = planned
            .iter()
            .enumerate()
            .map(|(index, item)| {
                Input::new(item.event.clone()).context(Context::new().message_id(id(index)))
            })
            .collect();
        let steps = planned
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let steps = item.steps.clone().map(|steps| {
                    let body = |size| Bytes::from(vec![b'x'; size]);
                    steps
                        .into_iter()
                        .map(|(route, size)| Step::new(route, body(size)))
                        .collect()
                });
                (id(index), steps)
            })
            .collect();
        Self {
            fake: Fake { limits, steps },
            inputs,
            planned,
        }
    }

    /// Whose each event is, and its steps.
    fn mapped(&self) -> Vec<Mapped> {
        let hasher = RandomState::new();
        let mapped = self.inputs.iter().map(|input| {
            let people = input.event.people().map(|person| hasher.hash_one(person));
            (people.collect(), self.fake.steps(input))
        });
        mapped.collect()
    }

    fn items<'a>(&'a self, mapped: &'a [Mapped]) -> Vec<Item<'a, u8>> {
        let events = self.inputs.iter().zip(&self.planned).zip(mapped);
        let items = events.map(|((input, item), (people, steps))| {
            let lead = Lead {
                kind: input.kind(),
                message_id: input.message_id(),
                people,
                number: 1,
                progress: Progress(item.progress),
                timeout: Duration::from_secs(1),
            };
            let failed = |error: &Error| {
                Error::new(error.kind(), error.message()).with_retryable(error.is_retryable())
            };
            Item::new(lead, steps.as_deref().map_err(failed))
        });
        items.collect()
    }

    fn people(&self, index: usize) -> BTreeSet<Person<'_>> {
        self.inputs[index].event.people().collect()
    }
}

/// Runs a batch against `answer`, which sees each group. Returns the members
/// of every request, and the outcomes.
fn run(
    world: &World,
    mut answer: impl FnMut(&Group<'_, u8>) -> Reading,
) -> (Vec<(u8, Vec<usize>)>, Outcomes) {
    let mapped = world.mapped();
    let mut batch = Batch::new(&world.fake, world.items(&mapped));
    let mut sent = Vec::new();
    while let Some(group) = batch.next() {
        sent.push((group.route, group.members.clone()));
        assert!(sent.len() < 100_000, "the batch does not end");
        let reading = answer(&group);
        batch.answered(
            &group,
            &Answer {
                reading,
                response: None,
            },
        );
    }
    (sent, batch.finish())
}

fn accept(_: &Group<'_, u8>) -> Reading {
    Reading::All(Ok(()))
}

fn too_large() -> Reading {
    Reading::All(Err(Refusal::permanent(ErrorKind::TooLarge, "413")))
}

fn transient() -> Verdict {
    Err(Refusal::transient(ErrorKind::Unavailable, "503"))
}

fn permanent() -> Verdict {
    Err(Refusal::permanent(ErrorKind::RequestRejected, "400"))
}

#[test]
fn many_events_of_many_people_share_one_request() {
    let planned = (0..500)
        .map(|i| user(&format!("u{}", i % 50), &[(0, 100)]))
        .collect();
    let (sent, outcomes) = run(&World::new(planned, [LIMITS; 3]), accept);
    assert_eq!(sent, [(0, (0..500).collect())]);
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn the_byte_limit_is_met_to_the_byte() {
    let limits = Limits {
        max_bytes: 10 + 100 + 1 + 100,
        envelope_bytes: 10,
        ..LIMITS
    };
    let two = |second| {
        let planned = vec![user("a", &[(0, 100)]), user("b", &[(0, second)])];
        run(&World::new(planned, [limits; 3]), accept).0.len()
    };
    assert_eq!((two(100), two(101)), (1, 2));
}

#[test]
fn one_step_alone_may_exceed_the_limit() {
    let limits = Limits {
        max_bytes: 50,
        ..LIMITS
    };
    let planned = vec![
        user("a", &[(0, 10)]),
        user("b", &[(0, 999)]),
        user("c", &[(0, 10)]),
    ];
    let (sent, outcomes) = run(&World::new(planned, [limits; 3]), accept);
    assert_eq!(sent, [(0, vec![0]), (0, vec![1]), (0, vec![2])]);
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn a_person_s_events_keep_their_order_over_routes() {
    let planned = vec![
        user("a", &[(0, 1)]),
        user("a", &[(1, 1)]),
        user("a", &[(0, 1)]),
        user("b", &[(0, 1)]),
        user("b", &[(1, 1), (0, 1)]),
        user("b", &[(0, 1)]),
    ];
    let (sent, _) = run(&World::new(planned, [LIMITS; 3]), accept);
    assert_eq!(sent, [(0, vec![0, 3]), (1, vec![1, 4]), (0, vec![2, 4, 5])]);
}

#[test]
fn a_later_event_is_not_accepted_before_an_earlier_one_that_is_sent_again() {
    let limits = Limits {
        one_per_person: true,
        ..LIMITS
    };
    let mut planned = vec![
        user("a", &[(0, 1)]),
        user("a", &[(0, 1)]),
        user("b", &[(0, 1)]),
        user("c", &[(0, 1)]),
        user("a", &[(0, 1)]),
    ];
    planned[3].event = Alias::new("b", "c").into();
    let world = World::new(planned, [limits; 3]);
    let (sent, outcomes) = run(&world, accept);
    assert_eq!(sent, [(0, vec![0, 2]), (0, vec![1, 3]), (0, vec![4])]);
    assert!(outcomes.iter().all(Result::is_ok));

    let mut first = Some(vec![transient(), Ok(())]);
    let (sent, outcomes) = run(&world, |_| {
        first.take().map_or(Reading::All(Ok(())), Reading::Each)
    });
    assert_eq!(sent, [(0, vec![0, 2]), (0, vec![3])]);
    let kinds = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(Error::kind));
    let deferred = Some(ErrorKind::Deferred);
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [Some(ErrorKind::Unavailable), deferred, None, None, deferred]
    );
}

#[test]
fn an_alias_orders_both_of_its_ids() {
    let mut planned = vec![
        user("old", &[(0, 1)]),
        user("new", &[(1, 1)]),
        user("old", &[(0, 1)]),
    ];
    planned[1].event = Alias::new("old", "new").into();
    let (sent, outcomes) = run(&World::new(planned, [LIMITS; 3]), |group| {
        Reading::All(if group.route == 1 {
            transient()
        } else {
            Ok(())
        })
    });
    assert_eq!(sent, [(0, vec![0]), (1, vec![1])]);
    let deferred = outcomes[2].as_ref().unwrap_err();
    assert_eq!(deferred.kind(), ErrorKind::Deferred);
}

#[test]
fn what_is_accepted_already_is_not_sent_again() {
    let with_progress = |progress, steps: &[(u8, usize)]| Planned {
        progress,
        ..user("a", steps)
    };
    let planned = vec![
        with_progress(1, &[(0, 1), (1, 1)]),
        with_progress(2, &[(0, 1), (1, 1)]),
        with_progress(9, &[(0, 1)]),
        with_progress(u32::MAX, &[]),
        with_progress(0, &[]),
    ];
    let (sent, outcomes) = run(&World::new(planned, [LIMITS; 3]), accept);
    assert_eq!(sent, [(1, vec![0])]);
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn a_failed_mapping_keeps_the_progress_and_the_order() {
    let mut planned = vec![user("a", &[(1, 1)]), user("a", &[]), user("a", &[(0, 1)])];
    planned[1].steps = Err(true);
    planned[1].progress = 3;
    let (sent, outcomes) = run(&World::new(planned, [LIMITS; 3]), accept);
    assert_eq!(sent, [(1, vec![0])]);
    assert!(outcomes[0].is_ok());
    let failed = outcomes[1].as_ref().unwrap_err();
    assert_eq!(
        (failed.kind(), failed.progress()),
        (ErrorKind::Internal, Progress(3))
    );
    let deferred = outcomes[2].as_ref().unwrap_err();
    assert_eq!(deferred.kind(), ErrorKind::Deferred);
}

#[test]
fn a_missing_verdict_is_for_now_and_one_too_many_is_nothing() {
    let planned = vec![
        user("a", &[(0, 1)]),
        user("b", &[(0, 1)]),
        user("c", &[(1, 1)]),
    ];
    let (_, outcomes) = run(&World::new(planned, [LIMITS; 3]), |group| {
        Reading::Each(if group.route == 0 {
            vec![Ok(())]
        } else {
            vec![Ok(()), permanent(), permanent()]
        })
    });
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let unread = outcomes[1].as_ref().unwrap_err();
    assert!(unread.is_retryable());
}

#[test]
fn what_one_route_refuses_caps_no_other() {
    let planned = (0..16)
        .map(|i| user(&format!("a{i}"), &[(i / 8, 1)]))
        .collect();
    let (sent, _) = run(&World::new(planned, [LIMITS; 3]), |group| {
        if group.route == 0 && group.members.len() > 2 {
            too_large()
        } else {
            Reading::All(Ok(()))
        }
    });
    let on = |route| -> Vec<usize> {
        sent.iter()
            .filter(|(r, _)| *r == route)
            .map(|(_, members)| members.len())
            .collect()
    };
    // The route stays at what it takes, and does not learn it anew.
    assert_eq!(on(0), [8, 4, 2, 2, 2, 2]);
    assert_eq!(on(1), [8]);
}

#[test]
fn one_event_too_many_is_found_and_the_rest_goes_on_together() {
    for culprit in [0, 1, 250, 498, 499] {
        let planned = (0..500)
            .map(|i| user(&format!("a{i}"), &[(0, 1)]))
            .collect();
        let (sent, outcomes) = run(&World::new(planned, [LIMITS; 3]), |group| {
            if group.members.contains(&culprit) {
                too_large()
            } else {
                Reading::All(Ok(()))
            }
        });
        for (index, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_err(), index == culprit, "{index}");
        }
        assert!(sent.len() <= 30, "{culprit} takes {} requests", sent.len());
    }
}

#[test]
fn a_refusal_that_is_not_split_is_everyones() {
    let planned = vec![user("a", &[(0, 1)]), user("b", &[(0, 1)])];
    let world = World::new(planned, [LIMITS; 3]);
    let (sent, outcomes) = run(&world, |_| Reading::All(permanent()));
    assert_eq!(sent.len(), 1);
    assert!(outcomes.iter().all(Result::is_err));
    let (sent, _) = run(&world, |_| {
        Reading::All(permanent().map_err(Refusal::split))
    });
    assert_eq!(sent.len(), 3);
}

/// What is wrong with the whole, such as a setting, costs no more than if each
/// had been sent alone; and nothing costs more than twice that.
#[test]
fn what_is_sent_again_in_halves_is_bounded() {
    let requests = |is_bad: fn(usize) -> bool| {
        let planned = (0..512).map(|i| user(&format!("a{i}"), &[(0, 1)]));
        let world = World::new(planned.collect(), [LIMITS; 3]);
        let (sent, outcomes) = run(&world, |group| {
            Reading::All(if group.members.iter().copied().any(is_bad) {
                permanent().map_err(Refusal::split)
            } else {
                Ok(())
            })
        });
        for (index, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_err(), is_bad(index), "{index}");
        }
        sent.len()
    };
    assert_eq!(requests(|_| true), 512 + 9);
    for is_bad in [
        |i: usize| i.is_multiple_of(2),
        |i: usize| i.is_multiple_of(3),
        |i| i % 4 == 3,
        |i| i % 8 == 7,
        |i: usize| i.count_ones() % 2 == 1,
    ] {
        let count = requests(is_bad);
        assert!(count <= 2 * 512, "{count}");
    }
}

/// Building all requests of thousands of events stays far from quadratic:
/// it would take minutes, and takes well under a second.
#[test]
fn thousands_of_events_are_grouped_in_no_time() {
    let single = [Limits::SINGLE; 3];
    let fails = |_: &Group<'_, u8>| Reading::All(transient());
    let many = |people: usize, steps: &[(u8, usize)]| {
        (0..20_000)
            .map(|i| user(&format!("u{}", i % people), steps))
            .collect()
    };
    let started = std::time::Instant::now();
    let (sent, _) = run(&World::new(many(20_000, &[(0, 1)]), single), accept);
    assert_eq!(sent.len(), 20_000);
    let (sent, _) = run(&World::new(many(20_000, &[(0, 1)]), single), fails);
    assert_eq!(sent.len(), 20_000);
    let (sent, _) = run(&World::new(many(50, &[(0, 1)]), single), fails);
    assert_eq!(sent.len(), 50);
    let steps = [(0, 1), (1, 1), (0, 1)];
    let (sent, _) = run(&World::new(many(20_000, &steps), single), accept);
    assert_eq!(sent.len(), 60_000);
    let hundred = Limits {
        max_items: 100,
        ..LIMITS
    };
    let (sent, _) = run(&World::new(many(50, &[(0, 1)]), [hundred; 3]), accept);
    assert_eq!(sent.len(), 200);
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}

/// How the vendor of the model answers one request.
#[derive(Clone, Debug)]
enum Script {
    All(u8),
    Each(Vec<u8>),
}

fn verdict(code: u8) -> Verdict {
    match code % 8 {
        0..=4 => Ok(()),
        5 => transient(),
        6 => permanent(),
        _ => Err(Refusal::permanent(ErrorKind::TooLarge, "413")),
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..6usize, 5..60usize, 0..8usize, any::<bool>()).prop_map(
        |(max_items, max_bytes, envelope_bytes, one_per_person)| Limits {
            max_items,
            max_bytes,
            envelope_bytes,
            gzip: false,
            one_per_person,
        },
    )
}

fn event() -> impl Strategy<Value = AnyEvent> {
    let id = |prefix: &'static str| (0..4u8).prop_map(move |n| format!("{prefix}{n}"));
    prop_oneof![
        4 => (option::of(id("u")), option::of(id("a"))).prop_map(|(user, anonymous)| {
            let mut event = Identify::new();
            event.user_id = user;
            event.anonymous_id = anonymous;
            event.into()
        }),
        1 => (id("u"), id("u")).prop_map(|(old, new)| Alias::new(old, new).into()),
    ]
}

fn planned() -> impl Strategy<Value = Planned> {
    let steps = prop_oneof![
        9 => vec((0..3u8, 1..40usize), 0..4).prop_map(Ok),
        1 => any::<bool>().prop_map(Err),
    ];
    (event(), steps, prop_oneof![4 => Just(0), 1 => 0..6u32]).prop_map(
        |(event, steps, progress)| Planned {
            event,
            steps,
            progress,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_invariants_hold(
        planned in vec(planned(), 0..14),
        limits in [limits(), limits(), limits()],
        script in vec(
            prop_oneof![
                2 => any::<u8>().prop_map(Script::All),
                2 => vec(any::<u8>(), 0..6).prop_map(Script::Each),
            ],
            1..12,
        ),
    ) {
        let world = World::new(planned, limits);
        let count = world.planned.len();
        let steps = |i: usize| world.planned[i].steps.clone().unwrap_or_default();
        let mut taken: Vec<usize> =
            world.planned.iter().map(|p| p.progress as usize).collect();
        // How an event failed, and whether that may pass.
        let mut failed: Vec<Option<bool>> =
            world.planned.iter().map(|p| p.steps.as_ref().err().copied()).collect();
        let mut caps = [usize::MAX; 3];
        let mut requests = 0;
        let total: usize = (0..count).map(|i| steps(i).len()).sum();

        let (_, outcomes) = run(&world, |group| {
            requests += 1;
            let route = usize::from(group.route);
            let limits = limits[route];
            let sizes: usize = group.bodies.iter().map(|body| body.len()).sum();
            let commas = group.members.len() - 1;
            // Its limits, and what the route has refused before.
            assert!(group.members.len() <= limits.max_items.min(caps[route]));
            assert!(
                commas == 0 || limits.envelope_bytes + sizes + commas <= limits.max_bytes
            );
            assert_eq!(group.bodies.len(), group.members.len());
            for (position, &member) in group.members.iter().enumerate() {
                // The next step of an event that has not failed, on its route.
                assert_eq!(failed[member], None);
                let (on, size) = steps(member)[taken[member]];
                assert_eq!((on, size), (group.route, group.bodies[position].len()));
                // Nothing of the same person before it is under way.
                for earlier in 0..member {
                    if world.people(earlier).is_disjoint(&world.people(member)) {
                        continue;
                    }
                    let left = steps(earlier).len().saturating_sub(taken[earlier]);
                    let is_settled = match failed[earlier] {
                        Some(may_pass) => !may_pass,
                        None => left == 0,
                    };
                    let is_ahead = left == 1
                        && !limits.one_per_person
                        && group.members[..position].contains(&earlier);
                    assert!(is_settled || is_ahead, "{earlier} before {member}");
                }
            }
            let reading = match &script[requests % script.len()] {
                Script::All(code) => Reading::All(verdict(*code)),
                Script::Each(codes) => {
                    Reading::Each(codes.iter().map(|code| verdict(*code)).collect())
                }
            };
            let is_split = matches!(&reading, Reading::All(Err(refusal)) if refusal.split);
            if is_split && commas > 0 {
                caps[route] = group.members.len() / 2;
                return reading;
            }
            // Once the culprit is found, the route may take more again.
            caps[route] = usize::MAX;
            for (position, &member) in group.members.iter().enumerate() {
                let verdict = match &reading {
                    Reading::All(verdict) => verdict.clone(),
                    Reading::Each(verdicts) => {
                        verdicts.get(position).cloned().unwrap_or_else(transient)
                    }
                };
                match verdict {
                    Ok(()) => taken[member] += 1,
                    Err(refusal) => failed[member] = Some(refusal.retryable),
                }
            }
            reading
        });

        // It ends: each step is settled after at most log2 splits.
        prop_assert!(requests <= (total + 1) * 6, "{requests} for {total} steps");
        // One outcome each, and the right one.
        prop_assert_eq!(outcomes.len(), count);
        for (index, outcome) in outcomes.iter().enumerate() {
            let retryable = |i: usize| outcomes[i].as_ref().is_err_and(Error::is_retryable);
            let waits = (0..index).any(|earlier| {
                retryable(earlier) && !world.people(earlier).is_disjoint(&world.people(index))
            });
            match outcome {
                Ok(_) => {
                    prop_assert_eq!(failed[index], None);
                    prop_assert!(taken[index] >= steps(index).len());
                }
                Err(error) if error.kind() == ErrorKind::Deferred => {
                    prop_assert_eq!(failed[index], None);
                    prop_assert!(taken[index] < steps(index).len());
                    prop_assert!(waits, "{} waits for nothing", index);
                    prop_assert_eq!(error.progress().0 as usize, taken[index]);
                }
                Err(error) => {
                    prop_assert_eq!(failed[index], Some(error.is_retryable()));
                    prop_assert_eq!(error.progress().0 as usize, taken[index]);
                }
            }
        }

        // The next attempt takes each step that is left, once.
        let left: Vec<Planned> = world
            .planned
            .iter()
            .zip(&outcomes)
            .filter_map(|(item, outcome)| {
                let error = outcome.as_ref().err().filter(|e| e.is_retryable())?;
                Some(Planned {
                    progress: error.progress().0,
                    steps: Ok(item.steps.clone().unwrap_or_default()),
                    ..item.clone()
                })
            })
            .collect();
        let expected: usize = left
            .iter()
            .map(|p| p.steps.as_ref().map_or(0, Vec::len).saturating_sub(p.progress as usize))
            .sum();
        let (sent, outcomes) = run(&World::new(left, limits), accept);
        prop_assert!(outcomes.iter().all(Result::is_ok));
        prop_assert_eq!(sent.iter().map(|(_, members)| members.len()).sum::<usize>(), expected);
    }
}

//! What holds of every input, context and policy.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf, sync::LazyLock, time::Duration};

use analytics_spec::{
    ActivityPolicy, Alias, AnyEvent, AnyInput, AnyOutput, Context, Delete, Error, ErrorKind, Event,
    Group, HttpResponse, Identify, Input, Map, Output, Page, Policies, Progress, RequestPolicy,
    Retries, RetryPolicy, Screen, Status, Timestamp, Track, Value,
    context::{
        App, Campaign, Cloud, Device, Git, Library, Location, Network, Os, PageContext, Referrer,
        ScreenContext, Subscription,
    },
    policies::{MAX_ASKED, Next},
};
use proptest::{collection, num, option, prelude::*, sample};
use serde_json::json;

#[path = "../fuzz/checks/envelope.rs"]
mod envelope;

// What there is.

fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![4 => "[a-zA-Z0-9_.-]{1,12}", 1 => "\\PC{1,12}", 1 => any::<String>()]
}

fn id() -> impl Strategy<Value = String> + Clone {
    prop_oneof!["[a-z0-9-]{1,20}", "\\p{L}{1,30}"]
}

fn number() -> impl Strategy<Value = f64> + Clone {
    num::f64::NORMAL | num::f64::SUBNORMAL | num::f64::ZERO | num::f64::NEGATIVE
}

fn value() -> impl Strategy<Value = Value> + Clone {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        number().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn dictionary() -> impl Strategy<Value = Map<String, Value>> + Clone {
    collection::btree_map(name(), value(), 0..4).prop_map(|map| map.into_iter().collect())
}

/// Names that meet others when contexts are merged.
fn name() -> impl Strategy<Value = String> + Clone {
    prop_oneof![3 => "[a-c]", 1 => text()]
}

/// Keys that no object of the context has; `null` would be absent.
fn extra() -> impl Strategy<Value = Map<String, Value>> + Clone {
    let values = value().prop_filter("null is absent", |value| !value.is_null());
    collection::btree_map("x_[a-c]", values, 0..3).prop_map(|map| map.into_iter().collect())
}

fn error_type() -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(ErrorKind::ALL.map(|kind| kind.as_str().to_owned()).to_vec())
}

fn timestamp() -> impl Strategy<Value = Timestamp> + Clone {
    // RFC 3339 has no years before 0.
    let seconds = -62_167_219_200..=Timestamp::MAX.as_second();
    (seconds, 0..1_000_000_000).prop_filter_map("in range", |(second, nanosecond)| {
        Timestamp::new(second, nanosecond).ok()
    })
}

/// Completes a default value by each field in turn, absent half of the time.
macro_rules! with_fields {
    ($start:expr, { $($field:ident: $strategy:expr,)* }) => {{
        let object = $start.boxed();
        $(
            let object = (object, option::of($strategy))
                .prop_map(|(mut object, value)| {
                    object.$field = value;
                    object
                })
                .boxed();
        )*
        object
    }};
}

macro_rules! object {
    ($Type:ident { $($field:ident: $strategy:expr,)* }) => {
        with_fields!(
            extra().prop_map(|extra| {
                let mut object = $Type::new();
                object.extra = extra;
                object
            }),
            { $($field: $strategy,)* }
        )
    };
}

/// Not every test needs every field: what all strings have in common is one
/// macro away.
macro_rules! texts {
    ($Type:ident { $($field:ident)* }) => {
        object!($Type { $($field: text(),)* }).prop_map(Box::new)
    };
}

fn context() -> BoxedStrategy<Context> {
    let location = object!(Location {
        city: text(),
        country: text(),
        region: text(),
        latitude: -90.0..=90.0,
        longitude: -180.0..=180.0,
        speed: number(),
    });
    let network = object!(Network {
        bluetooth: any::<bool>(),
        cellular: any::<bool>(),
        wifi: any::<bool>(),
        carrier: text(),
    });
    let screen = object!(ScreenContext {
        density: number(),
        width: any::<u32>(),
        height: any::<u32>(),
    });
    let subscription = object!(Subscription {
        account_id: text(),
        subscription_id: text(),
        event: text(),
        value: number(),
        increment_by: number(),
    });
    object!(Context {
        message_id: id(),
        timestamp: timestamp(),
        ip: any::<IpAddr>(),
        user_agent: text(),
        locale: text(),
        timezone: text(),
        meta: dictionary(),
        flags: collection::btree_map(name(), any::<bool>(), 0..4),
        params: collection::btree_map(name(), collection::vec(text(), 0..3), 0..4),
        library: texts!(Library { name version }),
        git: texts!(Git { repository branch commit author tag }),
        app: texts!(App { name version build_id }),
        campaign: texts!(Campaign { name source medium term content }),
        cloud: texts!(Cloud { provider service region project_id account_id }),
        device: texts!(Device { id manufacturer model name type_ version advertising_id }),
        location: location.prop_map(Box::new),
        network: network.prop_map(Box::new),
        os: texts!(Os { name arch version }),
        page: texts!(PageContext { path referrer search title url }),
        referrer: texts!(Referrer { type_ name url link }),
        screen: screen.prop_map(Box::new),
        subscription: subscription.prop_map(Box::new),
    })
}

/// Up to a year, in nanoseconds.
fn duration() -> impl Strategy<Value = Duration> + Clone {
    prop_oneof![
        (1_u64..=31_536_000_000_000_000).prop_map(Duration::from_nanos),
        (1_u64..=31_536_000).prop_map(Duration::from_secs),
        (1_u64..10_000).prop_map(Duration::from_millis),
    ]
}

fn policies() -> BoxedStrategy<Policies> {
    let retry_policy = with_fields!(Just(RetryPolicy::new()), {
        initial_interval: duration(),
        backoff_coefficient: 1.0..1e9,
        maximum_interval: duration(),
        maximum_attempts: any::<u32>(),
        non_retryable_error_types: collection::vec(error_type(), 0..3),
    });
    let request = with_fields!(Just(ActivityPolicy::new()), {
        single_attempt_timeout: duration(),
        retry_policy: retry_policy,
    });
    with_fields!(Just(Policies::new()), { request: request, })
}

/// A user id, an anonymous id, or both.
fn somebody() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    prop_oneof![
        id().prop_map(|user| (Some(user), None)),
        id().prop_map(|anonymous| (None, Some(anonymous))),
        (id(), id()).prop_map(|(user, anonymous)| (Some(user), Some(anonymous))),
    ]
}

macro_rules! belonging {
    ($event:expr) => {
        (somebody(), $event).prop_map(|((user, anonymous), mut event)| {
            event.user_id = user;
            event.anonymous_id = anonymous;
            event
        })
    };
}

fn identify() -> impl Strategy<Value = Identify> {
    belonging!(dictionary().prop_map(|traits| Identify::new().traits(traits)))
}

fn track() -> impl Strategy<Value = Track> {
    belonging!(
        (id(), dictionary(), dictionary())
            .prop_map(|(event, p, t)| Track::new(event).properties(p).traits(t))
    )
}

fn group() -> impl Strategy<Value = Group> {
    belonging!((id(), dictionary()).prop_map(|(group, traits)| Group::new(group).traits(traits)))
}

fn alias() -> impl Strategy<Value = Alias> {
    (id(), dictionary())
        .prop_map(|(id, traits)| Alias::new(format!("{id}-before"), id).traits(traits))
}

fn page() -> impl Strategy<Value = Page> {
    belonging!((id(), dictionary()).prop_map(|(name, p)| Page::new(name).properties(p)))
}

fn screen() -> impl Strategy<Value = Screen> {
    belonging!((id(), dictionary()).prop_map(|(name, p)| Screen::new(name).properties(p)))
}

fn delete() -> impl Strategy<Value = Delete> {
    (id(), dictionary()).prop_map(|(id, traits)| Delete::new(id).traits(traits))
}

fn event() -> impl Strategy<Value = AnyEvent> {
    prop_oneof![
        identify().prop_map(AnyEvent::from),
        track().prop_map(AnyEvent::from),
        group().prop_map(AnyEvent::from),
        alias().prop_map(AnyEvent::from),
        page().prop_map(AnyEvent::from),
        screen().prop_map(AnyEvent::from),
        delete().prop_map(AnyEvent::from),
    ]
}

fn input<E: Event>(event: impl Strategy<Value = E>) -> impl Strategy<Value = Input<E>> {
    (option::of(policies()), context(), event).prop_map(|(policies, context, event)| {
        let mut input = Input::new(event).context(context);
        input.policies = policies;
        input
    })
}

fn response() -> impl Strategy<Value = HttpResponse> {
    let headers = collection::btree_map("[a-z-]{1,12}", collection::vec(text(), 1..3), 0..3);
    (any::<u16>(), headers, value(), any::<bool>()).prop_map(
        |(status_code, headers, body, truncated)| {
            let mut response = HttpResponse::new(status_code).body(body);
            response.headers = headers;
            response.truncated = truncated;
            response
        },
    )
}

// JSON.

fn reads_back<E: Event>(input: &Input<E>) -> Result<(), TestCaseError> {
    prop_assert_eq!(input.validate(), Ok(()));
    let json = serde_json::to_vec(input).unwrap();
    prop_assert_eq!(&Input::<E>::from_json(&json).unwrap(), input);
    prop_assert_eq!(&serde_json::from_slice::<Input<E>>(&json).unwrap(), input);
    let any = AnyInput::from_json(&json).unwrap();
    prop_assert_eq!(&any, &input.clone().into_any());
    prop_assert_eq!(serde_json::to_vec(&any).unwrap(), json);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_identify_reads_back(input in input(identify())) { reads_back(&input)?; }
    #[test]
    fn a_track_reads_back(input in input(track())) { reads_back(&input)?; }
    #[test]
    fn a_group_reads_back(input in input(group())) { reads_back(&input)?; }
    #[test]
    fn an_alias_reads_back(input in input(alias())) { reads_back(&input)?; }
    #[test]
    fn a_page_reads_back(input in input(page())) { reads_back(&input)?; }
    #[test]
    fn a_screen_reads_back(input in input(screen())) { reads_back(&input)?; }
    #[test]
    fn a_delete_reads_back(input in input(delete())) { reads_back(&input)?; }

    #[test]
    fn an_output_reads_back(event in event(), response in option::of(response()), failed: bool) {
        let status = if failed { Status::Failure } else { Status::Success };
        let output: AnyOutput = Output::new(status, event, response);
        let json = serde_json::to_vec(&output).unwrap();
        prop_assert_eq!(serde_json::from_slice::<AnyOutput>(&json).unwrap(), output);
    }

    /// Whatever stands in the fields: valid and readable, or an error.
    #[test]
    fn what_is_valid_can_be_read(
        user in option::weighted(0.9, any::<String>()),
        event in any::<String>(),
        message in option::of(any::<String>()),
        latitude in prop_oneof![3 => -100.0..100.0, 1 => any::<f64>()],
        nanoseconds in prop_oneof![3 => 0..40_000_000_000_000_000_u64, 1 => any::<u64>()],
        coefficient in prop_oneof![3 => 0.5..10.0, 1 => any::<f64>()],
        key in sample::select(vec!["ip", "other", "another", "user_agents"]),
    ) {
        let mut track = Track::new(event);
        track.user_id = user;
        let mut context = Context::new().location(Location::new().latitude(latitude));
        context.message_id = message;
        context.extra.insert(key.to_owned(), json!(1));
        let retry = RetryPolicy::new()
            .initial_interval(Duration::from_nanos(nanoseconds))
            .backoff_coefficient(coefficient);
        let policies = Policies::new().request(ActivityPolicy::new().retry_policy(retry));
        let input = Input::new(track).context(context).policies(policies);
        if input.validate().is_ok() {
            reads_back(&input)?;
        }
    }
}

// Durations.

proptest! {
    #[test]
    fn durations_read_back(duration in duration()) {
        let policy = ActivityPolicy::new().single_attempt_timeout(duration);
        let policies = Policies::new().request(policy);
        let json = serde_json::to_value(&policies).unwrap();
        prop_assert!(json["request"]["single_attempt_timeout"].is_string());
        prop_assert_eq!(Policies::from_value(json).unwrap(), policies);
    }

    #[test]
    fn nanoseconds_are_durations(nanoseconds in 1_u64..=31_536_000_000_000_000) {
        let json = json!({"request": {"single_attempt_timeout": nanoseconds}});
        let policies = Policies::from_value(json).unwrap();
        let duration = policies.request.unwrap().single_attempt_timeout;
        prop_assert_eq!(duration, Some(Duration::from_nanos(nanoseconds)));
    }

    #[test]
    fn durations_of_any_text_do_not_panic(text in "[-+]?[0-9.]{0,25}[a-zµ ]{0,4}[0-9a-z]{0,6}") {
        let json = json!({"request": {"single_attempt_timeout": text}});
        if let Ok(policies) = Policies::from_value(json) {
            let json = serde_json::to_value(&policies).unwrap();
            prop_assert_eq!(Policies::from_value(json).unwrap(), policies);
        }
    }
}

// Merging.

/// What merging means, said in JSON: own members win, at most `levels` deep.
fn merged(own: &Value, base: &Value, levels: usize) -> Value {
    match (own, base) {
        (Value::Object(own), Value::Object(base)) if levels > 0 => {
            let mut merged = base.clone();
            for (key, value) in own {
                let value = match base.get(key) {
                    // A dictionary's values are wholes, and so is what is unknown.
                    Some(base) if !key.starts_with("x_") => merged_value(value, base, levels),
                    _ => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        _ => own.clone(),
    }
}

fn merged_value(own: &Value, base: &Value, levels: usize) -> Value {
    merged(own, base, levels - 1)
}

fn context_over(mut own: Context, base: &Context) -> Context {
    own.inherit(base);
    own
}

fn policies_over(mut own: Policies, base: &Policies) -> Policies {
    own.inherit(base);
    own
}

fn without_identity(mut context: Context) -> Context {
    context.message_id = None;
    context.timestamp = None;
    context
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_contexts_own_values_win(own in context(), base in context()) {
        let json = |context: &Context| serde_json::to_value(context).unwrap();
        let expected = merged(&json(&own), &json(&without_identity(base.clone())), 2);
        prop_assert_eq!(json(&context_over(own, &base)), expected);
    }

    #[test]
    fn contexts_merge_in_any_grouping(a in context(), b in context(), c in context()) {
        let left = context_over(context_over(a.clone(), &b), &c);
        let right = context_over(a, &context_over(b, &c));
        prop_assert_eq!(left, right);
    }

    #[test]
    fn a_context_merged_again_is_the_same(own in context(), base in context()) {
        prop_assert_eq!(&context_over(own.clone(), &own), &own);
        let once = context_over(own, &base);
        prop_assert_eq!(context_over(once.clone(), &base), once);
    }

    #[test]
    fn an_empty_context_changes_nothing(context in context()) {
        prop_assert_eq!(&context_over(context.clone(), &Context::new()), &context);
        prop_assert_eq!(
            context_over(Context::new(), &context),
            without_identity(context)
        );
    }

    #[test]
    fn the_policies_own_values_win(own in policies(), base in policies()) {
        let json = |policies: &Policies| serde_json::to_value(policies).unwrap();
        let expected = merged(&json(&own), &json(&base), 3);
        prop_assert_eq!(json(&policies_over(own, &base)), expected);
    }

    #[test]
    fn policies_merge_like_contexts(a in policies(), b in policies(), c in policies()) {
        let empty = Policies::new();
        prop_assert_eq!(&policies_over(a.clone(), &a), &a);
        prop_assert_eq!(&policies_over(a.clone(), &empty), &a);
        prop_assert_eq!(&policies_over(empty, &a), &a);
        let left = policies_over(policies_over(a.clone(), &b), &c);
        let right = policies_over(a, &policies_over(b, &c));
        prop_assert_eq!(left, right);
    }
}

// Retries.

fn request_policy() -> impl Strategy<Value = RequestPolicy> {
    policies().prop_map(|policies| policies.resolve())
}

fn transient() -> Error {
    Error::new(ErrorKind::Unavailable, "503")
}

proptest! {
    #[test]
    fn a_pause_is_between_half_and_all_of_its_interval(
        policy in request_policy(), nth in 1..50_u32, jitter in 0.0..1.0,
    ) {
        let mut interval = policy.initial_interval.as_secs_f64();
        for _ in 1..nth {
            interval *= policy.backoff_coefficient;
        }
        let interval = interval.min(policy.maximum_interval.as_secs_f64());
        let pause = policy.pause(nth, jitter);
        let nearly = 1e-6 + interval * 1e-9;
        prop_assert!(pause <= policy.maximum_interval);
        prop_assert!(pause.as_secs_f64() >= interval / 2.0 - nearly, "{:?}", pause);
        prop_assert!(pause.as_secs_f64() <= interval + nearly, "{:?}", pause);
    }

    /// Policies that no check has seen, and clocks that are wrong.
    #[test]
    fn a_pause_is_never_longer_than_the_longest(
        nth: u32,
        jitter: f64,
        coefficient: f64,
        initial in any::<Duration>(),
        maximum in any::<Duration>(),
    ) {
        let mut policy = RequestPolicy::default();
        policy.initial_interval = initial;
        policy.backoff_coefficient = coefficient;
        policy.maximum_interval = maximum;
        prop_assert!(policy.pause(nth, jitter) <= maximum);
    }

    /// Without delays that the vendor asks for, there are as many attempts as
    /// the policy says.
    #[test]
    fn attempts_end(mut policy in request_policy(), attempts in 1..20_u32, jitter in 0.0..1.0) {
        policy.maximum_attempts = attempts;
        policy.non_retryable_error_types.clear();
        let mut counted = 0;
        while let Next::Retry { after, counted: counts } =
            policy.next(counted, &transient(), jitter)
        {
            prop_assert!(counts);
            prop_assert!(after <= policy.maximum_interval);
            counted += 1;
            prop_assert!(counted < attempts);
        }
        prop_assert_eq!(counted + 1, attempts);
    }

    #[test]
    fn what_the_vendor_asks_for_is_waited_for(
        mut policy in request_policy(), counted: u32, jitter: f64, asked in duration(),
    ) {
        policy.non_retryable_error_types.clear();
        let next = policy.next(counted, &transient().with_retry_after(asked), jitter);
        prop_assert_eq!(next, Next::Retry { after: asked, counted: false });
        let error = transient().with_retry_after(asked).with_retryable(false);
        prop_assert_eq!(policy.next(counted, &error, jitter), Next::GiveUp);
    }

    /// A longest pause that nobody asked for does not cut a first one that
    /// somebody did.
    #[test]
    fn a_first_pause_is_obeyed(initial in duration()) {
        let retry = RetryPolicy::new().initial_interval(initial);
        let policies = Policies::new().request(ActivityPolicy::new().retry_policy(retry));
        let policy = policies.resolve();
        prop_assert_eq!(policy.initial_interval, initial);
        prop_assert!(policy.maximum_interval >= initial);
        prop_assert!(policy.maximum_interval >= RequestPolicy::default().maximum_interval);
    }
}

/// A failed attempt: how it went on, and how far it got.
fn failure() -> impl Strategy<Value = Error> {
    let kind = prop_oneof![
        4 => Just(ErrorKind::Unavailable),
        2 => Just(ErrorKind::RateLimited),
        1 => Just(ErrorKind::Deferred),
    ];
    let asked = option::of((0..20_000_u64).prop_map(Duration::from_secs));
    (kind, asked, 0..5_u32).prop_map(|(kind, asked, progress)| {
        let error = Error::new(kind, "later").with_progress(Progress(progress));
        match asked {
            Some(asked) => error.with_retry_after(asked),
            None => error,
        }
    })
}

proptest! {
    /// Whatever happens, and however often an engine stops in between.
    #[test]
    fn retries_stay_in_their_bounds(
        mut policy in request_policy(),
        attempts in 1..10_u32,
        failures in collection::vec((failure(), 0.0..1.0), 0..60),
    ) {
        policy.maximum_attempts = attempts;
        policy.non_retryable_error_types.clear();
        let input = AnyInput::new(Track::new("E").user_id("u").into());
        let mut retries = Retries::new();
        let mut waited = Duration::ZERO;
        for (error, jitter) in failures {
            let before = retries;
            let attempt = before.attempt(&input, &policy);
            prop_assert_eq!(attempt.number, before.made + 1);
            prop_assert_eq!(attempt.progress, before.progress);
            prop_assert_eq!(attempt.timeout, policy.single_attempt_timeout);

            let pause = retries.failed(&error, &policy, jitter);
            let deferred = error.kind() == ErrorKind::Deferred;
            prop_assert_eq!(retries.made, before.made + u32::from(!deferred));
            prop_assert_eq!(retries.progress, before.progress.max(error.progress()));
            prop_assert!(retries.counted < attempts);
            let Some(pause) = pause else { break };
            if deferred {
                prop_assert_eq!(pause, Duration::ZERO);
            } else if retries.counted > before.counted {
                prop_assert!(pause <= policy.maximum_interval);
            } else {
                prop_assert_eq!(Some(pause), error.retry_after());
                waited += pause;
            }
            prop_assert_eq!(retries.asked, waited);
            prop_assert!(waited <= MAX_ASKED);
        }
    }
}

// Any bytes at all.

/// The seeds of the fuzz target, by their names.
static SEEDS: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/envelope");
    let seeds: BTreeMap<_, _> = fs::read_dir(folder)
        .expect("the seeds are part of the source")
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    assert!(seeds.len() > 14, "seeds are missing: {:?}", seeds.keys());
    seeds
});

#[derive(Clone, Debug)]
enum Mutation {
    Set(u8),
    Insert(&'static str),
    Cut(usize),
    Repeat(usize),
    Splice(Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    const TOKENS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "-",
        "0",
        ".",
        "e9",
        "1e400",
        "\"\"",
        "{}",
        "[]",
        "\"identify\":{},",
        "\"context\":null,",
        "\"user_id\":\"u\",",
        "\\ud800",
        "\u{0}",
        "\u{feff}",
        "Z",
        "µs",
    ];
    prop_oneof![
        any::<u8>().prop_map(Mutation::Set),
        sample::select(TOKENS).prop_map(Mutation::Insert),
        (1..40_usize).prop_map(Mutation::Cut),
        (1..80_usize).prop_map(Mutation::Repeat),
        (
            sample::select(SEEDS.values().collect::<Vec<_>>()),
            any::<sample::Index>(),
            1..200_usize
        )
            .prop_map(|(seed, at, length)| {
                let at = at.index(seed.len());
                Mutation::Splice(seed[at..seed.len().min(at + length)].to_vec())
            }),
    ]
}

fn mutate(bytes: &mut Vec<u8>, at: usize, mutation: Mutation) {
    let at = at % (bytes.len() + 1);
    let until = |length: usize| bytes.len().min(at + length);
    match mutation {
        Mutation::Set(byte) => {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        Mutation::Insert(token) => drop(bytes.splice(at..at, token.bytes())),
        Mutation::Cut(length) => drop(bytes.drain(at..until(length))),
        Mutation::Repeat(length) => {
            let copy = bytes[at..until(length)].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        Mutation::Splice(part) => drop(bytes.splice(at..at, part)),
    }
}

#[test]
fn the_seeds_hold() {
    for (name, seed) in &*SEEDS {
        println!("{name}");
        envelope::check(seed);
    }
}

/// The golden files are seeds; a copy that stayed behind would test the past.
#[test]
fn the_golden_files_are_seeds() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let golden = fs::read(path).unwrap();
        assert!(
            SEEDS.get(&name) == Some(&golden),
            "copy tests/golden/{name} to fuzz/seeds/envelope"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in collection::vec(any::<u8>(), 0..200)) {
        envelope::check(&bytes);
    }

    #[test]
    fn any_json_is_read_or_refused(value in value()) {
        envelope::check(value.to_string().as_bytes());
    }

    #[test]
    fn mutated_envelopes_are_read_or_refused(
        seed in sample::select(SEEDS.values().collect::<Vec<_>>()),
        mutations in collection::vec((any::<usize>(), mutation()), 1..6),
    ) {
        let mut bytes = seed.clone();
        for (at, mutation) in mutations {
            mutate(&mut bytes, at, mutation);
        }
        envelope::check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Mutations of valid JSON reach deeper than those of bytes.
    #[test]
    fn inputs_with_any_member_are_read_or_refused(
        input in input(event()),
        object in any::<sample::Index>(),
        key in prop_oneof![
            sample::select(vec!["user_id", "event", "ip", "flags", "request", "status"])
                .prop_map(str::to_owned),
            text(),
        ],
        value in value(),
    ) {
        let mut json = serde_json::to_value(&input).unwrap();
        let mut objects = Vec::new();
        pointers(&json, String::new(), &mut objects);
        let pointer = &objects[object.index(objects.len())];
        if let Some(Value::Object(map)) = json.pointer_mut(pointer) {
            map.insert(key, value);
        }
        envelope::check(json.to_string().as_bytes());
    }
}

/// The pointers of all objects.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let key = key.replace('~', "~0").replace('/', "~1");
            pointers(value, format!("{at}/{key}"), found);
        }
        found.push(at);
    }
}

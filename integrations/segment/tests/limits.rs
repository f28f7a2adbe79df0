//! Segment's limits, to the byte: beyond them it answers 200 and drops.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use analytics_http::{HttpVendor as _, Sending};
use analytics_segment::{Config, Segment};
use analytics_spec::{AnyInput, Code, Context, Delete, Identify, Input, Integration as _, Track};
use proptest::prelude::*;

const LIMIT: usize = 32 * 1024;

fn segment() -> Segment {
    Config::new("wk-1").public_api_token("t").build().unwrap()
}

fn stamped(event: Track) -> AnyInput {
    let at = "2026-03-01T12:00:00Z".parse::<analytics_spec::Timestamp>();
    Input::new(event)
        .context(Context::new().message_id("m-1").timestamp(at.unwrap()))
        .into_any()
}

fn written(input: &AnyInput) -> usize {
    let steps = segment().mapping().steps(input).unwrap();
    steps.iter().map(|step| step.body.len()).sum()
}

fn padded(bytes: usize) -> Track {
    Track::new("e")
        .user_id("u")
        .property("pad", "x".repeat(bytes))
}

#[test]
fn a_message_is_at_most_32_kib() {
    let around = written(&stamped(padded(0)));
    let fits = stamped(padded(LIMIT - around));
    assert_eq!(written(&fits), LIMIT);
    assert_eq!(segment().validate(&fits), Ok(()));

    let exceeds = stamped(padded(LIMIT - around + 1));
    let error = segment().validate(&exceeds).unwrap_err();
    let violations = error.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(
        (violations[0].path.as_str(), violations[0].code),
        ("track", Code::TooLarge)
    );
    let message = &violations[0].message;
    assert!(
        message.contains("32769") && message.contains("32768"),
        "{message}"
    );
}

/// What passes before it is stamped is not refused for the stamp.
#[test]
fn a_message_without_id_and_time_is_measured_with_both() {
    let first_refused = (0..)
        .find(|less| {
            let input = Input::new(padded(LIMIT - less)).into_any();
            segment().validate(&input).is_ok()
        })
        .unwrap();
    let mut input = Input::new(padded(LIMIT - first_refused)).into_any();
    input.stamp(analytics_spec::Timestamp::now());
    assert_eq!(written(&input), LIMIT);
}

#[test]
fn a_message_has_at_most_10_000_properties() {
    let entries = |count: usize| (0..count).map(|i| (i.to_string(), 1));
    for (count, violations) in [(10_000, 1), (10_001, 2)] {
        let properties = stamped(Track::new("e").user_id("u").properties(entries(count)));
        let traits = stamped(Track::new("e").user_id("u").traits(entries(count)));
        for (input, path) in [(properties, "track.properties"), (traits, "track.traits")] {
            // So many are more than 32 KiB as well.
            let error = segment().validate(&input).unwrap_err();
            let found = error.violations();
            assert_eq!(found.len(), violations, "{count}");
            assert_eq!(found.iter().any(|v| v.path == path), violations == 2);
            assert!(found.iter().all(|v| v.code == Code::TooLarge));
        }
    }
}

#[test]
fn a_delete_is_not_measured_for_what_it_does_not_send() {
    let traits = (0..10_001).map(|i| (i.to_string(), 1));
    let input = Input::new(Delete::new("u").traits(traits)).into_any();
    assert_eq!(segment().validate(&input), Ok(()));
}

#[test]
fn an_identify_needs_to_be_somebodys() {
    let nobody = Input::new(Identify::new().trait_("plan", "pro")).into_any();
    let error = segment().validate(&nobody).unwrap_err();
    let violation = &error.violations()[0];
    assert_eq!(
        (violation.path.as_str(), violation.code),
        ("identify.user_id", Code::Required)
    );
    for event in [
        Identify::new().user_id("u"),
        Identify::new().anonymous_id("a"),
    ] {
        let input = Input::new(event).into_any();
        assert_eq!(segment().validate(&input), Ok(()));
    }
}

proptest! {
    /// What a batch is said to take is what its request has, at most.
    #[test]
    fn the_envelope_is_counted(key in "[ -~]{1,60}", sizes in proptest::collection::vec(2..50usize, 1..9)) {
        prop_assume!(!key.trim().is_empty());
        let segment = Config::new(key).public_api_token("t").build().unwrap();
        let vendor = segment.mapping();
        let bodies: Vec<_> = sizes
            .iter()
            .map(|size| bytes::Bytes::from(format!("\"{}\"", "x".repeat(*size))))
            .collect();
        let track = vendor.steps(&stamped(padded(1))).unwrap().remove(0).route;
        let sending = Sending { at: analytics_spec::Timestamp::now(), retry: 0 };
        let request = vendor.request(&track, &bodies.iter().collect::<Vec<_>>(), sending).unwrap();
        let counted = vendor.limits(&track).envelope_bytes
            + bodies.iter().map(bytes::Bytes::len).sum::<usize>()
            + bodies.len() - 1;
        prop_assert!(request.body().len() <= counted);
        prop_assert!(request.body().len() + 8 > counted);
        prop_assert!(vendor.limits(&track).max_bytes <= 480_000);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(request.body()).is_ok());
    }
}

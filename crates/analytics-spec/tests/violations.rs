//! What is wrong with an input: every rule, by its path and its code.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use analytics_spec::{
    ActivityPolicy, AnyInput, Code, Context, Event, Input, InputIdentify, InputTrack, Policies,
    RetryPolicy, Track, ValidationError, Value,
};
use serde_json::json;

/// `path: code` of every violation, in their order.
fn found(error: &ValidationError) -> Vec<String> {
    let violations = error.violations().iter();
    violations
        .map(|v| format!("{}: {}", v.path, v.code))
        .collect()
}

fn violations(json: &str) -> Vec<String> {
    match AnyInput::from_json(json.as_bytes()) {
        Ok(input) => {
            input.validate().unwrap();
            Vec::new()
        }
        Err(error) => found(&error),
    }
}

/// Every line: an input, and all that is wrong with it.
#[track_caller]
fn table(rows: &[(Value, &[&str])]) {
    for (input, expected) in rows {
        assert_eq!(violations(&input.to_string()), *expected, "{input}");
    }
}

/// Like [`table`], of texts that no [`Value`] can hold.
#[track_caller]
fn table_of_texts(rows: &[(&str, &[&str])]) {
    for (input, expected) in rows {
        assert_eq!(violations(input), *expected, "{input}");
    }
}

#[track_caller]
fn says(input: &Value, words: &[&str]) {
    let error = AnyInput::from_json(input.to_string().as_bytes()).unwrap_err();
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{input}: {text:?} lacks {word:?}");
    }
}

#[test]
fn the_least_that_is_valid() {
    table(&[
        (json!({"identify": {"user_id": "u"}}), &[]),
        (json!({"identify": {"anonymous_id": "a"}}), &[]),
        (json!({"identify": {"traits": {"email": "a@b.c"}}}), &[]),
        (json!({"track": {"user_id": "u", "event": "E"}}), &[]),
        (json!({"track": {"anonymous_id": "a", "event": "E"}}), &[]),
        (json!({"group": {"user_id": "u", "group_id": "g"}}), &[]),
        (
            json!({"group": {"anonymous_id": "a", "group_id": "g"}}),
            &[],
        ),
        (
            json!({"alias": {"previous_user_id": "p", "user_id": "u"}}),
            &[],
        ),
        (json!({"page": {"user_id": "u", "name": "N"}}), &[]),
        (json!({"page": {"anonymous_id": "a", "name": "N"}}), &[]),
        (json!({"screen": {"user_id": "u", "name": "N"}}), &[]),
        (json!({"screen": {"anonymous_id": "a", "name": "N"}}), &[]),
        (json!({"delete": {"user_id": "u"}}), &[]),
    ]);
}

#[test]
fn required_fields() {
    table(&[
        (json!({"identify": {}}), &["identify: required"]),
        (json!({"identify": {"traits": {}}}), &["identify: required"]),
        (
            json!({"track": {}}),
            &["track.event: required", "track.user_id: required"],
        ),
        (
            json!({"track": {"user_id": "u"}}),
            &["track.event: required"],
        ),
        (
            json!({"track": {"event": "E"}}),
            &["track.user_id: required"],
        ),
        (
            json!({"group": {}}),
            &["group.group_id: required", "group.user_id: required"],
        ),
        (
            json!({"group": {"user_id": "u"}}),
            &["group.group_id: required"],
        ),
        (
            json!({"group": {"group_id": "g"}}),
            &["group.user_id: required"],
        ),
        (
            json!({"alias": {}}),
            &[
                "alias.previous_user_id: required",
                "alias.user_id: required",
            ],
        ),
        (
            json!({"alias": {"user_id": "u"}}),
            &["alias.previous_user_id: required"],
        ),
        (
            json!({"alias": {"previous_user_id": "p"}}),
            &["alias.user_id: required"],
        ),
        (
            json!({"alias": {"user_id": "u", "previous_user_id": "u"}}),
            &["alias.previous_user_id: conflict"],
        ),
        (
            json!({"page": {}}),
            &["page.name: required", "page.user_id: required"],
        ),
        (json!({"page": {"user_id": "u"}}), &["page.name: required"]),
        (json!({"page": {"name": "N"}}), &["page.user_id: required"]),
        (
            json!({"screen": {}}),
            &["screen.name: required", "screen.user_id: required"],
        ),
        (
            json!({"screen": {"user_id": "u"}}),
            &["screen.name: required"],
        ),
        (
            json!({"screen": {"name": "N"}}),
            &["screen.user_id: required"],
        ),
        (json!({"delete": {}}), &["delete.user_id: required"]),
        (
            json!({"delete": {"traits": {"a": 1}}}),
            &["delete.user_id: required"],
        ),
    ]);
}

#[test]
fn empty_and_blank_text_is_missing() {
    for blank in ["", " ", "\t\n", "\u{2003}\u{a0}"] {
        table(&[
            (
                json!({"identify": {"user_id": blank}}),
                &["identify.user_id: required"],
            ),
            (
                json!({"identify": {"anonymous_id": blank, "user_id": blank}}),
                &[
                    "identify.anonymous_id: required",
                    "identify.user_id: required",
                ],
            ),
            (
                json!({"track": {"user_id": blank, "event": blank}}),
                &["track.user_id: required", "track.event: required"],
            ),
            (
                json!({"track": {"user_id": "u", "anonymous_id": blank, "event": "E"}}),
                &["track.anonymous_id: required"],
            ),
            (
                json!({"group": {"user_id": "u", "group_id": blank}}),
                &["group.group_id: required"],
            ),
            (
                json!({"alias": {"user_id": blank, "previous_user_id": blank}}),
                &[
                    "alias.previous_user_id: required",
                    "alias.user_id: required",
                ],
            ),
            (
                json!({"page": {"user_id": "u", "name": blank}}),
                &["page.name: required"],
            ),
            (
                json!({"screen": {"user_id": "u", "name": blank}}),
                &["screen.name: required"],
            ),
            (
                json!({"delete": {"user_id": blank}}),
                &["delete.user_id: required"],
            ),
            (
                json!({"context": {"message_id": blank}, "delete": {"user_id": "u"}}),
                &["context.message_id: required"],
            ),
        ]);
    }
}

#[test]
fn ids_have_at_most_255_characters_whatever_their_bytes() {
    for letter in ["x", "é", "名", "🦀"] {
        let (fits, long) = (letter.repeat(255), letter.repeat(256));
        let other = format!("{}-", letter.repeat(254));
        table(&[
            (
                json!({"identify": {"user_id": fits, "anonymous_id": fits}}),
                &[],
            ),
            (
                json!({"identify": {"user_id": long, "anonymous_id": long}}),
                &[
                    "identify.anonymous_id: too_long",
                    "identify.user_id: too_long",
                ],
            ),
            (json!({"group": {"user_id": fits, "group_id": fits}}), &[]),
            (
                json!({"group": {"user_id": "u", "group_id": long}}),
                &["group.group_id: too_long"],
            ),
            (
                json!({"alias": {"user_id": fits, "previous_user_id": other}}),
                &[],
            ),
            (
                json!({"alias": {"user_id": long, "previous_user_id": format!("{long}-")}}),
                &[
                    "alias.previous_user_id: too_long",
                    "alias.user_id: too_long",
                ],
            ),
            (json!({"delete": {"user_id": fits}}), &[]),
            (
                json!({"delete": {"user_id": long}}),
                &["delete.user_id: too_long"],
            ),
            // Names are texts, not ids.
            (json!({"track": {"user_id": "u", "event": long}}), &[]),
            (json!({"page": {"user_id": "u", "name": long}}), &[]),
            (json!({"screen": {"user_id": "u", "name": long}}), &[]),
        ]);
        says(
            &json!({"delete": {"user_id": long}}),
            &["has 256 characters", "at most 255"],
        );
    }
}

#[test]
fn message_ids_have_at_most_100_characters() {
    for letter in ["x", "é", "🦀"] {
        let with = |id: String| json!({"context": {"message_id": id}, "delete": {"user_id": "u"}});
        table(&[
            (with(letter.repeat(100)), &[]),
            (with(letter.repeat(101)), &["context.message_id: too_long"]),
        ]);
        says(
            &with(letter.repeat(101)),
            &["has 101 characters", "at most 100"],
        );
    }
}

#[test]
fn unknown_fields_name_the_nearest() {
    table(&[
        (
            json!({"identify": {"userId": "u", "traits": {"a": 1}}}),
            &["identify.userId: unknown_field"],
        ),
        (
            json!({"track": {"user_id": "u", "event": "E", "propertes": {}}}),
            &["track.propertes: unknown_field"],
        ),
        (
            json!({"page": {"user_id": "u", "name": "N", "traits": {}}}),
            &["page.traits: unknown_field"],
        ),
        // What stands under a wrong name does not count as the right one.
        (
            json!({"delete": {"anonymous_id": "a"}}),
            &[
                "delete.anonymous_id: unknown_field",
                "delete.user_id: required",
            ],
        ),
        (
            json!({"policies": {"requests": {}}, "delete": {"user_id": "u"}}),
            &["policies.requests: unknown_field"],
        ),
        (
            json!({"policies": {"request": {"timeout": "1s"}}, "delete": {"user_id": "u"}}),
            &["policies.request.timeout: unknown_field"],
        ),
        (
            json!({"policies": {"request": {"retry_policy": {"max_attempts": 1}}},
                "delete": {"user_id": "u"}}),
            &["policies.request.retry_policy.max_attempts: unknown_field"],
        ),
        // Its value is not read, whatever it is.
        (
            json!({"identify": {"user_id": "u", "userId": null, "x": null}}),
            &[],
        ),
    ]);
    for (input, near) in [
        (
            json!({"identify": {"userId": "u"}}),
            "did you mean `user_id`?",
        ),
        (
            json!({"identify": {"UserID": "u"}}),
            "did you mean `user_id`?",
        ),
        (
            json!({"identify": {"anonymousId": "u"}}),
            "did you mean `anonymous_id`?",
        ),
        (
            json!({"alias": {"previousUserId": "u"}}),
            "did you mean `previous_user_id`?",
        ),
        (
            json!({"track": {"propertes": {}}}),
            "did you mean `properties`?",
        ),
        (
            json!({"group": {"groupId": "g"}}),
            "did you mean `group_id`?",
        ),
        (json!({"Identify": {}}), "did you mean `identify`?"),
        (json!({"contexts": {}}), "did you mean `context`?"),
        (json!({"policy": {}}), "`policy` is not known here"),
        (
            json!({"policies": {"request": {"retry_policy": {"initialInterval": 1}}}}),
            "did you mean `initial_interval`?",
        ),
        (
            json!({"page": {"colour": 1}}),
            "known are anonymous_id, user_id, name, properties",
        ),
    ] {
        says(&input, &[near]);
    }
}

#[test]
fn unknown_keys_of_the_context_are_kept() {
    let json = json!({
        "context": {"beacon": {"id": 1}, "device": {"colour": "red"}},
        "delete": {"user_id": "u"},
    });
    table(&[(json.clone(), &[])]);
    let input = AnyInput::from_value(json.clone()).unwrap();
    assert_eq!(input.context.extra.get("beacon"), Some(&json!({"id": 1})));
    assert_eq!(serde_json::to_value(&input).unwrap(), json);
}

#[test]
fn wrong_types_at_every_level() {
    let user = json!({"user_id": "u"});
    let context = |context: Value| json!({"context": context, "delete": user});
    let policies = |policies: Value| json!({"policies": policies, "delete": user});
    table(&[
        (json!([]), &["$: type"]),
        (json!("text"), &["$: type"]),
        (json!(1), &["$: type"]),
        (json!(null), &["$: type"]),
        (json!({"identify": "u"}), &["identify: type"]),
        (json!({"identify": []}), &["identify: type"]),
        (
            json!({"identify": {"user_id": 5}}),
            &["identify.user_id: type"],
        ),
        (
            json!({"identify": {"traits": []}}),
            &["identify.traits: type"],
        ),
        (
            json!({"track": {"anonymous_id": 5, "event": "E"}}),
            &["track.anonymous_id: type"],
        ),
        (
            json!({"track": {"user_id": {}, "event": true, "properties": 1, "traits": "t"}}),
            &[
                "track.event: type",
                "track.properties: type",
                "track.traits: type",
                "track.user_id: type",
            ],
        ),
        (
            json!({"group": {"user_id": "u", "group_id": 7}}),
            &["group.group_id: type"],
        ),
        (
            json!({"alias": {"user_id": 1, "previous_user_id": 1}}),
            &["alias.previous_user_id: type", "alias.user_id: type"],
        ),
        (
            json!({"page": {"user_id": "u", "name": 1}}),
            &["page.name: type"],
        ),
        (
            json!({"screen": {"user_id": 1, "name": "N"}}),
            &["screen.user_id: type"],
        ),
        (json!({"delete": {"user_id": 1}}), &["delete.user_id: type"]),
        (context(json!([])), &["context: type"]),
        (
            context(json!({"message_id": 1})),
            &["context.message_id: type"],
        ),
        (
            context(json!({"timestamp": 1_772_366_096})),
            &["context.timestamp: type"],
        ),
        (context(json!({"ip": 1})), &["context.ip: type"]),
        (context(json!({"meta": []})), &["context.meta: type"]),
        (context(json!({"flags": ["a"]})), &["context.flags: type"]),
        (
            context(json!({"flags": {"a": "yes"}})),
            &["context.flags.a: type"],
        ),
        (
            context(json!({"params": {"a": "b"}})),
            &["context.params.a: type"],
        ),
        (
            context(json!({"params": {"a": ["b", 1, null]}})),
            &["context.params.a.1: type", "context.params.a.2: type"],
        ),
        (context(json!({"app": "Shop"})), &["context.app: type"]),
        (
            context(json!({"app": {"version": 4}})),
            &["context.app.version: type"],
        ),
        (
            context(json!({"device": {"type": 1}})),
            &["context.device.type: type"],
        ),
        (
            context(json!({"network": {"wifi": "yes", "carrier": true}})),
            &[
                "context.network.carrier: type",
                "context.network.wifi: type",
            ],
        ),
        (
            context(json!({"location": {"latitude": "45"}})),
            &["context.location.latitude: type"],
        ),
        (
            context(json!({"screen": {"width": "1"}})),
            &["context.screen.width: type"],
        ),
        (policies(json!("fast")), &["policies: type"]),
        (
            policies(json!({"request": []})),
            &["policies.request: type"],
        ),
        (
            policies(json!({"request": {"single_attempt_timeout": true, "retry_policy": 3}})),
            &[
                "policies.request.retry_policy: type",
                "policies.request.single_attempt_timeout: type",
            ],
        ),
        (
            policies(json!({"request": {"retry_policy": {
                "backoff_coefficient": "2",
                "maximum_attempts": "10",
                "non_retryable_error_types": "Timeout",
            }}})),
            &[
                "policies.request.retry_policy.backoff_coefficient: type",
                "policies.request.retry_policy.maximum_attempts: type",
                "policies.request.retry_policy.non_retryable_error_types: type",
            ],
        ),
        (
            policies(json!({"request": {"retry_policy": {"non_retryable_error_types": [1]}}})),
            &["policies.request.retry_policy.non_retryable_error_types.0: type"],
        ),
    ]);
    says(
        &json!({"identify": {"user_id": 5}}),
        &["expected a string, found a number"],
    );
}

#[test]
fn numbers_in_their_range() {
    let context = |context: Value| json!({"context": context, "delete": {"user_id": "u"}});
    let location = |location: Value| context(json!({"location": location}));
    table(&[
        (location(json!({"latitude": 90, "longitude": -180})), &[]),
        (
            location(json!({"latitude": 90.01, "longitude": -180.01})),
            &[
                "context.location.latitude: out_of_range",
                "context.location.longitude: out_of_range",
            ],
        ),
        (
            context(json!({"screen": {"width": 4_294_967_295_u32}})),
            &[],
        ),
        (
            context(json!({"screen": {"width": 4_294_967_296_u64, "height": -1}})),
            &[
                "context.screen.height: out_of_range",
                "context.screen.width: out_of_range",
            ],
        ),
        (
            context(json!({"screen": {"width": 1.5}})),
            &["context.screen.width: out_of_range"],
        ),
    ]);
}

#[test]
fn times_and_addresses() {
    let context =
        |key: &str, value: &str| json!({"context": {key: value}, "delete": {"user_id": "u"}});
    for timestamp in [
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00.123456789+01:00",
        "2026-03-01t12:00:00z",
    ] {
        table(&[(context("timestamp", timestamp), &[])]);
    }
    for timestamp in [
        "",
        "yesterday",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-03-01T25:00:00Z",
        "1772366096",
    ] {
        table(&[(
            context("timestamp", timestamp),
            &["context.timestamp: format"],
        )]);
    }
    for ip in ["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9"] {
        table(&[(context("ip", ip), &[])]);
    }
    for ip in [
        "",
        "localhost",
        "203.0.113",
        "203.0.113.256",
        "203.0.113.9:80",
    ] {
        table(&[(context("ip", ip), &["context.ip: format"])]);
    }
    says(&context("timestamp", "yesterday"), &["RFC 3339"]);
    says(&context("ip", "localhost"), &["IPv4 or IPv6"]);
}

#[test]
fn policies_that_cannot_be_obeyed() {
    let request =
        |request: Value| json!({"policies": {"request": request}, "delete": {"user_id": "u"}});
    let retry = |retry: Value| request(json!({"retry_policy": retry}));
    for timeout in [
        json!("0s"),
        json!(0),
        json!("367d"),
        json!("8785h"),
        json!(u64::MAX),
    ] {
        let found = violations(&request(json!({"single_attempt_timeout": timeout})).to_string());
        let code = if timeout == "367d" {
            "format"
        } else {
            "out_of_range"
        };
        assert_eq!(
            found,
            [format!("policies.request.single_attempt_timeout: {code}")],
            "{timeout}"
        );
    }
    for duration in [
        json!("soon"),
        json!("2"),
        json!(""),
        json!("-2s"),
        json!(-2),
        json!(2.5),
    ] {
        table(&[
            (
                request(json!({"single_attempt_timeout": duration})),
                &["policies.request.single_attempt_timeout: format"],
            ),
            (
                retry(json!({"initial_interval": duration, "maximum_interval": duration})),
                &[
                    "policies.request.retry_policy.initial_interval: format",
                    "policies.request.retry_policy.maximum_interval: format",
                ],
            ),
        ]);
    }
    table(&[
        (
            retry(json!({"initial_interval": 0, "maximum_interval": "0ms"})),
            &[
                "policies.request.retry_policy.initial_interval: out_of_range",
                "policies.request.retry_policy.maximum_interval: out_of_range",
            ],
        ),
        (retry(json!({"backoff_coefficient": 1})), &[]),
        (
            retry(json!({"backoff_coefficient": 0.999})),
            &["policies.request.retry_policy.backoff_coefficient: out_of_range"],
        ),
        (
            retry(json!({"maximum_attempts": -1})),
            &["policies.request.retry_policy.maximum_attempts: out_of_range"],
        ),
        (retry(json!({"maximum_attempts": 0})), &[]),
    ]);
    says(
        &request(json!({"single_attempt_timeout": "soon"})),
        &["\"2s\"", "\"1m30s\"", "nanoseconds"],
    );
    says(&retry(json!({"backoff_coefficient": 0})), &["at least 1"]);
}

/// The same of a configuration's policies, which stand in no envelope.
#[test]
fn policies_alone() {
    let error = Policies::from_value(json!({"request": {
        "single_attempt_timeout": "0s",
        "retry_policy": {"backoff_coefficient": 0, "maximumAttempts": 1},
    }}))
    .unwrap_err();
    assert_eq!(
        found(&error),
        [
            "policies.request.retry_policy.maximumAttempts: unknown_field",
            "policies.request.single_attempt_timeout: out_of_range",
            "policies.request.retry_policy.backoff_coefficient: out_of_range",
        ]
    );
    let error = Policies::from_value(json!(1)).unwrap_err();
    assert_eq!(found(&error), ["policies: type"]);
}

#[test]
fn an_envelope_holds_one_event() {
    table(&[
        (json!({}), &["$: required"]),
        (json!({"context": {}, "policies": {}}), &["$: required"]),
        (json!({"identify": null}), &["$: required"]),
        (json!({"identify": null, "delete": null}), &["$: required"]),
        (
            json!({"identify": {"user_id": "u"}, "track": {}}),
            &["$: conflict"],
        ),
        (
            json!({"identify": {"user_id": "u"}, "track": null, "page": null}),
            &[],
        ),
        (
            json!({"identity": {"user_id": "u"}}),
            &["identity: unknown_field", "$: required"],
        ),
        (
            json!({"identify": {"user_id": "u"}, "identity": {}}),
            &["identity: unknown_field"],
        ),
    ]);
    says(
        &json!({}),
        &["identify, track, group, alias, page, screen, delete"],
    );
    says(
        &json!({"track": {}, "identify": {}, "page": {}}),
        &["several events (identify, track, page)"],
    );

    let json = json!({"identify": {"user_id": "u"}});
    let error = InputTrack::from_value(json).unwrap_err();
    assert_eq!(found(&error), ["$: conflict"]);
    assert!(error.to_string().contains("expected track, found identify"));
    let error = InputTrack::from_value(json!({"trak": {}})).unwrap_err();
    assert!(
        error.to_string().contains("did you mean `track`?"),
        "{error}"
    );
    let error = InputIdentify::from_value(json!({})).unwrap_err();
    assert!(error.to_string().contains("set one of identify"), "{error}");
}

#[test]
fn keys_that_stand_twice() {
    table_of_texts(&[
        (
            r#"{"identify": {"user_id": "u"}, "identify": {"user_id": "v"}}"#,
            &["identify: duplicate_key"],
        ),
        (
            r#"{"context": {}, "context": {}, "identify": {"user_id": "u"}}"#,
            &["context: duplicate_key"],
        ),
        (
            r#"{"identify": {"user_id": "u", "user_id": "u"}}"#,
            &["identify.user_id: duplicate_key"],
        ),
        (
            r#"{"identify": {"user_id": null, "user_id": "u"}}"#,
            &["identify.user_id: duplicate_key"],
        ),
        (
            r#"{"identify": {"traits": {"tags": [1, {"a": {"b": 1, "b": 2}}]}}}"#,
            &["identify.traits.tags.1.a.b: duplicate_key"],
        ),
        (
            r#"{"identify": {"user_id": "u", "user_\u0069d": "v"}}"#,
            &["identify.user_id: duplicate_key"],
        ),
        // It hides nothing else.
        (
            r#"{"context": {"ip": 1}, "track": {"traits": {"a": 1, "a": 2}, "userId": "u", "userId": "u"}}"#,
            &[
                "track.traits.a: duplicate_key",
                "track.userId: duplicate_key",
                "context.ip: type",
                "track.userId: unknown_field",
                "track.event: required",
                "track.user_id: required",
            ],
        ),
    ]);
    // The form alone, without the rules of the content, is as strict.
    let error = serde_json::from_str::<AnyInput>(r#"{"identify": {"user_id": 1, "user_id": 2}}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("identify.user_id: duplicate_key"), "{error}");
}

#[test]
fn what_is_not_json() {
    table_of_texts(&[
        ("", &["$: malformed"]),
        (" ", &["$: malformed"]),
        ("{", &["$: malformed"]),
        ("identify", &["$: malformed"]),
        (r#"{"identify": {"user_id": "u"}"#, &["$: malformed"]),
        (r#"{"identify": {"user_id": "u"}}}"#, &["$: malformed"]),
        (r#"{"identify": {"user_id": "u"}} {}"#, &["$: malformed"]),
        (r#"{"identify": {"user_id": "u",}}"#, &["$: malformed"]),
        (r#"{"identify": {"user_id": 'u'}}"#, &["$: malformed"]),
        (r#"{"identify": {"user_id": "\ud800"}}"#, &["$: malformed"]),
        (r#"{"identify": {"traits": {"n": NaN}}}"#, &["$: malformed"]),
        (
            r#"{"identify": {"traits": {"n": 1e999}}}"#,
            &["$: malformed"],
        ),
        ("\u{feff}{}", &["$: malformed"]),
    ]);
    let error = AnyInput::from_json(b"{\"identify\": {\"user_id\": \"\xff\"}}").unwrap_err();
    assert_eq!(found(&error), ["$: malformed"]);
    let error = AnyInput::from_json(b"{\n\"identify\": }").unwrap_err();
    assert!(error.to_string().contains("line 2 column 13"), "{error}");
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |levels: usize| {
            let (open, close) = (open.repeat(levels), close.repeat(levels));
            let inner = if open.starts_with('[') { "" } else { "1" };
            format!(r#"{{"identify": {{"traits": {{"deep": {open}{inner}{close}}}}}}}"#)
        };
        assert_eq!(violations(&nested(100)), [""; 0]);
        assert_eq!(
            violations(&nested(101)),
            ["identify.traits.deep: too_large"]
        );
        assert_eq!(violations(&nested(200)), ["$: malformed"]);
        assert_eq!(violations(&nested(1_000_000)), ["$: malformed"]);
    }
    let open = "[".repeat(1_000_000);
    assert_eq!(violations(&open), ["$: malformed"]);
    assert_eq!(
        violations(&r#"{"identify":"#.repeat(100_000)),
        ["$: malformed"]
    );
}

/// Everything at once: a caller corrects an input in one step.
#[test]
fn several_violations_in_one_input() {
    table(&[(
        json!({
            "policies": {"request": {"single_attempt_timeout": "0s", "retries": 3}},
            "context": {
                "message_id": "m".repeat(101),
                "timestamp": "now",
                "location": {"latitude": 91},
                "flags": {"a": 1},
            },
            "track": {"user_id": "u".repeat(256), "evnt": "E", "properties": []},
            "tracks": {},
        }),
        &[
            "context.flags.a: type",
            "context.timestamp: format",
            "policies.request.retries: unknown_field",
            "tracks: unknown_field",
            "track.evnt: unknown_field",
            "track.properties: type",
            "policies.request.single_attempt_timeout: out_of_range",
            "context.message_id: too_long",
            "context.location.latitude: out_of_range",
            "track.user_id: too_long",
            "track.event: required",
        ],
    )]);
    // Even where there is no event, or one that cannot be read.
    table(&[
        (
            json!({"context": {"message_id": ""}}),
            &["$: required", "context.message_id: required"],
        ),
        (
            json!({"context": {"message_id": ""}, "policies": 1, "identify": []}),
            &[
                "policies: type",
                "identify: type",
                "context.message_id: required",
            ],
        ),
    ]);
}

/// What is read without its rules is checked like what is built.
#[test]
fn validate_finds_what_reading_does() {
    let json = json!({
        "policies": {"request": {"single_attempt_timeout": "0s"}},
        "context": {"message_id": "", "location": {"longitude": 181}},
        "alias": {"user_id": "u", "previous_user_id": "u"},
    });
    let read = AnyInput::from_value(json.clone()).unwrap_err();
    let form: AnyInput = serde_json::from_value(json).unwrap();
    assert_eq!(form.validate().unwrap_err(), read);
    assert_eq!(
        found(&read),
        [
            "policies.request.single_attempt_timeout: out_of_range",
            "context.message_id: required",
            "context.location.longitude: out_of_range",
            "alias.previous_user_id: conflict",
        ]
    );
}

/// What is valid can be read back: an engine stores it as JSON.
#[test]
fn built_inputs_that_could_not_be_read_back() {
    fn of(context: Context) -> Vec<String> {
        match Input::new(Track::new("E").user_id("u"))
            .context(context)
            .validate()
        {
            Ok(()) => Vec::new(),
            Err(error) => found(&error),
        }
    }
    use analytics_spec::context::{Location, ScreenContext, Subscription};

    let context = Context::new()
        .location(
            Location::new()
                .latitude(f64::NAN)
                .longitude(f64::INFINITY)
                .speed(f64::NAN),
        )
        .screen(ScreenContext::new().density(f64::NEG_INFINITY))
        .subscription(Subscription::new().value(f64::NAN).increment_by(f64::NAN));
    assert_eq!(
        of(context),
        [
            "context.location.latitude: out_of_range",
            "context.location.longitude: out_of_range",
            "context.location.speed: out_of_range",
            "context.screen.density: out_of_range",
            "context.subscription.value: out_of_range",
            "context.subscription.increment_by: out_of_range",
        ]
    );

    let mut context = Context::new().locale("en");
    context.extra.insert("locale".into(), "fr".into());
    context.extra.insert("ip".into(), "203.0.113.9".into());
    let mut location = Location::new();
    location.extra.insert("city".into(), "Lyon".into());
    assert_eq!(
        of(context.location(location)),
        [
            "context.location.city: conflict",
            "context.ip: conflict",
            "context.locale: conflict",
        ]
    );

    for coefficient in [f64::INFINITY, f64::NAN] {
        let retry = RetryPolicy::new().backoff_coefficient(coefficient);
        let policies = Policies::new().request(ActivityPolicy::new().retry_policy(retry));
        let input = Input::new(Track::new("E").user_id("u")).policies(policies);
        assert_eq!(
            found(&input.validate().unwrap_err()),
            ["policies.request.retry_policy.backoff_coefficient: out_of_range"]
        );
    }

    let mut deep = json!(1);
    for _ in 0..101 {
        deep = json!([deep]);
    }
    let mut context = Context::new();
    context
        .meta
        .get_or_insert_default()
        .insert("m".into(), deep.clone());
    context.extra.insert("e".into(), deep.clone());
    assert_eq!(
        of(context),
        ["context.meta.m: too_large", "context.e: too_large"]
    );
    let track = Track::new("E")
        .user_id("u")
        .property("p", deep.clone())
        .trait_("t", deep);
    assert_eq!(
        found(&Input::new(track).validate().unwrap_err()),
        ["track.properties.p: too_large", "track.traits.t: too_large"]
    );
}

#[test]
fn codes_are_written_as_they_are_serialised() {
    for code in [
        Code::Malformed,
        Code::DuplicateKey,
        Code::UnknownField,
        Code::Type,
        Code::Format,
        Code::Required,
        Code::TooLong,
        Code::TooLarge,
        Code::OutOfRange,
        Code::Conflict,
        Code::Reserved,
        Code::NotAllowed,
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
    let error = AnyInput::from_json(br#"{"delete": {}}"#).unwrap_err();
    assert_eq!(
        serde_json::to_value(&error).unwrap(),
        json!([{"path": "delete.user_id", "code": "required", "message": "must not be empty"}])
    );
    assert_eq!(
        error.to_string(),
        "delete.user_id: required: must not be empty"
    );
}

/// A key of a mebibyte costs what it weighs, not its square.
#[test]
fn long_unknown_keys_are_cheap() {
    let key = "k".repeat(1 << 20);
    let input = json!({"identify": {"user_id": "u", key.as_str(): 1}});
    let error = AnyInput::from_value(input).unwrap_err();
    assert_eq!(error.violations().len(), 1);
}

/// Only compiles if `validate` and reading ask for no more than an event.
#[test]
fn any_kind_of_event_is_validated_by_reference() {
    fn check<E: Event>(input: &Input<E>) -> bool {
        input.validate().is_ok()
    }
    assert!(check(&Input::new(Track::new("E").user_id("u"))));
}

#[test]
fn keys_are_shown_short_and_without_commands_for_a_terminal() {
    let key = format!("\u{1b}[31m\u{7}\n\u{202e}\u{2028}{}", "x".repeat(5000));
    let json = json!({"track": {"user_id": "u", "event": "E", (key): 1}});
    let error = AnyInput::from_json(json.to_string().as_bytes()).unwrap_err();
    let shown = error.to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(!shown.contains(['\u{202e}', '\u{2028}']), "{shown:?}");
    assert!(shown.len() < 500, "{shown}");
}

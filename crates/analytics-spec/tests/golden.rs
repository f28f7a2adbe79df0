//! The wire contract, file by file: what stands in `golden/` is read and
//! written back without a byte changed.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use analytics_spec::{
    Alias, AnyEvent, AnyInput, AnyOutput, BatchInput, BatchOutput, Delete, Event, Group, Identify,
    Input, Kind, Output, Page, Screen, Track, Value, batch::Outcome,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files' one form: indented by two spaces, with a line break at the end.
fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn read<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

/// Reads a kind's two files as `E` and as any event.
fn holds<E: Event>(kind: Kind) {
    let file = golden(&format!("{kind}.input.json"));
    let typed = Input::<E>::from_json(file.as_bytes()).unwrap();
    let any = AnyInput::from_json(file.as_bytes()).unwrap();
    assert_eq!(pretty(&typed), file);
    assert_eq!(pretty(&any), file);
    assert_eq!(read::<Input<E>>(&file), typed);
    assert_eq!(read::<AnyInput>(&file), any);
    assert_eq!(any.kind(), kind);
    assert_eq!(typed.into_any(), any);

    let file = golden(&format!("{kind}.output.json"));
    let typed: Output<E> = read(&file);
    let any: AnyOutput = read(&file);
    assert_eq!(pretty(&typed), file);
    assert_eq!(pretty(&any), file);
    assert_eq!(typed.status, any.status);
    assert_eq!(typed.response, any.response);
    // Both files are about the same event.
    assert_eq!(
        any.event,
        AnyInput::from_json(golden(&format!("{kind}.input.json")).as_bytes())
            .unwrap()
            .event
    );
    assert_eq!(typed.event.into_any(), any.event);

    // Another kind's files are not this kind's.
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        let input = golden(&format!("{other}.input.json"));
        let output = golden(&format!("{other}.output.json"));
        assert!(Input::<E>::from_json(input.as_bytes()).is_err());
        assert!(serde_json::from_str::<Input<E>>(&input).is_err());
        assert!(serde_json::from_str::<Output<E>>(&output).is_err());
    }
}

#[test]
fn identify() {
    holds::<Identify>(Kind::Identify);
}

#[test]
fn track() {
    holds::<Track>(Kind::Track);
}

#[test]
fn group() {
    holds::<Group>(Kind::Group);
}

#[test]
fn alias() {
    holds::<Alias>(Kind::Alias);
}

#[test]
fn page() {
    holds::<Page>(Kind::Page);
}

#[test]
fn screen() {
    holds::<Screen>(Kind::Screen);
}

#[test]
fn delete() {
    holds::<Delete>(Kind::Delete);
}

/// Every field of the specification, as the wire has it.
const FIELDS: &[(&str, &str)] = &[
    (
        "context",
        "message_id timestamp ip user_agent locale timezone meta flags params library git app \
         campaign cloud device location network os page referrer screen subscription",
    ),
    ("context.library", "name version"),
    ("context.git", "repository branch commit author tag"),
    ("context.app", "name version build_id"),
    ("context.campaign", "name source medium term content"),
    (
        "context.cloud",
        "provider service region project_id account_id",
    ),
    (
        "context.device",
        "id manufacturer model name type version advertising_id",
    ),
    (
        "context.location",
        "city country region latitude longitude speed",
    ),
    ("context.network", "bluetooth cellular wifi carrier"),
    ("context.os", "name arch version"),
    ("context.page", "path referrer search title url"),
    ("context.referrer", "type name url link"),
    ("context.screen", "density width height"),
    (
        "context.subscription",
        "account_id subscription_id event value increment_by",
    ),
    ("policies.request", "single_attempt_timeout retry_policy"),
    (
        "policies.request.retry_policy",
        "initial_interval backoff_coefficient maximum_interval maximum_attempts \
         non_retryable_error_types",
    ),
    ("identify", "anonymous_id user_id traits"),
    ("track", "anonymous_id user_id event properties traits"),
    ("group", "anonymous_id user_id group_id traits"),
    ("alias", "previous_user_id user_id traits"),
    ("page", "anonymous_id user_id name properties"),
    ("screen", "anonymous_id user_id name properties"),
    ("delete", "user_id traits"),
];

#[test]
fn every_field_is_in_some_file() {
    let files: Vec<Value> = Kind::ALL
        .map(|kind| read(&golden(&format!("{kind}.input.json"))))
        .into();
    for (object, fields) in FIELDS {
        for field in fields.split_whitespace() {
            let pointer = format!("/{}/{field}", object.replace('.', "/"));
            assert!(
                files.iter().any(|file| file.pointer(&pointer).is_some()),
                "no file has {pointer}"
            );
        }
    }
}

/// The fields above are fields of the types, too: none of them lands among the
/// unknown ones that a context passes on.
#[test]
fn every_field_is_known() {
    let input = AnyInput::from_json(golden("identify.input.json").as_bytes()).unwrap();
    let context = &input.context;
    assert_eq!(context.extra.keys().collect::<Vec<_>>(), ["beacon"]);
    macro_rules! knows_all_of {
        ($($object:ident)*) => {$(
            let object = context.$object.as_ref().unwrap();
            assert!(object.extra.is_empty(), "{object:?}");
        )*};
    }
    knows_all_of!(library git app campaign cloud device location network);
    knows_all_of!(os page referrer screen subscription);
}

/// With one value in two fields, swapped fields would go unnoticed.
#[test]
fn no_value_stands_twice_in_a_file() {
    fn leaves(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, found)),
            Value::Array(values) => values
                .iter()
                .for_each(|value| leaves(&format!("{path}[]"), value, found)),
            // There are not enough of these for every field.
            Value::Bool(_) | Value::Null => {}
            leaf => found.push((leaf.to_string(), path.to_owned())),
        }
    }
    for kind in Kind::ALL {
        for direction in ["input", "output"] {
            let name = format!("{kind}.{direction}.json");
            let mut found = Vec::new();
            leaves("", &read(&golden(&name)), &mut found);
            let mut seen = BTreeSet::new();
            for (value, path) in &found {
                assert!(seen.insert(value), "{name}: {value} again at {path}");
            }
        }
    }
}

#[test]
fn null_is_absent_except_in_dictionaries() {
    let read = AnyInput::from_json(golden("nulls.read.json").as_bytes()).unwrap();
    assert_eq!(pretty(&read), golden("nulls.written.json"));
    let written = AnyInput::from_json(golden("nulls.written.json").as_bytes()).unwrap();
    assert_eq!(written, read);

    let output: AnyOutput = serde_json::from_value(json!({
        "status": "success",
        "identify": {"user_id": "u1", "anonymous_id": null, "traits": null},
        "track": null,
        "response": {"status_code": 200, "headers": null, "body": null, "truncated": null},
    }))
    .unwrap();
    assert_eq!(
        serde_json::to_string(&output).unwrap(),
        r#"{"status":"success","identify":{"user_id":"u1"},"response":{"status_code":200}}"#
    );
    let output: AnyOutput = serde_json::from_value(json!({
        "status": "failure", "delete": {"user_id": "u1"}, "response": null,
    }))
    .unwrap();
    assert_eq!(output.response, None);
}

#[test]
fn a_body_of_null_is_no_body() {
    use analytics_spec::HttpResponse;

    let response = HttpResponse::new(200).body(Value::Null);
    assert_eq!(response.body, None);
    let mut response = HttpResponse::new(200);
    response.body = Some(Value::Null);
    assert_eq!(
        serde_json::to_string(&response).unwrap(),
        r#"{"status_code":200}"#
    );
}

/// What a client in Go writes: `null` for every pointer that is not set, and
/// durations in nanoseconds.
#[test]
fn a_go_client_is_understood() {
    let input = AnyInput::from_json(
        br#"{
            "policies": {"request": {"single_attempt_timeout": 2000000000, "retry_policy": {
                "initial_interval": 1500000, "backoff_coefficient": 2, "maximum_attempts": 3}}},
            "context": null,
            "identify": {"user_id": "u1", "traits": {"email": "a@b.c"}}
        }"#,
    )
    .unwrap();
    assert_eq!(
        serde_json::to_string(&input).unwrap(),
        r#"{"policies":{"request":{"single_attempt_timeout":"2s","retry_policy":{"initial_interval":"1ms500µs","backoff_coefficient":2.0,"maximum_attempts":3}}},"identify":{"user_id":"u1","traits":{"email":"a@b.c"}}}"#
    );
}

#[test]
fn outputs_with_other_keys_are_refused() {
    for (json, part) in [
        (
            json!({"status": "success", "identify": {"user_id": "u1"}, "context": {}}),
            "`context` is not known here: known are status, response",
        ),
        (
            json!({"status": "success", "identify": {"user_id": "u1"}, "respones": {}}),
            "did you mean `response`?",
        ),
        (json!({"identify": {"user_id": "u1"}}), "status: required"),
        (
            json!({"status": null, "identify": {"user_id": "u1"}}),
            "status: required",
        ),
        (
            json!({"status": "ok", "identify": {"user_id": "u1"}}),
            "expected `success` or `failure`",
        ),
        (
            json!({"status": 1, "identify": {"user_id": "u1"}}),
            "expected a string, found a number",
        ),
        (json!({"status": "success"}), "there is no event"),
        (
            json!({"status": "success", "identify": {}, "response": []}),
            "response: type: expected an object, found an array",
        ),
        (
            json!({"status": "success", "identify": {}, "response": {}}),
            "response: type: missing field `status_code`",
        ),
        (json!([]), "expected an object, found an array"),
    ] {
        let error = serde_json::from_value::<Output<AnyEvent>>(json.clone())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
    let twice = r#"{"status": "success", "status": "failure", "identify": {}}"#;
    let error = serde_json::from_str::<AnyOutput>(twice).unwrap_err();
    assert!(
        error.to_string().contains("status: duplicate_key"),
        "{error}"
    );
}

#[test]
fn batch() {
    let file = golden("batch.input.json");
    let batch: BatchInput = read(&file);
    assert_eq!(pretty(&batch), file);
    assert_eq!(pretty(&read::<BatchInput<Value>>(&file)), file);
    let first = batch.complete(batch.inputs[0].clone());
    assert_eq!(first.message_id(), "m1");
    assert!(first.context.ip.is_some() && first.policies.is_some());

    let file = golden("batch.output.json");
    let output: BatchOutput = read(&file);
    assert_eq!(pretty(&output), file);
    let error = output.outcomes[1].to_error().unwrap();
    assert_eq!(error.violations().unwrap().violations().len(), 1);
    assert_eq!(
        pretty(&Outcome::failure("m2", &error)),
        pretty(&output.outcomes[1])
    );
    assert_eq!(output.failures().next().unwrap().0, 1);
}

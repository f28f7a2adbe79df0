use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::server::{Keep, ViolationKind};

const NOW: u64 = 1_715_000_000_000;

fn project() -> AmplitudeVendor {
    AmplitudeAccount::new("key-1").secret_key("secret-1").into()
}

fn put(vendor: &mut AmplitudeVendor, request: &Request) -> (Answer, Record) {
    let mut record = Record::new(Keep::Everything);
    let mut request = request.clone();
    request.at = UNIX_EPOCH + Duration::from_millis(NOW);
    let answer = vendor.answer(&request, &mut record);
    (answer, record)
}

fn event(insert_id: &str) -> Value {
    json!({
        "event_type": "Bought", "user_id": "user-1", "device_id": "device-1",
        "time": NOW - 1000, "insert_id": insert_id,
        "event_properties": {"price": 12.5}, "user_properties": {"plan": "team"},
    })
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut event = event("i1");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[key] = value;
    event
}

fn without(key: &str) -> Value {
    let mut event = event("i1");
    event.as_object_mut().unwrap().remove(key);
    event
}

fn upload(path: &str, events: &[Value]) -> Request {
    Request::new("POST", path).json(&json!({"api_key": "key-1", "events": events}))
}

fn form(fields: &[(&str, &str)]) -> Request {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    Request::new("POST", "/usermap")
        .raw(body)
        .header("content-type", "application/x-www-form-urlencoded")
}

fn deletion(body: &Value) -> Request {
    Request::new("POST", "/api/2/deletions/users")
        .json(body)
        .basic("key-1", "secret-1")
}

fn found(record: &Record) -> Vec<(ViolationKind, &'static str)> {
    let violations = record.violations();
    violations.iter().map(|v| (v.kind, v.rule)).collect()
}

#[test]
fn a_right_upload_is_taken_by_both_apis() {
    for (path, endpoint) in [("/2/httpapi", "httpapi"), ("/batch", "batch")] {
        let request = upload(path, &[event("i1"), event("i2")]);
        let (answer, record) = put(&mut project(), &request);
        assert_eq!(
            (answer.status, answer.body_json()),
            (
                200,
                json!({
                    "code": 200, "events_ingested": 2,
                    "payload_size_bytes": request.body.len(), "server_upload_time": NOW,
                })
            )
        );
        assert_eq!(found(&record), []);
        assert_eq!(record.received()[1].endpoint, endpoint);
        assert_eq!(record.received()[1].id.as_deref(), Some("i2"));
        assert_eq!(record.received()[1].user.as_deref(), Some("user-1"));
        assert_eq!(record.received()[1].body, event("i2"));
    }
}

#[test]
fn uploads_that_amplitude_refuses() {
    let one = [event("i1")];
    let keyed = |key: Value| {
        Request::new("POST", "/batch").json(&json!({"api_key": key, "events": one}))
    };
    let many = |count| vec![json!(0); count];
    let big = |bytes: usize| changed("/event_properties/x", json!("x".repeat(bytes)));
    let cases = [
        (upload("/httpapi", &one), 404, "path"),
        (Request::new("GET", "/batch"), 405, "method"),
        (keyed(json!("key-2")), 400, "api_key"),
        (keyed(json!("")), 400, "api_key"),
        (
            upload("/batch", &one).header("content-type", "text/plain"),
            400,
            "content_type",
        ),
        (upload("/batch", &one).raw("["), 400, "json"),
        (upload("/batch", &[]), 400, "events"),
        (upload("/2/httpapi", &many(2_000)), 413, "request_events"),
        (upload("/batch", &many(2_001)), 413, "request_events"),
        (upload("/2/httpapi", &[big(1_000_000)]), 413, "request_bytes"),
        (upload("/batch", &[big(20_000_000)]), 413, "request_bytes"),
    ];
    for (request, status, rule) in cases {
        let (answer, record) = put(&mut project(), &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(answer.body_json()["code"], status);
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)]);
        assert_eq!(record.received(), []);
    }
    let (answer, _) = put(&mut project(), &upload("/batch", &[big(1_000_000)]));
    assert_eq!(answer.status, 200);
}

#[test]
fn events_that_amplitude_refuses() {
    let deep = (0..41).fold(json!(1), |inner, _| json!([inner]));
    let cases = [
        (without("event_type"), "missing_field", "missing", "event_type"),
        (changed("/event_type", json!("")), "missing_field", "missing", "event_type"),
        (changed("/user_id", json!("null")), "refused_id", "invalid", "user_id"),
        (changed("/device_id", json!("Anonymous")), "refused_id", "invalid", "device_id"),
        (changed("/user_id", json!("u1")), "id_length", "id_lengths", "user_id"),
        (changed("/time", json!("2026-01-02")), "field_type", "invalid", "time"),
        (changed("/session_id", json!(1.5)), "field_type", "invalid", "session_id"),
        (changed("/revenue", json!("12")), "field_type", "invalid", "revenue"),
        (
            changed("/event_properties/x", deep),
            "layers",
            "invalid",
            "event_properties",
        ),
    ];
    for (wrong, rule, kind, field) in cases {
        let key = match kind {
            "missing" => "events_with_missing_fields",
            "invalid" => "events_with_invalid_fields",
            _ => "events_with_invalid_id_lengths",
        };
        let (answer, record) = put(&mut project(), &upload("/batch", &[event("i0"), wrong]));
        assert_eq!(answer.status, 400, "{rule}");
        assert_eq!(answer.body_json()[key], json!({field: [1]}), "{rule}");
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)]);
        assert_eq!(record.received(), [], "nothing of the request is taken");
    }
}

#[test]
fn an_event_of_nobody_is_refused_and_shorter_ids_may_be_allowed() {
    let mut nobody = without("user_id");
    nobody.as_object_mut().unwrap().remove("device_id");
    let (answer, _) = put(&mut project(), &upload("/batch", &[nobody]));
    assert_eq!(
        answer.body_json()["events_with_missing_fields"],
        json!({"user_id": [0]})
    );
    let body = json!({
        "api_key": "key-1", "options": {"min_id_length": 2},
        "events": [changed("/user_id", json!("u1"))],
    });
    let request = Request::new("POST", "/2/httpapi").json(&body);
    assert_eq!(put(&mut project(), &request).0.status, 200);
}

#[test]
fn only_the_batch_api_names_all_events() {
    let wrong = without("event_type");
    let events = [wrong.clone(), event("i1"), wrong];
    for (path, indices) in [("/2/httpapi", json!([0])), ("/batch", json!([0, 2]))] {
        let (answer, _) = put(&mut project(), &upload(path, &events));
        assert_eq!(
            answer.body_json()["events_with_missing_fields"],
            json!({"event_type": indices})
        );
    }
}

#[test]
fn a_repetition_of_one_device_is_dropped() {
    let mut project = project();
    let elsewhere = changed("/device_id", json!("device-2"));
    for (sent, received) in [(event("i1"), 1), (event("i1"), 0), (elsewhere, 1)] {
        let (answer, record) = put(&mut project, &upload("/2/httpapi", &[sent]));
        assert_eq!(answer.body_json()["events_ingested"], 1);
        assert_eq!(record.received().len(), received);
        assert_eq!(record.duplicates().len(), 1 - received);
    }
}

#[test]
fn events_that_amplitude_bends() {
    let long = json!("x".repeat(1_025));
    let many: Map<String, Value> = (0..1_025).map(|n| (n.to_string(), json!(n))).collect();
    let cases = [
        (without("insert_id"), "insert_id"),
        (without("time"), "time"),
        (changed("/library", json!("l")), "field"),
        (changed("/event_type", json!("[Amplitude] Revenue")), "event_type"),
        (changed("/event_type", json!("$groupidentify")), "groups"),
        (changed("/group_properties", json!({"a": 1})), "group_properties"),
        (changed("/productId", json!("p1")), "revenue"),
        (changed("/currency", json!("euro")), "currency"),
        (changed("/groups", json!({"team": (0..11).collect::<Vec<_>>()})), "groups"),
        (changed("/event_properties/x", long), "text_length"),
        (changed("/event_properties", Value::Object(many)), "properties"),
        (changed("/user_properties/$set", json!({"a": 1})), "operation"),
    ];
    for (bent, rule) in cases {
        let (answer, record) = put(&mut project(), &upload("/2/httpapi", &[bent]));
        assert_eq!(answer.status, 200, "{rule}");
        assert_eq!(found(&record), [(ViolationKind::Altered, rule)], "{rule}");
        assert_eq!(record.received().len(), 1);
    }
    let whole_agent = changed("/user_agent", json!("x".repeat(2_000)));
    let (_, record) = put(&mut project(), &upload("/2/httpapi", &[whole_agent]));
    assert_eq!(found(&record), []);
}

#[tokio::test]
async fn users_groups_and_mappings_are_kept() {
    let account = AmplitudeAccount::new("key-1").secret_key("secret-1");
    let server = ScriptedAmplitude::start(account).await.unwrap();
    server.with_vendor(|vendor| {
        let member = json!({
            "event_type": "$identify", "user_id": "user-1", "insert_id": "i2", "time": NOW,
            "user_properties": {"$set": {"plan": "free"}}, "groups": {"team": "red"},
        });
        let team = json!({
            "event_type": "$groupidentify", "user_id": "user-1", "insert_id": "i3", "time": NOW,
            "groups": {"team": "red"}, "group_properties": {"$set": {"seats": 3}},
        });
        let (_, record) = put(vendor, &upload("/2/httpapi", &[event("i1"), member, team]));
        assert_eq!(found(&record), []);
        let mapping = r#"[{"user_id": "user-0", "global_user_id": "user-1"}]"#;
        let (answer, record) = put(vendor, &form(&[("api_key", "key-1"), ("mapping", mapping)]));
        assert_eq!((answer.status, found(&record)), (200, vec![]));
    });
    assert_eq!(server.user("user-1").unwrap()["plan"], "free");
    assert_eq!(server.user("device-1").unwrap()["plan"], "team");
    assert_eq!(server.group("team", "red").unwrap()["seats"], 3);
    assert_eq!(server.mapped_to("user-0").as_deref(), Some("user-1"));
    server.shutdown().await;
}

#[test]
fn mappings_that_amplitude_refuses() {
    let key = ("api_key", "key-1");
    let right = r#"[{"user_id": "user-0", "global_user_id": "user-1"}]"#;
    let same = r#"[{"user_id": "user-0", "global_user_id": "user-0"}]"#;
    let short = r#"[{"user_id": "u0", "global_user_id": "user-1"}]"#;
    let none = r#"[{"user_id": "user-0"}]"#;
    let many = json!(vec![json!({}); 2_001]).to_string();
    let large = "x".repeat(1_000_000);
    let mapping = |text| form(&[key, ("mapping", text)]);
    let cases = [
        (form(&[("api_key", "key-2"), ("mapping", right)]), 400, "api_key"),
        (form(&[("mapping", right)]), 400, "api_key"),
        (form(&[key]), 400, "mapping"),
        (mapping(same), 400, "mapping_ids"),
        (mapping(short), 400, "mapping_ids"),
        (mapping(none), 400, "mapping_ids"),
        (mapping(&many), 413, "mappings"),
        (mapping(&large), 413, "request_bytes"),
        (
            mapping(right).header("content-type", "text/plain"),
            400,
            "content_type",
        ),
    ];
    for (request, status, rule) in cases {
        let (answer, record) = put(&mut project(), &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)]);
    }
    let options = ("options", r#"{"min_id_length": 2}"#);
    let (answer, _) = put(&mut project(), &form(&[key, ("mapping", short), options]));
    assert_eq!(answer.status, 200);
}

#[test]
fn a_deletion_takes_known_users_or_nobody() {
    let mut project = project();
    put(&mut project, &upload("/2/httpapi", &[event("i1")]));
    let both = json!({"user_ids": ["user-1", "user-9"]});
    let (answer, record) = put(&mut project, &deletion(&both));
    assert_eq!(answer.status, 400);
    assert_eq!(found(&record), [(ViolationKind::Refused, "unknown_user")]);
    let (answer, record) = put(&mut project, &deletion(&json!({"user_ids": ["user-1"]})));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body_json()["status"], "staging");
    assert_eq!(found(&record), []);
    assert_eq!(record.received()[0].user.as_deref(), Some("user-1"));
    let (answer, _) = put(&mut project, &deletion(&json!({"user_ids": ["user-1"]})));
    assert_eq!(answer.status, 400, "is gone");
}

#[test]
fn deletions_that_amplitude_refuses() {
    let right = json!({"user_ids": ["user-1"]});
    let cases = [
        (deletion(&right).basic("key-1", "secret-2"), 401, "credentials"),
        (deletion(&right).header("authorization", "Bearer x"), 401, "credentials"),
        (deletion(&right).header("content-type", "text/plain"), 400, "json"),
        (deletion(&json!([])), 400, "json"),
        (deletion(&json!({"user_ids": []})), 400, "user_ids"),
        (deletion(&json!({"user_ids": vec!["user-1"; 101]})), 400, "user_ids"),
    ];
    for (request, status, rule) in cases {
        let (answer, record) = put(&mut project(), &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)]);
    }
    let mut keyless = AmplitudeVendor::from(AmplitudeAccount::new("key-1"));
    assert_eq!(put(&mut keyless, &deletion(&right)).0.status, 401);
}

/// An upload of so many bytes.
fn upload_sized(path: &str, bytes: usize) -> Request {
    let of = |texts: &[String]| upload(path, &[changed("/event_properties/x", json!(texts))]);
    let mut texts = vec!["x".repeat(1_000); (bytes - 4_000) / 1_003];
    let rest = bytes - of(&texts).body.len();
    let size = rest / 4 - 3;
    texts.extend(vec!["y".repeat(size); 3]);
    let rest = bytes - of(&texts).body.len() - 3;
    texts.push("z".repeat(rest));
    let request = of(&texts);
    assert_eq!(request.body.len(), bytes);
    request
}

#[test]
fn limits_of_uploads_are_those_of_the_documentation() {
    let many = |count: usize| -> Vec<_> { (0..count).map(|n| event(&format!("i{n}"))).collect() };
    for (request, status, rule) in [
        (upload("/2/httpapi", &many(1_999)), 200, None),
        (upload("/2/httpapi", &many(2_000)), 413, Some("request_events")),
        (upload("/batch", &many(2_000)), 200, None),
        (upload("/batch", &many(2_001)), 413, Some("request_events")),
        (upload_sized("/2/httpapi", 1_000_000), 200, None),
        (upload_sized("/2/httpapi", 1_000_001), 413, Some("request_bytes")),
        (upload_sized("/batch", 20_000_000), 200, None),
        (upload_sized("/batch", 20_000_001), 413, Some("request_bytes")),
    ] {
        let (answer, record) = put(&mut project(), &request);
        let rules: Vec<_> = record.violations().iter().map(|v| v.rule).collect();
        let (path, bytes) = (&request.path, request.body.len());
        assert_eq!((answer.status, rules), (status, Vec::from_iter(rule)), "{path} {bytes}");
    }
    let text = |chars: usize| changed("/event_properties/x", json!("\u{e9}".repeat(chars)));
    let keys = |count: usize| -> Map<_, _> { (0..count).map(|n| (n.to_string(), json!(n))).collect() };
    let with = |pointer: &str, count: usize| changed(pointer, Value::Object(keys(count)));
    let deep = |layers: usize| {
        // The properties themselves are the first.
        changed("/event_properties/x", (1..layers).fold(json!(1), |inner, _| json!([inner])))
    };
    let types = |count: usize| {
        let groups: Map<_, _> = (0..count).map(|n| (n.to_string(), json!("red"))).collect();
        changed("/groups", Value::Object(groups))
    };
    let groups = |count: usize| changed("/groups", json!({"team": (0..count).collect::<Vec<_>>()}));
    for (event, status, rule) in [
        (text(1_024), 200, None),
        (text(1_025), 200, Some("text_length")),
        (with("/event_properties", 1_024), 200, None),
        (with("/event_properties", 1_025), 200, Some("properties")),
        (with("/user_properties", 1_024), 200, None),
        (with("/user_properties", 1_025), 200, Some("properties")),
        (deep(40), 200, None),
        (deep(41), 400, Some("layers")),
        (changed("/user_id", json!("\u{e9}".repeat(5))), 200, None),
        (changed("/user_id", json!("\u{e9}".repeat(4))), 400, Some("id_length")),
        (types(5), 200, None),
        (types(6), 200, Some("groups")),
        (groups(10), 200, None),
        (groups(11), 200, Some("groups")),
    ] {
        let (answer, record) = put(&mut project(), &upload("/2/httpapi", &[event]));
        let rules: Vec<_> = record.violations().iter().map(|v| v.rule).collect();
        assert_eq!((answer.status, &rules), (status, &Vec::from_iter(rule)), "{rule:?}");
    }
}

#[test]
fn limits_of_mappings_and_deletions_are_those_of_the_documentation() {
    let key = ("api_key", "key-1");
    let mappings = |count: usize| {
        let all = (0..count).map(|n| json!({"user_id": format!("from-{n}"), "global_user_id": "user-1"}));
        Value::from(all.collect::<Vec<_>>()).to_string()
    };
    let padded = |bytes: usize| {
        let of = |pad: usize| {
            let mapping = mappings(1) + &" ".repeat(pad);
            form(&[key, ("mapping", &mapping)])
        };
        let request = of(bytes - of(0).body.len());
        assert_eq!(request.body.len(), bytes);
        request
    };
    for (request, status) in [
        (form(&[key, ("mapping", &mappings(2_000))]), 200),
        (form(&[key, ("mapping", &mappings(2_001))]), 413),
        (padded(1_000_000), 200),
        (padded(1_000_001), 413),
    ] {
        let (answer, record) = put(&mut project(), &request);
        assert_eq!(answer.status, status, "{}", request.body.len());
        assert_eq!(record.received().is_empty(), status != 200);
    }
    for (ids, status) in [(1, 200), (100, 200), (101, 400)] {
        let ids: Vec<_> = (0..ids).map(|n| format!("user-{n}")).collect();
        let body = json!({"user_ids": ids, "ignore_invalid_id": true, "requester": "privacy"});
        let (answer, _) = put(&mut project(), &deletion(&body));
        assert_eq!(answer.status, status, "{}", ids.len());
    }
}

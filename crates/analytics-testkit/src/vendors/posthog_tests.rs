use super::*;
use crate::server::{Keep, ViolationKind};

const UUID: &str = "0197a6a5-7f3e-7c07-8d8c-0123456789ab";

fn project() -> PosthogVendor {
    PosthogAccount::new("phc_k").deletion("7", "phx_p").into()
}

fn put(vendor: &mut PosthogVendor, request: &Request) -> (Answer, Record) {
    let mut record = Record::new(Keep::Everything);
    let answer = vendor.answer(request, &mut record);
    (answer, record)
}

fn event(name: &str, distinct_id: &str, properties: &Value) -> Value {
    let mut event = json!({
        "event": name,
        "distinct_id": distinct_id,
        "uuid": UUID,
        "timestamp": "2026-03-01T12:00:00.000Z",
        "properties": {"$geoip_disable": true},
    });
    if let (Some(all), Value::Object(more)) = (event["properties"].as_object_mut(), properties) {
        all.extend(more.clone());
    }
    event
}

fn batch(events: &[Value]) -> Request {
    let body = json!({"api_key": "phc_k", "historical_migration": false, "batch": events});
    Request::new("POST", "/batch/").json(&body)
}

fn deletion(ids: &[&str]) -> Request {
    Request::new("POST", "/api/projects/7/persons/bulk_delete/")
        .bearer("phx_p")
        .json(&json!({
            "distinct_ids": ids,
            "delete_events": true,
            "delete_recordings": true,
        }))
}

/// The one violation of a request, and the answer's status.
fn violation(vendor: &mut PosthogVendor, request: &Request) -> (u16, ViolationKind, &'static str) {
    let (answer, record) = put(vendor, request);
    let violations = record.violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    (answer.status, violations[0].kind, violations[0].rule)
}

#[test]
fn a_right_batch_is_taken_whole_and_once() {
    let mut vendor = project();
    let request = batch(&[
        event("Bought", "u1", &json!({"$set": {"plan": "pro"}, "price": null})),
        event("$pageview", "u1", &json!({"name": "Home"})),
        event("$groupidentify", "u1", &json!({
            "$group_type": "company", "$group_key": "g1", "$group_set": {},
            "$groups": {"company": "g1"},
        })),
    ]);
    let (answer, record) = put(&mut vendor, &request);
    assert_eq!(
        (answer.status, answer.body_json()),
        (200, json!({"status": "Ok"}))
    );
    assert_eq!(record.violations(), []);
    assert_eq!(record.received().len(), 3);
    assert_eq!(record.received()[0].user.as_deref(), Some("u1"));
    assert_eq!(record.received()[0].id.as_deref(), Some(UUID));
    let (_, record) = put(&mut vendor, &request);
    assert_eq!(record.received(), []);
    assert_eq!(record.duplicates(), [UUID; 3]);
    let person = vendor.ids.get(&"u1".to_owned()).copied().unwrap();
    let properties = &vendor.persons.get(&person).unwrap().properties;
    assert_eq!(properties["plan"], "pro");
}

#[test]
fn what_is_refused_is_refused_with_its_batch() {
    let good = event("Bought", "u1", &json!({}));
    let without = |key: &str| {
        let mut event = good.clone();
        event.as_object_mut().unwrap().remove(key);
        batch(&[good.clone(), event])
    };
    let with_key = |key: &str| {
        let body = json!({"api_key": key, "batch": [good]});
        Request::new("POST", "/batch/").json(&body)
    };
    let big = event("Bought", "u1", &json!({"pad": "x".repeat(BATCH_BYTES)}));
    for (request, status, rule) in [
        (Request::new("POST", "/capture/"), 404, "path"),
        (Request::new("GET", "/batch/"), 405, "method"),
        (Request::new("POST", "/batch/").raw("{}"), 400, "content_type"),
        (Request::new("POST", "/batch/").json(&json!([])), 400, "json"),
        (Request::new("POST", "/batch/").json(&json!({})), 400, "batch"),
        (batch(&[]), 400, "batch_empty"),
        (batch(&[json!("event")]), 400, "event"),
        (without("event"), 400, "event_name"),
        (without("distinct_id"), 400, "distinct_id"),
        (with_key(""), 401, "api_key"),
        (with_key("phx_personal"), 401, "api_key"),
        (batch(&[big]), 413, "request_bytes"),
    ] {
        let seen = violation(&mut project(), &request);
        assert_eq!(seen, (status, ViolationKind::Refused, rule));
    }
}

#[test]
fn what_is_lost_is_lost_behind_a_200() {
    let good = event("Bought", "u1", &json!({}));
    let mut no_uuid = good.clone();
    no_uuid["uuid"] = json!("order-1");
    let stranger = json!({"api_key": "phc_other", "batch": [good]});
    let unprofiled = json!({"$process_person_profile": false});
    for (request, rule) in [
        (Request::new("POST", "/batch").json(&stranger), "api_key"),
        (batch(&[no_uuid]), "uuid"),
        (
            batch(&[event("Big", "u1", &json!({"pad": "x".repeat(EVENT_BYTES)}))]),
            "event_bytes",
        ),
        (batch(&[event("$identify", "u1", &unprofiled)]), "profile"),
        (
            batch(&[event("$groupidentify", "u1", &json!({"$group_type": "company"}))]),
            "group",
        ),
        (
            batch(&[event("$groupidentify", "u1", &json!({
                "$group_type": "t", "$group_key": "k", "$group_set": "Acme",
            }))]),
            "group_set",
        ),
        (batch(&[event("$create_alias", "u1", &json!({}))]), "alias"),
    ] {
        let seen = violation(&mut project(), &request);
        assert_eq!(seen, (200, ViolationKind::Dropped, rule));
    }
    let mut full: PosthogVendor = PosthogAccount::new("phc_k").over_quota().into();
    let (answer, _) = put(&mut full, &batch(&[good]));
    assert_eq!(answer.body_json()["quota_limited"], json!(["events"]));
}

#[test]
fn what_is_bent_is_named() {
    let changed = |change: fn(&mut Value)| {
        let mut event = event("Bought", "u1", &json!({}));
        change(&mut event);
        batch(&[event])
    };
    let mut sent_at = json!({"api_key": "phc_k", "batch": [event("E", "u1", &json!({}))]});
    sent_at["sent_at"] = json!("2026-03-01T12:00:00.000Z");
    for (request, rule) in [
        (changed(|e| drop(e.as_object_mut().unwrap().remove("uuid"))), "uuid_missing"),
        (changed(|e| drop(e.as_object_mut().unwrap().remove("timestamp"))), "timestamp_missing"),
        (changed(|e| e["timestamp"] = json!(1_770_000_000)), "timestamp_form"),
        (changed(|e| e["distinct_id"] = json!("x".repeat(201))), "cut"),
        (changed(|e| e["event"] = json!("x".repeat(201))), "cut"),
        (changed(|e| e["context"] = json!({})), "field"),
        (changed(|e| e["properties"] = json!({})), "geoip"),
        (changed(|e| e["properties"]["$ip"] = json!("here")), "ip"),
        (changed(|e| e["properties"]["$set"] = json!([])), "property"),
        (
            changed(|e| e["properties"]["$process_person_profile"] = json!("no")),
            "profile",
        ),
        (
            batch(&[event("E", "a1", &json!({
                "$process_person_profile": false, "$set": {"plan": "pro"},
            }))]),
            "profile",
        ),
        (Request::new("POST", "/batch/").json(&sent_at), "sent_at"),
    ] {
        let seen = violation(&mut project(), &request);
        assert_eq!(seen, (200, ViolationKind::Altered, rule));
    }
}

#[test]
fn an_anonymous_person_becomes_part_of_the_user_and_an_identified_one_does_not() {
    let mut vendor = project();
    let identify = |user: &str, anonymous: &str| {
        let properties = json!({"$anon_distinct_id": anonymous, "$set": {"of": user}});
        batch(&[event("$identify", user, &properties)])
    };
    let seen = event("Seen", "a1", &json!({"$set": {"of": "a1", "n": 1}}));
    put(&mut vendor, &batch(&[seen]));
    let (_, record) = put(&mut vendor, &identify("u1", "a1"));
    assert_eq!(record.violations(), []);
    let person = |vendor: &PosthogVendor, id: &str| vendor.ids.get(&id.to_owned()).copied();
    let merged = person(&vendor, "u1").unwrap();
    assert_eq!(person(&vendor, "a1"), Some(merged));
    let properties = &vendor.persons.get(&merged).unwrap().properties;
    assert_eq!(json!(properties), json!({"of": "u1", "n": 1}));

    let altered = (200, ViolationKind::Altered, "merge");
    assert_eq!(violation(&mut vendor, &identify("u2", "u1")), altered);
    assert_ne!(person(&vendor, "u2"), Some(merged));
    assert_eq!(violation(&mut vendor, &identify("u4", "GUEST")), altered);
    let alias = |of: &str, alias: &str| batch(&[event("$create_alias", of, &json!({"alias": alias}))]);
    assert_eq!(violation(&mut vendor, &alias("u3", "u2")), altered);
    let (_, record) = put(&mut vendor, &alias("u2", "new"));
    assert_eq!(record.violations(), []);
    assert_eq!(person(&vendor, "new"), person(&vendor, "u2"));
}

#[test]
fn persons_are_deleted_by_any_of_their_ids() {
    let mut vendor = project();
    let link = json!({"$anon_distinct_id": "a1"});
    put(&mut vendor, &batch(&[event("$identify", "u1", &link)]));
    let (answer, record) = put(&mut vendor, &deletion(&["a1", "u1", "nobody"]));
    assert_eq!(record.violations(), []);
    assert_eq!(answer.status, 202);
    assert_eq!(answer.body_json()["persons_found"], 1);
    assert_eq!(record.received().len(), 3);
    assert!(vendor.persons.is_empty());
}

#[test]
fn a_deletion_has_rules_of_its_own() {
    let many = vec!["u"; DELETIONS + 1];
    let path = "/api/projects/7/persons/bulk_delete/";
    let body = json!({"distinct_ids": ["u1"], "delete_events": true, "delete_recordings": true});
    let post = |path: &str| Request::new("POST", path).bearer("phx_p");
    for (request, status, rule) in [
        (Request::new("POST", path).json(&body), 401, "personal_api_key"),
        (Request::new("POST", path).bearer("phc_k").json(&body), 401, "personal_api_key"),
        (post("/api/projects/8/persons/bulk_delete/").json(&body), 404, "project"),
        (post("/api/projects/7/persons/bulk_delete").json(&body), 404, "path"),
        (post(path).raw("{}"), 415, "content_type"),
        (post(path).json(&json!([])), 400, "json"),
        (post(path).json(&json!({"distinct_ids": [1]})), 400, "distinct_ids"),
        (deletion(&[]), 400, "distinct_ids"),
        (deletion(&many), 400, "distinct_ids"),
    ] {
        let seen = violation(&mut project(), &request);
        assert_eq!(seen, (status, ViolationKind::Refused, rule));
    }
    let mut kept = body;
    kept["delete_events"] = json!(false);
    let seen = violation(&mut project(), &post(path).json(&kept));
    assert_eq!(seen, (202, ViolationKind::Altered, "delete_events"));
    let mut nobody = PosthogVendor::from(PosthogAccount::new("phc_k"));
    assert_eq!(violation(&mut nobody, &deletion(&["u1"])).0, 401);
}

/// A batch of so many bytes, of events that are not too large.
fn batch_sized(bytes: usize) -> Request {
    let of = |last: usize| {
        let mut sizes = vec![900_000; (bytes - 100_000) / 900_000];
        sizes.push(last);
        let events = sizes.iter().map(|size| event("Bought", "u1", &json!({"pad": "x".repeat(*size)})));
        batch(&events.collect::<Vec<_>>())
    };
    let without = of(0).body.len();
    let request = of(bytes - without);
    assert_eq!(request.body.len(), bytes);
    request
}

/// An event of so many bytes as JSON.
fn sized(bytes: usize) -> Value {
    let without = event("Bought", "u1", &json!({"pad": ""})).to_string().len();
    event("Bought", "u1", &json!({"pad": "x".repeat(bytes - without)}))
}

#[test]
fn limits_are_those_of_the_documentation() {
    let name = |chars: usize| event(&"\u{e9}".repeat(chars), "u1", &json!({}));
    let user = |chars: usize| event("Bought", &"\u{e9}".repeat(chars), &json!({}));
    let group = |chars: usize| {
        let key = "\u{e9}".repeat(chars);
        event("$groupidentify", "u1", &json!({"$group_type": "company", "$group_key": key}))
    };
    let ids: Vec<_> = (0..1_001).map(|n| format!("u{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for (request, status, rule) in [
        (batch_sized(19_999_999), 200, None),
        (batch_sized(20_000_000), 413, Some("request_bytes")),
        (batch(&[sized(1_000_000)]), 200, None),
        (batch(&[sized(1_000_001)]), 200, Some("event_bytes")),
        (batch(&[name(200)]), 200, None),
        (batch(&[name(201)]), 200, Some("cut")),
        (batch(&[user(200)]), 200, None),
        (batch(&[user(201)]), 200, Some("cut")),
        (batch(&[group(400)]), 200, None),
        (batch(&[group(401)]), 200, Some("group")),
        (deletion(&ids[..1_000]), 202, None),
        (deletion(&ids), 400, Some("distinct_ids")),
    ] {
        let (answer, record) = put(&mut project(), &request);
        let rules: Vec<_> = record.violations().iter().map(|v| v.rule).collect();
        let bytes = request.body.len();
        assert_eq!((answer.status, rules), (status, Vec::from_iter(rule)), "{bytes}");
    }
}

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::server::{Keep, ViolationKind};

const NOW: i64 = 1_715_000_000_000;

fn account() -> MixpanelAccount {
    MixpanelAccount::new("token")
        .service_account("42", "svc", "secret")
        .gdpr_oauth_token("oauth")
}

fn put(vendor: &mut MixpanelVendor, request: &Request) -> (Answer, Record) {
    let mut record = Record::new(Keep::Everything);
    let mut request = request.clone();
    request.at = UNIX_EPOCH + Duration::from_millis(u64::try_from(NOW).unwrap());
    let answer = vendor.answer(&request, &mut record);
    (answer, record)
}

fn event(insert_id: &str) -> Value {
    json!({
        "event": "Bought",
        "properties": {
            "time": NOW - 1000, "distinct_id": "u1", "$insert_id": insert_id,
            "$user_id": "u1", "$device_id": "a1", "price": 12.5,
        },
    })
}

fn import(body: &Value) -> Request {
    Request::new("POST", "/import?strict=1")
        .json(body)
        .basic("token", "")
}

fn found(record: &Record) -> Vec<(ViolationKind, &'static str)> {
    record
        .violations()
        .iter()
        .map(|violation| (violation.kind, violation.rule))
        .collect()
}

#[test]
fn a_right_import_is_taken_with_either_credentials() {
    let body = json!([event("i1"), event("i2")]);
    let service = Request::new("POST", "/import?strict=1&project_id=42")
        .json(&body)
        .basic("svc", "secret");
    let lines = import(&body)
        .raw(format!("{}\n{}\n", event("i1"), event("i2")))
        .header("content-type", "application/x-ndjson");
    for request in [import(&body), service, lines] {
        let (answer, record) = put(&mut account().into(), &request);
        assert_eq!(
            (answer.status, answer.body_json()),
            (
                200,
                json!({"code": 200, "num_records_imported": 2, "status": "OK"})
            )
        );
        assert_eq!(record.violations(), []);
        assert_eq!(record.received()[1].id.as_deref(), Some("i2"));
        assert_eq!(record.received()[1].user.as_deref(), Some("u1"));
        assert_eq!(record.received()[1].body, event("i2"));
    }
}

#[test]
fn imports_that_mixpanel_refuses() {
    let body = json!([event("i1")]);
    let open = |target: &str| Request::new("POST", target).json(&body);
    let cases = [
        (open("/track").basic("token", ""), 404, "path"),
        (
            Request::new("GET", "/import").basic("token", ""),
            405,
            "method",
        ),
        (open("/import?strict=1"), 401, "credentials"),
        (
            open("/import?strict=1").basic("other", ""),
            401,
            "credentials",
        ),
        (
            open("/import?strict=1").basic("token", "token"),
            401,
            "credentials",
        ),
        (
            open("/import?strict=1").basic("svc", "secret"),
            401,
            "credentials",
        ),
        (
            open("/import?strict=1&project_id=42").basic("token", ""),
            401,
            "credentials",
        ),
        (
            open("/import?strict=1&project_id=43").basic("svc", "secret"),
            401,
            "credentials",
        ),
        (
            open("/import?strict=1&project_id=42").basic("svc", "other"),
            401,
            "credentials",
        ),
        (
            import(&body).header("content-type", "text/plain"),
            400,
            "body",
        ),
        (import(&body).raw("["), 400, "body"),
        (import(&json!({"event": "x"})), 400, "body"),
        (import(&json!(vec![0; 2_001])), 413, "request_records"),
        (import(&json!(["x".repeat(2 << 20)])), 413, "request_bytes"),
    ];
    for (request, status, rule) in cases {
        let (answer, record) = put(&mut account().into(), &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)]);
        assert_eq!(record.received(), []);
    }
}

/// One change to a right event, and the field that Mixpanel names.
#[test]
fn events_that_mixpanel_refuses() {
    let wide: Map<String, Value> = (0..255).map(|n| (n.to_string(), json!(n))).collect();
    let mut cases = vec![
        ("/event", json!(""), "event"),
        ("/event", json!(7), "event"),
        ("/properties", json!([]), "properties"),
        ("/properties", json!(wide), "properties"),
        ("/properties/nested", json!(wide), "properties"),
        ("/properties/nested", json!(vec![0; 255]), "properties"),
        ("/properties/pad", json!("x".repeat(1_000_000)), ""),
        ("/properties/time", json!(null), "properties.time"),
        ("/properties/time", json!("2024-01-01"), "properties.time"),
        ("/properties/time", json!(1.5), "properties.time"),
        (
            "/properties/time",
            json!(EARLIEST / 1000 - 1),
            "properties.time",
        ),
        (
            "/properties/time",
            json!(NOW + AHEAD + 1),
            "properties.time",
        ),
        (
            "/properties/time",
            json!((NOW + AHEAD) / 1000 + 1),
            "properties.time",
        ),
        (
            "/properties/distinct_id",
            json!(7),
            "properties.distinct_id",
        ),
        ("/properties/$insert_id", json!(""), "properties.$insert_id"),
        ("/properties/$insert_id", json!(7), "properties.$insert_id"),
        (
            "/properties/$insert_id",
            json!("a:b"),
            "properties.$insert_id",
        ),
        (
            "/properties/$insert_id",
            json!("x".repeat(37)),
            "properties.$insert_id",
        ),
        (
            "/properties/$insert_id",
            json!("null"),
            "properties.$insert_id",
        ),
    ];
    cases.extend(REFUSED_IDS.map(|id| {
        (
            "/properties/distinct_id",
            json!(id.to_uppercase()),
            "properties.distinct_id",
        )
    }));
    for (pointer, value, field) in cases {
        let mut wrong = event("wrong");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[key] = value.clone();
        let (answer, record) = put(&mut account().into(), &import(&json!([event("ok"), wrong])));
        let body = answer.body_json();
        assert_eq!(answer.status, 400, "{pointer}");
        assert_eq!(body["num_records_imported"], 1);
        assert_eq!(body["failed_records"].as_array().unwrap().len(), 1);
        assert_eq!(body["failed_records"][0]["index"], 1);
        assert_eq!(body["failed_records"][0]["field"], field, "{pointer}");
        assert_eq!(record.violations().len(), 1);
        assert_eq!(record.received().len(), 1, "the right one was imported");
        assert_eq!(record.received()[0].id.as_deref(), Some("ok"));
    }
    for key in ["time", "$insert_id"] {
        let mut wrong = event("wrong");
        wrong["properties"].as_object_mut().unwrap().remove(key);
        let (answer, _) = put(&mut account().into(), &import(&json!([wrong])));
        assert_eq!(answer.body_json()["num_records_imported"], 0, "{key}");
    }
}

#[test]
fn the_edges_of_what_mixpanel_takes() {
    for (pointer, value) in [
        ("/properties/time", json!(EARLIEST / 1000)),
        ("/properties/time", json!(NOW / 1000)),
        ("/properties/time", json!(NOW + AHEAD)),
        ("/properties/$insert_id", json!("x".repeat(36))),
        ("/properties/nested", json!(vec![0; 254])),
        ("/properties/text", json!("é".repeat(255))),
    ] {
        let mut right = event("i1");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        right.pointer_mut(parent).unwrap()[key] = value;
        let (answer, record) = put(&mut account().into(), &import(&json!([right])));
        assert_eq!(answer.status, 200, "{pointer} {}", answer.body_json());
        assert_eq!(record.violations(), [], "{pointer}");
    }
    let nobody = json!({
        "event": "e", "properties": {"time": NOW, "distinct_id": "", "$insert_id": "i"},
    });
    let (answer, record) = put(&mut account().into(), &import(&json!([nobody])));
    assert_eq!((answer.status, record.violations().len()), (200, 0));
}

#[test]
fn without_strict_events_are_lost_in_silence() {
    let mut wrong = event("wrong");
    wrong["properties"]["distinct_id"] = json!("null");
    for target in ["/import", "/import?strict=0"] {
        let request = Request::new("POST", target)
            .json(&json!([event("ok"), wrong]))
            .basic("token", "");
        let (answer, record) = put(&mut account().into(), &request);
        assert_eq!(answer.status, 200);
        assert_eq!(
            found(&record),
            [
                (ViolationKind::Altered, "strict"),
                (ViolationKind::Dropped, "distinct_id_refused")
            ]
        );
        assert_eq!(record.received().len(), 1);
    }
}

#[test]
fn deduplication_needs_all_four() {
    let mut vendor = MixpanelVendor::from(account());
    let (_, record) = put(&mut vendor, &import(&json!([event("i1"), event("i1")])));
    assert_eq!(record.received().len(), 1);
    assert_eq!(record.duplicates(), ["i1"]);
    let mut later = event("i1");
    later["properties"]["time"] = json!(NOW);
    let (_, record) = put(&mut vendor, &import(&json!([later])));
    assert_eq!(record.received().len(), 1, "another time is another event");
    assert_eq!(
        found(&record),
        [(ViolationKind::Altered, "insert_id_reused")]
    );
}

#[test]
fn events_that_mixpanel_bends() {
    let cases = [
        ("/properties/text", json!("x".repeat(256)), "string_length"),
        ("/properties/token", json!("other"), "token"),
        ("/properties/$user_id", json!("u2"), "identity"),
        ("/properties/$device_id", json!(""), "identity"),
        ("/event", json!("$merge"), "link"),
    ];
    for (pointer, value, rule) in cases {
        let mut bent = event("i1");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bent.pointer_mut(parent).unwrap()[key] = value;
        let (answer, record) = put(&mut account().into(), &import(&json!([bent])));
        assert_eq!(answer.status, 200);
        assert_eq!(found(&record), [(ViolationKind::Altered, rule)]);
        assert_eq!(record.received().len(), 1);
    }
    let mut device_only = event("i1");
    device_only["properties"]
        .as_object_mut()
        .unwrap()
        .remove("$user_id");
    let (_, record) = put(&mut account().into(), &import(&json!([device_only])));
    assert_eq!(found(&record), [(ViolationKind::Altered, "identity")]);
    device_only["properties"]["distinct_id"] = json!("$device:a1");
    let (_, record) = put(&mut account().into(), &import(&json!([device_only])));
    assert_eq!(found(&record), []);
}

#[test]
fn links_of_the_original_id_merge() {
    let uuid = "1f0e5a7c-9b1d-4c3e-8f2a-0123456789ab";
    let cases = [
        (
            "$identify",
            json!({"$identified_id": "u1", "$anon_id": uuid}),
            200,
            None,
        ),
        (
            "$identify",
            json!({"$identified_id": "u1", "$anon_id": "a1"}),
            200,
            Some("link"),
        ),
        (
            "$identify",
            json!({"$identified_id": "u1"}),
            400,
            Some("link"),
        ),
        ("$merge", json!({"$distinct_ids": ["u1", "a1"]}), 200, None),
        (
            "$merge",
            json!({"$distinct_ids": ["u1"]}),
            400,
            Some("link"),
        ),
        (
            "$merge",
            json!({"$distinct_ids": ["u1", "null"]}),
            400,
            Some("link"),
        ),
        (
            "$create_alias",
            json!({"distinct_id": "old", "alias": "new"}),
            200,
            None,
        ),
        (
            "$create_alias",
            json!({"distinct_id": "old"}),
            400,
            Some("link"),
        ),
    ];
    for (name, properties, status, rule) in cases {
        let body = json!([{"event": name, "properties": properties}]);
        let account = account().id_merge(IdMerge::Original);
        let (answer, record) = put(&mut account.into(), &import(&body));
        assert_eq!(answer.status, status, "{body}");
        let rules: Vec<_> = record.violations().iter().map(|it| it.rule).collect();
        assert_eq!(rules, rule.into_iter().collect::<Vec<_>>(), "{body}");
    }
}

fn engage(body: &Value) -> Request {
    Request::new("POST", "/engage?ip=0&verbose=1").json(body)
}

#[test]
fn profile_operations_do_what_they_say() {
    let mut vendor = MixpanelVendor::from(account());
    let user = |operation: &str, value: Value| {
        let mut body = json!({"$token": "token", "$distinct_id": "u1"});
        body[operation] = value;
        engage(&json!([body]))
    };
    for (operation, value) in [
        ("$set", json!({"name": "A", "gone": 1})),
        ("$set", json!({"name": "B"})),
        ("$set_once", json!({"name": "C", "first": true})),
        ("$add", json!({"count": 2})),
        ("$add", json!({"count": 3})),
        ("$union", json!({"groups": ["g1"]})),
        ("$union", json!({"groups": ["g1", "g2"]})),
        ("$append", json!({"list": 1})),
        ("$append", json!({"list": 1})),
        ("$remove", json!({"groups": "g1"})),
        ("$unset", json!(["gone"])),
    ] {
        let (answer, record) = put(&mut vendor, &user(operation, value));
        assert_eq!(
            answer.body_json(),
            json!({"error": null, "status": 1}),
            "{operation}"
        );
        assert_eq!(record.received()[0].endpoint, "engage");
        assert_eq!(record.violations(), []);
    }
    assert_eq!(
        vendor.profile("u1"),
        json!({"name": "B", "first": true, "count": 5, "groups": ["g2"], "list": [1, 1]})
            .as_object()
    );
    let delete = json!([
        {"$token": "token", "$distinct_id": "u1", "$delete": "null", "$ignore_alias": false}
    ]);
    put(&mut vendor, &engage(&delete));
    assert_eq!(vendor.profile("u1"), None);
}

#[test]
fn groups_are_kept_by_key_and_id() {
    let mut vendor = MixpanelVendor::from(account());
    let body = json!([
        {"$token": "token", "$group_key": "company", "$group_id": "g1", "$set": {"$name": "G"}}
    ]);
    let request = Request::new("POST", "/groups").json(&body);
    let (answer, record) = put(&mut vendor, &request);
    assert_eq!(
        answer.body_json(),
        json!(1),
        "without verbose the answer is a digit"
    );
    assert_eq!(record.received()[0].user.as_deref(), Some("g1"));
    assert_eq!(
        vendor.group("company", "g1"),
        json!({"$name": "G"}).as_object()
    );
    assert_eq!(vendor.group("g1", "company"), None);
}

#[test]
fn profiles_that_mixpanel_refuses_behind_a_200() {
    let right = json!({"$token": "token", "$distinct_id": "u1", "$set": {"a": 1}});
    let cases = [
        ("$token", json!("other"), "token"),
        ("$token", json!(null), "token"),
        ("$distinct_id", json!(""), "distinct_id"),
        ("$distinct_id", json!(7), "distinct_id"),
        ("$distinct_id", json!("undefined"), "distinct_id_refused"),
        ("$set", json!([1]), "operation_value"),
        ("$add", json!({"a": 1}), "operation"),
        ("$ip", json!("nowhere"), "ip"),
        ("$ignore_alias", json!(7), "flag"),
        ("set", json!({}), "field"),
        ("$group_id", json!("g"), "field"),
        ("pad", json!("x".repeat(1_000_000)), "record_bytes"),
    ];
    for (key, value, rule) in cases {
        let mut wrong = right.clone();
        wrong[key] = value;
        let mut vendor = MixpanelVendor::from(account());
        let (answer, record) = put(&mut vendor, &engage(&json!([right, wrong])));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body_json()["status"], 0, "{key}");
        assert!(answer.body_json()["error"].is_string());
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)], "{key}");
        assert_eq!(
            record.received(),
            [],
            "the answer speaks for the whole request"
        );
        assert_eq!(vendor.profile("u1"), None);
    }
    let mut idle = right.clone();
    idle.as_object_mut().unwrap().remove("$set");
    for (request, status, rule) in [
        (engage(&json!([idle])), 200, "operation"),
        (engage(&json!([])), 200, "request_records"),
        (
            engage(&json!(vec![right.clone(); 2_001])),
            200,
            "request_records",
        ),
        (engage(&right), 200, "body"),
        (engage(&json!([7])), 200, "record"),
        (
            engage(&json!([right])).header("content-type", "text/plain"),
            200,
            "content_type",
        ),
        (
            engage(&json!([right])).header("content-encoding", "gzip"),
            400,
            "gzip",
        ),
    ] {
        let (answer, record) = put(&mut account().into(), &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(found(&record), [(ViolationKind::Refused, rule)]);
    }
    for body in [
        json!({"$token": "token", "$group_key": "company", "$set": {}}),
        json!({"$token": "token", "$group_key": "c", "$group_id": "g", "$add": {"a": 1}}),
        json!({"$token": "token", "$group_key": "c", "$group_id": "g", "$distinct_id": "u", "$set": {}}),
    ] {
        let request = Request::new("POST", "/groups").json(&json!([body]));
        let (answer, record) = put(&mut account().into(), &request);
        assert_eq!(
            (answer.status, answer.body_json()),
            (200, json!(0)),
            "{body}"
        );
        assert_eq!(record.violations().len(), 1);
    }
}

fn deletion(body: &Value) -> Request {
    Request::new("POST", "/api/app/data-deletions/v3.0/?token=token")
        .json(body)
        .bearer("oauth")
}

#[test]
fn deletions_are_taken_and_people_go() {
    let mut vendor = MixpanelVendor::from(account());
    put(
        &mut vendor,
        &engage(&json!([{"$token": "token", "$distinct_id": "u1", "$set": {"a": 1}}])),
    );
    let body = json!({"distinct_ids": ["u1"], "compliance_type": "CCPA"});
    let (answer, record) = put(&mut vendor, &deletion(&body));
    assert_eq!(
        answer.body_json(),
        json!({"status": "ok", "results": {"task_id": "deletion-1"}})
    );
    assert_eq!(record.violations(), []);
    assert_eq!(record.received()[0].endpoint, "data-deletions");
    assert_eq!(vendor.profile("u1"), None);
}

#[test]
fn deletions_that_mixpanel_refuses() {
    let body = json!({"distinct_ids": ["u1"], "compliance_type": "GDPR"});
    let path = "/api/app/data-deletions/v3.0/";
    let cases = [
        (Request::new("POST", path).json(&body).bearer("oauth"), 401),
        (
            Request::new("POST", "/api/app/data-deletions/v3.0/?token=token").json(&body),
            401,
        ),
        (deletion(&body).bearer("token"), 401),
        (deletion(&body).header("content-encoding", "gzip"), 400),
        (deletion(&body).raw("{"), 400),
        (
            deletion(&json!({"distinct_ids": [], "compliance_type": "GDPR"})),
            400,
        ),
        (
            deletion(&json!({"distinct_ids": [7], "compliance_type": "GDPR"})),
            400,
        ),
        (
            deletion(&json!({"distinct_ids": ["u"], "compliance_type": "gdpr"})),
            400,
        ),
        (
            deletion(&json!({"distinct_ids": vec!["u"; 2_001], "compliance_type": "GDPR"})),
            400,
        ),
    ];
    for (request, status) in cases {
        let (answer, record) = put(&mut account().into(), &request);
        assert_eq!(answer.status, status, "{request:?}");
        assert_eq!(record.violations().len(), 1);
        assert_eq!(record.received(), []);
    }
    let mut without = MixpanelVendor::from(MixpanelAccount::new("token"));
    assert_eq!(put(&mut without, &deletion(&body)).0.status, 401);
}

#[test]
fn an_absent_distinct_id_is_derived_or_made_up() {
    let with = |ids: Value| {
        let mut event = json!({"event": "e", "properties": ids});
        event["properties"]["time"] = json!(NOW);
        event["properties"]["$insert_id"] = json!("i1");
        import(&json!([event]))
    };
    for (ids, user, rule) in [
        (
            json!({"$user_id": "u1", "$device_id": "a1"}),
            Some("u1"),
            None,
        ),
        (json!({"$device_id": "a1"}), Some("$device:a1"), None),
        (json!({}), None, Some("distinct_id_missing")),
    ] {
        let (answer, record) = put(&mut account().into(), &with(ids));
        assert_eq!(answer.status, 200);
        assert_eq!(record.received()[0].user.as_deref(), user);
        let rules: Vec<_> = record.violations().iter().map(|it| it.rule).collect();
        assert_eq!(rules, rule.into_iter().collect::<Vec<_>>());
    }
    let mut original = MixpanelVendor::from(account().id_merge(IdMerge::Original));
    let (_, record) = put(&mut original, &with(json!({"$user_id": "u1"})));
    assert_eq!(
        found(&record),
        [(ViolationKind::Altered, "distinct_id_missing")]
    );
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut event = event("i1");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[key] = value;
    event
}

#[test]
fn limits_of_imports_are_those_of_the_documentation() {
    let keys = |count: usize| -> Map<_, _> { (0..count).map(|n| (n.to_string(), json!(n))).collect() };
    let with_keys = |count: usize| {
        let mut event = event("i1");
        let properties = event["properties"].as_object_mut().unwrap();
        let own = properties.len();
        properties.extend(keys(count - own));
        event
    };
    let text = |chars: usize| changed("/properties/text", json!("\u{e9}".repeat(chars)));
    let id = |bytes: usize| changed("/properties/$insert_id", json!("i".repeat(bytes)));
    let time = |time: i64| changed("/properties/time", json!(time));
    for (event, status, rule) in [
        (with_keys(254), 200, None),
        (with_keys(255), 400, Some("properties_count")),
        (changed("/properties/list", json!(vec![0; 254])), 200, None),
        (changed("/properties/list", json!(vec![0; 255])), 400, Some("properties_nested")),
        (changed("/properties/map", Value::Object(keys(254))), 200, None),
        (changed("/properties/map", Value::Object(keys(255))), 400, Some("properties_nested")),
        (text(255), 200, None),
        (text(256), 200, Some("string_length")),
        (id(36), 200, None),
        (id(37), 400, Some("insert_id")),
        (time(NOW + 3_600_000), 200, None),
        (time(NOW + 3_600_001), 400, Some("time")),
        (time(31_536_000), 200, None),
        (time(31_535_999), 400, Some("time")),
    ] {
        let (answer, record) = put(&mut account().into(), &import(&json!([event])));
        let rules: Vec<_> = record.violations().iter().map(|v| v.rule).collect();
        assert_eq!((answer.status, rules), (status, Vec::from_iter(rule)), "{event}");
    }
    let many = |count: usize| json!((0..count).map(|n| event(&format!("i{n}"))).collect::<Vec<_>>());
    for (records, status) in [(2_000, 200), (2_001, 413)] {
        let (answer, record) = put(&mut account().into(), &import(&many(records)));
        assert_eq!(answer.status, status, "{records}");
        let taken = if status == 200 { records } else { 0 };
        assert_eq!(record.received().len(), taken);
    }
}

/// The same with as many texts in a place as make it so large: none is too long, and
/// no list has too many.
fn large(bytes: usize, mut value: Value, place: &str) -> Value {
    let mut put = |sizes: &[usize]| {
        let texts: Vec<_> = sizes.iter().map(|size| "x".repeat(*size)).collect();
        let lists: Vec<_> = texts.chunks(200).collect();
        *value.pointer_mut(place).unwrap() = json!(lists);
        value.clone()
    };
    let mut sizes = vec![250; bytes / 253 + 1];
    let mut over = put(&sizes).to_string().len() - bytes;
    for size in sizes.iter_mut().rev() {
        let less = over.min(*size);
        (*size, over) = (*size - less, over - less);
    }
    let value = put(&sizes);
    assert_eq!(value.to_string().len(), bytes);
    value
}

#[test]
fn limits_in_bytes_and_of_profiles_are_those_of_the_documentation() {
    let rules = |record: &Record| -> Vec<_> { record.violations().iter().map(|v| v.rule).collect() };
    let mut padded = event("i1");
    padded["properties"]["pad"] = Value::Null;
    for (bytes, status, failed) in [(999_999, 200, false), (1_000_000, 400, true)] {
        let event = large(bytes, padded.clone(), "/properties/pad");
        let (answer, record) = put(&mut account().into(), &import(&json!([event])));
        assert_eq!(answer.status, status, "{bytes}");
        assert_eq!(rules(&record), if failed { vec!["event_bytes"] } else { vec![] });
    }
    let body = import(&json!([event("i1")])).body.len();
    for (limit, status) in [(body, 200), (body - 1, 413)] {
        let account = account().import_bytes(limit);
        let (answer, _) = put(&mut account.into(), &import(&json!([event("i1")])));
        assert_eq!(answer.status, status, "{limit}");
    }
    let update = json!({"$token": "token", "$distinct_id": "u1", "$set": {"pad": null}});
    for (bytes, taken) in [(999_999, 1), (1_000_000, 0)] {
        let update = large(bytes, update.clone(), "/$set/pad");
        let (_, record) = put(&mut account().into(), &engage(&json!([update])));
        assert_eq!(record.received().len(), taken, "{bytes}");
    }
    for (count, taken) in [(1, 1), (2_000, 2_000), (2_001, 0)] {
        let updates = vec![update.clone(); count];
        let (_, record) = put(&mut account().into(), &engage(&json!(updates)));
        assert_eq!(record.received().len(), taken, "{count}");
        let ids: Vec<_> = (0..count).map(|n| format!("u{n}")).collect();
        let body = json!({"distinct_ids": ids, "compliance_type": "GDPR"});
        let (answer, _) = put(&mut account().into(), &deletion(&body));
        assert_eq!(answer.status == 200, taken > 0, "{count}");
    }
}

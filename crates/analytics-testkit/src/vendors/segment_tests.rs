use super::*;
use crate::server::{Keep, ViolationKind};

fn account() -> SegmentAccount {
    SegmentAccount::new("wk")
        .public_api_token("tok")
        .source_id("src1")
}

fn put(vendor: &mut SegmentVendor, request: &Request) -> (Answer, Record) {
    let mut record = Record::new(Keep::Everything);
    let answer = vendor.answer(request, &mut record);
    (answer, record)
}

fn track() -> Value {
    json!({
        "type": "track",
        "messageId": "m1",
        "timestamp": "2024-05-06T07:08:09.123Z",
        "userId": "u1",
        "anonymousId": "a1",
        "event": "Bought",
        "properties": {"price": 12.5, "coupon": null},
        "context": {
            "ip": "203.0.113.9",
            "traits": {"plan": null},
            "app": {"name": "shop", "build": "7"},
            "campaign": {"utm_x": "own parameter"},
            "cloud": {"project_id": "not Segment's"},
        },
    })
}

fn batch_of(events: &[Value]) -> Value {
    json!({ "batch": events, "sentAt": "2024-05-06T07:08:10.000Z", "writeKey": "wk" })
}

fn post(path: &str, body: &Value) -> Request {
    Request::new("POST", path).json(body).basic("wk", "")
}

#[test]
fn a_right_batch_is_taken_whole() {
    let mut vendor = SegmentVendor::from(account());
    let mut identify = json!({
        "type": "identify", "messageId": "m2", "timestamp": "2024-05-06T07:08:09.124Z",
        "anonymousId": "a2", "traits": {"email": "a@b.c"},
    });
    identify["integrations"] = json!({"All": true});
    let alias = json!({
        "type": "alias", "messageId": "m3", "timestamp": "2024-05-06T07:08:09.125Z",
        "previousId": "old", "userId": "new",
    });
    let (answer, record) = put(
        &mut vendor,
        &post("/v1/batch", &batch_of(&[track(), identify, alias])),
    );
    assert_eq!(
        (answer.status, answer.body_json()),
        (200, json!({"success": true}))
    );
    assert_eq!(record.violations(), []);
    let received = record.received();
    let seen: Vec<_> = received
        .iter()
        .map(|item| {
            (
                item.endpoint.as_str(),
                item.id.as_deref(),
                item.user.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("track", Some("m1"), Some("u1")),
            ("identify", Some("m2"), Some("a2")),
            ("alias", Some("m3"), Some("new")),
        ]
    );
    assert_eq!(received[0].body, track());
}

#[test]
fn a_message_id_counts_once() {
    let mut vendor = SegmentVendor::from(account());
    let request = post("/v1/batch", &batch_of(&[track(), track()]));
    let (_, record) = put(&mut vendor, &request);
    assert_eq!(record.received().len(), 1);
    assert_eq!(record.duplicates(), ["m1"]);
    let (answer, record) = put(&mut vendor, &post("/v1/track", &track()));
    assert_eq!(answer.status, 200);
    assert_eq!(record.received(), []);
    assert_eq!(record.duplicates(), ["m1"]);
}

#[test]
fn requests_that_segment_refuses() {
    let body = batch_of(&[track()]);
    let mut foreign = body.clone();
    foreign["writeKey"] = json!("other");
    let big = batch_of(&vec![json!({"pad": "x".repeat(1000)}); 500]);
    let mut large_event = track();
    large_event["properties"]["pad"] = json!("x".repeat(33_000));
    let plain = Request::new("POST", "/v1/batch").json(&body);
    let cases = [
        (
            Request::new("GET", "/v1/batch").basic("wk", ""),
            405,
            "method",
        ),
        (post("/v1/unknown", &body), 404, "path"),
        (post("/v2/batch", &body), 404, "path"),
        (plain.clone(), 401, "write_key"),
        (plain.clone().basic("other", ""), 401, "write_key"),
        (plain.clone().basic("wk", "wk"), 401, "write_key"),
        (plain.bearer("wk"), 401, "write_key"),
        (post("/v1/batch", &foreign), 401, "write_key"),
        (
            post("/v1/batch", &body).header("content-type", "text/plain"),
            400,
            "content_type",
        ),
        (post("/v1/batch", &body).raw("{"), 400, "json"),
        (post("/v1/batch", &json!([])), 400, "json"),
        (post("/v1/batch", &json!({"batch": {}})), 400, "batch"),
        (post("/v1/batch", &json!({})), 400, "batch"),
        (post("/v1/batch", &big), 413, "request_bytes"),
        (post("/v1/track", &large_event), 413, "request_bytes"),
    ];
    for (request, status, rule) in cases {
        let (answer, record) = put(&mut SegmentVendor::from(account()), &request);
        assert_eq!(answer.status, status, "{rule} {request:?}");
        let violations = record.violations();
        assert_eq!(violations.len(), 1, "{rule} {violations:?}");
        assert_eq!(
            (violations[0].kind, violations[0].rule),
            (ViolationKind::Refused, rule)
        );
        assert_eq!(record.received(), []);
    }
    let lenient = account().oversize_status(400);
    assert_eq!(
        put(&mut lenient.into(), &post("/v1/batch", &big)).0.status,
        400
    );
}

/// One change to a right event, and what comes of it.
#[test]
fn events_that_segment_loses_or_bends() {
    use ViolationKind::{Altered, Dropped};
    let cases: &[(&str, Value, ViolationKind, &str)] = &[
        ("/userId", json!(7), Dropped, "id_type"),
        ("/event", json!(true), Dropped, "id_type"),
        ("/event", json!(" "), Dropped, "required"),
        ("/type", json!("purchase"), Dropped, "type"),
        ("/type", json!("group"), Dropped, "required"),
        ("/type", json!("alias"), Dropped, "required"),
        ("/messageId", json!(5), Dropped, "message_id"),
        (
            "/messageId",
            json!("x".repeat(101)),
            Dropped,
            "message_id_length",
        ),
        (
            "/properties/pad",
            json!("x".repeat(33_000)),
            Dropped,
            "event_bytes",
        ),
        (
            "/properties",
            json!({"a": vec![json!({"b": 1}); 3]}),
            Altered,
            "",
        ),
        ("/messageId", json!(""), Altered, "message_id_missing"),
        (
            "/timestamp",
            json!("2024-05-06T07:08:09Z"),
            Altered,
            "timestamp_form",
        ),
        (
            "/timestamp",
            json!(1_714_979_289),
            Altered,
            "timestamp_form",
        ),
        ("/timestamp", json!(null), Altered, "null"),
        ("/sentAt", json!("yesterday"), Altered, "timestamp_form"),
        ("/anonymousId", json!(null), Altered, "null"),
        ("/user_id", json!("u1"), Altered, "field"),
        ("/traits", json!({}), Altered, "field"),
        ("/groupId", json!("g"), Altered, "field"),
        ("/properties", json!([]), Altered, "field"),
        ("/context", json!("x"), Altered, "field"),
        ("/context/ip", json!("nowhere"), Altered, "context"),
        ("/context/locale", json!(1), Altered, "context"),
        ("/context/user_agent", json!("x"), Altered, "context"),
        ("/context/app/build_id", json!("7"), Altered, "context"),
        ("/context/os", json!("linux"), Altered, "context"),
        ("/context/traits", json!("x"), Altered, "context"),
        ("/context/app/name", json!(null), Altered, "null"),
        ("/context/meta", json!({"deep": [null]}), Altered, "null"),
    ];
    for (pointer, value, kind, rule) in cases {
        let mut event = track();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        event.pointer_mut(parent).unwrap()[key] = value.clone();
        let (answer, record) = put(
            &mut SegmentVendor::from(account()),
            &post("/v1/batch", &batch_of(&[event])),
        );
        assert_eq!(answer.status, 200, "{pointer}");
        let found: Vec<_> = record
            .violations()
            .iter()
            .map(|it| (it.kind, it.rule))
            .collect();
        let wanted = if rule.is_empty() {
            vec![]
        } else {
            vec![(*kind, *rule)]
        };
        assert_eq!(found, wanted, "{pointer} = {value}");
        assert_eq!(
            record.received().len(),
            usize::from(*kind == Altered),
            "{pointer}"
        );
    }
}

#[test]
fn what_an_event_must_have() {
    use ViolationKind::{Altered, Dropped};
    let cases: &[(&[&str], ViolationKind, &str)] = &[
        (&["type"], Dropped, "type"),
        (&["event"], Dropped, "required"),
        (&["userId", "anonymousId"], Dropped, "identity"),
        (&["messageId"], Altered, "message_id_missing"),
        (&["timestamp"], Altered, "timestamp_missing"),
    ];
    for (absent, kind, rule) in cases {
        let mut event = track();
        for key in *absent {
            event.as_object_mut().unwrap().remove(*key);
        }
        let (_, record) = put(
            &mut SegmentVendor::from(account()),
            &post("/v1/batch", &batch_of(&[event])),
        );
        let found: Vec<_> = record
            .violations()
            .iter()
            .map(|it| (it.kind, it.rule))
            .collect();
        assert_eq!(found, [(*kind, *rule)], "{absent:?}");
    }
}

#[test]
fn what_a_batch_loses() {
    let many: Vec<Value> = (0..2_502)
        .map(|n| {
            json!({
                "type": "track", "messageId": n.to_string(), "userId": "u", "event": "e",
                "timestamp": "2024-05-06T07:08:09.123Z",
            })
        })
        .collect();
    let (answer, record) = put(
        &mut SegmentVendor::from(account()),
        &post("/v1/batch", &json!({ "batch": many })),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(record.received().len(), 2_500);
    let lost: Vec<_> = record
        .violations()
        .iter()
        .map(|it| (it.rule, it.item.clone()))
        .collect();
    assert_eq!(
        lost,
        [
            ("batch_events", Some("2500".to_owned())),
            ("batch_events", Some("2501".to_owned()))
        ]
    );

    let mut properties = Map::new();
    for n in 0..10_001 {
        properties.insert(n.to_string(), json!(0));
    }
    let too_many = json!({ "properties": properties });
    let mut event = track();
    event["properties"] = json!({});
    event["properties"]["short"] = json!(1);
    assert_eq!(count_keys(&too_many["properties"]), 10_001);
    let bytes_allowed = deliverable("track", too_many.as_object().unwrap(), 10);
    assert_eq!(bytes_allowed.unwrap_err().0, "event_properties");

    for (body, rule) in [
        (json!({"batch": [7]}), "event"),
        (json!({"batch": []}), "batch_empty"),
        (json!({"batch": [track()], "sentAt": "now"}), "sent_at"),
        (json!({"batch": [track()], "sent_at": "x"}), "batch_field"),
        (json!({"batch": [track()], "context": null}), "batch_field"),
    ] {
        let (answer, record) = put(
            &mut SegmentVendor::from(account()),
            &post("/v1/batch", &body),
        );
        assert_eq!(answer.status, 200);
        assert_eq!(record.violations().len(), 1, "{rule}");
        assert_eq!(record.violations()[0].rule, rule);
    }
}

#[test]
fn an_event_is_measured_as_it_was_written() {
    let mut event = track().to_string();
    let blanks = " ".repeat(EVENT_BYTES - event.len());
    event.insert_str(1, &blanks);
    for (extra, received) in [("", 1), (" ", 0)] {
        let body = format!(
            "{{\"batch\":[{}]}}",
            event.replacen('{', &format!("{{{extra}"), 1)
        );
        let request = post("/v1/batch", &json!(null)).raw(body);
        let (_, record) = put(&mut SegmentVendor::from(account()), &request);
        assert_eq!(
            record.received().len(),
            received,
            "{:?}",
            record.violations()
        );
    }
}

#[test]
fn a_single_call_may_leave_out_its_type() {
    let mut event = track();
    event.as_object_mut().unwrap().remove("type");
    let mut vendor = SegmentVendor::from(account());
    let (_, record) = put(&mut vendor, &post("/v1/track", &event));
    assert_eq!(record.received()[0].endpoint, "track");
    let (_, record) = put(&mut vendor, &post("/v1/page", &track()));
    assert_eq!(record.violations()[0].rule, "type");
}

#[test]
fn the_retry_count_is_positive() {
    for (count, violations) in [("1", 0), ("12", 0), ("0", 1), ("", 1), ("x", 1)] {
        let request = post("/v1/track", &track()).header("x-retry-count", count);
        let (_, record) = put(&mut SegmentVendor::from(account()), &request);
        assert_eq!(record.violations().len(), violations, "{count}");
    }
}

fn regulation_body() -> Value {
    json!({
        "regulationType": "SUPPRESS_WITH_DELETE", "subjectType": "USER_ID", "subjectIds": ["u1"],
    })
}

fn regulate(path: &str, body: &Value) -> Request {
    Request::new("POST", path).json(body).bearer("tok")
}

#[test]
fn regulations_are_taken() {
    let mut vendor = SegmentVendor::from(account());
    for (path, id) in [
        ("/regulations", "regulation-1"),
        ("/regulations/sources/src1", "regulation-2"),
    ] {
        let (answer, record) = put(&mut vendor, &regulate(path, &regulation_body()));
        assert_eq!(answer.body_json(), json!({"data": {"regulateId": id}}));
        assert_eq!(record.received()[0].user.as_deref(), Some("u1"));
        assert_eq!(record.violations(), []);
    }
}

#[test]
fn regulations_that_segment_refuses() {
    let right = regulation_body();
    let with = |key: &str, value: Value| {
        let mut body = right.clone();
        body[key] = value;
        regulate("/regulations", &body)
    };
    let plain = Request::new("POST", "/regulations").json(&right);
    let cases = [
        (plain.clone(), 401),
        (plain.clone().bearer("wk"), 401),
        (plain.basic("wk", ""), 401),
        (Request::new("GET", "/regulations").bearer("tok"), 405),
        (regulate("/regulations/sources/other", &right), 404),
        (regulate("/regulations/x", &right), 404),
        (
            regulate("/regulations", &right).header("content-encoding", "gzip"),
            415,
        ),
        (
            regulate("/regulations", &right).header("content-type", "text/plain"),
            415,
        ),
        (regulate("/regulations", &right).raw("{"), 400),
        (with("regulationType", json!("DELETE")), 422),
        (with("subjectType", json!("EMAIL")), 422),
        (with("subjectIds", json!([])), 422),
        (with("subjectIds", json!([7])), 422),
        (with("subjectIds", json!(vec!["u"; 5_001])), 422),
        (with("extra", json!(1)), 422),
    ];
    for (request, status) in cases {
        let (answer, record) = put(&mut SegmentVendor::from(account()), &request);
        assert_eq!(answer.status, status, "{request:?}");
        assert_eq!(record.violations().len(), 1);
        assert_eq!(record.received(), []);
    }
    let mut without = SegmentVendor::from(SegmentAccount::new("wk"));
    assert_eq!(
        put(&mut without, &regulate("/regulations", &right))
            .0
            .status,
        401
    );
}

#[test]
fn regulations_have_a_rate() {
    let mut vendor = SegmentVendor::from(account());
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut request = regulate("/regulations", &regulation_body());
    request.at = start;
    for _ in 0..600 {
        assert_eq!(put(&mut vendor, &request).0.status, 200);
    }
    let (answer, _) = put(&mut vendor, &request);
    assert_eq!(answer.status, 429);
    assert!(
        answer
            .headers
            .iter()
            .any(|(name, _)| name == "x-ratelimit-reset")
    );
    request.at = start + Duration::from_secs(60);
    assert_eq!(put(&mut vendor, &request).0.status, 200);
}

/// A track of so many bytes as JSON.
fn sized(id: &str, bytes: usize) -> Value {
    let mut event = track();
    event["messageId"] = json!(id);
    event["properties"]["pad"] = json!("");
    let missing = bytes - event.to_string().len();
    event["properties"]["pad"] = json!("x".repeat(missing));
    event
}

/// A batch of so many bytes, of events that are not too large.
fn batch_sized(bytes: usize) -> Request {
    let of = |last| {
        let mut events: Vec<_> = (0..19).map(|n| sized(&format!("m{n}"), 25_000)).collect();
        events.push(sized("last", last));
        post("/v1/batch", &batch_of(&events))
    };
    let without = of(1_000).body.len() - 1_000;
    let request = of(bytes - without);
    assert_eq!(request.body.len(), bytes);
    request
}

#[test]
fn limits_are_those_of_the_documentation() {
    let rules = |record: &Record| -> Vec<_> { record.violations().iter().map(|v| v.rule).collect() };
    for (request, status, rule) in [
        (batch_sized(500_000), 200, None),
        (batch_sized(500_001), 413, Some("request_bytes")),
        (post("/v1/batch", &batch_of(&[sized("m1", 32_768)])), 200, None),
        (post("/v1/batch", &batch_of(&[sized("m1", 32_769)])), 200, Some("event_bytes")),
        (post("/v1/track", &sized("m1", 32_768)), 200, None),
        (post("/v1/track", &sized("m1", 32_769)), 413, Some("request_bytes")),
        (post("/v1/track", &sized(&"m".repeat(100), 1_000)), 200, None),
        (post("/v1/track", &sized(&"m".repeat(101), 1_000)), 200, Some("message_id_length")),
    ] {
        let (answer, record) = put(&mut account().into(), &request);
        let bytes = request.body.len();
        assert_eq!(answer.status, status, "{bytes}");
        assert_eq!(rules(&record), Vec::from_iter(rule), "{bytes}");
        assert_eq!(record.received().is_empty(), rule.is_some(), "{bytes}");
    }
    for (properties, fits) in [(10_000, true), (10_001, false)] {
        let all: Map<_, _> = (0..properties).map(|n| (n.to_string(), json!(0))).collect();
        let mut event = track();
        event["properties"] = Value::Object(all);
        let event = event.as_object().unwrap();
        assert_eq!(deliverable("track", event, 10).is_ok(), fits, "{properties}");
    }
    for (ids, status) in [(5_000, 200), (5_001, 422)] {
        let mut body = regulation_body();
        body["subjectIds"] = json!((0..ids).map(|n| format!("u{n}")).collect::<Vec<_>>());
        let (answer, record) = put(&mut account().into(), &regulate("/regulations", &body));
        assert_eq!(answer.status, status, "{ids}");
        assert_eq!(record.received().is_empty(), status != 200, "{ids}");
    }
}

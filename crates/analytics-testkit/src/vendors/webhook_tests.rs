use super::*;
use crate::server::{Keep, Violation, ViolationKind};

/// What the specification's own libraries are tested with.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const AT: u64 = 1_649_367_553;
const BODY: &str = r#"{"email":"test@example.com","username":"test_user"}"#;
const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOLERANCE: Duration = Duration::from_secs(300);

fn arrived(mut request: Request, at: u64) -> Request {
    request.at = UNIX_EPOCH + Duration::from_secs(at);
    request
}

fn known() -> Request {
    let request = Request::new("POST", "/events")
        .raw(BODY)
        .header("webhook-id", ID)
        .header("webhook-timestamp", &AT.to_string())
        .header("webhook-signature", SIGNATURE);
    arrived(request, AT)
}

fn trust(request: &Request) -> Result<(), Untrusted> {
    verify_webhook(request, &[SECRET], TOLERANCE)
}

#[test]
fn a_known_signature_is_trusted() {
    assert_eq!(trust(&known()), Ok(()));
    // Any secret may have signed, and any version may stand beside.
    assert_eq!(verify_webhook(&known(), &[OTHER, SECRET], TOLERANCE), Ok(()));
    let code = BASE64_STANDARD.encode([7; 32]);
    let many = format!("v1a,abc v1,{code} {SIGNATURE}");
    assert_eq!(trust(&known().header("webhook-signature", &many)), Ok(()));
}

#[test]
fn whatever_is_signed_counts() {
    let signature = Err(Untrusted::Signature);
    assert_eq!(verify_webhook(&known(), &[OTHER], TOLERANCE), signature);
    assert_eq!(verify_webhook(&known(), &[] as &[&str], TOLERANCE), signature);
    for request in [
        known().raw(format!("{BODY} ")),
        known().raw(""),
        known().header("webhook-id", "msg_28UH4WbU6Z5A5EzD8u03UvzRbpk"),
        known().header("webhook-timestamp", &(AT + 1).to_string()),
        known().header("webhook-signature", "v1a,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
        // A part of the code is none of it.
        known().header("webhook-signature", "v1,tZ1I4/hDygAJgO5TYxiSdw=="),
        known().header("webhook-signature", "v1,"),
    ] {
        assert_eq!(trust(&request), signature, "{request:?}");
    }
    for secret in ["", "whsec_", "whsec_!", &SECRET[6..]] {
        assert_eq!(verify_webhook(&known(), &[secret], TOLERANCE), signature);
    }
}

#[test]
fn an_attempt_is_fresh() {
    for (at, expected) in [
        (AT + 300, Ok(())),
        (AT - 300, Ok(())),
        (AT + 301, Err(Untrusted::Time)),
        (AT - 301, Err(Untrusted::Time)),
    ] {
        assert_eq!(trust(&arrived(known(), at)), expected, "{at}");
    }
}

#[test]
fn headers_are_there_once_and_sound() {
    for (name, wrong) in [
        ("webhook-id", ["", "a.b", "two words"]),
        ("webhook-timestamp", ["", "1649367553.5", "2022-04-07T21:39:13Z"]),
        ("webhook-signature", ["", "v1", "v1,not base64"]),
    ] {
        let refused = Err(Untrusted::Header(name));
        for value in wrong {
            assert_eq!(trust(&known().header(name, value)), refused, "{value:?}");
        }
        let mut missing = known();
        missing.headers.remove(name);
        assert_eq!(trust(&missing), refused);
        let mut twice = known();
        let value = twice.headers.get(name).cloned().unwrap();
        twice.headers.append(name, value);
        assert_eq!(trust(&twice), refused);
    }
}

fn event(id: &str) -> Value {
    json!({
        "context": {"message_id": id, "timestamp": "2026-03-02T09:14:05Z"},
        "track": {"user_id": "u1", "event": "Bought"},
    })
}

fn signed(id: &str, body: &Value) -> Request {
    let request = Request::new("POST", "/events").json(body);
    let key = BASE64_STANDARD.decode(&SECRET[6..]).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{AT}.").as_bytes());
    mac.update(&request.body);
    let code = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let request = request
        .header("x-api-key", "k")
        .header("webhook-timestamp", &AT.to_string())
        .header("webhook-signature", &format!("v1,{code}"));
    let mut request = arrived(request, AT);
    request
        .headers
        .insert("webhook-id", id.parse().expect("a header"));
    request
}

fn account() -> WebhookAccount {
    WebhookAccount::new("/events")
        .secret(SECRET)
        .header("x-api-key", "k")
}

fn put(vendor: &mut WebhookVendor, request: &Request) -> (Answer, Record) {
    let mut record = Record::new(Keep::Everything);
    let answer = vendor.answer(request, &mut record);
    (answer, record)
}

fn rules(record: &Record) -> Vec<(ViolationKind, &'static str)> {
    let of = |violation: &Violation| (violation.kind, violation.rule);
    record.violations().iter().map(of).collect()
}

#[test]
fn one_event_is_taken_once() {
    let mut vendor = WebhookVendor::from(account());
    let request = signed("m1", &event("m1"));
    let (answer, record) = put(&mut vendor, &request);
    assert_eq!((answer.status, rules(&record)), (204, vec![]));
    let received = record.received();
    assert_eq!(received[0].endpoint, "track");
    assert_eq!(received[0].id.as_deref(), Some("m1"));
    assert_eq!(received[0].user.as_deref(), Some("u1"));
    assert_eq!(received[0].body, event("m1"));
    assert_eq!(
        WebhookVendor::words(&received[0]),
        Some((Kind::Track, "Bought".to_owned()))
    );
    let (answer, record) = put(&mut vendor, &request);
    assert_eq!((answer.status, record.received()), (204, vec![]));
    assert_eq!(record.duplicates(), ["m1"]);
}

#[test]
fn requests_that_are_not_welcome() {
    let body = event("m1");
    let right = || signed("m1", &body);
    let plain = right().header("content-type", "text/plain");
    let stale = arrived(right(), AT + 301);
    let mut put_ = right();
    put_.method = "PUT".to_owned();
    let mut elsewhere = right();
    elsewhere.path = "/".to_owned();
    let mut unsigned = right();
    unsigned.headers.remove("webhook-signature");
    let mut policies = body.clone();
    policies["policies"] = json!({});
    let mut unstamped = body.clone();
    unstamped["context"] = json!({"message_id": "m1"});
    for (request, status, rule) in [
        (elsewhere, 404, "path"),
        (put_, 405, "method"),
        (right().header("x-api-key", "other"), 401, "header"),
        (unsigned, 400, "webhook_header"),
        (stale, 401, "webhook_time"),
        (signed("m1", &json!({})).raw("{ }"), 401, "webhook_signature"),
        (plain, 415, "content_type"),
        (signed("m1", &json!({"batch": [body]})), 422, "envelope"),
        (signed("m1", &json!({"track": {"event": "E"}})), 422, "envelope"),
        (signed("m1", &policies), 422, "envelope"),
        (signed("m1", &unstamped), 422, "envelope"),
    ] {
        let mut vendor = WebhookVendor::from(account());
        let (answer, record) = put(&mut vendor, &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(rules(&record), [(ViolationKind::Refused, rule)]);
        assert_eq!(record.received(), []);
    }
}

#[test]
fn a_batch_is_taken_whole_or_in_part() {
    let mut wrong = event("m2");
    wrong["track"] = json!({"event": ""});
    let body = json!({"batch": [event("m1"), wrong, event("m3")]});
    let request = signed("batch_1", &body);
    let mut whole = WebhookVendor::from(account().batches());
    let (answer, record) = put(&mut whole, &request);
    assert_eq!((answer.status, record.received()), (422, vec![]));

    let mut parts = WebhookVendor::from(account().results());
    let (answer, record) = put(&mut parts, &request);
    let results = answer.body_json()["results"].clone();
    let statuses: Vec<_> = results.as_array().unwrap().iter().map(|r| &r["status"]).collect();
    assert_eq!((answer.status, statuses), (200, vec![&json!(200), &json!(422), &json!(200)]));
    let ids: Vec<_> = record.received().into_iter().filter_map(|r| r.id).collect();
    assert_eq!(ids, ["m1", "m3"]);

    for wrong in [
        json!({"batch": []}),
        json!({"batch": {}}),
        json!([event("m1")]),
        json!({"batch": [event("m1")], "sent_at": 1}),
        event("m1"),
    ] {
        let (answer, record) = put(&mut parts, &signed("b", &wrong));
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(rules(&record), [(ViolationKind::Refused, "body")]);
    }
}

#[test]
fn an_id_says_which_request_it_is() {
    let batch = |ids: &[&str]| {
        let events: Vec<_> = ids.iter().map(|id| event(id)).collect();
        json!({ "batch": events })
    };
    let bent = |rule| vec![(ViolationKind::Altered, rule)];
    let mut vendor = WebhookVendor::from(account().batches());
    for (id, body, expected) in [
        ("batch_1", batch(&["m1", "m2"]), vec![]),
        ("batch_1", batch(&["m1", "m2"]), vec![]),
        ("batch_1", batch(&["m1", "m3"]), bent("webhook_id_reused")),
        ("batch_2", batch(&["m1", "m3"]), bent("webhook_id_changed")),
        ("m4", batch(&["m4"]), vec![]),
        ("batch_3", batch(&["m5"]), bent("webhook_id")),
        // Which cannot be the id of a request.
        ("msg_1", batch(&["m.6"]), vec![]),
    ] {
        let (_, record) = put(&mut vendor, &signed(id, &body));
        assert_eq!(rules(&record), expected, "{id} {body}");
    }
}

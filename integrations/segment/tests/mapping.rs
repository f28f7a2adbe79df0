//! The mapping, byte by byte: every field has a value of its own, so that two
//! that are swapped show.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which may panic"
)]

use analytics_http::{HttpVendor as _, Sending};
use analytics_segment::{Config, Region, RegulationType, Segment};
use analytics_spec::{AnyInput, Integration as _, Value};
use bytes::Bytes;
use http::Request;
use serde_json::json;

const KEY: &str = "wk-1";

fn config() -> Config {
    Config::new(KEY).public_api_token("pat-2")
}

/// The one request of some events.
fn request(segment: &Segment, inputs: &[AnyInput], retry: u32) -> Request<Bytes> {
    let vendor = segment.mapping();
    let steps: Vec<_> = inputs
        .iter()
        .flat_map(|input| {
            vendor.validate(input).unwrap();
            vendor.steps(input).unwrap()
        })
        .collect();
    let route = steps.first().unwrap().route;
    assert!(steps.iter().all(|step| step.route == route));
    let bodies: Vec<_> = steps.iter().map(|step| &step.body).collect();
    let at = "2026-03-02T10:00:00.98765Z".parse().unwrap();
    vendor
        .request(&route, &bodies, Sending { at, retry })
        .unwrap()
}

fn body(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).unwrap()
}

fn input(kind: &str, event: impl Into<Value>) -> AnyInput {
    AnyInput::from_value(json!({
        "context": {"message_id": "mid-3", "timestamp": "2026-03-01T12:00:00.123456Z"},
        kind: event.into(),
    }))
    .unwrap()
}

/// The message of one event, which has to be alone in its batch.
fn message(input: AnyInput) -> Value {
    let segment = config().build().unwrap();
    let request = request(&segment, &[input], 0);
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "https://api.segment.io/v1/batch");
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    // `wk-1:` in base64: the password is empty, and the colon matters.
    let expected = [
        ("content-type", "application/json"),
        ("authorization", "Basic d2stMTo="),
    ];
    assert_eq!(headers, expected);
    let mut body = body(&request);
    let message = body["batch"][0].take();
    let envelope = json!({
        "batch": [null],
        "sentAt": "2026-03-02T10:00:00.987Z",
        "writeKey": KEY,
    });
    assert_eq!(body, envelope);
    message
}

#[test]
fn identify() {
    let event = json!({"anonymous_id": "a-4", "user_id": "u-5", "traits": {"t": 6}});
    assert_eq!(
        message(input("identify", event)),
        json!({
            "type": "identify",
            "messageId": "mid-3",
            "timestamp": "2026-03-01T12:00:00.123Z",
            "anonymousId": "a-4",
            "userId": "u-5",
            "traits": {"t": 6},
            "context": {},
        })
    );
}

#[test]
fn track() {
    let event = json!({
        "anonymous_id": "a-4",
        "user_id": "u-5",
        "event": "e-6",
        "properties": {"p": 7, "null": null},
        "traits": {"t": 8},
    });
    assert_eq!(
        message(input("track", event)),
        json!({
            "type": "track",
            "messageId": "mid-3",
            "timestamp": "2026-03-01T12:00:00.123Z",
            "anonymousId": "a-4",
            "userId": "u-5",
            "event": "e-6",
            "properties": {"p": 7, "null": null},
            "context": {"traits": {"t": 8}},
        })
    );
}

#[test]
fn group() {
    let event = json!({
        "anonymous_id": "a-4",
        "user_id": "u-5",
        "group_id": "g-6",
        "traits": {"t": 7},
    });
    assert_eq!(
        message(input("group", event)),
        json!({
            "type": "group",
            "messageId": "mid-3",
            "timestamp": "2026-03-01T12:00:00.123Z",
            "anonymousId": "a-4",
            "userId": "u-5",
            "groupId": "g-6",
            "traits": {"t": 7},
            "context": {},
        })
    );
}

#[test]
fn alias() {
    let event = json!({"previous_user_id": "p-4", "user_id": "u-5", "traits": {"t": 6}});
    assert_eq!(
        message(input("alias", event)),
        json!({
            "type": "alias",
            "messageId": "mid-3",
            "timestamp": "2026-03-01T12:00:00.123Z",
            "previousId": "p-4",
            "userId": "u-5",
            "context": {"traits": {"t": 6}},
        })
    );
}

#[test]
fn page_and_screen() {
    for kind in ["page", "screen"] {
        let event = json!({
            "anonymous_id": "a-4",
            "user_id": "u-5",
            "name": "n-6",
            "properties": {"category": "c-7", "url": "l-8"},
        });
        assert_eq!(
            message(input(kind, event)),
            json!({
                "type": kind,
                "messageId": "mid-3",
                "timestamp": "2026-03-01T12:00:00.123Z",
                "anonymousId": "a-4",
                "userId": "u-5",
                "name": "n-6",
                "category": "c-7",
                "properties": {"category": "c-7", "url": "l-8"},
                "context": {},
            })
        );
        // A category that is no text is a property like any other.
        let event = json!({"user_id": "u-5", "name": "n-6", "properties": {"category": 7}});
        let message = message(input(kind, event));
        assert_eq!(message.get("category"), None);
        assert_eq!(message["properties"], json!({"category": 7}));
    }
}

#[test]
fn what_is_absent_is_left_out() {
    let segment = config().build().unwrap();
    let events = [
        ("identify", json!({"user_id": "u"})),
        ("track", json!({"user_id": "u", "event": "e"})),
        ("group", json!({"user_id": "u", "group_id": "g"})),
        ("alias", json!({"user_id": "u", "previous_user_id": "p"})),
        ("page", json!({"user_id": "u", "name": "n"})),
        ("screen", json!({"user_id": "u", "name": "n"})),
    ];
    for (kind, event) in events {
        let request = request(&segment, &[input(kind, event)], 0);
        let text = String::from_utf8(request.body().to_vec()).unwrap();
        for never in ["null", "traits", "properties", "anonymousId", "category"] {
            assert!(!text.contains(never), "{never} in {text}");
        }
    }
}

#[test]
fn the_whole_context() {
    let input = AnyInput::from_value(json!({
        "context": {
            "message_id": "m",
            "timestamp": "2026-03-01T12:00:00Z",
            "ip": "203.0.113.1",
            "user_agent": "v02",
            "locale": "v03",
            "timezone": "v04",
            "meta": {"free": "v05"},
            "flags": {"flag": true},
            "params": {"param": ["v06", "v07"]},
            "library": {"name": "v08", "version": "v09"},
            "git": {
                "repository": "v10", "branch": "v11", "commit": "v12", "author": "v13",
                "tag": "v14",
            },
            "app": {"name": "v15", "version": "v16", "build_id": "v17", "namespace": "v18"},
            "campaign": {
                "name": "v19", "source": "v20", "medium": "v21", "term": "v22",
                "content": "v23",
            },
            "cloud": {
                "provider": "v24", "service": "v25", "region": "v26", "project_id": "v27",
                "account_id": "v28",
            },
            "device": {
                "id": "v29", "manufacturer": "v30", "model": "v31", "name": "v32",
                "type": "v33", "version": "v34", "advertising_id": "v35", "token": "v36",
            },
            "location": {
                "city": "v37", "country": "v38", "region": "v39", "latitude": 40.5,
                "longitude": 41.5, "speed": 42.5,
            },
            "network": {"bluetooth": true, "cellular": false, "wifi": true, "carrier": "v43"},
            "os": {"name": "v44", "arch": "v45", "version": "v46"},
            "page": {
                "path": "v47", "referrer": "v48", "search": "v49", "title": "v50",
                "url": "v51",
            },
            "referrer": {"type": "v52", "name": "v53", "url": "v54", "link": "v55"},
            "screen": {"density": 56.5, "width": 57, "height": 58},
            "subscription": {
                "account_id": "v59", "subscription_id": "v60", "event": "v61",
                "value": 62.5, "increment_by": 63.5,
            },
            "channel": "v64",
        },
        "track": {"user_id": "u", "event": "e", "traits": {"t": "v65"}},
    }))
    .unwrap();
    assert_eq!(
        message(input)["context"],
        json!({
            "ip": "203.0.113.1",
            "userAgent": "v02",
            "locale": "v03",
            "timezone": "v04",
            "meta": {"free": "v05"},
            "flags": {"flag": true},
            "params": {"param": ["v06", "v07"]},
            "library": {"name": "v08", "version": "v09"},
            "git": {
                "repository": "v10", "branch": "v11", "commit": "v12", "author": "v13",
                "tag": "v14",
            },
            "app": {"name": "v15", "version": "v16", "build": "v17", "namespace": "v18"},
            "campaign": {
                "name": "v19", "source": "v20", "medium": "v21", "term": "v22",
                "content": "v23",
            },
            "cloud": {
                "provider": "v24", "service": "v25", "region": "v26", "projectId": "v27",
                "accountId": "v28",
            },
            "device": {
                "id": "v29", "manufacturer": "v30", "model": "v31", "name": "v32",
                "type": "v33", "version": "v34", "advertisingId": "v35", "token": "v36",
            },
            "location": {
                "city": "v37", "country": "v38", "region": "v39", "latitude": 40.5,
                "longitude": 41.5, "speed": 42.5,
            },
            "network": {"bluetooth": true, "cellular": false, "wifi": true, "carrier": "v43"},
            "os": {"name": "v44", "arch": "v45", "version": "v46"},
            "page": {
                "path": "v47", "referrer": "v48", "search": "v49", "title": "v50",
                "url": "v51",
            },
            "referrer": {"type": "v52", "name": "v53", "url": "v54", "link": "v55"},
            "screen": {"density": 56.5, "width": 57, "height": 58},
            "subscription": {
                "accountId": "v59", "subscriptionId": "v60", "event": "v61",
                "value": 62.5, "incrementBy": 63.5,
            },
            "channel": "v64",
            "traits": {"t": "v65"},
        })
    );
}

/// JSON with a key twice is not what anybody expects of us.
#[test]
fn no_key_stands_twice() {
    let input = AnyInput::from_value(json!({
        "context": {
            "message_id": "m",
            "user_agent": "ours", "userAgent": "theirs",
            "traits": {"theirs": 1},
            "app": {"build_id": "ours", "build": "theirs"},
            "device": {"advertising_id": "ours", "advertisingId": "theirs"},
            "cloud": {"project_id": "ours", "projectId": "theirs", "accountId": "theirs"},
        },
        "track": {"user_id": "u", "event": "e", "traits": {"ours": 1}},
    }))
    .unwrap();
    let segment = config().build().unwrap();
    let request = request(&segment, std::slice::from_ref(&input), 0);
    let text = String::from_utf8(request.body().to_vec()).unwrap();
    for once in [
        "userAgent",
        "\"traits\"",
        "\"build\"",
        "advertisingId",
        "projectId",
    ] {
        assert_eq!(text.matches(once).count(), 1, "{once} in {text}");
    }
    let context = &body(&request)["batch"][0]["context"];
    assert_eq!(context["userAgent"], "ours");
    assert_eq!(context["traits"], json!({"ours": 1}));
    // What we have no value for is theirs.
    assert_eq!(
        context["cloud"],
        json!({"projectId": "ours", "accountId": "theirs"})
    );
}

#[test]
fn several_messages_share_a_batch_and_a_retry_says_which_it_is() {
    let segment = config().build().unwrap();
    let inputs = [
        input("identify", json!({"user_id": "u-1"})),
        input("track", json!({"user_id": "u-2", "event": "e"})),
    ];
    let retried = request(&segment, &inputs, 2);
    assert_eq!(retried.headers()["x-retry-count"], "2");
    let body = body(&retried);
    assert_eq!(body["batch"][0]["userId"], "u-1");
    assert_eq!(body["batch"][1]["userId"], "u-2");
    let first = request(&segment, &inputs, 0);
    assert!(!first.headers().contains_key("x-retry-count"));
    assert_eq!(first.body(), retried.body());
}

#[test]
fn regulations() {
    let deletes = [
        input(
            "delete",
            json!({"user_id": "u-1", "traits": {"email": "x"}}),
        ),
        input("delete", json!({"user_id": "u\"2"})),
    ];
    let types = [
        (RegulationType::SuppressWithDelete, "SUPPRESS_WITH_DELETE"),
        (RegulationType::DeleteOnly, "DELETE_ONLY"),
        (RegulationType::DeleteInternal, "DELETE_INTERNAL"),
        (
            RegulationType::SuppressWithDeleteInternal,
            "SUPPRESS_WITH_DELETE_INTERNAL",
        ),
    ];
    for (regulation_type, name) in types {
        let segment = config().regulation_type(regulation_type).build().unwrap();
        let request = request(&segment, &deletes, 3);
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://api.segmentapis.com/regulations");
        let headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        // The token of the Public API, and never the write key.
        let expected = [
            ("content-type", "application/json"),
            ("authorization", "Bearer pat-2"),
        ];
        assert_eq!(headers, expected);
        assert_eq!(
            body(&request),
            json!({
                "regulationType": name,
                "subjectType": "USER_ID",
                "subjectIds": ["u-1", "u\"2"],
            })
        );
    }
}

#[test]
fn each_region_and_proxy_has_its_urls() {
    let url = |text: &str| text.parse().unwrap();
    let cases = [
        (
            config().region(Region::Us),
            "https://api.segment.io/v1/batch",
            "https://api.segmentapis.com/regulations",
        ),
        (
            config().region(Region::Eu).source_id("s/1"),
            "https://events.eu1.segmentapis.com/v1/batch",
            "https://eu1.api.segmentapis.com/regulations/sources/s%2F1",
        ),
        (
            config()
                .base_url(url("https://a.example/segment/"))
                .public_api_base_url(url("https://b.example")),
            "https://a.example/segment/v1/batch",
            "https://b.example/regulations",
        ),
    ];
    for (config, tracking, regulations) in cases {
        let segment = config.build().unwrap();
        let track = input("track", json!({"user_id": "u", "event": "e"}));
        let delete = input("delete", json!({"user_id": "u"}));
        assert_eq!(request(&segment, &[track], 0).uri(), tracking);
        assert_eq!(request(&segment, &[delete], 0).uri(), regulations);
        let shown = segment.configuration();
        assert_eq!(shown["tracking_url"], tracking);
        assert_eq!(shown["regulations_url"], regulations);
    }
}

#[test]
fn nothing_that_is_shown_has_a_credential() {
    let segment = config().source_id("s").build().unwrap();
    let track = input("track", json!({"user_id": "u", "event": "wk-1 pat-2"}));
    let delete = input("delete", json!({"user_id": "u"}));
    let shown = format!(
        "{segment:?} {:?} {:?} {:?}",
        segment.configuration(),
        segment.preview(&track).unwrap(),
        segment.preview(&delete).unwrap(),
    );
    for never in ["wk-1", "d2stMTo", "d2stMQ", "pat-2"] {
        assert!(!shown.contains(never), "{never} in {shown}");
    }
}

use super::*;
use crate::server::{Keep, ViolationKind};

const EMAIL: &str = "Ada@Lovelace.org";

fn account() -> MailchimpAccount {
    MailchimpAccount::new("key-us21", "aud1")
        .merge_field(MergeField::new("AGE", MergeKind::Number))
        .merge_field(MergeField::new("SINCE", MergeKind::Date))
        .merge_field(MergeField::new("SITE", MergeKind::Url))
}

fn put(vendor: &mut MailchimpVendor, request: &Request) -> (Answer, Record) {
    let mut record = Record::new(Keep::Everything);
    let answer = vendor.answer(request, &mut record);
    (answer, record)
}

fn with_member(status: MemberStatus) -> MailchimpVendor {
    let mut vendor = MailchimpVendor::from(account());
    vendor.seed(Member::new(EMAIL, status));
    vendor
}

fn path(rest: &str) -> String {
    format!("/3.0/lists/aud1/members/{}{rest}", subscriber_hash(EMAIL))
}

fn send(method: &str, rest: &str) -> Request {
    Request::new(method, &path(rest)).basic("anystring", "key-us21")
}

fn upsert() -> Value {
    json!({
        "email_address": EMAIL,
        "status_if_new": "subscribed",
        "merge_fields": {"FNAME": "Ada", "LNAME": "Lovelace"},
        "language": "en",
        "ip_signup": "203.0.113.9",
        "location": {"latitude": 51.5, "longitude": -0.1},
    })
}

fn rules(record: &Record) -> Vec<(ViolationKind, &'static str)> {
    record
        .violations()
        .iter()
        .map(|violation| (violation.kind, violation.rule))
        .collect()
}

#[test]
fn the_hash_is_of_the_lower_cased_address() {
    // RFC 1321's own test value.
    assert_eq!(subscriber_hash("ABC"), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(subscriber_hash(" abc "), subscriber_hash("abc"));
}

#[test]
fn a_new_member_gets_the_status_if_new() {
    for (name, status) in [
        ("subscribed", MemberStatus::Subscribed),
        ("pending", MemberStatus::Pending),
    ] {
        let mut vendor = MailchimpVendor::from(account());
        let mut body = upsert();
        body["status_if_new"] = json!(name);
        let (answer, record) = put(&mut vendor, &send("PUT", "").json(&body));
        assert_eq!(answer.status, 200);
        let told = answer.body_json();
        assert_eq!(told["id"], json!(subscriber_hash(EMAIL)));
        assert_eq!(told["status"], name);
        assert_eq!(told["merge_fields"]["FNAME"], "Ada");
        assert_eq!(record.violations(), []);
        assert_eq!(record.received()[0].endpoint, "members");
        assert_eq!(record.received()[0].user.as_deref(), Some(EMAIL));
        let member = vendor.member("ada@lovelace.org").unwrap();
        assert_eq!(member.status, status);
        assert_eq!(member.details["language"], "en");
    }
}

#[test]
fn status_if_new_changes_nobody_who_is_there() {
    use MemberStatus::{Archived, Cleaned, Pending, Subscribed, Transactional, Unsubscribed};
    for status in [
        Subscribed,
        Pending,
        Unsubscribed,
        Cleaned,
        Transactional,
        Archived,
    ] {
        let mut vendor = with_member(status);
        let (answer, record) = put(&mut vendor, &send("PUT", "").json(&upsert()));
        assert_eq!(answer.status, 200, "{status:?}");
        assert_eq!(record.violations(), []);
        let member = vendor.member(EMAIL).unwrap();
        assert_eq!(member.status, status);
        assert_eq!(member.merge_fields["LNAME"], "Lovelace");
    }
}

#[test]
fn merge_fields_that_are_not_sent_stay() {
    let mut vendor = with_member(MemberStatus::Subscribed);
    put(&mut vendor, &send("PUT", "").json(&upsert()));
    let body = json!({"email_address": EMAIL, "merge_fields": {"FNAME": "Augusta"}});
    put(&mut vendor, &send("PUT", "").json(&body));
    let fields = &vendor.member(EMAIL).unwrap().merge_fields;
    assert_eq!(
        Value::Object(fields.clone()),
        json!({"FNAME": "Augusta", "LNAME": "Lovelace"})
    );
}

#[test]
fn who_left_is_not_subscribed_again() {
    let mut body = upsert();
    body["status"] = json!("subscribed");
    for status in [MemberStatus::Unsubscribed, MemberStatus::Cleaned] {
        let mut vendor = with_member(status);
        let (answer, record) = put(&mut vendor, &send("PUT", "").json(&body));
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body_json()["title"], "Member In Compliance State");
        assert_eq!(rules(&record), [(ViolationKind::Refused, "compliance")]);
        assert_eq!(vendor.member(EMAIL).unwrap().status, status);
    }
    let mut vendor = with_member(MemberStatus::Archived);
    let (answer, record) = put(&mut vendor, &send("PUT", "").json(&body));
    assert_eq!(answer.status, 200);
    assert_eq!(rules(&record), [(ViolationKind::Altered, "status")]);
    assert_eq!(
        vendor.member(EMAIL).unwrap().status,
        MemberStatus::Subscribed
    );
}

#[test]
fn a_forgotten_address_stays_forgotten() {
    let mut vendor = with_member(MemberStatus::Subscribed);
    let delete = send("POST", "/actions/delete-permanent");
    let (answer, record) = put(&mut vendor, &delete);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(record.received()[0].endpoint, "delete-permanent");
    assert_eq!(put(&mut vendor, &delete).0.status, 404);
    assert_eq!(put(&mut vendor, &send("GET", "")).0.status, 404);
    let (answer, record) = put(&mut vendor, &send("PUT", "").json(&upsert()));
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body_json()["title"],
        "Forgotten Email Not Subscribed"
    );
    assert_eq!(rules(&record), [(ViolationKind::Refused, "forgotten")]);
    let event = send("POST", "/events").json(&json!({"name": "bought"}));
    assert_eq!(put(&mut vendor, &event).0.status, 404);
}

#[test]
fn requests_that_mailchimp_refuses() {
    let body = upsert();
    let right = send("PUT", "").json(&body);
    let mut busy = right.clone();
    busy.in_flight = 11;
    let to = |target: &str| {
        Request::new("PUT", target)
            .json(&body)
            .basic("any", "key-us21")
    };
    let hash = subscriber_hash(EMAIL);
    let upper = format!("/3.0/lists/aud1/members/{}", hash.to_uppercase());
    let other = format!("/3.0/lists/aud2/members/{hash}");
    let foreign = format!("/3.0/lists/aud1/members/{}", subscriber_hash("x@y.z"));
    let cases = [
        (Request::new("PUT", &path("")).json(&body), 401, "api_key"),
        (right.clone().basic("key-us21", "wrong"), 401, "api_key"),
        (busy, 429, "connections"),
        (to(&other), 404, "audience"),
        (to("/3.0/lists/aud1/segments"), 404, "path"),
        (to("/2.0/lists/aud1"), 404, "path"),
        (to(&upper), 404, "hash"),
        (to(&format!("/3.0/lists/aud1/members/{EMAIL}")), 404, "hash"),
        (to(&foreign), 400, "hash"),
        (send("PATCH", "").json(&body), 405, "method"),
        (send("GET", "/events"), 405, "method"),
        (send("POST", "/notes").json(&body), 404, "path"),
        (right.clone().raw("{"), 400, "json"),
        (
            right.clone().header("content-type", "text/plain"),
            400,
            "content_type",
        ),
        (
            right.clone().header("content-encoding", "gzip"),
            400,
            "encoding",
        ),
    ];
    for (request, status, rule) in cases {
        let (answer, record) = put(&mut MailchimpVendor::from(account()), &request);
        assert_eq!(answer.status, status, "{rule}");
        assert_eq!(answer.body_json()["status"], status);
        let problem = answer
            .headers
            .iter()
            .any(|(_, value)| value.contains("problem+json"));
        assert!(problem, "{rule}");
        assert_eq!(rules(&record), [(ViolationKind::Refused, rule)]);
        assert_eq!(record.received(), []);
    }
    let mut tenth = right;
    tenth.in_flight = 10;
    assert_eq!(
        put(&mut MailchimpVendor::from(account()), &tenth).0.status,
        200
    );
}

/// One change to a right member, and the field that Mailchimp names.
#[test]
fn members_that_mailchimp_refuses() {
    let address = json!({"addr1": "1 St", "city": "London", "state": "LDN"});
    let cases = [
        ("/email_address", json!(null), "email_address"),
        ("/email_address", json!("ada"), "email_address"),
        (
            "/email_address",
            json!("a da@lovelace.org"),
            "email_address",
        ),
        ("/status_if_new", json!(null), "status_if_new"),
        ("/status_if_new", json!("archived"), "status_if_new"),
        ("/status", json!("gone"), "status"),
        ("/merge_fields", json!([]), "merge_fields"),
        ("/merge_fields/FNAME", json!(null), "merge_fields.FNAME"),
        ("/merge_fields/FNAME", json!(true), "merge_fields.FNAME"),
        ("/merge_fields/FNAME", json!(["Ada"]), "merge_fields.FNAME"),
        (
            "/merge_fields/ADDRESS",
            json!("1 St, London"),
            "merge_fields.ADDRESS",
        ),
        ("/merge_fields/ADDRESS", address, "ADDRESS"),
        ("/merge_fields/BIRTHDAY", json!("12/32"), "BIRTHDAY"),
        ("/merge_fields/BIRTHDAY", json!("1815-12-10"), "BIRTHDAY"),
        ("/merge_fields/PHONE", json!("call me"), "PHONE"),
        ("/merge_fields/AGE", json!("old"), "AGE"),
        ("/merge_fields/SINCE", json!("yesterday"), "SINCE"),
        ("/merge_fields/SITE", json!("example"), "SITE"),
        ("/language", json!(null), "language"),
        ("/ip_signup", json!("nowhere"), "ip_signup"),
        ("/location", json!({"latitude": 51.5}), "location"),
        (
            "/location",
            json!({"latitude": 91, "longitude": 0}),
            "location",
        ),
        ("/email_type", json!("pdf"), "email_type"),
        ("/vip", json!("yes"), "vip"),
        ("/tags", json!([7]), "tags"),
        ("/timestamp_signup", json!("2024"), "timestamp_signup"),
    ];
    for (pointer, value, field) in cases {
        let mut body = upsert();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        let mut vendor = MailchimpVendor::from(account());
        let (answer, record) = put(&mut vendor, &send("PUT", "").json(&body));
        assert_eq!(answer.status, 400, "{pointer}");
        let told = answer.body_json();
        assert_eq!(told["title"], "Invalid Resource");
        assert_eq!(told["errors"][0]["field"], field, "{pointer}");
        assert_eq!(record.violations().len(), 1, "{:?}", record.violations());
        assert_eq!(vendor.member(EMAIL), None);
    }
    for absent in ["email_address", "status_if_new"] {
        let mut body = upsert();
        body.as_object_mut().unwrap().remove(absent);
        let (answer, _) = put(&mut account().into(), &send("PUT", "").json(&body));
        assert_eq!(answer.status, 400, "{absent}");
    }
}

#[test]
fn merge_values_that_mailchimp_takes() {
    let mut body = upsert();
    body["merge_fields"] = json!({
        "FNAME": 7, "LNAME": "", "PHONE": "+44 (0)20 7946-0000", "BIRTHDAY": "02/29", "AGE": "36",
        "SINCE": "2024-05-06", "SITE": "https://lovelace.org",
        "ADDRESS": {"addr1": "1 St", "city": "London", "state": "LDN", "zip": "N1", "country": "GB"},
    });
    let (answer, record) = put(&mut account().into(), &send("PUT", "").json(&body));
    assert_eq!(
        (answer.status, rules(&record)),
        (200, vec![]),
        "{}",
        answer.body_json()
    );
}

#[test]
fn what_mailchimp_ignores_is_a_violation() {
    let cases = [
        ("/merge_fields/NOPE", json!("x"), "merge_field"),
        (
            "/merge_fields/FNAME",
            json!("x".repeat(256)),
            "merge_length",
        ),
        ("/first_name", json!("Ada"), "field"),
        ("/status", json!("unsubscribed"), "status"),
    ];
    for (pointer, value, rule) in cases {
        let mut body = upsert();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        let (answer, record) = put(&mut account().into(), &send("PUT", "").json(&body));
        assert_eq!(answer.status, 200, "{pointer}");
        assert_eq!(
            rules(&record),
            [(ViolationKind::Altered, rule)],
            "{pointer}"
        );
    }
    for query in ["?skip_merge_validation=1", "?skip_duplicate_check=true"] {
        let (_, record) = put(&mut account().into(), &send("PUT", query).json(&upsert()));
        assert_eq!(
            rules(&record),
            [(ViolationKind::Altered, "query")],
            "{query}"
        );
    }
}

#[test]
fn a_required_merge_field_may_be_skipped_when_asked() {
    let account = account().merge_field(MergeField::new("PHONE", MergeKind::Phone).required());
    for (query, status) in [("", 400), ("?skip_merge_validation=true", 200)] {
        let mut vendor = MailchimpVendor::from(account.clone());
        let (answer, _) = put(&mut vendor, &send("PUT", query).json(&upsert()));
        assert_eq!(answer.status, status, "{query}");
    }
    let mut wrong = upsert();
    wrong["merge_fields"]["PHONE"] = json!("call me");
    let request = send("PUT", "?skip_merge_validation=true").json(&wrong);
    assert_eq!(
        put(&mut account.into(), &request).0.status,
        400,
        "only absence is skipped"
    );
}

#[test]
fn archiving_follows_the_status() {
    use MemberStatus::{Archived, Cleaned, Pending, Subscribed, Unsubscribed};
    for (status, answered) in [
        (Subscribed, 204),
        (Unsubscribed, 204),
        (Archived, 405),
        (Pending, 405),
        (Cleaned, 405),
    ] {
        let mut vendor = with_member(status);
        let (answer, _) = put(&mut vendor, &send("DELETE", ""));
        assert_eq!(answer.status, answered, "{status:?}");
        let after = vendor.member(EMAIL).unwrap().status;
        assert_eq!(after, if answered == 204 { Archived } else { status });
    }
    let (answer, record) = put(&mut account().into(), &send("DELETE", ""));
    assert_eq!(answer.status, 404);
    assert_eq!(rules(&record), [(ViolationKind::Refused, "not_a_member")]);
}

#[test]
fn events_belong_to_members() {
    let mut vendor = with_member(MemberStatus::Subscribed);
    let body = json!({
        "name": "bought_it-2", "properties": {"price": "12.5"},
        "occurred_at": "2024-05-06T07:08:09+02:00",
    });
    let request = send("POST", "/events").json(&body);
    let (answer, record) = put(&mut vendor, &request);
    assert_eq!((answer.status, rules(&record)), (204, vec![]));
    assert_eq!(
        vendor.member(EMAIL).unwrap().events[0].properties["price"],
        "12.5"
    );
    // There is no id to tell a repetition by: it is kept, and counted.
    let (_, record) = put(&mut vendor, &request);
    assert_eq!(record.duplicates().len(), 1);
    assert_eq!(vendor.member(EMAIL).unwrap().events.len(), 2);
    let (answer, record) = put(&mut account().into(), &request);
    assert_eq!(answer.status, 404);
    assert_eq!(rules(&record), [(ViolationKind::Refused, "not_a_member")]);
}

#[test]
fn events_that_mailchimp_refuses() {
    for body in [
        json!({}),
        json!({"name": "x"}),
        json!({"name": "x".repeat(31)}),
        json!({"name": "bought it"}),
        json!({"name": "gekauft_für"}),
        json!({"name": "ok", "properties": {"price": 12}}),
        json!({"name": "ok", "properties": ["x"]}),
        json!({"name": "ok", "occurred_at": "2024-05-06T07:08:09"}),
        json!({"name": "ok", "occurred_at": 1_714_979_289}),
        json!({"name": "ok", "is_syncing": "yes"}),
    ] {
        let mut vendor = with_member(MemberStatus::Subscribed);
        let (answer, record) = put(&mut vendor, &send("POST", "/events").json(&body));
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(
            rules(&record),
            [(ViolationKind::Refused, "event")],
            "{body}"
        );
        assert!(vendor.member(EMAIL).unwrap().events.is_empty());
    }
    let mut vendor = with_member(MemberStatus::Subscribed);
    let request = send("POST", "/events").json(&json!({"name": "ok", "value": 1}));
    assert_eq!(
        rules(&put(&mut vendor, &request).1),
        [(ViolationKind::Altered, "field")]
    );
}

#[test]
fn tags_come_and_go() {
    let mut vendor = with_member(MemberStatus::Subscribed);
    let tag = |name: &str, status: &str| {
        send("POST", "/tags").json(&json!({"tags": [{"name": name, "status": status}]}))
    };
    for request in [tag("a", "active"), tag("b", "active"), tag("a", "inactive")] {
        let (answer, record) = put(&mut vendor, &request);
        assert_eq!((answer.status, rules(&record)), (204, vec![]));
    }
    assert_eq!(
        vendor
            .member(EMAIL)
            .unwrap()
            .tags
            .iter()
            .collect::<Vec<_>>(),
        ["b"]
    );
    let told = put(&mut vendor, &send("GET", "")).0.body_json();
    assert_eq!(told["tags"], json!([{"name": "b"}]));
    for body in [
        json!({}),
        json!({"tags": [{"name": "x"}]}),
        json!({"tags": ["x"]}),
    ] {
        let (answer, record) = put(&mut vendor, &send("POST", "/tags").json(&body));
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(rules(&record), [(ViolationKind::Refused, "tags")]);
    }
    assert_eq!(
        put(&mut account().into(), &tag("a", "active")).0.status,
        404
    );
}

#[test]
fn limits_are_those_of_the_documentation() {
    for (chars, rule) in [(255, None), (256, Some("merge_length"))] {
        let mut body = upsert();
        body["merge_fields"]["FNAME"] = json!("\u{e9}".repeat(chars));
        let (answer, record) = put(&mut account().into(), &send("PUT", "").json(&body));
        assert_eq!(answer.status, 200, "{chars}");
        let rules: Vec<_> = record.violations().iter().map(|v| v.rule).collect();
        assert_eq!(rules, Vec::from_iter(rule), "{chars}");
    }
    for (chars, status) in [(1, 400), (2, 204), (30, 204), (31, 400)] {
        let mut vendor = with_member(MemberStatus::Subscribed);
        let event = json!({"name": "n".repeat(chars)});
        let (answer, record) = put(&mut vendor, &send("POST", "/events").json(&event));
        assert_eq!(answer.status, status, "{chars}");
        assert_eq!(record.received().is_empty(), status != 204, "{chars}");
    }
}

//! Segment: the Tracking API, and the Public API's regulations.
//!
//! - Tracking: <https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/>
//! - The fields of a call: <https://segment.com/docs/connections/spec/common/>
//! - Deletion: <https://docs.segmentapis.com/tag/Deletion-and-Suppression>

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use analytics_spec::Kind;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{
    checks::{filled, is_utc_milliseconds, kind_of},
    stage::{Staged, text},
};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

/// Events of one batch that Segment takes; the rest is lost behind a 200.
const BATCH_EVENTS: usize = 2_500;
/// Bytes of one batch. "500 KB", read in the stricter way.
const BATCH_BYTES: usize = 500_000;
/// Bytes of one event, 32 KB as Segment's own libraries count them.
const EVENT_BYTES: usize = 32 * 1024;
/// Properties of one event.
const EVENT_PROPERTIES: usize = 10_000;
/// Characters of a `messageId`.
const MESSAGE_ID_LENGTH: usize = 100;
/// Ids of one regulation.
const REGULATION_IDS: usize = 5_000;
/// Regulations in a minute.
const REGULATIONS_A_MINUTE: usize = 600;

const REGULATION_TYPES: [&str; 6] = [
    "SUPPRESS_WITH_DELETE",
    "DELETE_ONLY",
    "SUPPRESS_ONLY",
    "UNSUPPRESS",
    "DELETE_INTERNAL",
    "SUPPRESS_WITH_DELETE_INTERNAL",
];

/// A Segment source, on loopback.
pub type ScriptedSegment = Scripted<SegmentVendor>;

/// The account that a [`ScriptedSegment`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentAccount {
    /// The write key of the source.
    pub write_key: String,
    /// The token of the Public API; without one every regulation is refused.
    pub public_api_token: Option<String>,
    /// The sources of the workspace, for regulations of one source. Empty: any.
    pub source_ids: Vec<String>,
    /// The answer to a request that is too large. Default: 413. Segment has
    /// documented 400 and its libraries are prepared for both.
    pub oversize_status: u16,
}

impl SegmentAccount {
    /// A source with this write key, and no Public API.
    pub fn new(write_key: impl Into<String>) -> Self {
        Self {
            write_key: write_key.into(),
            public_api_token: None,
            source_ids: Vec::new(),
            oversize_status: 413,
        }
    }

    /// The same account with a Public API token.
    #[must_use]
    pub fn public_api_token(mut self, token: impl Into<String>) -> Self {
        self.public_api_token = Some(token.into());
        self
    }

    /// The same account with one more source.
    #[must_use]
    pub fn source_id(mut self, id: impl Into<String>) -> Self {
        self.source_ids.push(id.into());
        self
    }

    /// The same account, with this answer to what is too large.
    #[must_use]
    pub fn oversize_status(mut self, status: u16) -> Self {
        self.oversize_status = status;
        self
    }
}

/// Segment's rules.
#[derive(Debug)]
pub struct SegmentVendor {
    account: SegmentAccount,
    seen: Remembered<String, ()>,
    regulations: u64,
    regulated_at: VecDeque<SystemTime>,
}

impl From<SegmentAccount> for SegmentVendor {
    fn from(account: SegmentAccount) -> Self {
        Self {
            account,
            seen: Remembered::default(),
            regulations: 0,
            regulated_at: VecDeque::new(),
        }
    }
}

impl Staged for SegmentVendor {
    const NAME: &'static str = "segment";

    fn staged() -> Self {
        SegmentAccount::new("sandbox-write-key")
            .public_api_token("sandbox-public-api-token")
            .into()
    }

    fn keys(base_url: &str) -> String {
        format!(
            r#"write_key = "sandbox-write-key"
public_api_token = "sandbox-public-api-token"   # for `delete`
base_url = "{base_url}"
public_api_base_url = "{base_url}"
"#
        )
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let body = &item.body;
        let user = item.user.as_deref().unwrap_or_default();
        if item.endpoint == "regulations" {
            return Some((Kind::Delete, format!("regulation of {user}")));
        }
        let kind = Kind::from_key(&item.endpoint)?;
        let words = match kind {
            Kind::Track => text(body, "/event").to_owned(),
            Kind::Page | Kind::Screen => text(body, "/name").to_owned(),
            Kind::Group => format!("group {}", text(body, "/groupId")),
            Kind::Identify | Kind::Alias | Kind::Delete => format!("{kind} {user}"),
        };
        Some((kind, words))
    }
}

impl Vendor for SegmentVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        if let Some(call) = request.path.strip_prefix("/v1/") {
            return match call {
                "batch" => self.batch(request, record),
                "identify" | "track" | "page" | "screen" | "group" | "alias" => {
                    self.single(call, request, record)
                }
                _ => not_found(request, record),
            };
        }
        match request.path.strip_prefix("/regulations") {
            Some("") => self.regulate(None, request, record),
            Some(rest) => match rest.strip_prefix("/sources/") {
                Some(source) if !source.is_empty() && !source.contains('/') => {
                    self.regulate(Some(source), request, record)
                }
                _ => not_found(request, record),
            },
            None => not_found(request, record),
        }
    }
}

/// A batch whose events are kept as they were written, to be measured.
#[derive(Deserialize)]
struct RawBatch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

impl SegmentVendor {
    fn batch(&mut self, request: &Request, record: &mut Record) -> Answer {
        let body = match self.tracking_body(request, BATCH_BYTES, record) {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let Ok(RawBatch { batch }) = serde_json::from_slice::<RawBatch<'_>>(&request.body) else {
            record.refused("batch", None, "a batch is an object with an array `batch`");
            return refusal(400, "batch must be an array");
        };
        for (key, value) in &body {
            check_batch_field(key, value, record);
        }
        if batch.is_empty() {
            record.altered("batch_empty", None, "a batch without events");
        }
        for (place, raw) in batch.into_iter().enumerate() {
            let place_name = place.to_string();
            if place >= BATCH_EVENTS {
                record.dropped(
                    "batch_events",
                    Some(&place_name),
                    format!("events beyond {BATCH_EVENTS} of a batch are lost behind a 200"),
                );
                continue;
            }
            match serde_json::from_str(raw.get()) {
                Ok(Value::Object(event)) => self.event(None, event, raw.get().len(), record),
                _ => record.dropped("event", Some(&place_name), "an event is an object"),
            }
        }
        success()
    }

    fn single(&mut self, call: &str, request: &Request, record: &mut Record) -> Answer {
        match self.tracking_body(request, EVENT_BYTES, record) {
            Ok(event) => {
                self.event(Some(call), event, request.body.len(), record);
                success()
            }
            Err(answer) => answer,
        }
    }

    /// What holds for every tracking request: method, key, type, size, JSON.
    fn tracking_body(
        &self,
        request: &Request,
        limit: usize,
        record: &mut Record,
    ) -> Result<Map<String, Value>, Answer> {
        if request.method != "POST" {
            record.refused(
                "method",
                None,
                format!("{} instead of POST", request.method),
            );
            return Err(refusal(405, "method not allowed").header("allow", "POST"));
        }
        if let Some(count) = request.header_value("x-retry-count")
            && !count.parse::<u32>().is_ok_and(|count| count > 0)
        {
            record.altered(
                "retry_count",
                None,
                format!("X-Retry-Count is 1, 2, ... or absent, not {count:?}"),
            );
        }
        // The password is empty: `write_key:`.
        let key = request.basic_credentials();
        if key != Some((self.account.write_key.clone(), String::new())) {
            let reason = match key {
                None => "no Basic credentials",
                Some((_, password)) if !password.is_empty() => "the password must be empty",
                Some(_) => "the write key is not this source's",
            };
            record.refused("write_key", None, reason);
            return Err(refusal(401, "invalid write key"));
        }
        if request.media_type().as_deref() != Some("application/json") {
            record.refused(
                "content_type",
                None,
                "the content type must be application/json",
            );
            return Err(refusal(400, "content type must be application/json"));
        }
        if request.body.len() > limit {
            let bytes = request.body.len();
            record.refused(
                "request_bytes",
                None,
                format!("{bytes} bytes, {limit} are allowed"),
            );
            return Err(refusal(self.account.oversize_status, "payload too large"));
        }
        match request.body_json() {
            Some(Value::Object(body)) => {
                let written = body.get("writeKey").and_then(Value::as_str);
                if written.is_some_and(|written| written != self.account.write_key) {
                    record.refused("write_key", None, "`writeKey` is not this source's");
                    return Err(refusal(401, "invalid write key"));
                }
                Ok(body)
            }
            _ => {
                record.refused("json", None, "the body is not a JSON object");
                Err(refusal(400, "malformed JSON"))
            }
        }
    }

    /// One event: checked, recognised if it comes again, kept.
    fn event(
        &mut self,
        call: Option<&str>,
        event: Map<String, Value>,
        bytes: usize,
        record: &mut Record,
    ) {
        let id = filled(&event, "messageId").map(str::to_owned);
        let item = id.as_deref();
        let kind = match (call, event.get("type").and_then(Value::as_str)) {
            (Some(call), None) => call.to_owned(),
            (Some(call), Some(kind)) if call == kind => kind.to_owned(),
            (None, Some(kind)) => kind.to_owned(),
            (Some(call), Some(kind)) => {
                return record.dropped("type", item, format!("a {kind} sent to /v1/{call}"));
            }
            (None, None) => return record.dropped("type", item, "an event needs a `type`"),
        };
        if let Err((rule, reason)) = deliverable(&kind, &event, bytes) {
            return record.dropped(rule, item, reason);
        }
        bent(&kind, &event, record, item);
        if let Some(id) = &id {
            if self.seen.contains(id) {
                return record.duplicate(id.clone());
            }
            self.seen.insert(id.clone(), (), record.capacity());
        }
        let user = filled(&event, "userId").or_else(|| filled(&event, "anonymousId"));
        let user = user.map(str::to_owned);
        let received = Received::new(kind, Value::Object(event));
        record.accept(Received {
            id,
            user,
            ..received
        });
    }

    /// `POST /regulations`, for the workspace or one source.
    fn regulate(&mut self, source: Option<&str>, request: &Request, record: &mut Record) -> Answer {
        if request.method != "POST" {
            record.refused(
                "method",
                None,
                format!("{} instead of POST", request.method),
            );
            return public_error(405, "method-not-allowed", "method not allowed", None);
        }
        // The write key has no say here, and the token must be there at all.
        let token = self.account.public_api_token.as_deref();
        if token.is_none() || request.bearer_token() != token {
            record.refused("public_api_token", None, "no or a wrong Public API token");
            return public_error(401, "unauthorized", "invalid access token", None);
        }
        if self.is_regulating_too_often(request.at) {
            record.refused(
                "regulation_rate",
                None,
                "more than 600 regulations in a minute",
            );
            let reset = jiff::Timestamp::try_from(request.at + Duration::from_secs(60));
            return public_error(429, "too-many-requests", "rate limit exceeded", None).header(
                "x-ratelimit-reset",
                reset.map(|at| at.to_string()).unwrap_or_default(),
            );
        }
        if let Some(source) = source
            && !self.account.source_ids.is_empty()
            && !self.account.source_ids.iter().any(|known| known == source)
        {
            record.refused("source", Some(source), "no such source");
            return public_error(404, "not-found", "source not found", Some("sourceId"));
        }
        if request.encoding().is_some()
            || request.media_type().as_deref() != Some("application/json")
        {
            record.refused(
                "content_type",
                None,
                "regulations are plain application/json",
            );
            return public_error(415, "unsupported-media-type", "send application/json", None);
        }
        let Some(Value::Object(body)) = request.body_json() else {
            record.refused("json", None, "the body is not a JSON object");
            return public_error(400, "bad-request", "malformed JSON", None);
        };
        if let Err((field, reason)) = regulation(&body) {
            record.refused("regulation", Some(field), reason.clone());
            return public_error(422, "validation-failure", &reason, Some(field));
        }
        self.regulations += 1;
        let id = format!("regulation-{}", self.regulations);
        let user = body
            .get("subjectIds")
            .and_then(|ids| ids.get(0))
            .and_then(Value::as_str)
            .map(str::to_owned);
        let received = Received::new("regulations", Value::Object(body)).id(id.clone());
        record.accept(Received { user, ..received });
        Answer::json(200, &json!({ "data": { "regulateId": id } }))
    }

    fn is_regulating_too_often(&mut self, now: SystemTime) -> bool {
        let minute = Duration::from_secs(60);
        while self
            .regulated_at
            .front()
            .is_some_and(|at| now.duration_since(*at).is_ok_and(|age| age >= minute))
        {
            self.regulated_at.pop_front();
        }
        if self.regulated_at.len() >= REGULATIONS_A_MINUTE {
            return true;
        }
        self.regulated_at.push_back(now);
        false
    }
}

/// Segment answers 200 to every well-formed request.
fn success() -> Answer {
    Answer::json(200, &json!({ "success": true }))
}

fn refusal(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "success": false, "message": message }))
}

fn not_found(request: &Request, record: &mut Record) -> Answer {
    record.refused("path", None, format!("Segment has no {}", request.path));
    Answer::text(404, "not found")
}

fn public_error(status: u16, kind: &str, message: &str, field: Option<&str>) -> Answer {
    let mut error = json!({ "type": kind, "message": message });
    if let (Some(error), Some(field)) = (error.as_object_mut(), field) {
        error.insert("field".to_owned(), json!(field));
    }
    Answer::json(status, &json!({ "errors": [error] }))
}

fn check_batch_field(key: &str, value: &Value, record: &mut Record) {
    match key {
        "sentAt" => {
            if !value.as_str().is_some_and(is_utc_milliseconds) {
                record.altered(
                    "sent_at",
                    None,
                    format!("`sentAt` is {value}, not UTC with milliseconds"),
                );
            }
        }
        "batch" | "writeKey" | "messageId" => {}
        "context" | "integrations" if value.is_object() => {}
        _ => record.altered(
            "batch_field",
            None,
            format!("`{key}` as {} means nothing in a batch", kind_of(value)),
        ),
    }
}

/// What Segment answers 200 to and then loses.
fn deliverable(
    kind: &str,
    event: &Map<String, Value>,
    bytes: usize,
) -> Result<(), (&'static str, String)> {
    if bytes > EVENT_BYTES {
        return Err((
            "event_bytes",
            format!("{bytes} bytes, {EVENT_BYTES} are allowed"),
        ));
    }
    let properties = ["properties", "traits"]
        .iter()
        .filter_map(|key| event.get(*key))
        .map(count_keys)
        .sum::<usize>();
    if properties > EVENT_PROPERTIES {
        return Err((
            "event_properties",
            format!("{properties} properties, {EVENT_PROPERTIES} are allowed"),
        ));
    }
    if let Some(id) = event.get("messageId") {
        match id.as_str() {
            None => return Err(("message_id", format!("`messageId` is {}", kind_of(id)))),
            Some(id) if id.chars().count() > MESSAGE_ID_LENGTH => {
                return Err((
                    "message_id_length",
                    format!("`messageId` has more than {MESSAGE_ID_LENGTH} characters"),
                ));
            }
            Some(_) => {}
        }
    }
    // A number as user id becomes another user in some destinations.
    for key in ["userId", "anonymousId", "groupId", "previousId", "event"] {
        if let Some(value) = event.get(key)
            && !value.is_string()
            && !value.is_null()
        {
            return Err((
                "id_type",
                format!("`{key}` is {}, not a string", kind_of(value)),
            ));
        }
    }
    let required: &[&str] = match kind {
        "identify" | "page" | "screen" => &[],
        "track" => &["event"],
        "group" => &["groupId"],
        "alias" => &["previousId", "userId"],
        _ => return Err(("type", format!("Segment has no {kind:?} event"))),
    };
    for key in required {
        if filled(event, key).is_none() {
            return Err(("required", format!("a {kind} needs `{key}`")));
        }
    }
    if kind != "alias"
        && filled(event, "userId").is_none()
        && filled(event, "anonymousId").is_none()
    {
        return Err(("identity", "neither `userId` nor `anonymousId`".to_owned()));
    }
    Ok(())
}

/// What Segment takes, but not as it was meant.
fn bent(kind: &str, event: &Map<String, Value>, record: &mut Record, item: Option<&str>) {
    if !event.contains_key("messageId") {
        record.altered(
            "message_id_missing",
            item,
            "without `messageId` Segment makes one up, and a retry is a second event",
        );
    } else if item.is_none() {
        record.altered("message_id_missing", item, "`messageId` is empty");
    }
    match event.get("timestamp") {
        None => record.altered(
            "timestamp_missing",
            item,
            "without `timestamp` the event happens when Segment hears of it",
        ),
        Some(_) => check_time(event, "timestamp", record, item),
    }
    check_time(event, "sentAt", record, item);
    check_time(event, "originalTimestamp", record, item);
    let own: &[&str] = match kind {
        "identify" => &["traits"],
        "track" => &["event", "properties"],
        "page" | "screen" => &["name", "category", "properties"],
        "group" => &["groupId", "traits"],
        _ => &["previousId"],
    };
    for (key, value) in event {
        if value.is_null() {
            record.altered(
                "null",
                item,
                format!("`{key}` is null: absent fields are left out"),
            );
            continue;
        }
        let fits = match key.as_str() {
            "type" | "messageId" | "userId" | "anonymousId" | "timestamp" | "sentAt"
            | "originalTimestamp" | "writeKey" => true,
            "context" | "integrations" => value.is_object(),
            "traits" | "properties" => own.contains(&key.as_str()) && value.is_object(),
            other => own.contains(&other) && value.is_string(),
        };
        if !fits {
            record.altered(
                "field",
                item,
                format!("`{key}` as {} means nothing in a {kind}", kind_of(value)),
            );
        }
    }
    if let Some(Value::Object(context)) = event.get("context") {
        check_context(context, record, item);
    }
}

fn check_time(event: &Map<String, Value>, key: &str, record: &mut Record, item: Option<&str>) {
    if let Some(value) = event.get(key)
        && !value.is_null()
        && !value.as_str().is_some_and(is_utc_milliseconds)
    {
        record.altered(
            "timestamp_form",
            item,
            format!("`{key}` is {value}, not UTC with milliseconds and Z"),
        );
    }
}

/// The context's keys that Segment gives a meaning:
/// <https://segment.com/docs/connections/spec/common/#context>.
fn check_context(context: &Map<String, Value>, record: &mut Record, item: Option<&str>) {
    for (key, value) in context {
        let fits = match key.as_str() {
            // A person's traits are the sender's own, nulls included.
            "traits" => {
                if !value.is_object() {
                    record.altered("context", item, "`context.traits` is not an object");
                }
                continue;
            }
            "active" => value.is_boolean(),
            "ip" => value
                .as_str()
                .is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
            "locale" | "timezone" | "userAgent" | "groupId" | "channel" => value.is_string(),
            "app" | "campaign" | "device" | "library" | "location" | "network" | "os" | "page"
            | "referrer" | "screen" => value.is_object(),
            // Unknown keys are passed on, but Segment's own are camelCase.
            other => !other.contains('_'),
        };
        if !fits && !value.is_null() {
            record.altered(
                "context",
                item,
                format!("`context.{key}` as {} is lost on Segment", kind_of(value)),
            );
        }
        if let Value::Object(inner) = value
            && is_known_context_object(key)
            && let Some(wrong) = inner.keys().find(|inner| inner.contains('_'))
        {
            record.altered(
                "context",
                item,
                format!("`context.{key}.{wrong}`: Segment's names are camelCase"),
            );
        }
        if has_null(value) {
            record.altered("null", item, format!("a null in `context.{key}`"));
        }
    }
}

fn is_known_context_object(key: &str) -> bool {
    // A campaign may have parameters of its own, whatever their names.
    matches!(
        key,
        "app"
            | "device"
            | "library"
            | "location"
            | "network"
            | "os"
            | "page"
            | "referrer"
            | "screen"
    )
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

fn count_keys(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.len() + map.values().map(count_keys).sum::<usize>(),
        Value::Array(values) => values.iter().map(count_keys).sum(),
        _ => 0,
    }
}

fn regulation(body: &Map<String, Value>) -> Result<(), (&'static str, String)> {
    let kind = body.get("regulationType").and_then(Value::as_str);
    if !kind.is_some_and(|kind| REGULATION_TYPES.contains(&kind)) {
        return Err((
            "regulationType",
            format!("must be one of {REGULATION_TYPES:?}"),
        ));
    }
    let subject = body.get("subjectType").and_then(Value::as_str);
    if !matches!(subject, Some("USER_ID" | "OBJECT_ID")) {
        return Err(("subjectType", "must be USER_ID or OBJECT_ID".to_owned()));
    }
    let ids = body.get("subjectIds").and_then(Value::as_array);
    let Some(ids) = ids.filter(|ids| (1..=REGULATION_IDS).contains(&ids.len())) else {
        return Err(("subjectIds", format!("must hold 1 to {REGULATION_IDS} ids")));
    };
    if !ids
        .iter()
        .all(|id| id.as_str().is_some_and(|id| !id.is_empty()))
    {
        return Err(("subjectIds", "must hold non-empty strings".to_owned()));
    }
    let known = ["regulationType", "subjectType", "subjectIds"];
    if body.keys().any(|key| !known.contains(&key.as_str())) {
        return Err((
            "body",
            "has a field that a regulation does not have".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;

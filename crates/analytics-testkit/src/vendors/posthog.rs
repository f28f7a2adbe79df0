//! PostHog: the capture API's batches, and the deletion of persons.
//!
//! - Events: <https://posthog.com/docs/api/capture>
//! - What is lost behind a 200: <https://posthog.com/docs/data/ingestion-warnings>
//! - Who is one person: <https://posthog.com/docs/product-analytics/identify>
//! - Deletion: <https://posthog.com/docs/api/persons>

use std::net::IpAddr;

use analytics_spec::Kind;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    checks::{filled, is_rfc3339, is_uuid, kind_of},
    stage::{Staged, text},
};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

/// Bytes that a request's body has to stay below: 20 MB.
const BATCH_BYTES: usize = 20_000_000;
/// Bytes of one event: 1 MB.
const EVENT_BYTES: usize = 1_000_000;
/// Characters of a `distinct_id`.
const DISTINCT_ID_LENGTH: usize = 200;
/// Characters of an event's name.
const NAME_LENGTH: usize = 200;
/// Characters of a group's type and of its key.
const GROUP_LENGTH: usize = 400;
/// Ids of one deletion.
const DELETIONS: usize = 1_000;

/// Ids that PostHog merges nobody with, in any case.
const ILLEGAL: [&str; 10] = [
    "anonymous",
    "guest",
    "distinctid",
    "distinct_id",
    "id",
    "not_authenticated",
    "email",
    "undefined",
    "true",
    "false",
];
/// The same, in this case alone.
const ILLEGAL_AS_WRITTEN: [&str; 6] = ["[object Object]", "NaN", "None", "none", "null", "0"];

/// Events that are lost if they are to be taken without a profile.
const OF_PROFILES: [&str; 4] = [
    "$identify",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
];

/// A PostHog project, on loopback.
pub type ScriptedPosthog = Scripted<PosthogVendor>;

/// The project that a [`ScriptedPosthog`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PosthogAccount {
    /// The project's API key.
    pub project_api_key: String,
    /// The project's id and a personal API key; without them every deletion is
    /// refused.
    pub deletion: Option<(String, String)>,
    /// Whether the project's quota of events is used up: they are lost.
    pub is_over_quota: bool,
}

impl PosthogAccount {
    /// A project with this API key, and nobody who may delete.
    pub fn new(project_api_key: impl Into<String>) -> Self {
        Self {
            project_api_key: project_api_key.into(),
            deletion: None,
            is_over_quota: false,
        }
    }

    /// The same project, with its id and a personal API key that may delete.
    #[must_use]
    pub fn deletion(mut self, id: impl Into<String>, personal_api_key: impl Into<String>) -> Self {
        self.deletion = Some((id.into(), personal_api_key.into()));
        self
    }

    /// The same project, with its quota used up.
    #[must_use]
    pub fn over_quota(mut self) -> Self {
        self.is_over_quota = true;
        self
    }
}

/// A person, under however many ids.
#[derive(Clone, Debug, Default)]
struct Person {
    is_identified: bool,
    properties: Map<String, Value>,
}

/// PostHog's rules, and whom it knows.
#[derive(Debug)]
pub struct PosthogVendor {
    account: PosthogAccount,
    seen: Remembered<String, ()>,
    /// Which person each id is.
    ids: Remembered<String, u64>,
    persons: Remembered<u64, Person>,
    next: u64,
}

impl From<PosthogAccount> for PosthogVendor {
    fn from(account: PosthogAccount) -> Self {
        Self {
            account,
            seen: Remembered::default(),
            ids: Remembered::default(),
            persons: Remembered::default(),
            next: 0,
        }
    }
}

impl Staged for PosthogVendor {
    const NAME: &'static str = "posthog";

    fn staged() -> Self {
        PosthogAccount::new("phc_sandbox-project-api-key")
            .deletion("1001", "phx_sandbox-personal-api-key")
            .into()
    }

    fn keys(base_url: &str) -> String {
        format!(
            r#"project_api_key = "phc_sandbox-project-api-key"
project_id = "1001"                                  # for `delete`
personal_api_key = "phx_sandbox-personal-api-key"    # for `delete`
base_url = "{base_url}"
"#
        )
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let body = &item.body;
        let user = item.user.as_deref().unwrap_or_default();
        if item.endpoint == "bulk_delete" {
            return Some((Kind::Delete, format!("deletion of {user}")));
        }
        Some(match text(body, "/event") {
            "$identify" | "$set" => (Kind::Identify, format!("identify {user}")),
            "$groupidentify" => (
                Kind::Group,
                format!("group {}", text(body, "/properties/$group_key")),
            ),
            "$create_alias" => (
                Kind::Alias,
                format!("{} is {user}", text(body, "/properties/alias")),
            ),
            "$pageview" => (Kind::Page, text(body, "/properties/name").to_owned()),
            "$screen" => (
                Kind::Screen,
                text(body, "/properties/$screen_name").to_owned(),
            ),
            event => (Kind::Track, event.to_owned()),
        })
    }
}

impl Scripted<PosthogVendor> {
    /// The properties of the person who has this id, if there is one.
    pub fn person(&self, distinct_id: &str) -> Option<Map<String, Value>> {
        self.with_vendor(|vendor| {
            let person = vendor.ids.get(&distinct_id.to_owned())?;
            Some(vendor.persons.get(person)?.properties.clone())
        })
    }

    /// Whether two ids are one person's.
    pub fn is_one_person(&self, one: &str, other: &str) -> bool {
        self.with_vendor(|vendor| {
            let person = |id: &str| vendor.ids.get(&id.to_owned()).copied();
            person(one).is_some() && person(one) == person(other)
        })
    }
}

impl Vendor for PosthogVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        let deletion = request
            .path
            .strip_prefix("/api/projects/")
            .and_then(|rest| rest.strip_suffix("/persons/bulk_delete/"));
        if deletion.is_none() && !matches!(request.path.as_str(), "/batch" | "/batch/") {
            record.refused("path", None, format!("PostHog has no {}", request.path));
            return Answer::text(404, "not found");
        }
        if request.method != "POST" {
            record.refused("method", None, format!("{} instead of POST", request.method));
            return Answer::text(405, "method not allowed").header("allow", "POST");
        }
        match deletion {
            Some(project) => self.delete(project, request, record),
            None => self.batch(request, record),
        }
    }
}

/// A batch whose events are kept as they were written, to be measured.
#[derive(Deserialize)]
struct RawBatch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

impl PosthogVendor {
    fn batch(&mut self, request: &Request, record: &mut Record) -> Answer {
        if request.body.len() >= BATCH_BYTES {
            let bytes = request.body.len();
            record.refused("request_bytes", None, format!("{bytes} bytes"));
            return Answer::text(413, "maximum event size exceeded");
        }
        if request.media_type().as_deref() != Some("application/json") {
            record.refused("content_type", None, "must be application/json");
            return Answer::text(400, "failed to decode request: expected JSON");
        }
        let Some(Value::Object(body)) = request.body_json() else {
            record.refused("json", None, "the body is not a JSON object");
            return Answer::text(400, "failed to parse request");
        };
        let Ok(RawBatch { batch }) = serde_json::from_slice::<RawBatch<'_>>(&request.body) else {
            record.refused("batch", None, "a batch is an object with an array `batch`");
            return Answer::text(400, "failed to hydrate events from request");
        };
        // Only the form of a key is looked at before the answer.
        let key = match body.get("api_key").and_then(Value::as_str) {
            None | Some("") => {
                record.refused("api_key", None, "no `api_key`");
                return Answer::text(401, "event submitted without an api_key");
            }
            Some(key) if key.starts_with("phx_") => {
                record.refused("api_key", None, "a personal API key");
                return Answer::text(401, "API key is not valid: personal_api_key");
            }
            Some(key) => key,
        };
        if batch.is_empty() {
            record.refused("batch_empty", None, "a batch without events");
            return Answer::text(400, "request holds no event");
        }
        let mut events = Vec::with_capacity(batch.len());
        for (place, raw) in batch.into_iter().enumerate() {
            match well_formed(raw.get()) {
                Ok(event) => events.push((event, raw.get().len())),
                Err((rule, reason)) => {
                    record.refused(rule, Some(&place.to_string()), reason);
                    return Answer::text(400, reason);
                }
            }
        }
        check_batch_fields(&body, record);
        if self.account.is_over_quota {
            record.dropped("quota", None, "the project's quota is used up");
            return Answer::json(200, &json!({"status": "Ok", "quota_limited": ["events"]}));
        }
        if key == self.account.project_api_key {
            for (event, bytes) in events {
                self.event(event, bytes, record);
            }
        } else {
            record.dropped("api_key", None, "there is no project with this key");
        }
        Answer::json(200, &json!({"status": "Ok"}))
    }

    /// One event: checked, recognised if it comes again, kept.
    fn event(&mut self, event: Map<String, Value>, bytes: usize, record: &mut Record) {
        let uuid = filled(&event, "uuid").map(str::to_owned);
        let item = uuid.as_deref();
        if let Err((rule, reason)) = kept(&event, bytes) {
            return record.dropped(rule, item, reason);
        }
        bent(&event, record, item);
        let name = text_of(&event, "event");
        let user = text_of(&event, "distinct_id");
        let user: String = user.chars().take(DISTINCT_ID_LENGTH).collect();
        if let Some(uuid) = &uuid {
            // What ClickHouse merges: the same id of the same person's event on
            // the same day.
            let day: String = text_of(&event, "timestamp").chars().take(10).collect();
            let key = format!("{day}/{name}/{user}/{uuid}");
            if self.seen.contains(&key) {
                return record.duplicate(uuid.clone());
            }
            self.seen.insert(key, (), record.capacity());
        }
        self.person_of(&event, &name, &user, record, item);
        let received = Received::new("batch", Value::Object(event)).user(user);
        record.accept(Received {
            id: uuid,
            ..received
        });
    }

    /// What an event says of persons.
    fn person_of(
        &mut self,
        event: &Map<String, Value>,
        name: &str,
        user: &str,
        record: &mut Record,
        item: Option<&str>,
    ) {
        let empty = Map::new();
        let properties = event.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&empty);
        if properties.get("$process_person_profile") == Some(&Value::Bool(false)) {
            return;
        }
        let capacity = record.capacity();
        let person = self.person(user, capacity);
        let other = match name {
            "$identify" => filled(properties, "$anon_distinct_id"),
            "$create_alias" => filled(properties, "alias"),
            _ => None,
        };
        if let Some(other) = other {
            self.merge(other, user, record, item);
        }
        let Some(person) = self.persons.get_mut(&person) else {
            return;
        };
        person.is_identified |= matches!(name, "$identify" | "$create_alias");
        if let Some(Value::Object(set)) = properties.get("$set") {
            person.properties.extend(set.clone());
        }
    }

    /// The person who has an id, who may be new.
    fn person(&mut self, id: &str, capacity: usize) -> u64 {
        if let Some(person) = self.ids.get(&id.to_owned()) {
            return *person;
        }
        self.next += 1;
        self.ids.insert(id.to_owned(), self.next, capacity);
        self.persons.insert(self.next, Person::default(), capacity);
        self.next
    }

    /// The person of `from` becomes part of the person of `into`; not so one
    /// who is identified, nor anybody under an id that stands for nobody.
    fn merge(&mut self, from: &str, into: &str, record: &mut Record, item: Option<&str>) {
        if let Some(illegal) = [from, into].into_iter().find(|id| is_illegal(id)) {
            let reason = format!("PostHog merges nobody with {illegal:?}");
            return record.altered("merge", item, reason);
        }
        let capacity = record.capacity();
        let target = self.person(into, capacity);
        let source = self.ids.get(&from.to_owned()).copied();
        if source == Some(target) {
            return;
        }
        let merged = source.and_then(|source| self.persons.get(&source)).cloned();
        if merged.as_ref().is_some_and(|person| person.is_identified) {
            let reason = format!("{from:?} is an identified person, and stays one");
            return record.altered("merge", item, reason);
        }
        let ids: Vec<_> = self
            .ids
            .iter()
            .filter(|(_, person)| Some(**person) == source)
            .map(|(id, _)| id.clone())
            .chain([from.to_owned()])
            .collect();
        for id in ids {
            self.ids.insert(id, target, capacity);
        }
        if let (Some(merged), Some(person)) = (merged, self.persons.get_mut(&target)) {
            for (name, value) in merged.properties {
                person.properties.entry(name).or_insert(value);
            }
        }
    }

    /// `POST /api/projects/{project}/persons/bulk_delete/`.
    fn delete(&mut self, project: &str, request: &Request, record: &mut Record) -> Answer {
        let known = self.account.deletion.as_ref();
        let Some((id, _)) = known.filter(|(_, key)| request.bearer_token() == Some(key)) else {
            record.refused("personal_api_key", None, "no or a wrong personal API key");
            return error(
                401,
                "authentication_error",
                "Personal API key found in request Authorization header is invalid.",
            );
        };
        if project != id {
            record.refused("project", Some(project), "no such project");
            return error(404, "invalid_request", "Project not found.");
        }
        if request.encoding().is_some()
            || request.media_type().as_deref() != Some("application/json")
        {
            record.refused("content_type", None, "must be plain application/json");
            return error(415, "invalid_request", "Unsupported media type.");
        }
        let Some(Value::Object(body)) = request.body_json() else {
            record.refused("json", None, "the body is not a JSON object");
            return error(400, "validation_error", "Malformed request");
        };
        let ids = body.get("distinct_ids").and_then(Value::as_array);
        let ids: Vec<_> = ids.into_iter().flatten().map(Value::as_str).collect();
        let Some(ids) = ids.into_iter().collect::<Option<Vec<_>>>() else {
            record.refused("distinct_ids", None, "an id is not a string");
            return error(400, "validation_error", "distinct_ids must be strings");
        };
        if ids.is_empty() {
            record.refused("distinct_ids", None, "no ids");
            let words = "You need to specify either distinct_ids or ids";
            return error(400, "validation_error", words);
        }
        if ids.len() > DELETIONS {
            record.refused("distinct_ids", None, format!("{} ids", ids.len()));
            let words = "You can only pass 1000 distinct_ids in one call";
            return error(400, "validation_error", words);
        }
        for (field, stays) in [("delete_events", "events"), ("delete_recordings", "recordings")] {
            if body.get(field) != Some(&Value::Bool(true)) {
                record.altered(field, None, format!("the persons' {stays} stay"));
            }
        }
        let mut found = 0;
        for id in ids {
            if let Some(person) = self.ids.get(&id.to_owned()).copied()
                && self.persons.remove(&person).is_some()
            {
                found += 1;
            }
            record.accept(Received::new("bulk_delete", json!({"distinct_id": id})).user(id));
        }
        Answer::json(
            202,
            &json!({
                "persons_found": found,
                "persons_deleted": found,
                "events_queued_for_deletion": true,
                "recordings_queued_for_deletion": true,
                "deletion_errors": [],
            }),
        )
    }
}

fn error(status: u16, kind: &str, detail: &str) -> Answer {
    let body = json!({"type": kind, "code": "invalid", "detail": detail, "attr": null});
    Answer::json(status, &body)
}

fn is_illegal(id: &str) -> bool {
    let id = id.trim();
    id.is_empty()
        || ILLEGAL.iter().any(|illegal| illegal.eq_ignore_ascii_case(id))
        || ILLEGAL_AS_WRITTEN.contains(&id)
}

fn text_of(event: &Map<String, Value>, key: &str) -> String {
    let text = event.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// What is looked at before the answer: one event refuses the whole batch.
fn well_formed(raw: &str) -> Result<Map<String, Value>, (&'static str, &'static str)> {
    let Ok(Value::Object(event)) = serde_json::from_str(raw) else {
        return Err(("event", "failed to parse request"));
    };
    if filled(&event, "event").is_none() {
        return Err(("event_name", "event submitted with an empty event name"));
    }
    if filled(&event, "distinct_id").is_none() {
        return Err(("distinct_id", "event submitted without a distinct_id"));
    }
    if event.get("properties").is_some_and(|p| !p.is_object()) {
        return Err(("properties", "failed to parse request"));
    }
    Ok(event)
}

fn check_batch_fields(body: &Map<String, Value>, record: &mut Record) {
    for (key, value) in body {
        match key.as_str() {
            "api_key" | "batch" => {}
            "historical_migration" if value.is_boolean() => {}
            "sent_at" => record.altered(
                "sent_at",
                None,
                "timestamps are shifted by the sender's clock, in each attempt otherwise",
            ),
            _ => record.altered(
                "batch_field",
                None,
                format!("`{key}` as {} means nothing in a batch", kind_of(value)),
            ),
        }
    }
}

/// What PostHog answers 200 to and then loses.
fn kept(event: &Map<String, Value>, bytes: usize) -> Result<(), (&'static str, String)> {
    if bytes > EVENT_BYTES {
        return Err(("event_bytes", format!("{bytes} bytes")));
    }
    if let Some(uuid) = event.get("uuid")
        && !uuid.as_str().is_some_and(is_uuid)
    {
        return Err(("uuid", format!("{uuid} is not a UUID")));
    }
    let name = text_of(event, "event");
    let Some(Value::Object(properties)) = event.get("properties") else {
        return Ok(());
    };
    if OF_PROFILES.contains(&name.as_str())
        && properties.get("$process_person_profile") == Some(&Value::Bool(false))
    {
        return Err(("profile", format!("a {name} needs a profile")));
    }
    if name == "$groupidentify" {
        for key in ["$group_type", "$group_key"] {
            let text = filled(properties, key).unwrap_or_default();
            if !(1..=GROUP_LENGTH).contains(&text.chars().count()) {
                return Err(("group", format!("`{key}` has 1 to {GROUP_LENGTH} characters")));
            }
        }
        if properties.get("$group_set").is_some_and(|set| !set.is_object()) {
            return Err(("group_set", "`$group_set` is not an object".to_owned()));
        }
    }
    if name == "$create_alias" && filled(properties, "alias").is_none() {
        return Err(("alias", "an alias needs `alias`".to_owned()));
    }
    Ok(())
}

/// What PostHog takes, but not as it was meant.
fn bent(event: &Map<String, Value>, record: &mut Record, item: Option<&str>) {
    let mut altered = |rule, reason: String| record.altered(rule, item, reason);
    if item.is_none() {
        let reason = "without `uuid` PostHog makes one up, and a retry is a second event";
        altered("uuid_missing", reason.to_owned());
    }
    match event.get("timestamp") {
        Some(Value::String(timestamp)) if is_rfc3339(timestamp) => {}
        Some(other) => altered("timestamp_form", format!("{other} is not ISO 8601")),
        None => altered(
            "timestamp_missing",
            "without `timestamp` the event happens when PostHog hears of it".to_owned(),
        ),
    }
    for (key, most) in [("distinct_id", DISTINCT_ID_LENGTH), ("event", NAME_LENGTH)] {
        let chars = text_of(event, key).chars().count();
        if chars > most {
            altered("cut", format!("`{key}` has {chars} characters, {most} stay"));
        }
    }
    for (key, value) in event {
        let fits = match key.as_str() {
            "event" | "distinct_id" | "uuid" | "timestamp" | "properties" => true,
            "$set" | "$set_once" => value.is_object(),
            _ => false,
        };
        if !fits {
            let kind = kind_of(value);
            altered("field", format!("`{key}` as {kind} means nothing in an event"));
        }
    }
    if let Some(Value::Object(properties)) = event.get("properties") {
        for (rule, reason) in bent_properties(properties) {
            altered(rule, reason);
        }
    }
}

fn bent_properties(properties: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let mut bent = Vec::new();
    let ip = properties.get("$ip").and_then(Value::as_str);
    match ip {
        Some(ip) if ip.parse::<IpAddr>().is_err() => {
            bent.push(("ip", format!("{ip:?} is no address")));
        }
        None if properties.get("$geoip_disable") != Some(&Value::Bool(true)) => {
            let reason = "the person is located where the sender of the request is";
            bent.push(("geoip", reason.to_owned()));
        }
        _ => {}
    }
    match properties.get("$process_person_profile") {
        None | Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => {
            for name in ["$set", "$set_once", "$unset", "$groups"] {
                if properties.contains_key(name) {
                    bent.push(("profile", format!("`{name}` is lost without a profile")));
                }
            }
        }
        Some(other) => bent.push((
            "profile",
            format!("`$process_person_profile` is {}", kind_of(other)),
        )),
    }
    for name in ["$set", "$set_once", "$groups"] {
        if properties.get(name).is_some_and(|value| !value.is_object()) {
            bent.push(("property", format!("`{name}` is not an object")));
        }
    }
    bent
}

#[cfg(test)]
#[path = "posthog_tests.rs"]
mod tests;

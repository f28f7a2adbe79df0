//! Amplitude: events, user mappings, deletions.
//!
//! - Events: <https://amplitude.com/docs/apis/analytics/http-v2>
//! - Many events: <https://amplitude.com/docs/apis/analytics/batch-event-upload>
//! - Mappings: <https://amplitude.com/docs/apis/analytics/user-mapping>
//! - Deletions: <https://amplitude.com/docs/apis/analytics/user-privacy>

use std::collections::{BTreeMap, BTreeSet};

use analytics_spec::Kind;
use serde_json::{Map, Value, json};

use super::{
    checks::{filled, milliseconds},
    stage::{Staged, text},
};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

/// Characters of a text that Amplitude keeps.
const TEXT_CHARS: usize = 1024;
/// Properties of an event, a user or a group.
const PROPERTIES: usize = 1024;
/// Layers of objects, the properties being the first.
const LAYERS: usize = 40;
/// Characters that an id has at least.
const ID_CHARS: u64 = 5;
/// Mappings of one request, and bytes.
const MAPPINGS: usize = 2_000;
const MAPPING_BYTES: usize = 1_000_000;
/// Users of one deletion.
const DELETIONS: usize = 100;
/// Group types of one event, and groups.
const GROUP_TYPES: usize = 5;
const GROUPS: usize = 10;

/// Ids that are answered with 400.
const REFUSED_IDS: [&str; 14] = [
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "\"\"",
    "00000000-0000-0000-0000-000000000000",
    "{}",
    "lmy47d",
    "0",
    "-1",
];

/// Names of Amplitude's own events.
const OWN_EVENTS: [&str; 6] = [
    "[Amplitude] Start Session",
    "[Amplitude] End Session",
    "[Amplitude] Revenue",
    "[Amplitude] Revenue (Verified)",
    "[Amplitude] Revenue (Unverified)",
    "[Amplitude] Merged User",
];

/// The keys of an event, and the JSON type of each.
const FIELDS: [(&str, Type); 38] = [
    ("user_id", Type::Text),
    ("device_id", Type::Text),
    ("event_type", Type::Text),
    ("user_agent", Type::Text),
    ("time", Type::Whole),
    ("event_properties", Type::Object),
    ("user_properties", Type::Object),
    ("groups", Type::Object),
    ("group_properties", Type::Object),
    ("$skip_user_properties_sync", Type::Flag),
    ("app_version", Type::Text),
    ("platform", Type::Text),
    ("os_name", Type::Text),
    ("os_version", Type::Text),
    ("device_brand", Type::Text),
    ("device_manufacturer", Type::Text),
    ("device_model", Type::Text),
    ("carrier", Type::Text),
    ("country", Type::Text),
    ("region", Type::Text),
    ("city", Type::Text),
    ("dma", Type::Text),
    ("language", Type::Text),
    ("price", Type::Number),
    ("quantity", Type::Whole),
    ("revenue", Type::Number),
    ("productId", Type::Text),
    ("revenueType", Type::Text),
    ("currency", Type::Text),
    ("location_lat", Type::Number),
    ("location_lng", Type::Number),
    ("ip", Type::Text),
    ("idfa", Type::Text),
    ("idfv", Type::Text),
    ("adid", Type::Text),
    ("android_id", Type::Text),
    ("session_id", Type::Whole),
    ("insert_id", Type::Text),
];

#[derive(Clone, Copy)]
enum Type {
    Text,
    Whole,
    Number,
    Flag,
    Object,
}

impl Type {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Whole => value.is_i64(),
            Self::Number => value.is_number(),
            Self::Flag => value.is_boolean(),
            Self::Object => value.is_object(),
        }
    }
}

/// An Amplitude project, on loopback.
pub type ScriptedAmplitude = Scripted<AmplitudeVendor>;

/// The project that a [`ScriptedAmplitude`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AmplitudeAccount {
    /// The API key.
    pub api_key: String,
    /// The secret key of the User Privacy API; without one it refuses
    /// everybody.
    pub secret_key: Option<String>,
}

impl AmplitudeAccount {
    /// A project with an API key, and no secret key.
    pub fn new(api_key: impl Into<String>) -> Self {
        Self {
            api_key: api_key.into(),
            secret_key: None,
        }
    }

    /// The same project with a secret key.
    #[must_use]
    pub fn secret_key(mut self, key: impl Into<String>) -> Self {
        self.secret_key = Some(key.into());
        self
    }
}

/// Amplitude's rules, and what the project holds.
#[derive(Debug)]
pub struct AmplitudeVendor {
    account: AmplitudeAccount,
    /// What Amplitude deduplicates on: device, and insert id.
    seen: Remembered<(String, String), ()>,
    users: Remembered<String, Map<String, Value>>,
    groups: Remembered<(String, String), Map<String, Value>>,
    mappings: Remembered<String, String>,
}

impl From<AmplitudeAccount> for AmplitudeVendor {
    fn from(account: AmplitudeAccount) -> Self {
        Self {
            account,
            seen: Remembered::default(),
            users: Remembered::default(),
            groups: Remembered::default(),
            mappings: Remembered::default(),
        }
    }
}

impl Staged for AmplitudeVendor {
    const NAME: &'static str = "amplitude";

    fn staged() -> Self {
        AmplitudeAccount::new("sandbox-api-key")
            .secret_key("sandbox-secret-key")
            .into()
    }

    fn keys(base_url: &str) -> String {
        format!(
            r#"api_key = "sandbox-api-key"
secret_key = "sandbox-secret-key"     # for `delete`
base_url = "{base_url}"
"#
        )
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let body = &item.body;
        let user = item.user.as_deref().unwrap_or_default();
        Some(match item.endpoint.as_str() {
            "usermap" => {
                let global = text(body, "/global_user_id");
                (Kind::Alias, format!("{user} is {global}"))
            }
            "deletions" => (Kind::Delete, format!("deletion of {user}")),
            _ => match text(body, "/event_type") {
                "$groupidentify" => return None,
                "$identify" if body.get("groups").is_some() => {
                    let groups = body.get("groups").unwrap_or(&Value::Null);
                    (Kind::Group, format!("$identify {groups}"))
                }
                "$identify" => (Kind::Identify, format!("$identify {user}")),
                // Both are events of one form to Amplitude; a screen is a device's.
                name if name.starts_with("Viewed ") => {
                    let kind = match text(body, "/platform") {
                        "" => Kind::Page,
                        _ => Kind::Screen,
                    };
                    (kind, name.to_owned())
                }
                name => (Kind::Track, name.to_owned()),
            },
        })
    }
}

impl Scripted<AmplitudeVendor> {
    /// The properties of a user, by user id or device id, if there is one.
    pub fn user(&self, id: &str) -> Option<Map<String, Value>> {
        self.with_vendor(|vendor| vendor.users.get(&id.to_owned()).cloned())
    }

    /// The properties of a group, if it has any.
    pub fn group(&self, group_type: &str, value: &str) -> Option<Map<String, Value>> {
        let key = (group_type.to_owned(), value.to_owned());
        self.with_vendor(|vendor| vendor.groups.get(&key).cloned())
    }

    /// The id under which a user's events are found, if it is another.
    pub fn mapped_to(&self, user_id: &str) -> Option<String> {
        self.with_vendor(|vendor| vendor.mappings.get(&user_id.to_owned()).cloned())
    }
}

impl Vendor for AmplitudeVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        let upload = match request.path.as_str() {
            "/2/httpapi" => Some(Upload::HTTP_V2),
            "/batch" => Some(Upload::BATCH),
            "/usermap" | "/api/2/deletions/users" => None,
            path => {
                record.refused("path", None, format!("Amplitude has no {path}"));
                return error(404, json!({"error": "Invalid request path"}));
            }
        };
        if request.method != "POST" {
            let method = format!("{} instead of POST", request.method);
            record.refused("method", None, method);
            return error(405, json!({"error": "Method not allowed"}));
        }
        match upload {
            Some(upload) => self.upload(&upload, request, record),
            None if request.path == "/usermap" => self.map(request, record),
            None => self.delete(request, record),
        }
    }
}

/// What one of the two APIs for events takes.
struct Upload {
    endpoint: &'static str,
    events: usize,
    bytes: usize,
    /// Whether it names every event that has something wrong in a field, not
    /// only the first.
    names_all: bool,
}

impl Upload {
    /// "Under 1 MB with fewer than 2000 events".
    const HTTP_V2: Self = Self {
        endpoint: "httpapi",
        events: 1_999,
        bytes: 1_000_000,
        names_all: false,
    };
    const BATCH: Self = Self {
        endpoint: "batch",
        events: 2_000,
        bytes: 20_000_000,
        names_all: true,
    };
}

/// The events that have something wrong, by field.
#[derive(Default)]
struct Wrong {
    missing: BTreeMap<String, BTreeSet<usize>>,
    invalid: BTreeMap<String, BTreeSet<usize>>,
    id_lengths: BTreeMap<String, BTreeSet<usize>>,
}

impl Wrong {
    /// The answer, if anything is.
    fn answer(&self, names_all: bool) -> Option<Answer> {
        let first = |fields: &BTreeMap<String, BTreeSet<usize>>| {
            let most = if names_all { usize::MAX } else { 1 };
            let named = |(field, indices): (&String, &BTreeSet<usize>)| {
                let indices: Vec<_> = indices.iter().take(most).copied().collect();
                (field.clone(), json!(indices))
            };
            Value::Object(fields.iter().map(named).collect())
        };
        let words = if !self.missing.is_empty() {
            "Request missing required field"
        } else if !self.id_lengths.is_empty() {
            "Invalid id length for user_id or device_id"
        } else if !self.invalid.is_empty() {
            "Invalid field values on some events"
        } else {
            return None;
        };
        let mut body = Map::from_iter([("error".to_owned(), json!(words))]);
        for (key, fields) in [
            ("events_with_missing_fields", &self.missing),
            ("events_with_invalid_fields", &self.invalid),
            ("events_with_invalid_id_lengths", &self.id_lengths),
        ] {
            if !fields.is_empty() {
                body.insert(key.to_owned(), first(fields));
            }
        }
        Some(error(400, Value::Object(body)))
    }
}

impl AmplitudeVendor {
    fn upload(&mut self, upload: &Upload, request: &Request, record: &mut Record) -> Answer {
        if request.body.len() > upload.bytes {
            let reason = format!("more than {} bytes", upload.bytes);
            record.refused("request_bytes", None, reason);
            return error(413, json!({"error": "Payload too large"}));
        }
        if request.media_type().as_deref() != Some("application/json") {
            record.refused("content_type", None, "events are application/json");
            return error(400, json!({"error": "Invalid JSON request body"}));
        }
        let Some(Value::Object(body)) = request.body_json() else {
            record.refused("json", None, "the body is not a JSON object");
            return error(400, json!({"error": "Invalid JSON request body"}));
        };
        if let Some(refused) = self.check_key(filled(&body, "api_key"), record) {
            return refused;
        }
        let events = body.get("events").and_then(Value::as_array);
        let Some(events) = events.filter(|events| !events.is_empty()) else {
            record.refused("events", None, "`events` is a list of one event or more");
            return missing_field("events");
        };
        if events.len() > upload.events {
            let reason = format!("more than {} events", upload.events);
            record.refused("request_events", None, reason);
            return error(413, json!({"error": "Payload too large"}));
        }
        let min_chars = body
            .get("options")
            .and_then(|options| options.get("min_id_length")?.as_u64())
            .unwrap_or(ID_CHARS);
        let mut wrong = Wrong::default();
        for (index, event) in events.iter().enumerate() {
            check_event(index, event, min_chars, &mut wrong, record);
        }
        // Nothing of the request is taken.
        if let Some(answer) = wrong.answer(upload.names_all) {
            return answer;
        }
        for (index, event) in events.iter().enumerate() {
            self.keep_event(upload.endpoint, index, event, record);
        }
        Answer::json(
            200,
            &json!({
                "code": 200,
                "events_ingested": events.len(),
                "payload_size_bytes": request.body.len(),
                "server_upload_time": milliseconds(request.at),
            }),
        )
    }

    /// The answer to a key that is not the project's.
    fn check_key(&self, key: Option<&str>, record: &mut Record) -> Option<Answer> {
        match key {
            Some(key) if key == self.account.api_key => None,
            Some(key) => {
                record.refused("api_key", None, "not the project's API key");
                Some(error(400, json!({"error": format!("Invalid API key: {key}")})))
            }
            None => {
                record.refused("api_key", None, "no API key");
                Some(missing_field("api_key"))
            }
        }
    }

    /// Keeps an event that passed the checks, if it is not there already.
    fn keep_event(&mut self, endpoint: &str, index: usize, event: &Value, record: &mut Record) {
        let insert_id = text(event, "/insert_id");
        let (user_id, device_id) = (text(event, "/user_id"), text(event, "/device_id"));
        let item = match insert_id {
            "" => index.to_string(),
            id => id.to_owned(),
        };
        check_bent(event, &item, record);
        let key = (device_id.to_owned(), insert_id.to_owned());
        if insert_id.is_empty() {
            record.altered("insert_id", Some(&item), "a repetition is counted again");
        } else if self.seen.contains(&key) {
            record.duplicate(insert_id);
            return;
        } else {
            self.seen.insert(key, (), record.capacity());
        }
        let owner = if user_id.is_empty() { device_id } else { user_id };
        for id in [user_id, device_id].into_iter().filter(|id| !id.is_empty()) {
            self.update(id, event, record.capacity());
        }
        if text(event, "/event_type") == "$groupidentify" {
            self.update_groups(event, record.capacity());
        }
        let received = Received::new(endpoint, event.clone()).user(owner);
        record.accept(received.id(item));
    }

    fn update(&mut self, id: &str, event: &Value, capacity: usize) {
        let id = id.to_owned();
        if !self.users.contains(&id) {
            self.users.insert(id.clone(), Map::new(), capacity);
        }
        let is_identify = text(event, "/event_type") == "$identify";
        let pointer = if is_identify {
            "/user_properties/$set"
        } else {
            "/user_properties"
        };
        if let (Some(user), Some(Value::Object(properties))) =
            (self.users.get_mut(&id), event.pointer(pointer))
        {
            user.extend(properties.clone());
        }
    }

    fn update_groups(&mut self, event: &Value, capacity: usize) {
        let properties = event.pointer("/group_properties/$set");
        let properties = properties.and_then(Value::as_object);
        let groups = event.get("groups").and_then(Value::as_object);
        for (group_type, value) in groups.into_iter().flatten() {
            let key = (
                group_type.clone(),
                value.as_str().unwrap_or_default().to_owned(),
            );
            if !self.groups.contains(&key) {
                self.groups.insert(key.clone(), Map::new(), capacity);
            }
            if let (Some(group), Some(properties)) = (self.groups.get_mut(&key), properties) {
                group.extend(properties.clone());
            }
        }
    }

    /// A form, as the query that the documentation shows has it.
    fn map(&mut self, request: &Request, record: &mut Record) -> Answer {
        if request.body.len() > MAPPING_BYTES {
            record.refused("request_bytes", None, "more than 1 MB");
            return error(413, json!({"error": "Payload too large"}));
        }
        if request.media_type().as_deref() != Some("application/x-www-form-urlencoded") {
            record.refused("content_type", None, "mappings are a form");
            return missing_field("api_key");
        }
        let fields: BTreeMap<_, _> = url::form_urlencoded::parse(&request.body).collect();
        let field = |key: &str| fields.get(key).map(AsRef::as_ref);
        if let Some(refused) = self.check_key(field("api_key"), record) {
            return refused;
        }
        let mapping = field("mapping").unwrap_or_default();
        let Ok(mappings) = serde_json::from_str::<Vec<Map<String, Value>>>(mapping) else {
            record.refused("mapping", None, "`mapping` is a JSON list of objects");
            return missing_field("mapping");
        };
        let min_chars = field("options")
            .and_then(|options| serde_json::from_str::<Value>(options).ok())
            .and_then(|options| options.get("min_id_length")?.as_u64())
            .unwrap_or(ID_CHARS);
        if mappings.len() > MAPPINGS {
            record.refused("mappings", None, format!("more than {MAPPINGS}"));
            return error(413, json!({"error": "Payload too large"}));
        }
        for mapping in &mappings {
            let ids = ["user_id", "global_user_id"].map(|key| filled(mapping, key));
            let is_id = |id: Option<&str>| {
                id.is_some_and(|id| !is_refused(id) && is_long_enough(id, min_chars))
            };
            if !ids.into_iter().all(is_id) || ids[0] == ids[1] {
                let reason = "a mapping has two ids, which differ";
                record.refused("mapping_ids", ids[0], reason);
                return error(400, json!({"error": "Invalid mapping"}));
            }
        }
        for mapping in mappings {
            let user = filled(&mapping, "user_id").unwrap_or_default().to_owned();
            let global = filled(&mapping, "global_user_id").unwrap_or_default();
            self.mappings
                .insert(user.clone(), global.to_owned(), record.capacity());
            record.accept(Received::new("usermap", Value::Object(mapping)).user(user));
        }
        Answer::text(200, "success")
    }

    fn delete(&mut self, request: &Request, record: &mut Record) -> Answer {
        let account = &self.account;
        let is_right = |(user, password): (String, String)| {
            user == account.api_key && Some(password) == account.secret_key
        };
        if !request.basic_credentials().is_some_and(is_right) {
            record.refused("credentials", None, "not the project's two keys");
            return error(401, json!({"error": "Unauthorized"}));
        }
        let body = match request.body_json() {
            Some(Value::Object(body))
                if request.media_type().as_deref() == Some("application/json") =>
            {
                body
            }
            _ => {
                record.refused("json", None, "a deletion is a JSON object");
                return error(400, json!({"error": "Invalid JSON request body"}));
            }
        };
        let ids = body.get("user_ids").and_then(Value::as_array);
        let ids: Vec<&str> = ids
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !(1..=DELETIONS).contains(&ids.len()) {
            let reason = format!("1 to {DELETIONS} texts in `user_ids`");
            record.refused("user_ids", None, reason);
            return error(400, json!({"error": "user_ids is invalid"}));
        }
        let ignores = body.get("ignore_invalid_id") == Some(&Value::Bool(true));
        let is_known = |id: &&&str| self.users.contains(&(**id).to_owned());
        let unknown: Vec<&str> = ids.iter().filter(|id| !is_known(id)).copied().collect();
        if let (Some(first), false) = (unknown.first(), ignores) {
            record.refused("unknown_user", Some(first), "the project knows nobody of it");
            let words = format!("Invalid user ids: {}", unknown.join(", "));
            return error(400, json!({"error": words}));
        }
        for id in &ids {
            self.users.remove(&(*id).to_owned());
            record.accept(Received::new("deletions", json!({"user_id": id})).user(*id));
        }
        Answer::json(
            200,
            &json!({"day": "2026-03-20", "status": "staging", "amplitude_ids": []}),
        )
    }
}

fn error(status: u16, mut body: Value) -> Answer {
    if let Some(body) = body.as_object_mut() {
        body.insert("code".to_owned(), json!(status));
    }
    Answer::json(status, &body)
}

fn missing_field(field: &str) -> Answer {
    let words = "Request missing required field";
    error(400, json!({"error": words, "missing_field": field}))
}

fn is_refused(id: &str) -> bool {
    REFUSED_IDS
        .iter()
        .any(|refused| refused.eq_ignore_ascii_case(id))
}

fn is_long_enough(id: &str, min_chars: u64) -> bool {
    u64::try_from(id.chars().count()).is_ok_and(|chars| chars >= min_chars)
}

/// What an event is refused for.
fn check_event(
    index: usize,
    event: &Value,
    min_chars: u64,
    wrong: &mut Wrong,
    record: &mut Record,
) {
    let nothing = Map::new();
    let fields = event.as_object().unwrap_or(&nothing);
    let item = filled(fields, "insert_id").map_or_else(|| index.to_string(), str::to_owned);
    let mut is_wrong = |rule: &'static str, into: &mut BTreeMap<_, BTreeSet<_>>, field: &str| {
        record.refused(rule, Some(&item), format!("`{field}` of event {index}"));
        into.entry(field.to_owned()).or_default().insert(index);
    };
    if filled(fields, "event_type").is_none() {
        is_wrong("missing_field", &mut wrong.missing, "event_type");
    }
    let ids = ["user_id", "device_id"].map(|key| (key, filled(fields, key)));
    if ids.iter().all(|(_, id)| id.is_none()) {
        is_wrong("missing_field", &mut wrong.missing, "user_id");
    }
    for (key, id) in ids {
        match id {
            Some(id) if is_refused(id) => is_wrong("refused_id", &mut wrong.invalid, key),
            Some(id) if !is_long_enough(id, min_chars) => {
                is_wrong("id_length", &mut wrong.id_lengths, key);
            }
            _ => {}
        }
    }
    for (key, of_type) in FIELDS {
        if fields.get(key).is_some_and(|value| !of_type.is_of(value)) {
            is_wrong("field_type", &mut wrong.invalid, key);
        }
    }
    for key in ["event_properties", "user_properties", "group_properties"] {
        if fields.get(key).is_some_and(|value| layers(value) > LAYERS) {
            is_wrong("layers", &mut wrong.invalid, key);
        }
    }
}

/// How many arrays and objects lie within each other.
fn layers(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(values) => values.iter().map(layers).max(),
        Value::Object(map) => map.values().map(layers).max(),
        _ => return 0,
    };
    deepest.unwrap_or_default() + 1
}

/// What Amplitude takes, and keeps other than it was meant.
fn check_bent(event: &Value, item: &str, record: &mut Record) {
    let nothing = Map::new();
    let fields = event.as_object().unwrap_or(&nothing);
    let mut is_bent = |rule, reason: String| record.altered(rule, Some(item), reason);
    let name = text(event, "/event_type");
    if OWN_EVENTS.contains(&name) {
        is_bent("event_type", format!("{name:?} is an event of Amplitude's own"));
    }
    for key in fields.keys() {
        if !FIELDS.iter().any(|(known, _)| known == key) {
            is_bent("field", format!("`{key}` is no key of an event"));
        }
    }
    if !fields.contains_key("time") {
        is_bent("time", "it happens when it arrives".to_owned());
    }
    let has_group_properties = fields.contains_key("group_properties");
    if has_group_properties && name != "$groupidentify" {
        is_bent("group_properties", "ignored in other events".to_owned());
    }
    if name == "$groupidentify" && !fields.contains_key("groups") {
        is_bent("groups", "it is about no group".to_owned());
    }
    let has_revenue = ["price", "revenue"].iter().any(|key| fields.contains_key(*key));
    for key in ["productId", "revenueType"] {
        if fields.contains_key(key) && !has_revenue {
            is_bent("revenue", format!("`{key}` without a price or revenue"));
        }
    }
    let currency = text(event, "/currency");
    let is_code = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
    if fields.contains_key("currency") && !is_code {
        is_bent("currency", format!("{currency:?} is no code of ISO 4217"));
    }
    if let Some(groups) = fields.get("groups").and_then(Value::as_object) {
        let values = groups.values().map(|value| value.as_array().map_or(1, Vec::len));
        if groups.len() > GROUP_TYPES || values.sum::<usize>() > GROUPS {
            is_bent("groups", "the groups beyond are not tracked".to_owned());
        }
    }
    for (key, value) in fields {
        if key != "user_agent" && has_long_text(value) {
            is_bent("text_length", format!("`{key}` has a text that is cut"));
        }
        if let Value::Object(properties) = value {
            let inner = properties.get("$set").and_then(Value::as_object);
            if inner.unwrap_or(properties).len() > PROPERTIES {
                is_bent("properties", format!("`{key}` has more than {PROPERTIES}"));
            }
            let changes = properties.keys().any(|key| key.starts_with('$'));
            if changes && !matches!(name, "$identify" | "$groupidentify") {
                is_bent("operation", format!("a change in `{key}` of {name:?}"));
            }
        }
    }
}

fn has_long_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.chars().count() > TEXT_CHARS,
        Value::Array(values) => values.iter().any(has_long_text),
        Value::Object(map) => map.values().any(has_long_text),
        _ => false,
    }
}

#[cfg(test)]
#[path = "amplitude_tests.rs"]
mod tests;

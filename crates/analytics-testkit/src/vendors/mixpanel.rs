//! Mixpanel: events, profiles, groups, deletions.
//!
//! - Events: <https://developer.mixpanel.com/reference/import-events>
//! - Partial success: <https://docs.mixpanel.com/troubleshooting/errors/400-bad-request>
//! - Profiles: <https://developer.mixpanel.com/reference/profile-set>
//! - Groups: <https://developer.mixpanel.com/reference/group-set-property>
//! - Deletions: <https://developer.mixpanel.com/reference/gdpr-api>

use analytics_spec::Kind;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{
    checks::{filled, is_uuid_v4, kind_of, milliseconds},
    stage::{Staged, text},
};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

/// Records of one request.
const RECORDS: usize = 2_000;
/// Bytes of one event or profile update: "smaller than 1 MB".
const RECORD_BYTES: usize = 1_000_000;
/// Properties of an event, keys of an object in it, elements of an array in it:
/// "fewer than 255".
const ELEMENTS: usize = 255;
/// Characters of a string that Mixpanel keeps.
const STRING_LENGTH: usize = 255;
/// Bytes of an `$insert_id`.
const INSERT_ID_BYTES: usize = 36;
/// 1971-01-01 in milliseconds.
const EARLIEST: i64 = 31_536_000_000;
/// An hour in milliseconds: how far ahead an event may lie.
const AHEAD: i64 = 3_600_000;
/// Below this, a time is taken as seconds.
const SECONDS_BELOW: i64 = 100_000_000_000;

/// Ids that are the sign of a mistake, and refused as such.
const REFUSED_IDS: [&str; 19] = [
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "null",
    "nil",
    "none",
    "undefined",
    "unknown",
    "n/a",
    "na",
    "guest",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
    "lmy47d",
    "<nil>",
];

/// A Mixpanel project, on loopback.
pub type ScriptedMixpanel = Scripted<MixpanelVendor>;

/// How a project merges identities; fixed once it holds data.
/// <https://docs.mixpanel.com/docs/tracking-methods/id-management>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdMerge {
    /// One event with both ids links them.
    #[default]
    Simplified,
    /// `$identify`, `$merge` and `$create_alias` link them.
    Original,
}

/// A service account of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceAccount {
    /// The project that goes with it, as `project_id`.
    pub project_id: String,
    /// Its user name.
    pub username: String,
    /// Its secret.
    pub secret: String,
}

/// The project that a [`ScriptedMixpanel`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MixpanelAccount {
    /// The project token.
    pub project_token: String,
    /// The service account that may import, besides the token.
    pub service_account: Option<ServiceAccount>,
    /// The OAuth token of the deletion API; without one it refuses everybody.
    pub gdpr_oauth_token: Option<String>,
    /// How the project merges identities.
    pub id_merge: IdMerge,
    /// The largest body of an import, unpacked. Default: 2 MiB, the stricter
    /// of the two numbers (the other is 10 MB) in Mixpanel's documentation.
    pub import_bytes: usize,
}

impl MixpanelAccount {
    /// A project with this token, simplified id merge, no service account and
    /// no deletion API.
    pub fn new(project_token: impl Into<String>) -> Self {
        Self {
            project_token: project_token.into(),
            service_account: None,
            gdpr_oauth_token: None,
            id_merge: IdMerge::Simplified,
            import_bytes: 2 << 20,
        }
    }

    /// The same project with a service account.
    #[must_use]
    pub fn service_account(
        mut self,
        project_id: impl Into<String>,
        username: impl Into<String>,
        secret: impl Into<String>,
    ) -> Self {
        self.service_account = Some(ServiceAccount {
            project_id: project_id.into(),
            username: username.into(),
            secret: secret.into(),
        });
        self
    }

    /// The same project with a token for the deletion API.
    #[must_use]
    pub fn gdpr_oauth_token(mut self, token: impl Into<String>) -> Self {
        self.gdpr_oauth_token = Some(token.into());
        self
    }

    /// The same project, merging identities this way.
    #[must_use]
    pub fn id_merge(mut self, id_merge: IdMerge) -> Self {
        self.id_merge = id_merge;
        self
    }

    /// The same project with this limit on an import, in bytes.
    #[must_use]
    pub fn import_bytes(mut self, bytes: usize) -> Self {
        self.import_bytes = bytes;
        self
    }
}

/// What Mixpanel deduplicates on: event, time, distinct id, insert id.
type EventKey = (String, i64, String, String);

/// Mixpanel's rules, and what the project holds.
#[derive(Debug)]
pub struct MixpanelVendor {
    account: MixpanelAccount,
    seen: Remembered<EventKey, ()>,
    insert_ids: Remembered<String, ()>,
    profiles: Remembered<String, Map<String, Value>>,
    groups: Remembered<(String, String), Map<String, Value>>,
    deletions: u64,
}

impl From<MixpanelAccount> for MixpanelVendor {
    fn from(account: MixpanelAccount) -> Self {
        Self {
            account,
            seen: Remembered::default(),
            insert_ids: Remembered::default(),
            profiles: Remembered::default(),
            groups: Remembered::default(),
            deletions: 0,
        }
    }
}

impl Staged for MixpanelVendor {
    const NAME: &'static str = "mixpanel";

    fn staged() -> Self {
        MixpanelAccount::new("sandbox-project-token")
            .id_merge(IdMerge::Original)
            .into()
    }

    fn keys(base_url: &str) -> String {
        format!(
            r#"project_token = "sandbox-project-token"
id_merge = "original"                 # for `alias`
base_url = "{base_url}"
"#
        )
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let body = &item.body;
        let user = item.user.as_deref().unwrap_or_default();
        let has = |key| body.get(key).is_some();
        Some(match item.endpoint.as_str() {
            "import" => match text(body, "/event") {
                name @ ("$identify" | "$merge") => (Kind::Identify, name.to_owned()),
                name @ "$create_alias" => (Kind::Alias, name.to_owned()),
                name @ "Loaded a Page" => (Kind::Page, name.to_owned()),
                name @ "Loaded a Screen" => (Kind::Screen, name.to_owned()),
                name => (Kind::Track, name.to_owned()),
            },
            "engage" if has("$delete") => (Kind::Delete, format!("$delete {user}")),
            "engage" if has("$union") => (Kind::Group, format!("$union {user}")),
            "engage" => (Kind::Identify, format!("$set {user}")),
            "groups" => (Kind::Group, format!("$set {user}")),
            "data-deletions" => (Kind::Delete, format!("deletion of {user}")),
            _ => return None,
        })
    }
}

impl Scripted<MixpanelVendor> {
    /// The properties of a user's profile, if there is one.
    pub fn profile(&self, distinct_id: &str) -> Option<Map<String, Value>> {
        self.with_vendor(|vendor| vendor.profile(distinct_id).cloned())
    }

    /// The properties of a group's profile, if there is one.
    pub fn group(&self, group_key: &str, group_id: &str) -> Option<Map<String, Value>> {
        self.with_vendor(|vendor| vendor.group(group_key, group_id).cloned())
    }
}

impl Vendor for MixpanelVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        let path = request.path.trim_end_matches('/');
        if !matches!(
            path,
            "/import" | "/engage" | "/groups" | "/api/app/data-deletions/v3.0"
        ) {
            record.refused("path", None, format!("Mixpanel has no {}", request.path));
            return Answer::text(404, "not found");
        }
        if request.method != "POST" {
            record.refused(
                "method",
                None,
                format!("{} instead of POST", request.method),
            );
            return Answer::text(405, "method not allowed").header("allow", "POST");
        }
        match path {
            "/import" => self.import(request, record),
            "/engage" => self.update(Profiles::Users, request, record),
            "/groups" => self.update(Profiles::Groups, request, record),
            _ => self.delete(request, record),
        }
    }
}

/// Why an event is refused: the field and a sentence, as Mixpanel answers it.
struct Failed {
    rule: &'static str,
    field: &'static str,
    message: String,
}

impl Failed {
    fn new(rule: &'static str, field: &'static str, message: impl Into<String>) -> Self {
        Self {
            rule,
            field,
            message: message.into(),
        }
    }
}

impl MixpanelVendor {
    /// The properties of a user's profile, if there is one.
    pub fn profile(&self, distinct_id: &str) -> Option<&Map<String, Value>> {
        self.profiles.get(&distinct_id.to_owned())
    }

    /// The properties of a group's profile, if there is one.
    pub fn group(&self, group_key: &str, group_id: &str) -> Option<&Map<String, Value>> {
        self.groups
            .get(&(group_key.to_owned(), group_id.to_owned()))
    }

    fn import(&mut self, request: &Request, record: &mut Record) -> Answer {
        if let Err(reason) = self.may_import(request) {
            record.refused("credentials", None, reason);
            return import_error(401, reason, "Unauthorized");
        }
        if request.body.len() > self.account.import_bytes {
            let limit = self.account.import_bytes;
            record.refused("request_bytes", None, format!("more than {limit} bytes"));
            let error = format!("request exceeds max limit of {limit} bytes");
            return import_error(413, &error, "Request Entity Too Large");
        }
        let Some(events) = import_events(request) else {
            record.refused(
                "body",
                None,
                "not a JSON array, or lines of JSON, of its media type",
            );
            return import_error(400, "request body is not a list of events", "Bad Request");
        };
        if events.len() > RECORDS {
            record.refused(
                "request_records",
                None,
                format!("more than {RECORDS} events"),
            );
            let error = format!("request exceeds max limit of {RECORDS} events");
            return import_error(413, &error, "Request Entity Too Large");
        }
        let strict = request.query_value("strict") == Some("1");
        if !strict {
            record.altered(
                "strict",
                None,
                "without `strict=1` Mixpanel loses invalid events behind a 200",
            );
        }
        let now = milliseconds(request.at);
        let mut failed_records = Vec::new();
        let total = events.len();
        for (index, raw) in events.into_iter().enumerate() {
            let event = serde_json::from_str::<Value>(raw).unwrap_or(Value::Null);
            let insert_id = event.pointer("/properties/$insert_id").cloned();
            let item = insert_id
                .as_ref()
                .and_then(Value::as_str)
                .map(str::to_owned);
            let item = item.unwrap_or_else(|| index.to_string());
            match self.check_event(&event, raw.len(), now) {
                Ok(()) => self.keep_event(event, &item, record),
                Err(failed) if strict => {
                    record.refused(failed.rule, Some(&item), failed.message.clone());
                    failed_records.push(json!({
                        "index": index,
                        "insert_id": insert_id.unwrap_or(Value::Null),
                        "field": failed.field,
                        "message": failed.message,
                    }));
                }
                Err(failed) => record.dropped(failed.rule, Some(&item), failed.message),
            }
        }
        let imported = total - failed_records.len();
        if failed_records.is_empty() {
            return Answer::json(
                200,
                &json!({ "code": 200, "num_records_imported": imported, "status": "OK" }),
            );
        }
        Answer::json(
            400,
            &json!({
                "code": 400,
                "error": "some data points in the request failed validation",
                "failed_records": failed_records,
                "num_records_imported": imported,
                "status": "Bad Request",
            }),
        )
    }

    /// Either a service account with its project, or the token without one.
    fn may_import(&self, request: &Request) -> Result<(), &'static str> {
        let Some((username, password)) = request.basic_credentials() else {
            return Err("no Basic credentials");
        };
        match (
            request.query_value("project_id"),
            &self.account.service_account,
        ) {
            (None, _) if username == self.account.project_token => {
                if password.is_empty() {
                    Ok(())
                } else {
                    Err("a token has an empty password")
                }
            }
            (None, Some(service)) if username == service.username => {
                Err("a service account needs `project_id`")
            }
            (None, _) => Err("the project token is not this project's"),
            (Some(_), None) => Err("the project has no service account"),
            (Some(project), Some(service)) => {
                let matches = project == service.project_id
                    && username == service.username
                    && password == service.secret;
                if matches {
                    Ok(())
                } else {
                    Err("not this project's service account")
                }
            }
        }
    }

    fn check_event(&self, event: &Value, bytes: usize, now: i64) -> Result<(), Failed> {
        let Some(event) = event.as_object() else {
            return Err(Failed::new("event", "", "an event must be an object"));
        };
        if bytes >= RECORD_BYTES {
            return Err(Failed::new(
                "event_bytes",
                "",
                format!("an event must be smaller than {RECORD_BYTES} bytes"),
            ));
        }
        let Some(name) = filled(event, "event") else {
            return Err(Failed::new(
                "event_name",
                "event",
                "'event' must not be missing or empty",
            ));
        };
        let Some(properties) = event.get("properties").and_then(Value::as_object) else {
            return Err(Failed::new(
                "properties",
                "properties",
                "'properties' must be an object",
            ));
        };
        if let Some(link) = self.identity_event(name) {
            return check_link(link, properties);
        }
        check_size(properties)?;
        check_event_time(properties.get("time"), now)?;
        check_distinct_id(properties.get("distinct_id"))?;
        check_insert_id(properties.get("$insert_id"))
    }

    /// The events that link identities and have rules of their own.
    fn identity_event<'a>(&self, name: &'a str) -> Option<&'a str> {
        let links = matches!(name, "$identify" | "$merge" | "$create_alias");
        (self.account.id_merge == IdMerge::Original && links).then_some(name)
    }

    /// Keeps an event that passed the checks, if it is not there already.
    fn keep_event(&mut self, event: Value, item: &str, record: &mut Record) {
        let name = event
            .get("event")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let properties = event.get("properties").and_then(Value::as_object);
        let Some(properties) = properties else { return };
        self.check_bent(&name, properties, item, record);
        let text = |key: &str| {
            properties
                .get(key)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let distinct_id = match self.account.id_merge {
            IdMerge::Simplified => derived_id(properties).or_else(|| text("distinct_id")),
            IdMerge::Original => text("distinct_id"),
        };
        let insert_id = text("$insert_id");
        // Links come without an insert id: they may be repeated at will.
        if let Some(insert_id) = &insert_id {
            let time = properties
                .get("time")
                .and_then(Value::as_i64)
                .unwrap_or_default();
            let user = distinct_id.clone().unwrap_or_default();
            let key = (name, time, user, insert_id.clone());
            if self.seen.contains(&key) {
                return record.duplicate(insert_id.clone());
            }
            if self.insert_ids.contains(insert_id) {
                record.altered(
                    "insert_id_reused",
                    Some(item),
                    "the same `$insert_id` with another event, time or distinct_id: both stay",
                );
            }
            self.seen.insert(key, (), record.capacity());
            self.insert_ids
                .insert(insert_id.clone(), (), record.capacity());
        }
        let received = Received::new("import", event);
        record.accept(Received {
            id: insert_id,
            user: distinct_id,
            ..received
        });
    }

    /// What Mixpanel takes, but not as it was meant.
    fn check_bent(
        &self,
        name: &str,
        properties: &Map<String, Value>,
        item: &str,
        record: &mut Record,
    ) {
        let item = Some(item);
        if let Some(key) = properties
            .iter()
            .find_map(|(key, value)| too_long(key, value))
        {
            record.altered(
                "string_length",
                item,
                format!("`{key}` is cut to {STRING_LENGTH} characters"),
            );
        }
        if let Some(token) = properties.get("token")
            && token.as_str() != Some(self.account.project_token.as_str())
        {
            record.altered("token", item, "`token` is not this project's");
        }
        match self.account.id_merge {
            IdMerge::Original if self.identity_event(name).is_some() => {
                if name == "$identify" && !filled(properties, "$anon_id").is_some_and(is_uuid_v4) {
                    record.altered("link", item, "`$anon_id` must be a UUIDv4 to be linked");
                }
            }
            IdMerge::Original if !properties.contains_key("distinct_id") => {
                no_distinct_id(item, record);
            }
            IdMerge::Original => {}
            IdMerge::Simplified if matches!(name, "$merge" | "$create_alias") => {
                record.altered("link", item, format!("{name} does nothing in this project"));
            }
            IdMerge::Simplified => check_simplified_ids(properties, item, record),
        }
    }

    /// `/engage` and `/groups`: 200 whatever happens, the truth in the body.
    fn update(&mut self, profiles: Profiles, request: &Request, record: &mut Record) -> Answer {
        let verbose = request.query_value("verbose") == Some("1");
        if request.encoding().is_some() {
            record.refused("gzip", None, "profiles take no content encoding");
            return Answer::text(400, "content encoding is not supported");
        }
        if request.media_type().as_deref() != Some("application/json") {
            record.refused(
                "content_type",
                None,
                "the content type must be application/json",
            );
            return update_answer(verbose, Some("content type must be application/json"));
        }
        let updates = serde_json::from_slice::<Vec<&RawValue>>(&request.body);
        let Ok(updates) = updates else {
            record.refused("body", None, "the body must be a JSON array");
            return update_answer(verbose, Some("data must be a list of objects"));
        };
        if updates.is_empty() || updates.len() > RECORDS {
            record.refused("request_records", None, format!("1 to {RECORDS} records"));
            return update_answer(verbose, Some("wrong number of records"));
        }
        let mut checked = Vec::with_capacity(updates.len());
        for (index, raw) in updates.into_iter().enumerate() {
            match self.check_update(profiles, raw.get()) {
                Ok(update) => checked.push(update),
                Err((rule, reason)) => {
                    // The answer speaks for the whole request, so nothing of
                    // it counts as taken.
                    record.refused(rule, Some(&index.to_string()), reason.clone());
                    return update_answer(verbose, Some(&reason));
                }
            }
        }
        let capacity = record.capacity();
        for update in checked {
            self.apply(&update, capacity);
            let Update { target, body, .. } = update;
            let (endpoint, user) = match target {
                Target::User(distinct_id) => ("engage", Some(distinct_id)),
                Target::Group(_, group_id) => ("groups", Some(group_id)),
            };
            let received = Received::new(endpoint, Value::Object(body));
            record.accept(Received { user, ..received });
        }
        update_answer(verbose, None)
    }

    fn check_update(
        &self,
        profiles: Profiles,
        raw: &str,
    ) -> Result<Update, (&'static str, String)> {
        let fail = |rule, reason: &str| Err((rule, reason.to_owned()));
        let Ok(Value::Object(body)) = serde_json::from_str(raw) else {
            return fail("record", "a record must be an object");
        };
        if raw.len() >= RECORD_BYTES {
            return fail("record_bytes", "a record must be smaller than 1 MB");
        }
        if body.get("$token").and_then(Value::as_str) != Some(self.account.project_token.as_str()) {
            return fail("token", "$token, missing or not this project's");
        }
        let target = match profiles {
            Profiles::Users => {
                let Some(id) = filled(&body, "$distinct_id") else {
                    return fail("distinct_id", "$distinct_id, missing or empty");
                };
                if is_refused(id) {
                    return fail("distinct_id_refused", "$distinct_id is a placeholder");
                }
                Target::User(id.to_owned())
            }
            Profiles::Groups => {
                let ids = (filled(&body, "$group_key"), filled(&body, "$group_id"));
                let (Some(key), Some(id)) = ids else {
                    return fail("group", "$group_key or $group_id, missing or empty");
                };
                Target::Group(key.to_owned(), id.to_owned())
            }
        };
        let mut operation = None;
        for (key, value) in &body {
            match (key.as_str(), profiles) {
                ("$token", _)
                | ("$distinct_id", Profiles::Users)
                | ("$group_key" | "$group_id", Profiles::Groups) => {}
                ("$ip", Profiles::Users) => {
                    let ip = value.as_str();
                    if !ip.is_some_and(|ip| ip == "0" || ip.parse::<std::net::IpAddr>().is_ok()) {
                        return fail("ip", "$ip is not an address");
                    }
                }
                ("$ignore_time" | "$ignore_alias", Profiles::Users) => {
                    // Mixpanel's own examples write both forms.
                    if !value.is_boolean() && !matches!(value.as_str(), Some("true" | "false")) {
                        return fail("flag", "a flag must be true or false");
                    }
                }
                ("$time", Profiles::Users) if value.is_number() => {}
                (name, _) => {
                    let Some(kind) = Operation::named(name, profiles) else {
                        return Err(("field", format!("{name} is not part of a record")));
                    };
                    if operation.replace(kind).is_some() {
                        return fail("operation", "a record has exactly one operation");
                    }
                    if !kind.accepts(value) {
                        return Err((
                            "operation_value",
                            format!("{name} does not take {}", kind_of(value)),
                        ));
                    }
                }
            }
        }
        match operation {
            Some(operation) => Ok(Update {
                target,
                operation,
                body,
            }),
            None => fail("operation", "a record has exactly one operation"),
        }
    }

    fn apply(&mut self, update: &Update, capacity: usize) {
        let value = update
            .body
            .get(update.operation.name())
            .unwrap_or(&Value::Null);
        match &update.target {
            Target::User(id) => apply(&mut self.profiles, id, update.operation, value, capacity),
            Target::Group(key, id) => {
                let place = (key.clone(), id.clone());
                apply(&mut self.groups, &place, update.operation, value, capacity);
            }
        }
    }

    /// The deletion of people, on request, by law.
    fn delete(&mut self, request: &Request, record: &mut Record) -> Answer {
        let token = self.account.gdpr_oauth_token.as_deref();
        if token.is_none() || request.bearer_token() != token {
            record.refused("credentials", None, "no or a wrong OAuth token");
            return deletion_error(401, "invalid OAuth token");
        }
        if request.query_value("token") != Some(self.account.project_token.as_str()) {
            record.refused("token", None, "`token` is not this project's");
            return deletion_error(401, "invalid project token");
        }
        if request.encoding().is_some()
            || request.media_type().as_deref() != Some("application/json")
        {
            record.refused("content_type", None, "deletions are plain application/json");
            return deletion_error(400, "send application/json");
        }
        let Some(Value::Object(body)) = request.body_json() else {
            record.refused("json", None, "the body is not a JSON object");
            return deletion_error(400, "malformed JSON");
        };
        let ids = body.get("distinct_ids").and_then(Value::as_array);
        let valid = ids.is_some_and(|ids| {
            (1..=RECORDS).contains(&ids.len())
                && ids
                    .iter()
                    .all(|id| id.as_str().is_some_and(|id| !id.is_empty()))
        });
        if !valid {
            record.refused(
                "distinct_ids",
                None,
                format!("1 to {RECORDS} non-empty strings"),
            );
            return deletion_error(400, "distinct_ids is invalid");
        }
        match body.get("compliance_type").map(Value::as_str) {
            Some(Some("GDPR" | "CCPA")) => {}
            None => record.altered("compliance_type", None, "absent, it means GDPR"),
            Some(_) => {
                record.refused("compliance_type", None, "must be GDPR or CCPA");
                return deletion_error(400, "compliance_type must be GDPR or CCPA");
            }
        }
        let ids: Vec<String> = ids
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        for id in &ids {
            self.profiles.remove(id);
        }
        self.deletions += 1;
        let task = format!("deletion-{}", self.deletions);
        let received = Received::new("data-deletions", Value::Object(body)).id(task.clone());
        record.accept(Received {
            user: ids.into_iter().next(),
            ..received
        });
        Answer::json(
            200,
            &json!({ "status": "ok", "results": { "task_id": task } }),
        )
    }
}

fn import_error(code: u16, error: &str, status: &str) -> Answer {
    Answer::json(
        code,
        &json!({ "code": code, "error": error, "status": status }),
    )
}

fn deletion_error(code: u16, error: &str) -> Answer {
    Answer::json(code, &json!({ "status": "error", "error": error }))
}

fn update_answer(verbose: bool, error: Option<&str>) -> Answer {
    let status = u8::from(error.is_none());
    if verbose {
        return Answer::json(200, &json!({ "error": error, "status": status }));
    }
    Answer::json(200, &json!(status))
}

/// The events as they were written, from an array or from lines.
fn import_events(request: &Request) -> Option<Vec<&str>> {
    match request.media_type().as_deref() {
        Some("application/json") => {
            let events = serde_json::from_slice::<Vec<&RawValue>>(&request.body).ok()?;
            Some(events.into_iter().map(RawValue::get).collect())
        }
        Some("application/x-ndjson") => {
            let text = std::str::from_utf8(&request.body).ok()?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let events = lines.map(|line| serde_json::from_str::<&RawValue>(line).ok());
            events.map(|event| event.map(RawValue::get)).collect()
        }
        _ => None,
    }
}

fn is_refused(id: &str) -> bool {
    REFUSED_IDS
        .iter()
        .any(|refused| refused.eq_ignore_ascii_case(id.trim()))
}

fn check_size(properties: &Map<String, Value>) -> Result<(), Failed> {
    if properties.len() >= ELEMENTS {
        return Err(Failed::new(
            "properties_count",
            "properties",
            format!("'properties' must have fewer than {ELEMENTS} keys"),
        ));
    }
    if properties.values().any(is_too_wide) {
        return Err(Failed::new(
            "properties_nested",
            "properties",
            format!("objects and arrays must have fewer than {ELEMENTS} elements"),
        ));
    }
    Ok(())
}

fn is_too_wide(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.len() >= ELEMENTS || values.iter().any(is_too_wide),
        Value::Object(map) => map.len() >= ELEMENTS || map.values().any(is_too_wide),
        _ => false,
    }
}

fn check_event_time(time: Option<&Value>, now: i64) -> Result<(), Failed> {
    let fail = |message: &str| {
        Err(Failed::new(
            "time",
            "properties.time",
            format!("'properties.time' is invalid: {message}"),
        ))
    };
    let Some(time) = time.and_then(Value::as_i64) else {
        return fail("must be specified as seconds or milliseconds since epoch");
    };
    let time = if time < SECONDS_BELOW {
        time.saturating_mul(1000)
    } else {
        time
    };
    if time < EARLIEST {
        return fail("must not be before 1971-01-01");
    }
    if time > now.saturating_add(AHEAD) {
        return fail("must not be more than one hour in the future");
    }
    Ok(())
}

/// Empty is a valid distinct id: an event of nobody. Absent, it is derived from
/// `$user_id` or `$device_id`, else made up, which [`MixpanelVendor::check_bent`]
/// says: <https://docs.mixpanel.com/troubleshooting/errors/server-side-events-without-a-user>.
fn check_distinct_id(id: Option<&Value>) -> Result<(), Failed> {
    let field = "properties.distinct_id";
    match id.map(Value::as_str) {
        None => Ok(()),
        Some(None) => Err(Failed::new(
            "distinct_id",
            field,
            format!("'{field}' must be a string"),
        )),
        Some(Some(id)) if is_refused(id) => Err(Failed::new(
            "distinct_id_refused",
            field,
            format!("'{field}' is invalid: {id:?} is a placeholder"),
        )),
        Some(Some(_)) => Ok(()),
    }
}

/// The distinct id that the simplified id merge derives from the two ids.
fn derived_id(properties: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| properties.get(key).and_then(Value::as_str);
    match (text("$user_id"), text("$device_id")) {
        (Some(user), _) => Some(user.to_owned()),
        (None, device) => device.map(|device| format!("$device:{device}")),
    }
}

fn check_insert_id(id: Option<&Value>) -> Result<(), Failed> {
    let field = "properties.$insert_id";
    let fail = |message: &str| {
        Err(Failed::new(
            "insert_id",
            field,
            format!("'$insert_id' is invalid: {message}"),
        ))
    };
    match id.map(Value::as_str) {
        None => fail("must not be missing"),
        Some(None) => fail("must be a string"),
        Some(Some("")) => fail("must not be empty"),
        Some(Some(id)) if id.len() > INSERT_ID_BYTES => fail("must have at most 36 bytes"),
        Some(Some(id))
            if !id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
        {
            fail("must only contain alphanumeric or hyphen '-' characters")
        }
        Some(Some(id)) if is_refused(id) => fail("is a placeholder"),
        Some(Some(_)) => Ok(()),
    }
}

/// `$identify`, `$merge` and `$create_alias` of the original id merge:
/// <https://developer.mixpanel.com/reference/create-identity>.
fn check_link(link: &str, properties: &Map<String, Value>) -> Result<(), Failed> {
    let (required, field): (&[&str], _) = match link {
        "$identify" => (&["$identified_id", "$anon_id"], "properties.$identified_id"),
        "$create_alias" => (&["distinct_id", "alias"], "properties.alias"),
        _ => {
            let ids = properties.get("$distinct_ids").and_then(Value::as_array);
            let pair = ids.is_some_and(|ids| {
                ids.len() == 2
                    && ids.iter().all(|id| {
                        id.as_str()
                            .is_some_and(|id| !id.is_empty() && !is_refused(id))
                    })
            });
            return if pair {
                Ok(())
            } else {
                Err(Failed::new(
                    "link",
                    "properties.$distinct_ids",
                    "'$distinct_ids' must be two ids",
                ))
            };
        }
    };
    for key in required {
        if filled(properties, key).is_none_or(is_refused) {
            return Err(Failed::new("link", field, format!("{link} needs '{key}'")));
        }
    }
    Ok(())
}

/// In the simplified id merge the two ids decide on the third.
fn check_simplified_ids(properties: &Map<String, Value>, item: Option<&str>, record: &mut Record) {
    let user = properties.get("$user_id");
    let device = properties.get("$device_id");
    for (key, value) in [("$user_id", user), ("$device_id", device)] {
        if value.is_some_and(|value| {
            value
                .as_str()
                .is_none_or(|id| id.is_empty() || is_refused(id))
        }) {
            record.altered("identity", item, format!("`{key}` is not an id"));
        }
    }
    let sent = properties.get("distinct_id").and_then(Value::as_str);
    match (derived_id(properties), sent) {
        (Some(derived), Some(sent)) if derived != sent => record.altered(
            "identity",
            item,
            format!("`distinct_id` becomes {derived:?}, as its two ids say"),
        ),
        (None, None) => no_distinct_id(item, record),
        _ => {}
    }
}

fn no_distinct_id(item: Option<&str>, record: &mut Record) {
    record.altered(
        "distinct_id_missing",
        item,
        "without `distinct_id` Mixpanel makes up a user from the sender's address",
    );
}

/// The key under which a string is too long to be kept whole.
fn too_long<'a>(key: &'a str, value: &Value) -> Option<&'a str> {
    fn cut(value: &Value) -> bool {
        match value {
            Value::String(text) => text.chars().count() > STRING_LENGTH,
            Value::Array(values) => values.iter().any(cut),
            Value::Object(map) => map.values().any(cut),
            _ => false,
        }
    }
    (key.chars().count() > STRING_LENGTH || cut(value)).then_some(key)
}

/// Whose profiles an endpoint updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profiles {
    Users,
    Groups,
}

/// The profile of an update.
#[derive(Debug)]
enum Target {
    User(String),
    Group(String, String),
}

/// An update that passed the checks.
#[derive(Debug)]
struct Update {
    target: Target,
    operation: Operation,
    body: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set,
    SetOnce,
    Add,
    Append,
    Union,
    Remove,
    Unset,
    Delete,
}

impl Operation {
    fn named(name: &str, profiles: Profiles) -> Option<Self> {
        let all = [
            Self::Set,
            Self::SetOnce,
            Self::Add,
            Self::Append,
            Self::Union,
            Self::Remove,
            Self::Unset,
            Self::Delete,
        ];
        let operation = all.into_iter().find(|operation| operation.name() == name)?;
        let of_users_only = matches!(operation, Self::Add | Self::Append);
        (profiles == Profiles::Users || !of_users_only).then_some(operation)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "$set",
            Self::SetOnce => "$set_once",
            Self::Add => "$add",
            Self::Append => "$append",
            Self::Union => "$union",
            Self::Remove => "$remove",
            Self::Unset => "$unset",
            Self::Delete => "$delete",
        }
    }

    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Set | Self::SetOnce | Self::Append | Self::Remove => value.is_object(),
            Self::Add => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_number)),
            Self::Union => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_array)),
            Self::Unset => value
                .as_array()
                .is_some_and(|names| names.iter().all(Value::is_string)),
            // Any value deletes; "null" is what the documentation writes.
            Self::Delete => true,
        }
    }
}

fn apply<K: Clone + Eq + std::hash::Hash>(
    profiles: &mut Remembered<K, Map<String, Value>>,
    key: &K,
    operation: Operation,
    value: &Value,
    capacity: usize,
) {
    if operation == Operation::Delete {
        profiles.remove(key);
        return;
    }
    if !profiles.contains(key) {
        profiles.insert(key.clone(), Map::new(), capacity);
    }
    let Some(profile) = profiles.get_mut(key) else {
        return;
    };
    if let (Operation::Unset, Some(names)) = (operation, value.as_array()) {
        for name in names.iter().filter_map(Value::as_str) {
            profile.remove(name);
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        change(profile, operation, name, value);
    }
}

fn change(profile: &mut Map<String, Value>, operation: Operation, name: &str, value: &Value) {
    match operation {
        Operation::Set => {
            profile.insert(name.to_owned(), value.clone());
        }
        Operation::SetOnce => {
            profile.entry(name).or_insert_with(|| value.clone());
        }
        Operation::Add => {
            let sum = match (profile.get(name), value.as_i64()) {
                (None, _) => value.clone(),
                (Some(before), Some(more)) if before.is_i64() => {
                    json!(before.as_i64().unwrap_or_default().saturating_add(more))
                }
                (Some(before), _) => {
                    json!(before.as_f64().unwrap_or_default() + value.as_f64().unwrap_or_default())
                }
            };
            profile.insert(name.to_owned(), sum);
        }
        Operation::Append | Operation::Union => {
            let list = profile.entry(name).or_insert_with(|| json!([]));
            let Some(list) = list.as_array_mut() else {
                return;
            };
            let added = match (operation, value.as_array()) {
                (Operation::Union, Some(values)) => values.clone(),
                _ => vec![value.clone()],
            };
            for value in added {
                if operation == Operation::Append || !list.contains(&value) {
                    list.push(value);
                }
            }
        }
        Operation::Remove => {
            if let Some(list) = profile.get_mut(name).and_then(Value::as_array_mut) {
                list.retain(|known| known != value);
            }
        }
        Operation::Unset | Operation::Delete => {}
    }
}

#[cfg(test)]
#[path = "mixpanel_tests.rs"]
mod tests;

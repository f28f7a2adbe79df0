//! Mailchimp: the members of one audience, Marketing API 3.0.
//!
//! - Members: <https://mailchimp.com/developer/marketing/api/list-members/>
//! - Events: <https://mailchimp.com/developer/marketing/api/list-member-events/>
//! - Tags: <https://mailchimp.com/developer/marketing/api/list-member-tags/>
//! - Errors: <https://mailchimp.com/developer/marketing/docs/errors/>
//! - Limits: <https://mailchimp.com/developer/marketing/docs/fundamentals/#api-limits>

use std::collections::{BTreeMap, BTreeSet};

use md5::{Digest, Md5};
use analytics_spec::Kind;
use serde_json::{Map, Value, json};

use super::{
    checks::{filled, is_rfc3339, kind_of},
    stage::{Staged, text},
};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

const ERRORS_PAGE: &str = "https://mailchimp.com/developer/marketing/docs/errors/";
/// Characters of a text merge field that are kept.
const MERGE_TEXT_LENGTH: usize = 255;
/// Events that a member keeps when memory is bounded.
const BOUNDED_EVENTS: usize = 100;

/// A Mailchimp audience, on loopback.
pub type ScriptedMailchimp = Scripted<MailchimpVendor>;

/// What a merge field holds.
/// <https://mailchimp.com/developer/marketing/docs/merge-fields/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeKind {
    /// Up to 255 characters.
    Text,
    /// A number, or text that is one.
    Number,
    /// An object with at least `addr1`, `city`, `state` and `zip`.
    Address,
    /// `MM/DD`.
    Birthday,
    /// A telephone number.
    Phone,
    /// `YYYY-MM-DD` or `MM/DD/YYYY`.
    Date,
    /// An address on the web.
    Url,
}

/// A merge field of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeField {
    /// Its tag, such as `FNAME`.
    pub tag: String,
    /// What it holds.
    pub kind: MergeKind,
    /// Whether a member must have it, unless the validation is skipped.
    pub required: bool,
}

impl MergeField {
    /// A field that a member may lack.
    pub fn new(tag: impl Into<String>, kind: MergeKind) -> Self {
        Self {
            tag: tag.into(),
            kind,
            required: false,
        }
    }

    /// The same field, which a member must have.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// The account that a [`ScriptedMailchimp`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MailchimpAccount {
    /// The API key.
    pub api_key: String,
    /// The id of the audience.
    pub audience_id: String,
    /// The merge fields. Default: the five of a new audience, `FNAME`,
    /// `LNAME`, `ADDRESS`, `PHONE`, `BIRTHDAY`.
    pub merge_fields: Vec<MergeField>,
    /// Simultaneous requests that a key may have. Default: 10.
    pub connections: usize,
}

impl MailchimpAccount {
    /// An account with the merge fields of a new audience.
    pub fn new(api_key: impl Into<String>, audience_id: impl Into<String>) -> Self {
        Self {
            api_key: api_key.into(),
            audience_id: audience_id.into(),
            merge_fields: vec![
                MergeField::new("FNAME", MergeKind::Text),
                MergeField::new("LNAME", MergeKind::Text),
                MergeField::new("ADDRESS", MergeKind::Address),
                MergeField::new("PHONE", MergeKind::Phone),
                MergeField::new("BIRTHDAY", MergeKind::Birthday),
            ],
            connections: 10,
        }
    }

    /// The same account with one more merge field, or another one of its tag.
    #[must_use]
    pub fn merge_field(mut self, field: MergeField) -> Self {
        self.merge_fields.retain(|known| known.tag != field.tag);
        self.merge_fields.push(field);
        self
    }

    /// The same account with this many simultaneous requests.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberStatus {
    /// Gets campaigns.
    Subscribed,
    /// Has been asked to confirm.
    Pending,
    /// Has left.
    Unsubscribed,
    /// Has bounced.
    Cleaned,
    /// Buys, and never subscribed.
    Transactional,
    /// Was put away through the API or the application.
    Archived,
    /// Was deleted for good: nobody may bring the address back but its owner.
    Forgotten,
}

impl MemberStatus {
    fn named(name: &str) -> Option<Self> {
        // The two that are missing cannot be asked for.
        match name {
            "subscribed" => Some(Self::Subscribed),
            "pending" => Some(Self::Pending),
            "unsubscribed" => Some(Self::Unsubscribed),
            "cleaned" => Some(Self::Cleaned),
            "transactional" => Some(Self::Transactional),
            _ => None,
        }
    }

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribed => "subscribed",
            Self::Pending => "pending",
            Self::Unsubscribed => "unsubscribed",
            Self::Cleaned => "cleaned",
            Self::Transactional => "transactional",
            Self::Archived => "archived",
            Self::Forgotten => "forgotten",
        }
    }
}

/// An event of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberEvent {
    /// Its name.
    pub name: String,
    /// Its properties; Mailchimp knows only text.
    pub properties: BTreeMap<String, String>,
    /// When it happened, as it was sent.
    pub occurred_at: Option<String>,
}

/// A member of the audience.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// The address, as it was last sent.
    pub email: String,
    /// Where the member stands.
    pub status: MemberStatus,
    /// The merge fields, by tag.
    pub merge_fields: Map<String, Value>,
    /// The other fields that were sent, such as `language`.
    pub details: Map<String, Value>,
    /// The active tags.
    pub tags: BTreeSet<String>,
    /// The events, in the order of arrival.
    pub events: Vec<MemberEvent>,
}

impl Member {
    /// A member of whom only the address is known.
    pub fn new(email: impl Into<String>, status: MemberStatus) -> Self {
        Self {
            email: email.into(),
            status,
            merge_fields: Map::new(),
            details: Map::new(),
            tags: BTreeSet::new(),
            events: Vec::new(),
        }
    }
}

/// The id of a member: MD5 of the lower-cased address, in hexadecimal.
pub fn subscriber_hash(email: &str) -> String {
    let digest = Md5::digest(email.trim().to_lowercase().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer as Mailchimp words its errors, for scripting a
/// [`Fault::Answer`](crate::Fault::Answer).
///
/// ```
/// use analytics_testkit::{Fault, vendors::problem};
///
/// let answer = problem(400, "Invalid Resource", "a@b.c has signed up to a lot of lists very recently; we're not allowing more signups for now");
/// let fault = Fault::Answer(answer);
/// ```
pub fn problem(status: u16, title: &str, detail: &str) -> Answer {
    problem_with(status, title, detail, &[])
}

fn problem_with(status: u16, title: &str, detail: &str, errors: &[(String, String)]) -> Answer {
    let mut body = json!({
        "type": ERRORS_PAGE,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "00000000-0000-0000-0000-000000000000",
    });
    if let (Some(body), false) = (body.as_object_mut(), errors.is_empty()) {
        let errors = errors
            .iter()
            .map(|(field, message)| json!({"field": field, "message": message}));
        body.insert("errors".to_owned(), errors.collect());
    }
    Answer::json(status, &body).header("content-type", "application/problem+json; charset=utf-8")
}

/// Mailchimp's rules, and the audience.
#[derive(Debug)]
pub struct MailchimpVendor {
    account: MailchimpAccount,
    members: Remembered<String, Member>,
}

impl From<MailchimpAccount> for MailchimpVendor {
    fn from(account: MailchimpAccount) -> Self {
        Self {
            account,
            members: Remembered::default(),
        }
    }
}

impl Staged for MailchimpVendor {
    const NAME: &'static str = "mailchimp";

    fn staged() -> Self {
        MailchimpAccount::new("sandbox-api-key-us1", "sandbox-audience").into()
    }

    fn keys(base_url: &str) -> String {
        format!(
            r#"api_key = "sandbox-api-key-us1"
audience_id = "sandbox-audience"
group_as_tag = true
base_url = "{base_url}"
"#
        )
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let body = &item.body;
        let user = item.user.as_deref().unwrap_or_default();
        Some(match item.endpoint.as_str() {
            "members" => (Kind::Identify, format!("member {user}")),
            "events" => (Kind::Track, text(body, "/name").to_owned()),
            "tags" => (Kind::Group, format!("tag {}", text(body, "/tags/0/name"))),
            "archive" => (Kind::Delete, format!("archived {user}")),
            "delete-permanent" => (Kind::Delete, format!("erased {user}")),
            _ => return None,
        })
    }
}

impl Scripted<MailchimpVendor> {
    /// Puts a member into the audience, in place of one of that address.
    pub fn seed(&self, member: Member) {
        self.with_vendor(|vendor| vendor.seed(member));
    }

    /// The member of that address, a forgotten one included.
    pub fn member(&self, email: &str) -> Option<Member> {
        self.with_vendor(|vendor| vendor.member(email).cloned())
    }
}

impl Vendor for MailchimpVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        if let Err(answer) = self.admit(request, record) {
            return answer;
        }
        let path: Vec<&str> = request.path.split('/').skip(1).collect();
        let (hash, rest) = match path.as_slice() {
            ["3.0", "ping"] => {
                return Answer::json(200, &json!({ "health_status": "Everything's Chimpy!" }));
            }
            ["3.0", "lists", audience, "members", hash, rest @ ..]
                if *audience == self.account.audience_id =>
            {
                (*hash, rest)
            }
            ["3.0", "lists", audience, ..] if *audience != self.account.audience_id => {
                record.refused("audience", None, format!("no audience {audience:?}"));
                return not_found();
            }
            _ => {
                record.refused("path", None, format!("not scripted: {}", request.path));
                return not_found();
            }
        };
        // Mailchimp also takes an address here; what is sent must be the hash.
        if hash.len() != 32
            || !hash
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            record.refused("hash", None, "the member's id is not an MD5 in lower case");
            return not_found();
        }
        match (request.method.as_str(), rest) {
            ("GET", []) => self.read(hash, record),
            ("PUT", []) => self.upsert(hash, request, record),
            ("DELETE", []) => self.archive(hash, record),
            ("POST", ["actions", "delete-permanent"]) => self.forget(hash, record),
            ("POST", ["events"]) => self.event(hash, request, record),
            ("POST", ["tags"]) => self.tag(hash, request, record),
            (_, [] | ["actions", "delete-permanent"] | ["events"] | ["tags"]) => {
                record.refused(
                    "method",
                    None,
                    format!("{} is not scripted here", request.method),
                );
                problem(
                    405,
                    "Method Not Allowed",
                    "The requested method and resource are not compatible. See the Allow header for this resource's available methods.",
                )
            }
            _ => {
                record.refused("path", None, format!("not scripted: {}", request.path));
                not_found()
            }
        }
    }
}

fn not_found() -> Answer {
    problem(
        404,
        "Resource Not Found",
        "The requested resource could not be found.",
    )
}

fn invalid(errors: &[(String, String)]) -> Answer {
    problem_with(
        400,
        "Invalid Resource",
        "The resource submitted could not be validated. For field-specific details, see the 'errors' array.",
        errors,
    )
}

/// Collects what is wrong with a body, field by field.
#[derive(Default)]
struct FieldErrors(Vec<(String, String)>);

impl FieldErrors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    fn schema(&mut self, field: &str, wanted: &str, found: &Value) {
        let found = match found {
            Value::Null => "NULL",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.add(
            field,
            format!("Schema describes {wanted}, {found} found instead"),
        );
    }

    fn refuse(self, rule: &'static str, item: &str, record: &mut Record) -> Result<(), Answer> {
        if self.0.is_empty() {
            return Ok(());
        }
        for (field, message) in &self.0 {
            record.refused(rule, Some(item), format!("{field}: {message}"));
        }
        Err(invalid(&self.0))
    }
}

impl MailchimpVendor {
    /// Puts a member into the audience, in place of one of that address.
    pub fn seed(&mut self, member: Member) {
        self.members
            .insert(subscriber_hash(&member.email), member, usize::MAX);
    }

    /// The member of that address, a forgotten one included.
    pub fn member(&self, email: &str) -> Option<&Member> {
        self.members.get(&subscriber_hash(email))
    }

    /// The key, and how many requests it has in hand.
    fn admit(&self, request: &Request, record: &mut Record) -> Result<(), Answer> {
        let key = match request.basic_credentials() {
            Some((_, password)) => Some(password),
            None => request.bearer_token().map(str::to_owned),
        };
        let Some(key) = key else {
            record.refused("api_key", None, "no API key");
            return Err(problem(
                401,
                "API Key Missing",
                "Your request did not include an API key.",
            ));
        };
        if key != self.account.api_key {
            record.refused("api_key", None, "the API key is not this account's");
            return Err(problem(
                401,
                "API Key Invalid",
                "Your API key may be invalid, or you've attempted to access the wrong datacenter.",
            ));
        }
        if request.in_flight > self.account.connections {
            let limit = self.account.connections;
            record.refused(
                "connections",
                None,
                format!("more than {limit} at one time"),
            );
            return Err(problem(
                429,
                "Too Many Requests",
                &format!("You have exceeded the limit of {limit} simultaneous connections."),
            ));
        }
        Ok(())
    }

    fn read(&self, hash: &str, record: &mut Record) -> Answer {
        match self.present(hash) {
            Some(member) => Answer::json(200, &self.representation(hash, member)),
            None => {
                record.refused("not_a_member", Some(hash), "no such member");
                not_found()
            }
        }
    }

    fn upsert(&mut self, hash: &str, request: &Request, record: &mut Record) -> Answer {
        match self.try_upsert(hash, request, record) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    fn try_upsert(
        &mut self,
        hash: &str,
        request: &Request,
        record: &mut Record,
    ) -> Result<Answer, Answer> {
        let body = json_body(request, record)?;
        let skip_required = match request.query_value("skip_merge_validation") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                record.altered("query", None, format!("skip_merge_validation={other}"));
                false
            }
        };
        for (key, _) in request
            .query
            .iter()
            .filter(|(key, _)| key != "skip_merge_validation")
        {
            record.altered("query", None, format!("`{key}` means nothing here"));
        }
        check_member_fields(&body, hash, record)?;
        let email = filled(&body, "email_address")
            .unwrap_or_default()
            .to_owned();
        if subscriber_hash(&email) != hash {
            let mut errors = FieldErrors::default();
            errors.add(
                "email_address",
                "The address is not the one that the URL names.",
            );
            errors.refuse("hash", hash, record)?;
        }
        let known = self.members.get(&hash.to_owned());
        let before = known.map(|member| member.status);
        let stored = known
            .map(|member| member.merge_fields.clone())
            .unwrap_or_default();
        let merge_fields = self.check_merge_fields(&body, stored, skip_required, hash, record)?;
        let status = next_status(&body, before, &email, hash, record)?;

        let key = hash.to_owned();
        if before.is_none() {
            self.members.insert(
                key.clone(),
                Member::new(email.clone(), status),
                record.capacity(),
            );
        }
        let details = [
            "language",
            "ip_signup",
            "ip_opt",
            "location",
            "email_type",
            "vip",
        ];
        let Some(member) = self.members.get_mut(&key) else {
            return Err(not_found());
        };
        member.email.clone_from(&email);
        member.status = status;
        member.merge_fields = merge_fields;
        for detail in details {
            if let Some(value) = body.get(detail) {
                member.details.insert(detail.to_owned(), value.clone());
            }
        }
        for tag in body
            .get("tags")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            member.tags.extend(tag.as_str().map(str::to_owned));
        }
        record.accept(Received::new("members", Value::Object(body)).user(email));
        let member = self.members.get(&key);
        Ok(member.map_or_else(not_found, |member| {
            Answer::json(200, &self.representation(hash, member))
        }))
    }

    /// The merge fields after the update, or what is wrong with the new ones.
    fn check_merge_fields(
        &self,
        body: &Map<String, Value>,
        mut stored: Map<String, Value>,
        skip_required: bool,
        item: &str,
        record: &mut Record,
    ) -> Result<Map<String, Value>, Answer> {
        let sent = body.get("merge_fields").and_then(Value::as_object);
        let mut schema = FieldErrors::default();
        let mut content = Vec::new();
        for (tag, value) in sent.into_iter().flatten() {
            let name = format!("merge_fields.{tag}");
            let Some(field) = self
                .account
                .merge_fields
                .iter()
                .find(|field| field.tag == *tag)
            else {
                record.altered("merge_field", Some(item), format!("no merge field {tag}"));
                continue;
            };
            let fits = match field.kind {
                // Empty text clears an address.
                MergeKind::Address => value.is_object() || value.as_str() == Some(""),
                _ => value.is_string() || value.is_number(),
            };
            if !fits {
                schema.add(
                    name,
                    "Data did not match any of the schemas described in anyOf.",
                );
            } else if let Err(message) = check_merge_value(field.kind, value) {
                content.push((tag.clone(), message.to_owned()));
            } else {
                if value
                    .as_str()
                    .is_some_and(|text| text.chars().count() > MERGE_TEXT_LENGTH)
                {
                    record.altered(
                        "merge_length",
                        Some(item),
                        format!("{tag} is cut to {MERGE_TEXT_LENGTH} characters"),
                    );
                }
                stored.insert(tag.clone(), value.clone());
            }
        }
        schema.refuse("merge_schema", item, record)?;
        for field in self
            .account
            .merge_fields
            .iter()
            .filter(|field| field.required)
        {
            let missing = match stored.get(&field.tag) {
                None => true,
                Some(value) => value.as_str().is_some_and(|text| text.trim().is_empty()),
            };
            if missing && !skip_required {
                content.push((field.tag.clone(), "Please enter a value".to_owned()));
            }
        }
        if content.is_empty() {
            return Ok(stored);
        }
        for (tag, message) in &content {
            record.refused("merge_value", Some(item), format!("{tag}: {message}"));
        }
        Err(problem_with(
            400,
            "Invalid Resource",
            "Your merge fields were invalid.",
            &content,
        ))
    }

    fn archive(&mut self, hash: &str, record: &mut Record) -> Answer {
        let Some(member) = self.present_mut(hash) else {
            record.refused("not_a_member", Some(hash), "no such member");
            return not_found();
        };
        match member.status {
            MemberStatus::Archived | MemberStatus::Pending | MemberStatus::Cleaned => {
                let status = member.status.name();
                record.refused("archive", Some(hash), format!("the member is {status}"));
                problem(
                    405,
                    "Method Not Allowed",
                    "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived",
                )
            }
            _ => {
                member.status = MemberStatus::Archived;
                let email = member.email.clone();
                record.accept(Received::new("archive", Value::Null).user(email));
                Answer::empty(204)
            }
        }
    }

    fn forget(&mut self, hash: &str, record: &mut Record) -> Answer {
        let Some(member) = self.present_mut(hash) else {
            record.refused("not_a_member", Some(hash), "no such member");
            return not_found();
        };
        let email = member.email.clone();
        // Mailchimp keeps the address, to refuse it, and nothing else.
        *member = Member::new(email.clone(), MemberStatus::Forgotten);
        record.accept(Received::new("delete-permanent", Value::Null).user(email));
        Answer::empty(204)
    }

    fn event(&mut self, hash: &str, request: &Request, record: &mut Record) -> Answer {
        let body = match json_body(request, record) {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        if let Err(answer) = check_event(&body, hash, record) {
            return answer;
        }
        let events = if record.capacity() == usize::MAX {
            usize::MAX
        } else {
            BOUNDED_EVENTS
        };
        let Some(member) = self.present_mut(hash) else {
            record.refused(
                "not_a_member",
                Some(hash),
                "an event of nobody in the audience",
            );
            return not_found();
        };
        let properties = body.get("properties").and_then(Value::as_object);
        let event = MemberEvent {
            name: filled(&body, "name").unwrap_or_default().to_owned(),
            properties: properties
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            occurred_at: filled(&body, "occurred_at").map(str::to_owned),
        };
        // Mailchimp knows no ids of events: what is sent twice is there twice.
        if event.occurred_at.is_some() && member.events.contains(&event) {
            record.duplicate(format!("{}/{}", member.email, event.name));
        }
        if member.events.len() >= events {
            member.events.remove(0);
        }
        member.events.push(event);
        let email = member.email.clone();
        record.accept(Received::new("events", Value::Object(body)).user(email));
        Answer::empty(204)
    }

    fn tag(&mut self, hash: &str, request: &Request, record: &mut Record) -> Answer {
        let body = match json_body(request, record) {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let tags = match check_tags(&body, hash, record) {
            Ok(tags) => tags,
            Err(answer) => return answer,
        };
        let Some(member) = self.present_mut(hash) else {
            record.refused(
                "not_a_member",
                Some(hash),
                "a tag for nobody in the audience",
            );
            return not_found();
        };
        for (name, active) in tags {
            if active {
                member.tags.insert(name);
            } else {
                member.tags.remove(&name);
            }
        }
        let email = member.email.clone();
        record.accept(Received::new("tags", Value::Object(body)).user(email));
        Answer::empty(204)
    }

    fn present(&self, hash: &str) -> Option<&Member> {
        let member = self.members.get(&hash.to_owned())?;
        (member.status != MemberStatus::Forgotten).then_some(member)
    }

    fn present_mut(&mut self, hash: &str) -> Option<&mut Member> {
        let member = self.members.get_mut(&hash.to_owned())?;
        (member.status != MemberStatus::Forgotten).then_some(member)
    }

    fn representation(&self, hash: &str, member: &Member) -> Value {
        let tags: Vec<Value> = member
            .tags
            .iter()
            .map(|name| json!({ "name": name }))
            .collect();
        let mut body = member.details.clone();
        for (key, value) in [
            ("id", json!(hash)),
            ("email_address", json!(member.email)),
            ("list_id", json!(self.account.audience_id)),
            ("status", json!(member.status.name())),
            ("merge_fields", Value::Object(member.merge_fields.clone())),
            ("tags_count", json!(tags.len())),
            ("tags", Value::Array(tags)),
        ] {
            body.insert(key.to_owned(), value);
        }
        Value::Object(body)
    }
}

fn json_body(request: &Request, record: &mut Record) -> Result<Map<String, Value>, Answer> {
    let detail = "We encountered an unspecified JSON parsing error.";
    if request.encoding().is_some() {
        record.refused("encoding", None, "Mailchimp documents no content encoding");
        return Err(problem(400, "JSON Parse Error", detail));
    }
    if request.media_type().as_deref() != Some("application/json") {
        record.refused(
            "content_type",
            None,
            "the content type must be application/json",
        );
        return Err(problem(400, "JSON Parse Error", detail));
    }
    match request.body_json() {
        Some(Value::Object(body)) => Ok(body),
        _ => {
            record.refused("json", None, "the body is not a JSON object");
            Err(problem(400, "JSON Parse Error", detail))
        }
    }
}

/// The fields of a member other than the merge fields' values.
fn check_member_fields(
    body: &Map<String, Value>,
    item: &str,
    record: &mut Record,
) -> Result<(), Answer> {
    let mut errors = FieldErrors::default();
    if !body.contains_key("email_address") {
        errors.add("", "Required fields were not provided: email_address");
    }
    for (key, value) in body {
        match key.as_str() {
            "email_address" => match value.as_str() {
                None => errors.schema(key, "string", value),
                Some(email) if !looks_like_email(email) => {
                    errors.add(key, "This value should be a valid email.");
                }
                Some(_) => {}
            },
            "status" | "status_if_new" => match value.as_str() {
                None => errors.schema(key, "string", value),
                Some(status) if MemberStatus::named(status).is_none() => errors.add(
                    key,
                    "Data did not match any of the allowed values: subscribed, unsubscribed, cleaned, pending, transactional",
                ),
                Some(_) => {}
            },
            "merge_fields" | "interests" if value.is_object() => {}
            "merge_fields" | "interests" => errors.schema(key, "object", value),
            "ip_signup" | "ip_opt" => {
                let address = value.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok());
                if !address {
                    errors.add(key, "This value should be a valid IP address.");
                }
            }
            "language" if value.as_str().is_some_and(|language| language.len() >= 2) => {}
            "language" => errors.schema(key, "string", value),
            "location" => {
                let within = |name: &str, limit: f64| {
                    value.get(name).and_then(Value::as_f64).is_some_and(|at| at.abs() <= limit)
                };
                if !within("latitude", 90.0) || !within("longitude", 180.0) {
                    errors.add(key, "Both coordinates are numbers within range.");
                }
            }
            "email_type" if matches!(value.as_str(), Some("html" | "text")) => {}
            "email_type" => errors.add(key, "Must be html or text."),
            "vip" if value.is_boolean() => {}
            "vip" => errors.schema(key, "boolean", value),
            "tags" => {
                let names = value.as_array();
                if !names.is_some_and(|names| names.iter().all(Value::is_string)) {
                    errors.schema(key, "array", value);
                }
            }
            "timestamp_signup" | "timestamp_opt" => {
                if !value.as_str().is_some_and(is_rfc3339) {
                    errors.add(key, "This value should be a date and time in ISO 8601.");
                }
            }
            "marketing_permissions" if value.is_array() => {}
            _ => record.altered(
                "field",
                Some(item),
                format!("`{key}` as {} means nothing in a member", kind_of(value)),
            ),
        }
    }
    errors.refuse("member", item, record)
}

/// The status after the update, or why there is none.
///
/// `status_if_new` says nothing about an address that the audience knows, an
/// archived one included; `status` would, and is what resubscribes people who
/// left.
fn next_status(
    body: &Map<String, Value>,
    before: Option<MemberStatus>,
    email: &str,
    item: &str,
    record: &mut Record,
) -> Result<MemberStatus, Answer> {
    let asked = |key: &str| filled(body, key).and_then(MemberStatus::named);
    if before == Some(MemberStatus::Forgotten) {
        record.refused("forgotten", Some(item), "the address was deleted for good");
        return Err(problem(
            400,
            "Forgotten Email Not Subscribed",
            &format!(
                "{email} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."
            ),
        ));
    }
    if let Some(status) = asked("status") {
        let left = matches!(
            before,
            Some(MemberStatus::Unsubscribed | MemberStatus::Cleaned)
        );
        if left && status == MemberStatus::Subscribed {
            record.refused(
                "compliance",
                Some(item),
                "subscribes somebody who left or bounced",
            );
            return Err(problem(
                400,
                "Member In Compliance State",
                &format!(
                    "{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
                ),
            ));
        }
        record.altered(
            "status",
            Some(item),
            "`status` in an upsert overrules what the member chose; use `status_if_new`",
        );
        return Ok(status);
    }
    match (before, asked("status_if_new")) {
        (Some(before), _) => Ok(before),
        (None, Some(status)) => Ok(status),
        (None, None) => {
            let mut errors = FieldErrors::default();
            errors.add("status_if_new", "This value is required for a new member.");
            errors.refuse("status_if_new", item, record)?;
            Err(not_found())
        }
    }
}

fn looks_like_email(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && !local.contains('@')
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && !email
            .chars()
            .any(|character| character.is_whitespace() || character.is_control())
}

fn check_merge_value(kind: MergeKind, value: &Value) -> Result<(), &'static str> {
    let text = match value {
        Value::String(text) if text.is_empty() => return Ok(()),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match kind {
        MergeKind::Text => Ok(()),
        MergeKind::Number => text
            .trim()
            .parse::<f64>()
            .map(|_| ())
            .map_err(|_| "Please enter a number"),
        MergeKind::Address => {
            let whole = value.as_object().is_some_and(|address| {
                ["addr1", "city", "state", "zip"]
                    .iter()
                    .all(|part| filled(address, part).is_some())
                    && address.values().all(Value::is_string)
            });
            if whole {
                Ok(())
            } else {
                Err("Please enter a complete address")
            }
        }
        MergeKind::Birthday => {
            let parts = text
                .split_once('/')
                .filter(|(month, day)| month.len() == 2 && day.len() == 2);
            // A leap year, so that 02/29 is a birthday.
            let date = parts.map(|(month, day)| format!("2024-{month}-{day}"));
            let valid = date.is_some_and(|date| date.parse::<jiff::civil::Date>().is_ok());
            if valid {
                Ok(())
            } else {
                Err("Please enter the month (01-12) and the day (01-31)")
            }
        }
        MergeKind::Phone => {
            let digits = text.chars().filter(char::is_ascii_digit).count();
            let strange = text
                .chars()
                .any(|c| !c.is_ascii_digit() && !" +-().x/".contains(c));
            if digits >= 3 && !strange {
                Ok(())
            } else {
                Err("Please enter a phone number")
            }
        }
        MergeKind::Date => {
            let american = text.splitn(3, '/').collect::<Vec<_>>();
            let iso = match american.as_slice() {
                [month, day, year] => format!("{year}-{month}-{day}"),
                _ => text.clone(),
            };
            let valid = iso.len() == 10 && iso.parse::<jiff::civil::Date>().is_ok();
            if valid {
                Ok(())
            } else {
                Err("Please enter a date")
            }
        }
        MergeKind::Url => {
            let valid = url::Url::parse(&text)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if valid {
                Ok(())
            } else {
                Err("Please enter a web address")
            }
        }
    }
}

fn check_event(body: &Map<String, Value>, item: &str, record: &mut Record) -> Result<(), Answer> {
    let mut errors = FieldErrors::default();
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    let fits = (2..=30).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !fits {
        errors.add("name", "2 to 30 letters, numbers, underscores and dashes.");
    }
    match body.get("properties") {
        None => {}
        Some(Value::Object(properties)) => {
            for (key, value) in properties.iter().filter(|(_, value)| !value.is_string()) {
                errors.schema(&format!("properties.{key}"), "string", value);
            }
        }
        Some(other) => errors.schema("properties", "object", other),
    }
    match body.get("occurred_at") {
        None => {}
        Some(at) if at.as_str().is_some_and(is_rfc3339) => {}
        Some(_) => errors.add(
            "occurred_at",
            "A date and time in ISO 8601, with an offset.",
        ),
    }
    match body.get("is_syncing") {
        None | Some(Value::Bool(_)) => {}
        Some(other) => errors.schema("is_syncing", "boolean", other),
    }
    let known = ["name", "properties", "occurred_at", "is_syncing"];
    for key in body.keys().filter(|key| !known.contains(&key.as_str())) {
        record.altered(
            "field",
            Some(item),
            format!("`{key}` means nothing in an event"),
        );
    }
    errors.refuse("event", item, record)
}

fn check_tags(
    body: &Map<String, Value>,
    item: &str,
    record: &mut Record,
) -> Result<Vec<(String, bool)>, Answer> {
    let mut errors = FieldErrors::default();
    let mut tags = Vec::new();
    match body.get("tags").and_then(Value::as_array) {
        None => errors.add("tags", "Required fields were not provided: tags"),
        Some(sent) => {
            for tag in sent {
                let name = tag.as_object().and_then(|tag| filled(tag, "name"));
                let active = match tag.get("status").and_then(Value::as_str) {
                    Some("active") => Some(true),
                    Some("inactive") => Some(false),
                    _ => None,
                };
                match (name, active) {
                    (Some(name), Some(active)) => tags.push((name.to_owned(), active)),
                    _ => errors.add("tags", "A tag has a name, and is active or inactive."),
                }
            }
        }
    }
    match body.get("is_syncing") {
        None | Some(Value::Bool(_)) => {}
        Some(other) => errors.schema("is_syncing", "boolean", other),
    }
    for key in body
        .keys()
        .filter(|key| !["tags", "is_syncing"].contains(&key.as_str()))
    {
        record.altered(
            "field",
            Some(item),
            format!("`{key}` means nothing beside tags"),
        );
    }
    errors.refuse("tags", item, record)?;
    Ok(tags)
}

#[cfg(test)]
#[path = "mailchimp_tests.rs"]
mod tests;

//! Heap: its server-side API, bulk forms.
//!
//! - Events: <https://developers.heap.io/reference/bulk-track>
//! - Users: <https://developers.heap.io/reference/bulk-add-user-properties>
//! - Fields of an event: <https://developers.heap.io/reference/track-1>

use analytics_spec::Kind;
use serde_json::{Map, Value, json};

use super::{
    checks::{filled, is_rfc3339, kind_of},
    stage::{Staged, text},
};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

/// Events, or users, of one request.
const MAX_ITEMS: usize = 1_000;
/// A key or a text has fewer characters than this.
const MAX_CHARS: usize = 1_024;

/// Heap, on loopback.
pub type ScriptedHeap = Scripted<HeapVendor>;

/// The environment that a [`ScriptedHeap`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeapAccount {
    /// The environment's id.
    pub app_id: String,
}

impl HeapAccount {
    /// An environment with an id.
    pub fn new(app_id: impl Into<String>) -> Self {
        Self {
            app_id: app_id.into(),
        }
    }
}

/// Heap's rules, and what it remembers.
#[derive(Debug)]
pub struct HeapVendor {
    account: HeapAccount,
    seen: Remembered<String, ()>,
}

impl From<HeapAccount> for HeapVendor {
    fn from(account: HeapAccount) -> Self {
        Self {
            account,
            seen: Remembered::default(),
        }
    }
}

impl Staged for HeapVendor {
    const NAME: &'static str = "heap";

    fn staged() -> Self {
        HeapAccount::new("sandbox-app-id").into()
    }

    fn keys(base_url: &str) -> String {
        format!("app_id = \"sandbox-app-id\"\nbase_url = \"{base_url}\"\n")
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let user = item.user.as_deref().unwrap_or_default();
        Some(match item.endpoint.as_str() {
            "track" => (Kind::Track, text(&item.body, "/event").to_owned()),
            _ => (Kind::Identify, format!("properties of {user}")),
        })
    }
}

impl Vendor for HeapVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        let body = request.body_json().unwrap_or_default();
        if text(&body, "/app_id") != self.account.app_id {
            record.refused("app_id", None, "not the environment's id");
            return Answer::json(401, &json!({"error": "invalid app_id"}));
        }
        let (endpoint, key) = match request.path.as_str() {
            "/api/track" => ("track", "events"),
            "/api/add_user_properties" => ("add_user_properties", "users"),
            path => {
                record.refused("path", None, format!("not scripted: {path}"));
                return Answer::empty(404);
            }
        };
        let items = body.get(key).and_then(Value::as_array);
        let Some(items) = items.filter(|items| items.len() <= MAX_ITEMS) else {
            record.refused("items", None, format!("up to {MAX_ITEMS} in `{key}`"));
            return Answer::json(400, &json!({"error": "invalid items"}));
        };
        for item in items {
            self.take(endpoint, item, record);
        }
        Answer::json(200, &json!({}))
    }
}

impl HeapVendor {
    fn take(&mut self, endpoint: &str, item: &Value, record: &mut Record) {
        let nothing = Map::new();
        let fields = item.as_object().unwrap_or(&nothing);
        let Some(user) = filled(fields, "identity") else {
            record.dropped("identity", None, "an item without an identity");
            return;
        };
        let properties = fields.get("properties").and_then(Value::as_object);
        for (key, value) in properties.unwrap_or(&nothing) {
            let is_taken = match value {
                Value::String(text) => text.chars().count() < MAX_CHARS,
                Value::Number(_) | Value::Array(_) => true,
                _ => false,
            };
            if !is_taken || key.chars().count() >= MAX_CHARS {
                record.altered("property", Some(user), format!("{key}: {}", kind_of(value)));
            }
        }
        let mut received = Received::new(endpoint, item.clone()).user(user);
        if endpoint == "track" {
            if filled(fields, "event").is_none() {
                record.dropped("event", Some(user), "an event without a name");
                return;
            }
            if !is_rfc3339(text(item, "/timestamp")) {
                record.altered("timestamp", Some(user), "no time: it happened now");
            }
            let key = text(item, "/idempotency_key").to_owned();
            if self.seen.contains(&key) {
                record.duplicate(key);
                return;
            }
            self.seen.insert(key.clone(), (), record.capacity());
            received = received.id(key);
        }
        record.accept(received);
    }
}

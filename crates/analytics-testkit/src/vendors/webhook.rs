//! A receiver of webhooks, as strict as one can be.
//!
//! The headers and signatures are those of Standard Webhooks:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//! The bodies are envelopes, which the specification's own reader reads.

use std::time::{Duration, UNIX_EPOCH};

use analytics_spec::{AnyInput, Kind};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::stage::{Staged, text};
use crate::server::{Answer, Received, Record, Remembered, Request, Scripted, Vendor};

/// A receiver of webhooks, on loopback.
pub type ScriptedWebhook = Scripted<WebhookVendor>;

/// What a [`ScriptedWebhook`] expects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WebhookAccount {
    /// The path that requests are sent to.
    pub path: String,
    /// Their method.
    pub method: String,
    /// The secrets of which one at least has signed each request; none, if they
    /// are not signed.
    pub secrets: Vec<String>,
    /// Headers that each request has.
    pub headers: Vec<(String, String)>,
    /// Whether a request is a batch.
    pub takes_batches: bool,
    /// Whether the answer has a result for each event.
    pub gives_results: bool,
    /// How far the time of a signature may be from that of its arrival.
    pub tolerance: Duration,
}

impl WebhookAccount {
    /// A receiver at a path of one event in a request, which is not signed.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            method: "POST".to_owned(),
            secrets: Vec::new(),
            headers: Vec::new(),
            takes_batches: false,
            gives_results: false,
            tolerance: Duration::from_secs(5 * 60),
        }
    }

    /// The same receiver for another method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// The same receiver with a secret, or one more.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// The same receiver of requests with a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same receiver, of batches.
    #[must_use]
    pub fn batches(mut self) -> Self {
        self.takes_batches = true;
        self
    }

    /// The same receiver of batches, which answers for each event.
    #[must_use]
    pub fn results(mut self) -> Self {
        self.gives_results = true;
        self.batches()
    }
}

/// Why a request is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Untrusted {
    /// A header of Standard Webhooks is missing, stands there twice, or is not
    /// as it has to be.
    Header(&'static str),
    /// The attempt was made too long ago, or will be.
    Time,
    /// No secret has signed the request.
    Signature,
}

/// Verifies the signature of a request that arrived at `request.at`: one of
/// the secrets (`whsec_` and base64) has signed its id, its timestamp and its
/// body, at a time not farther away than the tolerance. Codes are compared in
/// constant time.
///
/// # Errors
///
/// What is wrong.
pub fn verify_webhook(
    request: &Request,
    secrets: &[impl AsRef<str>],
    tolerance: Duration,
) -> Result<(), Untrusted> {
    let (id, at) = sender(request)?;
    let arrived = request.at.duration_since(UNIX_EPOCH);
    let arrived = arrived.map_or(0, |since| since.as_secs());
    if arrived.abs_diff(at) > tolerance.as_secs() {
        return Err(Untrusted::Time);
    }
    let signatures = single(request, "webhook-signature")?;
    let mut codes = Vec::new();
    for signature in signatures.split(' ') {
        let malformed = Untrusted::Header("webhook-signature");
        let (version, code) = signature.split_once(',').ok_or(malformed)?;
        // Others are for whoever knows them.
        if version == "v1" {
            codes.push(BASE64_STANDARD.decode(code).map_err(|_| malformed)?);
        }
    }
    let is_of = |secret: &str| {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(&request.body);
        let mut codes = codes.iter();
        codes.find(|code| mac.clone().verify_slice(code).is_ok())
    };
    let mut secrets = secrets.iter();
    match secrets.find_map(|secret| is_of(secret.as_ref())) {
        Some(_) => Ok(()),
        None => Err(Untrusted::Signature),
    }
}

/// The id of a request, and when it says that it was sent.
fn sender(request: &Request) -> Result<(&str, u64), Untrusted> {
    let id = single(request, "webhook-id")?;
    if !is_sound(id) {
        return Err(Untrusted::Header("webhook-id"));
    }
    let at = single(request, "webhook-timestamp")?;
    let is_number = at.bytes().all(|byte| byte.is_ascii_digit()) && !at.starts_with('0');
    match at.parse() {
        Ok(at) if is_number => Ok((id, at)),
        _ => Err(Untrusted::Header("webhook-timestamp")),
    }
}

/// The only value of a header.
fn single<'a>(request: &'a Request, name: &'static str) -> Result<&'a str, Untrusted> {
    let mut values = request.headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (Some(Ok(value)), None) => Ok(value),
        _ => Err(Untrusted::Header(name)),
    }
}

/// The receiver's rules, and what it remembers.
#[derive(Debug)]
pub struct WebhookVendor {
    account: WebhookAccount,
    /// The message ids that were taken.
    seen: Remembered<String, ()>,
    /// What came under which `webhook-id`.
    requests: Remembered<String, Vec<u8>>,
    /// And the other way round.
    ids: Remembered<Vec<u8>, String>,
}

impl From<WebhookAccount> for WebhookVendor {
    fn from(account: WebhookAccount) -> Self {
        Self {
            account,
            seen: Remembered::default(),
            requests: Remembered::default(),
            ids: Remembered::default(),
        }
    }
}

const SANDBOX_SECRET: &str = "whsec_c2FuZGJveCBzYW5kYm94IHNhbmRib3ghISE=";
const SANDBOX_KEY: &str = "sandbox-api-key";

impl Staged for WebhookVendor {
    const NAME: &'static str = "webhook";

    fn staged() -> Self {
        WebhookAccount::new("/events")
            .secret(SANDBOX_SECRET)
            .header("x-api-key", SANDBOX_KEY)
            .results()
            .into()
    }

    fn keys(base_url: &str) -> String {
        format!(
            "url = \"{base_url}/events\"\n\
             secret = \"{SANDBOX_SECRET}\"\n\
             headers = {{ x-api-key = \"{SANDBOX_KEY}\" }}\n\
             batch = {{ max_items = 50, results = true }}\n"
        )
    }

    fn words(item: &Received) -> Option<(Kind, String)> {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == item.endpoint)?;
        let what = ["event", "name", "group_id", "previous_user_id", "user_id"]
            .into_iter()
            .map(|key| text(&item.body, &format!("/{kind}/{key}")))
            .find(|what| !what.is_empty());
        Some((kind, what.unwrap_or_default().to_owned()))
    }
}

impl Vendor for WebhookVendor {
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        if let Err((status, rule, reason)) = self.welcome(request) {
            record.refused(rule, None, reason.clone());
            return Answer::json(status, &json!({ "message": reason }));
        }
        let events = match self.events(request) {
            Ok(events) => events,
            Err(reason) => {
                record.refused("body", None, reason.clone());
                return Answer::json(400, &json!({ "message": reason }));
            }
        };
        self.recognise(request, &events, record);
        let read: Vec<_> = events.into_iter().map(envelope).collect();
        let mut results = Vec::new();
        for event in &read {
            results.push(match event {
                Ok(_) => json!({ "status": 200 }),
                Err((place, reason)) => {
                    record.refused("envelope", Some(place), reason.clone());
                    json!({ "status": 422, "message": reason })
                }
            });
        }
        // Without results, a request is taken or refused as a whole.
        if !self.account.gives_results
            && let Some(Err((_, reason))) = read.iter().find(|event| event.is_err())
        {
            return Answer::json(422, &json!({ "message": reason }));
        }
        for received in read.into_iter().flatten() {
            self.take(received, record);
        }
        if self.account.gives_results {
            Answer::json(200, &json!({ "results": results }))
        } else {
            Answer::empty(204)
        }
    }
}

type Refused = (u16, &'static str, String);

impl WebhookVendor {
    /// Whether the request is one for this receiver, of whom it trusts.
    fn welcome(&self, request: &Request) -> Result<(), Refused> {
        let account = &self.account;
        if request.path != account.path {
            let reason = format!("not here: {}", request.path);
            return Err((404, "path", reason));
        }
        if request.method != account.method {
            let reason = format!("{} instead of {}", request.method, account.method);
            return Err((405, "method", reason));
        }
        for (name, value) in &account.headers {
            if request.header_value(name) != Some(value) {
                return Err((401, "header", format!("no or a wrong {name}")));
            }
        }
        let trust = if account.secrets.is_empty() {
            sender(request).map(|_| ())
        } else {
            verify_webhook(request, &account.secrets, account.tolerance)
        };
        match trust {
            Ok(()) => {}
            Err(Untrusted::Header(name)) => {
                return Err((400, "webhook_header", format!("no single, sound {name}")));
            }
            Err(Untrusted::Time) => {
                let reason = "signed too long before or after it arrived";
                return Err((401, "webhook_time", reason.to_owned()));
            }
            Err(Untrusted::Signature) => {
                let reason = "not signed with a secret of this receiver";
                return Err((401, "webhook_signature", reason.to_owned()));
            }
        }
        if request.media_type().as_deref() != Some("application/json") {
            let reason = "a body is application/json".to_owned();
            return Err((415, "content_type", reason));
        }
        Ok(())
    }

    /// The events of the body.
    fn events(&self, request: &Request) -> Result<Vec<Value>, String> {
        let body = request.body_json().ok_or("the body is not JSON")?;
        if !self.account.takes_batches {
            return Ok(vec![body]);
        }
        let Value::Object(mut body) = body else {
            return Err("a batch is an object".to_owned());
        };
        match (body.remove("batch"), body.is_empty()) {
            (Some(Value::Array(events)), true) if !events.is_empty() => Ok(events),
            _ => Err("a batch has a `batch` of events, and nothing else".to_owned()),
        }
    }

    /// The id of a request says what it is, in every attempt.
    fn recognise(&mut self, request: &Request, events: &[Value], record: &mut Record) {
        let Some(id) = request.header_value("webhook-id") else {
            return;
        };
        let id = id.to_owned();
        let body = Sha256::digest(&request.body).to_vec();
        let mut bent = |rule, reason: &str| record.altered(rule, Some(&id), reason);
        if self.requests.get(&id).is_some_and(|known| *known != body) {
            bent(
                "webhook_id_reused",
                "another request under an id that was there before",
            );
        }
        if self.ids.get(&body).is_some_and(|known| *known != id) {
            bent(
                "webhook_id_changed",
                "a request that was there before, under another id",
            );
        }
        if let [event] = events {
            let message_id = text(event, "/context/message_id");
            if is_sound(message_id) && message_id != id {
                bent(
                    "webhook_id",
                    "one event has its message id as the request's",
                );
            }
        }
        let capacity = record.capacity();
        self.requests.insert(id.clone(), body.clone(), capacity);
        self.ids.insert(body, id, capacity);
    }

    /// Takes an event, once.
    fn take(&mut self, event: Received, record: &mut Record) {
        let id = event.id.clone().unwrap_or_default();
        if self.seen.contains(&id) {
            return record.duplicate(id);
        }
        self.seen.insert(id, (), record.capacity());
        record.accept(event);
    }
}

/// An event that is an envelope as the specification has it; or its id, and
/// what is wrong with it.
fn envelope(event: Value) -> Result<Received, (String, String)> {
    let id = text(&event, "/context/message_id").to_owned();
    let wrong = |reason: &str| Err((id.clone(), reason.to_owned()));
    let input = match AnyInput::from_value(event.clone()) {
        Ok(input) => input,
        Err(error) => return wrong(&error.to_string()),
    };
    if input.policies.is_some() {
        return wrong("policies are nobody's business but the sender's");
    }
    if id.is_empty() || input.context.timestamp.is_none() {
        return wrong("an event has a message id and a timestamp");
    }
    let user = input.event.user_id().or(input.event.anonymous_id());
    let received = Received::new(input.kind().as_str(), event).id(id);
    Ok(Received {
        user: user.map(str::to_owned),
        ..received
    })
}

/// Whether a text can be the id of a request. With a full stop in it, another
/// id and time could have the same signature.
fn is_sound(id: &str) -> bool {
    let is_sound = |c: char| c.is_ascii_graphic() && c != '.';
    !id.is_empty() && id.chars().all(is_sound)
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;

//! By what an endpoint recognises a request that it had before.

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The `webhook-id`: of one event, its message id; of several, a hash of what
/// they are, so that the same events have the same id in every attempt.
///
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#webhook-metadata>
pub(crate) fn of(bodies: &[&Bytes]) -> String {
    let hash = || hashed("batch", bodies.iter().map(|body| body.as_ref()));
    match bodies {
        [body] => message_id(body).map_or_else(hash, |id| safe(&id)),
        _ => hash(),
    }
}

fn message_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        context: Context,
    }
    #[derive(Deserialize)]
    struct Context {
        message_id: String,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    Some(envelope.context.message_id)
}

/// A message id as a header can hold it. A full stop ends the id in what is
/// signed, so none may stand in it.
fn safe(message_id: &str) -> String {
    let is_safe = |c: char| c.is_ascii_graphic() && c != '.';
    if !message_id.is_empty() && message_id.chars().all(is_safe) {
        message_id.to_owned()
    } else {
        hashed("msg", [message_id.as_bytes()])
    }
}

/// A prefix and 128 bits of a hash. Each part is hashed with its length: what
/// is divided otherwise is something else.
fn hashed<'a>(prefix: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let bytes = digest.iter().take(16);
    let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}_{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(id: &str) -> Bytes {
        let id = serde_json::json!(id);
        Bytes::from(format!(
            r#"{{"context":{{"ip":"::1","message_id":{id}}},"delete":{{}}}}"#
        ))
    }

    fn of<const N: usize>(bodies: [&Bytes; N]) -> String {
        super::of(&bodies)
    }

    #[test]
    fn one_event_has_its_own_id() {
        assert_eq!(of([&body("order-1001")]), "order-1001");
        // Nobody's id ends early, or breaks a header.
        for odd in ["a.b", "", "two words", "line\nbreak", "\u{e9}"] {
            let id = of([&body(odd)]);
            assert!(id.starts_with("msg_") && id.len() == 36, "{id}");
            assert_eq!(id, of([&body(odd)]));
        }
        assert_ne!(of([&body("a.b")]), of([&body("a.c")]));
        assert!(of([&Bytes::from_static(b"{}")]).starts_with("batch_"));
    }

    #[test]
    fn the_same_events_have_the_same_id() {
        let (a, b) = (body("a"), body("b"));
        let id = of([&a, &b]);
        assert!(id.starts_with("batch_") && id.len() == 38, "{id}");
        assert_eq!(id, of([&a, &b]));
        assert_ne!(id, of([&b, &a]));
        assert_ne!(id, of([&a, &b, &b]));
        let whole = Bytes::from([&a[..], &b[..]].concat());
        assert_ne!(id, of([&whole, &Bytes::new()]));
    }
}

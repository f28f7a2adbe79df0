//! Taking secrets out of what is shown: answers, errors, previews.

use analytics_spec::{HttpResponse, Secret};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use serde_json::Value;

use crate::request::encode;

/// The fewest bytes that a credential in a header has. What is shorter, such as the
/// name of a shard, is in many words that are nobody's secret.
pub const MIN_HEADER_CREDENTIAL: usize = 4;

/// Replaces secrets wherever they stand, also in base64 and in a URL's form.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret within another leaves nothing of it.
    needles: Vec<String>,
}

impl Redactor {
    /// Redacts these secrets.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut this = Self::default();
        for secret in secrets {
            let secret = secret.expose();
            this.add(secret);
            this.add(&encode(secret));
            this.add(&BASE64_STANDARD.encode(secret));
            this.add(&BASE64_STANDARD.encode(format!("{secret}:")));
        }
        this
    }

    /// This redactor, with the credentials that a request carries.
    #[must_use]
    pub fn with_request(&self, request: &Request<Bytes>) -> Self {
        let mut this = self.clone();
        for value in request.headers().values().filter(|v| v.is_sensitive()) {
            if let Ok(value) = value.to_str() {
                // What follows the scheme is the credential.
                let credential = value.split_once(' ');
                let credential = credential.map_or(value, |(_, credential)| credential);
                if credential.len() >= MIN_HEADER_CREDENTIAL {
                    this.add(credential);
                }
            }
        }
        this
    }

    fn add(&mut self, needle: &str) {
        let needle = needle.trim();
        if !needle.is_empty() && !self.needles.iter().any(|n| n == needle) {
            self.needles.push(needle.to_owned());
            self.needles.sort_by_key(|n| std::cmp::Reverse(n.len()));
        }
    }

    /// A text without the secrets.
    pub fn text(&self, text: &mut String) {
        for needle in &self.needles {
            if text.contains(needle.as_str()) {
                *text = text.replace(needle.as_str(), Secret::REDACTED);
            }
        }
    }

    /// A JSON value without the secrets.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|v| self.value(v)),
            Value::Object(map) => {
                if map
                    .keys()
                    .any(|key| self.needles.iter().any(|n| key.contains(n.as_str())))
                {
                    *map = std::mem::take(map)
                        .into_iter()
                        .map(|(mut key, value)| {
                            self.text(&mut key);
                            (key, value)
                        })
                        .collect();
                }
                map.values_mut().for_each(|v| self.value(v));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// An answer without the secrets.
    pub fn response(&self, response: &mut HttpResponse) {
        for values in response.headers.values_mut() {
            values.iter_mut().for_each(|value| self.text(value));
        }
        if let Some(body) = &mut response.body {
            self.value(body);
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_form_of_a_secret_stays() {
        let secret = Secret::new("hun/ter2");
        let request = crate::request::json(
            http::Method::POST,
            "http://x/",
            Some(&crate::request::basic("anystring", "hun/ter2").unwrap()),
            Bytes::new(),
        )
        .unwrap();
        let redactor = Redactor::new([&secret]).with_request(&request);
        let basic = BASE64_STANDARD.encode("anystring:hun/ter2");
        let mut body = json!({
            "hun/ter2": ["key hun/ter2!", {"url": "?token=hun%2Fter2", "authorization": format!("Basic {basic}")}],
        });
        redactor.value(&mut body);
        assert_eq!(
            body,
            json!({
                "[redacted]": ["key [redacted]!", {"url": "?token=[redacted]", "authorization": "Basic [redacted]"}],
            })
        );
        assert!(!format!("{redactor:?}").contains("hun"));
    }
}

//! The forms in which a credential may show.

use std::collections::BTreeMap;

use analytics_http::request::encode;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::wire::Sent;

/// Every form of every credential, with what it is.
#[derive(Debug, Default)]
pub(crate) struct Needles(BTreeMap<String, &'static str>);

impl Needles {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a String>) -> Self {
        let mut this = Self::default();
        for secret in secrets {
            this.add(&BASE64_STANDARD.encode(secret), "a credential in base64");
            this.add(
                &BASE64_STANDARD.encode(format!("{secret}:")),
                "a credential in base64",
            );
            this.add(&encode(secret), "a credential in a URL's form");
            let json = serde_json::Value::from(secret.as_str()).to_string();
            this.add(json.trim_matches('"'), "a credential in JSON");
            this.add(secret, "a credential");
        }
        this
    }

    fn add(&mut self, needle: &str, what: &'static str) {
        if !needle.is_empty() {
            self.0.insert(needle.to_owned(), what);
        }
    }

    /// Learns what a request's headers make of the credentials.
    pub(crate) fn learn(&mut self, sent: &Sent) {
        for value in sent.request.headers.values() {
            let Ok(value) = value.to_str() else { continue };
            if self.is_in_header(value)
                && let Some((_, credential)) = value.split_once(' ')
            {
                self.add(credential, "a credential as a header has it");
            }
        }
    }

    /// Whether a header's value has a credential in it, also in base64.
    pub(crate) fn is_in_header(&self, value: &str) -> bool {
        let decoded = value
            .rsplit(' ')
            .next()
            .and_then(|last| BASE64_STANDARD.decode(last).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        self.found_in(value).is_some()
            || decoded.is_some_and(|decoded| self.found_in(&decoded).is_some())
    }

    /// Whether a request has a credential in it.
    pub(crate) fn are_in(&self, sent: &Sent) -> bool {
        let body = String::from_utf8_lossy(&sent.request.body);
        let mut headers = sent.request.headers.values();
        self.found_in(&sent.url).is_some()
            || self.found_in(&body).is_some()
            || headers.any(|value| value.to_str().is_ok_and(|value| self.is_in_header(value)))
    }

    /// What is found of a credential in a text.
    pub(crate) fn found_in(&self, text: &str) -> Option<&'static str> {
        self.0
            .iter()
            .find(|(needle, _)| text.contains(needle.as_str()))
            .map(|(_, what)| *what)
    }
}

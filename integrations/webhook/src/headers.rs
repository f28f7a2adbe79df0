//! The headers of one's own.

use std::collections::BTreeMap;

use analytics_http::redact::MIN_HEADER_CREDENTIAL;
use analytics_spec::{Error, Secret};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What the client and the body decide.
const OURS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The headers as requests carry them, each marked as sensitive: what is no
/// credential loses nothing by it.
pub(crate) fn read(headers: &BTreeMap<String, Secret>) -> Result<HeaderMap, Error> {
    let mut read = HeaderMap::new();
    for (name, value) in headers {
        let wrong = |what: &str| Err(Error::configuration(format!("`headers.{name}` {what}")));
        let Ok(key) = HeaderName::try_from(name.as_str()) else {
            return wrong("is not the name of a header");
        };
        if OURS.contains(&key.as_str()) || key.as_str().starts_with("webhook-") {
            return wrong("is set by this integration");
        }
        let Ok(mut value) = HeaderValue::try_from(value.expose()) else {
            return wrong("has characters that no HTTP header can hold");
        };
        value.set_sensitive(true);
        if read.insert(key, value).is_some() {
            return wrong("stands there twice");
        }
    }
    Ok(read)
}

/// The values, and of those with a scheme (`Bearer abc`) what follows it, but for
/// what is too short to be a credential.
pub(crate) fn credentials(headers: &BTreeMap<String, Secret>) -> impl Iterator<Item = Secret> {
    let all = headers.values().flat_map(|value| {
        let credential = value.expose().split_once(' ');
        let credential = credential.map(|(_, credential)| Secret::new(credential));
        [Some(value.clone()), credential].into_iter().flatten()
    });
    all.filter(|value| value.expose().len() >= MIN_HEADER_CREDENTIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        pairs.collect()
    }

    #[test]
    fn headers_are_sensitive() {
        let headers = of(&[
            ("Authorization", "Bearer hunter2"),
            ("x-shard", "s"),
            ("x-shop", "north"),
        ]);
        let read = read(&headers).unwrap();
        assert_eq!(read["authorization"], "Bearer hunter2");
        assert_eq!(read["x-shop"], "north");
        assert!(read.values().all(HeaderValue::is_sensitive));
        let credentials: Vec<_> = credentials(&headers).collect();
        let credentials: Vec<_> = credentials.iter().map(Secret::expose).collect();
        assert_eq!(credentials, ["Bearer hunter2", "hunter2", "north"]);
    }

    #[test]
    fn what_is_no_header_is_said_without_its_value() {
        for (name, value) in [
            ("two words", "hunter2"),
            ("", "hunter2"),
            ("Content-Type", "hunter2"),
            ("Webhook-Id", "hunter2"),
            ("x-key", "hunter2\r\nx-other: 1"),
        ] {
            let error = read(&of(&[(name, value)])).unwrap_err().to_string();
            assert!(error.contains(&format!("headers.{name}")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let twice = read(&of(&[("X-Key", "1"), ("x-key", "2")])).unwrap_err();
        assert!(twice.to_string().contains("twice"), "{twice}");
    }
}

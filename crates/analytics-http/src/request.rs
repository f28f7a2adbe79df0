//! Building requests: base URLs, credentials, JSON.

use std::{cell::Cell, fmt, net::IpAddr, str::FromStr};

use analytics_spec::{Error, ErrorKind, Timestamp, config::boolean, json};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE},
    request::Builder,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Where a vendor's API begins: scheme, host, and perhaps a path.
///
/// In a configuration, it is a text; or, where it
/// [may be http](Self::allowing_http), a table:
/// `{ url = "http://proxy.internal:8080", allow_http = true }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// A base URL: https, or http on this machine.
    ///
    /// # Errors
    ///
    /// It has no scheme or no host; it is http and leads to another machine; or it
    /// has credentials, a query or a fragment, which are not for a base.
    pub fn new(url: &str) -> Result<Self, Error> {
        let base = Self::allowing_http(url)?;
        if base.0.parse::<Uri>().is_ok_and(|uri| is_private(&uri)) {
            return Ok(base);
        }
        Err(Error::configuration(
            "the base URL must begin with https://: without it, everybody on the way reads the \
             credentials. If it leads to a proxy in a network of yours, a configuration \
             allows it with `{ url = \"http://...\", allow_http = true }`, and code with \
             `BaseUrl::allowing_http`",
        ))
    }

    /// A base URL that may be http on another machine as well, such as a proxy in a
    /// network of one's own. Credentials and events are not encrypted then.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), but for http.
    pub fn allowing_http(url: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::configuration(format!("the base URL {what}")));
        let url = url.trim().trim_end_matches('/');
        let Ok(uri) = url.parse::<Uri>() else {
            return wrong("is not a URL");
        };
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || uri.host().is_none_or(str::is_empty)
        {
            return wrong("must begin with https:// or http:// and a host");
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return wrong("must not have credentials in it");
        }
        if uri.query().is_some() || url.contains('#') {
            return wrong("must not have a query or a fragment");
        }
        Ok(Self(url.to_owned()))
    }

    /// The configured base URL, or the vendor's own.
    ///
    /// # Errors
    ///
    /// The vendor's own is none.
    pub fn configured_or(configured: Option<&Self>, own: &str) -> Result<Self, Error> {
        configured.map_or_else(|| Self::new(own), |url| Ok(url.clone()))
    }

    /// The URL of a path below, which begins with `/` and is encoded.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        Self::new(url)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a URL, or a table with `url` and `allow_http`"
        )]
        enum Written {
            Url(String),
            Table(Table),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            url: String,
            #[serde(deserialize_with = "boolean")]
            allow_http: bool,
        }
        let url = match Written::deserialize(deserializer)? {
            Written::Table(table) if table.allow_http => Self::allowing_http(&table.url),
            Written::Table(Table { url, .. }) | Written::Url(url) => Self::new(&url),
        };
        url.map_err(|error| D::Error::custom(error.message()))
    }
}

/// Whether requests to a URL are encrypted, or stay on this machine.
#[must_use]
pub fn is_private(url: &Uri) -> bool {
    url.scheme_str() == Some("https") || url.host().is_some_and(is_loopback)
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// What RFC 3986 leaves unreserved stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text as one segment of a path, or one value of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `Authorization: Basic`, marked as sensitive.
///
/// # Errors
///
/// A [configuration](ErrorKind::Configuration) error if no header can hold it.
pub fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    credential(&format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    ))
}

/// `Authorization: Bearer`, marked as sensitive.
///
/// # Errors
///
/// A [configuration](ErrorKind::Configuration) error if no header can hold it.
pub fn bearer(token: &str) -> Result<HeaderValue, Error> {
    credential(&format!("Bearer {token}"))
}

/// A header that is a credential, marked as sensitive: for a vendor with a header or
/// a scheme of its own.
///
/// ```
/// # fn main() -> Result<(), analytics_spec::Error> {
/// # let body = bytes::Bytes::new();
/// # let url = "https://api.acme.example/events";
/// use analytics_http::request::{credential, json};
/// use http::Method;
///
/// // Once, when the vendor is made of its configuration.
/// let key = credential("4Qs9")?;
/// // For each request.
/// let mut request = json(Method::POST, url, None, body)?;
/// request.headers_mut().insert("x-api-key", key);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// A [configuration](ErrorKind::Configuration) error if no header can hold it.
pub fn credential(value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        Error::configuration("a credential has characters that no HTTP header can hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A request with a JSON body, and credentials if there are any.
///
/// # Errors
///
/// The URL is not one.
pub fn json(
    method: Method,
    url: &str,
    authorization: Option<&HeaderValue>,
    body: Bytes,
) -> Result<Request<Bytes>, Error> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    finish(request, authorization, body)
}

/// A request without a body.
///
/// # Errors
///
/// The URL is not one.
pub fn empty(
    method: Method,
    url: &str,
    authorization: Option<&HeaderValue>,
) -> Result<Request<Bytes>, Error> {
    let mut request = Request::builder();
    if matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        // Without a length, gateways answer these with 411.
        request = request.header(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    finish(request.method(method).uri(url), authorization, Bytes::new())
}

fn finish(
    mut request: Builder,
    authorization: Option<&HeaderValue>,
    body: Bytes,
) -> Result<Request<Bytes>, Error> {
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    // The source would repeat the URL, in which there may be a credential.
    request
        .body(body)
        .map_err(|_| Error::new(ErrorKind::Internal, "the request's URL is not valid"))
}

/// A time as ISO 8601 has it, in UTC with milliseconds: `2026-03-01T12:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iso8601(pub Timestamp);

impl fmt::Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Iso8601 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The body of a request that carries one step.
#[must_use]
pub fn single(bodies: &[&Bytes]) -> Bytes {
    bodies.first().copied().cloned().unwrap_or_default()
}

/// A JSON array of bodies that are JSON.
#[must_use]
pub fn array(bodies: &[&Bytes]) -> Bytes {
    wrap("[", bodies, "]")
}

/// Bodies that are JSON, with commas between them, between two pieces of JSON.
#[must_use]
pub fn wrap(before: &str, bodies: &[&Bytes], after: &str) -> Bytes {
    let inner: usize = bodies.iter().map(|body| body.len() + 1).sum();
    let mut whole = Vec::with_capacity(before.len() + inner + after.len());
    whole.extend_from_slice(before.as_bytes());
    for (index, body) in bodies.iter().enumerate() {
        if index > 0 {
            whole.push(b',');
        }
        whole.extend_from_slice(body);
    }
    whole.extend_from_slice(after.as_bytes());
    whole.into()
}

/// A value as JSON.
///
/// # Errors
///
/// It cannot be serialised.
pub fn to_json(value: &impl Serialize) -> Result<Bytes, Error> {
    thread_local! {
        static DRAFT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Written where there is room already, and kept in as much as it needs.
    let mut draft = DRAFT.take();
    draft.clear();
    let written = json::write(&mut draft, value);
    let json = Bytes::copy_from_slice(&draft);
    if draft.capacity() <= MAX_DRAFT {
        DRAFT.set(draft);
    }
    written.map_err(unwritable)?;
    Ok(json)
}

/// A larger draft is not kept for the next one.
const MAX_DRAFT: usize = 64 * 1024;

fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "an event cannot be written as JSON").with_source(error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base_urls_are_checked_and_joined() {
        let base = BaseUrl::new("https://proxy.example/segment/").unwrap();
        assert_eq!(
            base.join("/v1/batch"),
            "https://proxy.example/segment/v1/batch"
        );
        for wrong in [
            "",
            "api.segment.io",
            "ftp://x",
            "https://",
            "https://u:hunter2@x",
            "https://x?k=hunter2",
            "https://x/#f",
            "https://a b",
        ] {
            let error = BaseUrl::new(wrong).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_reached_over_http_unless_it_is_allowed() {
        for (url, is_private) in [
            ("https://x.example", true),
            ("http://localhost:8080/in", true),
            ("http://LocalHost", true),
            ("http://127.0.0.1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:8080", true),
            ("http://x.example", false),
            ("http://localhost.example", false),
            ("http://127.0.0.1.example", false),
            ("http://10.0.0.1", false),
            ("http://[::2]", false),
        ] {
            assert_eq!(BaseUrl::new(url).is_ok(), is_private, "{url}");
            assert_eq!(BaseUrl::allowing_http(url).unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_configuration_allows_http_by_a_table() {
        let read = |value| serde_json::from_value::<BaseUrl>(value).map_err(|e| e.to_string());
        let proxy = "http://proxy.example";
        let allowed = read(json!({"url": proxy, "allow_http": true}));
        assert_eq!(allowed.unwrap().as_str(), proxy);
        assert!(read(json!({"url": "https://x.example", "allow_http": false})).is_ok());
        for wrong in [json!(proxy), json!({"url": proxy, "allow_http": false})] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("allow_http = true"), "{error}");
        }
        for wrong in [
            json!(4711),
            json!({"url": proxy}),
            json!({"url": proxy, "allow_http": true, "allow": true}),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("a table with `url`"), "{error}");
        }
    }

    #[test]
    fn credentials_are_sensitive() {
        let value = basic("key", "").unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic a2V5Og==");
        assert!(value.is_sensitive());
        assert!(bearer("new\nline").is_err());
    }

    #[test]
    fn times_have_milliseconds() {
        for (time, written) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000Z"),
            ("2026-03-01T12:00:00.0129Z", "2026-03-01T12:00:00.012Z"),
        ] {
            assert_eq!(json!(Iso8601(time.parse().unwrap())), written);
        }
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encode("a/b?c=d e\u{e9}~x"), "a%2Fb%3Fc%3Dd%20e%C3%A9~x");
    }
}

//! What a server hears.

use std::io::Read;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// A request as a server received it, its body decoded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The method, such as `POST`.
    pub method: String,
    /// The path without the query, as it was sent.
    pub path: String,
    /// The query's pairs, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The headers; names are lower case.
    pub headers: HeaderMap,
    /// The body after its content encoding was undone.
    pub body: Bytes,
    /// How many bytes the body had on the wire.
    pub encoded_length: usize,
    /// When the request arrived.
    pub at: SystemTime,
    /// How many requests the server had in hand when this one arrived, this
    /// one included.
    pub in_flight: usize,
}

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyProblem {
    /// The body, or what it unpacks to, has more bytes than the server takes.
    TooLarge,
    /// It says gzip and is none.
    Corrupt,
    /// A content encoding other than gzip.
    UnknownEncoding(String),
}

impl Request {
    /// A request without a body, to put to a [`Vendor`](super::Vendor) without
    /// a socket. The target is a path with or without a query.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            encoded_length: 0,
            at: SystemTime::now(),
            in_flight: 1,
        }
    }

    /// The same request with a header; a value that HTTP forbids is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// The same request with Basic credentials.
    #[must_use]
    pub fn basic(self, username: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{username}:{password}"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    /// The same request with a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The same request with a JSON body and its content type.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.raw(body.to_string())
            .header("content-type", "application/json")
    }

    /// The same request with this body.
    #[must_use]
    pub fn raw(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.encoded_length = self.body.len();
        self
    }

    /// The value of a header, if it is there and is text.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a query parameter.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The media type of the body, lower case, without its parameters.
    pub fn media_type(&self) -> Option<String> {
        self.header_value("content-type").map(media_type)
    }

    /// The content encoding, lower case; `None` for identity.
    pub fn encoding(&self) -> Option<String> {
        let value = self
            .header_value("content-encoding")?
            .trim()
            .to_ascii_lowercase();
        (!value.is_empty() && value != "identity").then_some(value)
    }

    /// Whether the body came gzipped.
    pub fn is_gzip(&self) -> bool {
        self.encoding().is_some_and(|encoding| encoding == "gzip")
    }

    /// The body as JSON; `None` where it is none.
    pub fn body_json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The user name and password of Basic credentials.
    pub fn basic_credentials(&self) -> Option<(String, String)> {
        let encoded = self.credentials("basic")?;
        let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (username, password) = pair.split_once(':')?;
        Some((username.to_owned(), password.to_owned()))
    }

    /// The token of bearer credentials.
    pub fn bearer_token(&self) -> Option<&str> {
        self.credentials("bearer")
    }

    fn credentials(&self, wanted: &str) -> Option<&str> {
        let (scheme, rest) = self.header_value("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case(wanted).then_some(rest.trim())
    }

    /// Undoes the content encoding, giving up beyond `limit` bytes.
    pub(crate) fn decode(&mut self, limit: usize) -> Result<(), BodyProblem> {
        let Some(encoding) = self.encoding() else {
            return Ok(());
        };
        if encoding != "gzip" {
            return Err(BodyProblem::UnknownEncoding(encoding));
        }
        let mut decoded = Vec::new();
        // One byte more than allowed tells "at the limit" from "beyond it".
        let ceiling = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        flate2::read::MultiGzDecoder::new(self.body.as_ref())
            .take(ceiling)
            .read_to_end(&mut decoded)
            .map_err(|_| BodyProblem::Corrupt)?;
        if decoded.len() > limit {
            return Err(BodyProblem::TooLarge);
        }
        self.body = Bytes::from(decoded);
        Ok(())
    }
}

/// The media type of a `Content-Type`, lower case, without its parameters.
pub(crate) fn media_type(header: &str) -> String {
    let media = header.split(';').next().unwrap_or(header);
    media.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_target_and_credentials_are_taken_apart() {
        let request = Request::new("POST", "/a?x=1&y=%20z").basic("user", "pass:word");
        assert_eq!(request.path, "/a");
        assert_eq!(request.query_value("y"), Some(" z"));
        assert_eq!(
            request.basic_credentials(),
            Some(("user".to_owned(), "pass:word".to_owned()))
        );
        assert_eq!(request.bearer_token(), None);
        assert_eq!(
            Request::new("GET", "/").bearer("t").bearer_token(),
            Some("t")
        );
    }

    #[test]
    fn gzip_is_undone_up_to_the_limit() {
        let packed = gzipped(&[b'a'; 100]);
        let request = Request::new("POST", "/")
            .raw(packed)
            .header("content-encoding", "gzip");
        let mut fits = request.clone();
        assert_eq!(fits.decode(100), Ok(()));
        assert_eq!(fits.body.len(), 100);
        assert!(fits.encoded_length < 100);
        assert_eq!(request.clone().decode(99), Err(BodyProblem::TooLarge));
    }

    #[test]
    fn what_is_not_gzip_is_said() {
        let request = Request::new("POST", "/").raw("plain");
        let mut corrupt = request.clone().header("content-encoding", "gzip");
        assert_eq!(corrupt.decode(100), Err(BodyProblem::Corrupt));
        let mut brotli = request.header("content-encoding", "br");
        assert_eq!(
            brotli.decode(100),
            Err(BodyProblem::UnknownEncoding("br".to_owned()))
        );
    }
}

//! From an HTTP answer to what the specification keeps of it.

use analytics_spec::{HttpResponse, Value};
use bytes::Bytes;

use crate::transport::MAX_RESPONSE_BYTES;

/// Headers that are credentials themselves.
const LEFT_OUT: [&str; 2] = ["set-cookie", "proxy-authenticate"];

pub(crate) fn keep(response: &http::Response<Bytes>) -> HttpResponse {
    let mut kept = HttpResponse::new(response.status().as_u16());
    for (name, value) in response.headers() {
        if !LEFT_OUT.contains(&name.as_str()) {
            kept = kept.header(name.as_str(), String::from_utf8_lossy(value.as_bytes()));
        }
    }
    let body = response.body();
    if !body.is_empty() {
        let json = serde_json::from_slice(body);
        kept.body = Some(json.unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body))));
    }
    kept.truncated = body.len() >= MAX_RESPONSE_BYTES;
    kept
}

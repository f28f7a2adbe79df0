//! Questions about JSON and times that several vendors ask.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A string with something in it.
pub(super) fn filled<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
}

/// What a value is, for a sentence.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether the text is an RFC 3339 date and time with an offset.
pub(super) fn is_rfc3339(text: &str) -> bool {
    text.get(10..11) == Some("T") && !text.contains('[') && text.parse::<Timestamp>().is_ok()
}

/// Whether the text is exactly `YYYY-MM-DDTHH:MM:SS.mmmZ`.
pub(super) fn is_utc_milliseconds(text: &str) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            fixed => byte == *fixed,
        })
        && is_rfc3339(text)
}

/// Milliseconds since 1970; 0 before.
pub(super) fn milliseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the text is 8-4-4-4-12 hexadecimal digits.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups = text.split('-');
    groups.clone().map(str::len).eq([8, 4, 4, 4, 12])
        && groups
            .flat_map(str::bytes)
            .all(|byte| byte.is_ascii_hexdigit())
}

/// Whether it is a UUID of version 4.
pub(super) fn is_uuid_v4(text: &str) -> bool {
    is_uuid(text) && text.get(14..15) == Some("4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utc_with_milliseconds_passes() {
        assert!(is_utc_milliseconds("2024-02-29T12:30:45.123Z"));
        for wrong in [
            "2024-02-29T12:30:45Z",
            "2024-02-29T12:30:45.123456Z",
            "2024-02-29T12:30:45.123+00:00",
            "2024-02-30T12:30:45.123Z",
            "2024-02-29 12:30:45.123Z",
            "",
        ] {
            assert!(!is_utc_milliseconds(wrong), "{wrong}");
        }
    }

    #[test]
    fn rfc3339_needs_an_offset() {
        assert!(is_rfc3339("2024-02-29T12:30:45+02:00"));
        assert!(is_rfc3339("2024-02-29T12:30:45.5Z"));
        assert!(!is_rfc3339("2024-02-29T12:30:45"));
        assert!(!is_rfc3339("2024-02-29"));
    }

    #[test]
    fn a_uuid_has_a_version() {
        assert!(is_uuid_v4("1f0e5a7c-9b1d-4c3e-8f2a-0123456789ab"));
        assert!(!is_uuid_v4("1f0e5a7c-9b1d-7c3e-8f2a-0123456789ab"));
        assert!(!is_uuid_v4("1f0e5a7c9b1d4c3e8f2a0123456789ab"));
        assert!(is_uuid("1f0e5a7c-9b1d-7c3e-8f2a-0123456789ab"));
        assert!(!is_uuid("1f0e5a7c-9b1d-7c3e-8f2a-0123456789ag"));
    }
}

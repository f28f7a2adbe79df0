//! Sizes and times as people write them.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// Reads a number of bytes: `10GiB`, `500MB`, `4096`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: u64 = digits.parse().ok()?;
    let unit = text.get(digits.len()..)?.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Reads a duration: `250ms`, `1m30s`, `24h`, `30d`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(days) = text.strip_suffix('d') {
        let days: u64 = days.trim().parse().ok()?;
        return Some(Duration::from_secs(days.checked_mul(24 * 60 * 60)?));
    }
    let duration = SpanParser::new().parse_duration(text).ok()?;
    Duration::try_from(duration).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("10GiB", Some(10 << 30)),
            ("10 GiB", Some(10 << 30)),
            ("500mb", Some(500_000_000)),
            ("1KiB", Some(1024)),
            ("1.5GiB", None),
            ("-1", None),
            ("GiB", None),
            ("10Gib2", None),
            ("10 apples", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_may_be_days() {
        for (text, expected) in [
            ("30d", Some(30 * 24 * 60 * 60)),
            ("24h", Some(24 * 60 * 60)),
            ("1m30s", Some(90)),
            ("-1s", None),
            ("d", None),
            ("soon", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_secs), "{text}");
        }
    }
}

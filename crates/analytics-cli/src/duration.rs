//! Durations on the command line.

use std::time::Duration;

use analytics_kit::units;

/// Reads a duration: `100ms`, `1m30s`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match units::duration(text) {
        Some(Duration::ZERO) => Err("it must be longer than zero".to_owned()),
        Some(duration) => Ok(duration),
        None => Err("expected a duration such as 30s, 1m30s or 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_longer_than_zero() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("0s").unwrap_err().contains("longer than zero"));
        assert!(duration("soon").unwrap_err().contains("such as 30s"));
    }
}

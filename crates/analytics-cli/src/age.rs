//! How long ago, as people say it.

use std::time::Duration;

use analytics_kit::Timestamp;

/// How long ago a time was, in at most two units: `3m 12s`.
pub(crate) fn age(of: Timestamp, now: Timestamp) -> String {
    show(Duration::try_from(now.duration_since(of)).unwrap_or_default())
}

fn show(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_largest_units_are_said() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (192, "3m 12s"),
            (7_260, "2h 1m"),
            (180_000, "2d 2h"),
        ] {
            assert_eq!(show(Duration::from_secs(seconds)), expected);
        }
    }
}

//! Who an event is about, in Amplitude's terms.

/// Amplitude takes ids of fewer characters away from the event, or refuses it,
/// unless the request says another number.
///
/// <https://amplitude.com/docs/apis/analytics/http-v2#device-ids-and-user-ids-minimum-length>
pub(crate) const MIN_CHARS: usize = 5;

/// Ids that stand for nobody: Amplitude answers them with 400.
///
/// - <https://amplitude.com/docs/apis/analytics/http-v2#device-ids-and-user-ids-minimum-length>
/// - <https://amplitude.com/docs/apis/analytics/http-v2#all-zero-device-ids-limit-ad-tracking-enabled>
const REFUSED: [&str; 14] = [
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "\"\"",
    "00000000-0000-0000-0000-000000000000",
    "{}",
    "lmy47d",
    "0",
    "-1",
];

/// The documentation leaves open whether case counts: nobody is called `NULL`.
pub(crate) fn is_refused(id: &str) -> bool {
    let id = id.trim();
    REFUSED
        .iter()
        .any(|refused| refused.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_stand_for_nobody_are_refused_in_any_case() {
        for refused in ["anonymous", "NULL", " nil ", "-1", "\"\"", "{}", "LMY47D"] {
            assert!(is_refused(refused), "{refused}");
        }
        for taken in ["anonymous1", "00", "-10", "nobody", "[]", ""] {
            assert!(!is_refused(taken), "{taken}");
        }
    }
}

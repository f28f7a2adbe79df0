//! Who an event is about, and which event it is, in PostHog's terms.

use analytics_spec::{AnyEvent, Code, Event as _, Violation};
use uuid::Uuid;

/// PostHog cuts a `distinct_id` after so many characters.
///
/// <https://posthog.com/docs/data/ingestion-warnings>
const MAX_CHARS: usize = 200;

/// Ids that stand for nobody, in any case. PostHog takes an event that would
/// make one person of them and another, and does not make it.
///
/// <https://posthog.com/docs/product-analytics/identify#what-happens-if-you-call-identify-or-alias-with-invalid-inputs>
const REFUSED: [&str; 10] = [
    "anonymous",
    "guest",
    "distinctid",
    "distinct_id",
    "id",
    "not_authenticated",
    "email",
    "undefined",
    "true",
    "false",
];

/// The same, in this case alone.
const REFUSED_IN_THIS_CASE: [&str; 6] = ["[object Object]", "NaN", "None", "none", "null", "0"];

fn is_refused(id: &str) -> bool {
    let id = id.trim();
    REFUSED
        .iter()
        .any(|refused| refused.eq_ignore_ascii_case(id))
        || REFUSED_IN_THIS_CASE.contains(&id)
}

/// Whose event it is: the user's, else the anonymous person's. Validation
/// refuses what has neither.
pub(crate) fn distinct_id(event: &AnyEvent) -> &str {
    event
        .user_id()
        .or_else(|| event.anonymous_id())
        .unwrap_or_default()
}

/// What PostHog would not take an id for.
pub(crate) fn check(event: &AnyEvent, violations: &mut Vec<Violation>) {
    let kind = event.kind();
    let previous = match event {
        AnyEvent::Alias(alias) => Some(alias.previous_user_id.as_str()),
        _ => None,
    };
    let identifies = matches!(event, AnyEvent::Identify(_) | AnyEvent::Alias(_));
    for (field, id) in [
        ("user_id", event.user_id()),
        ("anonymous_id", event.anonymous_id()),
        ("previous_user_id", previous),
    ] {
        let Some(id) = id else { continue };
        let path = format!("{kind}.{field}");
        let chars = id.chars().count();
        if chars > MAX_CHARS {
            violations.push(Violation::new(
                path,
                Code::TooLong,
                format!(
                    "has {chars} characters; PostHog takes at most {MAX_CHARS}, and cuts the rest"
                ),
            ));
        } else if identifies && is_refused(id) {
            violations.push(Violation::new(
                path,
                Code::Reserved,
                format!("is {id:?}, with which PostHog identifies nobody"),
            ));
        }
    }
}

/// Ours alone: a `uuid` made of the same message id is always the same.
const NAMESPACE: Uuid = Uuid::from_u128(0x2c9e_71d4_0b68_4f0a_8a53_e1f7_96bd_403c);

/// A message id as the UUID that PostHog wants, the same in every attempt:
/// PostHog merges events of one `uuid`, `distinct_id`, name and day, and drops
/// what has a `uuid` that is none.
///
/// <https://posthog.com/docs/data/ingestion-warnings#refused-to-process-event-with-invalid-uuid>
pub(crate) fn uuid(message_id: &str) -> String {
    let given = Uuid::try_parse(message_id)
        .ok()
        .filter(|uuid| !uuid.is_nil());
    let uuid = given.unwrap_or_else(|| Uuid::new_v5(&NAMESPACE, message_id.as_bytes()));
    uuid.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_becomes_a_uuid_and_always_the_same() {
        let given = "0197a6a5-7f3e-7c07-8d8c-0123456789ab";
        assert_eq!(uuid(given), given);
        for made in ["order_1", "", "00000000-0000-0000-0000-000000000000"] {
            let id = uuid(made);
            assert_eq!(uuid(&id), id, "{id}");
            assert_ne!(id, made);
        }
        assert_eq!(
            uuid("order_1"),
            "aac882e8-96de-56e9-9e97-b8961cd503ff",
            "the same in every version: a retry may be made by the next one"
        );
        assert_ne!(uuid("order_1"), uuid("order_2"));
    }

    #[test]
    fn ids_that_stand_for_nobody_are_refused() {
        for refused in [
            "guest",
            "Guest",
            "TRUE",
            "null",
            "NaN",
            " 0 ",
            "[object Object]",
        ] {
            assert!(is_refused(refused), "{refused}");
        }
        for taken in ["u1", "guest1", "NULL", "nan", "NONE", "00", "ids"] {
            assert!(!is_refused(taken), "{taken}");
        }
    }
}

//! Who an event is about, and which event it is, in Mixpanel's terms.

use std::borrow::Cow;

use analytics_spec::AnyEvent;
use uuid::{Uuid, Variant};

use crate::config::IdMerge;

/// What the simplified identity merge puts before an anonymous id.
///
/// <https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified>
pub(crate) const DEVICE_PREFIX: &str = "$device:";

/// Mixpanel cuts every string after so many characters.
pub(crate) const MAX_CHARS: usize = 255;

/// Ids that stand for nobody. Mixpanel refuses them in events, both as
/// `distinct_id` and as `$insert_id`.
///
/// <https://docs.mixpanel.com/reference/import-events#properties-distinct_id>
const REFUSED: [&str; 19] = [
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "guest",
    "<nil>",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
    "lmy47d",
];

pub(crate) fn is_refused(id: &str) -> bool {
    let id = id.trim();
    REFUSED
        .iter()
        .any(|refused| refused.eq_ignore_ascii_case(id))
}

/// Whose event it is, and whose profile: the user, else the device, else
/// nobody.
///
/// <https://docs.mixpanel.com/docs/tracking-methods/id-management#distinct-id>
pub(crate) fn distinct_id(event: &AnyEvent, id_merge: IdMerge) -> Cow<'_, str> {
    match (event.user_id(), event.anonymous_id(), id_merge) {
        (Some(user), _, _) => user.into(),
        (None, Some(anonymous), IdMerge::Simplified) => {
            format!("{DEVICE_PREFIX}{anonymous}").into()
        }
        (None, Some(anonymous), IdMerge::Original) => anonymous.into(),
        (None, None, _) => "".into(),
    }
}

/// `$identify` of the original identity merge takes no other anonymous ids.
///
/// <https://docs.mixpanel.com/reference/create-identity>
pub(crate) fn is_uuid_v4(id: &str) -> bool {
    const HYPHENATED: usize = 36;
    id.len() == HYPHENATED
        && Uuid::try_parse(id)
            .is_ok_and(|uuid| uuid.get_version_num() == 4 && uuid.get_variant() == Variant::RFC4122)
}

/// Ours alone: an `$insert_id` made of the same message id is always the same.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d1b_8c0e_5f3a_4c57_9e0d_2a74_c1f8_3b96);

const MAX_INSERT_ID_BYTES: usize = 36;

/// A message id in the form that Mixpanel takes, the same in every attempt:
/// Mixpanel recognises a repeated event by it. An event has one record in
/// `/import` at most, so no two records share one.
///
/// <https://docs.mixpanel.com/reference/import-events#properties-insert_id>
pub(crate) fn insert_id(message_id: &str) -> Cow<'_, str> {
    let fits = (1..=MAX_INSERT_ID_BYTES).contains(&message_id.len())
        && message_id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !is_refused(message_id);
    if fits {
        message_id.into()
    } else {
        Uuid::new_v5(&NAMESPACE, message_id.as_bytes())
            .to_string()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_id_has_mixpanels_form_and_is_stable() {
        for kept in ["0197a6a5-7f3e-7c07-8d8c-0123456789ab", "A-9", "1"] {
            assert_eq!(insert_id(kept), kept);
        }
        let longer = "0197a6a5-7f3e-7c07-8d8c-0123456789abc";
        for made in [longer, "order_1", "a b", "d\u{e9}", "", "0", "NULL", "none"] {
            let id = insert_id(made);
            assert_ne!(id, made);
            assert_eq!(id.len(), 36);
            assert_eq!(insert_id(&id), id, "{id}");
        }
        assert_eq!(
            insert_id("order_1"),
            "542083e6-fb91-596e-80d4-801e53f2742b",
            "the same in every version: a retry may be made by the next one"
        );
        assert_ne!(insert_id("order_1"), insert_id("order_2"));
    }

    #[test]
    fn ids_that_stand_for_nobody_are_refused_in_any_case() {
        for refused in [
            "anonymous",
            "Anonymous",
            "NULL",
            " null ",
            "<NIL>",
            "0",
            "[]",
        ] {
            assert!(is_refused(refused), "{refused}");
        }
        for taken in ["u1", "anonymous1", "00", "10", "nobody", "nan"] {
            assert!(!is_refused(taken), "{taken}");
        }
    }

    #[test]
    fn only_a_hyphenated_uuid_of_version_4_is_one() {
        for (id, expected) in [
            ("91304156-cafc-4673-a237-623d1129c801", true),
            ("91304156-CAFC-4673-A237-623D1129C801", true),
            ("91304156-cafc-7673-a237-623d1129c801", false),
            ("91304156-cafc-4673-c237-623d1129c801", false),
            ("91304156cafc4673a237623d1129c801", false),
            ("{91304156-cafc-4673-a237-623d1129c801}", false),
            ("device-1", false),
        ] {
            assert_eq!(is_uuid_v4(id), expected, "{id}");
        }
    }
}

//! <https://mailchimp.com/developer/marketing/api/list-member-events/add-event/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Code, Error, Map, Timestamp, Track, Value, Violation};
use jiff::tz::Offset;
use serde::Serialize;

use crate::{
    member::Member,
    vendor::{Action, Route, both},
};

/// The fewest and the most characters of an event's name.
const MIN_NAME_CHARS: usize = 2;
const MAX_NAME_CHARS: usize = 30;

#[derive(Serialize)]
struct Body {
    name: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    properties: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
}

pub(crate) fn step(input: &AnyInput, event: &Track) -> Result<Step<Route>, Error> {
    let (member, name) = both(
        Member::of(&input.event).map_err(|violation| vec![violation]),
        name(&event.event).map_err(|violation| vec![violation]),
    )?;
    let properties = event
        .properties
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), Value::from(text(value)?))))
        .collect();
    let body = Body {
        name,
        properties,
        occurred_at: input.context.timestamp.map(occurred_at),
    };
    Step::json(Route::new(Action::Event, member.hash), &body)
}

/// The name with only those characters that Mailchimp takes.
fn name(event: &str) -> Result<String, Violation> {
    let refused = |code, message: &str| Err(Violation::new("track.event", code, message));
    let event = event.trim();
    if !event.contains(|c: char| c.is_ascii_alphanumeric()) {
        // All such names would become the same one.
        return refused(
            Code::Format,
            "has no letter from A to Z and no digit; \
             Mailchimp's names of events have no other letters",
        );
    }
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = event
        .chars()
        .map(|c| if keep(c) { c } else { '_' })
        .take(MAX_NAME_CHARS)
        .collect();
    if name.len() < MIN_NAME_CHARS {
        return refused(
            Code::OutOfRange,
            "is too short; Mailchimp's names of events have 2 to 30 characters",
        );
    }
    Ok(name)
}

/// Properties are text at Mailchimp.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}

/// ISO 8601 with an offset, to the second, as Mailchimp's own examples have it.
fn occurred_at(timestamp: Timestamp) -> String {
    format!("{:.0}", timestamp.display_with_offset(Offset::UTC))
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Context, Input};
    use serde_json::json;

    use super::*;
    use crate::testing::{ADA, ADA_URL, paths, sent, vendor};

    #[test]
    fn an_event_is_recorded() {
        let input = Input::new(
            Track::new("Order Completed")
                .user_id("u1")
                .anonymous_id("a1")
                .trait_("email", ADA)
                .trait_("first_name", "Ada")
                .property("order_id", "o7")
                .property("total", 42.5)
                .property("items", 3)
                .property("gift", false)
                .property("coupon", Value::Null)
                .property("lines", json!([{"sku": "s1"}, "s2"])),
        )
        .context(
            Context::new().message_id("m1").timestamp(
                "2026-03-01T14:05:06.789+02:00"
                    .parse::<Timestamp>()
                    .unwrap(),
            ),
        );
        let sent = sent(&vendor(|c| c.skip_merge_validation(true)), input);
        assert_eq!(sent.method, "POST");
        assert_eq!(sent.url, format!("{ADA_URL}/events"));
        assert_eq!(sent.content_type.as_deref(), Some("application/json"));
        assert_eq!(
            sent.body,
            json!({
                "name": "Order_Completed",
                "properties": {
                    "order_id": "o7",
                    "total": "42.5",
                    "items": "3",
                    "gift": "false",
                    "lines": "[{\"sku\":\"s1\"},\"s2\"]",
                },
                "occurred_at": "2026-03-01T12:05:06+00:00",
            })
        );
    }

    #[test]
    fn names_have_mailchimps_characters() {
        for (event, expected) in [
            ("purchased", "purchased"),
            (" Order Completed! ", "Order_Completed_"),
            ("a-b_c.d/e", "a-b_c_d_e"),
            ("caf\u{e9} visited", "caf__visited"),
            ("ok", "ok"),
            (
                "A name that is much longer than thirty",
                "A_name_that_is_much_longer_tha",
            ),
        ] {
            assert_eq!(name(event).unwrap(), expected);
        }
    }

    #[test]
    fn names_that_cannot_be_are_violations() {
        for (event, code) in [
            ("x", Code::OutOfRange),
            (" x ", Code::OutOfRange),
            ("\u{8cfc}\u{5165}", Code::Format),
            ("__", Code::Format),
        ] {
            let violation = name(event).unwrap_err();
            assert_eq!(
                (violation.path.as_str(), violation.code),
                ("track.event", code)
            );
        }
        let event = Track::new("x").user_id("u1");
        assert_eq!(
            paths(&vendor(|c| c), event),
            ["track.traits.email", "track.event"]
        );
    }
}

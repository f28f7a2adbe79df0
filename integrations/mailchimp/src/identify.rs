//! <https://mailchimp.com/developer/marketing/api/list-members/add-or-update-list-member/>

use std::net::IpAddr;

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Identify, Map, Value};
use serde::Serialize;

use crate::{
    language,
    member::Member,
    merge::MergeFields,
    vendor::{Action, Route, both},
};

/// The body. There is no `status` in it, and must not be: it would subscribe
/// people again who have left.
#[derive(Serialize)]
struct Body<'a> {
    email_address: &'a str,
    status_if_new: &'static str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    merge_fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_signup: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

#[derive(Serialize)]
struct Location {
    latitude: f64,
    longitude: f64,
}

pub(crate) fn step(
    input: &AnyInput,
    event: &Identify,
    merge_fields: &MergeFields,
    double_opt_in: bool,
) -> Result<Step<Route>, Error> {
    let (member, merge_fields) = both(
        Member::of(&input.event).map_err(|violation| vec![violation]),
        merge_fields.values(&event.traits),
    )?;
    let context = &input.context;
    let location = context.location.as_deref();
    let body = Body {
        email_address: member.email,
        status_if_new: if double_opt_in {
            "pending"
        } else {
            "subscribed"
        },
        merge_fields,
        language: context.locale.as_deref().and_then(language::code),
        ip_signup: context.ip,
        location: location.and_then(|location| {
            Some(Location {
                latitude: location.latitude?,
                longitude: location.longitude?,
            })
        }),
    };
    Step::json(Route::new(Action::Upsert, member.hash), &body)
}

#[cfg(test)]
mod tests {
    use analytics_spec::{
        Context, Input,
        context::{Location, Os},
    };
    use serde_json::json;

    use super::*;
    use crate::testing::{ADA, ADA_URL, paths, sent, vendor};

    fn ada() -> Input<Identify> {
        let event = Identify::new()
            .user_id("u1")
            .anonymous_id("a1")
            .trait_("email", " Ada@Example.com ")
            .trait_("first_name", "Ada")
            .trait_("last_name", "Lovelace")
            .trait_("status", "subscribed")
            .trait_("plan", "pro");
        Input::new(event).context(
            Context::new()
                .ip("203.0.113.9".parse::<IpAddr>().unwrap())
                .locale("fr-CA")
                .timezone("Europe/London")
                .os(Os::new().name("Linux"))
                .location(
                    Location::new()
                        .city("London")
                        .latitude(51.5)
                        .longitude(-0.12),
                ),
        )
    }

    #[test]
    fn a_member_is_added_or_updated() {
        let sent = sent(&vendor(|c| c), ada());
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("PUT", ADA_URL));
        assert_eq!(sent.content_type.as_deref(), Some("application/json"));
        assert_eq!(
            sent.body,
            json!({
                "email_address": "Ada@Example.com",
                "status_if_new": "subscribed",
                "merge_fields": {"FNAME": "Ada", "LNAME": "Lovelace"},
                "language": "fr_CA",
                "ip_signup": "203.0.113.9",
                "location": {"latitude": 51.5, "longitude": -0.12},
            })
        );
    }

    #[test]
    fn new_members_are_asked_first_under_double_opt_in() {
        let sent = sent(&vendor(|c| c.enable_double_opt_in(true)), ada());
        assert_eq!(sent.body["status_if_new"], "pending");
        assert_eq!(sent.body.get("status"), None);
    }

    #[test]
    fn merge_validation_is_skipped_when_configured() {
        let sent = sent(
            &vendor(|c| {
                c.skip_merge_validation(true)
                    .merge_field("status", "STATUS")
                    .merge_field("plan", "PLAN")
            }),
            ada(),
        );
        assert_eq!(sent.url, format!("{ADA_URL}?skip_merge_validation=true"));
        assert_eq!(
            sent.body["merge_fields"],
            json!({"FNAME": "Ada", "LNAME": "Lovelace", "STATUS": "subscribed", "PLAN": "pro"})
        );
        assert_eq!(sent.body.get("status"), None);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let input = Input::new(Identify::new().user_id(ADA)).context(
            Context::new()
                .locale("tlh")
                .location(Location::new().latitude(51.5)),
        );
        assert_eq!(
            sent(&vendor(|c| c), input).body,
            json!({"email_address": ADA, "status_if_new": "subscribed"})
        );
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let vendor = vendor(|c| c.merge_field("birthday", "BIRTHDAY"));
        let event = Identify::new().user_id("u1").trait_("birthday", "soon");
        assert_eq!(
            paths(&vendor, event),
            ["identify.traits.email", "identify.traits.birthday"]
        );
    }
}

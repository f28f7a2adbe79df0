//! <https://mailchimp.com/developer/marketing/api/list-member-tags/add-or-remove-member-tags/>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Group, ValidationError, Value};
use serde::Serialize;

use crate::{
    member::Member,
    vendor::{Action, Route},
};

#[derive(Serialize)]
struct Body<'a> {
    tags: [Tag<'a>; 1],
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    status: &'static str,
}

pub(crate) fn step(input: &AnyInput, event: &Group) -> Result<Step<Route>, Error> {
    let member = Member::of(&input.event).map_err(ValidationError::from)?;
    let body = Body {
        tags: [Tag {
            name: name(event),
            status: "active",
        }],
    };
    Step::json(Route::new(Action::Tag, member.hash), &body)
}

/// The group's name, else its id.
fn name(event: &Group) -> &str {
    event
        .traits
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.trim().is_empty())
        .unwrap_or(&event.group_id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{ADA, ADA_URL, paths, sent, vendor};

    #[test]
    fn a_group_is_a_tag_of_the_member() {
        let group = Group::new("g1")
            .user_id(ADA)
            .anonymous_id("a1")
            .trait_("email", "office@example.com")
            .trait_("industry", "computing");
        let vendor = vendor(|c| c.group_as_tag(true));
        let sent_with_id = sent(&vendor, group.clone());
        assert_eq!(sent_with_id.method, "POST");
        assert_eq!(sent_with_id.url, format!("{ADA_URL}/tags"));
        assert_eq!(
            sent_with_id.content_type.as_deref(),
            Some("application/json")
        );
        assert_eq!(
            sent_with_id.body,
            json!({"tags": [{"name": "g1", "status": "active"}]})
        );
        let sent_with_name = sent(&vendor, group.trait_("name", " Analytical Engines "));
        assert_eq!(
            sent_with_name.body,
            json!({"tags": [{"name": " Analytical Engines ", "status": "active"}]})
        );
    }

    #[test]
    fn the_companys_email_is_not_the_members() {
        let group = Group::new("g1").user_id("u1").trait_("email", ADA);
        let vendor = vendor(|c| c.group_as_tag(true));
        assert_eq!(paths(&vendor, group), ["group.user_id"]);
    }
}

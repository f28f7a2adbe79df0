//! A link between the two ids, and what is known about the user.

use analytics_http::Step;
use analytics_spec::{AnyInput, Code, Error, Identify, Secret, Violation};
use serde_json::json;

use crate::{
    config::IdMerge,
    event::Properties,
    ids::{distinct_id, is_uuid_v4},
    profile::{self, Operation},
    vendor::Route,
};

pub(crate) fn steps(
    input: &AnyInput,
    event: &Identify,
    id_merge: IdMerge,
    token: &Secret,
) -> Result<Vec<Step<Route>>, Error> {
    let mut steps = Vec::with_capacity(2);
    if let Some((user, anonymous)) = link(event, id_merge) {
        steps.push(match id_merge {
            IdMerge::Simplified => simplified(input),
            IdMerge::Original => original(input, user, anonymous, token),
        }?);
    }
    if !event.traits.is_empty() {
        let id = distinct_id(&input.event, id_merge);
        let set = Operation::Set {
            set: profile::user(&event.traits),
        };
        steps.push(profile::step(token, &id, input.context.ip, set)?);
    }
    Ok(steps)
}

/// What Mixpanel cannot make anything of.
pub(crate) fn check(event: &Identify, id_merge: IdMerge) -> Option<Violation> {
    if event.user_id.is_none() && event.anonymous_id.is_none() {
        return Some(Violation::new(
            "identify.user_id",
            Code::Required,
            "Mixpanel needs user_id or anonymous_id",
        ));
    }
    if event.traits.is_empty() && link(event, id_merge).is_none() {
        return Some(Violation::new(
            "identify.traits",
            Code::Required,
            "tells Mixpanel nothing: set traits, or both user_id and anonymous_id",
        ));
    }
    None
}

/// The two ids to be linked.
fn link(event: &Identify, id_merge: IdMerge) -> Option<(&str, &str)> {
    let ids = (event.user_id.as_deref()?, event.anonymous_id.as_deref()?);
    // The original identity merge would have to merge an id with itself.
    (id_merge == IdMerge::Simplified || ids.0 != ids.1).then_some(ids)
}

/// One event that carries both ids links them.
///
/// <https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified>
fn simplified(input: &AnyInput) -> Result<Step<Route>, Error> {
    Properties::identified(input, IdMerge::Simplified).step("$identify")
}

/// - <https://docs.mixpanel.com/reference/create-identity>
/// - <https://docs.mixpanel.com/reference/identity-merge>
fn original(
    input: &AnyInput,
    user: &str,
    anonymous: &str,
    token: &Secret,
) -> Result<Step<Route>, Error> {
    let mut properties = Properties::stamped(input);
    properties.set("distinct_id", user);
    properties.set("token", token.expose());
    if is_uuid_v4(anonymous) {
        properties.set("$identified_id", user);
        properties.set("$anon_id", anonymous);
        properties.step("$identify")
    } else {
        properties.set("$distinct_ids", json!([user, anonymous]));
        properties.step("$merge")
    }
}

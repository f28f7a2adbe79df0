//! What is known about a group, and that a user belongs to it.

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Group, Map, Secret, Value};
use serde::Serialize;
use serde_json::json;

use crate::{
    config::IdMerge,
    ids::distinct_id,
    profile::{self, Operation},
    vendor::Route,
};

/// <https://docs.mixpanel.com/reference/group-set-property>
#[derive(Serialize)]
struct Update<'a> {
    #[serde(rename = "$token")]
    token: &'a str,
    #[serde(rename = "$group_key")]
    group_key: &'a str,
    #[serde(rename = "$group_id")]
    group_id: &'a str,
    #[serde(rename = "$set")]
    set: Map<String, Value>,
}

pub(crate) fn steps(
    input: &AnyInput,
    event: &Group,
    id_merge: IdMerge,
    group_key: &str,
    token: &Secret,
) -> Result<Vec<Step<Route>>, Error> {
    let mut steps = Vec::with_capacity(2);
    if !event.traits.is_empty() {
        let update = Update {
            token: token.expose(),
            group_key,
            group_id: &event.group_id,
            set: profile::group(&event.traits),
        };
        steps.push(Step::json(Route::Groups, &update)?);
    }
    // A union keeps the groups that the user belongs to already.
    let union = Map::from_iter([(group_key.to_owned(), json!([event.group_id]))]);
    let id = distinct_id(&input.event, id_merge);
    steps.push(profile::step(token, &id, None, Operation::Union { union })?);
    Ok(steps)
}

//! That a user belongs to a group, and what is known about the group.
//!
//! - <https://amplitude.com/docs/apis/analytics/identify#identification-parameter-keys>
//! - <https://amplitude.com/docs/apis/analytics/group-identify>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Group};

use crate::{
    Route,
    event::{self, GROUP_IDENTIFY, IDENTIFY},
    object::Object,
};

pub(crate) fn steps(
    input: &AnyInput,
    group: &Group,
    group_type: &str,
) -> Result<Vec<Step<Route>>, Error> {
    let of_type = || Object::of(group_type, group.group_id.as_str());
    let mut member = event::event(input, IDENTIFY);
    member.set("groups", Some(of_type()));
    // As Amplitude's own libraries do: the user's page shows it.
    member.set("user_properties", Some(Object::of("$set", of_type())));
    let mut steps = vec![event::step(&member)?];
    if !group.traits.is_empty() {
        let properties = Object::default().fill(&group.traits);
        let mut about = event::event(input, GROUP_IDENTIFY);
        about.set("groups", Some(of_type()));
        about.set("group_properties", Some(Object::of("$set", properties)));
        steps.push(event::step(&about)?);
    }
    Ok(steps)
}

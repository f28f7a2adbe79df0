//! Two ids are one user, in projects with the original identity merge.
//!
//! <https://docs.mixpanel.com/reference/identity-create-alias>

use analytics_http::Step;
use analytics_spec::{Alias, AnyInput, Error, Secret};

use crate::{event::Properties, vendor::Route};

pub(crate) fn step(input: &AnyInput, event: &Alias, token: &Secret) -> Result<Step<Route>, Error> {
    let mut properties = Properties::stamped(input);
    properties.set("distinct_id", event.previous_user_id.as_str());
    properties.set("alias", event.user_id.as_str());
    properties.set("token", token.expose());
    properties.step("$create_alias")
}

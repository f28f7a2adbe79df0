//! Two ids are one user: the events of both are found under the second.
//!
//! <https://amplitude.com/docs/apis/analytics/user-mapping>

use analytics_http::Step;
use analytics_spec::{Alias, Error};
use serde::Serialize;

use crate::Route;

#[derive(Serialize)]
struct Mapping<'a> {
    user_id: &'a str,
    global_user_id: &'a str,
}

pub(crate) fn steps(alias: &Alias) -> Result<Vec<Step<Route>>, Error> {
    let mapping = Mapping {
        user_id: &alias.previous_user_id,
        global_user_id: &alias.user_id,
    };
    Ok(vec![Step::json(Route::UserMap, &mapping)?])
}

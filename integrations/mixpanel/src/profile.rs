//! A record of `/engage`, and traits under Mixpanel's names.
//!
//! - <https://docs.mixpanel.com/reference/profile-set>
//! - <https://docs.mixpanel.com/docs/data-structure/property-reference/reserved-properties>

use std::{collections::HashSet, net::IpAddr};

use analytics_http::Step;
use analytics_spec::{Error, Map, Secret, Value};
use serde::Serialize;

use crate::{context::country_code, vendor::Route};

#[derive(Serialize)]
struct Update<'a> {
    #[serde(rename = "$token")]
    token: &'a str,
    #[serde(rename = "$distinct_id")]
    distinct_id: &'a str,
    #[serde(rename = "$ip", skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(flatten)]
    operation: Operation,
}

/// What is done to a profile.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Operation {
    /// Overwrites these properties.
    Set {
        #[serde(rename = "$set")]
        set: Map<String, Value>,
    },
    /// Adds to these lists what they do not have.
    Union {
        #[serde(rename = "$union")]
        union: Map<String, Value>,
    },
    /// Deletes the profile.
    Delete {
        /// Mixpanel ignores the value; its documentation writes "null".
        #[serde(rename = "$delete")]
        delete: &'static str,
        #[serde(rename = "$ignore_alias")]
        ignore_alias: bool,
    },
}

/// The step that updates a profile.
pub(crate) fn step(
    token: &Secret,
    distinct_id: &str,
    ip: Option<IpAddr>,
    operation: Operation,
) -> Result<Step<Route>, Error> {
    let update = Update {
        token: token.expose(),
        distinct_id,
        ip,
        operation,
    };
    Step::json(Route::Engage, &update)
}

const USER: [(&str, &str); 9] = [
    ("first_name", "$first_name"),
    ("last_name", "$last_name"),
    ("name", "$name"),
    ("email", "$email"),
    ("phone", "$phone"),
    ("avatar", "$avatar"),
    ("created_at", "$created"),
    ("created", "$created"),
    ("username", "$username"),
];

const GROUP: [(&str, &str); 1] = [("name", "$name")];

/// A user's traits under Mixpanel's names.
pub(crate) fn user(traits: &Map<String, Value>) -> Map<String, Value> {
    let mut set = renamed(traits, &USER);
    let text = |key| set.get(key).and_then(Value::as_str);
    // One of the two alone could replace a whole name that is known already.
    if let (None, Some(first), Some(last)) =
        (set.get("$name"), text("$first_name"), text("$last_name"))
    {
        let name = format!("{first} {last}");
        set.insert("$name".to_owned(), name.into());
    }
    match set.remove("address") {
        Some(Value::Object(mut address)) => {
            let was_empty = address.is_empty();
            take_place(&mut address, &mut set);
            if was_empty || !address.is_empty() {
                set.insert("address".to_owned(), address.into());
            }
        }
        Some(other) => {
            set.insert("address".to_owned(), other);
        }
        None => {}
    }
    set
}

/// A group's traits under Mixpanel's names.
pub(crate) fn group(traits: &Map<String, Value>) -> Map<String, Value> {
    renamed(traits, &GROUP)
}

/// What has Mixpanel's own name already gives way to the trait that belongs
/// there. Of two such traits, the second keeps its name.
fn renamed(traits: &Map<String, Value>, names: &[(&str, &str)]) -> Map<String, Value> {
    let mut set = traits.clone();
    let mut taken = HashSet::new();
    for (from, to) in names {
        if !taken.contains(to)
            && let Some(value) = set.remove(*from)
        {
            set.insert((*to).to_owned(), value);
            taken.insert(to);
        }
    }
    set
}

const COUNTRY: &str = "country";

/// Moves what Mixpanel knows of an address to where it looks for it.
fn take_place(address: &mut Map<String, Value>, set: &mut Map<String, Value>) {
    const PLACES: [(&str, &str); 4] = [
        ("city", "$city"),
        ("state", "$region"),
        ("region", "$region"),
        (COUNTRY, "$country_code"),
    ];
    let mut taken = HashSet::new();
    for (from, to) in PLACES {
        let text = address.get(from).and_then(Value::as_str);
        let value = text.and_then(|text| match from {
            COUNTRY => country_code(text),
            _ => Some(text.to_owned()),
        });
        if !taken.contains(to)
            && let Some(value) = value
        {
            address.remove(from);
            set.insert(to.to_owned(), value.into());
            taken.insert(to);
        }
    }
}

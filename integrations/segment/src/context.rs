//! The context under Segment's names.
//!
//! <https://segment.com/docs/connections/spec/common/#context>

use analytics_spec::{Context, Map, Value};
use serde::{Serialize, Serializer, ser::Error as _, ser::SerializeMap};

/// A context as Segment has it. What Segment does not know goes along under
/// its own name in camel case, and Segment ignores it.
pub(crate) struct SegmentContext<'a> {
    pub(crate) context: &'a Context,
    /// The user's traits, where the call has no place for them.
    pub(crate) traits: Option<&'a Map<String, Value>>,
}

const APP: &[(&str, &str)] = &[("build_id", "build")];
const DEVICE: &[(&str, &str)] = &[("advertising_id", "advertisingId")];
const CLOUD: &[(&str, &str)] = &[("project_id", "projectId"), ("account_id", "accountId")];
const SUBSCRIPTION: &[(&str, &str)] = &[
    ("account_id", "accountId"),
    ("subscription_id", "subscriptionId"),
    ("increment_by", "incrementBy"),
];

impl Serialize for SegmentContext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let c = self.context;
        let mut map = serializer.serialize_map(None)?;
        let mut taken = Vec::new();
        macro_rules! entries {
            ($($key:literal: $value:expr,)*) => {$(
                if let Some(value) = &$value {
                    map.serialize_entry($key, value)?;
                    taken.push($key);
                }
            )*};
        }
        entries! {
            "ip": c.ip,
            "userAgent": c.user_agent,
            "locale": c.locale,
            "timezone": c.timezone,
            "library": c.library,
            "app": renamed(c.app.as_ref(), APP).map_err(S::Error::custom)?,
            "campaign": c.campaign,
            "device": renamed(c.device.as_ref(), DEVICE).map_err(S::Error::custom)?,
            "location": c.location,
            "network": c.network,
            "os": c.os,
            "page": c.page,
            "referrer": c.referrer,
            "screen": c.screen,
            "traits": self.traits,
            "cloud": renamed(c.cloud.as_ref(), CLOUD).map_err(S::Error::custom)?,
            "git": c.git,
            "subscription":
                renamed(c.subscription.as_ref(), SUBSCRIPTION).map_err(S::Error::custom)?,
            "meta": c.meta,
            "flags": c.flags,
            "params": c.params,
        }
        for (key, value) in &c.extra {
            // A key that stands twice loses what it says first.
            if !taken.contains(&key.as_str()) {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// An object with some of its keys under Segment's names. Where the object has
/// such a name as well, the specification's field wins.
fn renamed(
    object: Option<&impl Serialize>,
    names: &[(&str, &str)],
) -> Result<Option<Value>, serde_json::Error> {
    let Some(object) = object else {
        return Ok(None);
    };
    let mut value = serde_json::to_value(object)?;
    if let Value::Object(map) = &mut value {
        for (ours, segments) in names {
            if let Some(value) = map.remove(*ours) {
                map.insert((*segments).to_owned(), value);
            }
        }
    }
    Ok(Some(value))
}

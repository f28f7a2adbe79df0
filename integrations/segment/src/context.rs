//! The context under Segment's names.
//!
//! <https://segment.com/docs/connections/spec/common/#context>

use analytics_spec::{
    Context, Map, Value,
    context::{App, Cloud, Device, Subscription},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// Writes each value that there is under Segment's name, and then what
/// else stands there, unless its name is one that has been written.
macro_rules! write_object {
    ($serializer:ident, $extra:expr, { $($key:literal: $value:expr,)* }) => {{
        let mut map = $serializer.serialize_map(None)?;
        $(
            if let Some(value) = &$value {
                map.serialize_entry($key, value)?;
            }
        )*
        for (key, value) in $extra {
            let is_written = match key.as_str() {
                $( $key => $value.is_some(), )*
                _ => false,
            };
            if !is_written {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }};
}

/// A context as Segment has it. What Segment does not know goes along under
/// its own name in camel case, and Segment ignores it.
pub(crate) struct SegmentContext<'a> {
    pub(crate) context: &'a Context,
    /// The user's traits, where the call has no place for them.
    pub(crate) traits: Option<&'a Map<String, Value>>,
}

impl Serialize for SegmentContext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let c = self.context;
        write_object!(serializer, &c.extra, {
            "ip": c.ip,
            "userAgent": c.user_agent,
            "locale": c.locale,
            "timezone": c.timezone,
            "library": c.library,
            "app": c.app.as_deref().map(Renamed),
            "campaign": c.campaign,
            "device": c.device.as_deref().map(Renamed),
            "location": c.location,
            "network": c.network,
            "os": c.os,
            "page": c.page,
            "referrer": c.referrer,
            "screen": c.screen,
            "traits": self.traits,
            "cloud": c.cloud.as_deref().map(Renamed),
            "git": c.git,
            "subscription": c.subscription.as_deref().map(Renamed),
            "meta": c.meta,
            "flags": c.flags,
            "params": c.params,
        })
    }
}

/// An object of the context, some keys of which Segment calls otherwise.
struct Renamed<'a, T>(&'a T);

macro_rules! renamed {
    ($($Name:ident { $($key:literal: $field:ident,)* })*) => {$(
        impl Serialize for Renamed<'_, $Name> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let object = self.0;
                write_object!(serializer, &object.extra, { $($key: object.$field,)* })
            }
        }
    )*};
}

renamed! {
    App {
        "name": name,
        "version": version,
        "build": build_id,
    }
    Cloud {
        "provider": provider,
        "service": service,
        "region": region,
        "projectId": project_id,
        "accountId": account_id,
    }
    Device {
        "id": id,
        "manufacturer": manufacturer,
        "model": model,
        "name": name,
        "type": type_,
        "version": version,
        "advertisingId": advertising_id,
    }
    Subscription {
        "accountId": account_id,
        "subscriptionId": subscription_id,
        "event": event,
        "value": value,
        "incrementBy": increment_by,
    }
}

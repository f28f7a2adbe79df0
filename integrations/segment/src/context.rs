//! The context under Segment's names.
//!
//! <https://segment.com/docs/connections/spec/common/#context>

use analytics_spec::{
    Context, Map, Value,
    context::{App, Cloud, Device, Subscription},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

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
        let mut map = serializer.serialize_map(None)?;
        macro_rules! entries {
            ($($key:literal: $value:expr,)*) => {$(
                if let Some(value) = &$value {
                    map.serialize_entry($key, value)?;
                }
            )*};
        }
        entries! {
            "ip": c.ip,
            "userAgent": c.user_agent,
            "locale": c.locale,
            "timezone": c.timezone,
            "library": c.library,
            "app": c.app.as_deref().map(app),
            "campaign": c.campaign,
            "device": c.device.as_deref().map(device),
            "location": c.location,
            "network": c.network,
            "os": c.os,
            "page": c.page,
            "referrer": c.referrer,
            "screen": c.screen,
            "traits": self.traits,
            "cloud": c.cloud.as_deref().map(cloud),
            "git": c.git,
            "subscription": c.subscription.as_deref().map(subscription),
            "meta": c.meta,
            "flags": c.flags,
            "params": c.params,
        }
        for (key, value) in &c.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn app(app: &App) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Renamed<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        build: &'a Option<String>,
        #[serde(flatten)]
        extra: &'a Map<String, Value>,
    }
    Renamed {
        name: &app.name,
        version: &app.version,
        build: &app.build_id,
        extra: &app.extra,
    }
}

fn device(device: &Device) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Renamed<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        manufacturer: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        r#type: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        advertising_id: &'a Option<String>,
        #[serde(flatten)]
        extra: &'a Map<String, Value>,
    }
    Renamed {
        id: &device.id,
        manufacturer: &device.manufacturer,
        model: &device.model,
        name: &device.name,
        r#type: &device.type_,
        version: &device.version,
        advertising_id: &device.advertising_id,
        extra: &device.extra,
    }
}

fn cloud(cloud: &Cloud) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Renamed<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        service: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        region: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        project_id: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        account_id: &'a Option<String>,
        #[serde(flatten)]
        extra: &'a Map<String, Value>,
    }
    Renamed {
        provider: &cloud.provider,
        service: &cloud.service,
        region: &cloud.region,
        project_id: &cloud.project_id,
        account_id: &cloud.account_id,
        extra: &cloud.extra,
    }
}

fn subscription(subscription: &Subscription) -> impl Serialize + '_ {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Renamed<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        account_id: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_id: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: &'a Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: &'a Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        increment_by: &'a Option<f64>,
        #[serde(flatten)]
        extra: &'a Map<String, Value>,
    }
    Renamed {
        account_id: &subscription.account_id,
        subscription_id: &subscription.subscription_id,
        event: &subscription.event,
        value: &subscription.value,
        increment_by: &subscription.increment_by,
        extra: &subscription.extra,
    }
}

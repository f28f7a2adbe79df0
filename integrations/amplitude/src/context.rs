//! The context in Amplitude's terms: fields of an event, and properties.
//!
//! - <https://amplitude.com/docs/apis/analytics/http-v2#event-array-keys>
//! - <https://amplitude.com/docs/get-started/event-property-definitions>
//! - <https://amplitude.com/docs/data/source-catalog/segment>

use analytics_spec::{Context, Value};

use crate::object::Object;

/// Where a session stands in the context: when it began, in milliseconds.
pub(crate) const SESSION_ID: &str = "session_id";

/// Adds what an event says of its surroundings. Without `ip`, Amplitude
/// locates nobody.
pub(crate) fn set_fields<'a>(event: &mut Object<'a>, c: &'a Context) {
    let (device, location) = (c.device.as_deref(), c.location.as_deref());
    let (os, app) = (c.os.as_deref(), c.app.as_deref());
    event.set(
        "session_id",
        c.extra.get(SESSION_ID).and_then(Value::as_i64),
    );
    event.set("ip", c.ip);
    event.set("user_agent", c.user_agent.as_deref());
    event.set("language", c.locale.as_deref());
    event.set("app_version", app.and_then(|app| app.version.as_deref()));
    event.set("os_name", os.and_then(|os| os.name.as_deref()));
    event.set("os_version", os.and_then(|os| os.version.as_deref()));
    if let Some(device) = device {
        event.set("platform", device.type_.as_deref());
        event.set(
            "device_brand",
            device.extra.get("brand").and_then(Value::as_str),
        );
        event.set("device_manufacturer", device.manufacturer.as_deref());
        event.set("device_model", device.model.as_deref());
        // The same two ids have other names on each of the two systems.
        let names = match device.type_.as_deref() {
            Some(kind) if kind.eq_ignore_ascii_case("ios") => Some(("idfv", "idfa")),
            Some(kind) if kind.eq_ignore_ascii_case("android") => Some(("android_id", "adid")),
            _ => None,
        };
        if let Some((id, advertising_id)) = names {
            event.set(id, device.id.as_deref());
            event.set(advertising_id, device.advertising_id.as_deref());
        }
    }
    let network = c.network.as_deref();
    event.set(
        "carrier",
        network.and_then(|network| network.carrier.as_deref()),
    );
    if let Some(location) = location {
        event.set("country", location.country.as_deref());
        event.set("region", location.region.as_deref());
        event.set("city", location.city.as_deref());
        event.set("location_lat", location.latitude);
        event.set("location_lng", location.longitude);
    }
}

/// The page that an event happened on, under the names that Amplitude's own
/// libraries give it.
pub(crate) fn page(c: &Context) -> Object<'_> {
    let mut properties = Object::default();
    if let Some(page) = c.page.as_deref() {
        let url = page.url.as_deref();
        properties.set("[Amplitude] Page Location", url);
        properties.set("[Amplitude] Page URL", url.map(without_query));
        properties.set("[Amplitude] Page Path", page.path.as_deref());
        properties.set("[Amplitude] Page Title", page.title.as_deref());
    }
    properties
}

/// Where a user came from, which Amplitude keeps with the user.
pub(crate) fn attribution(c: &Context) -> Object<'_> {
    let mut properties = Object::default();
    if let Some(campaign) = c.campaign.as_deref() {
        properties.set("utm_source", campaign.source.as_deref());
        properties.set("utm_medium", campaign.medium.as_deref());
        properties.set("utm_campaign", campaign.name.as_deref());
        properties.set("utm_term", campaign.term.as_deref());
        properties.set("utm_content", campaign.content.as_deref());
    }
    let page = c.page.as_deref().and_then(|page| page.referrer.as_deref());
    let referrer = page.or_else(|| c.referrer.as_deref()?.url.as_deref());
    properties.set("referrer", referrer);
    properties
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

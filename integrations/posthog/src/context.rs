//! The context under PostHog's names.
//!
//! <https://posthog.com/docs/data/events#default-properties>

use analytics_spec::{Context, Value};

use crate::capture::Said;

/// The library, if nobody says.
const LIBRARY: &str = "analytics-rust";

/// What PostHog has names for; the rest of the context is not sent.
pub(crate) fn entries(c: &Context) -> Vec<(&'static str, Said<'_>)> {
    let (app, campaign, device) = (c.app.as_deref(), c.campaign.as_deref(), c.device.as_deref());
    let (network, os) = (c.network.as_deref(), c.os.as_deref());
    let (page, screen) = (c.page.as_deref(), c.screen.as_deref());
    let browser = c.extra.get("browser");
    let browser_name = browser.and_then(|browser| browser.get("name").or(Some(browser)));
    let browser_version = browser.and_then(|browser| browser.get("version"));
    let referrer = page
        .and_then(|page| page.referrer.as_deref())
        .or_else(|| c.referrer.as_deref()?.url.as_deref());
    let library = c.library.as_deref();
    let mut entries = Vec::with_capacity(36);
    macro_rules! entries {
        ($($name:expr => $value:expr,)*) => {$(
            if let Some(value) = $value {
                entries.push(($name, Said::from(value)));
            }
        )*};
    }
    entries! {
        // Without an address, PostHog would locate the person where this
        // server is: https://posthog.com/docs/cdp/geoip-enrichment
        "$ip" => c.ip,
        "$geoip_disable" => c.ip.is_none().then_some(true),
        "$raw_user_agent" => c.user_agent.as_deref(),
        "$locale" => c.locale.as_deref(),
        "$timezone" => c.timezone.as_deref(),
        "$lib" => library.and_then(|l| l.name.as_deref()).or(Some(LIBRARY)),
        "$lib_version" => library.and_then(|l| l.version.as_deref()),
        "$os" => os.and_then(|os| os.name.as_deref()),
        "$os_version" => os.and_then(|os| os.version.as_deref()),
        "$browser" => browser_name.and_then(Value::as_str),
        "$browser_version" => browser_version.and_then(Value::as_str),
        "$current_url" => page.and_then(|page| page.url.as_deref()),
        "$pathname" => page.and_then(|page| page.path.as_deref()),
        "title" => page.and_then(|page| page.title.as_deref()),
        "$referrer" => referrer,
        "$app_name" => app.and_then(|app| app.name.as_deref()),
        "$app_version" => app.and_then(|app| app.version.as_deref()),
        "$app_build" => app.and_then(|app| app.build_id.as_deref()),
        "$device_id" => device.and_then(|device| device.id.as_deref()),
        "$device_type" => device.and_then(|device| device.type_.as_deref()),
        "$device_name" => device.and_then(|device| device.name.as_deref()),
        "$device_model" => device.and_then(|device| device.model.as_deref()),
        "$device_manufacturer" => device.and_then(|device| device.manufacturer.as_deref()),
        "$screen_width" => screen.and_then(|screen| screen.width),
        "$screen_height" => screen.and_then(|screen| screen.height),
        "$screen_density" => screen.and_then(|screen| screen.density),
        "$network_carrier" => network.and_then(|network| network.carrier.as_deref()),
        "$network_wifi" => network.and_then(|network| network.wifi),
        "$network_cellular" => network.and_then(|network| network.cellular),
        "$network_bluetooth" => network.and_then(|network| network.bluetooth),
        "utm_source" => campaign.and_then(|campaign| campaign.source.as_deref()),
        "utm_medium" => campaign.and_then(|campaign| campaign.medium.as_deref()),
        "utm_campaign" => campaign.and_then(|campaign| campaign.name.as_deref()),
        "utm_term" => campaign.and_then(|campaign| campaign.term.as_deref()),
        "utm_content" => campaign.and_then(|campaign| campaign.content.as_deref()),
    }
    entries
}

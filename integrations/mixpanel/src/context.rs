//! The context under Mixpanel's names.
//!
//! <https://docs.mixpanel.com/docs/data-structure/property-reference/default-properties>

use analytics_spec::{Context, Value};

/// Which library made the event.
pub(crate) const LIBRARY_KEY: &str = "mp_lib";

/// The library, if nobody says.
pub(crate) const LIBRARY: &str = "analytics-rust";

/// What Mixpanel has names for; the rest of the context is not sent.
pub(crate) fn entries(c: &Context) -> Vec<(&'static str, Value)> {
    let (app, campaign) = (c.app.as_deref(), c.campaign.as_deref());
    let (device, location) = (c.device.as_deref(), c.location.as_deref());
    let (network, os) = (c.network.as_deref(), c.os.as_deref());
    let (page, screen) = (c.page.as_deref(), c.screen.as_deref());
    let browser = c.extra.get("browser");
    let browser_name = browser.and_then(|browser| browser.get("name").or(Some(browser)));
    let browser_version = browser.and_then(|browser| browser.get("version"));
    let referrer = page
        .and_then(|page| page.referrer.as_deref())
        .or_else(|| c.referrer.as_deref()?.url.as_deref());
    let library = c.library.as_deref().and_then(|l| l.name.as_deref());
    let mut entries = Vec::with_capacity(24);
    macro_rules! entries {
        ($($key:expr => $value:expr,)*) => {$(
            if let Some(value) = $value {
                entries.push(($key, Value::from(value)));
            }
        )*};
    }
    entries! {
        "$os" => os.and_then(|os| os.name.as_deref()),
        "$os_version" => os.and_then(|os| os.version.as_deref()),
        "$browser" => browser_name.and_then(Value::as_str),
        "$browser_version" => browser_version.and_then(Value::as_str),
        "$current_url" => page.and_then(|page| page.url.as_deref()),
        "$referrer" => referrer,
        "$app_version_string" => app.and_then(|app| app.version.as_deref()),
        "$app_build_number" => app.and_then(|app| app.build_id.as_deref()),
        "$manufacturer" => device.and_then(|device| device.manufacturer.as_deref()),
        "$model" => device.and_then(|device| device.model.as_deref()),
        "$brand" => device.and_then(|device| device.extra.get("brand")?.as_str()),
        "$screen_width" => screen.and_then(|screen| screen.width),
        "$screen_height" => screen.and_then(|screen| screen.height),
        "$carrier" => network.and_then(|network| network.carrier.as_deref()),
        "$wifi" => network.and_then(|network| network.wifi),
        "$city" => location.and_then(|location| location.city.as_deref()),
        "$region" => location.and_then(|location| location.region.as_deref()),
        "mp_country_code" => location.and_then(|l| country_code(l.country.as_deref()?)),
        "utm_source" => campaign.and_then(|campaign| campaign.source.as_deref()),
        "utm_medium" => campaign.and_then(|campaign| campaign.medium.as_deref()),
        "utm_campaign" => campaign.and_then(|campaign| campaign.name.as_deref()),
        "utm_term" => campaign.and_then(|campaign| campaign.term.as_deref()),
        "utm_content" => campaign.and_then(|campaign| campaign.content.as_deref()),
        LIBRARY_KEY => library,
    }
    entries
}

/// The code of a country, if it is one: Mixpanel knows ISO 3166's two letters.
pub(crate) fn country_code(country: &str) -> Option<String> {
    let country = country.trim();
    let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_alphabetic());
    is_code.then(|| country.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_letters_are_a_country_code() {
        assert_eq!(country_code("fr").as_deref(), Some("FR"));
        for name in ["France", "FRA", "F1", "", "\u{e9}"] {
            assert_eq!(country_code(name), None, "{name}");
        }
    }
}

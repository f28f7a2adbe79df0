//! An event with its properties, and what was earned with it.
//!
//! <https://amplitude.com/docs/apis/analytics/http-v2#event-array-keys>

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Map, Track, Value};

use crate::{Route, context, event, object::Object};

pub(crate) fn steps(input: &AnyInput, track: &Track) -> Result<Vec<Step<Route>>, Error> {
    let page = context::page(&input.context);
    let mut event = event::full(input, track.event.as_str(), page, &track.properties);
    set_revenue(&mut event, &track.properties);
    Ok(vec![event::step(&event)?])
}

/// The fields that make an event one of revenue, if it says `revenue`: a price
/// alone may be that of something that was only looked at. `price` and
/// `quantity` stay properties: as fields, Amplitude would multiply them, and
/// take the product instead of `revenue`.
fn set_revenue<'a>(event: &mut Object<'a>, properties: &'a Map<String, Value>) {
    let Some(revenue) = properties.get("revenue").filter(|value| value.is_number()) else {
        return;
    };
    let text = |names: [&str; 2]| {
        let mut values = names.into_iter().filter_map(|name| properties.get(name));
        values.find_map(Value::as_str)
    };
    event.set("revenue", Some(revenue));
    event.set("productId", text(["product_id", "productId"]));
    event.set("revenueType", text(["revenue_type", "revenueType"]));
    let currency = properties.get("currency").and_then(Value::as_str);
    event.set("currency", currency.filter(|code| is_currency(code)));
}

/// Three capital letters, as ISO 4217 has them.
fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

//! What becomes of each event, where the fixtures of the suite do not show it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use analytics_amplitude::{Alias, AmplitudeVendor, Config, Context, Identify, Input, Page, Track};
use analytics_http::HttpVendor as _;
use analytics_spec::{Code, Event, Map, Value, context};
use serde_json::json;

fn vendor(config: Config) -> AmplitudeVendor {
    AmplitudeVendor::new(config).unwrap()
}

/// The first event of what is sent.
fn sent<E: Event>(input: impl Into<Input<E>>) -> Value {
    let steps = vendor(Config::new("key-1")).steps(&input.into().into_any());
    serde_json::from_slice(&steps.unwrap()[0].body).unwrap()
}

/// Path and code of everything that is wrong.
fn wrong<E: Event>(config: Config, input: impl Into<Input<E>>) -> Vec<(String, Code)> {
    let checked = vendor(config).validate(&input.into().into_any());
    let violations = checked.err().map(|error| error.into_violations());
    let violations = violations.into_iter().flatten();
    violations.map(|v| (v.path, v.code)).collect()
}

fn track() -> Track {
    Track::new("Order Completed").user_id("user-1")
}

#[test]
fn revenue_makes_an_event_one_of_revenue_and_a_price_does_not() {
    let viewed = sent(track().property("price", 12.5).property("quantity", 2));
    for key in ["price", "quantity", "revenue"] {
        assert_eq!(viewed.get(key), None, "{key}");
    }
    let bought = track()
        .property("price", 12.5)
        .property("quantity", 2)
        .property("revenue", 20)
        .property("product_id", "p1")
        .property("revenueType", "renewal")
        .property("currency", "eur");
    let bought = sent(bought);
    let expected = [
        ("revenue", json!(20)),
        ("productId", json!("p1")),
        ("revenueType", json!("renewal")),
        ("price", Value::Null),
        ("quantity", Value::Null),
        ("currency", Value::Null),
    ];
    for (key, value) in expected {
        assert_eq!(bought[key], value, "{key}");
    }
    assert_eq!(bought["event_properties"]["price"], 12.5);
    assert_eq!(bought["event_properties"]["currency"], "eur");
    let text = sent(track().property("revenue", "20"));
    assert_eq!(text.get("revenue"), None);
}

#[test]
fn the_ids_of_a_device_have_the_names_of_its_system() {
    let on = |system: &str| {
        let device = context::Device::new()
            .type_(system)
            .id("device-1")
            .advertising_id("ad-1");
        let event = sent(Input::new(track()).context(Context::new().device(device)));
        ["idfv", "idfa", "android_id", "adid"].map(|key| event[key].as_str().map(str::to_owned))
    };
    let (id, ad) = (Some("device-1".to_owned()), Some("ad-1".to_owned()));
    assert_eq!(on("iOS"), [id.clone(), ad.clone(), None, None]);
    assert_eq!(on("android"), [None, None, id, ad]);
    assert_eq!(on("web"), [None, None, None, None]);
}

#[test]
fn a_session_is_when_it_began() {
    let in_session = |session: Value| {
        let mut context = Context::new();
        context.extra.insert("session_id".to_owned(), session);
        Input::new(track()).context(context)
    };
    let event = sent(in_session(json!(1_772_366_400_000_i64)));
    assert_eq!(event["session_id"], 1_772_366_400_000_i64);
    assert_eq!(wrong(Config::new("k"), in_session(json!(-1))), []);
    for session in [json!("1772366400000"), json!(1.5), json!({})] {
        assert_eq!(
            wrong(Config::new("k"), in_session(session)),
            [("context.session_id".to_owned(), Code::Type)]
        );
    }
}

#[test]
fn a_page_keeps_its_name_and_where_the_user_came_from() {
    let page = context::PageContext::new()
        .url("https://shop.example/a?b=c#d")
        .referrer("https://search.example/");
    let campaign = context::Campaign::new().name("spring");
    let context = Context::new().page(page).campaign(campaign);
    let event = Page::new("Pricing")
        .anonymous_id("device-1")
        .property("name", "replaced");
    let event = sent(Input::new(event).context(context));
    assert_eq!(event["event_type"], "Viewed Pricing");
    assert_eq!(
        event["event_properties"],
        json!({
            "name": "Pricing",
            "[Amplitude] Page Location": "https://shop.example/a?b=c#d",
            "[Amplitude] Page URL": "https://shop.example/a",
        })
    );
    assert_eq!(
        event["user_properties"],
        json!({"utm_campaign": "spring", "referrer": "https://search.example/"})
    );
}

#[test]
fn an_identify_without_traits_links_the_two_ids() {
    let event = sent(Identify::new().user_id("user-1").anonymous_id("device-1"));
    assert_eq!(
        event,
        json!({"event_type": "$identify", "user_id": "user-1", "device_id": "device-1"})
    );
}

#[test]
fn ids_have_a_least_length() {
    let short = || Track::new("E").user_id("\u{e9}\u{e9}\u{e9}\u{e9}");
    let of_user = [("track.user_id".to_owned(), Code::OutOfRange)];
    assert_eq!(wrong(Config::new("k"), short()), of_user);
    assert_eq!(wrong(Config::new("k").min_id_length(4), short()), []);
    assert_eq!(
        wrong(Config::new("k").min_id_length(10), track()),
        of_user,
        "six characters"
    );
    assert_eq!(
        wrong(Config::new("k"), Alias::new("none", "undefined")),
        [
            ("alias.user_id".to_owned(), Code::Reserved),
            ("alias.previous_user_id".to_owned(), Code::Reserved),
        ]
    );
}

#[test]
fn names_and_properties_have_limits() {
    let of = |path: &str, code| [(path.to_owned(), code)];
    let named = |name: String| Track::new(name).user_id("user-1");
    assert_eq!(wrong(Config::new("k"), named("x".repeat(1_024))), []);
    assert_eq!(
        wrong(Config::new("k"), named("x".repeat(1_025))),
        of("track.event", Code::TooLong)
    );
    for name in ["$identify", "[Amplitude] Start Session"] {
        assert_eq!(
            wrong(Config::new("k"), named(name.to_owned())),
            of("track.event", Code::Reserved)
        );
    }
    let page = Page::new("x".repeat(1_018)).user_id("user-1");
    assert_eq!(
        wrong(Config::new("k"), page),
        of("page.name", Code::TooLong),
        "with what stands before it"
    );
    let many = |count: u32| -> Map<String, Value> {
        (0..count).map(|n| (n.to_string(), json!(n))).collect()
    };
    assert_eq!(wrong(Config::new("k"), track().properties(many(1_024))), []);
    assert_eq!(
        wrong(Config::new("k"), track().properties(many(1_025))),
        of("track.properties", Code::TooLarge)
    );
    let deep = |layers| (0..layers).fold(json!(1), |inner, _| json!({"in": inner}));
    assert_eq!(wrong(Config::new("k"), track().property("p", deep(39))), []);
    assert_eq!(
        wrong(Config::new("k"), track().property("p", deep(40))),
        of("track.properties.p", Code::TooLarge)
    );
    assert_eq!(wrong(Config::new("k"), track().trait_("t", deep(38))), []);
    assert_eq!(
        wrong(Config::new("k"), track().trait_("t", deep(39))),
        of("track.traits.t", Code::TooLarge)
    );
}

#[test]
fn an_event_that_no_request_holds_is_refused() {
    let sized = |bytes: usize| {
        let input = Input::new(track().property("p", "x".repeat(bytes))).into_any();
        let vendor = vendor(Config::new("key-1"));
        let steps = vendor.steps(&input).unwrap();
        vendor.validate_steps(&input, &steps)
    };
    assert!(sized(999_000).is_ok());
    let violations = sized(1_000_000).unwrap_err().into_violations();
    assert_eq!(violations[0].code, Code::TooLarge);
}

#[test]
fn a_configuration_says_what_is_missing() {
    for (config, key) in [
        (Config::new(" "), "api_key"),
        (Config::new("k").secret_key(""), "secret_key"),
        (Config::new("k").group_type(""), "group_type"),
        (Config::new("k").min_id_length(0), "min_id_length"),
    ] {
        let error = config.build().unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
}

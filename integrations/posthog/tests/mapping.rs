//! What becomes of an event, where the conformance suite's fixtures do not say.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which may panic"
)]

use analytics_http::{HttpVendor as _, Sending};
use analytics_posthog::{
    Alias, Config, Context, Delete, Group, Identify, Input, Page, PersonProfiles, Posthog, Region,
    Route, Screen, Track,
};
use analytics_spec::{AnyInput, Code, Event, Integration as _, Timestamp, Value};
use bytes::Bytes;
use serde_json::json;

fn posthog() -> Posthog {
    Config::new("phc_k").deletion("7", "phx_p").build().unwrap()
}

fn stamped<E: Event>(event: impl Into<Input<E>>) -> AnyInput {
    let mut input = event.into().into_any();
    input.stamp("2026-03-01T12:00:00.123456Z".parse().unwrap());
    input
}

/// The one event of an input.
fn captured<E: Event>(posthog: &Posthog, event: impl Into<Input<E>>) -> Value {
    let input = stamped(event);
    assert_eq!(posthog.validate(&input), Ok(()));
    let steps = posthog.mapping().steps(&input).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].route, Route::Capture);
    serde_json::from_slice(&steps[0].body).unwrap()
}

fn violation<E: Event>(event: impl Into<Input<E>>) -> (String, Code) {
    let error = posthog().validate(&stamped(event)).unwrap_err();
    let violations = error.violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    (violations[0].path.clone(), violations[0].code)
}

/// The URL and body of a request with these bodies.
fn request(config: Config, route: Route, bodies: &[Value]) -> (String, Value) {
    let posthog = config.build().unwrap();
    let bodies: Vec<_> = bodies.iter().map(|b| Bytes::from(b.to_string())).collect();
    let bodies: Vec<_> = bodies.iter().collect();
    let at = Timestamp::UNIX_EPOCH;
    let sending = Sending { at, retry: 1 };
    let vendor = posthog.mapping();
    let request = vendor.request(&route, &bodies, sending).unwrap();
    let around = request.body().len() - bodies.iter().map(|b| b.len() + 1).sum::<usize>() + 1;
    if route == Route::Capture {
        assert_eq!(vendor.limits(&route).envelope_bytes, around);
    }
    let body = serde_json::from_slice(request.body()).unwrap();
    (request.uri().to_string(), body)
}

#[test]
fn a_bare_event_says_when_and_that_nobody_is_to_be_located() {
    let context = Context::new().message_id("order_1");
    let event = Input::new(Track::new("Seen").user_id("u1")).context(context);
    assert_eq!(
        captured(&posthog(), event),
        json!({
            "event": "Seen",
            "distinct_id": "u1",
            "uuid": "aac882e8-96de-56e9-9e97-b8961cd503ff",
            "timestamp": "2026-03-01T12:00:00.123Z",
            "properties": {"$geoip_disable": true, "$lib": "analytics-rust"},
        })
    );
}

#[test]
fn an_address_is_a_place_to_locate() {
    let context = Context::new().ip([203, 0, 113, 9]);
    let event = Input::new(Page::new("Home").user_id("u1")).context(context);
    let properties = &captured(&posthog(), event)["properties"];
    assert_eq!(properties["$ip"], "203.0.113.9");
    assert_eq!(properties.get("$geoip_disable"), None);
}

#[test]
fn somebody_unknown_has_no_profile_but_what_is_said_for_one() {
    const PROFILE: &str = "$process_person_profile";
    let profile = |event: Value| event["properties"].get(PROFILE).cloned();
    let (identified, always) = (posthog(), Config::new("phc_k"));
    let always = always.person_profiles(PersonProfiles::Always).build();
    let always = always.unwrap();
    let track = || Track::new("Seen").anonymous_id("a1");
    let (page, screen) = (Page::new("Home"), Screen::new("Cart"));

    let never = Some(json!(false));
    assert_eq!(profile(captured(&identified, track())), never);
    let page = page.anonymous_id("a1");
    assert_eq!(profile(captured(&identified, page.clone())), never);
    let screen = screen.anonymous_id("a1");
    assert_eq!(profile(captured(&identified, screen)), never);
    assert_eq!(profile(captured(&always, track())), None);

    for event in [
        track().user_id("u1"),
        track().trait_("plan", "pro"),
        track().property("$set_once", json!({"first": 1})),
        track().property("$groups", json!({"company": "g1"})),
    ] {
        assert_eq!(profile(captured(&identified, event)), None);
    }
    let said = track().property(PROFILE, true);
    assert_eq!(profile(captured(&identified, said)), Some(json!(true)));
    let group = Group::new("g1").anonymous_id("a1");
    assert_eq!(profile(captured(&identified, group)), None);
}

#[test]
fn an_identify_links_what_are_two_ids() {
    let posthog = posthog();
    let both = Identify::new().user_id("u1").anonymous_id("a1");
    let linked = captured(&posthog, both.clone());
    assert_eq!(linked["event"], "$identify");
    assert_eq!(linked["distinct_id"], "u1");
    assert_eq!(linked["properties"]["$anon_distinct_id"], "a1");
    assert_eq!(linked["properties"].get("$set"), None);

    let same = captured(&posthog, Identify::new().user_id("u1").anonymous_id("u1"));
    assert_eq!(same["properties"].get("$anon_distinct_id"), None);

    let anonymous = Identify::new().anonymous_id("a1").trait_("plan", "pro");
    let set = captured(&posthog, anonymous);
    assert_eq!(set["event"], "$set", "not identified, so that it may be");
    assert_eq!(set["distinct_id"], "a1");
    assert_eq!(set["properties"]["$set"], json!({"plan": "pro"}));
}

#[test]
fn a_group_has_its_members() {
    let config = Config::new("phc_k").group_type("team");
    let event = Group::new("g1").anonymous_id("a1").trait_("seats", 3);
    let group = captured(&config.build().unwrap(), event);
    assert_eq!(group["distinct_id"], "a1");
    let properties = &group["properties"];
    assert_eq!(properties["$group_type"], "team");
    assert_eq!(properties["$group_key"], "g1");
    assert_eq!(properties["$group_set"], json!({"seats": 3}));
    assert_eq!(properties["$groups"], json!({"team": "g1"}));
}

#[test]
fn an_alias_is_another_id_of_who_was_known() {
    let alias = captured(&posthog(), Alias::new("old", "new"));
    assert_eq!(alias["event"], "$create_alias");
    assert_eq!(alias["distinct_id"], "old");
    assert_eq!(alias["properties"]["alias"], "new");
}

#[test]
fn own_properties_replace_nothing() {
    let event = Track::new("Seen")
        .user_id("u1")
        .property("distinct_id", "other")
        .property("token", "other")
        .property("$lib", "other")
        .property("$current_url", "https://own.example")
        .property("$set", json!({"of": "property"}))
        .trait_("of", "trait");
    let properties = &captured(&posthog(), event)["properties"];
    assert_eq!(properties.get("distinct_id"), None);
    assert_eq!(properties.get("token"), None);
    assert_eq!(properties["$lib"], "analytics-rust");
    assert_eq!(properties["$current_url"], "https://own.example");
    assert_eq!(properties["$set"], json!({"of": "trait"}));
}

#[test]
fn requests_go_where_the_project_is() {
    let events = [json!({"event": "a"}), json!({"event": "b"})];
    let (url, body) = request(Config::new("phc_\"k"), Route::Capture, &events);
    assert_eq!(url, "https://us.i.posthog.com/batch/");
    assert_eq!(
        body,
        json!({"api_key": "phc_\"k", "historical_migration": false, "batch": events})
    );
    let eu = || Config::new("phc_k").region(Region::Eu).deletion("7/8", "p");
    let (url, body) = request(eu().historical_migration(true), Route::Capture, &events);
    assert_eq!(url, "https://eu.i.posthog.com/batch/");
    assert_eq!(body["historical_migration"], true);

    let ids = [json!("u1"), json!("u2")];
    let (url, body) = request(eu(), Route::Deletion, &ids);
    assert_eq!(
        url,
        "https://eu.posthog.com/api/projects/7%2F8/persons/bulk_delete/"
    );
    assert_eq!(
        body,
        json!({"distinct_ids": ids, "delete_events": true, "delete_recordings": true})
    );
    let own = || eu().base_url("https://own.example/p/".parse().unwrap());
    let path = "/api/projects/7%2F8/persons/bulk_delete/";
    let (url, _) = request(own(), Route::Capture, &events);
    assert_eq!(url, "https://own.example/p/batch/");
    let (url, _) = request(own(), Route::Deletion, &ids);
    assert_eq!(url, format!("https://own.example/p{path}"));
    let api = "https://api.example".parse().unwrap();
    let (url, _) = request(own().api_base_url(api), Route::Deletion, &ids);
    assert_eq!(url, format!("https://api.example{path}"));
}

#[test]
fn what_posthog_would_cut_or_not_take_is_refused() {
    let long = "u".repeat(201);
    let path = |path: &str, code| (path.to_owned(), code);
    let too_long = |field| path(field, Code::TooLong);
    let reserved = |field| path(field, Code::Reserved);
    assert_eq!(violation(Delete::new(&*long)), too_long("delete.user_id"));
    assert_eq!(
        violation(Page::new("p").user_id("u1").anonymous_id(&*long)),
        too_long("page.anonymous_id")
    );
    assert_eq!(
        violation(Alias::new(&*long, "u1")),
        too_long("alias.previous_user_id")
    );
    assert_eq!(
        violation(Track::new(&*long).user_id("u1")),
        too_long("track.event")
    );
    assert_eq!(
        violation(Identify::new().user_id("u1").anonymous_id("Anonymous")),
        reserved("identify.anonymous_id")
    );
    assert_eq!(violation(Alias::new("u1", "0")), reserved("alias.user_id"));
    assert_eq!(
        violation(Identify::new().trait_("plan", "pro")),
        path("identify.user_id", Code::Required)
    );
    assert_eq!(
        violation(Identify::new().anonymous_id("a1")),
        path("identify.traits", Code::Required)
    );
    // PostHog takes events of them.
    let guest = stamped(Track::new("Seen").anonymous_id("guest"));
    assert_eq!(posthog().validate(&guest), Ok(()));
    let fits = stamped(Page::new("p").user_id("\u{e9}".repeat(200)));
    assert_eq!(posthog().validate(&fits), Ok(()));
}

#[test]
fn an_event_is_at_most_950_000_bytes_also_before_it_is_stamped() {
    let padded = |bytes: usize| {
        let event = Track::new("e").user_id("u");
        event.property("pad", "x".repeat(bytes))
    };
    let steps = posthog().mapping().steps(&stamped(padded(0))).unwrap();
    let fits = 950_000 - steps[0].body.len();
    for (bytes, is_valid) in [(fits, true), (fits + 1, false)] {
        let unstamped = Input::new(padded(bytes)).into_any();
        for input in [unstamped, stamped(padded(bytes))] {
            let valid = posthog().validate(&input);
            assert_eq!(valid.is_ok(), is_valid, "{valid:?}");
        }
    }
}

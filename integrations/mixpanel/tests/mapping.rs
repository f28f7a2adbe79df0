//! What each kind becomes, without a network: method, URL, headers, body. No
//! value stands in two fields, so that no two of them can be mixed up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test may fail, and reads best with what it expects in place"
)]

use analytics_http::{HttpVendor as _, Sending};
use analytics_mixpanel::{
    Alias, ComplianceType, Config, Context, Delete, Group, IdMerge, Identify, Input,
    MixpanelVendor, Page, Region, Screen, Track,
};
use analytics_spec::{
    AnyInput, Code, Event, Integration as _, Kind, KindSet, Value,
    config::{Instance, VendorConfig, keys, read},
    integration::Support,
};
use serde_json::{Map, json};

const TOKEN: &str = "project-token-1";
const MESSAGE_ID: &str = "0197a6a5-7f3e-7c07-8d8c-0123456789ab";
const TIMESTAMP: &str = "2026-03-04T05:06:07.089Z";
const MILLISECONDS: i64 = 1_772_600_767_089;
const UUID_V4: &str = "91304156-cafc-4673-a237-623d1129c801";
/// `project-token-1:`
const TOKEN_AUTH: &str = "Basic cHJvamVjdC10b2tlbi0xOg==";
const PROFILES: &str = "?ip=0&strict=1&verbose=1";

fn config() -> Config {
    Config::new(TOKEN)
}

fn original() -> Config {
    config().id_merge(IdMerge::Original)
}

fn vendor(config: Config) -> MixpanelVendor {
    MixpanelVendor::new(config).unwrap()
}

/// A context with what every event has, and nothing else.
fn bare() -> Context {
    Context::new()
        .message_id(MESSAGE_ID)
        .timestamp(TIMESTAMP.parse::<analytics_spec::Timestamp>().unwrap())
}

/// A context with a value of its own in every field.
fn full() -> Context {
    let context = json!({
        "message_id": MESSAGE_ID, "timestamp": TIMESTAMP,
        "ip": "203.0.113.9", "user_agent": "Agent/1", "locale": "en-GB", "timezone": "Europe/Paris",
        "meta": {"meta-key": "meta-value"}, "flags": {"flag-1": true}, "params": {"param-1": ["p"]},
        "library": {"name": "lib-name", "version": "lib-version"},
        "git": {"repository": "git-repository", "branch": "git-branch"},
        "app": {"name": "app-name", "version": "app-version", "build_id": "app-build"},
        "campaign": {"name": "utm-name", "source": "utm-source", "medium": "utm-medium",
            "term": "utm-term", "content": "utm-content"},
        "cloud": {"provider": "cloud-provider", "region": "cloud-region"},
        "device": {"id": "device-id", "manufacturer": "device-maker", "model": "device-model",
            "name": "device-name", "type": "device-type", "version": "device-version",
            "advertising_id": "device-ad", "brand": "device-brand"},
        "location": {"city": "Lyon", "country": "fr", "region": "Rhone", "latitude": 45.7,
            "longitude": 4.8, "speed": 1.5},
        "network": {"bluetooth": true, "cellular": true, "wifi": false, "carrier": "the-carrier"},
        "os": {"name": "os-name", "arch": "os-arch", "version": "os-version"},
        "page": {"path": "/path", "referrer": "https://page-referrer", "search": "?search",
            "title": "page-title", "url": "https://page-url"},
        "referrer": {"type": "referrer-type", "name": "referrer-name",
            "url": "https://referrer-url", "link": "referrer-link"},
        "screen": {"density": 2.0, "width": 1280, "height": 720},
        "subscription": {"account_id": "sub-account", "event": "sub-event"},
        "browser": {"name": "browser-name", "version": "browser-version"},
    });
    let envelope = json!({"context": context, "delete": {"user_id": "u"}});
    AnyInput::from_value(envelope).unwrap().context
}

/// What [`full`] becomes.
fn full_properties() -> Map<String, Value> {
    let Value::Object(properties) = json!({
        "$os": "os-name", "$os_version": "os-version",
        "$browser": "browser-name", "$browser_version": "browser-version",
        "$current_url": "https://page-url", "$referrer": "https://page-referrer",
        "$app_version_string": "app-version", "$app_build_number": "app-build",
        "$manufacturer": "device-maker", "$model": "device-model", "$brand": "device-brand",
        "$screen_width": 1280, "$screen_height": 720,
        "$carrier": "the-carrier", "$wifi": false,
        "$city": "Lyon", "$region": "Rhone", "mp_country_code": "FR",
        "utm_source": "utm-source", "utm_medium": "utm-medium", "utm_campaign": "utm-name",
        "utm_term": "utm-term", "utm_content": "utm-content",
        "mp_lib": "lib-name",
    }) else {
        unreachable!()
    };
    properties
}

fn input(event: impl Event, context: Context) -> AnyInput {
    Input::new(event).context(context).into_any()
}

/// A request with a JSON body, as it would be sent.
#[derive(Debug, PartialEq)]
struct Sent {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Value,
}

fn post(url: &str, authorization: Option<&str>, body: Value) -> Sent {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    headers.extend(authorization.map(|value| ("authorization".to_owned(), value.to_owned())));
    Sent {
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers,
        body,
    }
}

fn import(event: &str, properties: Value) -> Sent {
    post(
        "https://api.mixpanel.com/import?strict=1",
        Some(TOKEN_AUTH),
        json!([{"event": event, "properties": properties}]),
    )
}

fn engage(record: Value) -> Sent {
    let url = format!("https://api.mixpanel.com/engage{PROFILES}");
    post(&url, None, json!([record]))
}

fn groups(record: Value) -> Sent {
    let url = format!("https://api.mixpanel.com/groups{PROFILES}");
    post(&url, None, json!([record]))
}

/// The requests that an input becomes, one for each step.
fn sent(config: Config, input: &AnyInput) -> Vec<Sent> {
    let vendor = vendor(config);
    vendor.validate(input).unwrap();
    let at = "2030-01-01T00:00:00Z".parse().unwrap();
    let steps = vendor.steps(input).unwrap();
    assert_eq!(
        steps,
        vendor.steps(input).unwrap(),
        "the same in every attempt"
    );
    steps
        .into_iter()
        .map(|step| {
            let sending = Sending { at, retry: 3 };
            let request = vendor.request(&step.route, &[&step.body], sending).unwrap();
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            Sent {
                method: request.method().to_string(),
                url: request.uri().to_string(),
                headers: request
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.to_string(), text(value)))
                    .collect(),
                body: serde_json::from_slice(request.body()).unwrap(),
            }
        })
        .collect()
}

fn merged(first: Value, second: Map<String, Value>) -> Value {
    let Value::Object(mut map) = first else {
        unreachable!()
    };
    map.extend(second);
    map.into()
}

fn violations(config: Config, input: &AnyInput) -> Vec<(String, Code)> {
    match config.build().unwrap().validate(input) {
        Ok(()) => Vec::new(),
        Err(error) => error
            .into_violations()
            .into_iter()
            .map(|violation| (violation.path, violation.code))
            .collect(),
    }
}

fn violation(path: &str, code: Code) -> Vec<(String, Code)> {
    vec![(path.to_owned(), code)]
}

// track

fn track() -> Track {
    Track::new("Order Completed")
        .user_id("user-1")
        .anonymous_id("anonymous-1")
        .property("revenue", 42.5)
        .trait_("email", "trait@example.com")
}

#[test]
fn a_track_carries_its_properties_and_the_context() {
    for (config, id_merge) in [(config(), "simplified"), (original(), "original")] {
        let ids = json!({
            "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": "203.0.113.9",
            "distinct_id": "user-1", "$user_id": "user-1", "$device_id": "anonymous-1",
            "revenue": 42.5,
        });
        assert_eq!(
            sent(config, &input(track(), full())),
            [import("Order Completed", merged(ids, full_properties()))],
            "{id_merge}"
        );
    }
}

#[test]
fn an_unknown_device_is_not_the_server_that_sends() {
    let event = Track::new("Order Completed").anonymous_id("anonymous-1");
    for (config, distinct_id) in [
        (config(), "$device:anonymous-1"),
        (original(), "anonymous-1"),
    ] {
        assert_eq!(
            sent(config, &input(event.clone(), bare())),
            [import(
                "Order Completed",
                json!({
                    "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
                    "distinct_id": distinct_id, "$device_id": "anonymous-1",
                    "mp_lib": "analytics-rust",
                })
            )]
        );
    }
}

#[test]
fn names_that_are_set_already_are_not_taken_from_properties() {
    let event = Track::new("E").user_id("user-1").properties([
        ("time", json!(1)),
        ("id", json!("evil-1")),
        ("distinct_id", json!("evil-2")),
        ("$insert_id", json!("evil-3")),
        ("$user_id", json!("evil-4")),
        ("$device_id", json!("evil-5")),
        ("$anon_id", json!("evil-6")),
        ("$group_id", json!("evil-7")),
        ("token", json!("evil-8")),
        ("ip", json!("evil-9")),
        ("bucket", json!("evil-10")),
        ("$ignore", json!(true)),
        ("$os", json!("evil-11")),
        ("mp_lib", json!("evil-12")),
        ("utm_source", Value::Null),
        ("company", json!("acme")),
        ("name", json!("own-name")),
        ("nested", json!({"time": 2})),
    ]);
    let own = json!({
        "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": "203.0.113.9",
        "distinct_id": "user-1", "$user_id": "user-1",
    });
    let mut rest = full_properties();
    for (key, value) in [
        ("company", json!("acme")),
        ("name", json!("own-name")),
        ("nested", json!({"time": 2})),
    ] {
        rest.insert(key.to_owned(), value);
    }
    let requests = sent(config(), &input(event.clone(), full()));
    assert_eq!(requests, [import("E", merged(own, rest))]);
    let steps = vendor(config()).steps(&input(event, full())).unwrap();
    let text = String::from_utf8(steps[0].body.to_vec()).unwrap();
    assert_eq!(text.matches("\"$os\":").count(), 1, "no name twice: {text}");
}

#[test]
fn what_the_context_leaves_open_may_be_among_the_properties() {
    let event = Track::new("E")
        .user_id("user-1")
        .property("$os", "own-os")
        .property("mp_lib", "own-lib");
    let body = sent(config(), &input(event, bare()))[0].body[0]["properties"].take();
    assert_eq!(body["$os"], "own-os");
    assert_eq!(body["mp_lib"], "own-lib");
}

#[test]
fn the_context_is_mapped_as_far_as_it_is_known() {
    let properties = |context: Value| {
        let envelope = json!({"context": context, "track": {"user_id": "u1", "event": "E"}});
        let input = AnyInput::from_value(envelope).unwrap();
        sent(config(), &input)[0].body[0]["properties"].take()
    };
    let known = |extra: Value| {
        let base =
            json!({"ip": 0, "distinct_id": "u1", "$user_id": "u1", "mp_lib": "analytics-rust"});
        merged(base, serde_json::from_value(extra).unwrap())
    };
    assert_eq!(properties(json!({})), known(json!({})));
    for (context, extra) in [
        (
            json!({"browser": "Firefox"}),
            json!({"$browser": "Firefox"}),
        ),
        (
            json!({"browser": {"version": "9"}}),
            json!({"$browser_version": "9"}),
        ),
        (
            json!({"referrer": {"url": "https://r"}}),
            json!({"$referrer": "https://r"}),
        ),
        (json!({"location": {"country": "France"}}), json!({})),
        (json!({"ip": "2001:db8::1"}), json!({"ip": "2001:db8::1"})),
        (
            json!({"message_id": "order_1"}),
            json!({"$insert_id": "542083e6-fb91-596e-80d4-801e53f2742b"}),
        ),
    ] {
        assert_eq!(properties(context), known(extra));
    }
}

// page and screen

#[test]
fn pages_and_screens_have_one_name_and_theirs_is_a_property() {
    let expected = |name: &str, category: &str| {
        json!({
            "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
            "distinct_id": "user-1", "$user_id": "user-1", "$device_id": "anonymous-1",
            "name": name, "category": category, "mp_lib": "analytics-rust",
        })
    };
    let page = Page::new("Pricing")
        .user_id("user-1")
        .anonymous_id("anonymous-1")
        .property("category", "shop")
        .property("name", "overruled");
    let screen = Screen::new("Checkout")
        .user_id("user-1")
        .anonymous_id("anonymous-1")
        .property("category", "app");
    let (page, screen) = (input(page, bare()), input(screen, bare()));
    assert_eq!(
        sent(config(), &page),
        [import("Loaded a Page", expected("Pricing", "shop"))]
    );
    assert_eq!(
        sent(config(), &screen),
        [import("Loaded a Screen", expected("Checkout", "app"))]
    );
    let named = config()
        .page_name("Viewed {name}")
        .screen_name("Opened {name}");
    assert_eq!(
        sent(named.clone(), &page),
        [import("Viewed Pricing", expected("Pricing", "shop"))]
    );
    assert_eq!(
        sent(named, &screen),
        [import("Opened Checkout", expected("Checkout", "app"))]
    );
}

// identify

fn identify() -> Identify {
    Identify::new()
        .user_id("user-1")
        .anonymous_id("anonymous-1")
        .trait_("email", "ada@example.com")
}

fn email_of(distinct_id: &str) -> Sent {
    engage(json!({
        "$token": TOKEN, "$distinct_id": distinct_id, "$set": {"$email": "ada@example.com"},
    }))
}

#[test]
fn an_identify_links_the_ids_then_sets_the_traits() {
    assert_eq!(
        sent(config(), &input(identify(), bare())),
        [
            import(
                "$identify",
                json!({
                    "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
                    "distinct_id": "user-1", "$user_id": "user-1", "$device_id": "anonymous-1",
                })
            ),
            email_of("user-1"),
        ]
    );
}

#[test]
fn the_original_id_merge_links_by_the_form_of_the_anonymous_id() {
    let event = identify().anonymous_id(UUID_V4);
    assert_eq!(
        sent(original(), &input(event, bare())),
        [
            import(
                "$identify",
                json!({
                    "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
                    "distinct_id": "user-1", "token": TOKEN,
                    "$identified_id": "user-1", "$anon_id": UUID_V4,
                })
            ),
            email_of("user-1"),
        ]
    );
    assert_eq!(
        sent(original(), &input(identify(), bare())),
        [
            import(
                "$merge",
                json!({
                    "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
                    "distinct_id": "user-1", "token": TOKEN,
                    "$distinct_ids": ["user-1", "anonymous-1"],
                })
            ),
            email_of("user-1"),
        ]
    );
}

#[test]
fn an_identify_sends_only_what_it_says() {
    let link = Identify::new()
        .user_id("user-1")
        .anonymous_id("anonymous-1");
    assert_eq!(sent(config(), &input(link.clone(), bare())).len(), 1);
    assert_eq!(sent(original(), &input(link, bare())).len(), 1);

    let user = Identify::new()
        .user_id("user-1")
        .trait_("email", "ada@example.com");
    assert_eq!(sent(config(), &input(user, bare())), [email_of("user-1")]);

    let device = Identify::new()
        .anonymous_id("anonymous-1")
        .trait_("email", "ada@example.com");
    let device = input(device, bare());
    assert_eq!(sent(config(), &device), [email_of("$device:anonymous-1")]);
    assert_eq!(sent(original(), &device), [email_of("anonymous-1")]);

    // The original identity merge cannot merge an id with itself.
    let same = identify().anonymous_id("user-1");
    assert_eq!(sent(original(), &input(same, bare())), [email_of("user-1")]);
}

#[test]
fn an_identify_that_tells_nothing_is_refused_not_swallowed() {
    let same = Identify::new().user_id("user-1").anonymous_id("user-1");
    for (config, event, path) in [
        (
            config(),
            Identify::new().user_id("user-1"),
            "identify.traits",
        ),
        (
            config(),
            Identify::new().anonymous_id("a-1"),
            "identify.traits",
        ),
        (
            original(),
            Identify::new().user_id("user-1"),
            "identify.traits",
        ),
        (original(), same, "identify.traits"),
        (
            config(),
            Identify::new().trait_("email", "a@b.c"),
            "identify.user_id",
        ),
    ] {
        let input = input(event, bare());
        assert_eq!(
            violations(config.clone(), &input),
            violation(path, Code::Required)
        );
        let error = vendor(config).steps(&input).unwrap_err();
        assert!(error.violations().is_some(), "{error}");
    }
}

#[test]
fn traits_have_mixpanels_names_on_the_profile() {
    let traits = json!({
        "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com",
        "phone": "+33 1", "avatar": "https://avatar", "created_at": "2020-01-02T03:04:05Z",
        "created": "kept", "username": "ada", "plan": "pro", "logins": 7, "tags": ["a", "b"],
        "address": {"street": "1 Rue", "city": "Paris", "state": "IDF", "region": "kept-region",
            "country": "fr", "postal_code": "75001"},
    });
    let mut event = Identify::new().user_id("user-1");
    event.traits = serde_json::from_value(traits).unwrap();
    assert_eq!(
        sent(config(), &input(event, full())),
        [engage(json!({
            "$token": TOKEN, "$distinct_id": "user-1", "$ip": "203.0.113.9",
            "$set": {
                "$first_name": "Ada", "$last_name": "Lovelace", "$name": "Ada Lovelace",
                "$email": "ada@example.com", "$phone": "+33 1", "$avatar": "https://avatar",
                "$created": "2020-01-02T03:04:05Z", "created": "kept", "$username": "ada",
                "$city": "Paris", "$region": "IDF", "$country_code": "FR",
                "plan": "pro", "logins": 7, "tags": ["a", "b"],
                "address": {"street": "1 Rue", "region": "kept-region", "postal_code": "75001"},
            },
        }))]
    );
}

#[test]
fn no_trait_is_lost_and_none_is_made_up() {
    for (traits, set) in [
        (
            json!({"name": "Ada L", "first_name": "Ada", "last_name": "L"}),
            json!({"$name": "Ada L", "$first_name": "Ada", "$last_name": "L"}),
        ),
        (json!({"first_name": "Ada"}), json!({"$first_name": "Ada"})),
        (json!({"created": "c"}), json!({"$created": "c"})),
        (json!({"email": "a", "$email": "b"}), json!({"$email": "a"})),
        (json!({"$email": "b"}), json!({"$email": "b"})),
        (
            json!({"created_at": "c", "created": "d"}),
            json!({"$created": "c", "created": "d"}),
        ),
        (
            json!({"address": {"region": "R", "country": "France"}}),
            json!({"$region": "R", "address": {"country": "France"}}),
        ),
        (
            json!({"address": {"city": "C"}, "$city": "D"}),
            json!({"$city": "C"}),
        ),
        (json!({"address": {"city": "C"}}), json!({"$city": "C"})),
        (json!({"address": {}}), json!({"address": {}})),
        (json!({"address": "1 Rue"}), json!({"address": "1 Rue"})),
        (
            json!({"city": "C", "company": {"name": "N"}}),
            json!({"city": "C", "company": {"name": "N"}}),
        ),
    ] {
        let mut event = Identify::new().user_id("user-1");
        event.traits = serde_json::from_value(traits).unwrap();
        let requests = sent(config(), &input(event, bare()));
        assert_eq!(requests[0].body[0]["$set"], set);
    }
}

// group

#[test]
fn a_group_is_set_then_joined() {
    let event = Group::new("group-1")
        .user_id("user-1")
        .anonymous_id("anonymous-1")
        .trait_("name", "Acme")
        .trait_("plan", "enterprise")
        .trait_("email", "office@example.com");
    for (config, key) in [
        (config(), "$group_id"),
        (original().group_key("company"), "company"),
    ] {
        assert_eq!(
            sent(config, &input(event.clone(), full())),
            [
                groups(json!({
                    "$token": TOKEN, "$group_key": key, "$group_id": "group-1",
                    "$set": {"$name": "Acme", "plan": "enterprise", "email": "office@example.com"},
                })),
                engage(json!({
                    "$token": TOKEN, "$distinct_id": "user-1", "$union": {key: ["group-1"]},
                })),
            ]
        );
    }
    let bare_group = Group::new("group-1").anonymous_id("anonymous-1");
    for (config, id) in [
        (config(), "$device:anonymous-1"),
        (original(), "anonymous-1"),
    ] {
        assert_eq!(
            sent(config, &input(bare_group.clone(), bare())),
            [engage(json!({
                "$token": TOKEN, "$distinct_id": id, "$union": {"$group_id": ["group-1"]},
            }))]
        );
    }
}

// alias

#[test]
fn an_alias_is_for_the_original_id_merge() {
    let event = Alias::new("previous-1", "user-1").trait_("plan", "pro");
    let input = input(event, bare());
    assert_eq!(
        sent(original(), &input),
        [import(
            "$create_alias",
            json!({
                "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
                "distinct_id": "previous-1", "alias": "user-1", "token": TOKEN,
            })
        )]
    );
    assert_eq!(vendor(original()).supports(), KindSet::ALL);
    assert_eq!(
        vendor(config()).supports(),
        KindSet::ALL.without(Kind::Alias)
    );
    assert_eq!(
        Config::support(Kind::Alias),
        Support::When("id_merge is original")
    );
    assert_eq!(Config::support(Kind::Delete), Support::Yes);
}

// delete

#[test]
fn a_delete_is_of_the_profile_or_by_law() {
    let event = input(
        Delete::new("user-1").trait_("email", "ada@example.com"),
        full(),
    );
    assert_eq!(
        sent(config(), &event),
        [engage(json!({
            "$token": TOKEN, "$distinct_id": "user-1", "$delete": "null", "$ignore_alias": false,
        }))]
    );
    for (region, host, law, written) in [
        (Region::Us, "mixpanel.com", ComplianceType::Gdpr, "GDPR"),
        (Region::Eu, "eu.mixpanel.com", ComplianceType::Ccpa, "CCPA"),
        (Region::In, "in.mixpanel.com", ComplianceType::Gdpr, "GDPR"),
    ] {
        let config = config().region(region).gdpr_deletion("oauth-1", law);
        assert_eq!(
            sent(config, &event),
            [post(
                &format!("https://{host}/api/app/data-deletions/v3.0/?token={TOKEN}"),
                Some("Bearer oauth-1"),
                json!({"compliance_type": written, "distinct_ids": ["user-1"]}),
            )]
        );
    }
}

// requests

#[test]
fn every_region_has_its_hosts_and_a_base_url_replaces_both() {
    let track = input(track(), bare());
    for (region, host) in [
        (Region::Us, "api.mixpanel.com"),
        (Region::Eu, "api-eu.mixpanel.com"),
        (Region::In, "api-in.mixpanel.com"),
    ] {
        let url = sent(config().region(region), &track).remove(0).url;
        assert_eq!(url, format!("https://{host}/import?strict=1"));
    }
    let proxied = config()
        .base_url("https://proxy.example/mp/".parse().unwrap())
        .gdpr_deletion("oauth-1", ComplianceType::Gdpr);
    let url = |input: &AnyInput| sent(proxied.clone(), input).remove(0).url;
    assert_eq!(url(&track), "https://proxy.example/mp/import?strict=1");
    assert_eq!(
        url(&input(Delete::new("user-1"), bare())),
        format!("https://proxy.example/mp/api/app/data-deletions/v3.0/?token={TOKEN}")
    );
    assert_eq!(
        url(&input(Group::new("g").user_id("user-1"), bare())),
        format!("https://proxy.example/mp/engage{PROFILES}")
    );
}

#[test]
fn a_service_account_goes_with_its_project() {
    let config = config().service_account("12/34", "account-1", "secret-1");
    assert_eq!(
        sent(config, &input(Track::new("E").user_id("user-1"), bare())),
        [post(
            "https://api.mixpanel.com/import?strict=1&project_id=12%2F34",
            // account-1:secret-1
            Some("Basic YWNjb3VudC0xOnNlY3JldC0x"),
            json!([{"event": "E", "properties": {
                "time": MILLISECONDS, "$insert_id": MESSAGE_ID, "ip": 0,
                "distinct_id": "user-1", "$user_id": "user-1", "mp_lib": "analytics-rust",
            }}]),
        )]
    );
}

#[test]
fn several_events_share_an_array() {
    let vendor = vendor(config().gdpr_deletion("oauth-1", ComplianceType::Ccpa));
    let sending = Sending {
        at: TIMESTAMP.parse().unwrap(),
        retry: 0,
    };
    let steps = |events: [AnyInput; 2]| {
        let steps = events.iter().flat_map(|input| vendor.steps(input).unwrap());
        let steps: Vec<_> = steps.collect();
        let bodies: Vec<_> = steps.iter().map(|step| &step.body).collect();
        let request = vendor.request(&steps[0].route, &bodies, sending).unwrap();
        serde_json::from_slice::<Value>(request.body()).unwrap()
    };
    let tracks = steps(["u1", "u2"].map(|id| input(Track::new("E").user_id(id), bare())));
    assert_eq!(tracks[0]["properties"]["distinct_id"], "u1");
    assert_eq!(tracks[1]["properties"]["distinct_id"], "u2");
    let deletes = steps(["u1", "u2"].map(|id| input(Delete::new(id), bare())));
    assert_eq!(
        deletes,
        json!({"compliance_type": "CCPA", "distinct_ids": ["u1", "u2"]})
    );
}

#[test]
fn limits_are_those_of_the_documentation() {
    let vendor = vendor(config());
    let limits = |event: AnyInput| vendor.limits(&vendor.steps(&event).unwrap()[0].route);
    let import = limits(input(track(), bare()));
    assert_eq!(
        (import.max_items, import.max_bytes, import.gzip),
        (2_000, 2_000_000, true)
    );
    for event in [
        input(Delete::new("u1"), bare()),
        input(Group::new("g").user_id("u1").trait_("a", 1), bare()),
    ] {
        let limits = limits(event);
        assert_eq!((limits.max_items, limits.gzip), (2_000, false));
    }
    let policy = vendor.policies().resolve();
    assert_eq!(policy.initial_interval.as_secs(), 2);
    assert_eq!(policy.maximum_interval.as_secs(), 60);
    assert!((policy.backoff_coefficient - 2.0).abs() < f64::EPSILON);
}

// validation

#[test]
fn ids_that_stand_for_nobody_are_refused() {
    let both = Track::new("E").user_id("Anonymous").anonymous_id("NULL");
    assert_eq!(
        violations(config(), &input(both, bare())),
        [
            ("track.user_id".to_owned(), Code::Reserved),
            ("track.anonymous_id".to_owned(), Code::Reserved),
        ]
    );
    assert_eq!(
        violations(original(), &input(Alias::new("undefined", "u1"), bare())),
        violation("alias.previous_user_id", Code::Reserved)
    );
    for (event, path) in [
        (input(Delete::new("0"), bare()), "delete.user_id"),
        (
            input(Page::new("P").user_id("true"), bare()),
            "page.user_id",
        ),
        (
            input(Screen::new("S").anonymous_id("[]"), bare()),
            "screen.anonymous_id",
        ),
        (
            input(Group::new("g").user_id("n/a"), bare()),
            "group.user_id",
        ),
        (
            input(Identify::new().user_id("none").trait_("a", 1), bare()),
            "identify.user_id",
        ),
    ] {
        assert_eq!(
            violations(config(), &event),
            violation(path, Code::Reserved)
        );
    }
    // Groups are not people: Mixpanel's list is not for their ids.
    let group = input(Group::new("0").user_id("u1"), bare());
    assert_eq!(violations(config(), &group), []);
}

#[test]
fn an_anonymous_id_must_fit_behind_its_prefix() {
    let with = |chars| input(Track::new("E").anonymous_id("\u{e9}".repeat(chars)), bare());
    assert_eq!(violations(config(), &with(247)), []);
    assert_eq!(
        violations(config(), &with(248)),
        violation("track.anonymous_id", Code::TooLong)
    );
    assert_eq!(violations(original(), &with(255)), []);
}

#[test]
fn events_and_records_have_limits() {
    let with = |count: usize| {
        let properties = (0..count).map(|n| (format!("p{n}"), n));
        input(Page::new("P").user_id("u1").properties(properties), bare())
    };
    // time, $insert_id, ip, distinct_id, $user_id, name, mp_lib.
    assert_eq!(violations(config(), &with(254 - 7)), []);
    assert_eq!(
        violations(config(), &with(255 - 7)),
        violation("page.properties", Code::TooLarge)
    );

    let list = |count: usize| {
        let event = Track::new("E").user_id("u1");
        input(
            event.property("deep", json!({"list": vec![0; count]})),
            bare(),
        )
    };
    assert_eq!(violations(config(), &list(254)), []);
    assert_eq!(
        violations(config(), &list(255)),
        violation("track.properties.deep", Code::TooLarge)
    );

    let large = |bytes: usize| {
        let empty = input(Track::new("E").user_id("u1").property("p", ""), bare());
        let base = vendor(config()).steps(&empty).unwrap()[0].body.len();
        input(
            Track::new("E")
                .user_id("u1")
                .property("p", "x".repeat(bytes - base)),
            bare(),
        )
    };
    assert_eq!(violations(config(), &large(999_999)), []);
    assert_eq!(
        violations(config(), &large(1_000_000)),
        violation("track", Code::TooLarge)
    );

    let traits = Identify::new()
        .user_id("u1")
        .trait_("bio", "x".repeat(1_000_000));
    assert_eq!(
        violations(config(), &input(traits, bare())),
        violation("identify", Code::TooLarge)
    );
}

#[test]
fn events_from_before_1971_are_refused_and_profiles_are_not() {
    let at =
        |timestamp: &str| bare().timestamp(timestamp.parse::<analytics_spec::Timestamp>().unwrap());
    let (early, earliest) = ("1970-12-31T23:59:59.999Z", "1971-01-01T00:00:00Z");
    assert_eq!(violations(config(), &input(track(), at(earliest))), []);
    assert_eq!(
        violations(config(), &input(track(), at(early))),
        violation("context.timestamp", Code::OutOfRange)
    );
    assert_eq!(
        violations(config(), &input(Delete::new("u1"), at(early))),
        []
    );
}

// configuration

fn built(table: &Value) -> Result<analytics_mixpanel::Mixpanel, analytics_mixpanel::Error> {
    let table = table.as_object().unwrap().clone();
    read::<Config>(table, &|_| None)?.build_as(Instance::new("custom"))
}

#[test]
fn what_is_missing_is_named_with_its_variable() {
    for (table, key) in [
        (json!({}), "project_token"),
        (json!({"project_token": " "}), "project_token"),
        (
            json!({"project_token": "t", "project_id": "1"}),
            "service_account_username",
        ),
        (
            json!({"project_token": "t", "project_id": 1, "service_account_username": "u"}),
            "service_account_secret",
        ),
        (
            json!({"project_token": "t", "service_account_username": "u", "service_account_secret": "s"}),
            "project_id",
        ),
        (
            json!({"project_token": "t", "project_id": "1", "service_account_username": "u",
                "service_account_secret": " "}),
            "service_account_secret",
        ),
        (
            json!({"project_token": "t", "deletion": "gdpr"}),
            "gdpr_oauth_token",
        ),
        (
            json!({"project_token": "t", "deletion": "gdpr", "gdpr_oauth_token": ""}),
            "gdpr_oauth_token",
        ),
        (
            json!({"project_token": "t", "deletion": "gdpr", "gdpr_oauth_token": "o"}),
            "compliance_type",
        ),
        (json!({"project_token": "t", "group_key": " "}), "group_key"),
    ] {
        let error = built(&table).unwrap_err().to_string();
        let variable = format!("MIXPANEL_{}", key.to_uppercase());
        assert!(
            error.contains(&format!("needs `{key}`")),
            "{table}: {error}"
        );
        assert!(error.contains(&variable), "{table}: {error}");
    }
    for (table, said) in [
        (
            json!({"project_token": "t", "page_name": "{nmae}"}),
            "`page_name`",
        ),
        (json!({"project_token": "t", "region": "mars"}), "`region`"),
        (
            json!({"project_token": "t", "compliance_type": "gdpr"}),
            "`compliance_type`",
        ),
        (
            json!({"project_token": "t", "base_url": "mixpanel.com"}),
            "`base_url`",
        ),
        (
            json!({"project_token": "t", "project_tokn": "t"}),
            "project_token",
        ),
    ] {
        let error = built(&table).unwrap_err().to_string();
        assert!(error.contains(said), "{table}: {error}");
    }
}

#[test]
fn a_configuration_is_read_by_key_and_shown_without_secrets() {
    let table = json!({
        "project_token": "hunter-token", "project_id": 1234, "service_account_username": "account-1",
        "service_account_secret": "hunter-secret", "region": "eu", "id_merge": "original",
        "group_key": "company", "deletion": "gdpr", "gdpr_oauth_token": "hunter-oauth",
        "compliance_type": "CCPA", "page_name": "Viewed {name}", "screen_name": "Opened {name}",
    });
    let config = read::<Config>(table.as_object().unwrap().clone(), &|_| None).unwrap();
    let vendor = vendor(config.clone());
    let shown = Value::from(vendor.configuration());
    assert_eq!(
        shown,
        json!({
            "project_id": "1234", "service_account_username": "account-1", "region": "eu",
            "id_merge": "original", "group_key": "company", "deletion": "gdpr",
            "compliance_type": "CCPA", "page_name": "Viewed {name}", "screen_name": "Opened {name}",
            "api_url": "https://api-eu.mixpanel.com", "app_url": "https://eu.mixpanel.com",
        })
    );
    let all = format!("{shown} {config:?} {vendor:?}");
    assert!(!all.contains("hunter"), "{all}");
    assert_eq!(vendor.secrets().len(), 3);

    let known = keys::<Config>();
    for key in [
        "project_token",
        "project_id",
        "service_account_secret",
        "base_url",
    ] {
        assert!(known.contains(&key), "{key} in {known:?}");
    }
    let from_environment = |name: &str| match name {
        "MIXPANEL_PROJECT_TOKEN" => Some("t".to_owned()),
        "MIXPANEL_PROJECT_ID" => Some("99".to_owned()),
        _ => None,
    };
    let config = read::<Config>(Map::new(), &from_environment).unwrap();
    assert_eq!(config.project_id.as_deref(), Some("99"));
    assert_eq!(config.project_token.expose(), "t");
}

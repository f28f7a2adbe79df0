//! One input of each kind with a distinct value in every field, so that two
//! values that changed places are seen.

use analytics_spec::{
    Alias, AnyInput, Context, Delete, Event, Group, Identify, Input, Kind, Map, Page, Screen,
    Track, Value,
    context::{
        App, Campaign, Cloud, Device, Git, Library, Location, Network, Os, PageContext, Referrer,
        ScreenContext, Subscription,
    },
};
use serde_json::json;

use super::places::leaves;

/// The id of the user to whom all fixtures belong.
pub const USER_ID: &str = "user-7401";
/// The user's anonymous id.
pub const ANONYMOUS_ID: &str = "anon-5b1e9c";
/// The user's address.
pub const EMAIL: &str = "ada.marlow@example.com";

/// The fields of events that are ids, and those that are names.
pub(crate) const IDS: [&str; 4] = ["user_id", "anonymous_id", "group_id", "previous_user_id"];
pub(crate) const NAMES: [&str; 2] = ["event", "name"];

/// The fixture of a kind: every field of the event and of its context is set,
/// and no two have the same value.
#[must_use]
pub fn input(kind: Kind) -> AnyInput {
    let context = context(kind);
    match kind {
        Kind::Identify => of(
            Identify::new()
                .user_id(USER_ID)
                .anonymous_id(ANONYMOUS_ID)
                .traits(person()),
            context,
        ),
        Kind::Track => of(
            Track::new("Order Completed")
                .user_id(USER_ID)
                .anonymous_id(ANONYMOUS_ID)
                .properties(about("Lighthouse print"))
                .traits(person()),
            context,
        ),
        Kind::Group => of(
            Group::new("group-3310")
                .user_id(USER_ID)
                .anonymous_id(ANONYMOUS_ID)
                .traits(company()),
            context,
        ),
        Kind::Alias => of(
            Alias::new("previous-2268", USER_ID).traits(person()),
            context,
        ),
        Kind::Page => of(
            Page::new("Pricing Overview")
                .user_id(USER_ID)
                .anonymous_id(ANONYMOUS_ID)
                .properties(about("Annual plans")),
            context,
        ),
        Kind::Screen => of(
            Screen::new("Account Settings")
                .user_id(USER_ID)
                .anonymous_id(ANONYMOUS_ID)
                .properties(about("Notifications")),
            context,
        ),
        Kind::Delete => of(Delete::new(USER_ID).traits(person()), context),
    }
}

fn of<E: Event>(event: E, context: Context) -> AnyInput {
    Input::new(event).context(context).into_any()
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn person() -> Map<String, Value> {
    map(json!({
        "email": EMAIL,
        "first_name": "Adelaide",
        "last_name": "Marlow",
        "name": "Adelaide Q. Marlow",
        "username": "amarlow",
        "phone": "+33 1 23 45 67 89",
        "avatar": "https://cdn.example.com/faces/91.png",
        "created_at": "2021-08-17T06:05:04Z",
        "birthday": "1984-11-23",
        "gender": "female",
        "title": "Cartographer",
        "plan": "Premium Atlas",
        "age": 41,
        "score": 7.25,
        "vip": true,
        "interests": ["sailing", "bookbinding"],
        "address": {
            "street": "12 Harbour Row",
            "city": "Honfleur",
            "state": "Calvados",
            "postal_code": "14600",
            "country": "FR"
        },
        "employer": {"label": "Marlow Charts", "seats": 19}
    }))
}

fn company() -> Map<String, Value> {
    map(json!({
        "name": "Northwind Atlas Ltd",
        "email": "office@northwind.example.net",
        "industry": "Cartography",
        "plan": "Enterprise Globe",
        "website": "https://northwind.example.net/",
        "created_at": "2017-02-09T10:11:12Z",
        "employees": 287,
        "annual_revenue": 1_350_000.5,
        "active": true,
        "offices": ["Bergen", "Porto"],
        "address": {"city": "Tromso", "country": "NO"}
    }))
}

fn about(label: &str) -> Map<String, Value> {
    map(json!({
        "label": label,
        "category": "Prints",
        "currency": "EUR",
        "revenue": 42.5,
        "quantity": 3,
        "gift": true,
        "order_id": "order-88213",
        "tags": ["framed", "signed"],
        "shipping": {"method": "courier", "days": 6}
    }))
}

/// Every field of a context, with a message id and a time of the kind's own.
fn context(kind: Kind) -> Context {
    let nth = kind as u32;
    let mut context = Context::new()
        .message_id(format!("019c9d2a-6f4{nth}-7c31-b0a5-2f6d1e8b{nth}000"))
        .ip([203, 0, 113, 9])
        .user_agent("Mozilla/5.0 (Conformance; rv:1) Suite/2.7")
        .locale("nb-NO")
        .timezone("Europe/Oslo")
        .meta(map(json!({"tenant": "tenant-62"})))
        .flag("new-checkout", true)
        .param("variant", "blue")
        .library(Library::new().name("storefront-sdk").version("3.8.1"))
        .git(
            Git::new()
                .repository("https://git.example.org/shop.git")
                .branch("release-9")
                .commit("8f3a1c77")
                .author("Ines Falk")
                .tag("shop-9.0"),
        )
        .app(
            App::new()
                .name("Harbour Shop")
                .version("5.4.3")
                .build_id("b-20931"),
        )
        .campaign(
            Campaign::new()
                .name("spring-tide")
                .source("newsletter")
                .medium("email-medium")
                .term("old maps")
                .content("header-link"),
        )
        .cloud(
            Cloud::new()
                .provider("cumulus")
                .service("run-jobs")
                .region("north-4")
                .project_id("proj-771")
                .account_id("acct-cloud-58"),
        )
        .device(
            Device::new()
                .id("device-9d07")
                .manufacturer("Fairlight")
                .model("FL-6")
                .name("Ada's phone")
                .type_("android")
                .version("11.2")
                .advertising_id("ad-41c0e7"),
        )
        .location(
            Location::new()
                .city("Bodo")
                .country("SE")
                .region("Nordland")
                .latitude(67.28)
                .longitude(14.405)
                .speed(1.75),
        )
        .network(
            Network::new()
                .bluetooth(false)
                .cellular(true)
                .wifi(false)
                .carrier("Skagen Tele"),
        )
        .os(Os::new().name("Graphite").arch("arm64").version("14.1"))
        .page(
            PageContext::new()
                .path("/maps/old")
                .referrer("https://search.example.com/q")
                .search("?sort=age")
                .title("Old maps")
                .url("https://shop.example.org/maps/old?sort=age"),
        )
        .referrer(
            Referrer::new()
                .type_("partner")
                .name("Chartmakers")
                .url("https://partner.example.com/")
                .link("https://partner.example.com/out/4"),
        )
        .screen(
            ScreenContext::new()
                .density(2.625)
                .width(1179_u32)
                .height(2556_u32),
        )
        .subscription(
            Subscription::new()
                .account_id("acct-payer-33")
                .subscription_id("sub-6042")
                .event("renewed")
                .value(129.9)
                .increment_by(15.5),
        );
    context.timestamp = format!("2026-02-2{nth}T0{nth}:41:52.375Z").parse().ok();
    context
        .extra
        .insert("experiment".to_owned(), json!("exp-anchor"));
    context
}

/// The same event of somebody else: other ids, and other addresses.
pub(crate) fn of_another_person(input: &AnyInput) -> Option<AnyInput> {
    renamed(input, |id| Some(format!("another-{id}")), |_| None)
}

/// The input with other ids and addresses, and other texts in its traits and
/// properties, as far as there is something to say instead.
pub(crate) fn renamed(
    input: &AnyInput,
    id: impl Fn(&str) -> Option<String>,
    free: impl Fn(&str) -> Option<String>,
) -> Option<AnyInput> {
    let kind = input.kind();
    let mut json = serde_json::to_value(input).ok()?;
    for leaf in leaves(json.get(kind.as_str())?) {
        let Value::String(text) = &leaf.value else {
            continue;
        };
        let is_free =
            leaf.pointer.starts_with("/traits") || leaf.pointer.starts_with("/properties");
        let changed = if IDS.contains(&leaf.key.as_str()) || text.contains('@') {
            id(text)
        } else if is_free {
            free(text)
        } else {
            None
        };
        if let Some(changed) = changed {
            *json.pointer_mut(&format!("/{kind}{}", leaf.pointer))? = Value::from(changed);
        }
    }
    AnyInput::from_value(json).ok()
}

/// A fixture of the author's, completed from the one of its kind.
pub(crate) fn completed(mut input: AnyInput) -> AnyInput {
    let base = self::input(input.kind()).context;
    input.context.inherit(&base);
    input.context.message_id = input.context.message_id.or(base.message_id);
    input.context.timestamp = input.context.timestamp.or(base.timestamp);
    input
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_fixture_is_valid_and_distinct() {
        for kind in Kind::ALL {
            let input = input(kind);
            assert_eq!(input.kind(), kind);
            input.validate().unwrap();
            assert!(input.context.timestamp.is_some());
            let mut seen = BTreeMap::new();
            for leaf in leaves(&serde_json::to_value(&input).unwrap()) {
                if leaf.value.is_boolean() {
                    continue;
                }
                let other = seen.insert(leaf.value.to_string(), leaf.pointer.clone());
                assert_eq!(other, None, "{kind}: {}", leaf.pointer);
            }
        }
    }
}

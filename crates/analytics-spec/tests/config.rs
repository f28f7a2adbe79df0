//! Configurations by key: from a table, completed from the environment.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Integration, Kind, KindSet, Map, Secret,
    ValidationError, Value,
    config::{self, Instance, VendorConfig},
    integration::Support,
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shop {
    api_key: Option<Secret>,
    region: Option<String>,
    #[serde(deserialize_with = "config::boolean")]
    strict: bool,
    limits: Limits,
    lists: Vec<String>,
    count: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    host: Option<String>,
    per_second: Option<u32>,
    #[allow(dead_code, reason = "only what it refuses is of interest")]
    unit: Option<Unit>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Second,
    Minute,
}

/// A configuration that leaves a requirement to serde.
#[derive(Debug, Deserialize)]
struct Strict {
    #[allow(dead_code, reason = "only its absence is of interest")]
    api_key: Secret,
}

#[derive(Debug)]
struct Built;

#[async_trait]
impl Integration for Built {
    fn vendor(&self) -> &'static str {
        "shop.io"
    }

    fn name(&self) -> &str {
        "shop"
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    async fn deliver(&self, _: &Attempt<'_>) -> Result<Delivery, Error> {
        Ok(Delivery::default())
    }
}

macro_rules! vendor {
    ($Config:ident) => {
        impl VendorConfig for $Config {
            const VENDOR: &'static str = "shop.io";
            type Integration = Built;

            fn support(_: Kind) -> Support {
                Support::Yes
            }

            fn build_as(self, instance: Instance) -> Result<Built, Error> {
                instance.check().map(|()| Built)
            }
        }
    };
}
vendor!(Shop);
vendor!(Strict);

fn table(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(table) => table,
        other => panic!("{other} is no table"),
    }
}

fn read<C: VendorConfig>(value: Value, variables: &[(&str, &str)]) -> Result<C, Error> {
    config::read(table(value), &|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[track_caller]
fn refused(value: Value, variables: &[(&str, &str)]) -> String {
    let error = read::<Shop>(value, variables).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(!error.is_retryable());
    error.message().to_owned()
}

#[test]
fn keys_and_their_variables() {
    assert_eq!(
        config::keys::<Shop>(),
        ["api_key", "region", "strict", "limits", "lists", "count"]
    );
    assert_eq!(
        config::variable("segment", "write_key"),
        "SEGMENT_WRITE_KEY"
    );
    assert_eq!(config::variable("shop.io", "api-key"), "SHOP_IO_API_KEY");
    let error = config::missing("shop.io", "api_key");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.message(),
        "shop.io needs `api_key`: set it in the configuration, or SHOP_IO_API_KEY in the environment"
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    let message = refused(json!({"apiKey": "k"}), &[]);
    assert!(message.contains("did you mean `api_key`?"), "{message}");
    let message = refused(json!({"colour": 1}), &[]);
    assert!(message.contains("known are api_key, region"), "{message}");
}

#[test]
fn the_table_wins_over_the_environment() {
    let variables = [("SHOP_IO_API_KEY", "from env"), ("SHOP_IO_REGION", "us")];
    let shop: Shop = read(json!({"api_key": "from table"}), &variables).unwrap();
    assert_eq!(shop.api_key.unwrap().expose(), "from table");
    assert_eq!(shop.region.unwrap(), "us");
    // `null` is absent, here as everywhere.
    let shop: Shop = read(json!({"region": null, "strict": null}), &variables).unwrap();
    assert_eq!(shop.region.unwrap(), "us");
    assert!(!shop.strict);
}

#[test]
fn a_blank_variable_is_none() {
    for blank in ["", " ", "\n"] {
        let shop: Shop = read(json!({}), &[("SHOP_IO_API_KEY", blank)]).unwrap();
        assert!(shop.api_key.is_none());
    }
}

#[test]
fn strings_may_stand_in_variables() {
    let shop: Shop = read(
        json!({
            "api_key": {"env": "MY_KEY"},
            "limits": {"host": {"env": "MY_HOST"}, "per_second": 5},
            "lists": ["eu", {"env": "MY_LIST"}],
        }),
        &[
            ("MY_KEY", "k"),
            ("MY_HOST", "h"),
            ("MY_LIST", "us"),
            ("SHOP_IO_API_KEY", "no"),
        ],
    )
    .unwrap();
    assert_eq!(shop.api_key.unwrap().expose(), "k");
    assert_eq!(shop.limits.host.unwrap(), "h");
    assert_eq!(shop.limits.per_second, Some(5));
    assert_eq!(shop.lists, ["eu", "us"]);

    assert_eq!(
        refused(
            json!({"api_key": {"env": "MY_KEY"}}),
            &[("SHOP_IO_API_KEY", "k")]
        ),
        "`api_key`: the environment variable MY_KEY is not set"
    );
    assert_eq!(
        refused(json!({"limits": {"host": {"env": "MY_HOST"}}}), &[]),
        "`limits.host`: the environment variable MY_HOST is not set"
    );
    assert_eq!(
        refused(json!({"lists": ["eu", {"env": "MY_LIST"}]}), &[]),
        "`lists[1]`: the environment variable MY_LIST is not set"
    );
}

#[test]
fn tables_may_be_json_in_a_variable() {
    let limits = r#"{"host": "h", "per_second": 5}"#;
    let shop: Shop = read(json!({}), &[("SHOP_IO_LIMITS", limits)]).unwrap();
    assert_eq!(shop.limits.per_second, Some(5));
    let message = refused(json!({}), &[("SHOP_IO_LIMITS", "5")]);
    assert!(message.contains("SHOP_IO_LIMITS"), "{message}");
}

#[test]
fn booleans_may_be_text() {
    for (value, expected) in [
        (json!(true), true),
        (json!(false), false),
        (json!("true"), true),
        (json!(" false\n"), false),
    ] {
        let shop: Shop = read(json!({"strict": value}), &[]).unwrap();
        assert_eq!(shop.strict, expected, "{value}");
    }
    let shop: Shop = read(json!({}), &[("SHOP_IO_STRICT", "true")]).unwrap();
    assert!(shop.strict);
    for wrong in [json!("yes"), json!(1), json!([])] {
        let message = refused(json!({"strict": wrong}), &[]);
        assert!(message.starts_with("`strict`: "), "{message}");
        assert!(message.contains("expected true or false"), "{message}");
    }
}

#[test]
fn values_of_the_wrong_type_name_their_key() {
    let message = refused(json!({"region": 5}), &[]);
    assert!(message.starts_with("`region`: invalid type"), "{message}");
    let message = refused(json!({"limits": {"per_second": "5"}}), &[]);
    assert!(message.starts_with("`limits.per_second`: "), "{message}");
    let message = refused(json!({}), &[("SHOP_IO_COUNT", "many")]);
    assert!(
        message.starts_with("`count`, from SHOP_IO_COUNT: "),
        "{message}"
    );
    // The table itself has no name.
    let error = read::<Strict>(json!({}), &[]).unwrap_err();
    assert_eq!(error.message(), "missing field `api_key`");
}

#[test]
fn a_text_under_the_wrong_key_is_not_shown() {
    for (wrong, said) in [
        (json!({"strict": "hunter2\"\n"}), "expected true or false"),
        (
            json!({"count": "hunter2\"\n"}),
            "invalid type: string [redacted]",
        ),
        (
            json!({"limits": "hunter2"}),
            "`limits`: invalid type: string [redacted]",
        ),
        (
            json!({"limits": {"per_second": "hunter2"}}),
            "`limits.per_second`: ",
        ),
        (json!({"lists": "hunter2"}), "`lists`: "),
        (
            json!({"lists": ["eu", {"name": "hunter2"}]}),
            "`lists[1]`: ",
        ),
        (
            json!({"limits": {"unit": "hunter2"}}),
            "expected `second` or `minute`",
        ),
    ] {
        let message = refused(wrong, &[]);
        assert!(message.contains(said), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    for variable in ["SHOP_IO_STRICT", "SHOP_IO_COUNT", "SHOP_IO_LIMITS"] {
        let message = refused(json!({}), &[(variable, "hunter2")]);
        assert!(message.contains(variable), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn secrets_of_the_wrong_type_are_not_shown() {
    let wrong = [
        json!(31_337_001),
        json!(-31_337_001),
        json!(31_337.001),
        json!(true),
        json!(["31337001"]),
        json!({"key": "31337001"}),
    ];
    for wrong in wrong {
        let error = read::<Shop>(json!({"api_key": wrong}), &[]).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.contains("api_key"), "{text}");
            assert!(!text.contains("31337"), "{text}");
        }
    }
    let shop: Shop = read(json!({"api_key": "hunter2"}), &[]).unwrap();
    assert!(!format!("{shop:?}").contains("hunter2"));
}

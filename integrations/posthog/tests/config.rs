//! What a configuration has to say, and what is said where it does not.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use analytics_posthog::{Config, PersonProfiles, Region};
use analytics_spec::{
    ErrorKind, Integration as _, Kind, KindSet, Map, Value,
    config::{keys, read},
};
use serde_json::json;

fn table(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap_or_default()
}

fn error_of(config: Config) -> String {
    let error = config.build().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    error.to_string()
}

#[test]
fn what_is_missing_or_in_the_wrong_place_is_named() {
    let from = |value: Value| read::<Config>(table(value), &|_| None).unwrap();
    let key = json!("phc_k");
    for (config, named) in [
        (from(json!({})), "`project_api_key`"),
        (Config::new(" \n"), "POSTHOG_PROJECT_API_KEY"),
        (Config::new("phx_personal"), "personal API key"),
        (Config::new("phc_k").group_type(" "), "`group_type`"),
        (Config::new("phc_k").group_type("g".repeat(401)), "401"),
        (
            from(json!({"project_api_key": key, "project_id": 7})),
            "`personal_api_key`",
        ),
        (
            from(json!({"project_api_key": key, "personal_api_key": "p"})),
            "`project_id`",
        ),
        (
            Config::new("phc_k").deletion("7", " "),
            "`personal_api_key`",
        ),
        (Config::new("phc_k").deletion(" ", "phx_p"), "`project_id`"),
    ] {
        let error = error_of(config);
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("phx_p"), "{error}");
    }
    let error = error_of(Config::new("phc_k").deletion("7", "no\nheader"));
    assert!(!error.contains("no\nheader"), "{error}");
}

#[test]
fn every_key_is_read_from_the_table_or_the_environment() {
    assert_eq!(
        keys::<Config>(),
        [
            "project_api_key",
            "region",
            "personal_api_key",
            "project_id",
            "group_type",
            "person_profiles",
            "historical_migration",
            "base_url",
            "api_base_url"
        ]
    );
    let given = table(json!({
        "project_api_key": {"env": "OTHER"},
        "region": "eu",
        "project_id": 12345,
        "group_type": "team",
        "person_profiles": "always",
        "historical_migration": true,
        "base_url": "https://a.example",
        "api_base_url": "https://b.example",
    }));
    let env = |name: &str| match name {
        "OTHER" => Some("phc_key".to_owned()),
        "POSTHOG_PERSONAL_API_KEY" => Some("phx_key".to_owned()),
        _ => None,
    };
    let config: Config = read(given, &env).unwrap();
    assert_eq!(config.project_api_key.expose(), "phc_key");
    let personal = config.personal_api_key.as_ref().unwrap();
    assert_eq!(personal.expose(), "phx_key");
    assert_eq!(config.region, Region::Eu);
    assert_eq!(config.project_id.as_deref(), Some("12345"));
    assert_eq!(config.group_type, "team");
    assert_eq!(config.person_profiles, PersonProfiles::Always);
    assert!(config.historical_migration);
    assert_eq!(config.base_url.unwrap().as_str(), "https://a.example");
    assert_eq!(config.api_base_url.unwrap().as_str(), "https://b.example");
    for wrong in [
        json!({"region": "mars"}),
        json!({"person_profiles": "never"}),
        json!({"projectApiKey": "k"}),
    ] {
        assert!(read::<Config>(table(wrong), &|_| None).is_err());
    }
}

#[test]
fn delete_is_supported_only_with_both_keys() {
    let without = Config::new("phc_k").build().unwrap();
    assert_eq!(without.supports(), KindSet::ALL.without(Kind::Delete));
    let with = Config::new("phc_k").deletion("7", "phx_p").build().unwrap();
    assert_eq!(with.supports(), KindSet::ALL);
}

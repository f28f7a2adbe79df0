//! What a configuration has to say, and what is said where it does not.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use analytics_segment::{Config, Region, RegulationType};
use analytics_spec::{
    Error, ErrorKind, Integration as _, Kind, KindSet, Map, Value,
    config::{Instance, VendorConfig as _, keys, read},
};
use serde_json::json;

fn table(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap_or_default()
}

fn error_of(config: Config) -> String {
    let error: Error = config.build().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    error.to_string()
}

#[test]
fn a_missing_key_is_named_with_its_variable() {
    let empty: Config = read(Map::new(), &|_| None).unwrap();
    for config in [empty, Config::new(""), Config::new("  \n")] {
        let error = error_of(config);
        assert!(error.contains("`write_key`"), "{error}");
        assert!(error.contains("SEGMENT_WRITE_KEY"), "{error}");
    }
    let error = error_of(Config::new("k").public_api_token(" "));
    assert!(error.contains("`public_api_token`"), "{error}");
    assert!(error.contains("SEGMENT_PUBLIC_API_TOKEN"), "{error}");
    let error = error_of(Config::new("k").public_api_token("t").source_id(" "));
    assert!(error.contains("`source_id`"), "{error}");
    let error = error_of(Config::new("k").public_api_token("no\nheader"));
    assert!(!error.contains("no\nheader"), "{error}");
}

#[test]
fn every_key_is_read_from_the_table_or_the_environment() {
    assert_eq!(
        keys::<Config>(),
        [
            "write_key",
            "region",
            "public_api_token",
            "regulation_type",
            "source_id",
            "base_url",
            "public_api_base_url"
        ]
    );
    let given = table(json!({
        "write_key": {"env": "OTHER"},
        "region": "eu",
        "regulation_type": "DELETE_ONLY",
        "source_id": "s",
        "base_url": "https://a.example",
        "public_api_base_url": "https://b.example",
    }));
    let env = |name: &str| match name {
        "OTHER" => Some("key".to_owned()),
        "SEGMENT_PUBLIC_API_TOKEN" => Some("token".to_owned()),
        _ => None,
    };
    let config: Config = read(given, &env).unwrap();
    assert_eq!(config.write_key.expose(), "key");
    assert_eq!(config.public_api_token.as_ref().unwrap().expose(), "token");
    assert_eq!(config.region, Region::Eu);
    assert_eq!(config.regulation_type, RegulationType::DeleteOnly);
    assert_eq!(config.source_id.as_deref(), Some("s"));
    assert_eq!(
        config.base_url.as_ref().unwrap().as_str(),
        "https://a.example"
    );
    assert_eq!(
        config.public_api_base_url.as_ref().unwrap().as_str(),
        "https://b.example"
    );
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("\"key\"") && !shown.contains("token\""),
        "{shown}"
    );
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    for (wrong, named) in [
        (json!({"writeKey": "k"}), "write_key"),
        (json!({"region": "mars"}), "region"),
        (json!({"regulation_type": "delete"}), "regulation_type"),
        // They delete nothing, and what can be used is said.
        (json!({"regulation_type": "SUPPRESS_ONLY"}), "`DELETE_ONLY`"),
        (json!({"regulation_type": "UNSUPPRESS"}), "`DELETE_ONLY`"),
        (json!({"base_url": "api.segment.io"}), "base_url"),
        (json!({"write_key": 12345}), "write_key"),
    ] {
        let error = read::<Config>(table(wrong), &|_| None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("12345"), "{error}");
    }
}

#[test]
fn delete_is_supported_only_with_a_token() {
    let without = Config::new("k").build().unwrap();
    assert_eq!(without.supports(), KindSet::ALL.without(Kind::Delete));
    let with = Config::new("k").public_api_token("t").build().unwrap();
    assert_eq!(with.supports(), KindSet::ALL);
    for kind in Kind::ALL {
        assert!(Config::support(kind).is_possible());
    }
    assert_eq!(with.name(), "segment");
    assert_eq!(analytics_spec::Integration::vendor(&with), "segment");
    let named = Config::new("k").build_as(Instance::new("other")).unwrap();
    assert_eq!(named.name(), "other");
    assert!(
        Config::new("k")
            .build_as(Instance::new("no spaces"))
            .is_err()
    );
}

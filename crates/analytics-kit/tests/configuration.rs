//! Integrations from a configuration: what is built, and what errors say.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use analytics_kit::{Configuration, ErrorKind, Kind, VENDORS};

/// Builds a configuration in an environment of one variable.
fn build(toml: &str) -> Result<Configuration, String> {
    Configuration::from_toml_with(toml, &|name| {
        (name == "THE_KEY" || name == "SEGMENT_WRITE_KEY").then(|| format!("{name} value"))
    })
    .map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.message().to_owned()
    })
}

#[cfg(feature = "segment")]
mod with_segment {
    use super::*;

    fn error(toml: &str) -> String {
        build(toml).map(|_| ()).unwrap_err()
    }

    #[test]
    fn instances_have_names_vendors_and_policies() {
        let configuration = build(
            r#"
            [integrations.segment]
            [integrations.shop]
            vendor = "segment"
            write_key = { env = "THE_KEY" }
            region = "eu"
            allow_policies_override = true
            [integrations.shop.policies.request]
            single_attempt_timeout = "5s"
            retry_policy = { maximum_attempts = 3 }
            "#,
        )
        .unwrap();
        let [segment, shop] = configuration.integrations() else {
            panic!("{configuration:?}");
        };
        assert_eq!((segment.name(), segment.vendor()), ("segment", "segment"));
        assert_eq!((shop.name(), shop.vendor()), ("shop", "segment"));
        assert!(shop.allows_policies_override() && !segment.allows_policies_override());
        let policy = shop.policies().resolve();
        assert_eq!(policy.single_attempt_timeout.as_secs(), 5);
        assert_eq!(policy.maximum_attempts, 3);
        assert_eq!(policy.initial_interval.as_millis(), 500, "the vendor's own");
        assert_eq!(shop.configuration()["region"], "eu");
        assert!(
            !format!("{configuration:?}").contains("value"),
            "{configuration:?}"
        );
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        for (toml, words) in [
            (
                "[integrations.segment]\nwrite_kye = 'x'",
                &[
                    "integrations.segment",
                    "write_kye",
                    "did you mean `write_key`",
                ][..],
            ),
            (
                "[integrations.segment]\nallow_policy_override = true",
                &["did you mean `allow_policies_override`"],
            ),
            (
                "[integrations.x]\nvendor = 'segmnet'",
                &["did you mean `segment`"],
            ),
            ("[integrations.x]", &["there is no vendor `x`", "segment"]),
            ("[integration.segment]", &["did you mean `integrations`"]),
            (
                "[integrations.segment]\nregion = 'mars'",
                &["region", "`us` or `eu`"],
            ),
            ("[integrations.segment]\nregion = 5", &["`region`"]),
            (
                "[integrations.segment]\nwrite_key = { env = 'NOT_SET' }",
                &["write_key", "NOT_SET", "not set"],
            ),
            (
                "[integrations.segment]\nwrite_key = ' '",
                &["write_key", "SEGMENT_WRITE_KEY"],
            ),
            (
                "[integrations.segment]\nwrite_key = 12345",
                &["write_key", "expected a string"],
            ),
            (
                "[integrations.segment]\nallow_policies_override = 'yes'",
                &["allow_policies_override", "true or false"],
            ),
            (
                "[integrations.segment.policies.request]\nsingle_attempt_timeout = '0s'",
                &[
                    "policies.request.single_attempt_timeout",
                    "longer than zero",
                ],
            ),
            (
                "[integrations.segment.policies.request]\ntimeout = '1s'",
                &["policies.request.timeout"],
            ),
            (
                "[integrations.\"a b\"]\nvendor = 'segment'",
                &["a b", "letters"],
            ),
            ("[integrations]\nsegment = 1", &["expected a table"]),
        ] {
            let message = error(toml);
            for word in words {
                assert!(
                    message.contains(word),
                    "{toml}\n{word:?} is not in {message:?}"
                );
            }
            assert!(!message.contains("12345"), "{message}");
        }
    }

    #[test]
    fn what_is_not_toml_is_named_by_its_line_alone() {
        let message = error("[integrations.segment]\nwrite_key = \"hunter2");
        assert!(message.contains("line 2"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_missing_credential_names_the_key_and_the_variable() {
        let message = Configuration::from_toml_with("[integrations.segment]", &|_| None)
            .unwrap_err()
            .to_string();
        assert!(message.contains("`write_key`"), "{message}");
        assert!(message.contains("SEGMENT_WRITE_KEY"), "{message}");
    }
}

#[cfg(not(feature = "segment"))]
#[test]
fn a_vendor_that_is_not_compiled_in_names_its_feature() {
    let message = build("[integrations.segment]\nwrite_key = 'x'")
        .map(|_| ())
        .unwrap_err();
    assert!(message.contains("feature `segment`"), "{message}");
}

#[test]
fn vendors_are_sorted_and_know_what_they_support() {
    let names: Vec<_> = VENDORS.iter().map(|vendor| vendor.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    for vendor in VENDORS {
        let supported = Kind::ALL.map(|kind| vendor.support(kind));
        if vendor.is_compiled_in() {
            assert!(supported.iter().any(|s| s.as_ref().unwrap().is_possible()));
            assert!(!vendor.keys().unwrap().is_empty());
        } else {
            assert!(supported.iter().all(Result::is_err));
        }
    }
}

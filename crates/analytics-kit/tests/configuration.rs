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
    use analytics_kit::{
        Error, segment,
        spec::{
            config::{Instance, VendorConfig, missing},
            integration::Support,
        },
    };

    use super::*;

    /// A vendor that this project does not know.
    #[derive(serde::Deserialize)]
    struct Own {
        #[serde(default)]
        token: String,
    }

    impl VendorConfig for Own {
        const VENDOR: &'static str = "warehouse";

        type Integration = segment::Segment;

        fn support(_: Kind) -> Support {
            Support::Yes
        }

        fn build_as(self, instance: Instance) -> Result<segment::Segment, Error> {
            if self.token.is_empty() {
                return Err(missing(Self::VENDOR, "token"));
            }
            segment::Config::new(self.token).build_as(instance)
        }
    }

    #[test]
    fn a_vendor_of_ones_own_is_named_like_any() {
        let reader = Configuration::with_vendor::<Own>();
        let env = |name: &str| (name == "WAREHOUSE_TOKEN").then(|| "t".to_owned());
        let toml = "
            [integrations.warehouse]
            [integrations.east]
            vendor = 'warehouse'
            token = 'u'
            [integrations.segment]
            write_key = 'k'
        ";
        let configuration = reader.read_toml_with(toml, &env).unwrap();
        let names: Vec<_> = configuration
            .integrations()
            .iter()
            .map(|i| i.name())
            .collect();
        assert_eq!(names, ["east", "segment", "warehouse"]);
        for (toml, said) in [
            ("integrations.warehouse = { tokn = 't' }", "`token`"),
            ("[integrations.warehose]", "`warehouse`"),
            ("[integrations.warehouse]", "WAREHOUSE_TOKEN"),
        ] {
            let error = reader.read_toml_with(toml, &|_| None).unwrap_err();
            assert!(error.message().contains(said), "{error}");
        }
        let error = build("[integrations.warehouse]").map(|_| ()).unwrap_err();
        assert!(error.contains("there is no vendor"), "{error}");
        let twice = reader.with_vendor::<Own>();
        let error = twice.read_toml_with(toml, &env).unwrap_err();
        let said = "two vendors called `warehouse` were given";
        assert!(error.message().contains(said), "{error}");
    }

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
            for text in ["12345", "mars", "segmnet", "'yes'"] {
                assert!(!message.contains(text), "{message}");
            }
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

mod storage {
    use std::{path::Path, time::Duration};

    use analytics_kit::{Configuration, Storage};

    use super::build;

    #[test]
    fn the_store_is_configured() {
        let configuration = build(
            "[engine]\ndata_dir = 'kept'\nmax_bytes = '2GiB'\ndead_letters_max_age = '7d'\n\
             dead_letters_max_bytes = 1048576",
        )
        .unwrap();
        let storage = configuration.storage();
        assert_eq!(storage.data_dir.as_deref(), Some(Path::new("kept")));
        assert_eq!(storage.max_bytes, Some(2 << 30));
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        assert_eq!(storage.dead_letters_max_age, Some(week));
        assert_eq!(storage.dead_letters_max_bytes, Some(1 << 20));
        let from_env = build("[engine]\ndata_dir = { env = 'THE_KEY' }").unwrap();
        let dir = from_env.storage().data_dir.as_deref();
        assert_eq!(dir, Some(Path::new("THE_KEY value")));
        assert_eq!(build("").unwrap().storage(), &Storage::default());
    }

    #[test]
    fn the_engines_table_is_read_without_credentials() {
        let toml = "[engine]\ndata_dir = 'kept'\n[integrations.segment]\nvendor = 5";
        let storage = Storage::from_toml(toml).unwrap();
        assert_eq!(storage.data_dir.as_deref(), Some(Path::new("kept")));
        assert!(Configuration::from_toml(toml).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (toml, words) in [
            (
                "[engine]\ndata_dri = 'x'",
                "engine: `data_dri` is not known here: did you mean `data_dir`",
            ),
            ("[engnie]", "did you mean `engine`"),
            ("engine = 1", "`engine`: expected a table"),
            ("[engine]\ndata_dir = 1", "`data_dir`: expected a path"),
            ("[engine]\ndata_dir = ' '", "not blank"),
            (
                "[engine]\ndata_dir = { env = 'NOT_SET' }",
                "NOT_SET is not set",
            ),
            (
                "[engine]\nmax_bytes = 'much'",
                "engine: `max_bytes`: expected a size such as \"10GiB\"",
            ),
            ("[engine]\nmax_bytes = -1", "`max_bytes`"),
            (
                "[engine]\ndead_letters_max_age = '0s'",
                "`dead_letters_max_age`: expected a duration",
            ),
        ] {
            let message = build(toml).map(|_| ()).unwrap_err();
            assert!(message.contains(words), "{toml}: {message}");
        }
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn an_engine_keeps_what_it_accepts() {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept");
        let _ = std::fs::remove_dir_all(&dir);
        let toml = format!("[engine]\ndata_dir = '{}'", dir.display());
        let engine = build(&toml).unwrap().engine().await.unwrap();
        let engine = engine.build().await.unwrap();
        assert!(engine.health().await.unwrap().is_durable);
        let second = build(&toml).unwrap().engine().await.unwrap_err();
        let pid = std::process::id().to_string();
        assert!(second.message().contains(&pid), "{second}");
        assert!(engine.close(Duration::from_secs(5)).await.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

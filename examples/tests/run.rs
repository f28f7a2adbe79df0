//! Every example is run, against scripted vendors on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use std::process::{Command, Output};

use analytics_testkit::{
    server::Sink,
    vendors::{MixpanelAccount, ScriptedMixpanel, ScriptedSegment, SegmentAccount},
};

/// Runs an example with nothing in its environment but these variables.
async fn run(program: &str, env: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command.env_clear().envs(env.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program}: {status}\n{stderr}");
    String::from_utf8(stdout).unwrap()
}

async fn segment() -> ScriptedSegment {
    ScriptedSegment::start(SegmentAccount::new("the write key"))
        .await
        .unwrap()
}

async fn mixpanel() -> ScriptedMixpanel {
    ScriptedMixpanel::start(MixpanelAccount::new("the project token"))
        .await
        .unwrap()
}

fn endpoints(received: &[analytics_testkit::server::Received]) -> Vec<String> {
    received
        .iter()
        .map(|item| item.endpoint.to_string())
        .collect()
}

#[tokio::test]
async fn one_integration() {
    let segment = segment().await;
    let said = run(
        env!("CARGO_BIN_EXE_one_integration"),
        &[
            ("SEGMENT_WRITE_KEY", "the write key"),
            ("SEGMENT_BASE_URL", &segment.base_url()),
        ],
    )
    .await;
    assert_eq!(said, "the order: success\n");
    assert_eq!(endpoints(&segment.received()), ["identify", "track"]);
    assert!(
        segment.violations().is_empty(),
        "{:?}",
        segment.violations()
    );
}

#[tokio::test]
async fn one_integration_with_a_wrong_key() {
    let segment = segment().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_one_integration"));
    command
        .env_clear()
        .env("SEGMENT_WRITE_KEY", "another key")
        .env("SEGMENT_BASE_URL", segment.base_url());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("Unauthorized"), "{said}");
    assert!(!said.contains("another key"), "{said}");
    assert_eq!(segment.requests().len(), 1, "a wrong key is not retried");
}

#[tokio::test]
async fn swap_vendors() {
    if cfg!(feature = "mixpanel") {
        let mixpanel = mixpanel().await;
        let said = run(
            env!("CARGO_BIN_EXE_swap_vendors"),
            &[
                ("MIXPANEL_PROJECT_TOKEN", "the project token"),
                ("MIXPANEL_BASE_URL", &mixpanel.base_url()),
            ],
        )
        .await;
        assert_eq!(said, "delivered to mixpanel\n");
        assert_eq!(mixpanel.received().len(), 2);
        assert!(
            mixpanel.violations().is_empty(),
            "{:?}",
            mixpanel.violations()
        );
    } else {
        let segment = segment().await;
        let said = run(
            env!("CARGO_BIN_EXE_swap_vendors"),
            &[
                ("SEGMENT_WRITE_KEY", "the write key"),
                ("SEGMENT_BASE_URL", &segment.base_url()),
            ],
        )
        .await;
        assert_eq!(said, "delivered to segment\n");
        assert_eq!(endpoints(&segment.received()), ["identify", "track"]);
        assert!(
            segment.violations().is_empty(),
            "{:?}",
            segment.violations()
        );
    }
}

#[cfg(all(feature = "segment", feature = "mixpanel"))]
#[tokio::test]
async fn fan_out() {
    let (segment, mixpanel) = (segment().await, mixpanel().await);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("fan_out");
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("analytics.toml");
    let text = format!(
        "[integrations.segment]\nwrite_key = \"the write key\"\nbase_url = \"{}\"\n\
         [integrations.mixpanel]\nproject_token = \"the project token\"\nbase_url = \"{}\"\n",
        segment.base_url(),
        mixpanel.base_url(),
    );
    std::fs::write(&config, text).unwrap();
    let said = run(
        env!("CARGO_BIN_EXE_fan_out"),
        &[("ANALYTICS_CONFIG", config.to_str().unwrap())],
    )
    .await;
    assert!(
        said.starts_with("the order goes to [\"mixpanel\", \"segment\"]\n"),
        "{said}"
    );
    assert_eq!(
        said.matches(": delivered to segment\n").count(),
        3,
        "{said}"
    );
    assert_eq!(
        said.matches(": delivered to mixpanel\n").count(),
        3,
        "{said}"
    );
    assert_eq!(
        endpoints(&segment.received()),
        ["identify", "group", "track"]
    );
    for violations in [segment.violations(), mixpanel.violations()] {
        assert!(violations.is_empty(), "{violations:?}");
    }
}

#[cfg(feature = "segment")]
#[tokio::test]
async fn durable() {
    let segment = segment().await;
    let (address, url) = (segment.address(), segment.base_url());
    segment.shutdown().await;
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("durable");
    let _ = std::fs::remove_dir_all(&folder);
    let program = env!("CARGO_BIN_EXE_durable");
    let env = |wait_seconds| {
        [
            ("ANALYTICS_DATA_DIR", folder.to_str().unwrap()),
            ("SEGMENT_WRITE_KEY", "the write key"),
            ("SEGMENT_BASE_URL", url.as_str()),
            ("WAIT_SECONDS", wait_seconds),
        ]
    };
    // The vendor is down.
    let said = run(program, &env("1")).await;
    assert_eq!(said, "accepted as number 1\n1 kept for the next run\n");
    let segment = ScriptedSegment::start_on(address, SegmentAccount::new("the write key"))
        .await
        .unwrap();
    let said = run(program, &env("60")).await;
    assert!(said.starts_with("1 from earlier runs\n"), "{said}");
    assert!(said.contains("accepted as number 2\n"), "{said}");
    let delivered = said.matches(": delivered to segment\n").count();
    assert_eq!(delivered, 2, "{said}");
    assert!(said.ends_with("0 kept for the next run\n"), "{said}");
    assert_eq!(endpoints(&segment.received()), ["track", "track"]);
    assert!(segment.violations().is_empty());
}

#[tokio::test]
async fn own_vendor() {
    let warehouse = Sink::start("{}").await.unwrap();
    let said = run(
        env!("CARGO_BIN_EXE_own_vendor"),
        &[
            ("WAREHOUSE_URL", &warehouse.base_url()),
            ("WAREHOUSE_TOKEN", "the token"),
        ],
    )
    .await;
    assert_eq!(said, "a row: success\n");
    assert_eq!(warehouse.requests(), 1);
}

use analytics_kit::VENDORS;

use crate::support::Dir;

#[test]
fn help_and_version_are_there() {
    let dir = Dir::new();
    let run = dir.run(&["--version"]);
    assert_eq!(
        run.ends_with(0).stdout,
        format!("analytics {}\n", env!("CARGO_PKG_VERSION"))
    );
    let run = dir.run(&["--help"]);
    run.ends_with(0);
    for command in [
        "demo",
        "sandbox",
        "validate",
        "send",
        "worker",
        "status",
        "drain",
        "dead-letters",
        "erase",
        "purge",
        "integrations",
    ] {
        assert!(run.stdout.contains(&format!("  {command} ")), "{run:#?}");
        dir.run(&[command, "--help"]).ends_with(0);
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    let dir = Dir::new();
    dir.run(&[]).ends_with(2);
    dir.run(&["sned"]).ends_with(2).says("send");
    dir.run(&["send"]).ends_with(2).says("<FILE>");
    dir.run(&["send", "x", "--timeout", "soon"])
        .ends_with(2)
        .says("expected a duration such as 30s");
    dir.run(&["send", "x", "--timeout", "0s"])
        .ends_with(2)
        .says("must be longer than zero");
    dir.run(&["drain", "--timeout", "0s"])
        .ends_with(2)
        .says("must be longer than zero");
    dir.run(&["send", "x", "--max-attempts", "-1"]).ends_with(2);
    dir.run(&["send", "x", "--json", "--dry-run"]).ends_with(2);
    let run = dir
        .command(&["integrations"])
        .env("RUST_LOG", "a=b=c")
        .output()
        .unwrap();
    crate::support::Run::from(run).ends_with(2).says("RUST_LOG");
}

#[test]
fn what_belongs_to_one_engine_does_not_go_with_the_other() {
    let dir = Dir::new();
    for (args, said) in [
        (
            &["--data-dir", "kept"][..],
            "--data-dir does not go with --engine temporal: Temporal keeps",
        ),
        (
            &["--in-memory"],
            "--in-memory does not go with --engine temporal: Temporal keeps",
        ),
        (
            &["--max-attempts", "3"],
            "--max-attempts does not go with --engine temporal: the worker's",
        ),
        (
            &["--timeout", "3s"],
            "--timeout does not go with --engine temporal: the worker's",
        ),
    ] {
        let args = [&["send", "x", "--engine", "temporal"], args].concat();
        dir.run(&args).ends_with(2).says(said);
    }
    for option in [
        "--address",
        "--namespace",
        "--task-queue",
        "--api-key-file",
        "--profile",
    ] {
        dir.run(&["send", "x", option, "y"])
            .ends_with(2)
            .says(&format!(
                "{option} says where Temporal is: it goes with --engine temporal"
            ));
    }
    dir.run(&["send", "x", "--tls"])
        .ends_with(2)
        .says("--tls says where Temporal is");
    dir.run(&["send", "x", "--engine", "steam"]).ends_with(2);
}

#[cfg(all(feature = "segment", not(feature = "temporal")))]
#[test]
fn without_temporal_it_is_said_how_to_get_it() {
    let dir = Dir::configured("[integrations.segment]\nwrite_key = 'x'");
    dir.write("events.jsonl", "");
    for args in [
        &["worker"][..],
        &[
            "worker",
            "--address",
            "localhost:7233",
            "--log-format",
            "json",
        ],
        &["send", "events.jsonl", "--engine", "temporal"],
    ] {
        let run = dir.run(args);
        run.ends_with(2)
            .says("error: this command is built without Temporal")
            .says("`cargo run --features temporal --`")
            .says("`cargo install analytics-cli --features temporal`");
        assert_eq!(run.stderr.lines().count(), 1, "{run:#?}");
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn without_a_configuration_it_is_said_how_to_make_one() {
    let dir = Dir::new();
    dir.write("events.jsonl", "");
    dir.run(&["send", "events.jsonl"])
        .ends_with(2)
        .says("error: there is no configuration at analytics.toml")
        .says("[integrations.segment]")
        .says("analytics sandbox > analytics.toml");
    dir.run(&["send", "events.jsonl", "--config", "else.toml"])
        .ends_with(2)
        .says("there is no configuration at else.toml");
    for empty in ["", "# nothing", "[integrations]"] {
        dir.write("analytics.toml", empty);
        dir.run(&["send", "events.jsonl"])
            .ends_with(2)
            .says("analytics.toml configures no integration");
    }
    dir.write("analytics.toml", "x = [");
    dir.run(&["send", "events.jsonl"])
        .ends_with(2)
        .says("analytics.toml: line 1: ");
    dir.write("analytics.toml", "[integration.x]");
    dir.run(&["send", "events.jsonl"])
        .ends_with(2)
        .says("did you mean `integrations`?");
}

#[cfg(feature = "segment")]
#[test]
fn a_wrong_configuration_names_its_key() {
    let dir = Dir::new();
    dir.write("events.jsonl", "");
    let run = |configuration: &str| {
        dir.write("analytics.toml", configuration);
        dir.run(&["send", "events.jsonl"])
    };
    run("[integrations.segment]\nwrite_kye = 'x'")
        .ends_with(2)
        .says("analytics.toml: integrations.segment: `write_kye` is not known here: did you mean `write_key`?");
    run("[integrations.segment]")
        .ends_with(2)
        .says("segment needs `write_key`")
        .says("SEGMENT_WRITE_KEY in the environment");
    run("[integrations.segment]\nwrite_key = { env = 'KEY_OF_THE_SHOP' }")
        .ends_with(2)
        .says("the environment variable KEY_OF_THE_SHOP is not set");
    run("[integrations.segmnet]")
        .ends_with(2)
        .says("there is no vendor `segmnet`: did you mean `segment`?");
}

#[cfg(feature = "segment")]
#[test]
fn credentials_come_from_the_environment() {
    let dir = Dir::new();
    dir.write("events.jsonl", r#"{"delete":{"user_id":"u1"}}"#);
    for (configuration, variable) in [
        ("[integrations.segment]", "SEGMENT_WRITE_KEY"),
        (
            "[integrations.segment]\nwrite_key = { env = 'OTHER' }",
            "OTHER",
        ),
    ] {
        dir.write("analytics.toml", configuration);
        let output = dir
            .command(&["send", "events.jsonl"])
            .env(variable, "hunter2")
            .output()
            .unwrap();
        let run = crate::support::Run::from(output);
        run.ends_with(0);
        assert!(run.stdout.starts_with("1 event read, all valid"), "{run:?}");
    }
}

#[test]
fn the_table_of_vendors_comes_from_the_code() {
    let dir = Dir::new();
    let run = dir.run(&["integrations"]);
    run.ends_with(0);
    let rows = |text: &str| text.lines().take_while(|line| !line.is_empty()).count();
    assert_eq!(rows(&run.stdout), 2 + VENDORS.len(), "{run:#?}");
    for vendor in VENDORS {
        let row = format!("\n {} ", vendor.name);
        assert!(run.stdout.contains(&row), "{run:#?}");
    }
    let run = dir.run(&["integrations", "--markdown"]);
    run.ends_with(0);
    assert!(run.stdout.starts_with("| vendor"), "{run:#?}");
    #[cfg(feature = "segment")]
    {
        let segment = run.stdout.lines().find(|line| line.contains("segment"));
        let cells: Vec<_> = segment.unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells[2..8], ["✓"; 6]);
        let note = cells[8].trim_start_matches('✓');
        assert!(
            run.stdout
                .contains(&format!("\n{note} if public_api_token is set")),
            "{run:#?}"
        );
    }
}

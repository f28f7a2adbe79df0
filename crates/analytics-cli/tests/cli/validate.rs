use crate::support::Dir;

const GOOD: &str = r#"{"track":{"user_id":"u1","event":"Order Completed"}}"#;

#[test]
fn what_is_right_is_passed_over_in_silence() {
    let dir = Dir::new();
    dir.write("events.jsonl", format!("{GOOD}\n{GOOD}\n"));
    let run = dir.run(&["validate", "events.jsonl"]);
    assert_eq!(run.ends_with(0).all(), "\n");
}

#[test]
fn everything_that_is_wrong_is_one_line_with_its_place() {
    let dir = Dir::new();
    let long = "u".repeat(256);
    let mut events = Vec::new();
    events.extend_from_slice(b"\xef\xbb\xbf");
    for line in [
        GOOD,
        r#"{"track":{"user_id":"u1","event":" "}}"#,
        r#"{"track":{"userId":"u1"}}"#,
        "",
        "not json",
        "   ",
        r#"{"identify":{"user_id":"u1"},"page":{"name":"x"}}"#,
        r#"{"tarck":{}}"#,
        &format!(r#"{{"delete":{{"user_id":"{long}"}}}}"#),
        r#"{"track":{"user_id":"u1","event":"x","properties":[]}}"#,
        r#"{"delete":{"user_id":"u1","user_id":"u2"}}"#,
    ] {
        events.extend_from_slice(line.as_bytes());
        events.extend_from_slice(b"\r\n");
    }
    events.extend_from_slice(b"{\"delete\":{\"user_id\":\"\xff\"}}\n");
    events.extend_from_slice(GOOD.as_bytes());
    dir.write("events.jsonl", events);
    let run = dir.run(&["validate", "events.jsonl"]);
    run.ends_with(1);
    let expected = "\
events.jsonl:2: track.event: required: must not be empty
events.jsonl:3: track.userId: unknown_field: `userId` is not known here: did you mean `user_id`?
events.jsonl:3: track.event: required: must not be empty
events.jsonl:3: track.user_id: required: whose event is it? Set user_id or anonymous_id
events.jsonl:5: $: malformed: expected ident at column 2
events.jsonl:7: $: conflict: there are several events (identify, page): an envelope holds one
events.jsonl:8: tarck: unknown_field: `tarck` is not known here: did you mean `track`?
events.jsonl:8: $: required: there is no event: set one of identify, track, group, alias, page, screen, delete
events.jsonl:9: delete.user_id: too_long: has 256 characters; an id has at most 255
events.jsonl:10: track.properties: type: expected an object, found an array
events.jsonl:11: delete.user_id: duplicate_key: stands twice: which one is meant?
events.jsonl:12: $: malformed: is not UTF-8 from byte 23 on
";
    assert_eq!(run.stdout, expected);
    assert_eq!(run.stderr, "");
}

#[test]
fn a_line_may_have_a_mebibyte_and_no_more() {
    const LIMIT: usize = 1024 * 1024;
    let dir = Dir::new();
    let of_length = |length: usize| {
        let around = r#"{"track":{"user_id":"u1","event":""}}"#.len();
        format!(
            r#"{{"track":{{"user_id":"u1","event":"{}"}}}}"#,
            "x".repeat(length - around)
        )
    };
    let events = [
        of_length(LIMIT),
        of_length(LIMIT + 1),
        of_length(3 * LIMIT),
        "{}".into(),
    ];
    dir.write("events.jsonl", events.join("\n"));
    let run = dir.run(&["validate", "events.jsonl"]);
    let lines: Vec<_> = run.ends_with(1).stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, number) in lines.iter().zip([2, 3]) {
        assert_eq!(
            *line,
            format!("events.jsonl:{number}: $: too_large: the line has more than 1048576 bytes")
        );
    }
    assert!(
        lines[2].starts_with("events.jsonl:4: $: required"),
        "{lines:?}"
    );
}

#[test]
fn standard_input_is_a_file_too() {
    let dir = Dir::new();
    let run = dir.run_with_stdin(&["validate", "-"], b"{}");
    run.ends_with(1);
    assert!(run.stdout.starts_with("stdin:1: $: required"), "{run:?}");
    dir.run_with_stdin(&["validate", "-"], b"").ends_with(0);
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    let dir = Dir::new();
    dir.run(&["validate", "nowhere.jsonl"])
        .ends_with(2)
        .says("error: nowhere.jsonl: there is no such file\n");
    dir.run(&["validate", "."])
        .ends_with(2)
        .says(".: is a directory");
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_reason_to_panic() {
    use std::io::Read as _;
    let dir = Dir::new();
    dir.write("events.jsonl", "{}\n".repeat(100_000));
    let mut child = dir.command(&["validate", "events.jsonl"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

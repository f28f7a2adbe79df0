use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};

use crate::support::{Dir, segment};

const KEY: &str = "key-of-the-shop";

async fn vendor() -> (ScriptedSegment, Dir) {
    let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let dir = Dir::configured(&segment(&vendor.base_url(), KEY));
    (vendor, dir)
}

/// Nine lines: a kind that is not supported, and one that is not valid.
const NINE: &str = r#"{"identify":{"user_id":"u1","traits":{"email":"a@example.com"}}}
{"track":{"user_id":"u1","event":"Order Completed","properties":{"revenue":42.5}}}

{"group":{"user_id":"u1","group_id":"g1"}}
{"alias":{"previous_user_id":"u1","user_id":"u2"}}
{"page":{"user_id":"u2","name":"Home"}}
{"track":{"user_id":"u2"}}
{"screen":{"user_id":"u2","name":"Cart"}}
{"delete":{"user_id":"u9"}}
{"track":{"user_id":"u2","event":"Order Shipped"}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_in_order() {
    let (vendor, dir) = vendor().await;
    dir.write("events.jsonl", NINE);
    let run = dir.run(&["send", "events.jsonl", "--in-memory"]);
    run.ends_with(1);
    assert_eq!(
        run.stderr,
        "events.jsonl:7: track.event: required: must not be empty\n"
    );
    let expected = "\
9 events read, 1 invalid

 integration   delivered   failed   unsupported
────────────────────────────────────────────────
 segment               7        0             1
";
    assert_eq!(run.stdout, expected);
    let kinds: Vec<_> = vendor.received().into_iter().map(|r| r.endpoint).collect();
    assert_eq!(
        kinds,
        [
            "identify", "track", "group", "alias", "page", "screen", "track"
        ]
    );
    assert_eq!(vendor.violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_get_one_line_of_json() {
    let (_vendor, dir) = vendor().await;
    dir.write("events.jsonl", NINE);
    let run = dir.run(&["send", "events.jsonl", "--json"]);
    assert_eq!(
        run.ends_with(1).stdout,
        concat!(
            r#"{"read":9,"invalid":1,"integrations":{"#,
            r#""segment":{"delivered":7,"failed":0,"unsupported":1}}}"#,
            "\n"
        )
    );
    let run = dir.run_with_stdin(&["send", "-", "--json", "--in-memory"], b"");
    assert_eq!(
        run.ends_with(0).stdout,
        concat!(
            r#"{"read":0,"invalid":0,"integrations":{"#,
            r#""segment":{"delivered":0,"failed":0,"unsupported":0}}}"#,
            "\n"
        )
    );
    assert_eq!(run.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_named_and_all_others_arrive() {
    let (vendor, dir) = vendor().await;
    let good = |n: u32| format!(r#"{{"track":{{"user_id":"u1","event":"E{n}"}}}}"#);
    let too_large = format!(
        r#"{{"track":{{"user_id":"u1","event":"x","properties":{{"p":"{}"}}}}}}"#,
        "x".repeat(33 * 1024)
    );
    let too_long = format!(
        r#"{{"page":{{"user_id":"u1","name":"{}"}}}}"#,
        "x".repeat(1024 * 1024)
    );
    let mut events = b"\xef\xbb\xbf".to_vec();
    let bad: [&[u8]; 6] = [
        b"{",
        b"\xff\xfe",
        br#"{"track":{"userId":"u1","event":"x"}}"#,
        br#"{"identify":{"user_id":"u1"},"delete":{"user_id":"u1"}}"#,
        too_large.as_bytes(),
        too_long.as_bytes(),
    ];
    for (n, bad) in (0..).zip(bad) {
        events.extend_from_slice(good(n).as_bytes());
        events.extend_from_slice(b"\r\n\r\n");
        events.extend_from_slice(bad);
        events.extend_from_slice(b"\n");
    }
    dir.write("events.jsonl", events);
    let run = dir.run(&["send", "events.jsonl"]);
    run.ends_with(1)
        .says("events.jsonl:3: $: malformed: ")
        .says("events.jsonl:6: $: malformed: is not UTF-8 from byte 1 on\n")
        .says("events.jsonl:9: track.userId: unknown_field: ")
        .says("events.jsonl:12: $: conflict: ")
        .says("events.jsonl:15: segment: track: too_large: ")
        .says("events.jsonl:18: $: too_large: ");
    let names: Vec<_> = vendor
        .received()
        .into_iter()
        .map(|r| r.body["event"].clone())
        .collect();
    assert_eq!(names, ["E0", "E1", "E2", "E3", "E4", "E5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_credential_is_final_at_once_in_the_vendors_words() {
    let vendor = ScriptedSegment::start(SegmentAccount::new("another key"))
        .await
        .unwrap();
    let dir = Dir::configured(&segment(&vendor.base_url(), KEY));
    dir.write("events.jsonl", NINE);
    let run = dir.run(&["send", "events.jsonl", "--json"]);
    run.ends_with(1)
        .says("events.jsonl:1: segment: Unauthorized: ")
        .says("invalid write key")
        .says("events.jsonl:10: segment: Unauthorized: ");
    assert_eq!(
        run.stdout,
        concat!(
            r#"{"read":9,"invalid":1,"integrations":{"#,
            r#""segment":{"delivered":0,"failed":7,"unsupported":1}}}"#,
            "\n"
        )
    );
    assert_eq!(vendor.requests().len(), 1, "one batch, one answer");
    assert!(!run.all().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_comes_back_gets_everything() {
    let (vendor, dir) = vendor().await;
    vendor.faults().push(Fault::status(503).times(2));
    vendor.faults().push(Fault::Reset);
    dir.write("events.jsonl", r#"{"page":{"user_id":"u1","name":"Home"}}"#);
    let run = dir.run(&["send", "events.jsonl"]);
    run.ends_with(0);
    assert_eq!(vendor.requests().len(), 4);
    assert_eq!(vendor.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_started_later_gets_everything() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let dir = Dir::configured(&segment(&format!("http://{address}"), KEY));
    dir.write("events.jsonl", r#"{"page":{"user_id":"u1","name":"Home"}}"#);
    let child = dir
        .command(&["send", "events.jsonl", "--max-attempts", "0"])
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let vendor = ScriptedSegment::start_on(address, SegmentAccount::new(KEY))
        .await
        .unwrap();
    let run = crate::support::Run::from(child.wait_with_output().unwrap());
    run.ends_with(0);
    assert_eq!(vendor.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end_as_the_policy_says_and_flags_win() {
    let (vendor, dir) = vendor().await;
    vendor.faults().push(Fault::status(503).always());
    dir.write("events.jsonl", r#"{"page":{"user_id":"u1","name":"Home"}}"#);
    let run = dir.run(&["send", "events.jsonl"]);
    run.ends_with(1)
        .says("events.jsonl:1: segment: Unavailable: ")
        .says("(after 4 attempts)\n");
    assert_eq!(vendor.requests().len(), 4);

    vendor.clear();
    let run = dir.run(&["send", "events.jsonl", "--max-attempts", "1"]);
    run.ends_with(1)
        .says("events.jsonl:1: segment: Unavailable: ");
    assert!(!run.stderr.contains("attempts)"), "{run:?}");
    assert_eq!(vendor.requests().len(), 1);

    vendor.faults().clear();
    vendor.faults().push(Fault::Hang.always());
    let started = Instant::now();
    let args = ["--max-attempts", "2", "--timeout", "100ms"];
    let run = dir.run(&[&["send", "events.jsonl"], &args[..]].concat());
    run.ends_with(1).says("events.jsonl:1: segment: Timeout: ");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Somebody waits for the command: a vendor that is gone must not keep it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_gone_is_given_up() {
    let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let gone = vendor.base_url();
    vendor.shutdown().await;
    let dir = Dir::configured(&segment(&gone, KEY));
    let lines =
        (0..2000).map(|n| format!("{{\"page\":{{\"user_id\":\"u{n}\",\"name\":\"P\"}}}}\n"));
    dir.write("events.jsonl", lines.collect::<String>());
    let args = ["--max-attempts", "0", "--give-up-after", "3s", "--json"];
    let run = dir.run(&[&["send", "events.jsonl"], &args[..]].concat());
    run.ends_with(1)
        .says("giving up: no vendor has answered")
        .says("segment: 2,000 not sent")
        .says("with -v, every line");
    assert!(run.stdout.contains(r#""not_sent":2000"#), "{run:?}");
    assert!(run.stdout.contains(r#""ended_early":true"#), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attempt_is_one_attempt_whatever_the_vendor_asks() {
    let vendor = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let dir = Dir::configured(&segment(&vendor.base_url(), KEY));
    vendor.faults().push(Fault::retry_after(1).always());
    dir.write("events.jsonl", r#"{"page":{"user_id":"u1","name":"Home"}}"#);
    let run = dir.run(&["send", "events.jsonl", "--max-attempts", "1"]);
    run.ends_with(1)
        .says("events.jsonl:1: segment: RateLimited: ");
    assert_eq!(vendor.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_integrations_that_are_named_get_events() {
    let shop = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let blog = ScriptedSegment::start(SegmentAccount::new(KEY))
        .await
        .unwrap();
    let table = |name: &str, vendor: &ScriptedSegment| {
        format!(
            "[integrations.{name}]\nvendor = 'segment'\nwrite_key = '{KEY}'\nbase_url = '{}'\n",
            vendor.base_url()
        )
    };
    let dir = Dir::configured(&(table("shop", &shop) + &table("blog", &blog)));
    dir.write("events.jsonl", r#"{"page":{"user_id":"u1","name":"Home"}}"#);
    dir.run(&["send", "events.jsonl", "--to", "shpo"])
        .ends_with(2)
        .says("no integration is called `shpo`: did you mean `shop`?");
    dir.run(&["send", "events.jsonl", "--to", "mixpanel"])
        .ends_with(2)
        .says("configured are blog, shop");
    let run = dir.run(&["send", "events.jsonl", "--to", "shop", "--json"]);
    assert_eq!(
        run.ends_with(0).stdout,
        concat!(
            r#"{"read":1,"invalid":0,"integrations":{"#,
            r#""shop":{"delivered":1,"failed":0,"unsupported":0}}}"#,
            "\n"
        )
    );
    assert_eq!((shop.received().len(), blog.received().len()), (1, 0));
    dir.run(&["send", "events.jsonl", "--to", "shop", "--to", "blog"])
        .ends_with(0);
    assert_eq!((shop.received().len(), blog.received().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vendor_that_is_down_takes_nothing_from_the_other() {
    let (vendor, _) = vendor().await;
    let down = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let dir = Dir::configured(&format!(
        "{}\n[integrations.down]\nvendor = 'segment'\nwrite_key = 'x'\nbase_url = 'http://{down}'",
        segment(&vendor.base_url(), KEY)
    ));
    dir.write("events.jsonl", r#"{"page":{"user_id":"u1","name":"Home"}}"#);
    let args = ["send", "events.jsonl", "--max-attempts", "2", "--json"];
    let run = dir.run(&args);
    run.ends_with(1)
        .says("events.jsonl:1: down: Unavailable: ")
        .says("(after 2 attempts)");
    assert_eq!(
        run.stdout,
        concat!(
            r#"{"read":1,"invalid":0,"integrations":{"#,
            r#""down":{"delivered":0,"failed":1,"unsupported":0},"#,
            r#""segment":{"delivered":1,"failed":0,"unsupported":0}}}"#,
            "\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_found_before_anything_is_sent() {
    let (vendor, dir) = vendor().await;
    dir.run(&["send", "nowhere.jsonl"])
        .ends_with(2)
        .says("nowhere.jsonl: there is no such file");
    dir.run(&["send", "."]).ends_with(2).says("is a directory");
    assert_eq!(vendor.requests().len(), 0);
}

/// The two lines differ in nothing but the person: only one is a member.
#[cfg(feature = "mailchimp")]
#[tokio::test(flavor = "multi_thread")]
async fn lines_with_one_message_id_are_told_apart() {
    use analytics_testkit::{
        MailchimpAccount, ScriptedMailchimp,
        vendors::{Member, MemberStatus},
    };
    let vendor = ScriptedMailchimp::start(MailchimpAccount::new("k-us1", "a1"))
        .await
        .unwrap();
    for n in [1, 3, 4] {
        let email = format!("u{n}@example.com");
        vendor.seed(Member::new(email, MemberStatus::Subscribed));
    }
    let dir = Dir::configured(&format!(
        "[integrations.mailchimp]\napi_key = 'k-us1'\naudience_id = 'a1'\nbase_url = '{}'",
        vendor.base_url()
    ));
    let line = |n: u32| {
        format!(
            r#"{{"context":{{"message_id":"same"}},"track":{{"user_id":"u{n}@example.com","event":"Opened"}}}}"#
        )
    };
    dir.write(
        "events.jsonl",
        (1..=5).map(line).collect::<Vec<_>>().join("\n"),
    );
    let run = dir.run(&["send", "events.jsonl"]);
    run.ends_with(1);
    let mut failed: Vec<_> = run
        .stderr
        .lines()
        .filter_map(|line| line.split(": mailchimp: ").next())
        .filter(|place| place.starts_with("events.jsonl:"))
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, ["events.jsonl:2", "events.jsonl:5"], "{run:#?}");
    assert_eq!(vendor.received().len(), 3);
}

//! What a client sees: every fault, every vendor, over real connections.

use std::io::Write;
use std::time::Duration;

use analytics_testkit::server::Answer;
use analytics_testkit::vendors::{Member, MemberStatus, subscriber_hash};
use analytics_testkit::{
    Fault, Keep, MailchimpAccount, MixpanelAccount, Request, ScriptedMailchimp, ScriptedMixpanel,
    ScriptedSegment, SegmentAccount, ServerOptions, Sink,
};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a slow machine, short enough to fail in.
const SOON: Duration = Duration::from_secs(10);

/// The text that goes over the wire.
fn wire(method: &str, target: &str, basic: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let basic = base64::engine::general_purpose::STANDARD.encode(basic);
    let mut text = format!(
        "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         authorization: Basic {basic}\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(body);
    text
}

/// Everything that comes back until the server closes, or how it ended.
async fn exchange(address: std::net::SocketAddr, text: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn status_of(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

fn track(id: &str) -> Value {
    json!({
        "messageId": id, "timestamp": "2024-05-06T07:08:09.123Z", "userId": "u1", "event": "Bought",
    })
}

fn segment_call(id: &str) -> Vec<u8> {
    wire(
        "POST",
        "/v1/track",
        "wk:",
        "",
        track(id).to_string().as_bytes(),
    )
}

async fn segment() -> std::io::Result<ScriptedSegment> {
    ScriptedSegment::start(SegmentAccount::new("wk")).await
}

#[tokio::test]
async fn a_request_is_recorded_as_it_came() {
    let segment = segment().await.unwrap();
    assert_eq!(segment.base_url(), format!("http://{}", segment.address()));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let body = json!({ "batch": [{"type": "track", "messageId": "m1", "userId": "u", "event": "e",
        "timestamp": "2024-05-06T07:08:09.123Z", "properties": {"pad": "x".repeat(5000)}}] });
    encoder.write_all(body.to_string().as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let text = wire(
        "POST",
        "/v1/batch?x=1",
        "wk:",
        "content-encoding: gzip\r\n",
        &packed,
    );
    let answer = exchange(segment.address(), &text).await.unwrap();
    assert_eq!(status_of(&answer), 200);
    assert!(answer.ends_with(r#"{"success":true}"#), "{answer}");
    let recorded = &segment.requests()[0];
    assert_eq!(
        (recorded.number, recorded.status, recorded.processed),
        (1, Some(200), true)
    );
    assert_eq!(recorded.request.query_value("x"), Some("1"));
    assert!(recorded.request.is_gzip());
    assert_eq!(recorded.request.encoded_length, packed.len());
    assert_eq!(recorded.request.body_json(), Some(body.clone()));
    assert_eq!(segment.received()[0].body, body["batch"][0]);
    assert_eq!(segment.received()[0].request, 1);
    assert_eq!(segment.violations(), []);
    let counts = segment.counts();
    assert_eq!((counts.requests, counts.received), (1, 1));
    assert_eq!(counts.encoded_bytes, u64::try_from(packed.len()).unwrap());
    assert!(counts.decoded_bytes > counts.encoded_bytes);
    segment.clear();
    assert_eq!(segment.requests().len(), 0);
    exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert_eq!(
        segment.duplicates(),
        ["m1"],
        "the vendor's memory is not the log"
    );
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let options = ServerOptions::default().body_limit(100);
    let segment = ScriptedSegment::start_with(options, SegmentAccount::new("wk"))
        .await
        .unwrap();
    for (headers, body, status, rule) in [
        ("", vec![b' '; 101], 413, "body_too_large"),
        ("content-encoding: gzip\r\n", b"plain".to_vec(), 400, "gzip"),
        (
            "content-encoding: br\r\n",
            b"plain".to_vec(),
            415,
            "encoding",
        ),
    ] {
        let text = wire("POST", "/v1/track", "wk:", headers, &body);
        let answer = exchange(segment.address(), &text).await.unwrap();
        assert_eq!(status_of(&answer), status, "{rule}");
        assert_eq!(segment.violations().last().unwrap().rule, rule);
    }
}

#[tokio::test]
async fn a_status_is_answered_and_nothing_is_taken() {
    let segment = segment().await.unwrap();
    segment.faults().push(Fault::status(503).times(2));
    segment.faults().push(Fault::retry_after(7));
    segment
        .faults()
        .push(Fault::Answer(Answer::json(418, &json!({"tea": true}))));
    for (status, part) in [
        (503, ""),
        (503, ""),
        (429, "retry-after: 7"),
        (418, r#"{"tea":true}"#),
    ] {
        let answer = exchange(segment.address(), &segment_call("m1"))
            .await
            .unwrap();
        assert_eq!(status_of(&answer), status);
        assert!(answer.contains(part), "{answer}");
    }
    assert_eq!(segment.received(), []);
    assert_eq!(segment.violations(), []);
    let answer = exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert_eq!(status_of(&answer), 200);
    assert_eq!(segment.counts().faults, 4);
    assert_eq!(segment.counts().statuses.get(&503), Some(&2));
    assert_eq!(segment.requests()[0].fault, Some(Fault::status(503)));
    assert!(!segment.requests()[0].processed);
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let segment = segment().await.unwrap();
    for (fault, received) in [(Fault::Reset, 0), (Fault::AcceptThenReset, 1)] {
        segment.faults().push(fault);
        let error = exchange(segment.address(), &segment_call("m1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(segment.received().len(), received);
    }
    let requests = segment.requests();
    assert_eq!((requests[0].status, requests[0].processed), (None, false));
    assert_eq!((requests[1].status, requests[1].processed), (None, true));
    // What the client does then is what makes a duplicate.
    let answer = exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert_eq!(status_of(&answer), 200);
    assert_eq!(segment.duplicates(), ["m1"]);
    assert_eq!(segment.received().len(), 1);
}

#[tokio::test]
async fn a_hang_lasts_until_somebody_gives_up() {
    let segment = segment().await.unwrap();
    let address = segment.address();
    for (requests, fault, received) in [(1, Fault::Hang, 0), (2, Fault::AcceptThenHang, 1)] {
        segment.faults().push(fault);
        let mut hanging = tokio::spawn(async move { exchange(address, &segment_call("m1")).await });
        assert!(
            segment
                .wait_until(SOON, |counts| counts.requests == requests)
                .await
        );
        assert_eq!(segment.received().len(), received);
        assert!(
            timeout(Duration::from_millis(100), &mut hanging)
                .await
                .is_err()
        );
        hanging.abort();
    }
    segment.faults().push(Fault::Hang);
    let hanging = tokio::spawn(async move { exchange(address, &segment_call("m2")).await });
    assert!(
        segment
            .wait_until(SOON, |counts| counts.requests == 3)
            .await
    );
    timeout(SOON, segment.shutdown())
        .await
        .expect("a hanging request stops no shutdown");
    // The connection ends without an answer, in whatever way.
    let end = timeout(SOON, hanging)
        .await
        .expect("the connection is closed")
        .unwrap();
    assert!(end.is_err() || end.is_ok_and(|answer| answer.is_empty()));
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn a_wait_that_is_in_vain_ends() {
    let segment = segment().await.unwrap();
    assert!(
        !segment
            .wait_until(Duration::from_millis(50), |counts| counts.requests > 0)
            .await
    );
    assert!(
        segment
            .wait_until(SOON, |counts| counts.requests == 0)
            .await
    );
}

#[tokio::test]
async fn an_answer_may_be_cut() {
    let segment = segment().await.unwrap();
    segment.faults().push(Fault::AcceptThenTruncate);
    let answer = exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert_eq!(status_of(&answer), 200);
    assert!(answer.contains("content-length: 16\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"succes"), "{answer}");
    assert_eq!(segment.received().len(), 1);
}

#[tokio::test]
async fn accepted_and_denied() {
    let segment = segment().await.unwrap();
    segment
        .faults()
        .push(Fault::accept_then_status(502).header("retry-after", "1"));
    let answer = exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert_eq!(status_of(&answer), 502);
    assert!(answer.contains("retry-after: 1"));
    assert_eq!(segment.received().len(), 1);
}

#[tokio::test]
async fn a_delay_delays() {
    let segment = segment().await.unwrap();
    segment
        .faults()
        .push(Fault::Delay(Duration::from_millis(150)));
    let start = std::time::Instant::now();
    let answer = exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert_eq!(status_of(&answer), 200);
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(segment.received().len(), 1);
}

#[tokio::test]
async fn faults_strike_where_they_are_aimed() {
    let segment = segment().await.unwrap();
    segment
        .faults()
        .push(Fault::status(500).on("/v1/batch").always());
    segment
        .faults()
        .push(Fault::status(501).when(|request: &Request| {
            request
                .body_json()
                .is_some_and(|it| it["messageId"] == "m2")
        }));
    for (id, status) in [("m1", 200), ("m2", 501), ("m3", 200)] {
        let answer = exchange(segment.address(), &segment_call(id))
            .await
            .unwrap();
        assert_eq!(status_of(&answer), status, "{id}");
    }
    let batch = wire("POST", "/v1/batch", "wk:", "", b"{}");
    assert_eq!(
        status_of(&exchange(segment.address(), &batch).await.unwrap()),
        500
    );
}

#[tokio::test]
async fn a_random_share_fails_and_nothing_is_lost_or_doubled() {
    let segment = segment().await.unwrap();
    segment.faults().random(0.5, 42);
    for number in 0..50 {
        let call = segment_call(&format!("m{number}"));
        loop {
            match exchange(segment.address(), &call).await {
                Ok(answer) if answer.ends_with("{\"success\":true}") => break,
                _ => {}
            }
        }
    }
    assert_eq!(segment.received().len(), 50);
    let counts = segment.counts();
    assert_eq!(counts.requests, 50 + counts.faults);
    assert!(counts.faults > 20, "{counts:?}");
    assert!(counts.duplicates > 0);
}

#[tokio::test]
async fn counts_alone_are_kept_when_asked() {
    let options = ServerOptions::default().keep(Keep::Counts);
    let segment = ScriptedSegment::start_with(options, SegmentAccount::new("wk"))
        .await
        .unwrap();
    exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    exchange(segment.address(), &segment_call("m1"))
        .await
        .unwrap();
    assert!(segment.requests().is_empty() && segment.received().is_empty());
    let counts = segment.counts();
    assert_eq!(
        (counts.requests, counts.received, counts.duplicates),
        (2, 1, 1)
    );
    assert_eq!(counts.endpoints.get("track"), Some(&1));
}

#[tokio::test]
async fn a_connection_carries_several_requests() {
    let segment = segment().await.unwrap();
    let mut stream = TcpStream::connect(segment.address()).await.unwrap();
    for id in ["m1", "m2"] {
        let call = String::from_utf8(segment_call(id)).unwrap();
        stream
            .write_all(call.replace("connection: close\r\n", "").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 512];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(segment.received().len(), 2);
}

#[tokio::test]
async fn a_given_address_is_used_and_given_back() {
    let first = segment().await.unwrap();
    let address = first.address();
    let taken = ScriptedSegment::start_on(address, SegmentAccount::new("wk")).await;
    assert!(taken.is_err(), "the address is in use");
    first.shutdown().await;
    let second = ScriptedSegment::start_on(address, SegmentAccount::new("wk"))
        .await
        .unwrap();
    assert_eq!(second.address(), address);
}

#[tokio::test]
async fn mixpanel_keeps_profiles_and_events() {
    let mixpanel = ScriptedMixpanel::start(MixpanelAccount::new("token"))
        .await
        .unwrap();
    let body = json!([
        {"event": "e", "properties": {"time": 1_715_000_000, "distinct_id": "u1", "$insert_id": "i1"}},
        {"event": "e", "properties": {"time": 1_715_000_000, "distinct_id": "null", "$insert_id": "i2"}},
    ]);
    let text = wire(
        "POST",
        "/import?strict=1",
        "token:",
        "",
        body.to_string().as_bytes(),
    );
    let answer = exchange(mixpanel.address(), &text).await.unwrap();
    assert_eq!(status_of(&answer), 400);
    assert!(answer.contains(r#""num_records_imported":1"#), "{answer}");
    let body = json!([{"$token": "token", "$distinct_id": "u1", "$set": {"a": 1}}]);
    let text = wire("POST", "/engage?ip=0", ":", "", body.to_string().as_bytes());
    let answer = exchange(mixpanel.address(), &text).await.unwrap();
    assert!(
        status_of(&answer) == 200 && answer.ends_with("\r\n\r\n1"),
        "{answer}"
    );
    assert_eq!(mixpanel.profile("u1"), json!({"a": 1}).as_object().cloned());
    assert_eq!(mixpanel.group("company", "g1"), None);
    assert_eq!(mixpanel.received().len(), 2);
}

#[tokio::test]
async fn mailchimp_counts_its_connections() {
    let account = MailchimpAccount::new("key", "aud").connections(3);
    let mailchimp = ScriptedMailchimp::start(account).await.unwrap();
    mailchimp.seed(Member::new("a@b.org", MemberStatus::Subscribed));
    let target = format!("/3.0/lists/aud/members/{}", subscriber_hash("a@b.org"));
    let address = mailchimp.address();
    let call = {
        let body = json!({ "name": "bought" }).to_string();
        wire(
            "POST",
            &format!("{target}/events"),
            "any:key",
            "",
            body.as_bytes(),
        )
    };
    mailchimp.faults().push(Fault::AcceptThenHang.times(3));
    let hanging: Vec<_> = (1..=3)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move { exchange(address, &call).await })
        })
        .collect();
    assert!(
        mailchimp
            .wait_until(SOON, |counts| counts.requests == 3)
            .await
    );
    assert_eq!(mailchimp.member("A@b.org").unwrap().events.len(), 3);
    // Three are in hand: whoever comes now is turned away.
    assert_eq!(status_of(&exchange(address, &call).await.unwrap()), 429);
    assert_eq!(mailchimp.counts().peak_in_flight, 4);
    // Once they are gone, the next one is the first.
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    let archive = wire("DELETE", &target, "any:key", "", b"");
    let served = async {
        while status_of(&exchange(address, &archive).await.unwrap()) == 429 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, served)
        .await
        .expect("a client that left frees its place");
    assert_eq!(
        mailchimp.member("a@b.org").unwrap().status,
        MemberStatus::Archived
    );
}

#[tokio::test]
async fn a_sink_counts_and_keeps_nothing() {
    let sink = Sink::start(r#"{"success":true}"#).await.unwrap();
    let address = sink
        .base_url()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    for _ in 0..3 {
        let answer = exchange(address, &wire("POST", "/any", ":", "", b"12345"))
            .await
            .unwrap();
        assert_eq!(status_of(&answer), 200);
        assert!(answer.ends_with(r#"{"success":true}"#));
    }
    assert_eq!((sink.requests(), sink.bytes()), (3, 15));
    sink.shutdown().await;
}

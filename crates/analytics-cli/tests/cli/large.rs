//! Files of any size, in bounded memory.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use analytics_testkit::{Fault, ScriptedSegment, SegmentAccount};

use crate::support::{Dir, Run, segment};

const EVENTS: usize = 50_000;
const PEOPLE: usize = 97;

/// Above what is read ahead, accepted and in flight, and far below what all
/// of the events take.
const PEAK_KIB: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_events_arrive_in_the_order_of_each_person() {
    let vendor = ScriptedSegment::start(SegmentAccount::new("key"))
        .await
        .unwrap();
    // Slower than reading at first: what is accepted piles up to its limit.
    vendor
        .faults()
        .push(Fault::Delay(Duration::from_millis(200)).times(30));
    let dir = Dir::configured(&segment(&vendor.base_url(), "key"));
    let padding = "x".repeat(500);
    let mut events = String::new();
    for n in 0..EVENTS {
        let user = n % PEOPLE;
        writeln!(
            events,
            r#"{{"track":{{"user_id":"u{user}","event":"E","properties":{{"n":{n},"p":"{padding}"}}}}}}"#
        )
        .unwrap();
    }
    dir.write("events.jsonl", &events);
    let child = dir
        .command(&["send", "events.jsonl", "--json"])
        .spawn()
        .unwrap();
    let peak = watch_peak(child.id());
    let run = Run::from(child.wait_with_output().unwrap());
    run.ends_with(0).says(" delivered (");
    assert_eq!(
        run.stdout,
        format!(
            r#"{{"read":{EVENTS},"invalid":0,"integrations":{{"segment":{{"delivered":{EVENTS},"failed":0,"unsupported":0}}}}}}{}"#,
            "\n"
        )
    );
    let peak = peak.load(Ordering::Relaxed);
    assert!(peak < PEAK_KIB, "{peak} KiB");

    let mut last = BTreeMap::new();
    let received = vendor.received();
    assert_eq!(received.len(), EVENTS);
    for item in received {
        let n = item.body["properties"]["n"].as_u64().unwrap();
        let before = last.insert(item.user.clone(), n);
        assert!(before < Some(n), "{:?}: {n} after {before:?}", item.user);
    }
    assert_eq!(last.len(), PEOPLE);
    assert!(vendor.violations().is_empty());
}

/// The most memory that a process has had, where the system says it.
fn watch_peak(pid: u32) -> std::sync::Arc<AtomicU64> {
    let peak = std::sync::Arc::new(AtomicU64::new(0));
    let watched = std::sync::Arc::clone(&peak);
    std::thread::spawn(move || {
        while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
            let kib = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|line| line.split_whitespace().next()?.parse().ok());
            watched.fetch_max(kib.unwrap_or_default(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    peak
}

//! The comparison runs, and every subject delivers everything.

use std::process::Command;

#[test]
fn every_subject_delivers_everything() {
    let json = std::env::temp_dir().join(format!("analytics-bench-{}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_analytics-bench"))
        .args(["compare", "--events", "500", "--runs", "1", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{warned}");
    let written = std::fs::read(&json).unwrap();
    std::fs::remove_file(&json).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&written).unwrap();
    assert_eq!(rows.len(), analytics_bench::subjects::SUBJECTS.len());
    for row in rows {
        assert!(said.contains(row["subject"].as_str().unwrap()), "{said}");
        assert_eq!(row["runs"][0]["sink"]["distinct"], 500, "{row}");
    }
}

#[test]
fn latency_is_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_analytics-bench"))
        .args(["latency", "--rate", "500", "--seconds", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{warned}");
    assert!(said.contains("p99 µs"), "{said}");
}

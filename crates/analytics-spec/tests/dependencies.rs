//! What events are needs neither a network nor a runtime.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn there_is_no_http_and_no_runtime() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", env!("CARGO_PKG_NAME")])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{lib}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<_> = tree.lines().collect();
    assert!(crates.contains(&"serde_json"), "this is no tree: {tree}");
    for unwanted in [
        "tokio",
        "async_std",
        "smol",
        "futures_executor",
        "http",
        "hyper",
        "reqwest",
        "rustls",
        "url",
        "mio",
        "socket2",
    ] {
        assert!(!crates.contains(&unwanted), "{unwanted} in\n{tree}");
    }
}

//! The Python receiver of the README, run. The one in Rust is a test of the
//! documentation.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// What the specification's own libraries are tested with.
const CASES: &str = r#"
secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
body = b'{"email":"test@example.com","username":"test_user"}'
right = {
    "webhook-id": "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    "webhook-timestamp": "1649367553",
    "webhook-signature": "v1,AAAA v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
}
for now in (1649367553, 1649367253, 1649367853):
    assert is_genuine(secret, right, body, now), now
for now in (1649367252, 1649367854, None):
    assert not is_genuine(secret, right, body, now), now
for name in right:
    for wrong in ("", "1649367554", "v1,AAAA", "\u00e9"):
        assert not is_genuine(secret, {**right, name: wrong}, body, 1649367553), (name, wrong)
    missing = {key: value for key, value in right.items() if key != name}
    assert not is_genuine(secret, missing, body, 1649367553), name
assert not is_genuine(secret, right, body + b" ", 1649367553)
assert not is_genuine("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", right, body, 1649367553)
print("every case")
"#;

#[test]
fn the_receiver_in_python_trusts_whom_it_should() {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```python\n").expect("a receiver");
    let (receiver, _) = rest.split_once("```").expect("an end");
    let mut python = Command::new("python3")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut stdin = python.stdin.take().expect("a pipe");
    stdin
        .write_all(format!("{receiver}{CASES}").as_bytes())
        .expect("a reader");
    drop(stdin);
    let output = python.wait_with_output().expect("an end");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"every case\n");
}

//! The conformance suite against a vendor that conforms, and against
//! integrations with one mistake each: the check made for it rejects it, and
//! says what a contributor needs to know.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests, also where they are helpers"
)]

mod acme;
mod broken;
mod careless;
mod memory;
mod wrapped;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
};

use analytics_spec::{
    Identify, Kind, KindSet, Page, Secret, Track, Value,
    config::{Instance, VendorConfig as _},
};
use analytics_testkit::{
    Answer, Request,
    conformance::{Check, Suite, World},
};
use serde_json::json;

use self::{
    acme::Config,
    broken::{Defect, Mistake, TABLE},
    careless::Careless,
    wrapped::Wrapped,
};
use Defect as D;

const KEY: &str = "acme-key-7f3Q";
const TOKEN: &str = "acme-admin-9d2W";

/// The mistakes of one part of the table that are not found, or not explained.
async fn not_found(part: usize) -> Vec<String> {
    let package = Package::new(&format!("defects-{part}"));
    suite(D::None, &package).update_snapshots(true).run().await;
    let mut missed = Vec::new();
    for mistake in TABLE.iter().skip(part).step_by(PARTS) {
        let report = suite(mistake.defect, &package).report().await;
        let Mistake {
            defect,
            checks,
            says,
            file,
        } = mistake;
        for check in checks.iter().filter(|check| !report.has(**check)) {
            missed.push(format!("{defect:?} is not found by {check}:\n{report}"));
        }
        let explained = report.failures.iter().any(|failure| {
            Some(&failure.check) == checks.first()
                && format!("{failure}").contains(says)
                && failure.open.iter().any(|open| open == file)
        });
        if !explained {
            missed.push(format!(
                "{defect:?} is not explained with {says:?}, {file}:\n{report}"
            ));
        }
    }
    missed
}

/// So that they run side by side.
const PARTS: usize = 4;

#[tokio::test]
async fn mistakes_are_found_1() {
    assert_eq!(not_found(0).await, [""; 0]);
}

#[tokio::test]
async fn mistakes_are_found_2() {
    assert_eq!(not_found(1).await, [""; 0]);
}

#[tokio::test]
async fn mistakes_are_found_3() {
    assert_eq!(not_found(2).await, [""; 0]);
}

#[tokio::test]
async fn mistakes_are_found_4() {
    assert_eq!(not_found(3).await, [""; 0]);
}

#[test]
fn every_check_finds_some_mistake() {
    let tested: BTreeSet<_> = TABLE.iter().flat_map(|mistake| mistake.checks).collect();
    let untested: Vec<_> = Check::ALL.iter().filter(|c| !tested.contains(c)).collect();
    assert!(untested.is_empty(), "no mistake for {untested:?}");
}

#[tokio::test]
async fn what_has_no_defect_conforms() {
    let package = Package::new("none");
    let written = suite(D::None, &package).update_snapshots(true);
    written.run().await;
    suite(D::None, &package).run().await;
    let package = Package::new("wrapped");
    let written = wrapped(D::None, &package).update_snapshots(true);
    written.run().await;
    wrapped(D::None, &package).run().await;
}

/// Several steps of one event share a request, and so do deletes, which have
/// nothing in them that only they have.
#[tokio::test]
async fn what_has_most_kinds_in_one_request_conforms() {
    let package = Package::new("in-one");
    let written = in_one(D::None, &package).update_snapshots(true);
    written.run().await;
    in_one(D::None, &package).run().await;
}

/// Each event has a place in the answer, also where none is refused.
#[tokio::test]
async fn what_answers_for_each_event_conforms() {
    let package = Package::new("each");
    let each = |request: &Request, index: usize, said: Value| {
        let body = request.body_json().unwrap_or_default();
        let events = body
            .get("events")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let failed: Vec<_> = (0..events)
            .filter(|event| *event == index)
            .map(|_| said.clone())
            .collect();
        let body = json!({"ok": true, "taken": events - failed.len(), "failed": failed});
        (request.path == "/events").then(|| Answer::json(207, &body))
    };
    suite(D::None, &package)
        .update_snapshots(true)
        .refuses_item(move |request, index| each(request, index, json!({"index": index})))
        .delays_item(move |request, index| {
            each(request, index, json!({"index": index, "retry": true}))
        })
        .run()
        .await;
}

/// A number that the suite looks for stands in the fixture too.
#[tokio::test]
async fn what_has_any_number_conforms() {
    let package = Package::new("number");
    let track = Track::new("Order Completed")
        .user_id("user-7401")
        .anonymous_id("anon-5b1e9c")
        .property("label", "Lighthouse print")
        .property("days", 7_001);
    suite(D::None, &package)
        .update_snapshots(true)
        .fixture(track)
        .run()
        .await;
}

#[tokio::test]
async fn what_other_configurations_send_is_reviewed_too() {
    let package = Package::new("also");
    suite(D::None, &package).update_snapshots(true).run().await;
    let path = package.snapshots().join("also.json");
    let written = fs::read_to_string(&path).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    let expected = json!({"in the EU": {
        "identify": {
            "0/url": "https://eu.acme.example/profiles",
            "1/url": "https://eu.acme.example/events",
        },
        "track": {"0/url": "https://eu.acme.example/events"},
        "group": {"0/url": "https://eu.acme.example/groups/g-group-3310"},
        "delete": {"0/url": "https://eu.acme.example/delete"},
    }});
    assert_eq!(written, expected);

    fs::remove_file(&path).unwrap();
    let report = suite(D::None, &package).report().await;
    let checks: Vec<_> = report.failures.iter().map(|f| f.check).collect();
    assert_eq!(checks, [Check::Snapshot], "{report}");

    fs::write(&path, "{}").unwrap();
    let without = || {
        let package = &package;
        let one = Suite::new(|| config(D::None)).also("without a token", || Config::new(KEY));
        common(one, package, D::None).secrets([KEY, TOKEN])
    };
    let report = without().report().await;
    assert!(report.has(Check::Snapshot), "{report}");
    without().update_snapshots(true).run().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_missing_snapshot_is_a_failure_and_a_stale_one_too() {
    let package = Package::new("missing");
    let report = suite(D::None, &package).report().await;
    assert!(report.has(Check::Snapshot), "{report}");
    let text = report.to_string();
    assert!(text.contains("UPDATE_CONFORMANCE=1"), "{text}");

    suite(D::None, &package).update_snapshots(true).run().await;
    fs::write(package.snapshots().join("alias.json"), "{}").unwrap();
    let report = suite(D::None, &package).report().await;
    let kinds: Vec<_> = report.failures.iter().map(|f| (f.check, f.kinds)).collect();
    assert_eq!(kinds, [(Check::Snapshot, KindSet::from([Kind::Alias]))]);
}

#[tokio::test]
#[should_panic(expected = "acme does not conform")]
async fn a_failure_fails_the_test() {
    suite(D::None, &Package::new("failing")).run().await;
}

/// A package's directory, with the files that integrations have; it is gone
/// after the test.
struct Package(PathBuf);

impl Package {
    fn new(name: &str) -> Self {
        let name = format!("analytics-conformance-{}-{name}", std::process::id());
        let package = Self(std::env::temp_dir().join(name));
        for file in ["config", "vendor", "outcome"] {
            package.write(&format!("src/{file}.rs"), "");
        }
        for kind in Kind::ALL {
            package.write(&format!("src/{kind}.rs"), "");
        }
        package.write("tests/conformance.rs", "");
        package
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn snapshots(&self) -> PathBuf {
        self.0.join("tests").join("conformance")
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn suite(defect: Defect, package: &Package) -> Suite {
    match defect {
        D::PromisesAlias | D::NeedsNoKey => common(
            Suite::new(|| Careless(config(D::None)))
                .also("without a token", || Careless(Config::new(KEY))),
            package,
            defect,
        )
        .secrets([KEY, TOKEN]),
        D::NoSecretsNamed => common(Suite::new(|| config(D::None)), package, defect),
        D::LeavesOpen => {
            let open = package.0.join("open");
            fs::create_dir_all(&open).unwrap();
            fs::write(open.join("README.md"), concat!("FILL ", "IN: the page")).unwrap();
            suite(D::None, package).package(open)
        }
        D::NeedlessVolatile => suite(D::None, package).volatile(["name"]),
        D::NeedlessUrl => suite(D::None, package).credentials_in_url(),
        D::NeedlessRetries => suite(D::None, package).retries(|_, status| status == 404),
        D::NeedlessPatience => suite(D::None, package).retries(|_, _| false),
        D::NeedlessRefusal => suite(D::None, package).refusal(|_| None),
        D::NeedlessDelays => suite(D::None, package).delays_item(|_, _| None),
        D::DelaysAndDoesNot => suite(D::None, package).delays_no_item(),
        D::TakesAllAndDoesNot => suite(D::None, package).takes_all_or_nothing(),
        D::AcceptsAndDoesNot => suite(D::None, package).accepts_whatever(),
        D::RefusesAndDoesNot => suite(D::None, package).refuses_by_status(),
        D::NeedlessGone => suite(D::None, package).already_gone(|_| None),
        D::NeedlessSilence => suite(D::None, package).says_nothing(|_| false),
        D::NeedlessCuts => suite(D::None, package).cuts_names(),
        D::NeedlessScreens => suite(D::None, package).screens_are_pages(),
        D::NeedlessTraits => suite(D::None, package).delete_has_traits(),
        D::NeedlessFixture => suite(D::None, package).fixture(Page::new("Pricing").user_id("u1")),
        D::InvalidForAll => suite(D::None, package).invalid(Identify::new()),
        D::InvalidForNobody => suite(D::None, package).invalid(Page::new("Pricing").user_id("u1")),
        D::NamesTwice => suite(D::None, package).also("in the EU", || config(D::None)),
        D::AliasSwapped | D::ScreenAsPage => in_one(defect, package),
        D::AliasUnsaid | D::MeansNothing | D::MeansNoField => in_one(defect, package),
        defect if defect.is_of_the_integration() => wrapped(defect, package),
        defect => {
            let shared = Arc::new(AtomicU32::new(0));
            let with = move |config: Config| Config {
                shared: Arc::clone(&shared),
                ..config
            };
            let (without_token, in_eu) = (with.clone(), with.clone());
            common(
                Suite::new(move || with(config(defect)))
                    .also("without a token", move || {
                        without_token(Config {
                            token: None,
                            ..config(defect)
                        })
                    })
                    .also("in the EU", move || {
                        in_eu(Config {
                            in_eu: true,
                            ..config(defect)
                        })
                    }),
                package,
                defect,
            )
            .secrets([KEY, TOKEN])
        }
    }
}

fn wrapped(defect: Defect, package: &Package) -> Suite {
    let build = move |instance: Instance, world: &World| {
        let client = config(D::None).build_as(instance)?;
        let client = client.with_transport(world.transport());
        Ok(Wrapped::new(client.with_clock(world.clock()), defect))
    };
    common(Suite::wired("acme", build), package, defect).secrets([KEY, TOKEN])
}

/// Acme with more kinds, most of them in the same requests.
fn in_one(defect: Defect, package: &Package) -> Suite {
    let build = move |instance: Instance, world: &World| {
        let config = Config {
            in_one: true,
            ..config(defect)
        };
        let client = config.build_as(instance)?;
        let client = client.with_transport(world.transport());
        Ok(client.with_clock(world.clock()))
    };
    let events = [Kind::Identify, Kind::Track, Kind::Page, Kind::Screen];
    let suite = common(Suite::wired("acme", build), package, defect)
        .secrets([KEY, TOKEN])
        .message_id_in(events)
        .timestamp_in(events);
    let said = |suite: Suite| suite.means(Kind::Alias, "primary/id", "user_id");
    match defect {
        D::AliasUnsaid => suite,
        D::MeansNothing => said(suite).means(Kind::Alias, "ternary/id", "user_id"),
        D::MeansNoField => said(suite).means(Kind::Alias, "secondary/id", "old_id"),
        _ => said(suite).means(Kind::Alias, "secondary.id", "previous_user_id"),
    }
}

/// What is known of Acme's answers, but for what a defect leaves out.
fn common(suite: Suite, package: &Package, defect: Defect) -> Suite {
    let mut suite = suite
        .package(&package.0)
        .snapshots(package.snapshots())
        .update_snapshots(false)
        .volatile(["sent_at"])
        .message_id_in([Kind::Identify, Kind::Track])
        .timestamp_in([Kind::Identify, Kind::Track])
        .already_gone(|_| Some(Answer::json(404, &json!({"error": "no such user"}))));
    if defect != D::NoInvalid {
        suite = suite.invalid(Identify::new().user_id("u1"));
    }
    if defect != D::NoRefusal {
        let refused = json!({"ok": false, "error": "no such field"});
        suite = suite.refusal(move |_| Some(Answer::json(200, &refused)));
    }
    suite = match defect {
        D::NoAnswers => suite,
        D::BlankAnswer => suite.answers(|_| Answer::json(200, &json!({}))),
        _ => suite.answers(|_| Answer::json(200, &json!({"ok": true}))),
    };
    match defect {
        D::NoItems => suite,
        D::LosesInnocentsIn2xx => suite.takes_all_or_nothing(),
        D::NoDelays => suite.refuses_item(|request, index| {
            in_part(request, &json!({"index": index, "error": "too old"}))
        }),
        _ => suite
            .refuses_item(|request, index| {
                in_part(request, &json!({"index": index, "error": "too old"}))
            })
            .delays_item(|request, index| {
                in_part(request, &json!({"index": index, "retry": true}))
            }),
    }
}

/// Acme takes all of a request but this one.
fn in_part(request: &Request, failed: &Value) -> Option<Answer> {
    let body = json!({"ok": true, "failed": [failed]});
    (request.path == "/events").then(|| Answer::json(207, &body))
}

fn config(defect: Defect) -> Config {
    Config {
        token: Some(Secret::new(TOKEN)),
        defect,
        ..Config::new(KEY)
    }
}

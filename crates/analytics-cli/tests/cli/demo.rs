use analytics_kit::{Kind, VENDORS, Vendor, spec::integration::Support};

use crate::support::{Dir, Run};

fn run(dir: &Dir) -> Run {
    let output = dir
        .command(&["demo"])
        // A real account's credentials are none of the demo's business.
        .env("SEGMENT_WRITE_KEY", "hunter2")
        .env("SEGMENT_REGION", "nowhere")
        .env("MIXPANEL_PROJECT_ID", "hunter2")
        .env("MAILCHIMP_DATACENTER_ID", "hunter2")
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    output.into()
}

fn compiled_in() -> Vec<&'static Vendor> {
    VENDORS.iter().filter(|v| v.is_compiled_in()).collect()
}

#[test]
fn the_demo_needs_nothing_and_says_the_same_every_time() {
    let dir = Dir::new();
    let first = run(&dir);
    if compiled_in().is_empty() {
        first.ends_with(2).says("no vendor is compiled in");
        return;
    }
    first.ends_with(0);
    assert_eq!(first.stderr, "");
    let widest = first.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest.unwrap() <= 100, "{first:#?}");
    for _ in 0..3 {
        assert_eq!(run(&dir).stdout, first.stdout);
    }
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "the directory is removed");
    let in_memory = dir.run(&["demo", "--in-memory"]);
    assert_eq!(in_memory.ends_with(0).stdout, first.stdout);
}

#[test]
fn the_demo_delivers_to_every_vendor_that_is_compiled_in() {
    let vendors = compiled_in();
    if vendors.is_empty() {
        return;
    }
    let run = run(&Dir::new());
    let sent = match vendors.len() {
        1 => "18 events, to 1 scripted vendor on".to_owned(),
        count => format!("18 events, to {count} scripted vendors on"),
    };
    let mut unsupported = 0;
    for vendor in &vendors {
        let is_of_it = |line: &&str| line.split_whitespace().take(2).any(|w| w == vendor.name);
        let rows = run.stdout.lines().filter(is_of_it);
        assert!(rows.count() >= Kind::ALL.len(), "{}: {run:#?}", vendor.name);
        unsupported += Kind::ALL
            .iter()
            .filter(|kind| matches!(vendor.support(**kind), Ok(Support::No)))
            .count();
    }
    for text in [
        sent.as_str(),
        "did you mean",
        "Everything else arrived, and the vendors found nothing wrong with it.",
    ] {
        assert!(run.stdout.contains(text), "{text:?} is not in {run:#?}");
    }
    assert_eq!(
        run.stdout.matches("not supported").count(),
        unsupported,
        "{run:#?}"
    );
}

#[cfg(all(feature = "mailchimp", feature = "mixpanel", feature = "segment"))]
#[test]
fn the_demo_shows_what_the_vendors_received() {
    let run = run(&Dir::new());
    for text in [
        "member ada@example.com",
        "archived grace@example.com",
        "Order_Completed ×2",
        "$create_alias",
        "Loaded a Screen",
        "regulation of c-1002",
        "alias grace@example.com",
    ] {
        assert!(run.stdout.contains(text), "{text:?} is not in {run:#?}");
    }
}

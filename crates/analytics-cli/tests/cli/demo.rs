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

#[cfg(any(feature = "mailchimp", feature = "mixpanel", feature = "segment"))]
#[test]
fn the_demo_needs_nothing_and_says_the_same_every_time() {
    let dir = Dir::new();
    let first = run(&dir);
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

#[cfg(all(feature = "mailchimp", feature = "mixpanel", feature = "segment"))]
#[test]
fn the_demo_shows_what_the_vendors_received() {
    let run = run(&Dir::new());
    for text in [
        "Sent examples/events.jsonl, 18 events, to 3 scripted vendors",
        "member ada@example.com",
        "archived grace@example.com",
        "Order_Completed ×2",
        "$create_alias",
        "Loaded a Screen",
        "regulation of c-1002",
        "alias grace@example.com",
        "did you mean",
        "Everything else arrived, and the vendors found nothing wrong with it.",
    ] {
        assert!(run.stdout.contains(text), "{text:?} is not in {run:#?}");
    }
    assert_eq!(run.stdout.matches("not supported").count(), 3, "{run:#?}");
}

#[cfg(not(any(feature = "mailchimp", feature = "mixpanel", feature = "segment")))]
#[test]
fn without_vendors_there_is_nothing_to_show() {
    run(&Dir::new())
        .ends_with(2)
        .says("no vendor is compiled in");
}

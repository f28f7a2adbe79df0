use analytics_testkit::{
    MailchimpAccount, MixpanelAccount, ScriptedMailchimp, ScriptedMixpanel, ScriptedSegment,
    SegmentAccount,
};

use crate::support::{Dir, Run};

const SECRETS: [&str; 6] = [
    "hunter-write",
    "hunter-public",
    "hunter-project",
    "hunter-oauth",
    "hunter-api",
    "hunter-account",
];

/// How secrets go over the wire, in base64, begins with one of these.
const ENCODED: [&str; 3] = ["aHVudGVy", "odW50ZXIt", "h1bnRlci"];

const EVENTS: &str = include_str!("../../events.jsonl");

/// What a payload of the events has, and no trace should.
const PAYLOAD: [&str; 3] = ["Lovelace", "Analytical", "spring"];

#[tokio::test(flavor = "multi_thread")]
async fn no_output_shows_a_secret() {
    // With the right credentials, and with wrong ones.
    for suffix in ["", "-changed"] {
        let right = |secret: &str| format!("{secret}{suffix}");
        let account =
            SegmentAccount::new(right("hunter-write")).public_api_token(right("hunter-public"));
        let segment = ScriptedSegment::start(account).await.unwrap();
        let account = MixpanelAccount::new(right("hunter-project"))
            .service_account("77", "robot", right("hunter-account"))
            .gdpr_oauth_token(right("hunter-oauth"));
        let mixpanel = ScriptedMixpanel::start(account).await.unwrap();
        let account = MailchimpAccount::new(right("hunter-api"), "a1");
        let mailchimp = ScriptedMailchimp::start(account).await.unwrap();
        let dir = Dir::configured(&format!(
            r#"
            [integrations.segment]
            write_key = "hunter-write"
            public_api_token = "hunter-public"
            base_url = "{segment}"
            public_api_base_url = "{segment}"
            [integrations.mixpanel]
            project_token = "hunter-project"
            project_id = "77"
            service_account_username = "robot"
            service_account_secret = "hunter-account"
            deletion = "gdpr"
            gdpr_oauth_token = "hunter-oauth"
            compliance_type = "GDPR"
            base_url = "{mixpanel}"
            [integrations.mailchimp]
            api_key = "hunter-api"
            audience_id = "a1"
            group_as_tag = true
            base_url = "{mailchimp}"
            "#,
            segment = segment.base_url(),
            mixpanel = mixpanel.base_url(),
            mailchimp = mailchimp.base_url(),
        ));
        dir.write("events.jsonl", EVENTS);
        let kept = ["--data-dir", "kept"];
        let durable = [&kept[..], &["--receipts", "-v", "--give-up-after", "1s"]].concat();
        for extra in [&["--json"][..], &["-vv"], &["--dry-run"], &durable] {
            let args = [&["send", "events.jsonl"], extra].concat();
            let run: Run = dir
                .command(&args)
                .env("RUST_LOG", "trace")
                .output()
                .unwrap()
                .into();
            run.ends_with(1);
            let all = run.all();
            let sends = !extra.contains(&"--dry-run");
            assert_eq!(all.contains("TRACE"), sends, "the level is heard");
            for secret in SECRETS.iter().chain(&ENCODED) {
                assert!(!all.contains(secret), "{secret}: {all}");
            }
            for payload in PAYLOAD {
                assert!(!run.stderr.contains(payload), "{payload}: {all}");
            }
        }
        for args in [
            &["status"][..],
            &["drain", "--timeout", "1s"],
            &["dead-letters", "list"],
            &["dead-letters", "show", "1", "2", "3"],
            &["dead-letters", "list", "--json"],
        ] {
            let mut command = dir.command(&[args, &kept].concat());
            let run = Run::from(command.env("RUST_LOG", "trace").output().unwrap());
            assert_ne!(run.code, Some(2), "{run:#?}");
            for secret in SECRETS.iter().chain(&ENCODED) {
                assert!(!run.all().contains(secret), "{secret}: {run:#?}");
            }
            for payload in PAYLOAD {
                assert!(!run.stderr.contains(payload), "{payload}: {run:#?}");
            }
        }
        for entry in std::fs::read_dir(dir.path().join("kept")).unwrap() {
            let content = std::fs::read(entry.unwrap().path()).unwrap();
            let content = String::from_utf8_lossy(&content);
            for secret in SECRETS.iter().chain(&ENCODED) {
                assert!(!content.contains(secret), "{secret} is kept");
            }
        }
        assert!(!segment.requests().is_empty());
        assert!(!mixpanel.requests().is_empty());
        assert!(!mailchimp.requests().is_empty());
    }
}

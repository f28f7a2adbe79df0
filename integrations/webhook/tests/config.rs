//! What a configuration may say, and what is said of one that is wrong.

use analytics_spec::{Integration as _, Value, config::read};
use analytics_webhook::{
    Batch, Config, Error, Input, Instance, Meaning, Method, Track, VendorConfig as _, Webhook,
};
use serde_json::json;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const URL: &str = "https://receiver.example/hooks/T0a1b2c3d4?zone=north";

fn config(table: &Value, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let table = table.as_object().cloned().unwrap_or_default();
    let find = |name: &str| {
        let mut all = variables.iter();
        all.find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    read(table, &find)
}

fn build(table: &Value) -> Result<Webhook, Error> {
    config(table, &[])?.build_as(Instance::new("webhook"))
}

#[test]
fn a_table_says_what_methods_say() {
    let table = json!({
        "url": URL,
        "method": "PUT",
        "secret": [{"env": "NEW"}, OLD_SECRET],
        "headers": {"Authorization": {"env": "KEY"}},
        "gzip": true,
        "batch": {"max_items": 7, "results": true},
        "statuses": {"409": "success", "5xx": "reject"},
        "max_in_flight": 2,
    });
    let variables = [("NEW", SECRET), ("KEY", "Bearer hunter2")];
    let read = config(&table, &variables).unwrap();
    let made = Config::new(URL.parse().unwrap())
        .method(Method::Put)
        .secret(SECRET)
        .secret(OLD_SECRET)
        .header("Authorization", "Bearer hunter2")
        .gzip()
        .batch(Batch::new().max_items(7).results())
        .status(409, Meaning::Success)
        .status(analytics_webhook::StatusPattern::Class(5), Meaning::Reject)
        .max_in_flight(2);
    assert_eq!((&read.secret, &read.headers), (&made.secret, &made.headers));
    assert_eq!((&read.batch, &read.statuses), (&made.batch, &made.statuses));
    let shown = read.build().unwrap().configuration();
    assert_eq!(
        Value::from(shown.clone()),
        json!({
            "url": "https://receiver.example/hooks/T0a1b2c3d4",
            "method": "PUT",
            "is_signed": true,
            "headers": ["authorization"],
            "gzip": true,
            "max_items": 7,
            "max_bytes": 1_000_000,
            "results": true,
            "statuses": {"409": "success", "5xx": "reject"},
            "max_in_flight": 2,
        })
    );
    assert_eq!(made.build().unwrap().configuration(), shown);
}

#[test]
fn variables_fill_what_is_absent() {
    let both = format!("{SECRET} {OLD_SECRET}");
    let config = config(
        &json!({}),
        &[
            ("WEBHOOK_URL", URL),
            ("WEBHOOK_SECRET", &both),
            ("WEBHOOK_GZIP", "true"),
            ("WEBHOOK_BATCH", "{\"max_items\": 3}"),
            ("WEBHOOK_STATUSES", "{\"404\": \"retry\"}"),
            ("WEBHOOK_MAX_IN_FLIGHT", "9"),
            ("WEBHOOK_URL_IS_SECRET", "true"),
        ],
    )
    .unwrap();
    assert_eq!(config.secret.len(), 2);
    assert_eq!(config.batch, Some(Batch::new().max_items(3)));
    assert!(config.gzip && config.url_is_secret);
    let webhook = config.build().unwrap();
    assert_eq!(webhook.batching().max_in_flight, 9);
    assert_eq!(webhook.configuration()["url"], "https://receiver.example");
}

#[test]
fn what_is_wrong_is_said_without_what_is_secret() {
    for (table, said) in [
        (json!({}), "WEBHOOK_URL"),
        (json!({"url": "receiver.example/hunter2"}), "https://"),
        (
            json!({"url": "http://receiver.example/hunter2"}),
            "`allow_http`",
        ),
        (json!({"url": 4711}), "found a number"),
        (json!({"url": URL, "secret": "hunter2"}), "whsec_"),
        (json!({"url": URL, "secret": ["whsec_hunter2"]}), "`secret`"),
        (json!({"url": URL, "secret": 4711}), "a secret"),
        (
            json!({"url": URL, "headers": {"webhook-id": "hunter2"}}),
            "webhook-id",
        ),
        (
            json!({"url": URL, "headers": {"x-a": 4711}}),
            "`x-a`: expected a string",
        ),
        (json!({"url": URL, "headers": "x-a: hunter2"}), "`headers`"),
        (json!({"url": URL, "secret": [4711]}), "`secret`"),
        (json!({"url": URL, "method": "GET"}), "method"),
        (
            json!({"url": URL, "batch": {"max_items": 0}}),
            "batch.max_items",
        ),
        (
            json!({"url": URL, "batch": {"max_bytes": 0}}),
            "batch.max_bytes",
        ),
        (json!({"url": URL, "batch": {"size": 1}}), "size"),
        (json!({"url": URL, "max_in_flight": 0}), "max_in_flight"),
        (json!({"url": URL, "statuses": {"99": "retry"}}), "99"),
        (
            json!({"url": URL, "statuses": {"200": "hunter2"}}),
            "`statuses.200`",
        ),
        (
            json!({"url": URL, "url_is_secret": "hunter2"}),
            "true or false",
        ),
        (json!({"url": URL, "max_in_flight": "hunter2"}), "a number"),
        (json!({"url": URL, "method": "hunter2"}), "`POST`"),
        (
            json!({"url": URL, "batch": {"max_items": "hunter2"}}),
            "`batch.max_items`",
        ),
        (json!({"url": URL, "secrets": SECRET}), "`secret`"),
    ] {
        let error = build(&table).unwrap_err().to_string();
        assert!(error.contains(said), "{table}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(!error.contains("4711"), "{error}");
    }
    for url in [
        "http://localhost:8080/in",
        "http://[::1]/",
        "http://127.0.0.1/",
    ] {
        assert!(build(&json!({"url": url})).is_ok(), "{url}");
    }
    let open = json!({"url": "http://receiver.example/", "allow_http": true});
    assert!(build(&open).is_ok());
}

#[test]
fn debug_shows_no_credential() {
    let config = Config::new(URL.parse().unwrap())
        .secret(SECRET)
        .header("x-api-key", "hunter2");
    let shown = format!("{config:?} {:?}", config.clone().build().unwrap());
    for secret in ["T0a1b2c3d4", "C2FVsBQ", "hunter2"] {
        assert!(!format!("{config:?}").contains(secret), "{shown}");
    }
    for secret in ["C2FVsBQ", "hunter2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_preview_shows_no_token_of_the_query() {
    let url = "https://receiver.example/in?token=T0a1b2c3d4&v=2";
    let webhook = Config::new(url.parse().unwrap()).build().unwrap();
    let input = Input::new(Track::new("Bought").user_id("u1")).into_any();
    let previews = webhook.preview(&input).unwrap();
    assert_eq!(
        previews[0].url,
        "https://receiver.example/in?token=[redacted]&v=2"
    );
    assert_eq!(
        webhook.configuration()["url"],
        "https://receiver.example/in"
    );
}

//! What the tests of the mapping share.

use analytics_http::{HttpVendor as _, Sending};
use analytics_spec::{Event, Input, Value};

use crate::{Config, MailchimpVendor};

pub(crate) const ADA: &str = "ada@example.com";

/// The member of [`ADA`] in the audience `aud1` of the data center `us21`.
pub(crate) const ADA_URL: &str =
    "https://us21.api.mailchimp.com/3.0/lists/aud1/members/3e3417d7ef77d5932a6734b916515ed5";

/// A request as it would be sent.
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Value,
}

/// The vendor for the audience `aud1`, its configuration changed.
pub(crate) fn vendor(change: impl FnOnce(Config) -> Config) -> MailchimpVendor {
    MailchimpVendor::new(change(Config::new("hunter2-us21", "aud1"))).unwrap()
}

/// The one request of an event.
pub(crate) fn sent<E: Event>(vendor: &MailchimpVendor, input: impl Into<Input<E>>) -> Sent {
    let input = input.into().into_any();
    assert_eq!(vendor.validate(&input), Ok(()));
    let [step] = <[_; 1]>::try_from(vendor.steps(&input).unwrap()).unwrap();
    let sending = Sending {
        at: "2030-01-01T00:00:00Z".parse().unwrap(),
        retry: 1,
    };
    let request = vendor.request(&step.route, &[&step.body], sending).unwrap();
    let authorization = &request.headers()["authorization"];
    assert!(authorization.is_sensitive());
    // `anystring:hunter2-us21`
    assert_eq!(authorization, "Basic YW55c3RyaW5nOmh1bnRlcjItdXMyMQ==");
    Sent {
        method: request.method().to_string(),
        url: request.uri().to_string(),
        content_type: request
            .headers()
            .get("content-type")
            .map(|value| value.to_str().unwrap().to_owned()),
        body: match request.body() {
            body if body.is_empty() => Value::Null,
            body => serde_json::from_slice(body).unwrap(),
        },
    }
}

/// Where an event breaks the vendor's rules.
pub(crate) fn paths<E: Event>(vendor: &MailchimpVendor, input: impl Into<Input<E>>) -> Vec<String> {
    let input = input.into().into_any();
    assert!(vendor.steps(&input).is_err());
    let error = vendor.validate(&input).unwrap_err();
    error
        .into_violations()
        .into_iter()
        .map(|violation| violation.path)
        .collect()
}

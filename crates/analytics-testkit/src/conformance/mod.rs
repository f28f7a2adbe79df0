//! One test that finds a new integration's mistakes.
//!
//! A suite puts instances of an integration into a world without a network and
//! without waiting: a transport that answers by script, a clock that only
//! records pauses. There it makes every check of [`Check`], and then reports
//! all that failed, each with what was expected, what was seen, what to do, and
//! the file to open.
//!
//! ```no_run
//! # use analytics_spec::{AnyInput, Error, Kind, KindSet, Map, Policies, Secret, ValidationError, Value, HttpResponse, config::{Instance, VendorConfig}, integration::{Batching, Support}};
//! # use analytics_http::{Client, HttpVendor, Limits, Reading, Sending, Step};
//! # #[derive(Debug, serde::Deserialize)] struct Config { key: Secret }
//! # impl Config { fn new(key: &str) -> Self { Self { key: Secret::new(key) } } }
//! # #[derive(Debug)] struct Acme;
//! # impl HttpVendor for Acme {
//! #     type Route = (); const VENDOR: &'static str = "acme";
//! #     fn supports(&self) -> KindSet { KindSet::ALL }
//! #     fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> { Ok(()) }
//! #     fn steps(&self, _: &AnyInput) -> Result<Vec<Step<()>>, Error> { Ok(vec![]) }
//! #     fn limits(&self, _: &()) -> Limits { Limits::SINGLE }
//! #     fn request(&self, _: &(), _: &[&bytes::Bytes], _: Sending) -> Result<http::Request<bytes::Bytes>, Error> { Ok(http::Request::new(bytes::Bytes::new())) }
//! #     fn read(&self, _: &(), _: &HttpResponse, _: usize) -> Reading { Reading::All(Ok(())) }
//! #     fn secrets(&self) -> Vec<&Secret> { vec![] }
//! #     fn batching(&self) -> Batching { Batching::single(1) }
//! #     fn configuration(&self) -> Map<String, Value> { Map::new() }
//! # }
//! # impl VendorConfig for Config {
//! #     const VENDOR: &'static str = "acme"; type Integration = Client<Acme>;
//! #     fn support(_: Kind) -> Support { Support::Yes }
//! #     fn build_as(self, instance: Instance) -> Result<Client<Acme>, Error> { Client::new(Acme, instance) }
//! # }
//! use analytics_testkit::{Answer, conformance::Suite};
//! use serde_json::json;
//!
//! const KEY: &str = "key-of-the-test";
//!
//! // #[tokio::test]
//! async fn conforms() {
//!     Suite::new(|| Config::new(KEY))
//!         .secrets([KEY])
//!         .answers(|_| Answer::json(200, &json!({"taken": true})))
//!         .refusal(|_| Some(Answer::json(200, &json!({"error": "no such field"}))))
//!         .takes_all_or_nothing()
//!         .accepts_whatever()
//!         .run()
//!         .await;
//! }
//! ```
//!
//! # Snapshots
//!
//! What a mapping *means* only people can say. For each kind, a file below
//! `tests/conformance/` has the requests that its [`fixture()`] causes, and for
//! each field of the fixture the places in the requests that change with it:
//! a field that the vendor does not get says so, and two fields that changed
//! places show at once. Run the test with `UPDATE_CONFORMANCE=1` to write the
//! files, and review them; a missing file is a failure.

mod checks;
mod configuration;
mod fixtures;
mod full;
mod places;
mod report;
mod secrets;
mod snapshot;
mod suite;
mod trace;
mod trial;
mod unwritten;
mod wire;

use analytics_spec::{AnyInput, Value};

pub use self::{
    fixtures::{ANONYMOUS_ID, EMAIL, USER_ID, input as fixture},
    report::{Check, Failure, Report},
    suite::Suite,
    wire::World,
};

/// A value at a JSON pointer replaced, as an input again.
fn with(input: &AnyInput, pointer: &str, value: Value) -> Option<AnyInput> {
    let mut json = serde_json::to_value(input).ok()?;
    *json.pointer_mut(pointer)? = value;
    AnyInput::from_value(json).ok()
}

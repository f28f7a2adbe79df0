//! A vendor of one's own, in one file: a mapping and a reading. Sending,
//! time-outs, retries, batches and redaction come with [`Client`].
//!
//! ```text
//! WAREHOUSE_URL=http://127.0.0.1:8080 \
//!     cargo run -p analytics-examples --bin own_vendor
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use analytics_http::{
    BaseUrl, Client, HttpVendor, Limits, Reading, Sending, Step, classify,
    request::{array, bearer, json},
};
use analytics_spec::{
    AnyInput, Calls, Error, HttpResponse, Kind, KindSet, Map, Secret, Track, ValidationError,
    Value, config::Instance, integration::Batching,
};
use serde_json::json;

/// A warehouse that takes rows, up to a hundred at once.
#[derive(Debug)]
struct Warehouse {
    url: BaseUrl,
    token: Secret,
}

impl HttpVendor for Warehouse {
    /// All rows go to one place.
    type Route = ();

    const VENDOR: &'static str = "warehouse";

    fn supports(&self) -> KindSet {
        KindSet::from([Kind::Identify, Kind::Track])
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    /// The mapping: an event is one row.
    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<()>>, Error> {
        let row = json!({
            "id": input.message_id(),
            "at": input.context.timestamp,
            "user": input.event.user_id(),
            "event": input.event,
        });
        Ok(vec![Step::json((), &row)?])
    }

    fn limits(&self, (): &()) -> Limits {
        Limits {
            max_items: 100,
            max_bytes: 1_000_000,
            envelope_bytes: 2,
            gzip: true,
            one_per_person: false,
        }
    }

    fn request(
        &self,
        (): &(),
        rows: &[&bytes::Bytes],
        _: Sending,
    ) -> Result<http::Request<bytes::Bytes>, Error> {
        let token = bearer(self.token.expose())?;
        json(
            http::Method::POST,
            &self.url.join("/rows"),
            Some(&token),
            array(rows),
        )
    }

    /// The reading: this vendor says everything with its status.
    fn read(&self, (): &(), response: &HttpResponse, _: usize) -> Reading {
        Reading::All(classify(response))
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.token]
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: 100,
            max_bytes: 1_000_000,
            max_in_flight: 2,
        }
    }

    fn configuration(&self) -> Map<String, Value> {
        Map::from_iter([("url".to_owned(), json!(self.url.as_str()))])
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let warehouse = Warehouse {
        url: std::env::var("WAREHOUSE_URL").unwrap_or_default().parse()?,
        token: Secret::new(std::env::var("WAREHOUSE_TOKEN").unwrap_or_default()),
    };
    let client = Client::new(warehouse, Instance::new("warehouse"))?;
    let output = client
        .track(
            Track::new("Order Completed")
                .user_id("u1")
                .property("revenue", 42.5),
        )
        .await?;
    println!("a row: {}", output.status);
    Ok(())
}

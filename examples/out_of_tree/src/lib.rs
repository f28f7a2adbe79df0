//! A warehouse that takes rows, up to a hundred at once.

use analytics_http::{
    BaseUrl, Client, HttpVendor, Limits, Reading, Refusal, Sending, Step, classify,
    request::{array, bearer, json},
};
use analytics_spec::{
    AnyEvent, AnyInput, Error, HttpResponse, Kind, KindSet, Map, Secret, ValidationError, Value,
    config::{Instance, VendorConfig, missing},
    integration::{Batching, Support},
};
use bytes::Bytes;
use http::{Method, Request};
use serde::Deserialize;

/// A warehouse: an integration for any engine, and by itself a client.
pub type Warehouse = Client<WarehouseVendor>;

/// What a warehouse needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where its API begins.
    pub url: BaseUrl,
    /// Who may write.
    #[serde(default)]
    pub token: Secret,
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "warehouse";

    type Integration = Warehouse;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Identify | Kind::Track => Support::Yes,
            _ => Support::No,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Warehouse, Error> {
        if self.token.is_blank() {
            return Err(missing(Self::VENDOR, "token"));
        }
        Client::new(WarehouseVendor(self), instance)
    }
}

/// The warehouse's mapping and reading.
#[derive(Debug)]
pub struct WarehouseVendor(Config);

impl HttpVendor for WarehouseVendor {
    /// All rows go to one place.
    type Route = ();

    const VENDOR: &'static str = Config::VENDOR;

    fn supports(&self) -> KindSet {
        KindSet::from([Kind::Identify, Kind::Track])
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<()>>, Error> {
        let (what, entries) = match &input.event {
            AnyEvent::Identify(event) => ("identify", &event.traits),
            AnyEvent::Track(event) => (event.event.as_str(), &event.properties),
            _ => return Err(Error::unsupported(input.kind(), Self::VENDOR)),
        };
        let row = serde_json::json!({
            "id": input.message_id(),
            "at": input.context.timestamp,
            "user": input.event.user_id(),
            "visitor": input.event.anonymous_id(),
            "what": what,
            "entries": entries,
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

    fn request(&self, (): &(), rows: &[&Bytes], _: Sending) -> Result<Request<Bytes>, Error> {
        let token = bearer(self.0.token.expose())?;
        let url = self.0.url.join("/rows");
        json(Method::POST, &url, Some(&token), array(rows))
    }

    /// A 2xx says how many rows were stored; what does not is of something else on
    /// the way. One bad row, and the warehouse stores none: with `classify`, they are
    /// sent again in halves.
    fn read(&self, (): &(), response: &HttpResponse, rows: usize) -> Reading {
        let stored = response.field("stored").and_then(Value::as_u64);
        Reading::All(classify(response).and_then(|()| match stored {
            Some(stored) if usize::try_from(stored) == Ok(rows) => Ok(()),
            _ => Err(Refusal::foreign("the warehouse", response)),
        }))
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.0.token]
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: 100,
            max_bytes: 1_000_000,
            max_in_flight: 2,
        }
    }

    fn configuration(&self) -> Map<String, Value> {
        Map::from_iter([("url".to_owned(), self.0.url.as_str().into())])
    }
}

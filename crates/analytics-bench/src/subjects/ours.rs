//! Our engine, with Segment's integration.

use std::{sync::Arc, time::Duration};

use analytics_engine::{Engine, MemoryStore, Store};
use analytics_http::{BaseUrl, Client, HttpVendor, Limits, Reading, Sending, Step};
use analytics_segment::{Config, Instance, Route, SegmentVendor};
use analytics_spec::{
    AnyInput, Error, HttpResponse, Integration, KindSet, Map, Policies, Secret, ValidationError,
    Value, config::VendorConfig as _, integration::Batching,
};
use bytes::Bytes;

use crate::{
    Outcome,
    measure::{Cost, Stopwatch},
    order::Order,
};

/// How the engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where accepted events are kept.
    pub keeping: Keeping,
    /// Whether bodies are compressed, as they are for everybody who does not
    /// write a vendor of their own.
    pub gzip: bool,
    /// To how many vendors each event goes. All of them are Segment sources:
    /// how the cost grows with their number then shows by itself.
    pub vendors: u8,
}

/// Where accepted events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In memory, as if nothing else is said.
    Memory,
}

impl Setting {
    /// The engine as it is if nothing is said.
    pub const MEMORY: Self = Self {
        keeping: Keeping::Memory,
        gzip: true,
        vendors: 1,
    };

    /// The same without compression, as the other clients have it.
    pub const PLAIN: Self = Self {
        gzip: false,
        ..Self::MEMORY
    };

    /// The same with another number of vendors.
    #[must_use]
    pub const fn to(self, vendors: u8) -> Self {
        Self { vendors, ..self }
    }
}

/// The store. Another one is one more `Keeping` with its arm here, and its
/// lines in [`SUBJECTS`](super::SUBJECTS).
fn store(keeping: Keeping) -> Arc<dyn Store> {
    match keeping {
        Keeping::Memory => Arc::new(MemoryStore::default()),
    }
}

/// An engine that delivers to a sink.
///
/// # Errors
///
/// It cannot begin.
pub async fn engine(setting: Setting, sink: &str) -> Outcome<Engine> {
    let mut builder = Engine::builder().store(store(setting.keeping));
    for number in 1..=setting.vendors {
        let config = Config::new("key").base_url(BaseUrl::new(sink)?);
        let instance = Instance::new(format!("segment-{number}"));
        let integration: Arc<dyn Integration> = if setting.gzip {
            Arc::new(config.build_as(instance)?)
        } else {
            Arc::new(Client::new(Plain(SegmentVendor::new(config)?), instance)?)
        };
        builder = builder.integration(integration);
    }
    Ok(builder.build().await?)
}

pub(super) fn run(setting: Setting, sink: &str, events: u64) -> Outcome<Cost> {
    super::runtime()?.block_on(async {
        let engine = engine(setting, sink).await?;
        let stopwatch = Stopwatch::start()?;
        for number in 0..events {
            engine.enqueue(Order::new(number).into_input()).await?;
        }
        engine.flush(Duration::from_secs(600)).await?;
        let cost = stopwatch.stop()?;
        let left = engine.close(Duration::from_secs(10)).await;
        if left.is_empty() {
            Ok(cost)
        } else {
            Err(format!("{} events were not delivered", left.lost.len()).into())
        }
    })
}

/// Segment without compression.
#[derive(Debug)]
struct Plain(SegmentVendor);

impl HttpVendor for Plain {
    type Route = Route;

    const VENDOR: &'static str = SegmentVendor::VENDOR;

    fn supports(&self) -> KindSet {
        self.0.supports()
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        self.0.validate(input)
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<Route>>, Error> {
        self.0.steps(input)
    }

    fn limits(&self, route: &Route) -> Limits {
        Limits {
            gzip: false,
            ..self.0.limits(route)
        }
    }

    fn request(
        &self,
        route: &Route,
        bodies: &[Bytes],
        sending: Sending,
    ) -> Result<http::Request<Bytes>, Error> {
        self.0.request(route, bodies, sending)
    }

    fn read(&self, route: &Route, response: &HttpResponse, items: usize) -> Reading {
        self.0.read(route, response, items)
    }

    fn secrets(&self) -> Vec<&Secret> {
        self.0.secrets()
    }

    fn batching(&self) -> Batching {
        self.0.batching()
    }

    fn policies(&self) -> Policies {
        self.0.policies()
    }

    fn configuration(&self) -> Map<String, Value> {
        self.0.configuration()
    }
}

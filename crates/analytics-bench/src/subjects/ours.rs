//! Our engine, with Segment's integration.

use std::{path::Path, sync::Arc, time::Duration};

use analytics_engine::{Engine, MemoryStore, Store, store::SqliteStore};
use analytics_http::{BaseUrl, Client, HttpVendor, Limits, Reading, Sending, Step};
use analytics_segment::{Config, Instance, Route, SegmentVendor};
use analytics_spec::{
    AnyInput, Error, HttpResponse, Integration, KindSet, Map, Policies, Secret, ValidationError,
    Value, config::VendorConfig as _, integration::Batching,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;

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
    /// Whether events are accepted many at a time, with `enqueue_all`.
    pub together: bool,
}

/// Where accepted events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In memory, as if nothing else is said.
    Memory,
    /// On the disk, in a new directory.
    Disk,
}

impl Setting {
    /// The engine as it is if nothing is said.
    pub const MEMORY: Self = Self {
        keeping: Keeping::Memory,
        gzip: true,
        vendors: 1,
        together: false,
    };

    /// The same without compression, as the other clients have it.
    pub const PLAIN: Self = Self {
        gzip: false,
        ..Self::MEMORY
    };

    /// On the disk, without compression.
    pub const DURABLE: Self = Self {
        keeping: Keeping::Disk,
        ..Self::PLAIN
    };

    /// The same, for events that come many at a time.
    pub const DURABLE_TOGETHER: Self = Self {
        together: true,
        ..Self::DURABLE
    };

    /// The same with another number of vendors.
    #[must_use]
    pub const fn to(self, vendors: u8) -> Self {
        Self { vendors, ..self }
    }
}

/// Where events are kept, and the directory, which goes when this does.
async fn store(keeping: Keeping) -> Outcome<(Arc<dyn Store>, Option<TempDir>)> {
    Ok(match keeping {
        Keeping::Memory => (Arc::new(MemoryStore::default()), None),
        Keeping::Disk => {
            // Not where temporary files may be kept in memory.
            let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
            let store = SqliteStore::options(dir.path()).open().await?;
            (Arc::new(store), Some(dir))
        }
    })
}

/// An engine, and the directory of its events.
#[derive(Debug)]
pub struct Ours {
    /// The engine.
    pub engine: Engine,
    /// Where they are; it goes when this does.
    pub dir: Option<TempDir>,
}

/// An engine that delivers to a sink.
///
/// # Errors
///
/// It cannot begin.
pub async fn engine(setting: Setting, sink: &str) -> Outcome<Ours> {
    let (store, dir) = store(setting.keeping).await?;
    let engine = engine_on(store, setting, sink).await?;
    Ok(Ours { engine, dir })
}

/// An engine that goes on with what a directory holds.
///
/// # Errors
///
/// It cannot begin.
pub async fn engine_in(dir: &Path, setting: Setting, sink: &str) -> Outcome<Engine> {
    let store = SqliteStore::options(dir).open().await?;
    engine_on(Arc::new(store), setting, sink).await
}

async fn engine_on(store: Arc<dyn Store>, setting: Setting, sink: &str) -> Outcome<Engine> {
    let mut builder = Engine::builder().store(store);
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

/// Accepts events, as many at a time as makes sense.
///
/// # Errors
///
/// One is refused.
pub async fn accept(engine: &Engine, setting: Setting, events: u64) -> Outcome<()> {
    if setting.together {
        let accepts = stream::iter((0..events).step_by(TOGETHER))
            .map(|first| {
                let last = events.min(first + TOGETHER as u64);
                engine.enqueue_all((first..last).map(|number| Order::new(number).into_input()))
            })
            .buffered(CALLS_UNDER_WAY);
        accepts.try_for_each(|_| async { Ok(()) }).await?;
        return Ok(());
    }
    match setting.keeping {
        Keeping::Memory => {
            for number in 0..events {
                engine.enqueue(Order::new(number).into_input()).await?;
            }
        }
        Keeping::Disk => {
            let accepts = stream::iter(0..events)
                .map(|number| engine.enqueue(Order::new(number).into_input()))
                .buffered(UNDER_WAY);
            accepts.try_for_each(|_| async { Ok(()) }).await?;
        }
    }
    Ok(())
}

/// How many events one task has under way: what is accepted durably waits for
/// the disk, and shares the wait.
const UNDER_WAY: usize = 1024;

/// How many events `enqueue_all` is given, and how many such calls are under
/// way.
const TOGETHER: usize = 64;
const CALLS_UNDER_WAY: usize = 64;

pub(super) fn run(setting: Setting, sink: &str, events: u64) -> Outcome<Cost> {
    super::runtime()?.block_on(async {
        let Ours { engine, dir } = engine(setting, sink).await?;
        let stopwatch = Stopwatch::start()?;
        accept(&engine, setting, events).await?;
        engine.flush(Duration::from_secs(600)).await?;
        let cost = stopwatch.stop()?;
        let left = engine.close(Duration::from_secs(10)).await;
        drop(dir);
        if left.is_empty() {
            Ok(cost)
        } else {
            Err(format!(
                "{} events were not delivered",
                left.lost.len() as u64 + left.kept
            )
            .into())
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
        bodies: &[&Bytes],
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

//! A way in which instances of an integration are made.

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::Duration,
};

use analytics_http::{Client, HttpVendor};
use analytics_spec::{
    Error, Integration, KindSet,
    config::{Instance, VendorConfig},
};

use super::{
    full,
    trial::{self, NAME},
    wire::{FakeClock, Wire, World},
};
use crate::server::Answer;

type Build = Box<dyn Fn(Instance, &World) -> Result<Arc<dyn Integration>, Error>>;

/// A way in which instances are made.
pub(crate) struct Configuration {
    /// What the test calls it; the first has no name.
    pub(crate) name: Option<String>,
    pub(crate) build: Build,
    pub(crate) debug: Option<Box<dyn Fn() -> String>>,
    pub(crate) full: Option<full::Fill>,
    /// A web page may be the vendor's answer.
    pub(crate) answers_with_pages: bool,
    supports: OnceLock<KindSet>,
}

impl Configuration {
    pub(crate) fn of_client<C, V>(name: Option<String>, config: impl Fn() -> C + 'static) -> Self
    where
        C: VendorConfig<Integration = Client<V>> + Debug + 'static,
        V: HttpVendor,
    {
        let config = Arc::new(config);
        let shown = config.clone();
        let filled = config.clone();
        Self {
            answers_with_pages: V::MAY_ANSWER_WITH_PAGES,
            full: Some(Box::new(move |input| {
                let client = filled().build_as(Instance::new(NAME)).ok()?;
                Some(full::requests(client.mapping(), input))
            })),
            debug: Some(Box::new(move || format!("{0:?} {0:#?}", shown()))),
            ..Self::of(name, move |instance, world: &World| {
                let client = config().build_as(instance)?;
                Ok(client
                    .with_transport(world.transport())
                    .with_clock(world.clock()))
            })
        }
    }

    pub(crate) fn of<I: Integration>(
        name: Option<String>,
        build: impl Fn(Instance, &World) -> Result<I, Error> + 'static,
    ) -> Self {
        Self {
            name,
            build: Box::new(move |instance, world| {
                Ok(Arc::new(build(instance, world)?) as Arc<dyn Integration>)
            }),
            debug: None,
            full: None,
            answers_with_pages: false,
            supports: OnceLock::new(),
        }
    }

    /// What reports call it.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("configuration {name:?}"),
            None => "first configuration".to_owned(),
        }
    }

    /// The kinds that its instances declare; none if it makes no instance.
    pub(crate) fn supports(&self) -> KindSet {
        *self.supports.get_or_init(|| {
            let world = World {
                wire: Arc::new(Wire::new(
                    Arc::new(|_| Answer::empty(400)),
                    trial::accepting(),
                )),
                clock: Arc::new(FakeClock::after(Duration::ZERO)),
            };
            (self.build)(Instance::new(NAME), &world)
                .map_or(KindSet::EMPTY, |subject| subject.supports())
        })
    }
}

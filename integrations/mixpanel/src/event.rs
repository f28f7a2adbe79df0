//! An event of `/import`: what is in it whichever call it comes from.
//!
//! <https://docs.mixpanel.com/reference/import-events>

use std::{borrow::Cow, collections::HashSet};

use analytics_http::Step;
use analytics_spec::{AnyInput, Error, Map, Value};
use serde::{Serialize, Serializer};

use crate::{
    config::IdMerge,
    context::{self, LIBRARY, LIBRARY_KEY},
    ids::{distinct_id, insert_id},
    vendor::Route,
};

/// Names that Mixpanel reads as instructions: they are set here, or not sent.
const RESERVED: [&str; 12] = [
    "time",
    "id",
    "distinct_id",
    "$insert_id",
    "$user_id",
    "$device_id",
    "$anon_id",
    "$group_id",
    "token",
    "ip",
    "bucket",
    "$ignore",
];

/// An event's properties. No name stands in it twice.
#[derive(Debug, Default)]
pub(crate) struct Properties<'a>(Vec<(&'a str, Cow<'a, Value>)>);

impl<'a> Properties<'a> {
    /// What makes an event this one, and where it comes from.
    ///
    /// Without `ip`, Mixpanel would locate the sender of the request:
    /// <https://docs.mixpanel.com/reference/import-events#geoip-enrichment>
    pub(crate) fn stamped(input: &'a AnyInput) -> Self {
        let context = &input.context;
        let ip = context
            .ip
            .map_or_else(|| Value::from(0), |ip| Value::from(ip.to_string()));
        let mut this = Self::default();
        if let Some(timestamp) = context.timestamp {
            this.set("time", timestamp.as_millisecond());
        }
        if let Some(id) = &context.message_id {
            this.set("$insert_id", insert_id(id));
        }
        this.set("ip", ip);
        this
    }

    /// The same, with whose event it is.
    pub(crate) fn identified(input: &'a AnyInput, id_merge: IdMerge) -> Self {
        let mut this = Self::stamped(input);
        let event = &input.event;
        this.set("distinct_id", distinct_id(event, id_merge));
        if let Some(user) = event.user_id() {
            this.set("$user_id", user);
        }
        if let Some(anonymous) = event.anonymous_id() {
            this.set("$device_id", anonymous);
        }
        this
    }

    /// The same, with the event's own properties and the context. A property
    /// of a name that is set here already is not sent: it would replace what
    /// the event itself says.
    pub(crate) fn full(
        input: &'a AnyInput,
        id_merge: IdMerge,
        name: Option<&'a str>,
        given: &'a Map<String, Value>,
    ) -> Self {
        let mut this = Self::identified(input, id_merge);
        if let Some(name) = name {
            this.set("name", name);
        }
        for (key, value) in context::entries(&input.context) {
            this.set(key, value);
        }
        let own: HashSet<&str> = this.0.iter().map(|(key, _)| *key).chain(RESERVED).collect();
        let free = given.iter().filter(|(key, _)| !own.contains(key.as_str()));
        this.0
            .extend(free.map(|(key, value)| (key.as_str(), Cow::Borrowed(value))));
        if this.0.iter().all(|(key, _)| *key != LIBRARY_KEY) {
            this.set(LIBRARY_KEY, LIBRARY);
        }
        this
    }

    /// Adds what is not there yet.
    pub(crate) fn set(&mut self, key: &'a str, value: impl Into<Value>) {
        self.0.push((key, Cow::Owned(value.into())));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The step that sends an event with these properties.
    pub(crate) fn step(self, event: &str) -> Result<Step<Route>, Error> {
        #[derive(Serialize)]
        struct Record<'a> {
            event: &'a str,
            properties: Properties<'a>,
        }
        let record = Record {
            event,
            properties: self,
        };
        Step::json(Route::Import, &record)
    }
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value.as_ref())))
    }
}

//! An event of `/batch/`: what is in it whichever call it comes from.
//!
//! <https://posthog.com/docs/api/capture>

use std::collections::HashSet;

use analytics_http::{Step, request::Iso8601};
use analytics_spec::{AnyInput, Error, Map, Value};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    config::PersonProfiles,
    context,
    ids::{distinct_id, uuid},
    vendor::Route,
};

/// Older instances read whose event it is from among the properties first, and
/// the project's key as well.
const RESERVED: [&str; 2] = ["distinct_id", "token"];

/// What PostHog writes into a profile, or needs one for: it leaves these out
/// of an event without.
///
/// <https://posthog.com/docs/data/anonymous-vs-identified-events>
const OF_PROFILES: [&str; 4] = ["$set", "$set_once", "$unset", "$groups"];

/// Whether PostHog is to have a profile of the person.
const PROCESS_PROFILE: &str = "$process_person_profile";

/// An event of `/batch/`.
///
/// There is no `sent_at` beside it: PostHog would shift the timestamp by what
/// it takes for the sender's clock being wrong, in each attempt otherwise, and
/// would not recognise an event that it has already.
/// <https://posthog.com/docs/data/timestamps>
#[derive(Serialize)]
pub(crate) struct Capture<'a> {
    event: &'a str,
    distinct_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Iso8601>,
    properties: Properties<'a>,
}

impl<'a> Capture<'a> {
    /// An event of the user, else of the anonymous person, with the context.
    pub(crate) fn new(input: &'a AnyInput, event: &'a str) -> Self {
        Self {
            event,
            distinct_id: distinct_id(&input.event),
            uuid: input.context.message_id.as_deref().map(uuid),
            timestamp: input.context.timestamp.map(Iso8601),
            properties: Properties {
                set: context::entries(&input.context),
                own: None,
            },
        }
    }

    /// The same event of another person.
    pub(crate) fn of(mut self, distinct_id: &'a str) -> Self {
        self.distinct_id = distinct_id;
        self
    }

    /// Sets a property.
    pub(crate) fn set(mut self, name: &'static str, said: Said<'a>) -> Self {
        self.properties.set.push((name, said));
        self
    }

    /// Sets the person's properties, if there are any.
    ///
    /// <https://posthog.com/docs/product-analytics/person-properties>
    pub(crate) fn traits(self, traits: &'a Map<String, Value>) -> Self {
        if traits.is_empty() {
            self
        } else {
            self.set("$set", Said::Map(traits))
        }
    }

    /// Adds the event's own properties. One of a name that is set already is
    /// not sent: it would replace what the event itself says.
    pub(crate) fn own(mut self, own: &'a Map<String, Value>) -> Self {
        self.properties.own = Some(own);
        self
    }

    /// Without a profile, if the person is anonymous, nothing in the event is
    /// for a profile, and the event does not say it itself.
    ///
    /// <https://posthog.com/docs/api/capture#anonymous-event-capture>
    pub(crate) fn profiled(self, input: &AnyInput, profiles: PersonProfiles) -> Self {
        let is_anonymous = input.event.user_id().is_none();
        let has = |name: &&str| self.properties.has(name);
        let needs_one = OF_PROFILES.iter().chain(&[PROCESS_PROFILE]).any(has);
        match profiles {
            PersonProfiles::IdentifiedOnly if is_anonymous && !needs_one => {
                self.set(PROCESS_PROFILE, Said::Flag(false))
            }
            PersonProfiles::IdentifiedOnly | PersonProfiles::Always => self,
        }
    }

    /// The step that sends it.
    pub(crate) fn step(&self) -> Result<Step<Route>, Error> {
        Step::json(Route::Capture, self)
    }
}

/// What stamping adds to an input that is not stamped yet.
pub(crate) fn unstamped_bytes(input: &AnyInput) -> usize {
    const UUID: usize = r#""uuid":"01890a5d-ac96-774b-bcce-b302099a8057","#.len();
    const TIMESTAMP: usize = r#""timestamp":"2026-03-01T12:00:00.000Z","#.len();
    let missing = |is_missing, bytes| if is_missing { bytes } else { 0 };
    missing(input.context.message_id.is_none(), UUID)
        + missing(input.context.timestamp.is_none(), TIMESTAMP)
}

/// What is said under a property that is set here.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Said<'a> {
    Text(&'a str),
    Ip(std::net::IpAddr),
    Number(f64),
    Whole(u32),
    Flag(bool),
    Map(&'a Map<String, Value>),
    Pair(Pair<'a>),
}

/// A map of one entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a>(pub(crate) &'a str, pub(crate) &'a str);

impl Serialize for Pair<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, self.1)])
    }
}

macro_rules! said {
    ($($Variant:ident: $Type:ty,)*) => {$(
        impl<'a> From<$Type> for Said<'a> {
            fn from(value: $Type) -> Self {
                Self::$Variant(value)
            }
        }
    )*};
}

said! {
    Text: &'a str,
    Ip: std::net::IpAddr,
    Number: f64,
    Whole: u32,
    Flag: bool,
}

/// An event's properties. No name stands in them twice.
#[derive(Debug)]
struct Properties<'a> {
    set: Vec<(&'static str, Said<'a>)>,
    own: Option<&'a Map<String, Value>>,
}

impl Properties<'_> {
    fn has(&self, name: &str) -> bool {
        self.set.iter().any(|(set, _)| *set == name)
            || self.own.is_some_and(|own| own.contains_key(name))
    }
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = self.set.iter().map(|(name, _)| *name);
        let taken: HashSet<&str> = names.chain(RESERVED).collect();
        let mut map = serializer.serialize_map(None)?;
        for (name, said) in &self.set {
            map.serialize_entry(name, said)?;
        }
        for (name, value) in self.own.into_iter().flatten() {
            if !taken.contains(name.as_str()) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

//! Who delivers: ours, and the others, each as its own documentation has it
//! for many events.

pub mod limit;
pub mod ours;
mod posthog;
mod rudder;
mod segment;

use std::{fmt, str::FromStr};

use crate::{Outcome, measure::Cost};

/// Who delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Our engine.
    Ours(ours::Setting),
    /// The crate `segment`.
    Segment,
    /// The crate `rudderanalytics`.
    Rudder,
    /// The crate `posthog-rs`.
    PostHog,
    /// Nobody: bodies that were made before are posted.
    Limit,
}

/// Everybody, in the order in which they are shown.
pub const SUBJECTS: [(&str, Subject); 10] = [
    ("memory", Subject::Ours(ours::Setting::MEMORY)),
    ("memory-plain", Subject::Ours(ours::Setting::PLAIN)),
    ("memory-3", Subject::Ours(ours::Setting::MEMORY.to(3))),
    ("durable", Subject::Ours(ours::Setting::DURABLE)),
    (
        "durable-all",
        Subject::Ours(ours::Setting::DURABLE_TOGETHER),
    ),
    ("durable-3", Subject::Ours(ours::Setting::DURABLE.to(3))),
    ("segment", Subject::Segment),
    ("rudderanalytics", Subject::Rudder),
    ("posthog-rs", Subject::PostHog),
    ("limit", Subject::Limit),
];

impl Subject {
    /// To how many vendors it delivers each event.
    #[must_use]
    pub fn vendors(self) -> u8 {
        match self {
            Self::Ours(setting) => setting.vendors,
            Self::Segment | Self::Rudder | Self::PostHog | Self::Limit => 1,
        }
    }

    /// Delivers events to a sink.
    ///
    /// # Errors
    ///
    /// The client failed.
    pub fn run(self, sink: &str, events: u64) -> Outcome<Cost> {
        match self {
            Self::Ours(setting) => ours::run(setting, sink, events),
            Self::Segment => segment::run(sink, events),
            Self::Rudder => rudder::run(sink, events),
            Self::PostHog => posthog::run(sink, events),
            Self::Limit => limit::run(sink, events),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = SUBJECTS.iter().find(|(_, subject)| subject == self);
        match (named, self) {
            (Some((name, _)), _) => f.pad(name),
            (None, Self::Ours(setting)) => f.pad(&format!("durable-{}", setting.vendors)),
            (None, other) => f.pad(&format!("{other:?}")),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = SUBJECTS.iter().find(|(known, _)| *known == name);
        if let Some((_, subject)) = named {
            return Ok(*subject);
        }
        // As many vendors as `growth` asks for.
        if let Some(vendors) = name.strip_prefix("durable-")
            && let Ok(vendors @ 1..) = vendors.parse()
        {
            return Ok(Self::Ours(ours::Setting::DURABLE.to(vendors)));
        }
        let known: Vec<_> = SUBJECTS.iter().map(|(name, _)| *name).collect();
        Err(format!(
            "there is no subject `{name}`, but {}",
            known.join(", ")
        ))
    }
}

/// How many events a request of ours to Segment has; those of others as well,
/// where it is for the program to say.
const BATCH: usize = 500;

/// The runtime of every subject that has one: that of `#[tokio::main]`.
pub(crate) fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().build()?)
}

//! What was wrong, and with which event.

use std::fmt;

use analytics_kit::{Error, Violation};

/// Which event something is said about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The one on this line.
    Line(u64),
    /// One that was accepted by an earlier run: its kind and message id.
    Earlier(String),
    /// One whose line is no longer known: its kind and message id.
    Forgotten(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Earlier(event) | Self::Forgotten(event) => write!(f, "{event}"),
        }
    }
}

/// What was wrong with an event.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The event.
    pub(crate) place: Place,
    /// The integration that it was wrong for; `None` if for all.
    pub(crate) integration: Option<String>,
    /// What, in one or several sentences.
    pub(crate) reasons: Vec<String>,
}

impl Problem {
    /// Why an event failed at an integration, after so many attempts.
    pub(crate) fn new(place: Place, integration: &str, error: &Error, attempts: u32) -> Self {
        Self {
            place,
            integration: Some(integration.to_owned()),
            reasons: reasons(error, attempts),
        }
    }

    /// What is wrong with a line for every integration.
    pub(crate) fn invalid(line: u64, violations: &[Violation]) -> Self {
        Self {
            place: Place::Line(line),
            integration: None,
            reasons: violations.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Why an event failed, after so many attempts, in one or several sentences.
pub(crate) fn reasons(error: &Error, attempts: u32) -> Vec<String> {
    match error.violations() {
        Some(error) => error.violations().iter().map(ToString::to_string).collect(),
        None if attempts > 1 => vec![format!(
            "{}: {} (after {attempts} attempts)",
            error.kind(),
            error.message()
        )],
        None => vec![format!("{}: {}", error.kind(), error.message())],
    }
}

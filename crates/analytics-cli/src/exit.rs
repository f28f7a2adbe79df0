//! How the command ends.

use std::process::ExitCode;

use analytics_kit::Error;

/// How the command ends, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for happened.
    Success,
    /// Something was invalid, refused or not sent.
    Failed,
    /// The command line or the configuration is wrong; nothing happened.
    Usage,
}

impl Exit {
    pub(crate) fn success_if(all_well: bool) -> Self {
        if all_well {
            Self::Success
        } else {
            Self::Failed
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
        })
    }
}

/// Why the command ended before it was done.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    /// The command line or the configuration is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }

    /// What was asked for cannot be done.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
        }
    }

    /// Integrations cannot be made of the configuration.
    pub(crate) fn configuration(error: &Error) -> Self {
        Self::usage(match error.integration() {
            Some(integration) => format!("{integration}: {}", error.message()),
            None => error.message().to_owned(),
        })
    }
}

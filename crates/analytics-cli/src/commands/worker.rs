//! `analytics worker`

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::{
    Globals,
    duration::duration,
    exit::{Exit, Failure},
    logging::Style,
    temporal::{self, Server},
};

/// Execute the workflows of the configured integrations, on Temporal
///
/// Registers every instance of the configuration: workflow
/// `NAME(analytics).Identify` and so on, and `NAME(analytics).Batch`, whose
/// requests wait on a task queue of the instance's own, QUEUE/NAME. Prints what
/// it registered on stdout, and logs on stderr. Several workers of one task
/// queue share the work, and need the same configuration. Where Temporal is
/// comes from the options, else the environment, else Temporal's own
/// configuration file.
///
/// SIGINT and SIGTERM: nothing new is taken, what is in flight is finished, and
/// it exits with 0; a second one ends at once, with 130. Exits with 1 if the
/// server is not reached, and with 2 if the command line or a configuration is
/// wrong, or there is no such namespace.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Worker {
    /// What a line of the log looks like
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,

    /// How long requests under way may take after SIGINT or SIGTERM: 25s. One
    /// that has not ended then counts as an attempt, and another worker makes it
    /// again. Without it, each has its own time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    grace: Option<Duration>,

    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Time, level, source, message, fields
    Text,
    /// One JSON object; what is registered is logged instead of printed
    Json,
}

impl Worker {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let json = self.log_format == LogFormat::Json;
        temporal::work(&self.server, json, self.grace, globals).await
    }

    pub(crate) fn log_style(&self) -> Style {
        Style::Service {
            json: self.log_format == LogFormat::Json,
        }
    }
}

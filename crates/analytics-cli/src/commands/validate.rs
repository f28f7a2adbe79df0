//! `analytics validate`

use std::path::PathBuf;

use clap::Args;

use crate::{
    events::Source,
    exit::{Exit, Failure},
    output::Out,
};

/// Check a file of events: one line for everything that is wrong
///
/// A file of events has one JSON envelope a line. Nothing is sent, and no
/// configuration is needed.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// The events; `-` is standard input
    file: PathBuf,
}

impl Validate {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let source = Source::open(&self.file)?;
        let name = source.name.clone();
        let mut out = Out::new();
        let mut is_valid = true;
        for line in source.lines() {
            let line = line.map_err(|error| Failure::failed(format!("{name}: {error}")))?;
            for violation in line.input.err().unwrap_or_default() {
                is_valid = false;
                out.line(format_args!("{name}:{}: {violation}", line.number))?;
            }
            if out.is_closed() {
                break;
            }
        }
        out.flush()?;
        Ok(Exit::success_if(is_valid))
    }
}

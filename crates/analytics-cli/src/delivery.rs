//! The way of a file: lines are read, accepted by the engine, and carried to
//! every integration.

use std::{io, sync::Arc, time::Duration};

use analytics_kit::{Configuration, Engine, Error, Handler, Policies, spec::handler};
use tokio::sync::mpsc;

use crate::{
    events::{Line, Source},
    exit::Failure,
    ledger::{Ledger, Totals},
    stop::Stop,
};

/// How many lines are read ahead of the engine.
const READ_AHEAD: usize = 16;

/// How a delivery ended.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) totals: Totals,
    /// What was not sent: lines, and the integrations that did not get them.
    pub(crate) not_sent: Vec<(u64, Arc<str>)>,
    /// Why the end of the file was not reached.
    pub(crate) ended_early: Option<EndedEarly>,
}

#[derive(Debug)]
pub(crate) enum EndedEarly {
    /// The command was asked to stop; this line was the first that was not
    /// read, if the reading was not done.
    Stopped { at_line: Option<u64> },
    /// The file could not be read on, after this line.
    Unreadable { after_line: u64, error: io::Error },
}

impl Summary {
    /// Whether everything was valid, and is delivered or unsupported.
    pub(crate) fn is_all_well(&self) -> bool {
        self.ended_early.is_none()
            && self.totals.invalid == 0
            && (self.totals.integrations.values())
                .all(|tally| tally.failed == 0 && tally.not_sent == 0)
    }
}

/// An engine for these integrations that keeps its books in the ledger. The
/// policies win over the integrations' own.
pub(crate) async fn engine(
    configuration: &Configuration,
    policies: &Policies,
    ledger: Arc<Ledger>,
) -> Result<Engine, Failure> {
    let mut builder = Engine::builder().store(ledger);
    for integration in configuration.integrations() {
        let config = handler::Config::new(Arc::clone(integration)).policies(policies.clone());
        let handler = Handler::new(config).map_err(|error| Failure::configuration(&error))?;
        builder = builder.handler(handler);
    }
    builder
        .build()
        .await
        .map_err(|error| Failure::configuration(&error))
}

/// Carries every line to its end.
pub(crate) async fn carry(
    source: Source,
    engine: &Engine,
    ledger: &Ledger,
    stop: &Stop,
) -> Result<Summary, Failure> {
    let mut ended_early = accept(source, engine, ledger, stop)
        .await
        .map_err(|error| Failure::failed(error.to_string()))?;
    let is_stopped = matches!(ended_early, Some(EndedEarly::Stopped { .. }));
    if !is_stopped {
        tokio::select! {
            _ = engine.flush(Duration::MAX) => {}
            () = stop.requested() => {
                ended_early = Some(EndedEarly::Stopped { at_line: None });
            }
        }
    }
    // What is in flight ends by its time-out; nothing else is left to wait for.
    // The ledger knows what is left, and on which lines it stands.
    let _ = engine.halt(Duration::MAX).await;
    let not_sent = ledger.close();
    Ok(Summary {
        totals: ledger.totals(),
        not_sent,
        ended_early,
    })
}

/// Hands the lines to the engine, as fast as it has room.
async fn accept(
    source: Source,
    engine: &Engine,
    ledger: &Ledger,
    stop: &Stop,
) -> Result<Option<EndedEarly>, Error> {
    let mut lines = read_ahead(source);
    let mut last = 0;
    let stopped = |at_line| {
        Ok(Some(EndedEarly::Stopped {
            at_line: Some(at_line),
        }))
    };
    loop {
        let line = tokio::select! {
            biased;
            () = stop.requested() => return stopped(last + 1),
            line = lines.recv() => line,
        };
        let Line {
            number,
            bytes,
            input,
        } = match line {
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                return Ok(Some(EndedEarly::Unreadable {
                    after_line: last,
                    error,
                }));
            }
            None => return Ok(None),
        };
        ledger.begin(number);
        match input {
            Err(violations) => ledger.invalid(bytes, &violations),
            Ok(input) => {
                let receipt = tokio::select! {
                    biased;
                    () = stop.requested() => return stopped(number),
                    receipt = engine.enqueue(input) => receipt?,
                };
                ledger.accepted(bytes, &receipt);
            }
        }
        last = number;
    }
}

/// Reads on a thread of its own: reading blocks, and on standard input it may
/// do so for ever.
fn read_ahead(source: Source) -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for line in source.lines() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                break;
            }
        }
    });
    receiver
}

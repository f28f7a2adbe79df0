//! Where output goes: results to stdout, everything said about the work to
//! stderr, around the progress bar.

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
};

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::exit::Failure;

/// Standard error, which a progress bar may share.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    bar: ProgressBar,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self {
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
        }
    }

    /// Whether somebody watches.
    pub(crate) fn is_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// The bar; hidden until it is given something to draw on.
    pub(crate) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Writes a line. That nobody reads it is no reason to stop.
    pub(crate) fn note(&self, line: impl Display) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Writes whole lines.
    pub(crate) fn write(&self, lines: &[u8]) {
        self.bar.suspend(|| {
            let _ = io::stderr().write_all(lines);
        });
    }
}

/// Standard output. Once its reader has left, the rest is dropped silently.
pub(crate) struct Out {
    inner: BufWriter<StdoutLock<'static>>,
    is_closed: bool,
}

impl Out {
    pub(crate) fn new() -> Self {
        Self {
            inner: BufWriter::new(io::stdout().lock()),
            is_closed: false,
        }
    }

    /// Whether anything more would be read.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Writes a line, or several at once.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        let written = writeln!(self.inner, "{line}");
        self.check(written)
    }

    /// Hands everything over.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        let flushed = self.inner.flush();
        self.check(flushed)
    }

    fn check(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            result => result.map_err(|error| Failure::failed(format!("stdout: {error}"))),
        }
    }
}

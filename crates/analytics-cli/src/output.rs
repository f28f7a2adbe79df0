//! Where output goes: results to stdout, everything said about the work to
//! stderr, around the progress bar.

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
};

use analytics_kit::spec::visible;
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

    /// Writes a line, or several at once. Somebody else's text may be in it:
    /// nothing in it commands the terminal. That nobody reads it is no reason
    /// to stop.
    pub(crate) fn note(&self, line: impl Display) {
        self.write(shown(&line.to_string()).as_bytes());
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

    /// For lines that somebody relies on: an error, if not all of them were read.
    pub(crate) fn must_be_open(&self) -> Result<(), Failure> {
        if self.is_closed {
            return Err(Failure::failed(
                "stdout was closed: not all receipts were given",
            ));
        }
        Ok(())
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

/// Whole lines, in which nothing commands the terminal.
fn shown(lines: &str) -> String {
    let mut shown = String::with_capacity(lines.len() + 1);
    for line in lines.split('\n') {
        shown += &visible(line);
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn nothing_commands_the_terminal() {
        assert_eq!(shown("a\n\nZoë"), "a\n\nZoë\n");
        assert_eq!(
            shown("x\u{202e}y\u{1b}[31m\rz"),
            "x\\u{202e}y\\u{1b}[31m\\rz\n"
        );
    }
}

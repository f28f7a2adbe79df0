//! What the crates below say while they work.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{exit::Failure, output::Console};

/// What lines on stderr look like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// Beside what a command says that somebody waits for.
    Remarks,
    /// The log of a service: with times, and as JSON if that is wanted.
    Service { json: bool },
}

/// Sends traces to stderr: those that `RUST_LOG` asks for, else warnings and
/// what `-v` adds.
pub(crate) fn start(style: Style, verbose: u8, console: &Console) -> Result<(), Failure> {
    let default = match (style, verbose) {
        // What a request's refusal comes to, and that a server does not answer, is
        // said by the command itself.
        (Style::Remarks, 0) => {
            "warn,analytics_http=error,analytics_engine::refused=error,temporalio=error"
        }
        (Style::Remarks, 1) | (Style::Service { .. }, 0) => "warn,analytics=info",
        _ => "warn,analytics=debug",
    };
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = if asked.trim().is_empty() {
        EnvFilter::new(default)
    } else {
        EnvFilter::try_new(&asked)
            .map_err(|error| Failure::usage(format!("RUST_LOG is not understood: {error}")))?
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr(console.clone()))
        .with_ansi(io::stderr().is_terminal());
    match style {
        Style::Remarks => lines.with_target(false).without_time().init(),
        Style::Service { json: false } => lines.init(),
        Style::Service { json: true } => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Writes around the progress bar.
#[derive(Clone)]
struct Stderr(Console);

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

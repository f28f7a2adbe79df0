//! Asking a running command to stop.

use tokio::sync::watch;

use crate::{exit::Failure, output::Console};

/// What a shell reports of a command that ended on SIGINT.
const ENDED_AT_ONCE: i32 = 130;

/// Whether the command was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Option<watch::Receiver<bool>>);

impl Stop {
    /// Nothing stops the command, except what ends the process.
    pub(crate) fn never() -> Self {
        Self(None)
    }

    /// The first SIGINT or SIGTERM asks to stop; a second one ends the process.
    pub(crate) fn on_signals(console: Console) -> Result<Self, Failure> {
        let mut signals = Signals::new()
            .map_err(|error| Failure::failed(format!("signals cannot be heard: {error}")))?;
        let (asked, stop) = watch::channel(false);
        tokio::spawn(async move {
            signals.next().await;
            console.note("stopping: what is in flight is finished; once more ends at once");
            asked.send_replace(true);
            signals.next().await;
            console.bar().finish_and_clear();
            std::process::exit(ENDED_AT_ONCE);
        });
        Ok(Self(Some(stop)))
    }

    /// Completes when the command is asked to stop.
    pub(crate) async fn requested(&self) {
        let asked = match self.0.clone() {
            Some(mut stop) => stop.wait_for(|asked| *asked).await.is_ok(),
            None => false,
        };
        if !asked {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

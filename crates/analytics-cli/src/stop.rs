//! Asking a running command to stop.

use std::{convert::Infallible, sync::Arc, time::Duration};

use analytics_kit::Engine;
use tokio::{sync::watch, time::Instant};

use crate::{exit::Failure, output::Console};

/// What a shell reports of a command that ended on SIGINT.
const ENDED_AT_ONCE: i32 = 130;

/// Whether the command was asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Option<Arc<watch::Sender<bool>>>);

/// How often a silence is looked at.
const LOOK: Duration = Duration::from_millis(250);

impl Stop {
    /// Nothing stops the command, except what ends the process.
    pub(crate) fn never() -> Self {
        Self(None)
    }

    /// The first SIGINT or SIGTERM asks to stop; a second one ends the process.
    pub(crate) fn on_signals(console: Console) -> Result<Self, Failure> {
        let say = console.clone();
        Self::when_signalled(console, move || {
            say.note("stopping: what is in flight is finished; once more ends at once");
        })
    }

    /// The same, said in another way.
    pub(crate) fn when_signalled(
        console: Console,
        say: impl FnOnce() + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut signals = Signals::new()
            .map_err(|error| Failure::failed(format!("signals cannot be heard: {error}")))?;
        let asked = Arc::new(watch::Sender::new(false));
        let stop = Self(Some(Arc::clone(&asked)));
        tokio::spawn(async move {
            signals.next().await;
            say();
            asked.send_replace(true);
            signals.next().await;
            console.bar().finish_and_clear();
            std::process::exit(ENDED_AT_ONCE);
        });
        Ok(stop)
    }

    /// Asks to stop when no vendor has answered for so long, while anything
    /// waits for one, and the work has not come any further.
    pub(crate) async fn on_silence(
        &self,
        patience: Duration,
        engine: &Engine,
        progress: impl Fn() -> u64,
        console: &Console,
    ) -> Infallible {
        let mut health = None;
        silence(patience, async || {
            // A store that cannot say is no answer.
            let now = engine.health().await.ok()?;
            let waits = now.integrations.iter().any(|one| one.status.pending > 0);
            let last = now
                .integrations
                .iter()
                .filter_map(|one| one.answered_at)
                .max();
            health = Some(now);
            Some((waits, (last, progress())))
        })
        .await;
        console.note("giving up: no vendor has answered for too long (--give-up-after)");
        self.ask();
        for one in health.iter().flat_map(|health| &health.integrations) {
            if let Some(error) = one.last_error.as_ref().filter(|_| one.status.pending > 0) {
                console.note(error);
            }
        }
        std::future::pending().await
    }

    /// Asks to stop when the time is over, if there is an end to it.
    pub(crate) async fn on_timeout(
        &self,
        timeout: Option<Duration>,
        console: &Console,
    ) -> Infallible {
        if let Some(timeout) = timeout {
            tokio::time::sleep(timeout).await;
            console.note("stopping: the time is over (--timeout)");
            self.ask();
        }
        std::future::pending().await
    }

    /// Asks to stop.
    pub(crate) fn ask(&self) {
        if let Some(asked) = &self.0 {
            asked.send_replace(true);
        }
    }

    /// Completes when the command is asked to stop.
    pub(crate) async fn requested(&self) {
        let asked = match &self.0 {
            Some(stop) => stop.subscribe().wait_for(|asked| *asked).await.is_ok(),
            None => false,
        };
        if !asked {
            std::future::pending::<()>().await;
        }
    }
}

/// Completes when something has waited for so long, and nothing has moved. What
/// is looked at says whether anything waits, and how far it has come.
pub(crate) async fn silence<T: PartialEq>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<(bool, T)>,
) {
    let mut before = None;
    let mut since = Instant::now();
    while since.elapsed() < patience {
        tokio::time::sleep(LOOK.min(patience)).await;
        let Some((waits, now)) = look().await else {
            continue;
        };
        if !waits || before.as_ref() != Some(&now) {
            since = Instant::now();
        }
        before = Some(now);
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

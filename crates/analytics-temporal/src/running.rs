//! A worker from its start to its end: one of the SDK's for each task queue, of
//! which none works without the others.

use std::{fmt, future::pending, sync::Arc};

use analytics_spec::{Error, ErrorKind, Handler};
use futures::{StreamExt as _, stream::FuturesUnordered};
use temporalio_sdk::Runtime;
#[cfg(unix)]
use tokio::signal::unix;
#[cfg(windows)]
use tokio::signal::windows;
use tokio::sync::oneshot;

use crate::{Connection, TemporalWorker, refusals::root_cause};

impl TemporalWorker {
    /// Works until the process is asked to end, by SIGINT or SIGTERM; then
    /// takes nothing new, finishes the attempts that are under way within the
    /// [grace](Self::grace), and returns. Asked once more, it returns at once.
    ///
    /// # Errors
    ///
    /// The connection's task queue is one of an integration's activities; an
    /// integration cannot start, nothing is registered, or the server does not
    /// have the worker; it was asked to end [twice](ErrorKind::Closed).
    pub async fn run(self, connection: &Connection) -> Result<(), Error> {
        let mut running = self.start(connection).await?;
        let mut signals = Signals::new();
        tokio::select! {
            ended = running.ended() => return ended,
            signal = signals.next() => {
                tracing::info!(signal, "finishing what is under way; a second signal ends at once");
            }
        }
        running.stop();
        tokio::select! {
            ended = running.ended() => ended,
            signal = signals.next() => Err(Error::new(
                ErrorKind::Closed,
                format!("{signal} came again: what was under way is left to other workers"),
            )),
        }
    }

    /// Starts to work, on a thread of its own.
    ///
    /// # Errors
    ///
    /// See [`run`](Self::run).
    pub async fn start(self, connection: &Connection) -> Result<Running, Error> {
        self.check_task_queue(connection.task_queue())?;
        for handler in self.handlers() {
            if let Err(error) = handler.init().await {
                close(self.handlers()).await;
                return Err(error);
            }
        }
        let (started_tx, started) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let connection = connection.clone();
        // The SDK's future stays on its thread.
        let thread = std::thread::Builder::new().name("analytics-temporal".to_owned());
        let spawned = thread.spawn(move || {
            runtime.block_on(async move {
                let ended = tokio::select! {
                    ended = self.work(&connection, started_tx) => ended,
                    never = connection.watch() => match never {},
                };
                close(self.handlers()).await;
                let _ = ended_tx.send(ended);
            });
        });
        spawned.map_err(|error| {
            Error::new(ErrorKind::Internal, "the worker's thread cannot start").with_source(error)
        })?;
        let mut running = Running {
            stop: None,
            ended: Some(ended),
        };
        match started.await {
            Ok(stop) => {
                running.stop = Some(stop);
                Ok(running)
            }
            Err(_) => Err(running.ended().await.err().unwrap_or_else(gone)),
        }
    }

    /// Refuses the task queue of the activities of one of its own integrations:
    /// there it would take them from the workers that execute them.
    fn check_task_queue(&self, task_queue: &str) -> Result<(), Error> {
        for name in self.instances.keys() {
            let before = task_queue.strip_suffix(name);
            let workflows = before.and_then(|before| before.strip_suffix('/'));
            if let Some(workflows) = workflows.filter(|queue| !queue.is_empty()) {
                return Err(Error::configuration(format!(
                    "the task queue {task_queue} is that of {name}'s activities: use the task \
                     queue {workflows}, whose workers take both"
                ))
                .with_integration(name));
            }
        }
        Ok(())
    }

    fn handlers(&self) -> impl Iterator<Item = &Handler> {
        self.instances.values().map(|instance| &instance.handler)
    }

    async fn work(
        &self,
        connection: &Connection,
        started: oneshot::Sender<Stop>,
    ) -> Result<(), Error> {
        let task_queue = connection.task_queue();
        let runtime = Runtime::from_current_tokio(Default::default())
            .map_err(|error| failed(task_queue, &error))?;
        let instances = self.instances.values();
        let mut all = vec![self.workflows_on(task_queue)?];
        all.extend(
            instances.map(|one| one.activities_beside(task_queue, self.max_history, self.grace)),
        );
        let mut workers = Vec::with_capacity(all.len());
        for options in all {
            let queue = options.task_queue.clone();
            let worker =
                temporalio_sdk::Worker::new(&runtime, connection.client().clone(), options)
                    .map_err(|error| failed(&queue, &error))?;
            workers.push(worker);
        }
        let stops: Vec<_> = workers.iter().map(|one| one.shutdown_handle()).collect();
        let stop: Stop = Arc::new(move || stops.iter().for_each(|stop| stop()));
        if started.send(Arc::clone(&stop)).is_err() {
            stop();
        }
        let running = workers.iter_mut().map(|worker| async {
            let queue = worker.task_queue().to_owned();
            let ended = worker.run().await;
            ended.map_err(|error| failed(&queue, &error))
        });
        together(running, &*stop).await
    }
}

/// Until all of them have ended, which the end of one asks of the others:
/// without it, they would do a part of the work. The first that failed says why.
async fn together<W>(workers: impl Iterator<Item = W>, stop: &dyn Fn()) -> Result<(), Error>
where
    W: Future<Output = Result<(), Error>>,
{
    let mut running: FuturesUnordered<W> = workers.collect();
    let mut outcome = Ok(());
    while let Some(ended) = running.next().await {
        stop();
        outcome = outcome.and(ended);
    }
    outcome
}

/// Why the worker of a task queue does not work.
fn failed(queue: &str, error: &dyn std::error::Error) -> Error {
    let message = format!("the worker of {queue}: {}", root_cause(error));
    Error::new(ErrorKind::Unavailable, message)
}

pub(crate) fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the worker's thread has ended")
}

/// Those that were ready; the others say that they are not.
async fn close(handlers: impl Iterator<Item = &Handler>) {
    for handler in handlers.filter(|handler| handler.is_ready()) {
        if let Err(error) = handler.close().await {
            tracing::warn!(%error, "an integration could not be closed");
        }
    }
}

type Stop = Arc<dyn Fn() + Send + Sync>;

/// A worker that works, on a thread of its own: until it is
/// [stopped](Self::stop), also if this value is dropped.
pub struct Running {
    stop: Option<Stop>,
    ended: Option<oneshot::Receiver<Result<(), Error>>>,
}

impl Running {
    /// Takes nothing new from now on. What is under way is finished; see
    /// [`ended`](Self::ended).
    pub fn stop(&self) {
        if let Some(stop) = &self.stop {
            stop();
        }
    }

    /// Waits until the worker has ended.
    ///
    /// # Errors
    ///
    /// The server did not have it, or it was waited for before.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let Some(ended) = &mut self.ended else {
            return Err(gone());
        };
        let outcome = ended.await.unwrap_or_else(|_| Err(gone()));
        self.ended = None;
        outcome
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// What asks the process to end: each signal since this was made is heard, also
/// while nobody waits for it.
struct Signals {
    interrupts: Option<Interrupts>,
    #[cfg(unix)]
    terminations: Option<unix::Signal>,
}

#[cfg(unix)]
type Interrupts = unix::Signal;
#[cfg(windows)]
type Interrupts = windows::CtrlC;

impl Signals {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            interrupts: unix::signal(unix::SignalKind::interrupt()).ok(),
            #[cfg(windows)]
            interrupts: windows::ctrl_c().ok(),
            #[cfg(unix)]
            terminations: unix::signal(unix::SignalKind::terminate()).ok(),
        }
    }

    /// The next one.
    async fn next(&mut self) -> &'static str {
        let interrupted = async {
            match &mut self.interrupts {
                Some(interrupts) => interrupts.recv().await,
                None => pending().await,
            }
        };
        #[cfg(unix)]
        let terminated = async {
            match &mut self.terminations {
                Some(terminations) => terminations.recv().await,
                None => pending().await,
            }
        };
        #[cfg(windows)]
        let terminated = pending::<Option<()>>();
        tokio::select! {
            _ = interrupted => "SIGINT",
            _ = terminated => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    /// As an operator does who is in a hurry.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_second_signal_is_heard_while_nobody_waits_for_it() {
        let (mut others, mut signals) = (Signals::new(), Signals::new());
        let id = std::process::id().to_string();
        for signal in ["SIGTERM", "SIGINT", "SIGTERM"] {
            let mut kill = std::process::Command::new("kill");
            let name = signal.trim_start_matches("SIG");
            assert!(kill.args(["-s", name, &id]).status().unwrap().success());
            // By then it has been heard.
            for signals in [&mut others, &mut signals] {
                let limit = std::time::Duration::from_secs(10);
                let heard = tokio::time::timeout(limit, signals.next());
                assert_eq!(heard.await.unwrap(), signal);
            }
        }
    }

    #[tokio::test]
    async fn when_one_of_its_workers_fails_all_of_them_end() {
        let stopped = watch::Sender::new(false);
        let workers = ["a", "b", "c"].map(|name| {
            let mut stopped = stopped.subscribe();
            async move {
                if name != "b" {
                    let asked = stopped.wait_for(|stopped| *stopped).await;
                    assert!(asked.is_ok());
                }
                match name {
                    "a" => Ok(()),
                    _ => Err(Error::new(ErrorKind::Unavailable, name)),
                }
            }
        });
        let stop = || {
            stopped.send_replace(true);
        };
        let ended = together(workers.into_iter(), &stop);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), ended);
        let error = ended.await.unwrap().unwrap_err();
        assert_eq!(error.message(), "b");
    }
}

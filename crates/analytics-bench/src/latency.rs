//! How long `enqueue` takes at a fixed rate.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use comfy_table::Table;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    Outcome,
    compare::empty,
    order::Order,
    process::{SinkProcess, ask},
    subjects::ours::{Ours, Setting, engine},
};

/// Shows how long it takes to hand an event to the engine at a fixed rate.
#[derive(Debug, clap::Args)]
pub struct Latency {
    /// Events a second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// For how long
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Accept durably
    #[arg(long)]
    durable: bool,
    /// Delivers there and shows JSON; if absent, starts a process for each
    #[arg(long, hide = true)]
    sink: Option<String>,
}

/// How long it took, in microseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Found {
    events: u64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// By how much the program itself came too late at most.
    latest: f64,
}

impl Latency {
    /// Runs; the table, or JSON if this is the process of a run.
    ///
    /// # Errors
    ///
    /// An event was not delivered.
    pub fn run(&self) -> Outcome<String> {
        if let Some(sink) = &self.sink {
            let found = self.measure(sink)?;
            return Ok(serde_json::to_string(&found)?);
        }
        let sink = SinkProcess::start()?;
        let (rate, seconds) = (self.rate.to_string(), self.seconds.to_string());
        let args = ["latency", "--rate", &rate, "--seconds", &seconds];
        let durable: &[&str] = if self.durable { &["--durable"] } else { &[] };
        let args = [&args[..], durable, &["--sink", sink.url()]].concat();
        let found: Found = ask(&args)?;
        let tally = sink.tally()?;
        if tally.events != found.events || tally.distinct != found.events {
            return Err(format!("{} of {} events came", tally.events, found.events).into());
        }
        Ok(format!(
            "{}\nthe program itself was at most {:.0} µs late\n",
            table(if self.durable { "durable" } else { "memory" }, &found),
            found.latest
        ))
    }

    fn measure(&self, sink: &str) -> Outcome<Found> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let events = self.rate * self.seconds;
        let (mut taken, latest) = runtime.block_on(self.enqueue(sink, events))?;
        taken.sort_unstable();
        let at = |thousandths: usize| {
            let place = taken.len().saturating_sub(1) * thousandths / 1000;
            taken.get(place).copied().map_or(f64::NAN, micros)
        };
        Ok(Found {
            events,
            p50: at(500),
            p99: at(990),
            p999: at(999),
            max: at(1000),
            latest: micros(latest),
        })
    }

    /// Every millisecond, what is due: a timer is not finer than that.
    async fn enqueue(&self, sink: &str, events: u64) -> Outcome<(Vec<Duration>, Duration)> {
        let setting = if self.durable {
            Setting::DURABLE
        } else {
            Setting::MEMORY
        };
        let Ours { engine, dir } = engine(setting, sink).await?;
        let engine = Arc::new(engine);
        let mut enqueues = JoinSet::new();
        let mut latest = Duration::ZERO;
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let begun = Instant::now();
        let mut number = 0;
        while number < events {
            let due = tick.tick().await;
            latest = latest.max(due.elapsed());
            let due = begun.elapsed().as_micros() * u128::from(self.rate) / 1_000_000;
            while number < events && u128::from(number) <= due {
                let (engine, input) = (Arc::clone(&engine), Order::new(number).into_input());
                let before = Instant::now();
                enqueues.spawn(async move {
                    engine.enqueue(input).await?;
                    Ok::<_, analytics_spec::Error>(before.elapsed())
                });
                number += 1;
            }
        }
        let taken = enqueues.join_all().await;
        let taken = taken.into_iter().collect::<Result<_, _>>()?;
        let left = engine.close(Duration::from_secs(60)).await;
        drop(dir);
        if left.is_empty() {
            Ok((taken, latest))
        } else {
            Err("not all events were delivered".into())
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn table(subject: &str, found: &Found) -> Table {
    let mut table = empty(&[
        "subject",
        "events",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "max µs",
    ]);
    table.add_row([
        subject.to_owned(),
        found.events.to_string(),
        format!("{:.1}", found.p50),
        format!("{:.1}", found.p99),
        format!("{:.1}", found.p999),
        format!("{:.1}", found.max),
    ]);
    table
}

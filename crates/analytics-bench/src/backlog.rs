//! What a vendor's outage costs: events that nobody takes, and then everybody.

use std::{path::PathBuf, time::Duration, time::Instant};

use comfy_table::Table;
use serde::{Deserialize, Serialize};

use crate::{
    Outcome,
    compare::empty,
    measure::{Cost, Stopwatch},
    process::{SinkProcess, ask, check},
    subjects::ours::{Setting, accept, engine_in},
};

/// Shows what it costs to accept events while the vendor is down, to open what
/// has come together, and to deliver it.
#[derive(Debug, clap::Args)]
pub struct Backlog {
    /// How many events
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// To how many vendors each event goes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    vendors: u8,
    /// Accepts into this directory, or delivers from it, and shows JSON; if
    /// absent, starts a process for each
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    /// Delivers there
    #[arg(long, hide = true)]
    sink: Option<String>,
}

/// One half of it.
#[derive(Debug, Serialize, Deserialize)]
struct Half {
    /// How long it took to open what was there.
    open_seconds: f64,
    /// What followed.
    #[serde(flatten)]
    cost: Cost,
}

/// It is over then, however many there are.
const WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

impl Backlog {
    /// Runs; the table, or JSON if this is the process of a run.
    ///
    /// # Errors
    ///
    /// An event was not delivered.
    pub fn run(&self, tell: impl Fn(&str)) -> Outcome<String> {
        if let Some(dir) = &self.dir {
            let half = crate::subjects::runtime()?.block_on(self.half(dir))?;
            return Ok(serde_json::to_string(&half)?);
        }
        // Not where temporary files may be kept in memory.
        let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
        let path = dir.path().to_str().ok_or("a directory without a name")?;
        let events = self.events.to_string();
        let vendors = self.vendors.to_string();
        let args = [
            "backlog",
            "--events",
            &events,
            "--vendors",
            &vendors,
            "--dir",
            path,
        ];
        tell("accepting, while nobody listens");
        let accepted: Half = ask(&args)?;
        let bytes = std::fs::metadata(dir.path().join("events.db"))?.len();
        tell("delivering");
        let sink = SinkProcess::start()?;
        let delivered: Half = ask(&[&args[..], &["--sink", sink.url()]].concat())?;
        let tally = sink.tally()?;
        check(&tally, self.events, self.vendors)?;
        Ok(self.table(&accepted, &delivered, bytes).to_string())
    }

    async fn half(&self, dir: &std::path::Path) -> Outcome<Half> {
        let setting = Setting::DURABLE.to(self.vendors);
        let begun = Instant::now();
        let sink = self.sink.as_deref().unwrap_or(NOWHERE);
        let engine = engine_in(dir, setting, sink).await?;
        let open_seconds = begun.elapsed().as_secs_f64();
        let stopwatch = Stopwatch::start()?;
        if self.sink.is_some() {
            engine.flush(WITHIN).await?;
        } else {
            accept(&engine, setting, self.events).await?;
        }
        let cost = stopwatch.stop()?;
        let left = engine.close(Duration::ZERO).await;
        let deliveries = self.events * u64::from(self.vendors);
        let expected = if self.sink.is_some() { 0 } else { deliveries };
        if left.kept != expected {
            return Err(format!("{} deliveries are left, not {expected}", left.kept).into());
        }
        Ok(Half { open_seconds, cost })
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody counts beyond 2^53")]
    fn table(&self, accepted: &Half, delivered: &Half, bytes: u64) -> Table {
        let mib = |bytes: u64| format!("{:.0}", bytes as f64 / 1024.0 / 1024.0);
        let mut table = empty(&[
            "",
            "events",
            "opened in s",
            "events/s",
            "CPU s/million",
            "peak MiB",
            "file MiB",
        ]);
        for (name, half) in [("accepted", accepted), ("delivered", delivered)] {
            table.add_row([
                name.to_owned(),
                self.events.to_string(),
                format!("{:.2}", half.open_seconds),
                format!("{:.0}", self.events as f64 / half.cost.seconds),
                format!("{:.2}", half.cost.cpu_seconds() * 1e6 / self.events as f64),
                mib(half.cost.peak_bytes),
                mib(bytes),
            ]);
        }
        table
    }
}

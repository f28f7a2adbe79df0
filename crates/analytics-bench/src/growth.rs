//! How the cost grows with the number of events and of vendors.

use comfy_table::Table;

use crate::{
    Outcome,
    compare::{empty, peak_mib},
    process::run,
    subjects::{Subject, ours::Setting},
};

/// Shows how the cost grows, from 10 thousand events on and with 1 to 3
/// vendors.
#[derive(Debug, clap::Args)]
pub struct Growth {
    /// The most events
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max: u64,
}

impl Growth {
    /// Runs, and tells of each run as it ends; the table.
    ///
    /// # Errors
    ///
    /// A run failed, or lost an event.
    pub fn run(&self, tell: impl Fn(&str)) -> Outcome<Table> {
        let mut table = empty(&[
            "events",
            "vendors",
            "events/s",
            "CPU s/million",
            "CPU s/million deliveries",
            "peak MiB",
        ]);
        let steps = std::iter::successors(Some(10_000_u64), |events| events.checked_mul(10));
        for events in steps.take_while(|events| *events <= self.max) {
            for vendors in 1..=3 {
                let subject = Subject::Ours(Setting::DURABLE.to(vendors));
                tell(&format!("{events} events to {vendors}"));
                let run = run(subject, events)?;
                table.add_row([
                    events.to_string(),
                    vendors.to_string(),
                    format!("{:.0}", run.rate()),
                    format!("{:.2}", run.cpu_per_million()),
                    format!("{:.2}", run.cpu_per_million() / f64::from(vendors)),
                    format!("{:.1}", peak_mib(&run)),
                ]);
            }
        }
        Ok(table)
    }
}

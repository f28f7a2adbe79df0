//! What a run of a subject costs, as the process itself sees it.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What a run costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// From before the first event was built until the last one was accepted.
    pub seconds: f64,
    /// What the process took of all processors in that time, in user mode.
    pub user_seconds: f64,
    /// The same for the system's work in its name.
    pub system_seconds: f64,
    /// The most memory that the process had, also before that time.
    pub peak_bytes: u64,
}

impl Cost {
    /// User and system together.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    usage: Usage,
}

impl Stopwatch {
    /// Begins.
    ///
    /// # Errors
    ///
    /// The system does not say what the process takes.
    pub fn start() -> Outcome<Self> {
        Ok(Self {
            usage: getrusage(UsageWho::RUSAGE_SELF)?,
            begun: Instant::now(),
        })
    }

    /// What it came to until now.
    ///
    /// # Errors
    ///
    /// The system does not say what the process takes.
    pub fn stop(self) -> Outcome<Cost> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Cost {
            seconds,
            user_seconds: between(self.usage.user_time(), usage.user_time()),
            system_seconds: between(self.usage.system_time(), usage.system_time()),
            peak_bytes: peak_bytes(&usage),
        })
    }
}

fn between(from: nix::sys::time::TimeVal, to: nix::sys::time::TimeVal) -> f64 {
    let micros = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
        let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    };
    micros(to).saturating_sub(micros(from)).as_secs_f64()
}

/// Linux carries what `getrusage` calls the most memory over from the process
/// that started this one, so its own count comes first.
fn peak_bytes(usage: &Usage) -> u64 {
    let own = fs::read_to_string("/proc/self/status").ok();
    let own = own.as_deref().and_then(high_water_mark);
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    own.unwrap_or_else(|| u64::try_from(usage.max_rss()).unwrap_or_default() * unit)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line?.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

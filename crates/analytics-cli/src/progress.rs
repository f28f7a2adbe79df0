//! Saying how far the work has come.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use indicatif::{ProgressDrawTarget, ProgressStyle};

use crate::{ledger::Totals, output::Console};

const EVERY_DRAWING: Duration = Duration::from_millis(100);
const EVERY_LINE: Duration = Duration::from_secs(5);

/// Runs until it is dropped: a bar on a terminal, else a line now and then.
pub(crate) async fn show(
    console: &Console,
    bytes: Option<u64>,
    totals: impl Fn() -> Totals,
) -> Infallible {
    let started = Instant::now();
    let draws = Console::is_terminal();
    let _cleared = draws.then(|| Bar::begin(console, bytes));
    loop {
        tokio::time::sleep(if draws { EVERY_DRAWING } else { EVERY_LINE }).await;
        let totals = totals();
        let line = describe(&totals, started.elapsed());
        if draws {
            console.bar().set_position(done(&totals));
            console.bar().set_message(line);
        } else {
            console.note(line);
        }
    }
}

/// How many of the bytes that were read are done with.
fn done(totals: &Totals) -> u64 {
    let integrations = u64::try_from(totals.integrations.len()).unwrap_or_default();
    let settled = totals.integrations.values().fold(
        totals.invalid.saturating_mul(integrations),
        |settled, tally| {
            settled + tally.delivered + tally.failed + tally.unsupported + tally.erased
        },
    );
    // More may be settled already than is counted as read.
    totals
        .bytes
        .saturating_mul(settled)
        .checked_div(totals.read.saturating_mul(integrations))
        .map_or(0, |done| done.min(totals.bytes))
}

fn describe(totals: &Totals, elapsed: Duration) -> String {
    let tallies = totals.integrations.values();
    let (delivered, failed) = tallies.fold((0, 0), |(delivered, failed), tally| {
        (
            delivered + tally.delivered + tally.earlier.delivered,
            failed + tally.failed + tally.earlier.failed,
        )
    });
    let rate = (delivered * 1000)
        .checked_div(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
        .unwrap_or_default();
    let mut line = format!("{} delivered ({}/s)", grouped(delivered), grouped(rate));
    // Nothing is, where only what is kept is delivered.
    if totals.read > 0 {
        line = format!("{} read, {line}", grouped(totals.read));
    }
    let failed = failed + totals.invalid;
    if failed > 0 {
        line += &format!(", {} failed", grouped(failed));
    }
    line
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The bar on the console; it disappears when this is dropped.
struct Bar<'a>(&'a Console);

impl<'a> Bar<'a> {
    fn begin(console: &'a Console, bytes: Option<u64>) -> Self {
        let template = match bytes {
            Some(_) => "{bar:24} {percent:>3}%  {msg}",
            None => "{spinner} {msg}",
        };
        let bar = console.bar();
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━─"));
        }
        if let Some(bytes) = bytes {
            bar.set_length(bytes);
        }
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(EVERY_DRAWING);
        Self(console)
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.0.bar().finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_told_apart() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }
}

//! All subjects side by side.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{
    Outcome,
    process::{Run, as_f64, run},
    subjects::{SUBJECTS, Subject},
};

/// What the others are compared with.
const BASE: Subject = Subject::Segment;

/// Runs subjects side by side.
#[derive(Debug, clap::Args)]
pub struct Compare {
    /// How many events each delivers in a run
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Only these, with commas between them
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// Writes every run to a file as well
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A subject's runs, in their order, and what they come to.
#[derive(Debug, Serialize)]
struct Row {
    subject: String,
    #[serde(skip)]
    is_base: bool,
    summary: Option<Summary>,
    runs: Vec<Run>,
}

/// The medians of a subject's runs.
#[derive(Clone, Copy, Debug, Serialize)]
struct Summary {
    rate: f64,
    least_rate: f64,
    most_rate: f64,
    cpu_per_million: f64,
    peak_mib: f64,
    wire_per_event: f64,
    requests: f64,
    /// Of each run to that of the base in the same round.
    rate_ratio: Option<f64>,
    cpu_ratio: Option<f64>,
}

impl Summary {
    fn new(runs: &[Run], base: Option<&[Run]>) -> Self {
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        let ratio = |figure: fn(&Run) -> f64| {
            let pairs = runs.iter().zip(base?);
            let ratios = pairs.map(|(own, base)| figure(own) / figure(base));
            Some(median(ratios.collect()))
        };
        let rates = runs.iter().map(Run::rate);
        Self {
            rate: of(Run::rate),
            least_rate: rates.clone().fold(f64::INFINITY, f64::min),
            most_rate: rates.fold(0.0, f64::max),
            cpu_per_million: of(Run::cpu_per_million),
            peak_mib: of(peak_mib),
            wire_per_event: of(Run::wire_per_event),
            requests: of(|run| as_f64(run.sink.requests)),
            rate_ratio: ratio(Run::rate),
            cpu_ratio: ratio(Run::cpu_per_million),
        }
    }
}

impl Compare {
    /// Runs, and tells of each run as it ends; the table.
    ///
    /// # Errors
    ///
    /// A run failed, or lost an event.
    pub fn run(self, tell: impl Fn(&str)) -> Outcome<Table> {
        let subjects = if self.subjects.is_empty() {
            SUBJECTS.iter().map(|(_, subject)| *subject).collect()
        } else {
            self.subjects
        };
        let mut rows: Vec<_> = subjects
            .into_iter()
            .map(|subject| {
                let row = Row {
                    subject: subject.to_string(),
                    is_base: subject == BASE,
                    summary: None,
                    runs: Vec::new(),
                };
                (subject, row)
            })
            .collect();
        for number in 1..=self.runs {
            for (subject, row) in &mut rows {
                let run = run(*subject, self.events)?;
                tell(&format!(
                    "run {number}: {subject}: {:.0} events/s, {:.2} CPU s per million",
                    run.rate(),
                    run.cpu_per_million()
                ));
                row.runs.push(run);
            }
        }
        let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        let base = rows.iter().find(|row| row.is_base);
        let base = base.map(|row| row.runs.clone());
        for row in &mut rows {
            row.summary = Some(Summary::new(&row.runs, base.as_deref()));
        }
        if let Some(path) = self.json {
            std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
        }
        Ok(table(&rows))
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = self::empty(&[
        "subject",
        "events/s",
        "from .. to",
        "CPU s/million",
        "peak MiB",
        "wire B/event",
        "requests",
        "× segment",
        "CPU × segment",
    ]);
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |r| format!("{r:.2}"));
    for row in rows {
        let Some(summary) = row.summary else {
            continue;
        };
        table.add_row([
            row.subject.clone(),
            format!("{:.0}", summary.rate),
            format!("{:.0} .. {:.0}", summary.least_rate, summary.most_rate),
            format!("{:.2}", summary.cpu_per_million),
            format!("{:.1}", summary.peak_mib),
            format!("{:.1}", summary.wire_per_event),
            format!("{:.0}", summary.requests),
            ratio(summary.rate_ratio),
            ratio(summary.cpu_ratio),
        ]);
    }
    table
}

/// A table of figures: the first column is what they are of.
pub(crate) fn empty(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn peak_mib(run: &Run) -> f64 {
    as_f64(run.cost.peak_bytes) / (1024.0 * 1024.0)
}

/// The middle one, or between the middle two.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2);
    let lower = figures.get(figures.len().saturating_sub(1) / 2);
    match (lower, upper) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}

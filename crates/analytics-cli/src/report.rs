//! What a delivery comes to, for people and for scripts.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use crate::{
    Globals,
    delivery::{EndedEarly, Summary},
    ledger::Tally,
    lines::Lines,
    output::Console,
    problem::{Place, Problem},
    progress::grouped,
    table,
};

/// Says what was wrong with an event of a file.
pub(crate) fn say(console: &Console, file: &str, problem: &Problem) {
    let place = match &problem.place {
        Place::Line(line) => format!("{file}:{line}"),
        Place::Earlier(event) => format!("earlier: {event}"),
        Place::Forgotten(event) => format!("{file}: {event}"),
    };
    let integration = match &problem.integration {
        Some(integration) => format!("{integration}: "),
        None => String::new(),
    };
    for reason in &problem.reasons {
        console.note(format_args!("{place}: {integration}{reason}"));
    }
}

/// Says why the end of the file was not reached, and what was not sent.
pub(crate) fn say_end(summary: &Summary, file: &str, globals: &Globals) {
    let console = &globals.console;
    match &summary.ended_early {
        Some(EndedEarly::Stopped {
            at_line: Some(line),
        }) => console.note(format_args!(
            "{file}: stopped; not read from line {line} on"
        )),
        Some(EndedEarly::Stopped { at_line: None }) => {
            console.note(format_args!("{file}: stopped; the file had been read"));
        }
        Some(EndedEarly::Unreadable { after_line, error }) => {
            console.note(format_args!(
                "{file}: cannot be read after line {after_line}: {error}"
            ));
        }
        Some(EndedEarly::NotAccepted(missed)) => {
            let mut which = format!("{file}: not accepted: {}", missed.lines);
            if !missed.unknown.is_empty() {
                which += &format!("; not known whether accepted: {}", missed.unknown);
            }
            if let Some(line) = missed.unread_from {
                which += &format!("; not read from line {line} on");
            }
            console.note(format_args!("{which}: {}", missed.error.message()));
        }
        None => {}
    }
    let fate = if summary.is_durable {
        "kept"
    } else {
        "not sent"
    };
    if globals.verbose {
        for (line, integration) in &summary.unsettled.lines {
            console.note(format_args!("{file}:{line}: {integration}: {fate}"));
        }
        let more = summary.unsettled.forgotten();
        if more > 0 {
            console.note(format_args!("{file}: {} more: {fate}", grouped(more)));
        }
    } else if !summary.unsettled.is_empty() {
        let verb = if summary.is_durable { "is" } else { "was" };
        console.note(format_args!(
            "with -v, every line that {verb} {fate} is named"
        ));
    }
    for (name, tally) in &summary.totals.integrations {
        if tally.not_sent > 0 {
            console.note(format_args!("{name}: {} not sent", grouped(tally.not_sent)));
        }
    }
}

/// The summary for scripts.
#[derive(Serialize)]
struct Report<'a> {
    read: u64,
    invalid: u64,
    integrations: BTreeMap<&'a str, Tally>,
    /// What is kept for integrations that this run did not have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    detached: &'a BTreeMap<String, u64>,
    /// The end of the file was not reached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ended_early: bool,
    /// Which lines were not accepted, and why.
    #[serde(flatten)]
    missed: Option<Missed<'a>>,
}

/// Each of the lines that are left to send stands in one of these.
#[derive(Serialize)]
struct Missed<'a> {
    error: &'a str,
    not_accepted: &'a Lines,
    /// Whether they were accepted is not known.
    #[serde(skip_serializing_if = "Lines::is_empty")]
    unknown: &'a Lines,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_from: Option<u64>,
}

/// The summary for scripts.
pub(crate) fn json(summary: &Summary) -> String {
    let tallies = summary.totals.integrations.iter();
    let report = Report {
        read: summary.totals.read,
        invalid: summary.totals.invalid,
        integrations: tallies.map(|(name, tally)| (&**name, *tally)).collect(),
        detached: &summary.detached,
        ended_early: summary.ended_early.is_some(),
        missed: match &summary.ended_early {
            Some(EndedEarly::NotAccepted(missed)) => Some(Missed {
                error: missed.error.message(),
                not_accepted: &missed.lines,
                unknown: &missed.unknown,
                unread_from: missed.unread_from,
            }),
            _ => None,
        },
    };
    // Numbers under text keys can always be written.
    serde_json::to_string(&report).unwrap_or_default()
}

/// A column that is left out if there is nothing in it.
type Column = (&'static str, fn(&Tally) -> u64);

const RARE: [Column; 3] = [
    ("erased", |tally| tally.erased),
    ("not sent", |tally| tally.not_sent),
    ("kept", |tally| tally.kept),
];

/// The summary for people. What is kept is said with how that goes on.
pub(crate) fn show(summary: &Summary, how_it_goes_on: &str) -> String {
    let totals = &summary.totals;
    let tallies: Vec<(&Arc<str>, &Tally)> = totals.integrations.iter().collect();
    let mut columns: Vec<Column> = vec![
        ("delivered", |tally| tally.delivered),
        ("failed", |tally| tally.failed),
        ("unsupported", |tally| tally.unsupported),
    ];
    let rare = RARE.into_iter();
    columns.extend(rare.filter(|(_, of)| tallies.iter().any(|(_, tally)| of(tally) > 0)));
    let header = ["integration"]
        .into_iter()
        .chain(columns.iter().map(|column| column.0));
    let mut table = table::new(header);
    table::align_right(&mut table, 1);
    for (name, tally) in tallies {
        let cells = columns.iter().map(|(_, of)| grouped(of(tally)));
        table.add_row([name.to_string()].into_iter().chain(cells));
    }
    let events = if totals.read == 1 { "event" } else { "events" };
    let invalid = match totals.invalid {
        0 => "all valid".to_owned(),
        invalid => format!("{} invalid", grouped(invalid)),
    };
    format!(
        "{} {events} read, {invalid}\n\n{}{}",
        grouped(totals.read),
        table::show(&table),
        rest(summary, how_it_goes_on)
    )
}

/// What came from earlier runs, and what is left for the next.
fn rest(summary: &Summary, how_it_goes_on: &str) -> String {
    let mut rest = String::new();
    for (name, tally) in &summary.totals.integrations {
        let earlier = tally.earlier;
        if earlier.is_empty() {
            continue;
        }
        rest += &format!(
            "\n\nfrom earlier runs, {name}: {} delivered, {} failed",
            grouped(earlier.delivered),
            grouped(earlier.failed)
        );
        if earlier.erased > 0 {
            rest += &format!(", {} erased", grouped(earlier.erased));
        }
    }
    let kept = summary.kept();
    if kept > 0 {
        rest += &format!("\n\n{} kept: {how_it_goes_on}", grouped(kept));
    }
    rest + &detached(summary)
}

/// What is left for integrations that this run did not have.
pub(crate) fn detached(summary: &Summary) -> String {
    let mut detached = String::new();
    for (name, pending) in &summary.detached {
        detached += &format!(
            "\n\n{} kept for {name}, which is not among these integrations: `analytics purge \
             {name}` forgets what is no longer wanted",
            grouped(*pending)
        );
    }
    detached
}

//! `analytics send`

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use analytics_kit::{
    ActivityPolicy, AnyInput, Configuration, ErrorKind, IntegrationExt as _, Policies, RetryPolicy,
    Timestamp, spec::integration::Preview,
};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::{
    Globals, configuration,
    delivery::{self, Carrier, EndedEarly, Summary},
    events::{Line, Source},
    exit::{Exit, Failure},
    ledger::{Ledger, Tally},
    output::{Console, Out},
    problem::{Place, Problem},
    progress::{self, grouped},
    stop::Stop,
    storage, table,
};

/// Deliver a file of events to the configured integrations
///
/// Exits with 0 if every event was valid and is delivered (or of a kind that
/// the vendor does not support), 1 if anything was invalid, failed or not sent,
/// and 2 if the command line or the configuration is wrong.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Send {
    /// The events, one JSON envelope a line; `-` is standard input
    file: PathBuf,

    /// Deliver to this integration only; may be given several times
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,

    /// End with one line of JSON on stdout, for scripts
    #[arg(long, conflicts_with = "dry_run")]
    json: bool,

    /// Print the requests, one JSON object a line, and send nothing
    #[arg(long)]
    dry_run: bool,

    /// Attempts at each event, over the configured policy; 0 is without end.
    /// Those that the vendor answers with a delay of its own do not count,
    /// unless N is 1
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,

    /// How long one attempt may take, over the configured policy: 5s, 1m30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,

    /// Stop when no vendor has answered for so long, a request to wait being an
    /// answer: what is left is not sent
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    give_up_after: Duration,
}

impl Send {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let configuration = configuration::load(&globals.config)?;
        let configuration = configuration::select(configuration, &self.to)?;
        let source = Source::open(&self.file)?;
        if self.dry_run {
            return dry_run(source, &configuration, &globals.console);
        }
        let summary = self.deliver(source, &configuration, globals).await?;
        let mut out = Out::new();
        if self.json {
            out.line(Report::of(&summary).to_json())?;
        } else {
            out.line(show(&summary))?;
        }
        out.flush()?;
        Ok(Exit::success_if(summary.is_all_well()))
    }

    async fn deliver(
        &self,
        source: Source,
        configuration: &Configuration,
        globals: &Globals,
    ) -> Result<Summary, Failure> {
        let (name, bytes) = (source.name.clone(), source.bytes);
        let console = &globals.console;
        let stop = Stop::on_signals(console.clone())?;
        let store = storage::in_memory();
        let ledger = Arc::new(Ledger::new(configuration.integrations(), store.last(), {
            let (console, name) = (console.clone(), name.clone());
            move |problem| say(&console, &name, &problem)
        }));
        let engine = delivery::engine(configuration, &self.policies(), store, &ledger).await?;
        let carrier = Carrier {
            engine: &engine,
            ledger: &ledger,
            stop: &stop,
            is_durable: false,
            on_accepted: Box::new(|_, _| Ok(())),
        };
        let summary = tokio::select! {
            summary = carrier.carry(Some(source)) => summary?,
            never = progress::show(console, bytes, &ledger) => match never {},
            never = stop.on_silence(self.give_up_after, &engine, console) => match never {},
        };
        say_end(&summary, &name, globals);
        Ok(summary)
    }

    fn policies(&self) -> Policies {
        let mut request = ActivityPolicy::new();
        request.single_attempt_timeout = self.timeout;
        if let Some(attempts) = self.max_attempts {
            request = request.retry_policy(RetryPolicy::new().maximum_attempts(attempts));
        }
        Policies::new().request(request)
    }
}

/// A duration as policies have it, within the limits that they have.
fn duration(text: &str) -> Result<Duration, String> {
    let policies = Policies::from_value(json!({"request": {"single_attempt_timeout": text}}))
        .map_err(|error| {
            let messages = error.violations().iter().map(|v| v.message.as_str());
            messages.collect::<Vec<_>>().join("; ")
        })?;
    Ok(policies.resolve().single_attempt_timeout)
}

fn say(console: &Console, file: &str, problem: &Problem) {
    let integration = match &problem.integration {
        Some(integration) => format!("{integration}: "),
        None => String::new(),
    };
    for reason in &problem.reasons {
        console.note(format_args!(
            "{file}:{}: {integration}{reason}",
            problem.place
        ));
    }
}

/// Says why the end of the file was not reached, and what was not sent.
fn say_end(summary: &Summary, file: &str, globals: &Globals) {
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
        None => {}
    }
    if globals.verbose {
        for (line, integration) in &summary.unsettled {
            console.note(format_args!("{file}:{line}: {integration}: not sent"));
        }
    } else if !summary.unsettled.is_empty() {
        console.note("with -v, every line that was not sent is named");
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
    /// The end of the file was not reached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ended_early: bool,
}

impl<'a> Report<'a> {
    fn of(summary: &'a Summary) -> Self {
        let tallies = summary.totals.integrations.iter();
        Self {
            read: summary.totals.read,
            invalid: summary.totals.invalid,
            integrations: tallies.map(|(name, tally)| (&**name, *tally)).collect(),
            ended_early: summary.ended_early.is_some(),
        }
    }

    fn to_json(&self) -> String {
        // Numbers under text keys can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The summary for people.
fn show(summary: &Summary) -> String {
    let totals = &summary.totals;
    let has_unsent = !summary.unsettled.is_empty();
    let mut header = vec!["integration", "delivered", "failed", "unsupported"];
    header.extend(has_unsent.then_some("not sent"));
    let mut table = table::new(header);
    table::align_right(&mut table, 1);
    for (name, tally) in &totals.integrations {
        let mut row = vec![
            name.to_string(),
            grouped(tally.delivered),
            grouped(tally.failed),
            grouped(tally.unsupported),
        ];
        row.extend(has_unsent.then(|| grouped(tally.not_sent)));
        table.add_row(row);
    }
    let events = if totals.read == 1 { "event" } else { "events" };
    let invalid = match totals.invalid {
        0 => "all valid".to_owned(),
        invalid => format!("{} invalid", grouped(invalid)),
    };
    format!(
        "{} {events} read, {invalid}\n\n{}",
        grouped(totals.read),
        table::show(&table)
    )
}

/// A request as `--dry-run` prints it.
#[derive(Serialize)]
struct Request<'a> {
    integration: &'a str,
    line: u64,
    #[serde(flatten)]
    preview: Preview,
}

fn dry_run(
    source: Source,
    configuration: &Configuration,
    console: &Console,
) -> Result<Exit, Failure> {
    let name = source.name.clone();
    let mut out = Out::new();
    let mut all_well = true;
    let mut complain = |problem: Problem| {
        all_well = false;
        say(console, &name, &problem);
    };
    for line in source.lines() {
        let Line { number, input, .. } =
            line.map_err(|error| Failure::failed(format!("{name}: {error}")))?;
        match input {
            Ok(input) => preview(number, input, configuration, &mut out, &mut complain)?,
            Err(violations) => complain(Problem::invalid(number, &violations)),
        }
        if out.is_closed() {
            break;
        }
    }
    out.flush()?;
    Ok(Exit::success_if(all_well))
}

/// Prints what every integration would send for one event.
fn preview(
    line: u64,
    mut input: AnyInput,
    configuration: &Configuration,
    out: &mut Out,
    complain: &mut impl FnMut(Problem),
) -> Result<(), Failure> {
    input.stamp(Timestamp::now());
    for integration in configuration.integrations() {
        let previews = integration
            .check(&input)
            .and_then(|()| integration.preview(&input));
        match previews {
            Ok(previews) => {
                for preview in previews {
                    let request = Request {
                        integration: integration.name(),
                        line,
                        preview,
                    };
                    let json = serde_json::to_string(&request)
                        .map_err(|error| Failure::failed(error.to_string()))?;
                    out.line(json)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => complain(Problem::new(
                Place::Line(line),
                integration.name(),
                &error,
                1,
            )),
        }
    }
    Ok(())
}

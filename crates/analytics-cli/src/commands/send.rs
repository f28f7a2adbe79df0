//! `analytics send`

use std::{cell::RefCell, path::PathBuf, time::Duration};

use analytics_kit::{ActivityPolicy, Configuration, Policies, RetryPolicy, engine::Receipt};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    Globals, configuration,
    delivery::{self, OnAccepted, Plan, Summary, Watch},
    duration::duration,
    events::Source,
    exit::{Exit, Failure},
    output::Out,
    preview, report,
    stop::Stop,
    storage::{DataDir, Keeping},
    temporal::{self, Server},
};

/// Deliver a file of events to the configured integrations
///
/// With a directory to keep them in, accepted events outlive the process:
/// what is left from earlier runs is delivered as well, and `analytics drain`
/// delivers what is left from this one.
///
/// Exits with 0 if every event was valid and is delivered (or of a kind that
/// the vendor does not support), 1 if anything was invalid, failed, kept or not
/// sent, and 2 if the command line or the configuration is wrong.
///
/// With --engine temporal, a Temporal server keeps the events, and `analytics
/// worker` delivers them: 500 at a time for each integration, one batch after
/// the other. An event is known by its `message_id`: what an earlier run of the
/// same file delivered is not sent again, and what failed is. An event without
/// a `message_id` is a new one in every run.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Send {
    /// The events, one JSON envelope a line; `-` is standard input
    file: PathBuf,

    /// Deliver to this integration only; may be given several times
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,

    #[command(flatten)]
    data_dir: DataDir,

    /// Keep accepted events in memory, whatever the configuration says
    #[arg(long, conflicts_with = "data_dir")]
    in_memory: bool,

    /// End with one line of JSON on stdout, for scripts
    #[arg(long, conflicts_with = "dry_run")]
    json: bool,

    /// Print a line of JSON on stdout for every event, as soon as it is
    /// accepted: with a directory, when it is on disk
    #[arg(long, conflicts_with = "dry_run")]
    receipts: bool,

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
    /// answer: what is left is kept, or not sent. With a directory, the file is
    /// read to its end first. With Temporal: when no batch has ended for so long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    give_up_after: Duration,

    /// What carries the events
    #[arg(long, value_enum, default_value = "embedded")]
    engine: Engine,

    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The one in this command
    Embedded,
    /// A Temporal server, with `analytics worker`
    Temporal,
}

impl Send {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        self.check()?;
        let configuration = configuration::load(&globals.config)?;
        let configuration = configuration::select(configuration, &self.to)?;
        let source = Source::open(&self.file)?;
        if self.dry_run {
            return preview::dry_run(source, &configuration, &globals.console);
        }
        let out = RefCell::new(Out::new());
        let (summary, how_it_goes_on) = match self.engine {
            Engine::Embedded => (
                self.deliver(source, &configuration, globals, &out).await?,
                format!("`{}` goes on", self.data_dir.how_to_go_on()),
            ),
            Engine::Temporal => (
                self.through_temporal(source, &configuration, globals, &out)
                    .await?,
                "Temporal goes on with them, and the same command waits for them".to_owned(),
            ),
        };
        let mut out = out.into_inner();
        out.flush()?;
        // Who has read all of them may leave before the report.
        let receipts = out.must_be_open();
        let shown = || report::show(&summary, &how_it_goes_on);
        if self.json {
            out.line(report::json(&summary))?;
        } else if self.receipts {
            globals.console.note(shown());
        } else {
            out.line(shown())?;
        }
        out.flush()?;
        if self.receipts {
            receipts?;
        }
        Ok(Exit::success_if(summary.is_all_well()))
    }

    /// Refuses what does not go together.
    fn check(&self) -> Result<(), Failure> {
        if self.engine == Engine::Embedded {
            return match self.server.first_given() {
                Some(option) => Err(Failure::usage(format!(
                    "{option} says where Temporal is: it goes with --engine temporal"
                ))),
                None => Ok(()),
            };
        }
        let of_the_embedded = [
            (
                "--data-dir",
                self.data_dir.is_given(),
                "Temporal keeps the events",
            ),
            ("--in-memory", self.in_memory, "Temporal keeps the events"),
            (
                "--max-attempts",
                self.max_attempts.is_some(),
                "the worker's configuration has the policies",
            ),
            (
                "--timeout",
                self.timeout.is_some(),
                "the worker's configuration has the policies",
            ),
        ];
        match of_the_embedded.iter().find(|(_, is_given, _)| *is_given) {
            Some((option, _, why)) => Err(Failure::usage(format!(
                "{option} does not go with --engine temporal: {why}"
            ))),
            None => Ok(()),
        }
    }

    async fn through_temporal(
        &self,
        source: Source,
        configuration: &Configuration,
        globals: &Globals,
        out: &RefCell<Out>,
    ) -> Result<Summary, Failure> {
        let name = source.name.clone();
        let console = &globals.console;
        let say = console.clone();
        let stop = Stop::when_signalled(console.clone(), move || {
            say.note(
                "stopping: Temporal goes on with what was started, and the same command waits for \
                 it; once more ends at once",
            );
        })?;
        let plan = temporal::Plan {
            server: &self.server,
            integrations: configuration.integrations(),
            stop,
            on_problem: Box::new(|problem| report::say(console, &name, &problem)),
            receipts: self.receipts.then_some(out),
            give_up_after: self.give_up_after,
            console,
        };
        let summary = temporal::carry(plan, source).await?;
        report::say_end(&summary, &name, globals);
        Ok(summary)
    }

    async fn deliver(
        &self,
        source: Source,
        configuration: &Configuration,
        globals: &Globals,
        out: &RefCell<Out>,
    ) -> Result<Summary, Failure> {
        let name = source.name.clone();
        let console = &globals.console;
        let plan = Plan {
            configuration,
            policies: self.policies(),
            keeping: self.keeping(configuration, globals).await?,
            stop: Stop::on_signals(console.clone())?,
            on_problem: Box::new({
                let (console, name) = (console.clone(), name.clone());
                move |problem| report::say(&console, &name, &problem)
            }),
            on_accepted: self.on_accepted(out),
            watch: Some(Watch {
                console,
                give_up_after: self.give_up_after,
                timeout: None,
            }),
        };
        let summary = delivery::carry(plan, Some(source)).await?;
        report::say_end(&summary, &name, globals);
        Ok(summary)
    }

    async fn keeping(
        &self,
        configuration: &Configuration,
        globals: &Globals,
    ) -> Result<Keeping, Failure> {
        if self.in_memory {
            return Ok(Keeping::memory());
        }
        let keeping = Keeping::configured(self.data_dir.over(configuration.storage())).await?;
        if !keeping.is_durable() {
            globals.console.note(
                "accepted events are in memory: those that are not delivered when the process ends \
                 are gone (--data-dir DIR keeps them)",
            );
        }
        Ok(keeping)
    }

    fn on_accepted<'a>(&self, out: &'a RefCell<Out>) -> OnAccepted<'a> {
        if !self.receipts {
            return Box::new(|_, _| Ok(()));
        }
        Box::new(move |line, receipt| {
            let mut out = out.borrow_mut();
            out.line(Accepted::of(line, receipt).to_json())?;
            out.flush()
        })
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

/// A receipt as `--receipts` prints it.
#[derive(Serialize)]
struct Accepted<'a> {
    line: u64,
    message_id: &'a str,
    /// The event's place in the order of acceptance; none, if there was
    /// nothing to keep.
    seq: Option<u64>,
}

impl<'a> Accepted<'a> {
    fn of(line: u64, receipt: &'a Receipt) -> Self {
        Self {
            line,
            message_id: &receipt.message_id,
            seq: receipt.seq,
        }
    }

    fn to_json(&self) -> String {
        // Numbers and text can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

//! `analytics dead-letters`

use std::time::Duration;

use analytics_kit::{
    Kind, Timestamp, Value,
    engine::store::{DeadLetter, DeadLetterId, DeadLetters as _, Filter},
    spec::{visible, visible_json},
    units,
};
use clap::{Args, Subcommand};

use crate::{
    Globals,
    age::age,
    exit::{Exit, Failure},
    output::Out,
    storage::{self, DataDir},
    table,
};

/// See what integrations refused for good, deliver it once more, or forget it
///
/// `list` and `show` work while a service delivers. `replay` and `purge` need
/// the directory for themselves.
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
    /// Accept them once more, each for its own integration and with its own
    /// message id; `analytics drain`, or the service, delivers them
    Replay(Chosen),
    /// Forget them
    Purge(Chosen),
}

/// Show them, the oldest first
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    data_dir: DataDir,

    /// As JSON, one object a line, with the event
    #[arg(long)]
    json: bool,
}

/// Show everything about some of them
#[derive(Debug, Args)]
struct Show {
    /// Their numbers
    #[arg(required = true, value_name = "ID")]
    ids: Vec<DeadLetterId>,

    #[command(flatten)]
    data_dir: DataDir,

    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Which ones to change.
#[derive(Debug, Args)]
struct Chosen {
    #[command(flatten)]
    which: Which,

    /// All of them
    #[arg(long, conflicts_with_all = ["ids", "integration", "kind", "user", "since"])]
    all: bool,

    #[command(flatten)]
    data_dir: DataDir,
}

/// Which dead letters: those for which everything holds.
#[derive(Debug, Args)]
struct Which {
    /// Only these
    #[arg(value_name = "ID")]
    ids: Vec<DeadLetterId>,

    /// Only of this integration
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,

    /// Only of this kind
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,

    /// Only of this user
    #[arg(long, value_name = "USER_ID")]
    user: Option<String>,

    /// Only those refused since this time, or for so long: 2026-03-02T09:00:00Z,
    /// 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_key(text).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        format!("expected one of {known}")
    })
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = units::duration(text).and_then(before_now);
    ago.ok_or_else(|| {
        "expected a time such as 2026-03-02T09:00:00Z, or a duration such as 24h or 7d".to_owned()
    })
}

fn before_now(ago: Duration) -> Option<Timestamp> {
    Timestamp::now().checked_sub(ago).ok()
}

impl Which {
    fn filter(&self) -> Filter {
        let mut filter = Filter::all();
        filter.ids.clone_from(&self.ids);
        filter.integration.clone_from(&self.integration);
        filter.kind = self.kind;
        filter.user_id.clone_from(&self.user);
        filter.since = self.since;
        filter
    }
}

impl DeadLetters {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        match &self.command {
            Command::List(command) => command.run(globals).await,
            Command::Show(command) => command.run(globals).await,
            Command::Replay(chosen) => chosen.replay(globals).await,
            Command::Purge(chosen) => chosen.purge(globals).await,
        }
    }
}

/// How many are read at a time.
const PAGE: usize = 256;

/// How many are shown to people.
const MAX_SHOWN: usize = 1000;

/// Hands over those that a filter lets through, until there is enough.
async fn each(
    data_dir: &DataDir,
    globals: &Globals,
    filter: &Filter,
    mut take: impl FnMut(DeadLetter) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let store = storage::inspect(&data_dir.find(&globals.config)?).await?;
    let mut after = 0;
    loop {
        let page = store.dead_letters(filter, after, PAGE).await;
        let page = page.map_err(|error| Failure::failed(error.message()))?;
        let is_last = page.len() < PAGE;
        for letter in page {
            after = letter.id;
            if !take(letter)? {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

fn json(letter: &DeadLetter) -> Result<String, Failure> {
    serde_json::to_string(letter).map_err(|error| Failure::failed(error.to_string()))
}

impl List {
    async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let filter = self.which.filter();
        let mut out = Out::new();
        if self.json {
            each(&self.data_dir, globals, &filter, |letter| {
                out.line(json(&letter)?)?;
                Ok(!out.is_closed())
            })
            .await?;
            out.flush()?;
            return Ok(Exit::Success);
        }
        let mut table = table::new(["id", "integration", "kind", "user", "age", "why"]);
        table::keep_whole(&mut table, 5);
        let now = Timestamp::now();
        let mut shown = 0;
        let mut has_more = false;
        each(&self.data_dir, globals, &filter, |letter| {
            has_more = shown == MAX_SHOWN;
            if !has_more {
                shown += 1;
                table.add_row([
                    letter.id.to_string(),
                    letter.integration,
                    letter.kind.map_or("?", Kind::as_str).to_owned(),
                    letter.user_id.as_deref().map_or("–".into(), visible),
                    age(letter.refused_at, now),
                    visible(&letter.reason.to_string()),
                ]);
            }
            Ok(!has_more)
        })
        .await?;
        if shown == 0 {
            out.line("no dead letters")?;
        } else {
            out.line(table::show(&table))?;
        }
        out.flush()?;
        if has_more {
            globals.console.note(format_args!(
                "there are more than these {MAX_SHOWN}: --json shows all, filters show fewer"
            ));
        }
        Ok(Exit::Success)
    }
}

impl Show {
    async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let mut filter = Filter::all();
        filter.ids.clone_from(&self.ids);
        let mut missing = self.ids.clone();
        let mut out = Out::new();
        each(&self.data_dir, globals, &filter, |letter| {
            missing.retain(|id| *id != letter.id);
            if self.json {
                out.line(json(&letter)?)?;
            } else {
                out.line(describe(&letter))?;
            }
            Ok(true)
        })
        .await?;
        out.flush()?;
        for id in &missing {
            globals
                .console
                .note(format_args!("there is no dead letter {id}"));
        }
        Ok(Exit::success_if(missing.is_empty()))
    }
}

/// Everything about one of them.
fn describe(letter: &DeadLetter) -> String {
    let event: Option<Value> = serde_json::from_str(letter.input.get()).ok();
    let event = event.and_then(|event| serde_json::to_string_pretty(&event).ok());
    let mut lines = vec![
        format!("id           {}", letter.id),
        format!("integration  {}", letter.integration),
        format!("kind         {}", letter.kind.map_or("?", Kind::as_str)),
        format!("message id   {}", visible(&letter.message_id)),
        format!(
            "user id      {}",
            letter.user_id.as_deref().map_or("–".into(), visible)
        ),
        format!("accepted     {}", letter.accepted_at),
        format!("refused      {}", letter.refused_at),
        format!("attempts     {}", letter.attempts),
        format!("why          {}", visible(&letter.reason.to_string())),
    ];
    if let Some(response) = &letter.reason.response {
        let body = response.body.as_ref().map(Value::to_string);
        lines.push(format!(
            "answer       {} {}",
            response.status_code,
            visible_json(&body.unwrap_or_default())
        ));
    }
    let event = event.unwrap_or_else(|| letter.input.get().to_owned());
    lines.push(visible_json(&event));
    lines.join("\n") + "\n"
}

impl Chosen {
    /// What is done for good is not done to all by omission.
    fn filter(&self) -> Result<Filter, Failure> {
        let filter = self.which.filter();
        if filter == Filter::all() && !self.all {
            return Err(Failure::usage(
                "say which dead letters: their numbers, --integration, --kind, --user or --since; \
                 or --all",
            ));
        }
        Ok(filter)
    }

    async fn replay(&self, globals: &Globals) -> Result<Exit, Failure> {
        let filter = self.filter()?;
        let storage = self.data_dir.find(&globals.config)?;
        let store = storage::open(&storage).await?;
        let replayed = store.replay(&filter).await;
        let replayed = replayed.map_err(|error| Failure::failed(error.message()))?;
        storage::close(&store).await?;
        let mut out = Out::new();
        let counted = storage::counted(replayed.events, "dead letter");
        if replayed.events == 0 {
            out.line(format_args!("replayed: {counted}"))?;
        } else {
            let how = self.data_dir.how_to_go_on();
            out.line(format_args!(
                "replayed: {counted}; `{how}`, or the service, delivers"
            ))?;
        }
        if replayed.detached > 0 {
            globals.console.note(format_args!(
                "{} of them are for integrations that were not configured the last time: they \
                 wait until they are",
                replayed.detached
            ));
        }
        out.flush()?;
        Ok(all_found(&filter, replayed.events, globals))
    }

    async fn purge(&self, globals: &Globals) -> Result<Exit, Failure> {
        let filter = self.filter()?;
        let storage = self.data_dir.find(&globals.config)?;
        let store = storage::open(&storage).await?;
        let purged = store.purge(&filter).await;
        let purged = purged.map_err(|error| Failure::failed(error.message()))?;
        storage::close(&store).await?;
        let mut out = Out::new();
        out.line(format_args!(
            "forgotten: {}",
            storage::counted(purged, "dead letter")
        ))?;
        out.flush()?;
        Ok(all_found(&filter, purged, globals))
    }
}

/// Says if numbers that were given are those of no dead letter: one may have
/// been mistyped.
fn all_found(filter: &Filter, found: u64, globals: &Globals) -> Exit {
    let missing = (filter.ids.len() as u64).saturating_sub(found);
    if missing > 0 {
        globals.console.note(format_args!(
            "{missing} of the numbers given {} of no dead letter, or of one that the other filters \
             leave out",
            if missing == 1 { "is" } else { "are" }
        ));
    }
    Exit::success_if(missing == 0)
}

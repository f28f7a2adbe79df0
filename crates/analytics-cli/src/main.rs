//! The `analytics` command: check events, deliver them, and see what vendors
//! get, with or without an account.

mod age;
mod commands;
mod configuration;
mod delivery;
mod duration;
mod events;
mod exit;
mod ledger;
mod lines;
mod logging;
mod output;
mod pauses;
mod preview;
mod problem;
mod progress;
mod report;
mod scripted;
mod stop;
mod storage;
mod table;
mod temporal;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        dead_letters, demo, drain, erase, integrations, purge, sandbox, send, status, validate,
        worker,
    },
    exit::{Exit, Failure},
    logging::Style,
    output::Console,
};

/// Customer data to many vendors: check events, deliver them, see what arrives.
#[derive(Debug, Parser)]
#[command(name = "analytics", version)]
struct Cli {
    /// Where integrations are configured
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "analytics.toml",
        help_heading = "Global options"
    )]
    config: PathBuf,

    /// Say more on stderr; twice for every request. `RUST_LOG` says it finer
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        help_heading = "Global options"
    )]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Sandbox(sandbox::Sandbox),
    Validate(validate::Validate),
    Send(send::Send),
    Worker(worker::Worker),
    Status(status::Status),
    Drain(drain::Drain),
    DeadLetters(dead_letters::DeadLetters),
    Erase(erase::Erase),
    Purge(purge::Purge),
    Integrations(integrations::Integrations),
}

/// What every command is given.
#[derive(Debug)]
struct Globals {
    config: PathBuf,
    verbose: bool,
    console: Console,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new();
    let exit = run(cli, &console).unwrap_or_else(|failure| {
        console.note(format_args!("error: {}", failure.message));
        failure.exit
    });
    exit.into()
}

fn run(cli: Cli, console: &Console) -> Result<Exit, Failure> {
    let style = match &cli.command {
        Command::Worker(worker) => worker.log_style(),
        _ => Style::Remarks,
    };
    logging::start(style, cli.verbose, console)?;
    let globals = Globals {
        config: cli.config,
        verbose: cli.verbose > 0,
        console: console.clone(),
    };
    match cli.command {
        Command::Validate(command) => command.run(),
        Command::Integrations(command) => command.run(),
        Command::Demo(command) => run_async(command.run(&globals)),
        Command::Sandbox(command) => run_async(command.run(&globals)),
        Command::Send(command) => run_async(command.run(&globals)),
        Command::Worker(command) => run_async(command.run(&globals)),
        Command::Status(command) => run_async(command.run(&globals)),
        Command::Drain(command) => run_async(command.run(&globals)),
        Command::DeadLetters(command) => run_async(command.run(&globals)),
        Command::Erase(command) => run_async(command.run(&globals)),
        Command::Purge(command) => run_async(command.run(&globals)),
    }
}

fn run_async(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(command)
}

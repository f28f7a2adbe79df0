//! `analytics-bench COMMAND`; see the library for what is measured, and how.

use std::{io::Read as _, process::ExitCode};

use analytics_bench::{
    Outcome, backlog::Backlog, compare::Compare, growth::Growth, latency::Latency, sink::Sink,
    subjects::Subject,
};
use clap::{Parser, Subcommand};

/// What analytics costs beside other clients, and where it goes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All clients side by side
    Compare(Compare),
    /// How our cost grows with events and vendors
    Growth(Growth),
    /// How long our `enqueue` takes at a fixed rate
    Latency(Latency),
    /// What a vendor's outage costs, and its end
    Backlog(Backlog),
    /// A server that takes everything, until it is stopped
    Sink {
        /// Where it listens; 0 is a free port
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Ends with its standard input
        #[arg(long, hide = true)]
        while_stdin: bool,
    },
    /// One run of one client in this process, to be looked at by a profiler
    Run {
        /// Which
        subject: Subject,
        /// How many events
        #[arg(long, default_value_t = 200_000)]
        events: u64,
        /// Where the sink is
        #[arg(long)]
        sink: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            warn(&format!("analytics-bench: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome<()> {
    if cfg!(debug_assertions) && matches!(command, Command::Compare(_) | Command::Growth(_)) {
        warn("this is not built with --release: what it says is not what things cost");
    }
    match command {
        Command::Compare(compare) => say(&compare.run(warn)?.to_string()),
        Command::Growth(growth) => say(&growth.run(warn)?.to_string()),
        Command::Latency(latency) => say(&latency.run()?),
        Command::Backlog(backlog) => say(&backlog.run(warn)?),
        Command::Sink { port, while_stdin } => sink(port, while_stdin)?,
        Command::Run {
            subject,
            events,
            sink,
        } => say(&serde_json::to_string(&subject.run(&sink, events)?)?),
    }
    Ok(())
}

fn sink(port: u16, while_stdin: bool) -> Outcome<()> {
    if while_stdin {
        std::thread::spawn(|| {
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            std::process::exit(0);
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let sink = Sink::bind(port).await?;
        say(&format!("http://{}", sink.address()?));
        sink.run().await;
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command's progress and errors")]
fn warn(text: &str) {
    eprintln!("{text}");
}

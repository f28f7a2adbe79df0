//! `analytics sandbox`

use std::net::{Ipv4Addr, SocketAddr};

use analytics_testkit::{Keep, vendors::Stage};
use clap::Args;

use crate::{
    Globals,
    exit::{Exit, Failure},
    output::{Console, Out},
    scripted,
    stop::Stop,
};

/// Run vendors on this machine, to try things without an account
///
/// Prints an `analytics.toml` that leads to them, and then, on stderr, each
/// request that they get, until Ctrl-C. They check requests as strictly as the
/// real vendors document, and remember whom they know as long as they run.
#[derive(Debug, Args)]
pub(crate) struct Sandbox {
    /// Where the first vendor listens; the others take the next ports. Port 0
    /// is any free port, for each
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
}

/// How many requests and items are kept to be shown.
const KEEP: Keep = Keep::Last(1000);

impl Sandbox {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let console = &globals.console;
        let stop = Stop::on_signals(console.clone())?;
        let stages = scripted::start(self.listen, KEEP)
            .await
            .map_err(|error| Failure::failed(error.to_string()))?;
        if stages.is_empty() {
            return Err(Failure::usage("no vendor is compiled in"));
        }
        let mut out = Out::new();
        out.line(scripted::configuration(&stages))?;
        out.flush()?;
        for stage in &stages {
            console.note(format_args!("{:10} {}", stage.name, stage.base_url));
        }
        console.note("Ctrl-C ends it.\n");
        let shown = stages
            .into_iter()
            .map(|stage| tokio::spawn(show(stage, console.clone())))
            .collect::<Vec<_>>();
        stop.requested().await;
        for task in shown {
            task.abort();
        }
        Ok(Exit::Success)
    }
}

/// Shows each request, and what was wrong with it.
async fn show(stage: Stage, console: Console) {
    let name = stage.name;
    let mut last = 0;
    loop {
        let requests = stage.requests_after(last).await;
        let (received, violations) = (stage.received(), stage.violations());
        for request in requests {
            last = request.number;
            let taken = received.iter().filter(|r| r.request == last).count();
            let status = request
                .status
                .map_or("no answer".to_owned(), |s| s.to_string());
            console.note(format_args!(
                "{name:10} {status} {} {}: {taken} received",
                request.request.method, request.request.path
            ));
            for violation in violations.iter().filter(|v| v.request == last) {
                console.note(format_args!(
                    "{name:10} {:?}: {}: {}",
                    violation.kind, violation.rule, violation.reason
                ));
            }
        }
    }
}

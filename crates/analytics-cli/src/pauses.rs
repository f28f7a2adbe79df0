//! Saying why nothing is sent for now.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use analytics_kit::{
    Engine, Timestamp,
    engine::{IntegrationHealth, State},
};

use crate::output::Console;

const FIRST: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_secs(5);

/// Runs until it is dropped: says of each vendor that is left alone, and that
/// something waits for, until when that is and why. Of one that is down, once.
pub(crate) async fn say(console: &Console, engine: &Engine) -> Infallible {
    let mut said = BTreeMap::new();
    tokio::time::sleep(FIRST).await;
    loop {
        // A store that cannot say is not asked again at once.
        if let Ok(health) = engine.health().await {
            for one in &health.integrations {
                let pause = pause(one);
                let name = one.status.integration.clone();
                if pause.is_none() {
                    said.remove(&name);
                } else if said.insert(name, pause) != Some(pause)
                    && let Some(line) = describe(one)
                {
                    console.note(line);
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What makes one pause another than the last.
fn pause(one: &IntegrationHealth) -> Option<Timestamp> {
    let until = one.until.filter(|_| one.status.pending > 0)?;
    Some(one.down_since.unwrap_or(until))
}

fn describe(one: &IntegrationHealth) -> Option<String> {
    let until = one.until?;
    // Nobody waits for a part of a second.
    let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
    let (known, but) = match one.state {
        State::Down => ("it is down", ": "),
        // The error may have come after that.
        _ => ("it has asked for a pause", "; the last error: "),
    };
    let why = match &one.last_error {
        Some(error) => format!("{known}{but}{error}"),
        None => known.to_owned(),
    };
    let name = &one.status.integration;
    Some(format!("{name}: nothing is sent until {until}: {why}"))
}

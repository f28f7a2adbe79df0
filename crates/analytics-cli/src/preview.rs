//! What would be sent.

use analytics_kit::{
    AnyInput, Configuration, ErrorKind, IntegrationExt as _, Timestamp, spec::integration::Preview,
};
use serde::Serialize;

use crate::{
    events::{Line, Source},
    exit::{Exit, Failure},
    output::{Console, Out},
    problem::{Place, Problem},
    report::say,
};

/// A request as `--dry-run` prints it.
#[derive(Serialize)]
struct Request<'a> {
    integration: &'a str,
    line: u64,
    #[serde(flatten)]
    preview: Preview,
}

/// Prints the requests of a whole file.
pub(crate) fn dry_run(
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

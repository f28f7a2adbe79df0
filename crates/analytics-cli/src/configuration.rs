//! The configuration file, and the integrations that a command is to use.

use std::{io, path::Path};

use analytics_kit::{Configuration, spec::nearest};

use crate::exit::Failure;

const HOW_TO_MAKE_ONE: &str = "\
Write one:

    [integrations.segment]
    write_key = { env = \"SEGMENT_WRITE_KEY\" }

or try things without an account: `analytics sandbox > analytics.toml` in
another terminal, or `analytics demo`.";

/// Reads the file, which must have an integration.
pub(crate) fn load(path: &Path) -> Result<Configuration, Failure> {
    let configuration = read(path)?;
    if configuration.integrations().is_empty() {
        return Err(Failure::usage(format!(
            "{} configures no integration. {HOW_TO_MAKE_ONE}",
            path.display()
        )));
    }
    Ok(configuration)
}

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Configuration, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no configuration at {shown}. {HOW_TO_MAKE_ONE}")
            }
            _ => format!("{shown}: {error}"),
        })
    })?;
    Configuration::from_toml(&text)
        .map_err(|error| Failure::usage(format!("{shown}: {}", error.message())))
}

/// Keeps the integrations of these names; all of them, if no name is given.
pub(crate) fn select(
    configuration: Configuration,
    names: &[String],
) -> Result<Configuration, Failure> {
    if names.is_empty() {
        return Ok(configuration);
    }
    let known: Vec<_> = configuration
        .integrations()
        .iter()
        .map(|integration| integration.name())
        .collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            return Err(Failure::usage(match nearest(name, known.iter().copied()) {
                Some(near) => {
                    format!("no integration is called `{name}`: did you mean `{near}`?")
                }
                None => format!(
                    "no integration is called `{name}`: configured are {}",
                    known.join(", ")
                ),
            }));
        }
    }
    Ok(configuration.retain(|integration| names.iter().any(|name| name == integration.name())))
}

//! Where accepted events are kept, as a file configures it.

use std::{path::PathBuf, time::Duration};

use analytics_spec::{Error, Map, Value, config::unknown};

use crate::{
    configuration::{document, table},
    units,
    vendors::Env,
};

const KEYS: [&str; 4] = [
    "data_dir",
    "max_bytes",
    "dead_letters_max_age",
    "dead_letters_max_bytes",
];

/// Where accepted events are kept, as the table `[engine]` configures it:
///
/// ```toml
/// [engine]
/// data_dir = "/var/lib/shop/analytics"   # in memory, if absent
/// max_bytes = "10GiB"
/// dead_letters_max_age = "30d"
/// dead_letters_max_bytes = "256MiB"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Storage {
    /// The directory of a store that outlives the process; in memory, if
    /// absent.
    pub data_dir: Option<PathBuf>,
    /// The most that the store may hold.
    pub max_bytes: Option<u64>,
    /// How long what was refused for good is kept.
    pub dead_letters_max_age: Option<Duration>,
    /// The most that what was refused for good may take.
    pub dead_letters_max_bytes: Option<u64>,
}

impl Storage {
    /// Reads the table `[engine]` of a file, and leaves the integrations and
    /// their credentials alone.
    ///
    /// # Errors
    ///
    /// See [`Configuration::from_toml`](crate::Configuration::from_toml).
    pub fn from_toml(toml: &str) -> Result<Self, Error> {
        Self::take(&mut document(toml)?, &|name| std::env::var(name).ok())
    }

    pub(crate) fn take(document: &mut Map<String, Value>, env: Env<'_>) -> Result<Self, Error> {
        match document.remove("engine") {
            Some(value) => Self::read(table("engine", value)?, env)
                .map_err(|error| Error::configuration(format!("engine: {}", error.message()))),
            None => Ok(Self::default()),
        }
    }

    fn read(table: Map<String, Value>, env: Env<'_>) -> Result<Self, Error> {
        let mut storage = Self::default();
        for (key, value) in table {
            match key.as_str() {
                "data_dir" => storage.data_dir = Some(directory(value, env)?),
                "max_bytes" => storage.max_bytes = Some(bytes(&key, &value)?),
                "dead_letters_max_age" => {
                    storage.dead_letters_max_age = Some(duration(&key, &value)?);
                }
                "dead_letters_max_bytes" => {
                    storage.dead_letters_max_bytes = Some(bytes(&key, &value)?);
                }
                _ => return Err(unknown(&key, &KEYS)),
            }
        }
        Ok(storage)
    }

    /// Opens the store; `None`, if accepted events are kept in memory.
    ///
    /// # Errors
    ///
    /// Another process has it open, it is damaged, or the feature is not
    /// compiled in.
    #[cfg(feature = "sqlite")]
    pub async fn open(
        &self,
    ) -> Result<Option<std::sync::Arc<analytics_engine::store::SqliteStore>>, Error> {
        let Some(dir) = &self.data_dir else {
            return Ok(None);
        };
        let mut options = analytics_engine::store::SqliteStore::options(dir);
        if let Some(bytes) = self.max_bytes {
            options = options.max_bytes(bytes);
        }
        if let Some(age) = self.dead_letters_max_age {
            options = options.dead_letters_max_age(age);
        }
        if let Some(bytes) = self.dead_letters_max_bytes {
            options = options.dead_letters_max_bytes(bytes);
        }
        Ok(Some(std::sync::Arc::new(options.open().await?)))
    }

    #[cfg(all(feature = "engine", not(feature = "sqlite")))]
    #[expect(clippy::unused_async, reason = "with the feature, it opens a store")]
    pub(crate) async fn open(
        &self,
    ) -> Result<Option<std::sync::Arc<analytics_engine::MemoryStore>>, Error> {
        match self.data_dir {
            Some(_) => Err(Error::configuration(
                "engine: `data_dir` needs a store that is not compiled in: turn on the feature \
                 `sqlite` of analytics-kit",
            )),
            None => Ok(None),
        }
    }
}

/// A path, or `{ env = "VAR" }`.
fn directory(value: Value, env: Env<'_>) -> Result<PathBuf, Error> {
    let text = match value {
        Value::String(text) => text,
        Value::Object(table) if table.len() == 1 => match table.get("env") {
            Some(Value::String(name)) => env(name).ok_or_else(|| {
                Error::configuration(format!(
                    "`data_dir`: the environment variable {name} is not set"
                ))
            })?,
            _ => return Err(expected("data_dir", "a path, or { env = \"VAR\" }")),
        },
        _ => return Err(expected("data_dir", "a path, or { env = \"VAR\" }")),
    };
    if text.trim().is_empty() {
        return Err(expected("data_dir", "a path that is not blank"));
    }
    Ok(text.into())
}

fn bytes(key: &str, value: &Value) -> Result<u64, Error> {
    let bytes = match value {
        Value::String(text) => units::bytes(text),
        Value::Number(number) => number.as_u64(),
        _ => None,
    };
    bytes.ok_or_else(|| expected(key, "a size such as \"10GiB\", or a number of bytes"))
}

fn duration(key: &str, value: &Value) -> Result<Duration, Error> {
    let duration = value.as_str().and_then(units::duration);
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| expected(key, "a duration such as \"30d\" or \"12h\""))
}

fn expected(key: &str, what: &str) -> Error {
    Error::configuration(format!("`{key}`: expected {what}"))
}

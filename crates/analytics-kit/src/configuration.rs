//! Integrations from a configuration.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use analytics_spec::{
    Error, Integration, Map, Policies, Value,
    config::{Instance, VendorConfig, unknown},
};

use crate::{
    storage::Storage,
    vendors::{Env, VENDORS, Vendor},
};

/// The tables of a file.
const TABLES: [&str; 2] = ["engine", "integrations"];

/// The keys that every integration's table may have, whatever the vendor.
const COMMON_KEYS: [&str; 3] = ["vendor", "policies", "allow_policies_override"];

/// Integrations as a file configures them:
///
/// ```toml
/// [integrations.segment]
/// write_key = { env = "SEGMENT_KEY_OF_THE_SHOP" }
///
/// [integrations.mixpanel-eu]        # the instance's name
/// vendor = "mixpanel"               # the name, if absent
/// region = "eu"                     # the token: from MIXPANEL_PROJECT_TOKEN
/// allow_policies_override = true
///
/// [integrations.mixpanel-eu.policies.request]
/// single_attempt_timeout = "5s"
/// retry_policy = { maximum_attempts = 20 }
///
/// [engine]
/// data_dir = "/var/lib/shop/analytics"   # else accepted events are in memory
/// ```
///
/// Any text may be `{ env = "VAR" }`. A key of the vendor that is absent is
/// filled from the variable `VENDOR_KEY`, if that is set.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    integrations: Vec<Arc<dyn Integration>>,
    storage: Storage,
}

impl Configuration {
    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or what [`from_toml`](Self::from_toml) finds.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Reader::default().read_file(path)
    }

    /// Reads TOML. Variables come from the process's environment.
    ///
    /// # Errors
    ///
    /// A [configuration](analytics_spec::ErrorKind::Configuration) error that
    /// says where: it is not TOML, a key is unknown (with the nearest known
    /// one), missing or wrong, a variable is not set, or a vendor is not
    /// compiled in (with the feature).
    pub fn from_toml(toml: &str) -> Result<Self, Error> {
        Reader::default().read_toml(toml)
    }

    /// Reads what may name a vendor of one's own as well:
    ///
    /// ```no_run
    /// # use analytics_kit::{Configuration, Error};
    /// # fn read<Warehouse: analytics_kit::spec::config::VendorConfig>() -> Result<(), Error> {
    /// let configuration = Configuration::with_vendor::<Warehouse>().read_file("analytics.toml")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_vendor<C: VendorConfig>() -> Reader {
        Reader::default().with_vendor::<C>()
    }

    /// Reads TOML, with variables from elsewhere.
    ///
    /// # Errors
    ///
    /// See [`from_toml`](Self::from_toml).
    pub fn from_toml_with(toml: &str, env: Env<'_>) -> Result<Self, Error> {
        Reader::default().read_toml_with(toml, env)
    }

    /// Where accepted events are kept.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Says where accepted events are kept, whatever the file says.
    #[must_use]
    pub fn with_storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// The integrations, sorted by name.
    #[must_use]
    pub fn integrations(&self) -> &[Arc<dyn Integration>] {
        &self.integrations
    }

    /// Leaves out every integration that `keep` does not want.
    #[must_use]
    pub fn retain(mut self, keep: impl Fn(&dyn Integration) -> bool) -> Self {
        self.integrations.retain(|i| keep(i.as_ref()));
        self
    }

    /// An engine that carries events to all of them. Opens the store, if one is
    /// configured.
    ///
    /// # Errors
    ///
    /// The store cannot be opened: another process has it, or it is damaged.
    #[cfg(feature = "engine")]
    pub async fn engine(self) -> Result<analytics_engine::Builder, Error> {
        let mut builder = analytics_engine::Engine::builder();
        if let Some(store) = self.storage.open().await? {
            builder = builder.store(store);
        }
        let integrations = self.integrations.into_iter();
        Ok(integrations.fold(builder, analytics_engine::Builder::integration))
    }

    /// A worker on Temporal of all of them. Where accepted events are kept is
    /// Temporal's business then, and not this configuration's.
    ///
    /// # Errors
    ///
    /// An integration's policies or kinds are wrong.
    #[cfg(feature = "temporal")]
    pub fn temporal_worker(&self) -> Result<analytics_temporal::TemporalWorker, Error> {
        let mut worker = analytics_temporal::TemporalWorker::new();
        for integration in &self.integrations {
            worker.integration(Arc::clone(integration))?;
        }
        Ok(worker)
    }
}

/// Reads configurations that may name vendors of one's own beside [`VENDORS`], and
/// rather than one of those by the same name.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    own: Vec<Vendor>,
}

impl Reader {
    /// Knows another vendor, by its [name](VendorConfig::VENDOR). A second one by the
    /// same name is an error when something is read.
    #[must_use]
    pub fn with_vendor<C: VendorConfig>(mut self) -> Self {
        self.own.push(Vendor::of::<C>());
        self
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// See [`Configuration::from_file`].
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<Configuration, Error> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::configuration(format!("{}: {error}", path.display())))?;
        self.read_toml(&text).map_err(|error| {
            Error::configuration(format!("{}: {}", path.display(), error.message()))
        })
    }

    /// Reads TOML. Variables come from the process's environment.
    ///
    /// # Errors
    ///
    /// See [`Configuration::from_toml`].
    pub fn read_toml(&self, toml: &str) -> Result<Configuration, Error> {
        self.read_toml_with(toml, &|name| std::env::var(name).ok())
    }

    /// Reads TOML, with variables from elsewhere.
    ///
    /// # Errors
    ///
    /// See [`Configuration::from_toml`].
    pub fn read_toml_with(&self, toml: &str, env: Env<'_>) -> Result<Configuration, Error> {
        self.names_differ()?;
        let mut document = document(toml)?;
        let storage = Storage::take(&mut document, env)?;
        let mut integrations = Vec::new();
        if let Some(value) = document.remove("integrations") {
            for (name, table) in table("integrations", value)? {
                let path = format!("integrations.{name}");
                let integration = self.instance(&name, table, env).map_err(|error| {
                    Error::configuration(format!("{path}: {}", error.message()))
                })?;
                integrations.push(integration);
            }
        }
        Ok(Configuration {
            integrations,
            storage,
        })
    }

    /// Of two vendors of one's own by one name, nobody could say which is meant.
    fn names_differ(&self) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        match self.own.iter().find(|vendor| !names.insert(vendor.name)) {
            Some(twice) => Err(Error::configuration(format!(
                "two vendors called `{}` were given with `with_vendor`: each needs a \
                 `VendorConfig::VENDOR` of its own",
                twice.name
            ))),
            None => Ok(()),
        }
    }

    /// Every vendor that may be named.
    fn vendors(&self) -> impl Iterator<Item = &Vendor> + Clone {
        self.own.iter().chain(VENDORS)
    }

    fn vendor(&self, name: &str, wrong: &str) -> Result<&Vendor, Error> {
        if let Some(vendor) = self.vendors().find(|vendor| vendor.name == name) {
            return Ok(vendor);
        }
        let names = self.vendors().map(|vendor| vendor.name);
        Err(match analytics_spec::nearest(name, names.clone()) {
            Some(near) => Error::configuration(format!("{wrong}: did you mean `{near}`?")),
            None => Error::configuration(format!(
                "{wrong}: set `vendor` to one of {}",
                names.collect::<Vec<_>>().join(", ")
            )),
        })
    }

    fn instance(
        &self,
        name: &str,
        value: Value,
        env: Env<'_>,
    ) -> Result<Arc<dyn Integration>, Error> {
        let mut table = table(name, value)?;
        let vendor = match table.remove("vendor") {
            // A text of the table is not repeated: it may be a credential.
            Some(Value::String(vendor)) => self.vendor(&vendor, "`vendor` is none of the vendors"),
            Some(_) => return Err(Error::configuration("`vendor`: expected a string")),
            None => self.vendor(name, &format!("there is no vendor `{name}`")),
        }?;
        let known: Vec<_> = COMMON_KEYS
            .into_iter()
            .chain(vendor.keys()?.iter().copied())
            .collect();
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(unknown(key, &known));
        }
        let mut instance = Instance::new(name);
        if let Some(policies) = table.remove("policies") {
            let policies = Policies::from_value(policies)
                .map_err(|error| Error::configuration(error.to_string()))?;
            instance = instance.policies(policies);
        }
        match table.remove("allow_policies_override") {
            Some(Value::Bool(allow)) => instance = instance.allow_policies_override(allow),
            Some(_) => {
                return Err(Error::configuration(
                    "`allow_policies_override`: expected true or false",
                ));
            }
            None => {}
        }
        vendor.build(table, instance, env)
    }
}

/// The tables of a file; no others than there may be.
pub(crate) fn document(toml: &str) -> Result<Map<String, Value>, Error> {
    let document: Map<String, Value> =
        toml::from_str(toml).map_err(|error| not_toml(toml, &error))?;
    match document.keys().find(|key| !TABLES.contains(&key.as_str())) {
        Some(key) => Err(unknown(key, &TABLES)),
        None => Ok(document),
    }
}

pub(crate) fn table(name: &str, value: Value) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Object(table) => Ok(table),
        _ => Err(Error::configuration(format!("`{name}`: expected a table"))),
    }
}

/// TOML's own error repeats the line that it is about, in which there may be a
/// credential.
fn not_toml(toml: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| toml.get(..span.start));
    let place = before.map_or_else(String::new, |before| {
        format!("line {}: ", before.matches('\n').count() + 1)
    });
    Error::configuration(format!("{place}{}", error.message()))
}

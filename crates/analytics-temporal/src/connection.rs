//! The way to a Temporal server.

use std::{fmt, path::PathBuf};

use analytics_spec::{Error, ErrorKind, Secret};
use temporalio_client::{
    ClientOptions, ConnectionOptions,
    envconfig::{DataSource, LoadClientConfigProfileOptions},
};
use temporalio_common::envconfig::{
    ClientConfigProfile, ClientConfigTLS, load_client_config_profile,
};

/// The task queue, if none is given.
pub const TASK_QUEUE: &str = "analytics";

/// Where Temporal is, and who asks.
///
/// What is not set here comes from the environment and from the profile of
/// Temporal's own [configuration file](https://docs.temporal.io/develop/environment-configuration),
/// as for every Temporal program: `TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
/// `TEMPORAL_API_KEY`, `TEMPORAL_TLS_*`, `TEMPORAL_PROFILE`,
/// `TEMPORAL_CONFIG_FILE`; and the task queue from `TEMPORAL_TASK_QUEUE`.
/// Without any: `localhost:7233`, `default`, and the task queue `analytics`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// `host:port`, or a URL.
    pub address: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The task queue that workers poll and clients start workflows on.
    pub task_queue: Option<String>,
    /// The API key. With one, the connection is by TLS unless that is off.
    pub api_key: Option<Secret>,
    /// Whether to use TLS.
    pub tls: Option<bool>,
    /// The certificate of the authority to trust instead of the system's: a PEM
    /// file.
    pub tls_server_ca: Option<PathBuf>,
    /// The name in the server's certificate, if not the address's.
    pub tls_server_name: Option<String>,
    /// The own certificate: a PEM file.
    pub tls_cert: Option<PathBuf>,
    /// The own certificate's key: a PEM file.
    pub tls_key: Option<PathBuf>,
    /// The profile in Temporal's configuration file.
    pub profile: Option<String>,
    /// Temporal's configuration file, if not where it usually is.
    pub config_file: Option<PathBuf>,
    /// Leaves the environment and the configuration file out.
    pub isolated: bool,
}

impl ConnectOptions {
    /// Whatever the environment and Temporal's configuration file say.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// This address, and nothing from the environment or a file.
    #[must_use]
    pub fn isolated(address: impl Into<String>) -> Self {
        Self {
            address: Some(address.into()),
            isolated: true,
            ..Self::default()
        }
    }

    /// Sets the address: `host:port`, or a URL.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets the task queue.
    #[must_use]
    pub fn task_queue(mut self, task_queue: impl Into<String>) -> Self {
        self.task_queue = Some(task_queue.into());
        self
    }

    /// Sets the API key.
    #[must_use]
    pub fn api_key(mut self, api_key: impl Into<Secret>) -> Self {
        self.api_key = Some(api_key.into());
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// The environment, the file or these options are
    /// [wrong](ErrorKind::Configuration), or the server cannot be
    /// [reached](ErrorKind::Unavailable).
    pub async fn connect(self) -> Result<Connection, Error> {
        let task_queue = self.task_queue.clone().or_else(|| {
            let variable = std::env::var("TEMPORAL_TASK_QUEUE").ok();
            variable.filter(|queue| !self.isolated && !queue.is_empty())
        });
        let profile = self.profile()?;
        let namespace = profile.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let mut options = ConnectionOptions::try_from(profile).map_err(|e| wrong(&e))?;
        if options.target.scheme() == "https" && options.tls_options.is_none() {
            options.tls_options = Some(temporalio_client::TlsOptions::default());
        }
        let address = options.target.to_string();
        let unreachable = |error: &dyn fmt::Display| {
            Error::new(
                ErrorKind::Unavailable,
                format!("Temporal at {address}, namespace {namespace}: {error}"),
            )
        };
        let connection = temporalio_client::Connection::connect(options)
            .await
            .map_err(|error| unreachable(&error))?;
        let options = ClientOptions::new(namespace.clone()).build();
        let client = temporalio_client::Client::new(connection, options)
            .map_err(|error| unreachable(&error))?;
        Ok(Connection {
            client,
            address,
            namespace,
            task_queue: task_queue.unwrap_or_else(|| TASK_QUEUE.to_owned()),
        })
    }

    /// What the environment and the file say, under what is set here.
    fn profile(self) -> Result<ClientConfigProfile, Error> {
        let file = self.config_file.as_deref();
        let load = LoadClientConfigProfileOptions::builder()
            .maybe_config_source(file.map(|path| DataSource::Path(path.display().to_string())))
            .maybe_config_file_profile(self.profile)
            .build();
        let mut profile = if self.isolated {
            ClientConfigProfile::default()
        } else {
            load_client_config_profile(load, None).map_err(|error| wrong(&error))?
        };
        profile.address = self.address.or(profile.address);
        profile.namespace = self.namespace.or(profile.namespace);
        if let Some(key) = self.api_key {
            profile.api_key = Some(key.expose().to_owned());
        }
        let path = |path: PathBuf| DataSource::Path(path.display().to_string());
        let files = [&self.tls_server_ca, &self.tls_cert, &self.tls_key];
        let is_asked = files.iter().any(|file| file.is_some()) || self.tls_server_name.is_some();
        if self.tls.is_some() || is_asked {
            let tls = profile.tls.get_or_insert_with(ClientConfigTLS::default);
            tls.disabled = Some(self.tls == Some(false));
            tls.server_ca_cert = self.tls_server_ca.map(path).or(tls.server_ca_cert.take());
            tls.server_name = self.tls_server_name.or(tls.server_name.take());
            tls.client_cert = self.tls_cert.map(path).or(tls.client_cert.take());
            tls.client_key = self.tls_key.map(path).or(tls.client_key.take());
        }
        Ok(profile)
    }
}

fn wrong(error: &dyn fmt::Display) -> Error {
    // The first line says where; the others repeat what stands there, which may
    // be the API key.
    let error = error.to_string();
    let place = error.lines().next().unwrap_or_default();
    Error::configuration(format!("Temporal's configuration: {place}"))
}

/// A connection to a namespace of a Temporal server, and a task queue of it.
#[derive(Clone)]
pub struct Connection {
    client: temporalio_client::Client,
    address: String,
    namespace: String,
    task_queue: String,
}

impl Connection {
    /// The SDK's own client, for what this crate has no call for.
    #[must_use]
    pub fn client(&self) -> &temporalio_client::Client {
        &self.client
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The task queue that workers poll and clients start workflows on.
    #[must_use]
    pub fn task_queue(&self) -> &str {
        &self.task_queue
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .field("task_queue", &self.task_queue)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_error_repeats_the_line_that_it_is_about() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("temporal.toml");
        for wrong in ["api_key = \"hunter2\" x", "api_key = 42_4242"] {
            std::fs::write(&file, format!("[profile.default]\n{wrong}\n")).unwrap();
            let options = ConnectOptions {
                config_file: Some(file.clone()),
                ..ConnectOptions::default()
            };
            let error = options.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let said = format!("{error} {error:?}");
            assert!(said.contains("line 2"), "{said}");
            assert!(
                !said.contains("hunter2") && !said.contains("4242"),
                "{said}"
            );
        }
    }
}

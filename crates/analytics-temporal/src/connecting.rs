//! Where a Temporal server is, and who asks: from options, the environment and
//! Temporal's own configuration file.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use analytics_spec::{Error, ErrorKind, Secret};
use temporalio_client::{
    ClientOptions, ConnectionOptions,
    envconfig::{DataSource, LoadClientConfigProfileOptions},
    errors::ClientConnectError,
};
use temporalio_common::envconfig::{
    ClientConfigProfile, ClientConfigTLS, load_client_config_profile,
};
use url::{Host, Url};

use crate::{
    Connection,
    refusals::{root_cause, said, status_kind},
};

/// The task queue, if none is given.
pub const TASK_QUEUE: &str = "analytics";

/// How long a server may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where Temporal is, and who asks.
///
/// What is not set here comes from the environment and from the profile of
/// Temporal's own [configuration file](https://docs.temporal.io/develop/environment-configuration),
/// as for every Temporal program: `TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
/// `TEMPORAL_API_KEY`, `TEMPORAL_TLS_*`, `TEMPORAL_PROFILE`,
/// `TEMPORAL_CONFIG_FILE`; and the task queue from `TEMPORAL_TASK_QUEUE`.
/// Without any: `localhost:7233`, `default`, and the task queue `analytics`.
///
/// A server's certificate is always verified: with
/// `TEMPORAL_TLS_DISABLE_HOST_VERIFICATION`, nothing connects.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// `host:port`, a URL, or a host with the port 7233.
    pub address: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The task queue that workers poll and clients start workflows on.
    pub task_queue: Option<String>,
    /// The API key. With one, the connection is by TLS unless that is off.
    pub api_key: Option<Secret>,
    /// A file with the API key alone, if that is not set here.
    pub api_key_file: Option<PathBuf>,
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

    /// Sets the [address](Self::address).
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
    /// [wrong](ErrorKind::Configuration), or there is no such namespace; the
    /// server cannot be [reached](ErrorKind::Unavailable), or does not let this
    /// client [in](ErrorKind::Unauthorized).
    pub async fn connect(self) -> Result<Connection, Error> {
        let env = if self.isolated {
            HashMap::new()
        } else {
            variables(std::env::vars_os())?
        };
        let Resolved {
            options,
            namespace,
            task_queue,
        } = self.resolve(&env)?;
        let address = options.target.to_string();
        let failed = |kind: ErrorKind, why: String| {
            Error::new(kind, format!("Temporal at {address}: {why}"))
        };
        let connection = temporalio_client::Connection::connect(options)
            .await
            .map_err(|error| match &error {
                ClientConnectError::SystemInfoCallError(status) => {
                    failed(status_kind(status), said(status))
                }
                error => failed(ErrorKind::Unavailable, unreachable(&root_cause(error))),
            })?;
        let options = ClientOptions::new(namespace.clone()).build();
        let client = temporalio_client::Client::new(connection, options)
            .map_err(|error| failed(ErrorKind::Internal, error.to_string()))?;
        let connection = Connection {
            client,
            address: address.clone(),
            namespace,
            task_queue,
        };
        connection.check_namespace().await?;
        Ok(connection)
    }

    /// What the environment and the file say, under what is set here.
    fn resolve(self, env: &HashMap<String, String>) -> Result<Resolved, Error> {
        let variable = |name: &str| env.get(name).cloned();
        let task_queue = self.task_queue.clone().or_else(|| {
            variable("TEMPORAL_TASK_QUEUE").filter(|queue| !self.isolated && !queue.is_empty())
        });
        if !self.isolated && self.tls.is_none() {
            switch(variable("TEMPORAL_TLS").as_deref())?;
        }
        let profile = self.profile(env)?;
        let namespace = profile.namespace.clone();
        for (what, name) in [("task queue", &task_queue), ("namespace", &namespace)] {
            if name.as_deref().is_some_and(|name| name.trim().is_empty()) {
                return Err(wrong(&format!("the {what} has no name")));
            }
        }
        let mut options = ConnectionOptions::try_from(profile).map_err(|e| wrong(&e))?;
        check_target(&options.target)?;
        options.connect_timeout = Some(CONNECT_TIMEOUT);
        if options.target.scheme() == "https" && options.tls_options.is_none() {
            options.tls_options = Some(temporalio_client::TlsOptions::default());
        }
        // With `http`, the SDK would leave TLS out without a word: the default
        // address has that.
        if options.tls_options.is_some() {
            let _ = options.target.set_scheme("https");
        }
        if tells_the_key(&options) {
            // Behind a proxy that encrypts, this is right.
            tracing::warn!(
                address = %options.target,
                "TLS is off: the API key and the events leave this machine unencrypted"
            );
        }
        Ok(Resolved {
            options,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            task_queue: task_queue.unwrap_or_else(|| TASK_QUEUE.to_owned()),
        })
    }

    fn profile(self, env: &HashMap<String, String>) -> Result<ClientConfigProfile, Error> {
        // Temporal's own reader takes a file that is not there for an empty one.
        let file = self.config_file.as_deref().map(read).transpose()?;
        let load = LoadClientConfigProfileOptions::builder()
            .maybe_config_source(file)
            .maybe_config_file_profile(self.profile)
            // What is misspelt is not set, and nobody would know.
            .config_file_strict(true)
            .build();
        let mut profile = if self.isolated {
            ClientConfigProfile::default()
        } else {
            let loaded = load_client_config_profile(load, Some(env));
            loaded.map_err(|error| match &self.config_file {
                Some(file) => wrong(&format!("{}: {error}", file.display())),
                None => wrong(&error),
            })?
        };
        // A variable that is empty is not set.
        let said = |text: &String| !text.is_empty();
        let address = self.address.or(profile.address.filter(said));
        profile.address = address.map(|address| url_of(&address)).transpose()?;
        profile.namespace = self.namespace.or(profile.namespace.filter(said));
        let own = self.api_key.map(|key| key.expose().to_owned());
        profile.api_key = match (own, self.api_key_file, profile.api_key.filter(said)) {
            (None, Some(file), _) => Some(key_of(&file)?),
            (own, _, of_profile) => {
                let key = own.or(of_profile);
                key.map(|key| sendable("the API key", &key)).transpose()?
            }
        };
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
        if let Some(tls) = profile
            .tls
            .as_mut()
            .filter(|tls| tls.disabled != Some(true))
        {
            let files = [
                &mut tls.server_ca_cert,
                &mut tls.client_cert,
                &mut tls.client_key,
            ];
            for file in files.into_iter().flatten() {
                if let DataSource::Path(path) = file {
                    *file = read(Path::new(path))?;
                }
            }
            // The SDK would verify it all the same, without a word.
            if tls.disable_host_verification {
                return Err(wrong(
                    &"the server's certificate is always verified: leave out \
                      disable_host_verification and TEMPORAL_TLS_DISABLE_HOST_VERIFICATION, and \
                      name its authority and the name in it instead",
                ));
            }
        }
        Ok(profile)
    }
}

/// Where to connect, when everything is known.
struct Resolved {
    options: ConnectionOptions,
    namespace: String,
    task_queue: String,
}

/// Whether the API key goes to another machine as it is.
fn tells_the_key(options: &ConnectionOptions) -> bool {
    let is_here = match options.target.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    options.api_key.is_some() && options.tls_options.is_none() && !is_here
}

/// What a server that speaks no TLS answers says nothing to whoever reads it.
fn unreachable(cause: &str) -> String {
    if cause.contains("InvalidContentType") {
        return format!(
            "it does not speak TLS, which is on: for an API key, for a certificate, or because the \
             address or an option says so ({cause})"
        );
    }
    cause.to_owned()
}

/// Refuses an address of which the SDK would leave something out.
fn check_target(target: &Url) -> Result<(), Error> {
    // Nobody would be told them, and logs would be.
    if !target.username().is_empty() || target.password().is_some() {
        return Err(wrong(
            &"the address has credentials in it, which Temporal does not take: it takes an API \
              key, or a certificate",
        ));
    }
    let is_bare = target.path().trim_matches('/').is_empty()
        && target.query().is_none()
        && target.fragment().is_none();
    if !is_bare || !matches!(target.scheme(), "http" | "https") {
        return Err(wrong(&NO_ADDRESS));
    }
    Ok(())
}

/// The API key as it is sent. The SDK would leave one out that no header can have.
fn sendable(source: &str, key: &str) -> Result<String, Error> {
    // Editors write byte order marks.
    let key = key.trim().trim_start_matches('\u{feff}');
    if key.is_empty() {
        return Err(wrong(&format!("{source} is empty")));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(&format!(
            "{source} has a line break, a space or another character that cannot be sent: it has \
             to be the key alone"
        )));
    }
    Ok(key.to_owned())
}

fn key_of(file: &Path) -> Result<String, Error> {
    let source = format!("the API key file {}", file.display());
    let key = std::fs::read_to_string(file);
    let key = key.map_err(|error| wrong(&format!("{source}: {error}")))?;
    sendable(&source, &key)
}

/// Without it: a secret may stand in it.
const NO_ADDRESS: &str = "the address is none of a Temporal server: that is host:port, or a URL with \
                          http or https and nothing after the port";

/// The variables that are text. Of Temporal's own, each has to be: the SDK would
/// repeat what is not, and it may be the API key.
fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<HashMap<String, String>, Error> {
    let mut variables = HashMap::new();
    for (name, value) in all {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => drop(variables.insert(name, value)),
            (Ok(name), Err(_)) if name.starts_with("TEMPORAL_") => {
                return Err(wrong(&format!("{name} is not text (UTF-8)")));
            }
            _ => {}
        }
    }
    Ok(variables)
}

/// With Temporal's own port, if the address has none. A URL has its scheme's.
fn url_of(address: &str) -> Result<String, Error> {
    let address = address.trim();
    if let Some((scheme, _)) = address.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(address.to_owned()),
            _ => Err(wrong(&NO_ADDRESS)),
        };
    }
    if address.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{address}]:7233"));
    }
    let address = address.strip_suffix(':').unwrap_or(address);
    let after_host = address.rsplit(']').next().unwrap_or_default();
    if after_host.contains(':') {
        return Ok(address.to_owned());
    }
    Ok(format!("{address}:7233"))
}

/// Temporal's own reader takes what is neither for `true`.
fn switch(variable: Option<&str>) -> Result<(), Error> {
    let variable = variable.unwrap_or_default().to_lowercase();
    if matches!(variable.as_str(), "" | "true" | "1" | "false" | "0") {
        return Ok(());
    }
    Err(wrong(&"TEMPORAL_TLS has to be true or false"))
}

/// A file that was named has to be there: the error says which it is.
fn read(path: &Path) -> Result<DataSource, Error> {
    let read = std::fs::read(path);
    let content = read.map_err(|error| wrong(&format!("{}: {error}", path.display())))?;
    Ok(DataSource::Data(content))
}

fn wrong(error: &dyn fmt::Display) -> Error {
    // The first line says where; the others repeat what stands there, which may
    // be the API key.
    let error = error.to_string();
    let place = error.lines().next().unwrap_or_default();
    Error::configuration(format!("Temporal's configuration: {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of options, variables and a file.
    fn resolve(options: ConnectOptions, env: &[(&str, &str)], file: &str) -> Resolved {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("temporal.toml");
        std::fs::write(&path, file).unwrap();
        let env = [("TEMPORAL_CONFIG_FILE", path.to_str().unwrap())]
            .iter()
            .chain(env)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        options.resolve(&env).unwrap()
    }

    const FILE: &str = "
        [profile.default]
        address = \"file:1\"
        namespace = \"of-the-file\"
        [profile.cloud]
        address = \"cloud:1\"
        api_key = \"key-of-the-file\"
        [profile.mutual]
        [profile.mutual.tls]
        server_name = \"name-of-the-file\"
    ";

    #[test]
    fn what_has_no_name_or_has_credentials_is_refused() {
        let none = ConnectOptions::from_environment;
        for (options, what) in [
            (none().task_queue(" "), "task queue"),
            (none().namespace(""), "namespace"),
            (
                none().address("http://user:hunter2@127.0.0.1:7233"),
                "credentials",
            ),
            (none().address("hunter2@127.0.0.1"), "credentials"),
            (none().address("ftp://127.0.0.1:7233"), "is none of"),
            (none().address("unix:///hunter2"), "is none of"),
            (
                none().address("http://127.0.0.1:7233/hunter2"),
                "is none of",
            ),
            (none().address("127.0.0.1:7233?hunter2"), "is none of"),
            (none().api_key("hunter2\nhunter3"), "API key"),
            (none().api_key("hunter\u{feff}2"), "API key"),
            (none().api_key(" \n"), "API key"),
        ] {
            let error = options.resolve(&HashMap::new()).err().unwrap().to_string();
            assert!(
                error.contains(what) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_named_and_not_repeated() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = OsString::from_vec(b"\xffhunter2".to_vec());
        let read = |name: &str| variables([(name.into(), value.clone())].into_iter());
        assert!(read("OTHER").unwrap().is_empty());
        let error = read("TEMPORAL_API_KEY").unwrap_err().to_string();
        assert!(error.contains("TEMPORAL_API_KEY is not text"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_key_is_taken_without_what_editors_add() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "\u{feff}hunter2\r\n").unwrap();
        let mut options = ConnectOptions::from_environment();
        options.api_key_file = Some(file);
        let key = resolve(options, &[("TEMPORAL_API_KEY", "other")], FILE)
            .options
            .api_key;
        assert_eq!(key.as_deref(), Some("hunter2"));
    }

    #[test]
    fn options_win_over_variables_and_those_over_the_file() {
        let where_it_is = |resolved: &Resolved| {
            let target = resolved.options.target.to_string();
            (
                target,
                resolved.namespace.clone(),
                resolved.task_queue.clone(),
            )
        };
        let is = |resolved: &Resolved, expected: [&str; 3]| {
            let [target, namespace, queue] = expected.map(str::to_owned);
            assert_eq!(where_it_is(resolved), (target, namespace, queue));
        };
        let none = ConnectOptions::from_environment;
        is(
            &resolve(none(), &[], ""),
            ["http://localhost:7233/", "default", "analytics"],
        );
        is(
            &resolve(none(), &[], FILE),
            ["http://file:1/", "of-the-file", "analytics"],
        );
        let env = [
            ("TEMPORAL_ADDRESS", "env:2"),
            ("TEMPORAL_NAMESPACE", "of-env"),
            ("TEMPORAL_TASK_QUEUE", "queue-of-env"),
        ];
        is(
            &resolve(none(), &env, FILE),
            ["http://env:2/", "of-env", "queue-of-env"],
        );
        let own = none()
            .address("own:3")
            .namespace("own")
            .task_queue("own-queue");
        is(
            &resolve(own, &env, FILE),
            ["http://own:3/", "own", "own-queue"],
        );
        for (address, url) in [
            ("localhost", "http://localhost:7233/"),
            ("[::1]", "http://[::1]:7233/"),
            ("[::1]:3", "http://[::1]:3/"),
            ("localhost:", "http://localhost:7233/"),
            (" localhost ", "http://localhost:7233/"),
            ("::1", "http://[::1]:7233/"),
            ("HTTP://localhost:3", "http://localhost:3/"),
            ("https://own", "https://own/"),
        ] {
            let address = none().address(address);
            is(&resolve(address, &[], ""), [url, "default", "analytics"]);
        }
        let isolated = ConnectOptions::isolated("own:3");
        is(
            &resolve(isolated, &env, FILE),
            ["http://own:3/", "default", "analytics"],
        );
        let mut profile = none();
        profile.profile = Some("cloud".to_owned());
        let resolved = resolve(profile, &[("TEMPORAL_PROFILE", "mutual")], FILE);
        is(&resolved, ["https://cloud:1/", "default", "analytics"]);
        assert_eq!(resolved.options.api_key.as_deref(), Some("key-of-the-file"));
        let resolved = resolve(none(), &[("TEMPORAL_PROFILE", "cloud")], FILE);
        is(&resolved, ["https://cloud:1/", "default", "analytics"]);
    }

    #[test]
    fn a_key_and_a_certificate_mean_tls_unless_that_is_off() {
        let none = ConnectOptions::from_environment;
        let tls = |options: ConnectOptions, env: &[(&str, &str)]| {
            let resolved = resolve(options, env, FILE);
            let is_https = resolved.options.target.scheme() == "https";
            assert_eq!(is_https, resolved.options.tls_options.is_some());
            resolved.options.tls_options
        };
        assert!(tls(none(), &[]).is_none());
        assert!(tls(none().address("https://own:3"), &[]).is_some());
        assert!(tls(none().api_key("k"), &[]).is_some());
        assert!(tls(none().address("http://own:3").api_key("k"), &[]).is_some());
        assert!(tls(none(), &[("TEMPORAL_API_KEY", "k")]).is_some());
        // As if it were not set.
        assert!(tls(none(), &[("TEMPORAL_API_KEY", "")]).is_none());
        assert!(tls(none(), &[("TEMPORAL_TLS", "true")]).is_some());
        let switched = |on: bool| ConnectOptions {
            tls: Some(on),
            ..none()
        };
        assert!(tls(switched(true), &[]).is_some());
        assert!(tls(switched(true), &[("TEMPORAL_TLS", "false")]).is_some());
        assert!(tls(switched(false).api_key("k"), &[]).is_none());
        assert!(tls(switched(false), &[("TEMPORAL_TLS", "true")]).is_none());
        // The files are read, and go together.
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, name).unwrap();
            Some(path)
        };
        let options = ConnectOptions {
            tls_server_ca: file("ca"),
            tls_cert: file("cert"),
            tls_key: file("key"),
            profile: Some("mutual".to_owned()),
            ..none()
        };
        let tls = tls(options, &[]).unwrap();
        assert_eq!(tls.server_root_ca_cert.as_deref(), Some(&b"ca"[..]));
        assert_eq!(tls.domain.as_deref(), Some("name-of-the-file"));
        let own = tls.client_tls_options.unwrap();
        assert_eq!(
            (&own.client_cert[..], &own.client_private_key[..]),
            (&b"cert"[..], &b"key"[..])
        );
    }

    #[test]
    fn a_certificate_that_is_not_verified_is_refused() {
        let resolve = |variables: &[(&str, &str)]| {
            let variables = variables.iter();
            let env = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let options = ConnectOptions::from_environment().address("own:3");
            options.resolve(&env.collect()).map(|_| ())
        };
        let unverified = "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION";
        let error = resolve(&[("TEMPORAL_TLS", "true"), (unverified, "true")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.message().contains(unverified), "{error}");
        resolve(&[("TEMPORAL_TLS", "true"), (unverified, "false")]).unwrap();
        // Without TLS, there is nothing to verify.
        resolve(&[("TEMPORAL_TLS", "false"), (unverified, "true")]).unwrap();
    }

    #[test]
    fn a_key_that_others_could_read_on_its_way_is_known() {
        let tells = |address: &str, tls: Option<bool>, key: Option<&str>| {
            let options = ConnectOptions {
                tls,
                api_key: key.map(Secret::new),
                ..ConnectOptions::isolated(address)
            };
            tells_the_key(&options.resolve(&HashMap::new()).unwrap().options)
        };
        let key = Some("hunter2");
        assert!(tells("cloud:1", Some(false), key));
        assert!(tells("10.0.0.1", Some(false), key));
        for here in ["localhost", "LOCALHOST:1", "127.0.0.2:1", "[::1]:1"] {
            assert!(!tells(here, Some(false), key), "{here}");
        }
        assert!(!tells("cloud:1", None, key));
        assert!(!tells("cloud:1", Some(false), None));
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        for wrong in ["tls_server_ca", "tls_cert", "config_file", "api_key_file"] {
            let path = Some(PathBuf::from("no-such-file"));
            let mut options = ConnectOptions::from_environment();
            match wrong {
                "api_key_file" => options.api_key_file = path,
                "tls_server_ca" => options.tls_server_ca = path,
                "tls_cert" => options.tls_cert = path,
                _ => options.config_file = path,
            }
            if options.api_key_file.is_none() {
                options = options.api_key("hunter2");
            }
            let error = options.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{wrong}");
            assert!(
                error.message().contains("no-such-file: No such file"),
                "{error}"
            );
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_said_with_its_address_and_without_the_key() {
        let options = ConnectOptions {
            tls: Some(false),
            ..ConnectOptions::isolated("127.0.0.1:1").api_key("hunter2")
        };
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = options.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let said = format!("{error} {error:?}");
        assert!(
            said.contains("Temporal at http://127.0.0.1:1/: Connection refused"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }

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

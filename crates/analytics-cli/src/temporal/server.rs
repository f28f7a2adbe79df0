//! Where Temporal is.

use std::path::PathBuf;

use clap::Args;

/// The same options as the `temporal` command has.
#[derive(Debug, Default, Args)]
pub(crate) struct Server {
    /// The server: `host:port`, a URL, or a host with the port 7233; else
    /// `TEMPORAL_ADDRESS`, else localhost
    #[arg(long, value_name = "ADDRESS", help_heading = "Temporal")]
    address: Option<String>,

    /// The namespace; else `TEMPORAL_NAMESPACE`, else `default`
    #[arg(long, value_name = "NAME", help_heading = "Temporal")]
    namespace: Option<String>,

    /// The task queue; else `TEMPORAL_TASK_QUEUE`, else `analytics`
    #[arg(long, value_name = "NAME", help_heading = "Temporal")]
    task_queue: Option<String>,

    /// A file with the API key; else `TEMPORAL_API_KEY`. No option takes the key
    /// itself: everybody on the machine could read it. With a key, TLS is on
    #[arg(long, value_name = "FILE", help_heading = "Temporal")]
    api_key_file: Option<PathBuf>,

    /// Whether to use TLS; else `TEMPORAL_TLS`
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Temporal"
    )]
    tls: Option<bool>,

    /// The authority to trust instead of the system's, a PEM file; else
    /// `TEMPORAL_TLS_SERVER_CA_CERT_PATH`
    #[arg(long, value_name = "FILE", help_heading = "Temporal")]
    tls_ca_path: Option<PathBuf>,

    /// The own certificate, a PEM file; else `TEMPORAL_TLS_CLIENT_CERT_PATH`
    #[arg(long, value_name = "FILE", help_heading = "Temporal")]
    tls_cert_path: Option<PathBuf>,

    /// Its key, a PEM file; else `TEMPORAL_TLS_CLIENT_KEY_PATH`
    #[arg(long, value_name = "FILE", help_heading = "Temporal")]
    tls_key_path: Option<PathBuf>,

    /// The name in the server's certificate, if not the address's; else
    /// `TEMPORAL_TLS_SERVER_NAME`
    #[arg(long, value_name = "NAME", help_heading = "Temporal")]
    tls_server_name: Option<String>,

    /// The profile in Temporal's configuration file; else `TEMPORAL_PROFILE`,
    /// else `default`
    #[arg(long, value_name = "NAME", help_heading = "Temporal")]
    profile: Option<String>,

    /// Temporal's own configuration file; else `TEMPORAL_CONFIG_FILE`, else where
    /// the `temporal` command has it
    #[arg(long, value_name = "FILE", help_heading = "Temporal")]
    temporal_config: Option<PathBuf>,
}

impl Server {
    /// An option that is given.
    pub(crate) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--address", self.address.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--task-queue", self.task_queue.is_some()),
            ("--api-key-file", self.api_key_file.is_some()),
            ("--tls", self.tls.is_some()),
            ("--tls-ca-path", self.tls_ca_path.is_some()),
            ("--tls-cert-path", self.tls_cert_path.is_some()),
            ("--tls-key-path", self.tls_key_path.is_some()),
            ("--tls-server-name", self.tls_server_name.is_some()),
            ("--profile", self.profile.is_some()),
            ("--temporal-config", self.temporal_config.is_some()),
        ];
        given.iter().find(|(_, is)| *is).map(|(option, _)| *option)
    }
}

#[cfg(feature = "temporal")]
mod connect {
    use analytics_kit::{
        Error, ErrorKind,
        temporal::{ConnectOptions, Connection},
    };

    use super::Server;
    use crate::exit::Failure;

    impl Server {
        /// Connects: what is not given comes from the environment and from
        /// Temporal's configuration file.
        pub(in crate::temporal) async fn connect(&self) -> Result<Connection, Failure> {
            self.options().connect().await.map_err(|error| of(&error))
        }

        fn options(&self) -> ConnectOptions {
            let mut options = ConnectOptions::from_environment();
            options.address.clone_from(&self.address);
            options.namespace.clone_from(&self.namespace);
            options.task_queue.clone_from(&self.task_queue);
            options.api_key_file.clone_from(&self.api_key_file);
            options.tls = self.tls;
            options.tls_server_ca.clone_from(&self.tls_ca_path);
            options.tls_cert.clone_from(&self.tls_cert_path);
            options.tls_key.clone_from(&self.tls_key_path);
            options.tls_server_name.clone_from(&self.tls_server_name);
            options.profile.clone_from(&self.profile);
            options.config_file.clone_from(&self.temporal_config);
            options
        }
    }

    /// Why there is no connection, and what to do.
    fn of(error: &Error) -> Failure {
        let message = error.message();
        match error.kind() {
            ErrorKind::Configuration => Failure::usage(format!(
                "{message} (--namespace, --profile and the other options say what to use)"
            )),
            ErrorKind::Unauthorized => Failure::failed(format!(
                "{message} (--api-key-file or TEMPORAL_API_KEY gives the key; --tls-cert-path the \
                 certificate)"
            )),
            _ => Failure::failed(format!(
                "{message} (--address or TEMPORAL_ADDRESS says where it is, --tls whether it speaks \
                 TLS; `temporal server start-dev` starts one on this machine)"
            )),
        }
    }
}

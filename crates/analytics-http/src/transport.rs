//! What sends requests. Only this file knows reqwest.

use std::{
    fmt::{self, Debug},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use analytics_spec::{Error, ErrorKind};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::runtime;

/// The most bytes of an answer that are read. One of as many counts as cut.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// What sends requests.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends one request and reads the answer.
    ///
    /// - Does not follow redirects: they would carry credentials elsewhere.
    /// - Does not retry.
    /// - Takes no longer than `timeout`.
    /// - Reads at most [`MAX_RESPONSE_BYTES`] of the answer.
    async fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, TransportError>;
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// There was no connection: nothing was sent.
    Connect,
    /// There was no answer in time: the request may have been accepted.
    Timeout,
    /// The connection broke: the request may have been accepted.
    Interrupted,
    /// It is not a request that can be sent.
    Invalid,
}

impl Failure {
    /// The error's kind.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Timeout => ErrorKind::Timeout,
            Self::Connect | Self::Interrupted => ErrorKind::Unavailable,
            Self::Invalid => ErrorKind::Internal,
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self != Self::Invalid
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "could not connect",
            Self::Timeout => "no answer in time",
            Self::Interrupted => "the connection broke before the answer",
            Self::Invalid => "the request cannot be sent",
        })
    }
}

/// A request without an answer. No URL is in it, for URLs carry credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    failure: Failure,
    cause: Option<String>,
}

impl TransportError {
    /// Why there is no answer.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// Keeps what caused it, which must show neither URL nor payload.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl From<Failure> for TransportError {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            cause: None,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TransportError {}

/// The transport of every instance that is not given another one, so that all
/// of a runtime share their connections.
pub(crate) fn shared() -> Result<Arc<dyn Transport>, Error> {
    static SHARED: OnceLock<Arc<ReqwestTransport>> = OnceLock::new();
    if let Some(transport) = SHARED.get() {
        return Ok(transport.clone());
    }
    let transport = Arc::new(ReqwestTransport::new()?);
    Ok(SHARED.get_or_init(|| transport).clone())
}

/// reqwest: HTTP/1.1 over rustls, connections reused, proxies from the
/// environment except for loopback addresses.
///
/// A connection is driven by the runtime that opened it. Each runtime has
/// connections of its own, so that none waits for one that stands still.
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    tls: rustls::ClientConfig,
    /// The one used last stands last.
    pools: Arc<Mutex<Vec<Pool>>>,
}

/// The connections of one runtime.
#[derive(Clone, Debug)]
struct Pool {
    /// `None` until the first runtime takes it.
    runtime: Option<runtime::Id>,
    client: reqwest::Client,
    /// A proxy cannot reach this machine's loopback addresses for us.
    loopback: reqwest::Client,
}

/// Most programs have one runtime. Those of runtimes that are gone are not to
/// pile up.
const MAX_POOLS: usize = 8;

impl Pool {
    fn new(tls: &rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .pool_idle_timeout(Duration::from_secs(55))
        };
        Ok(Self {
            runtime: None,
            client: builder().build()?,
            loopback: builder().no_proxy().build()?,
        })
    }
}

impl ReqwestTransport {
    /// A transport with connections of its own.
    ///
    /// # Errors
    ///
    /// A [configuration](ErrorKind::Configuration) error, if TLS or the proxy
    /// settings of the environment cannot be used.
    pub fn new() -> Result<Self, Error> {
        let tls = tls()?;
        let pool = Pool::new(&tls).map_err(|error| {
            Error::configuration("the HTTP client cannot be set up")
                .with_source(error.without_url())
        })?;
        Ok(Self {
            tls,
            pools: Arc::new(Mutex::new(vec![pool])),
        })
    }

    /// The connections of the runtime that this runs on.
    fn pool(&self) -> Result<Pool, reqwest::Error> {
        let id = runtime::Handle::try_current().ok().map(|h| h.id());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pools
            .iter()
            .position(|pool| pool.runtime == id)
            .or_else(|| pools.iter().position(|pool| pool.runtime.is_none()));
        let mut pool = match found {
            Some(index) => pools.remove(index),
            None => Pool::new(&self.tls)?,
        };
        if pools.len() >= MAX_POOLS {
            pools.remove(0);
        }
        pool.runtime = id;
        pools.push(pool.clone());
        Ok(pool)
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, reqwest::Error> {
        let pool = self.pool()?;
        let client = if crate::request::is_loopback(request.uri().host().unwrap_or_default()) {
            &pool.loopback
        } else {
            &pool.client
        };
        let mut answer = client.execute(reqwest::Request::try_from(request)?).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await? {
            let room = MAX_RESPONSE_BYTES - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if body.len() == MAX_RESPONSE_BYTES {
                break;
            }
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

#[async_trait]
impl Transport for ReqwestTransport {
    async fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let failure = if error.is_timeout() {
                    Failure::Timeout
                } else if error.is_builder() {
                    Failure::Invalid
                } else if error.is_connect() {
                    Failure::Connect
                } else {
                    Failure::Interrupted
                };
                let cause = innermost(&error.without_url());
                Err(match cause {
                    Some(cause) => TransportError::from(failure).caused_by(cause),
                    None => failure.into(),
                })
            }
            Err(_) => Err(Failure::Timeout.into()),
        }
    }
}

/// What an error comes down to: a name that is not known, a certificate that is
/// not trusted, a connection that is refused.
fn innermost(error: &dyn std::error::Error) -> Option<String> {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.last().map(ToString::to_string)
}

/// TLS with the certificates that the system trusts; on a system that has
/// none, such as a container of one file, with Mozilla's.
fn tls() -> Result<rustls::ClientConfig, Error> {
    let unusable =
        |error: rustls::Error| Error::configuration("TLS cannot be set up").with_source(error);
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(unusable)?;
    Ok(match builder.clone().with_platform_verifier() {
        Ok(verified) => verified.with_no_client_auth(),
        Err(_) => {
            let roots: rustls::RootCertStore =
                webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    })
}

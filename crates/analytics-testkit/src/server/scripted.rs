//! A vendor behind a socket.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::answer::{Answer, AnswerBody};
use super::fault::{Fault, Faults};
use super::listener::{Handler, Listener, Reset};
use super::record::{Counts, Keep, Received, Record, RecordedRequest, Violation};
use super::request::{BodyProblem, Request};

/// The rules of one vendor.
///
/// The state is `self`, the answer is a function of it and the request: rules
/// are tested without a socket.
pub trait Vendor: Send + 'static {
    /// Answers a request.
    ///
    /// - Writes every item that it takes, every repetition and every breach of
    ///   the contract to `record`.
    /// - Refuses what the vendor refuses, with the vendor's status and body.
    /// - Answers success where the vendor does, even if it then loses the item;
    ///   the loss is a violation.
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer;

    /// Answers a request whose body could not be read; `request.body` is what
    /// came over the wire.
    fn unreadable(
        &mut self,
        _request: &Request,
        problem: &BodyProblem,
        record: &mut Record,
    ) -> Answer {
        match problem {
            BodyProblem::TooLarge => {
                record.refused(
                    "body_too_large",
                    None,
                    "the body is larger than the server takes",
                );
                Answer::text(413, "payload too large")
            }
            BodyProblem::Corrupt => {
                record.refused("gzip", None, "the body says gzip and is none");
                Answer::text(400, "corrupt gzip body")
            }
            BodyProblem::UnknownEncoding(encoding) => {
                record.refused("encoding", None, format!("content encoding {encoding}"));
                Answer::text(415, "unsupported content encoding")
            }
        }
    }
}

/// How a server runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Where to listen. Default: a free port of 127.0.0.1.
    pub address: SocketAddr,
    /// How much to remember. Default: everything.
    pub keep: Keep,
    /// The largest body, in bytes, on the wire and unpacked. Default: 64 MiB.
    pub body_limit: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            keep: Keep::Everything,
            body_limit: 64 << 20,
        }
    }
}

impl ServerOptions {
    /// The same options with this address.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The same options, remembering this much.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// The same options with this limit on a body, in bytes.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }
}

/// A running vendor. It stops when it is shut down or dropped.
pub struct Scripted<V> {
    shared: Arc<Shared<V>>,
    listener: Listener,
}

struct Shared<V> {
    state: Mutex<State<V>>,
    faults: Faults,
    changed: Notify,
    body_limit: usize,
}

struct State<V> {
    vendor: V,
    record: Record,
}

impl<V> fmt::Debug for Scripted<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted")
            .field("address", &self.listener.address())
            .finish_non_exhaustive()
    }
}

impl<V: Vendor> Scripted<V> {
    /// Starts on a free port of 127.0.0.1 and remembers everything.
    ///
    /// Runs on the current tokio runtime, which must have I/O and time enabled.
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start(vendor: impl Into<V>) -> io::Result<Self> {
        Self::start_with(ServerOptions::default(), vendor).await
    }

    /// Starts on this address and remembers everything.
    ///
    /// # Errors
    ///
    /// Where the address cannot be bound.
    pub async fn start_on(address: SocketAddr, vendor: impl Into<V>) -> io::Result<Self> {
        Self::start_with(ServerOptions::default().address(address), vendor).await
    }

    /// Starts with these options.
    ///
    /// # Errors
    ///
    /// Where the address cannot be bound.
    pub async fn start_with(options: ServerOptions, vendor: impl Into<V>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                vendor: vendor.into(),
                record: Record::new(options.keep),
            }),
            faults: Faults::default(),
            changed: Notify::new(),
            body_limit: options.body_limit,
        });
        let listener = Listener::start(options.address, shared.clone()).await?;
        Ok(Self { shared, listener })
    }

    /// `http://` and the address, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The faults to inject.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The items that the vendor took, in order, each once.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().record.received()
    }

    /// Every request heard in full, in order.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().record.requests()
    }

    /// What the vendor refused, lost or bent, in order.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.lock().record.violations()
    }

    /// The ids of items that had been taken before, once per repetition.
    pub fn duplicates(&self) -> Vec<String> {
        self.shared.lock().record.duplicates()
    }

    /// The totals since the start, or since [`Scripted::clear`].
    pub fn counts(&self) -> Counts {
        self.shared.lock().record.counts().clone()
    }

    /// Forgets what was heard and the counts. The vendor's state stays, and so
    /// do the faults.
    pub fn clear(&self) {
        self.shared.lock().record.clear();
    }

    /// Waits until the totals satisfy a condition. Whether they did in time.
    pub async fn wait_until(&self, timeout: Duration, done: impl Fn(&Counts) -> bool) -> bool {
        let satisfied = async {
            loop {
                // Registered before looking: a change in between is not missed.
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if done(self.shared.lock().record.counts()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, satisfied).await.is_ok()
    }

    /// Looks at the vendor's state, or changes it.
    ///
    /// The server waits meanwhile.
    pub fn with_vendor<T>(&self, look: impl FnOnce(&mut V) -> T) -> T {
        look(&mut self.shared.lock().vendor)
    }

    /// Closes the port and every connection, and waits until that is done.
    pub async fn shutdown(self) {
        self.listener.shutdown().await;
    }
}

impl<V> Shared<V> {
    fn lock(&self) -> MutexGuard<'_, State<V>> {
        // A vendor of somebody else's may panic; what was recorded still holds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Vendor> Handler for Shared<V> {
    async fn handle(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        in_flight: usize,
    ) -> Result<Response<AnswerBody>, Reset> {
        let (request, problem) = self.read(request, in_flight).await?;
        let fault = self.faults.take(&request);
        if let Some(Fault::Delay(delay)) = &fault {
            tokio::time::sleep(*delay).await;
        }
        let (answer, end) = self.process(request, problem.as_ref(), fault);
        self.changed.notify_waiters();
        match end {
            End::Send => Ok(answer.into_response()),
            End::Reset => Err(Reset),
            End::Hang => std::future::pending().await,
            End::Truncate => Ok(answer.into_truncated()),
        }
    }
}

/// How the client's side of a request ends.
enum End {
    Send,
    Reset,
    Hang,
    Truncate,
}

impl<V: Vendor> Shared<V> {
    async fn read(
        &self,
        request: http::Request<Incoming>,
        in_flight: usize,
    ) -> Result<(Request, Option<BodyProblem>), Reset> {
        let (parts, body) = request.into_parts();
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let mut read = Request {
            headers: parts.headers,
            at: SystemTime::now(),
            in_flight,
            ..Request::new(parts.method.as_str(), target)
        };
        let mut problem = None;
        match Limited::new(body, self.body_limit).collect().await {
            Ok(body) => read = read.raw(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                problem = Some(BodyProblem::TooLarge);
            }
            // The client left in the middle of its body.
            Err(_) => return Err(Reset),
        }
        if problem.is_none() {
            problem = read.decode(self.body_limit).err();
        }
        Ok((read, problem))
    }

    fn process(
        &self,
        request: Request,
        problem: Option<&BodyProblem>,
        fault: Option<Fault>,
    ) -> (Answer, End) {
        let mut state = self.lock();
        let State { vendor, record } = &mut *state;
        record.begin(&request);
        let processed = fault.as_ref().is_none_or(Fault::lets_the_vendor_see);
        let answer = match problem {
            _ if !processed => Answer::empty(500),
            Some(problem) => vendor.unreadable(&request, problem, record),
            None => vendor.answer(&request, record),
        };
        let (answer, end) = match &fault {
            Some(Fault::Answer(other) | Fault::AcceptThenAnswer(other)) => {
                (other.clone(), End::Send)
            }
            Some(Fault::Reset | Fault::AcceptThenReset) => (answer, End::Reset),
            Some(Fault::Hang | Fault::AcceptThenHang) => (answer, End::Hang),
            Some(Fault::AcceptThenTruncate) => (answer, End::Truncate),
            Some(Fault::Delay(_)) | None => (answer, End::Send),
        };
        let status = match end {
            End::Send | End::Truncate => Some(answer.status),
            End::Reset | End::Hang => None,
        };
        record.end(request, status, processed, fault);
        (answer, end)
    }
}

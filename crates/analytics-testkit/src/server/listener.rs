//! The server loop: accepts, speaks HTTP/1.1, counts what is in hand.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::AnswerBody;

/// What answers the requests of a [`Listener`].
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request, or says that the connection is to be reset.
    fn handle(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        in_flight: usize,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Reset>> + Send;
}

/// The connection is to be reset.
#[derive(Debug)]
pub(crate) struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the script resets this connection")
    }
}

impl std::error::Error for Reset {}

/// A server that runs until it is shut down or dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Binds the address and serves from a task of the current runtime.
    pub(crate) async fn start<H: Handler>(
        address: SocketAddr,
        handler: Arc<H>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, handler, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and every connection, requests in hand included.
    pub(crate) async fn shutdown(self) {
        // Either fails only where the loop has ended already.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    mut stopped: oneshot::Receiver<()>,
) {
    let in_flight = Arc::new(AtomicUsize::new(0));
    // Dropping the set, at the end of the loop, ends every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Also when the server was dropped, and its sender with it.
            _ = &mut stopped => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, handler.clone(), in_flight.clone()));
                }
                // Out of descriptors, or the client was gone before we came.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection<H: Handler>(stream: TcpStream, handler: Arc<H>, in_flight: Arc<AtomicUsize>) {
    // Without it, small answers wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let stream = ResettableStream {
        stream,
        reset: reset.clone(),
    };
    let service = service_fn(move |request| {
        let handler = handler.clone();
        let reset = reset.clone();
        let guard = InFlight::enter(&in_flight);
        async move {
            let answer = handler.handle(request, guard.place).await;
            if answer.is_err() {
                reset.store(true, Ordering::Release);
            }
            drop(guard);
            answer
        }
    });
    // Errors are clients that left and connections that we reset.
    let _: Result<(), _> = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Counts a request as in hand until it is dropped.
struct InFlight {
    count: Arc<AtomicUsize>,
    place: usize,
}

impl InFlight {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        Self {
            place: count.fetch_add(1, Ordering::AcqRel) + 1,
            count: count.clone(),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream that ends with RST instead of FIN once it is told to.
struct ResettableStream {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Acquire) {
            // Closing with zero linger is what sends RST; where that fails the
            // client still sees the connection end without an answer.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ResettableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Acquire) {
            // A FIN sent now would make the end look orderly.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

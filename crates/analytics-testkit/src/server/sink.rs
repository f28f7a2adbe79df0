//! A server that takes everything, for benchmarks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::{Answer, AnswerBody};
use super::listener::{Handler, Listener, Reset};

/// A server that answers the same to every request, counts requests and bytes,
/// checks nothing and keeps nothing: in a benchmark it costs next to nothing.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Counting>,
    listener: Listener,
}

#[derive(Debug)]
struct Counting {
    answer: Answer,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Sink {
    /// Starts on a free port of 127.0.0.1; answers 200 with this JSON body.
    ///
    /// # Errors
    ///
    /// Where no port can be bound.
    pub async fn start(body: impl Into<Bytes>) -> io::Result<Self> {
        let answer = Answer {
            body: body.into(),
            ..Answer::empty(200)
        }
        .header("content-type", "application/json");
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), answer).await
    }

    /// Starts on this address, with this answer.
    ///
    /// # Errors
    ///
    /// Where the address cannot be bound.
    pub async fn start_on(address: SocketAddr, answer: Answer) -> io::Result<Self> {
        let shared = Arc::new(Counting {
            answer,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let listener = Listener::start(address, shared.clone()).await?;
        Ok(Self { shared, listener })
    }

    /// `http://` and the address, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many bytes their bodies had on the wire.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Closes the port and every connection.
    pub async fn shutdown(self) {
        self.listener.shutdown().await;
    }
}

impl Handler for Counting {
    async fn handle(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        _in_flight: usize,
    ) -> Result<Response<AnswerBody>, Reset> {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Reset)?;
            if let Some(data) = frame.data_ref() {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.bytes.fetch_add(length, Ordering::Relaxed);
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(self.answer.clone().into_response())
    }
}

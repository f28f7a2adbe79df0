//! A server that takes everything: HTTP/1.1 as far as clients speak it, on one
//! thread, with one answer for all. It keeps count of every single event.
//!
//! To look for events is cheap in a body as it is. One that is compressed is
//! kept as it came, and looked through when the count is asked for, after the
//! run, so that a subject that compresses does not pay for the sink's work.

use std::{
    io::{self, Read as _},
    mem,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::order::{DIGITS, MARKER};

/// Where the count is asked for.
pub const TALLY: &str = "/tally";

/// Success at Segment, where the body has to say so, and at the others, which
/// look at the status.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    content-length: 16\r\n\r\n{\"success\":true}";

/// More compressed bodies than this are not kept for later.
const KEEP_BYTES: usize = 1024 * 1024 * 1024;

/// What a sink has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests that were answered.
    pub requests: u64,
    /// Their bytes on the wire, headers included.
    pub wire_bytes: u64,
    /// Requests whose bodies were compressed.
    pub compressed: u64,
    /// Bytes of their bodies, before compression.
    pub body_bytes: u64,
    /// Events.
    pub events: u64,
    /// Different events.
    pub distinct: u64,
    /// How often the event came that came most often.
    pub most_copies: u8,
    /// Bodies that could not be read.
    pub unreadable: u64,
}

#[derive(Debug)]
struct Seen {
    tally: Tally,
    marker: Finder<'static>,
    /// How often each event came, by its number.
    copies: Vec<u8>,
    compressed: Vec<Bytes>,
    compressed_bytes: usize,
}

impl Seen {
    fn new() -> Self {
        Self {
            tally: Tally::default(),
            marker: Finder::new(MARKER),
            copies: Vec::new(),
            compressed: Vec::new(),
            compressed_bytes: 0,
        }
    }

    fn take(&mut self, request: Taken) {
        self.tally.requests += 1;
        self.tally.wire_bytes += as_u64(request.wire_bytes);
        if !request.is_gzip {
            self.count(&request.body);
            return;
        }
        self.tally.compressed += 1;
        self.compressed_bytes += request.body.len();
        self.compressed.push(request.body);
        if self.compressed_bytes > KEEP_BYTES {
            self.open();
        }
    }

    /// Looks through what came compressed.
    fn open(&mut self) {
        self.compressed_bytes = 0;
        let mut plain = Vec::new();
        for body in mem::take(&mut self.compressed) {
            plain.clear();
            match GzDecoder::new(body.as_ref()).read_to_end(&mut plain) {
                Ok(_) => self.count(&plain),
                Err(_) => self.tally.unreadable += 1,
            }
        }
    }

    fn count(&mut self, body: &[u8]) {
        self.tally.body_bytes += as_u64(body.len());
        for place in self.marker.find_iter(body) {
            let from = place + MARKER.len();
            let number = body.get(from..from + DIGITS).and_then(number);
            let Some(number) = number else {
                self.tally.unreadable += 1;
                continue;
            };
            if self.copies.len() <= number {
                self.copies.resize(number + 1, 0);
            }
            if let Some(copies) = self.copies.get_mut(number) {
                self.tally.distinct += u64::from(*copies == 0);
                *copies = copies.saturating_add(1);
                self.tally.most_copies = self.tally.most_copies.max(*copies);
            }
            self.tally.events += 1;
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A request that was read to its end.
struct Taken {
    asks_tally: bool,
    is_gzip: bool,
    wire_bytes: usize,
    body: Bytes,
}

/// What a request's head says.
#[derive(Debug, Default)]
struct Head {
    asks_tally: bool,
    is_gzip: bool,
    is_chunked: bool,
    length: usize,
}

impl Head {
    fn read(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let path = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut read = Self {
            asks_tally: path == Some(TALLY),
            ..Self::default()
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                read.length = value.parse().unwrap_or_default();
            } else if name.eq_ignore_ascii_case("content-encoding") {
                read.is_gzip = value.eq_ignore_ascii_case("gzip");
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                read.is_chunked = value.eq_ignore_ascii_case("chunked");
            }
        }
        read
    }
}

/// A connection, and what was read ahead of what was taken.
struct Connection {
    stream: TcpStream,
    ahead: BytesMut,
}

impl Connection {
    async fn more(&mut self) -> io::Result<()> {
        if self.ahead.capacity() == self.ahead.len() {
            self.ahead.reserve(64 * 1024);
        }
        match self.stream.read_buf(&mut self.ahead).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Everything before `end`, which goes with it.
    async fn until(&mut self, end: &[u8]) -> io::Result<Bytes> {
        let mut looked = 0;
        loop {
            let rest = self.ahead.get(looked..).unwrap_or_default();
            if let Some(place) = memchr::memmem::find(rest, end) {
                let before = self.ahead.split_to(looked + place).freeze();
                self.ahead.advance(end.len());
                return Ok(before);
            }
            looked = self.ahead.len().saturating_sub(end.len() - 1);
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        self.ahead.reserve(length.saturating_sub(self.ahead.len()));
        while self.ahead.len() < length {
            self.more().await?;
        }
        Ok(self.ahead.split_to(length).freeze())
    }

    async fn request(&mut self) -> io::Result<Taken> {
        let bytes = self.until(b"\r\n\r\n").await?;
        let head = std::str::from_utf8(&bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        let head = Head::read(head);
        let mut wire_bytes = bytes.len() + 4;
        let body = if head.is_chunked {
            self.chunks(&mut wire_bytes).await?
        } else {
            wire_bytes += head.length;
            self.exactly(head.length).await?
        };
        Ok(Taken {
            asks_tally: head.asks_tally,
            is_gzip: head.is_gzip,
            wire_bytes,
            body,
        })
    }

    async fn chunks(&mut self, wire_bytes: &mut usize) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let size = std::str::from_utf8(&line).ok();
            let size = size.and_then(|line| line.split(';').next());
            let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            body.extend_from_slice(&self.exactly(size).await?);
            self.until(b"\r\n").await?;
            *wire_bytes += line.len() + size + 4;
            if size == 0 {
                return Ok(body.freeze());
            }
        }
    }

    async fn serve(&mut self, seen: &Mutex<Seen>) -> io::Result<()> {
        loop {
            let request = self.request().await?;
            if !request.asks_tally {
                locked(seen).take(request);
                self.stream.write_all(ANSWER).await?;
                continue;
            }
            let tally = {
                let mut seen = locked(seen);
                seen.open();
                seen.tally
            };
            let body = serde_json::to_string(&tally)?;
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            self.stream.write_all(answer.as_bytes()).await?;
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink that takes connections when it runs.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
    seen: Arc<Mutex<Seen>>,
}

impl Sink {
    /// Takes a port of this machine; 0 is a free one.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?,
            seen: Arc::new(Mutex::new(Seen::new())),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes everything, for ever.
    pub async fn run(self) {
        loop {
            // What a client does to its connection is its own business.
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let seen = Arc::clone(&self.seen);
            tokio::spawn(async move {
                let ahead = BytesMut::with_capacity(64 * 1024);
                let _ = Connection { stream, ahead }.serve(&seen).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn body(numbers: &[u64]) -> Vec<u8> {
        let orders = numbers
            .iter()
            .map(|number| format!(r#"{{"order_id":"order-{number:010}","x":1}}"#));
        orders.collect::<Vec<_>>().join(",").into_bytes()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn every_event_is_counted_however_it_is_sent() {
        let sink = Sink::bind(0).await.unwrap();
        let address = sink.address().unwrap();
        tokio::spawn(sink.run());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answers = vec![0; ANSWER.len()];

        let plain = body(&[0, 1, 2]);
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", plain.len());
        let mut sent = [head.as_bytes(), &plain].concat();
        stream.write_all(&sent).await.unwrap();
        stream.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers, ANSWER);

        let small = gzip(&body(&[3, 3]));
        let head = format!(
            "POST / HTTP/1.1\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            small.len()
        );
        let compressed = [head.as_bytes(), &small].concat();
        stream.write_all(&compressed).await.unwrap();
        sent.extend(compressed);
        stream.read_exact(&mut answers).await.unwrap();

        let one = body(&[4]);
        let chunked = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            one.len(),
            std::str::from_utf8(&one).unwrap()
        );
        stream.write_all(chunked.as_bytes()).await.unwrap();
        sent.extend(chunked.into_bytes());
        stream.read_exact(&mut answers).await.unwrap();

        let address = address.to_string();
        let tally = tokio::task::spawn_blocking(move || {
            crate::process::tally(&format!("http://{address}"))
        })
        .await
        .unwrap()
        .unwrap();
        let expected = Tally {
            requests: 3,
            wire_bytes: sent.len() as u64,
            compressed: 1,
            body_bytes: (plain.len() + body(&[3, 3]).len() + one.len()) as u64,
            events: 6,
            distinct: 5,
            most_copies: 2,
            unreadable: 0,
        };
        assert_eq!(tally, expected);
    }
}

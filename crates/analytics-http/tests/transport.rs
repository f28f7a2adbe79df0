//! The transport against servers on loopback that do what real ones do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests, which may panic"
)]

use std::{
    collections::BTreeMap,
    error::Error as _,
    io::Read as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use analytics_http::{
    BaseUrl, Client, Failure, HttpVendor, Limits, Reading, ReqwestTransport, Sending, Step,
    Transport, TransportError, classify, request, transport::MAX_RESPONSE_BYTES,
};
use analytics_spec::{
    AnyInput, Attempt, Context, Error, ErrorKind, HttpResponse, Input, Integration as _, KindSet,
    Map, Progress, Secret, Track, ValidationError, Value, config::Instance, integration::Batching,
};
use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A request as a server saw it.
#[derive(Clone, Debug)]
struct Seen {
    head: String,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads one request; `None` at the connection's end.
async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let mut seen = Seen {
                head: String::from_utf8(bytes[..end].to_vec()).unwrap(),
                body: bytes[end + 4..].to_vec(),
            };
            let length = seen
                .header("content-length")
                .map_or(0, |l| l.parse().unwrap());
            while seen.body.len() < length {
                let read = stream.read_buf(&mut seen.body).await;
                read.ok().filter(|n| *n > 0)?;
            }
            return Some(seen);
        }
        let read = stream.read_buf(&mut bytes).await;
        read.ok().filter(|n| *n > 0)?;
    }
}

/// What a server does with each request.
#[derive(Clone)]
enum Does {
    /// Writes these bytes and keeps the connection.
    Writes(Vec<u8>),
    /// Writes these bytes and closes the connection with a reset.
    WritesAndResets(Vec<u8>),
    /// Writes these bytes and then nothing more, without an end.
    WritesAndHangs(Vec<u8>),
    /// Resets before it has read anything.
    ResetsAtOnce,
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            seen: Arc::default(),
        };
        let (connections, seen) = (server.connections.clone(), server.seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, does.clone(), seen.clone()));
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, does: Does, seen: Arc<Mutex<Vec<Seen>>>) {
    if matches!(does, Does::ResetsAtOnce) {
        stream.set_zero_linger().unwrap();
        return;
    }
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push(request);
        match &does {
            Does::Writes(bytes) => drop(stream.write_all(bytes).await),
            Does::WritesAndResets(bytes) => {
                drop(stream.write_all(bytes).await);
                // What was written has to arrive before the reset does.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.set_zero_linger().unwrap();
                return;
            }
            Does::WritesAndHangs(bytes) => {
                drop(stream.write_all(bytes).await);
                std::future::pending::<()>().await;
            }
            Does::ResetsAtOnce => {}
        }
    }
}

fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        head += header;
        head += "\r\n";
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn transport() -> ReqwestTransport {
    ReqwestTransport::new().unwrap()
}

fn post(url: &str) -> Request<Bytes> {
    let key = request::basic("SECRET-KEY", "").unwrap();
    request::json(Method::POST, url, Some(&key), Bytes::from("\"PAYLOAD\"")).unwrap()
}

async fn send(url: &str, timeout: Duration) -> Result<Response<Bytes>, TransportError> {
    transport().send(post(url), timeout).await
}

#[tokio::test]
async fn a_request_arrives_as_it_was_built_and_so_does_its_answer() {
    let server = Server::start(Does::Writes(answer(
        "202 Accepted",
        &["x-many: a", "X-Many: b", "x-odd: \u{e9}"],
        b"\xff\xfenot json",
    )))
    .await;
    let answer = send(&server.url("/v1/batch?a=b%2Fc"), TIMEOUT)
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let many: Vec<_> = answer.headers().get_all("x-many").iter().collect();
    assert_eq!(many, ["a", "b"]);
    assert_eq!(answer.body().as_ref(), b"\xff\xfenot json");
    let seen = &server.seen()[0];
    let first = seen.head.lines().next();
    assert_eq!(first, Some("POST /v1/batch?a=b%2Fc HTTP/1.1"));
    assert_eq!(seen.body, b"\"PAYLOAD\"");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("authorization"), Some("Basic U0VDUkVULUtFWTo="));
    assert_eq!(seen.header("referer"), None);
}

#[tokio::test]
async fn connections_are_reused() {
    let server = Server::start(Does::Writes(answer("200 OK", &[], b"{}"))).await;
    let transport = transport();
    for _ in 0..5 {
        let request = post(&server.url("/"));
        transport.send(request, TIMEOUT).await.unwrap();
    }
    assert_eq!(server.seen().len(), 5);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// A connection is driven by the runtime that opened it, and that one may
/// stand still or be gone.
#[test]
fn no_runtime_waits_for_another() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let background = tokio::runtime::Runtime::new().unwrap();
    let server = background.block_on(Server::start(Does::Writes(answer("200 OK", &[], b"{}"))));
    let transport = transport();
    let send = || transport.send(post(&server.url("/")), Duration::from_secs(5));
    let (first, second) = (runtime(), runtime());
    for _ in 0..3 {
        first.block_on(send()).unwrap();
        second.block_on(send()).unwrap();
    }
    drop(first);
    for _ in 0..50 {
        runtime().block_on(send()).unwrap();
    }
    second.block_on(send()).unwrap();
    assert_eq!(server.seen().len(), 57);
}

#[tokio::test]
async fn redirects_are_answers_and_nobody_else_sees_the_key() {
    let target = Server::start(Does::Writes(answer("200 OK", &[], b"{}"))).await;
    for status in ["301 A", "302 B", "303 C", "307 D", "308 E"] {
        let location = format!("location: {}", target.url("/elsewhere"));
        let server = Server::start(Does::Writes(answer(status, &[&location], b""))).await;
        let answer = send(&server.url("/"), TIMEOUT).await.unwrap();
        assert!(status.starts_with(answer.status().as_str()));
        assert_eq!(server.seen().len(), 1);
    }
    assert_eq!(target.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_timeout_holds_for_headers_and_body() {
    let hangs = [
        b"".to_vec(),
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n".to_vec(),
    ];
    for bytes in hangs {
        let server = Server::start(Does::WritesAndHangs(bytes)).await;
        let started = Instant::now();
        let error = send(&server.url("/"), Duration::from_millis(300))
            .await
            .unwrap_err();
        assert_eq!(error.failure(), Failure::Timeout);
        assert!(error.failure().is_retryable());
        assert_eq!(error.failure().kind(), ErrorKind::Timeout);
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_says_that_nothing_was_sent() {
    let error = send(&format!("http://{}/", refusing().await), TIMEOUT)
        .await
        .unwrap_err();
    assert_eq!(error.failure(), Failure::Connect);
    assert!(error.failure().is_retryable());
    assert_eq!(error.failure().kind(), ErrorKind::Unavailable);
}

/// Where nobody listens.
async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_open_what_was_accepted() {
    let partial = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"success\":";
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"su";
    for does in [
        Does::ResetsAtOnce,
        Does::WritesAndResets(Vec::new()),
        Does::WritesAndResets(b"HTTP/1.1 20".to_vec()),
        Does::WritesAndResets(partial.to_vec()),
        Does::WritesAndResets(chunked.to_vec()),
        Does::WritesAndResets(b"this is not HTTP\r\n\r\n".to_vec()),
    ] {
        let server = Server::start(does).await;
        let error = send(&server.url("/"), TIMEOUT).await.unwrap_err();
        assert_eq!(error.failure(), Failure::Interrupted);
        assert!(error.failure().is_retryable());
        assert_eq!(error.failure().kind(), ErrorKind::Unavailable);
        // The transport itself does not repeat what may have been accepted.
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn what_is_no_request_is_not_retried() {
    let request = Request::builder()
        .uri("/relative")
        .body(Bytes::new())
        .unwrap();
    let error = transport().send(request, TIMEOUT).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Invalid);
    assert!(!error.failure().is_retryable());
}

#[tokio::test]
async fn no_more_than_the_cap_is_read() {
    for (length, read) in [
        (MAX_RESPONSE_BYTES - 1, MAX_RESPONSE_BYTES - 1),
        (MAX_RESPONSE_BYTES + 12345, MAX_RESPONSE_BYTES),
    ] {
        let body = answer("200 OK", &[], &vec![b'x'; length]);
        let server = Server::start(Does::Writes(body)).await;
        let answer = send(&server.url("/"), TIMEOUT).await.unwrap();
        assert_eq!(answer.body().len(), read);
    }
}

/// A proxy in the environment is for others: loopback is reached directly.
#[tokio::test]
async fn a_proxy_in_the_environment_does_not_break_loopback() {
    const CHILD: &str = "ANALYTICS_TEST_PROXIED_URL";
    if let Ok(url) = std::env::var(CHILD) {
        assert_eq!(send(&url, TIMEOUT).await.unwrap().status(), 200);
        let port = url.rsplit(':').next().unwrap();
        let url = format!("http://LOCALHOST:{port}");
        assert_eq!(send(&url, TIMEOUT).await.unwrap().status(), 200);
        // Anything else goes to the proxy, where nobody listens.
        let error = send("http://192.0.2.1/", TIMEOUT).await.unwrap_err();
        assert_eq!(error.failure(), Failure::Connect);
        return;
    }
    let server = Server::start(Does::Writes(answer("200 OK", &[], b"{}"))).await;
    let url = format!("http://{}", server.address);
    run_again(
        "a_proxy_in_the_environment_does_not_break_loopback",
        |child| {
            child
                .env(CHILD, url)
                .env("HTTP_PROXY", "http://127.0.0.1:1")
                .env("http_proxy", "http://127.0.0.1:1")
                .env_remove("NO_PROXY")
                .env_remove("no_proxy");
        },
    )
    .await;
    assert_eq!(server.seen().len(), 2);
}

/// A container of one file has no certificates of its own.
#[tokio::test]
async fn a_system_without_certificates_has_a_transport() {
    const CHILD: &str = "ANALYTICS_TEST_NO_CERTIFICATES";
    if std::env::var(CHILD).is_ok() {
        drop(transport());
        return;
    }
    run_again("a_system_without_certificates_has_a_transport", |child| {
        child
            .env(CHILD, "1")
            .env("SSL_CERT_FILE", "/nonexistent/file")
            .env("SSL_CERT_DIR", "/nonexistent/dir");
    })
    .await;
}

/// Runs one test of this file in a process of its own, with another
/// environment.
async fn run_again(test: &str, prepare: impl FnOnce(&mut std::process::Command)) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]);
    prepare(&mut child);
    let output = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A vendor with a secret in its URL, as some have.
#[derive(Debug)]
struct Leaky {
    base: BaseUrl,
    secret: Secret,
}

impl HttpVendor for Leaky {
    type Route = ();

    const VENDOR: &'static str = "leaky";

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    fn steps(&self, input: &AnyInput) -> Result<Vec<Step<()>>, Error> {
        Ok(vec![Step::json((), &input)?])
    }

    fn limits(&self, (): &()) -> Limits {
        Limits {
            max_items: 100,
            gzip: true,
            ..Limits::SINGLE
        }
    }

    fn request(&self, (): &(), bodies: &[&Bytes], _: Sending) -> Result<Request<Bytes>, Error> {
        let secret = self.secret.expose();
        let url = self.base.join(&format!("/v1?token={secret}"));
        let key = request::bearer(secret)?;
        request::json(Method::POST, &url, Some(&key), request::array(bodies))
    }

    fn read(&self, (): &(), response: &HttpResponse, _: usize) -> Reading {
        Reading::All(classify(response))
    }

    fn secrets(&self) -> Vec<&Secret> {
        vec![&self.secret]
    }

    fn batching(&self) -> Batching {
        Batching::single(usize::MAX)
    }

    fn configuration(&self) -> Map<String, Value> {
        Map::new()
    }
}

fn leaky(address: SocketAddr) -> Client<Leaky> {
    let vendor = Leaky {
        base: BaseUrl::new(&format!("http://{address}")).unwrap(),
        secret: Secret::new("SECRET"),
    };
    Client::new(vendor, Instance::new("mine"))
        .unwrap()
        .with_transport(Arc::new(transport()))
}

fn input(id: &str, size: usize) -> AnyInput {
    let event = Track::new("PAYLOAD")
        .user_id("PAYLOAD")
        .property("p", "PAYLOAD ".repeat(size));
    Input::new(event)
        .context(Context::new().message_id(id))
        .into_any()
}

fn attempt(input: &AnyInput, number: u32, timeout: Duration) -> Attempt<'_> {
    Attempt {
        input,
        number,
        progress: Progress::NONE,
        timeout,
        deadline: None,
    }
}

#[tokio::test]
async fn a_large_body_is_compressed_and_marked_and_a_small_one_is_not() {
    let server = Server::start(Does::Writes(answer("200 OK", &[], b"{}"))).await;
    let client = leaky(server.address);
    for (size, encoding) in [(1, None), (1000, Some("gzip"))] {
        let input = input("m1", size);
        let body = serde_json::to_string(&[&input]).unwrap();
        client.deliver(&attempt(&input, 1, TIMEOUT)).await.unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.header("content-encoding"), encoding);
        let mut decoded = String::new();
        if encoding.is_some() {
            assert!(seen.body.len() < body.len() / 4);
            flate2::read::GzDecoder::new(&seen.body[..])
                .read_to_string(&mut decoded)
                .unwrap();
        } else {
            decoded = String::from_utf8(seen.body.clone()).unwrap();
        }
        assert_eq!(decoded, body);
        let agent = seen.header("user-agent").unwrap();
        assert!(agent.starts_with("analytics-rust/"), "{agent}");
        assert_eq!(seen.head.matches("user-agent").count(), 1);
    }
}

#[tokio::test]
async fn answers_are_kept_as_json_or_text_and_without_cookies() {
    let long = "x".repeat(MAX_RESPONSE_BYTES + 10);
    let json = serde_json::json!({"a": 1});
    let cases: [(&[u8], Option<Value>, bool); 6] = [
        (b"", None, false),
        (b" {\"a\": 1} ", Some(json), false),
        (b"no <b>page</b>", Some("no <b>page</b>".into()), false),
        (b"{\"a\":", Some("{\"a\":".into()), false),
        (b"\xff ok", Some("\u{fffd} ok".into()), false),
        (
            long.as_bytes(),
            Some(long[..MAX_RESPONSE_BYTES].into()),
            true,
        ),
    ];
    let headers = [
        "x-many: a",
        "X-Many: b",
        "set-cookie: c=1",
        "x-echo: Bearer SECRET",
    ];
    for (body, kept, truncated) in cases {
        let server = Server::start(Does::Writes(answer("200 OK", &headers, body))).await;
        let input = input("m1", 1);
        let delivery = leaky(server.address)
            .deliver(&attempt(&input, 1, TIMEOUT))
            .await
            .unwrap();
        let response = delivery.into_response().unwrap();
        assert_eq!(response.status_code, 200);
        assert_eq!(response.headers["x-many"], ["a", "b"]);
        assert_eq!(response.headers["x-echo"], ["Bearer [redacted]"]);
        assert!(!response.headers.contains_key("set-cookie"));
        assert!(response.body == kept, "{:.100?}", response.body);
        assert_eq!(response.truncated, truncated);
    }
}

/// Everything that this project's targets say, at every level.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Captured>>);

#[derive(Default)]
struct Captured {
    text: String,
    /// For each span its name, and its fields with their last values.
    spans: Vec<(String, Fields)>,
}

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<String, String>);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl tracing::Subscriber for Capture {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("analytics")
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let metadata = span.metadata();
        let mut fields = Fields::default();
        for field in metadata.fields() {
            fields.0.insert(field.name().to_owned(), String::new());
        }
        span.record(&mut fields);
        let mut captured = self.0.lock().unwrap();
        captured.text += &format!("{} {fields:?}\n", metadata.name());
        captured.spans.push((metadata.name().to_owned(), fields));
        tracing::span::Id::from_u64(captured.spans.len() as u64)
    }

    fn record(&self, span: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        let mut captured = self.0.lock().unwrap();
        let index = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut captured.spans[index].1);
        let line = format!("{:?}\n", captured.spans[index].1);
        captured.text += &line;
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().text += &format!("{fields:?}\n");
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// An error and its causes, in both forms.
fn everything(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?} {:?}", error.response());
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(" {error} {error:?}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn nothing_that_is_shown_has_a_url_a_secret_or_a_payload() {
    // Alone in its process: other tests decide too which spans are wanted.
    const CHILD: &str = "ANALYTICS_TEST_CAPTURES";
    if std::env::var(CHILD).is_err() {
        let test = "nothing_that_is_shown_has_a_url_a_secret_or_a_payload";
        return run_again(test, |child| {
            child.env(CHILD, "1");
        })
        .await;
    }
    let capture = Capture::default();
    let _guard = tracing::subscriber::set_default(capture.clone());
    let echo = br#"{"message": "no such token SECRET, Bearer SECRET"}"#;
    let location = "x-location: http?token=SECRET";
    let short = Duration::from_millis(300);
    let mut servers = vec![(refusing().await, TIMEOUT)];
    for does in [
        Does::ResetsAtOnce,
        Does::WritesAndHangs(Vec::new()),
        Does::WritesAndResets(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
        Does::WritesAndResets(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n".to_vec()),
        Does::Writes(answer("404 Not Found", &["x-token: SECRET"], echo)),
        Does::Writes(answer("503 Down", &[location], echo)),
    ] {
        let timeout = match does {
            Does::WritesAndHangs(_) => short,
            _ => TIMEOUT,
        };
        servers.push((Server::start(does).await.address, timeout));
    }
    let mut errors = String::new();
    for (address, timeout) in servers {
        let (first, second) = (input("m1", 1), input("m2", 1));
        // The first one's person is the second one's too: both go together.
        let outcomes = leaky(address)
            .deliver_batch(&[attempt(&first, 2, timeout), attempt(&second, 3, TIMEOUT)])
            .await;
        for outcome in outcomes {
            errors += &everything(&outcome.unwrap_err());
        }
    }
    let captured = capture.0.lock().unwrap();
    let mut statuses = Vec::new();
    for (name, Fields(fields)) in &captured.spans {
        assert_eq!(name, "analytics.request");
        let shown: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| *name != "status")
            .collect();
        assert_eq!(
            shown,
            [
                ("attempt", "3"),
                ("events", "2"),
                ("integration", "\"mine\""),
                ("kind", "track"),
                ("message_id", "\"m1\""),
            ]
        );
        statuses.push(fields["status"].as_str());
    }
    assert_eq!(
        statuses,
        [
            "Unavailable",
            "Unavailable",
            "Timeout",
            "Unavailable",
            "Unavailable",
            "404",
            "503"
        ]
    );
    // The errors say why, and the capture works.
    assert!(errors.contains("Connection refused"), "{errors}");
    assert!(captured.text.contains("refused"), "{}", captured.text);
    for shown in [&captured.text, &errors] {
        for never in ["SECRET", "U0VDUkVU", "token=S", "http://", "PAYLOAD"] {
            assert!(!shown.contains(never), "{never} in {shown}");
        }
    }
}

//! The vendors that `analytics demo` and `analytics sandbox` put up.

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

use analytics_spec::{Kind, Value};
use async_trait::async_trait;

use crate::server::{Received, RecordedRequest, Scripted, ServerOptions, Vendor, Violation};

/// A scripted vendor that can be shown: with an account of its own, the
/// configuration that leads an integration to it, and words for what it gets.
pub trait Staged: Vendor + Sized {
    /// The vendor's name, in lower case.
    const NAME: &'static str;

    /// The vendor with an account that is made up, in which everything that the
    /// integration supports is possible.
    fn staged() -> Self;

    /// The keys of the integration's table that lead to that account, in TOML:
    /// as many kinds as possible are supported with them.
    fn keys(base_url: &str) -> String;

    /// Which kind of event an item was, and what it is in the vendor's words;
    /// `None` for what only accompanies another item.
    fn words(item: &Received) -> Option<(Kind, String)>;
}

/// A scripted vendor that can be started.
#[derive(Clone, Copy)]
pub struct Staging {
    /// The vendor's name.
    pub name: &'static str,
    start: Start,
}

type Start = fn(ServerOptions) -> Pin<Box<dyn Future<Output = io::Result<Stage>> + Send>>;

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Staging {
    pub(super) const fn of<V: Staged>() -> Self {
        Self {
            name: V::NAME,
            start: |options| Box::pin(Stage::start::<V>(options)),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// Where the address cannot be bound.
    pub async fn start(&self, options: ServerOptions) -> io::Result<Stage> {
        (self.start)(options).await
    }
}

/// A vendor that answers on loopback, whichever it is.
pub struct Stage {
    /// The vendor's name, and the integration's.
    pub name: &'static str,
    /// Where it answers, without a slash at the end.
    pub base_url: String,
    /// The table that configures the integration, in TOML.
    pub configuration: String,
    server: Box<dyn Server>,
    words: fn(&Received) -> Option<(Kind, String)>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("name", &self.name)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Stage {
    async fn start<V: Staged>(options: ServerOptions) -> io::Result<Self> {
        let server: Scripted<V> = Scripted::start_with(options, V::staged()).await?;
        let base_url = server.base_url();
        Ok(Self {
            name: V::NAME,
            configuration: format!("[integrations.{}]\n{}", V::NAME, V::keys(&base_url)),
            base_url,
            server: Box::new(server),
            words: V::words,
        })
    }

    /// The items that the vendor took, in order, each once.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.server.received()
    }

    /// Which kinds of events those were, and what they are in its words.
    #[must_use]
    pub fn in_words(&self) -> Vec<(Kind, String)> {
        self.received().iter().filter_map(self.words).collect()
    }

    /// What the vendor refused, lost or bent.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.server.violations()
    }

    /// Waits until there are requests after the one of this number.
    pub async fn requests_after(&self, number: u64) -> Vec<RecordedRequest> {
        self.server.requests_after(number).await
    }
}

/// A server, whosever rules it has.
#[async_trait]
trait Server: Send + Sync {
    fn received(&self) -> Vec<Received>;
    fn violations(&self) -> Vec<Violation>;
    async fn requests_after(&self, number: u64) -> Vec<RecordedRequest>;
}

#[async_trait]
impl<V: Vendor> Server for Scripted<V> {
    fn received(&self) -> Vec<Received> {
        Self::received(self)
    }

    fn violations(&self) -> Vec<Violation> {
        Self::violations(self)
    }

    async fn requests_after(&self, number: u64) -> Vec<RecordedRequest> {
        self.wait_until(Duration::MAX, |counts| counts.requests > number)
            .await;
        let mut requests = self.requests();
        requests.retain(|request| request.number > number);
        requests
    }
}

/// A text in a body; empty, if there is none.
pub(super) fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

//! The scripted vendors, with the configuration that leads to them.

use std::{io, net::SocketAddr, time::Duration};

use analytics_kit::{Kind, Value, Vendor};
use analytics_testkit::{
    Keep, MailchimpAccount, MixpanelAccount, Received, Scripted, ScriptedMailchimp,
    ScriptedMixpanel, ScriptedSegment, SegmentAccount, ServerOptions, Violation,
    server::RecordedRequest, vendors::IdMerge,
};
use async_trait::async_trait;

const WRITE_KEY: &str = "sandbox-write-key";
const PUBLIC_API_TOKEN: &str = "sandbox-public-api-token";
const PROJECT_TOKEN: &str = "sandbox-project-token";
const API_KEY: &str = "sandbox-api-key-us1";
const AUDIENCE_ID: &str = "sandbox-audience";

/// A vendor that answers on loopback.
pub(crate) struct Stage {
    /// The vendor's name, and the integration's.
    pub(crate) name: &'static str,
    pub(crate) base_url: String,
    /// The table that configures the integration.
    pub(crate) configuration: String,
    pub(crate) server: Box<dyn Server>,
    words: Words,
}

/// Which kind of event an item was that a vendor received, and what it is in
/// the vendor's words.
type Words = fn(&Received) -> Option<(Kind, String)>;

impl Stage {
    /// Everything that the vendor received, in its words.
    pub(crate) fn received(&self) -> Vec<(Kind, String)> {
        let received = self.server.received();
        received.iter().filter_map(self.words).collect()
    }
}

/// Starts every vendor that is compiled in: at free ports, or at this one and
/// those that follow.
pub(crate) async fn start(listen: SocketAddr, keep: Keep) -> io::Result<Vec<Stage>> {
    let mut stages = Vec::new();
    let mut address = listen;
    for (name, open) in [
        ("mailchimp", Opening::Mailchimp),
        ("mixpanel", Opening::Mixpanel),
        ("segment", Opening::Segment),
    ] {
        if !Vendor::find(name).is_some_and(Vendor::is_compiled_in) {
            continue;
        }
        let options = ServerOptions::default().address(address).keep(keep);
        stages.push(open.start(options).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{name} at {address}: {error}"))
        })?);
        if address.port() > 0 {
            address.set_port(address.port().checked_add(1).ok_or_else(|| {
                io::Error::new(io::ErrorKind::AddrNotAvailable, "no port is left")
            })?);
        }
    }
    Ok(stages)
}

/// The configuration that leads to all of them.
pub(crate) fn configuration(stages: &[Stage]) -> String {
    let tables: Vec<_> = stages.iter().map(|s| s.configuration.as_str()).collect();
    tables.join("\n")
}

enum Opening {
    Mailchimp,
    Mixpanel,
    Segment,
}

impl Opening {
    async fn start(self, options: ServerOptions) -> io::Result<Stage> {
        match self {
            Self::Mailchimp => mailchimp(options).await,
            Self::Mixpanel => mixpanel(options).await,
            Self::Segment => segment(options).await,
        }
    }
}

async fn mailchimp(options: ServerOptions) -> io::Result<Stage> {
    let account = MailchimpAccount::new(API_KEY, AUDIENCE_ID);
    let server = ScriptedMailchimp::start_with(options, account).await?;
    let base_url = server.base_url();
    Ok(Stage {
        name: "mailchimp",
        configuration: format!(
            r#"[integrations.mailchimp]
api_key = "{API_KEY}"
audience_id = "{AUDIENCE_ID}"
group_as_tag = true
base_url = "{base_url}"
"#
        ),
        base_url,
        server: Box::new(server),
        words: |item| {
            let body = &item.body;
            let user = item.user.as_deref().unwrap_or_default();
            Some(match item.endpoint.as_str() {
                "members" => (Kind::Identify, format!("member {user}")),
                "events" => (Kind::Track, text(body, "/name").to_owned()),
                "tags" => (Kind::Group, format!("tag {}", text(body, "/tags/0/name"))),
                "archive" => (Kind::Delete, format!("archived {user}")),
                "delete-permanent" => (Kind::Delete, format!("erased {user}")),
                _ => return None,
            })
        },
    })
}

async fn mixpanel(options: ServerOptions) -> io::Result<Stage> {
    let account = MixpanelAccount::new(PROJECT_TOKEN).id_merge(IdMerge::Original);
    let server = ScriptedMixpanel::start_with(options, account).await?;
    let base_url = server.base_url();
    Ok(Stage {
        name: "mixpanel",
        configuration: format!(
            r#"[integrations.mixpanel]
project_token = "{PROJECT_TOKEN}"
id_merge = "original"                 # for `alias`
base_url = "{base_url}"
"#
        ),
        base_url,
        server: Box::new(server),
        words: |item| {
            let body = &item.body;
            let user = item.user.as_deref().unwrap_or_default();
            let has = |key| body.get(key).is_some();
            Some(match item.endpoint.as_str() {
                "import" => match text(body, "/event") {
                    name @ ("$identify" | "$merge") => (Kind::Identify, name.to_owned()),
                    name @ "$create_alias" => (Kind::Alias, name.to_owned()),
                    name @ "Loaded a Page" => (Kind::Page, name.to_owned()),
                    name @ "Loaded a Screen" => (Kind::Screen, name.to_owned()),
                    name => (Kind::Track, name.to_owned()),
                },
                "engage" if has("$delete") => (Kind::Delete, format!("$delete {user}")),
                "engage" if has("$union") => (Kind::Group, format!("$union {user}")),
                "engage" => (Kind::Identify, format!("$set {user}")),
                "groups" => (Kind::Group, format!("$set {user}")),
                "data-deletions" => (Kind::Delete, format!("deletion of {user}")),
                _ => return None,
            })
        },
    })
}

async fn segment(options: ServerOptions) -> io::Result<Stage> {
    let account = SegmentAccount::new(WRITE_KEY).public_api_token(PUBLIC_API_TOKEN);
    let server = ScriptedSegment::start_with(options, account).await?;
    let base_url = server.base_url();
    Ok(Stage {
        name: "segment",
        configuration: format!(
            r#"[integrations.segment]
write_key = "{WRITE_KEY}"
public_api_token = "{PUBLIC_API_TOKEN}"   # for `delete`
base_url = "{base_url}"
public_api_base_url = "{base_url}"
"#
        ),
        base_url,
        server: Box::new(server),
        words: |item| {
            let body = &item.body;
            let user = item.user.as_deref().unwrap_or_default();
            if item.endpoint == "regulations" {
                return Some((Kind::Delete, format!("regulation of {user}")));
            }
            let kind = Kind::from_key(&item.endpoint)?;
            let words = match kind {
                Kind::Track => text(body, "/event").to_owned(),
                Kind::Page | Kind::Screen => text(body, "/name").to_owned(),
                Kind::Group => format!("group {}", text(body, "/groupId")),
                Kind::Identify | Kind::Alias | Kind::Delete => format!("{kind} {user}"),
            };
            Some((kind, words))
        },
    })
}

fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A scripted vendor, whichever it is.
#[async_trait]
pub(crate) trait Server: Send + Sync {
    /// The items that it took.
    fn received(&self) -> Vec<Received>;

    /// What it refused, lost or bent.
    fn violations(&self) -> Vec<Violation>;

    /// Waits until there are requests after the one of this number.
    async fn requests_after(&self, number: u64) -> Vec<RecordedRequest>;
}

#[async_trait]
impl<V: analytics_testkit::Vendor> Server for Scripted<V> {
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

//! Posthog.
//!
//! FILL IN: the documentation page of every rule that is checked here.

use analytics_spec::Kind;

use super::stage::{Staged, text};
use crate::server::{Answer, Received, Record, Request, Scripted, Vendor};

/// Posthog, on loopback.
pub type ScriptedPosthog = Scripted<PosthogVendor>;

/// The account that a [`ScriptedPosthog`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PosthogAccount {
    /// The API key.
    pub api_key: String,
}

impl PosthogAccount {
    /// An account with a key.
    pub fn new(api_key: impl Into<String>) -> Self {
        Self {
            api_key: api_key.into(),
        }
    }
}

/// Posthog's rules, and what it remembers.
#[derive(Debug)]
pub struct PosthogVendor {
    account: PosthogAccount,
}

impl From<PosthogAccount> for PosthogVendor {
    fn from(account: PosthogAccount) -> Self {
        Self { account }
    }
}

impl Staged for PosthogVendor {
    const NAME: &'static str = "posthog";

    fn staged() -> Self {
        PosthogAccount::new("sandbox-api-key").into()
    }

    fn keys(base_url: &str) -> String {
        format!("api_key = \"sandbox-api-key\"\nbase_url = \"{base_url}\"\n")
    }

    // FILL IN: which kind of event an item was, by its endpoint and its body.
    fn words(item: &Received) -> Option<(Kind, String)> {
        Some((Kind::Track, text(&item.body, "/event").to_owned()))
    }
}

impl Vendor for PosthogVendor {
    // FILL IN: every rule of Posthog's documentation. `record.accept` what it takes,
    // `record.refused` with the status that it answers, `record.dropped` and
    // `record.altered` what it answers 2xx to, and loses or bends.
    fn answer(&mut self, request: &Request, record: &mut Record) -> Answer {
        if request.bearer_token() != Some(self.account.api_key.as_str()) {
            record.refused("credentials", None, "not the account's API key");
            return Answer::text(401, "invalid API key");
        }
        record.refused("path", None, format!("not scripted: {}", request.path));
        Answer::empty(404)
    }
}

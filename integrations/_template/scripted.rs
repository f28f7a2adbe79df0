//! Acme Inc.
//!
//! FILL IN: the documentation page of every rule that is checked here.

use analytics_spec::Kind;

use super::stage::{Staged, text};
use crate::server::{Answer, Received, Record, Request, Scripted, Vendor};

/// Acme Inc, on loopback.
pub type ScriptedAcme = Scripted<AcmeVendor>;

/// The account that a [`ScriptedAcme`] serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcmeAccount {
    /// The API key.
    pub api_key: String,
}

impl AcmeAccount {
    /// An account with a key.
    pub fn new(api_key: impl Into<String>) -> Self {
        Self {
            api_key: api_key.into(),
        }
    }
}

/// Acme Inc's rules, and what it remembers.
#[derive(Debug)]
pub struct AcmeVendor {
    account: AcmeAccount,
}

impl From<AcmeAccount> for AcmeVendor {
    fn from(account: AcmeAccount) -> Self {
        Self { account }
    }
}

impl Staged for AcmeVendor {
    const NAME: &'static str = "acme";

    fn staged() -> Self {
        AcmeAccount::new("sandbox-api-key").into()
    }

    fn keys(base_url: &str) -> String {
        format!("api_key = \"sandbox-api-key\"\nbase_url = \"{base_url}\"\n")
    }

    // FILL IN: which kind of event an item was, by its endpoint and its body.
    fn words(item: &Received) -> Option<(Kind, String)> {
        Some((Kind::Track, text(&item.body, "/event").to_owned()))
    }
}

impl Vendor for AcmeVendor {
    // FILL IN: every rule of Acme Inc's documentation. `record.accept` what it takes,
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

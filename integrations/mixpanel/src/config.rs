//! What a Mixpanel project needs to know.

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{self, Instance, VendorConfig, missing},
    integration::Support,
};
use serde::{Deserialize, Serialize};

use crate::{Mixpanel, MixpanelVendor};

/// Where a project's data is kept. Data sent to another region is lost.
///
/// <https://docs.mixpanel.com/docs/privacy/eu-residency>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Region {
    /// The United States.
    #[default]
    Us,
    /// The European Union.
    Eu,
    /// India.
    In,
}

/// How a project makes one user of several ids. It cannot change once the
/// project holds data.
///
/// <https://docs.mixpanel.com/docs/tracking-methods/id-management#identity-merge-apis>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IdMerge {
    /// One event with both ids links them. All organisations since April 2024.
    #[default]
    Simplified,
    /// `$identify`, `$merge` and `$create_alias` link them.
    Original,
}

/// What a `delete` deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Deletion {
    /// The profile. The user's events stay.
    ///
    /// <https://docs.mixpanel.com/reference/delete-profile>
    #[default]
    Profile,
    /// The profile and all events, within 30 days.
    ///
    /// <https://docs.mixpanel.com/reference/create-deletion>
    Gdpr,
}

/// The law by which a user's data is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum ComplianceType {
    /// The EU's General Data Protection Regulation.
    Gdpr,
    /// The California Consumer Privacy Act.
    Ccpa,
}

/// What a Mixpanel project needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The project's token.
    #[serde(default)]
    pub project_token: Secret,
    /// The project's id, which goes with a service account.
    #[serde(default, deserialize_with = "config::text_or_number")]
    pub project_id: Option<String>,
    /// The user name of a service account, which imports events instead of the
    /// token.
    #[serde(default)]
    pub service_account_username: Option<String>,
    /// The service account's secret.
    #[serde(default)]
    pub service_account_secret: Option<Secret>,
    /// Where the project's data is kept.
    #[serde(default)]
    pub region: Region,
    /// How the project makes one user of several ids.
    #[serde(default)]
    pub id_merge: IdMerge,
    /// The project's group key: `$group_id`, unless it has one of its own.
    #[serde(default = "group_id")]
    pub group_key: String,
    /// What a `delete` deletes.
    #[serde(default)]
    pub deletion: Deletion,
    /// A token of the data-deletion API, for [`Deletion::Gdpr`].
    #[serde(default)]
    pub gdpr_oauth_token: Option<Secret>,
    /// The law by which data is deleted, for [`Deletion::Gdpr`].
    #[serde(default)]
    pub compliance_type: Option<ComplianceType>,
    /// What the event of a page is called, with the page's name for `{name}`:
    /// `Viewed {name}`. If absent, `Loaded a Page`.
    #[serde(default)]
    pub page_name: Option<String>,
    /// What the event of a screen is called, with the screen's name for
    /// `{name}`. If absent, `Loaded a Screen`.
    #[serde(default)]
    pub screen_name: Option<String>,
    /// Replaces the hosts of both APIs.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
}

fn group_id() -> String {
    "$group_id".to_owned()
}

impl Config {
    /// A project in the US region, with the simplified identity merge.
    pub fn new(project_token: impl Into<Secret>) -> Self {
        Self {
            project_token: project_token.into(),
            project_id: None,
            service_account_username: None,
            service_account_secret: None,
            region: Region::default(),
            id_merge: IdMerge::default(),
            group_key: group_id(),
            deletion: Deletion::default(),
            gdpr_oauth_token: None,
            compliance_type: None,
            page_name: None,
            screen_name: None,
            base_url: None,
        }
    }

    /// Imports events with a service account instead of the token.
    ///
    /// <https://docs.mixpanel.com/reference/service-accounts>
    #[must_use]
    pub fn service_account(
        mut self,
        project_id: impl Into<String>,
        username: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        self.project_id = Some(project_id.into());
        self.service_account_username = Some(username.into());
        self.service_account_secret = Some(secret.into());
        self
    }

    /// Sets where the project's data is kept.
    #[must_use]
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Sets how the project makes one user of several ids.
    #[must_use]
    pub fn id_merge(mut self, id_merge: IdMerge) -> Self {
        self.id_merge = id_merge;
        self
    }

    /// Sets the project's group key.
    #[must_use]
    pub fn group_key(mut self, group_key: impl Into<String>) -> Self {
        self.group_key = group_key.into();
        self
    }

    /// Deletes a user's events too, by law, through the data-deletion API.
    #[must_use]
    pub fn gdpr_deletion(
        mut self,
        oauth_token: impl Into<Secret>,
        compliance_type: ComplianceType,
    ) -> Self {
        self.deletion = Deletion::Gdpr;
        self.gdpr_oauth_token = Some(oauth_token.into());
        self.compliance_type = Some(compliance_type);
        self
    }

    /// Sets what the event of a page is called: `Viewed {name}`.
    #[must_use]
    pub fn page_name(mut self, template: impl Into<String>) -> Self {
        self.page_name = Some(template.into());
        self
    }

    /// Sets what the event of a screen is called: `Viewed {name}`.
    #[must_use]
    pub fn screen_name(mut self, template: impl Into<String>) -> Self {
        self.screen_name = Some(template.into());
        self
    }

    /// Replaces the hosts of both APIs.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The instance called `mixpanel`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Mixpanel, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    /// The credentials that belong together are there together.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.project_token.is_blank() {
            return Err(missing(Self::VENDOR, "project_token"));
        }
        if self.group_key.trim().is_empty() {
            return Err(missing(Self::VENDOR, "group_key"));
        }
        let is_text = |value: &Option<String>| value.as_ref().is_some_and(|v| !v.trim().is_empty());
        let is_secret = |value: &Option<Secret>| value.as_ref().is_some_and(|v| !v.is_blank());
        let account = [
            (
                "project_id",
                self.project_id.is_some(),
                is_text(&self.project_id),
            ),
            (
                "service_account_username",
                self.service_account_username.is_some(),
                is_text(&self.service_account_username),
            ),
            (
                "service_account_secret",
                self.service_account_secret.is_some(),
                is_secret(&self.service_account_secret),
            ),
        ];
        if account.iter().any(|(_, is_given, _)| *is_given) {
            const WHY: &str = "a service account is project_id, service_account_username and \
                               service_account_secret together";
            all(&account, WHY)?;
        }
        if self.deletion == Deletion::Gdpr {
            const WHY: &str = "deletion is gdpr";
            let compliance = self.compliance_type.is_some();
            all(
                &[
                    ("gdpr_oauth_token", true, is_secret(&self.gdpr_oauth_token)),
                    ("compliance_type", true, compliance),
                ],
                WHY,
            )?;
        }
        Ok(())
    }
}

/// Names the first key without a value, and why it needs one.
fn all(keys: &[(&str, bool, bool)], why: &str) -> Result<(), Error> {
    match keys.iter().find(|(_, _, has_value)| !has_value) {
        Some((key, _, _)) => {
            let missing = missing(Config::VENDOR, key);
            Err(Error::configuration(format!(
                "{}; {why}",
                missing.message()
            )))
        }
        None => Ok(()),
    }
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "mixpanel";

    type Integration = Mixpanel;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Alias => Support::When("id_merge is original"),
            _ => Support::Yes,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Mixpanel, Error> {
        Client::new(MixpanelVendor::new(self)?, instance)
    }
}

//! What a PostHog project needs to know.

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{self, Instance, VendorConfig, missing},
    integration::Support,
};
use serde::{Deserialize, Serialize};

use crate::{Posthog, PosthogVendor};

/// Where a project's data is kept.
///
/// <https://posthog.com/docs/api>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Region {
    /// PostHog Cloud US.
    #[default]
    Us,
    /// PostHog Cloud EU.
    Eu,
}

/// Whose events make a person profile, in the words of PostHog's own
/// libraries.
///
/// <https://posthog.com/docs/data/anonymous-vs-identified-events>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PersonProfiles {
    /// Those of people with a user id; and what is said of an anonymous
    /// person: an identify, a group, traits.
    #[default]
    IdentifiedOnly,
    /// Everybody's.
    Always,
}

/// What a PostHog project needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The project's API key, also called its token: `phc_...`.
    #[serde(default)]
    pub project_api_key: Secret,
    /// Where the project's data is kept.
    #[serde(default)]
    pub region: Region,
    /// A personal API key with the scope `person:write`: `phx_...`. Without it
    /// and [`project_id`](Self::project_id), the instance does not support
    /// `delete`.
    #[serde(default)]
    pub personal_api_key: Option<Secret>,
    /// The project's id, for `delete`.
    #[serde(default, deserialize_with = "config::text_or_number")]
    pub project_id: Option<String>,
    /// The type of the groups that people are made members of.
    #[serde(default = "company")]
    pub group_type: String,
    /// Whose events make a person profile.
    #[serde(default)]
    pub person_profiles: PersonProfiles,
    /// Whether the events are of the past, and are imported.
    ///
    /// <https://posthog.com/docs/migrate>
    #[serde(default)]
    pub historical_migration: bool,
    /// Replaces the URLs of both APIs: an instance of one's own.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// Replaces the URL of the API that deletes, where
    /// [`base_url`](Self::base_url) is a proxy for events alone.
    #[serde(default)]
    pub api_base_url: Option<BaseUrl>,
}

fn company() -> String {
    "company".to_owned()
}

impl Config {
    /// A project of PostHog Cloud US.
    pub fn new(project_api_key: impl Into<Secret>) -> Self {
        Self {
            project_api_key: project_api_key.into(),
            region: Region::default(),
            personal_api_key: None,
            project_id: None,
            group_type: company(),
            person_profiles: PersonProfiles::default(),
            historical_migration: false,
            base_url: None,
            api_base_url: None,
        }
    }

    /// Sets where the project's data is kept.
    #[must_use]
    pub fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Sets what makes `delete` possible: the project's id, and a personal API
    /// key with the scope `person:write`.
    #[must_use]
    pub fn deletion(
        mut self,
        project_id: impl Into<String>,
        personal_api_key: impl Into<Secret>,
    ) -> Self {
        self.project_id = Some(project_id.into());
        self.personal_api_key = Some(personal_api_key.into());
        self
    }

    /// Sets the type of the groups that people are made members of.
    #[must_use]
    pub fn group_type(mut self, group_type: impl Into<String>) -> Self {
        self.group_type = group_type.into();
        self
    }

    /// Sets whose events make a person profile.
    #[must_use]
    pub fn person_profiles(mut self, person_profiles: PersonProfiles) -> Self {
        self.person_profiles = person_profiles;
        self
    }

    /// Says whether the events are of the past, and are imported.
    #[must_use]
    pub fn historical_migration(mut self, historical_migration: bool) -> Self {
        self.historical_migration = historical_migration;
        self
    }

    /// Replaces the URLs of both APIs.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// Replaces the URL of the API that deletes.
    #[must_use]
    pub fn api_base_url(mut self, url: BaseUrl) -> Self {
        self.api_base_url = Some(url);
        self
    }

    /// The instance called `posthog`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Posthog, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    /// The credentials are there, each in its place.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.project_api_key.is_blank() {
            return Err(missing(Self::VENDOR, "project_api_key"));
        }
        // It would be in every request's body, and is good for everything.
        if self.project_api_key.expose().trim().starts_with("phx_") {
            return Err(Error::configuration(
                "`project_api_key` is a personal API key; the project's begins with `phc_`",
            ));
        }
        if self.group_type.trim().is_empty() {
            return Err(missing(Self::VENDOR, "group_type"));
        }
        let chars = self.group_type.chars().count();
        if chars > MAX_GROUP_TYPE_CHARS {
            return Err(Error::configuration(format!(
                "`group_type` has {chars} characters; PostHog takes at most {MAX_GROUP_TYPE_CHARS}"
            )));
        }
        let has_key = self.personal_api_key.as_ref().map(|key| !key.is_blank());
        let has_id = self.project_id.as_ref().map(|id| !id.trim().is_empty());
        let lacking = match (has_key, has_id) {
            (None, None) | (Some(true), Some(true)) => return Ok(()),
            (Some(true), _) => "project_id",
            _ => "personal_api_key",
        };
        Err(Error::configuration(format!(
            "{}; a delete needs project_id and personal_api_key together",
            missing(Self::VENDOR, lacking).message()
        )))
    }
}

/// <https://posthog.com/docs/api/capture#group-identify>
const MAX_GROUP_TYPE_CHARS: usize = 400;

impl VendorConfig for Config {
    const VENDOR: &'static str = "posthog";

    type Integration = Posthog;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Delete => Support::When("personal_api_key and project_id are set"),
            _ => Support::Yes,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Posthog, Error> {
        Client::new(PosthogVendor::new(self)?, instance)
    }
}

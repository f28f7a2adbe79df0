//! What a Mailchimp audience needs to know.

use std::collections::BTreeMap;

use analytics_http::{BaseUrl, Client};
use analytics_spec::{
    Error, Kind, Secret,
    config::{Instance, VendorConfig, boolean, missing},
    integration::Support,
};
use serde::{Deserialize, Serialize};

use crate::{Mailchimp, MailchimpVendor};

/// What a `delete` asks of Mailchimp.
///
/// <https://mailchimp.com/help/delete-contacts/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RegulationType {
    /// Archive the member: no more email, data kept, and a later `identify`
    /// brings them back.
    #[default]
    Archive,
    /// Erase everything personal, for good: Mailchimp does not take the address
    /// again, unless its owner signs up at a form.
    Delete,
}

/// What a Mailchimp audience needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The account's API key: `...-us21`.
    #[serde(default)]
    pub api_key: Secret,
    /// The account's data center. Unset or empty, it is what follows the last
    /// `-` of the key.
    #[serde(default)]
    pub datacenter_id: Option<String>,
    /// The audience's id (not its name), which Mailchimp also calls list id.
    #[serde(default)]
    pub audience_id: String,
    /// New members are asked to confirm before they are subscribed.
    #[serde(default, deserialize_with = "boolean")]
    pub enable_double_opt_in: bool,
    /// What a `delete` asks for.
    #[serde(default)]
    pub regulation_type: RegulationType,
    /// The merge field, by its tag, that a trait is sent as: `plan = "PLAN"`.
    /// It wins over `first_name = "FNAME"` and `last_name = "LNAME"`, which
    /// hold unless their trait or their tag is named here.
    #[serde(default)]
    pub merge_fields: BTreeMap<String, String>,
    /// Takes members without the merge fields that the audience requires.
    #[serde(default, deserialize_with = "boolean")]
    pub skip_merge_validation: bool,
    /// Sends a `group` as a tag of the member. Without it, the instance does
    /// not support `group`.
    #[serde(default, deserialize_with = "boolean")]
    pub group_as_tag: bool,
    /// Replaces the API's URL, up to `/3.0`.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
}

impl Config {
    /// An audience, without double opt-in.
    pub fn new(api_key: impl Into<Secret>, audience_id: impl Into<String>) -> Self {
        Self {
            api_key: api_key.into(),
            datacenter_id: None,
            audience_id: audience_id.into(),
            enable_double_opt_in: false,
            regulation_type: RegulationType::default(),
            merge_fields: BTreeMap::new(),
            skip_merge_validation: false,
            group_as_tag: false,
            base_url: None,
        }
    }

    /// Sets the account's data center: `us21`.
    #[must_use]
    pub fn datacenter_id(mut self, datacenter_id: impl Into<String>) -> Self {
        self.datacenter_id = Some(datacenter_id.into());
        self
    }

    /// Sets whether new members are asked to confirm.
    #[must_use]
    pub fn enable_double_opt_in(mut self, enable: bool) -> Self {
        self.enable_double_opt_in = enable;
        self
    }

    /// Sets what a `delete` asks for.
    #[must_use]
    pub fn regulation_type(mut self, regulation_type: RegulationType) -> Self {
        self.regulation_type = regulation_type;
        self
    }

    /// Sends a trait as the merge field with a tag.
    #[must_use]
    pub fn merge_field(mut self, trait_: impl Into<String>, tag: impl Into<String>) -> Self {
        self.merge_fields.insert(trait_.into(), tag.into());
        self
    }

    /// Sets whether members without required merge fields are taken.
    #[must_use]
    pub fn skip_merge_validation(mut self, skip: bool) -> Self {
        self.skip_merge_validation = skip;
        self
    }

    /// Sets whether a `group` is sent as a tag.
    #[must_use]
    pub fn group_as_tag(mut self, as_tag: bool) -> Self {
        self.group_as_tag = as_tag;
        self
    }

    /// Replaces the API's URL, up to `/3.0`.
    #[must_use]
    pub fn base_url(mut self, url: BaseUrl) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The instance called `mailchimp`.
    ///
    /// # Errors
    ///
    /// A key is missing or wrong.
    pub fn build(self) -> Result<Mailchimp, Error> {
        self.build_as(Instance::new(Self::VENDOR))
    }

    /// The API's URL: the configured one, else the data center's.
    ///
    /// <https://mailchimp.com/developer/marketing/docs/fundamentals/>
    pub(crate) fn url(&self) -> Result<BaseUrl, Error> {
        if let Some(url) = &self.base_url {
            return Ok(url.clone());
        }
        let own = self.datacenter_id.as_deref().map(str::trim);
        let datacenter = match own.filter(|id| !id.is_empty()) {
            Some(id) if is_datacenter(id) => id,
            Some(_) => {
                return Err(Error::configuration(
                    "`datacenter_id` is not one: a data center is letters and digits, such as us21",
                ));
            }
            // The message must not repeat any part of the key.
            None => self
                .api_key
                .expose()
                .trim()
                .rsplit_once('-')
                .map(|(_, suffix)| suffix)
                .filter(|suffix| is_datacenter(suffix))
                .ok_or_else(|| {
                    Error::configuration(
                        "`api_key` does not end with a data center, such as -us21: \
                         copy the whole key, or set `datacenter_id`",
                    )
                })?,
        };
        BaseUrl::new(&format!("https://{datacenter}.api.mailchimp.com"))
    }

    /// The audience's id, fit for a path.
    pub(crate) fn audience(&self) -> Result<&str, Error> {
        let id = self.audience_id.trim();
        if id.is_empty() {
            return Err(missing(Self::VENDOR, "audience_id"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !id.chars().all(fits) {
            return Err(Error::configuration(
                "`audience_id` is not one: an id is letters and digits, \
                 and stands in the audience's settings; its name is not meant",
            ));
        }
        Ok(id)
    }
}

/// What may stand in the host's name, and cannot make it another host.
fn is_datacenter(id: &str) -> bool {
    !id.is_empty() && id.len() <= 63 && id.chars().all(|c| c.is_ascii_alphanumeric())
}

impl VendorConfig for Config {
    const VENDOR: &'static str = "mailchimp";

    type Integration = Mailchimp;

    fn support(kind: Kind) -> Support {
        match kind {
            Kind::Identify | Kind::Track | Kind::Delete => Support::Yes,
            Kind::Group => Support::When("group_as_tag is true"),
            Kind::Alias | Kind::Page | Kind::Screen => Support::No,
        }
    }

    fn build_as(self, instance: Instance) -> Result<Mailchimp, Error> {
        Client::new(MailchimpVendor::new(self)?, instance)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use analytics_http::HttpVendor as _;
    use analytics_spec::{
        ErrorKind, Integration as _,
        config::{keys, read},
    };
    use serde_json::{Value, json};

    use super::*;

    fn config(table: Value, env: &[(&str, &str)]) -> Result<Config, Error> {
        let Value::Object(table) = table else {
            panic!("not a table")
        };
        let env: HashMap<_, _> = env.iter().copied().collect();
        read(table, &|name| {
            env.get(name).map(|value| (*value).to_owned())
        })
    }

    fn refused(config: Config) -> String {
        let error = config.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    }

    #[test]
    fn every_key_is_read() {
        let config = config(
            json!({
                "api_key": "hunter2-us21",
                "datacenter_id": "us7",
                "audience_id": "aud1",
                "enable_double_opt_in": true,
                "regulation_type": "delete",
                "merge_fields": {"plan": "PLAN"},
                "skip_merge_validation": "true",
                "group_as_tag": true,
                "base_url": "https://proxy.example/mc",
            }),
            &[],
        )
        .unwrap();
        let mut shown = config.clone().build().unwrap().configuration();
        assert_eq!(config.datacenter_id.as_deref(), Some("us7"));
        assert_eq!(config.api_key.expose(), "hunter2-us21");
        assert_eq!(
            shown.remove("url"),
            Some(json!("https://proxy.example/mc/3.0/lists/aud1"))
        );
        assert_eq!(
            Value::Object(shown),
            json!({
                "audience_id": "aud1",
                "enable_double_opt_in": true,
                "regulation_type": "delete",
                "merge_fields": {"first_name": "FNAME", "last_name": "LNAME", "plan": "PLAN"},
                "skip_merge_validation": true,
                "group_as_tag": true,
            })
        );
        assert_eq!(keys::<Config>().len(), 9);
    }

    #[test]
    fn variables_fill_what_the_table_leaves_out() {
        let config = config(
            json!({}),
            &[
                ("MAILCHIMP_API_KEY", "hunter2-us21"),
                ("MAILCHIMP_AUDIENCE_ID", "aud1"),
                ("MAILCHIMP_GROUP_AS_TAG", "true"),
            ],
        )
        .unwrap();
        assert_eq!(config.regulation_type, RegulationType::Archive);
        assert!(config.group_as_tag);
        assert!(!config.enable_double_opt_in);
        assert!(config.build().unwrap().supports().contains(Kind::Group));
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let error = config(json!({"audienceId": "aud1"}), &[]).unwrap_err();
        assert!(error.message().contains("audience_id"), "{error}");
    }

    #[test]
    fn missing_credentials_name_the_key_and_the_variable() {
        for blank in ["", "  \n"] {
            let message = refused(Config::new(blank, "aud1"));
            assert!(message.contains("`api_key`"), "{message}");
            assert!(message.contains("MAILCHIMP_API_KEY"), "{message}");
            let message = refused(Config::new("hunter2-us21", blank));
            assert!(message.contains("`audience_id`"), "{message}");
            assert!(message.contains("MAILCHIMP_AUDIENCE_ID"), "{message}");
        }
    }

    #[test]
    fn the_data_center_is_the_configured_one_or_the_keys() {
        let url = |config: Config| config.url().unwrap().to_string();
        let config = Config::new("hunter2-with-dashes-us21\n", "aud1");
        let us21 = "https://us21.api.mailchimp.com";
        assert_eq!(url(config.clone()), us21);
        assert_eq!(url(config.clone().datacenter_id(" ")), us21);
        assert_eq!(
            url(config.clone().datacenter_id("eu3")),
            "https://eu3.api.mailchimp.com"
        );
        let proxy = BaseUrl::new("http://127.0.0.1:1").unwrap();
        assert_eq!(
            url(Config::new("hunter2", "aud1").base_url(proxy)),
            "http://127.0.0.1:1"
        );
    }

    #[test]
    fn a_data_center_cannot_change_the_host() {
        for key in [
            "hunter2",
            "hunter2-",
            "hunter2-evil.example/",
            "hunter2-us21.evil.example#",
            "hunter2-us21@evil",
        ] {
            let message = refused(Config::new(key, "aud1"));
            assert!(message.contains("`datacenter_id`"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
            assert!(!message.contains("evil"), "{message}");
        }
        for id in ["evil.example/", "us21?", "us-21", "\u{fc}s1"] {
            let message = refused(Config::new("hunter2-us21", "aud1").datacenter_id(id));
            assert!(message.contains("`datacenter_id`"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
            // It may be the key, under the wrong name.
            assert!(!message.contains(id), "{message}");
        }
    }

    #[test]
    fn an_audience_id_cannot_change_the_path() {
        for id in ["..", "a/b", "My Audience", "a?b", "a%2e"] {
            let message = refused(Config::new("hunter2-us21", id));
            assert!(message.contains("`audience_id`"), "{message}");
            assert!(!message.contains(&format!("{id:?}")), "{message}");
        }
    }

    #[test]
    fn merge_tags_are_checked() {
        let config = Config::new("hunter2-us21", "aud1");
        let message = refused(config.clone().merge_field("plan", "*|PLAN|*"));
        assert!(message.contains("`merge_fields.plan`"), "{message}");
        assert!(!message.contains("*|PLAN|*"), "{message}");
        let message = refused(config.clone().merge_field("plan", ""));
        assert!(message.contains("`merge_fields.plan`"), "{message}");
        let message = refused(
            config
                .merge_field("plan", "PLAN")
                .merge_field("tier", "plan"),
        );
        assert!(
            message.contains("plan") && message.contains("tier"),
            "{message}"
        );
    }

    #[test]
    fn what_is_declared_is_what_an_instance_supports() {
        for as_tag in [false, true] {
            let vendor =
                MailchimpVendor::new(Config::new("hunter2-us21", "aud1").group_as_tag(as_tag))
                    .unwrap();
            for kind in Kind::ALL {
                let expected = match Config::support(kind) {
                    Support::Yes => true,
                    Support::When(_) => as_tag,
                    Support::No => false,
                };
                assert_eq!(vendor.supports().contains(kind), expected, "{kind}");
            }
        }
    }

    #[test]
    fn the_key_is_shown_nowhere() {
        let mailchimp = Config::new("hunter2-us21", "aud1").build().unwrap();
        for shown in [
            format!("{mailchimp:?}"),
            json!(mailchimp.configuration()).to_string(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
            // `anystring:hunter2-us21` in base64.
            assert!(!shown.contains("YW55c3RyaW5nOmh1bnRlcjItdXMyMQ"), "{shown}");
        }
    }
}

//! Who an event is about: a member of the audience, known by email address.

use std::fmt::Write as _;

use analytics_spec::{AnyEvent, Code, Event as _, Value, Violation};
use md5::{Digest as _, Md5};

/// A member of the audience.
#[derive(Debug, PartialEq)]
pub(crate) struct Member<'a> {
    /// The email address as it was given, without space around it.
    pub(crate) email: &'a str,
    /// Under which Mailchimp keeps it.
    pub(crate) hash: String,
}

impl<'a> Member<'a> {
    /// Whose event it is: `traits.email`, else a `user_id` that is itself an
    /// email address. A group's traits are the company's, not the member's.
    pub(crate) fn of(event: &'a AnyEvent) -> Result<Self, Violation> {
        let kind = event.kind();
        let own = match event {
            AnyEvent::Group(_) => None,
            _ => event.traits().and_then(|traits| traits.get("email")),
        };
        match own {
            None | Some(Value::Null) => {}
            Some(Value::String(email)) if email.trim().is_empty() => {}
            Some(Value::String(email)) => {
                return Self::with_email(email).ok_or_else(|| {
                    Violation::new(
                        format!("{kind}.traits.email"),
                        Code::Format,
                        "is not an email address, by which Mailchimp knows people",
                    )
                });
            }
            Some(_) => {
                return Err(Violation::new(
                    format!("{kind}.traits.email"),
                    Code::Type,
                    "must be a string: the email address by which Mailchimp knows people",
                ));
            }
        }
        let user_id = event.user_id().unwrap_or_default();
        Self::with_email(user_id).ok_or_else(|| missing(event, user_id))
    }

    fn with_email(email: &'a str) -> Option<Self> {
        let email = email.trim();
        is_plausible(email).then(|| Self {
            email,
            hash: hash(email),
        })
    }
}

/// Neither the traits nor the user's id have an email address.
fn missing(event: &AnyEvent, user_id: &str) -> Violation {
    let kind = event.kind();
    if let AnyEvent::Group(_) = event {
        let code = if user_id.is_empty() {
            Code::Required
        } else {
            Code::Format
        };
        return Violation::new(
            format!("{kind}.user_id"),
            code,
            "must be the user's email address, by which Mailchimp knows people \
             (a group's traits are the company's, so that traits.email is not it)",
        );
    }
    if user_id.contains('@') {
        return Violation::new(
            format!("{kind}.user_id"),
            Code::Format,
            "is not an email address, by which Mailchimp knows people: \
             correct it, or set traits.email",
        );
    }
    Violation::new(
        format!("{kind}.traits.email"),
        Code::Required,
        "Mailchimp knows people by email address: set it, or a user_id that is one",
    )
}

/// The MD5 of the address in lower case.
///
/// <https://mailchimp.com/developer/marketing/guides/organize-contacts-with-tags/>
fn hash(email: &str) -> String {
    let digest = Md5::digest(email.to_lowercase());
    digest
        .iter()
        .fold(String::with_capacity(32), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// The longest address that mail can be sent to (RFC 5321, section 4.5.3.1).
const MAX_EMAIL_BYTES: usize = 254;

/// Whether this could be an address. Mailchimp has the last word; what is
/// refused here could not be one.
fn is_plausible(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return false;
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let is_local = |c: char| !c.is_whitespace() && !c.is_control() && !"@,;:<>()[]\"\\".contains(c);
    email.len() <= MAX_EMAIL_BYTES
        && !local.is_empty()
        && local.chars().all(is_local)
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use analytics_spec::{Delete, Group, Identify, Track};
    use serde_json::json;

    use super::*;

    /// The path and the code of the violation.
    fn wrong(event: impl Into<AnyEvent>) -> (String, &'static str) {
        let violation = Member::of(&event.into()).unwrap_err();
        (violation.path, violation.code.as_str())
    }

    #[test]
    fn the_hash_is_of_the_trimmed_lower_cased_address() {
        // The example of Mailchimp's documentation.
        let expected = "62eeb292278cc15f5817cb78f7790b08";
        for email in [
            "urist.mcvankab@freddiesjokes.com",
            " Urist.McVankab@FreddiesJokes.COM\n",
        ] {
            let event = Identify::new().trait_("email", email).into();
            let member = Member::of(&event).unwrap();
            assert_eq!(member.hash, expected);
            assert_eq!(member.email, email.trim());
        }
    }

    #[test]
    fn the_traits_win_over_the_user_id() {
        let event = Track::new("x")
            .user_id("id@example.com")
            .trait_("email", "trait@example.com")
            .into();
        assert_eq!(Member::of(&event).unwrap().email, "trait@example.com");
        for absent in [json!(null), json!(" ")] {
            let event = Delete::new("id@example.com").trait_("email", absent).into();
            assert_eq!(Member::of(&event).unwrap().email, "id@example.com");
        }
    }

    #[test]
    fn a_groups_email_is_the_companys() {
        let group = Group::new("g1").trait_("email", "office@example.com");
        let event = group.clone().user_id("id@example.com").into();
        assert_eq!(Member::of(&event).unwrap().email, "id@example.com");
        assert_eq!(
            wrong(group.clone().user_id("u1")),
            ("group.user_id".to_owned(), "format")
        );
        assert_eq!(
            wrong(group.anonymous_id("a1")),
            ("group.user_id".to_owned(), "required")
        );
    }

    #[test]
    fn the_wrong_field_is_named() {
        let path = |path: &str, code| (path.to_owned(), code);
        assert_eq!(
            wrong(Identify::new().anonymous_id("a1")),
            path("identify.traits.email", "required")
        );
        assert_eq!(
            wrong(Delete::new("u1")),
            path("delete.traits.email", "required")
        );
        assert_eq!(
            wrong(Delete::new("ada@example")),
            path("delete.user_id", "format")
        );
        // A right user_id does not hide a wrong trait: which one is meant?
        assert_eq!(
            wrong(
                Track::new("x")
                    .user_id("id@example.com")
                    .trait_("email", "nobody")
            ),
            path("track.traits.email", "format")
        );
        assert_eq!(
            wrong(Identify::new().trait_("email", 7)),
            path("identify.traits.email", "type")
        );
    }

    #[test]
    fn addresses_are_plausible_or_not() {
        for email in [
            "a@b.co",
            "first.last+tag@sub.example-site.com",
            "o'brien@example.com",
            "jos\u{e9}@ex\u{e4}mple.de",
        ] {
            assert!(is_plausible(email), "{email}");
        }
        for email in [
            "",
            "@",
            "a@b",
            "@b.co",
            "a@",
            "a@.co",
            "a@b.",
            "a@b..co",
            "a@-b.co",
            "a b@c.co",
            "a@b c.co",
            "a@b@c.co",
            "Ada <a@b.co>",
            "a@b.co,c@d.co",
            "a@b.co/../x",
        ] {
            assert!(!is_plausible(email), "{email}");
        }
        let long = |n: usize| format!("{}@b.co", "a".repeat(n - 5));
        assert!(is_plausible(&long(254)));
        assert!(!is_plausible(&long(255)));
    }
}

//! A vendor's name, in every form that it has.

use std::path::Path;

/// Words that Rust keeps for itself: the facade's name for the crate would be
/// one.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// A vendor's name: `customer-io`, and as people write it.
#[derive(Debug, PartialEq)]
pub(super) struct Name {
    dashed: String,
    spelled: String,
}

impl Name {
    /// A name of lower case letters, digits and dashes; underscores are read as
    /// dashes. People write it with capitals, unless `spelled` says how.
    pub(super) fn new(text: &str, spelled: Option<&str>) -> Result<Self, String> {
        let name = text.replace('_', "-");
        let is_of = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(is_of)
            || name.ends_with('-')
            || name.contains("--")
        {
            return Err(format!(
                "{text:?} is no name for an integration: lower case letters, digits and single \
                 dashes, a letter first, such as `acme` or `customer-io`"
            ));
        }
        if KEYWORDS.contains(&name.as_str()) {
            return Err(format!("`{name}` is a word of Rust: try `{name}-app`"));
        }
        let spelled = match spelled {
            Some(spelled) => spelled.to_owned(),
            None => capitals(&name),
        };
        let is_of = |c: char| c.is_ascii_alphanumeric() || " .-&".contains(c);
        if !spelled.starts_with(|c: char| c.is_ascii_uppercase()) || !spelled.chars().all(is_of) {
            return Err(format!(
                "{spelled:?} is no spelling of a name: letters and digits, a capital first, such \
                 as `PostHog` or `Customer.io`"
            ));
        }
        Ok(Self {
            dashed: name,
            spelled,
        })
    }

    /// Refuses what exists, before anything is changed.
    pub(super) fn check_free(&self, root: &Path) -> Result<(), String> {
        for taken in [
            self.folder(),
            format!("crates/{}", self.package()),
            self.scripted(),
        ] {
            if root.join(&taken).exists() {
                return Err(format!("{taken} is there already: nothing was changed"));
            }
        }
        let facade = root.join("crates/analytics-kit/Cargo.toml");
        let manifest = std::fs::read_to_string(&facade)
            .map_err(|error| format!("{}: {error}", facade.display()))?;
        let feature = format!("{} = [", self.dashed);
        if manifest.lines().any(|line| line.starts_with(&feature)) {
            return Err(format!(
                "the facade has a feature `{}` already: nothing was changed",
                self.dashed
            ));
        }
        Ok(())
    }

    /// `customer-io`
    pub(super) fn dashed(&self) -> &str {
        &self.dashed
    }

    /// `Customer.io`
    pub(super) fn spelled(&self) -> &str {
        &self.spelled
    }

    /// `customer_io`
    pub(super) fn snake(&self) -> String {
        self.dashed.replace('-', "_")
    }

    /// `CustomerIo`, of types.
    pub(super) fn camel(&self) -> String {
        let words = self.spelled.split(|c: char| !c.is_ascii_alphanumeric());
        words.map(capital).collect()
    }

    /// What clippy takes for a type in prose: `PostHog`.
    pub(super) fn looks_like_a_type(&self) -> bool {
        let capitals = self.spelled.split(' ').map(|word| {
            let rest = word.chars().skip(1);
            rest.filter(char::is_ascii_uppercase).count()
        });
        capitals.sum::<usize>() > 0
    }

    /// `CUSTOMER_IO`
    pub(super) fn screaming(&self) -> String {
        self.snake().to_ascii_uppercase()
    }

    /// `analytics-customer-io`
    pub(super) fn package(&self) -> String {
        format!("analytics-{}", self.dashed)
    }

    /// `integrations/customer-io`
    pub(super) fn folder(&self) -> String {
        format!("integrations/{}", self.dashed)
    }

    /// Where its scripted vendor is.
    pub(super) fn scripted(&self) -> String {
        format!("crates/analytics-testkit/src/vendors/{}.rs", self.snake())
    }

    /// A text about Acme as one about this vendor.
    pub(super) fn instead_of_acme(&self, text: &str) -> String {
        let forms = [
            ("analytics_acme", format!("analytics_{}", self.snake())),
            ("acme", self.dashed.clone()),
            // As the template has it in prose.
            ("Acme Inc", self.spelled.clone()),
            ("Acme", self.camel()),
            ("ACME", self.screaming()),
        ];
        // In one pass: a vendor's own name may have one of these in it.
        let mut written = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let mut forms = forms.iter();
            let found = forms.find_map(|(form, ours)| Some((rest.strip_prefix(form)?, ours)));
            if let Some((after, ours)) = found {
                written.push_str(ours);
                rest = after;
            } else {
                written.push(next);
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
            }
        }
        written
    }
}

/// `customer-io` as `Customer Io`.
fn capitals(name: &str) -> String {
    let words = name.split('-').map(capital);
    words.collect::<Vec<_>>().join(" ")
}

/// A word with a capital first.
fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_many_forms() {
        let text = "analytics-acme analytics_acme acme Acme Inc, AcmeVendor ACME_KEY";
        for (name, spelled, expected) in [
            (
                "customer-io",
                Some("Customer.io"),
                "analytics-customer-io analytics_customer_io customer-io Customer.io, \
                 CustomerIoVendor CUSTOMER_IO_KEY",
            ),
            (
                "acme-analytics",
                Some("Acme Analytics"),
                "analytics-acme-analytics analytics_acme_analytics acme-analytics \
                 Acme Analytics, AcmeAnalyticsVendor ACME_ANALYTICS_KEY",
            ),
            (
                "two_words",
                None,
                "analytics-two-words analytics_two_words two-words Two Words, \
                 TwoWordsVendor TWO_WORDS_KEY",
            ),
            (
                "x2",
                None,
                "analytics-x2 analytics_x2 x2 X2, X2Vendor X2_KEY",
            ),
        ] {
            let name = Name::new(name, spelled).unwrap();
            assert_eq!(name.instead_of_acme(text), expected);
        }
        let looks_like_a_type = |spelled| {
            let name = Name::new("name", Some(spelled)).unwrap();
            name.looks_like_a_type()
        };
        assert!(looks_like_a_type("PostHog"));
        assert!(!looks_like_a_type("Two Words"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "Acme",
            "2go",
            "-x",
            "x-",
            "a--b",
            "a.b",
            "a/b",
            "../x",
            "é",
            "match",
            "_template",
        ] {
            assert!(Name::new(text, None).is_err(), "{text}");
        }
        for spelled in ["", "acme", "A/B", "Ébène"] {
            assert!(Name::new("acme", Some(spelled)).is_err(), "{spelled}");
        }
    }

    #[test]
    fn what_exists_is_refused() {
        let root = crate::cargo::root();
        for (text, why) in [
            ("segment", "integrations/segment is there already"),
            ("testkit", "crates/analytics-testkit is there already"),
            ("sqlite", "a feature `sqlite`"),
            ("default", "a feature `default`"),
        ] {
            let name = Name::new(text, None).unwrap();
            let error = name.check_free(&root).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

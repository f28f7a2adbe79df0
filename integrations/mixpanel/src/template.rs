//! Names of events, made of the names of pages and screens.

use std::fmt::Write as _;

use analytics_spec::Error;

/// A text in which `{name}` stands for a page's or a screen's name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Name,
}

const NAME: &str = "name";

impl Template {
    /// Reads the template that is the configuration's `key`.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            Err(Error::configuration(format!(
                "`{key}` {what}; such as \"Viewed {{name}}\""
            )))
        };
        if text.trim().is_empty() {
            return wrong("is blank: leave it out, or say what the events are called");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((placeholder, after)) = after.split_once('}') else {
                return wrong("has a { without a }");
            };
            if placeholder != NAME {
                return wrong(&format!(
                    "has the unknown placeholder {{{placeholder}}}: {{name}} is the only one"
                ));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Name);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let has_stray = |part: &Part| matches!(part, Part::Text(text) if text.contains('}'));
        if parts.iter().any(has_stray) {
            return wrong("has a } without a {");
        }
        Ok(Self(parts))
    }

    /// The template with a name in it.
    pub(crate) fn fill(&self, name: &str) -> String {
        self.0.iter().fold(String::new(), |mut filled, part| {
            // Writing to a string cannot fail.
            let _ = match part {
                Part::Text(text) => filled.write_str(text),
                Part::Name => filled.write_str(name),
            };
            filled
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_takes_its_places() {
        for (text, expected) in [
            ("Viewed {name}", "Viewed A{name}"),
            ("{name}", "A{name}"),
            ("{name} / {name}!", "A{name} / A{name}!"),
            ("Any page", "Any page"),
        ] {
            let template = Template::parse("page_name", text).unwrap();
            assert_eq!(template.fill("A{name}"), expected);
        }
    }

    #[test]
    fn what_cannot_be_filled_is_an_error_that_says_so() {
        for (text, said) in [
            ("Viewed {nmae}", "unknown placeholder {nmae}"),
            ("Viewed {}", "unknown placeholder {}"),
            ("Viewed {{name}}", "unknown placeholder {{name}"),
            ("Viewed {name", "a { without a }"),
            ("Viewed name}", "a } without a {"),
            (" ", "blank"),
        ] {
            let error = Template::parse("screen_name", text).unwrap_err();
            assert!(error.message().contains(said), "{error}");
            assert!(error.message().contains("`screen_name`"), "{error}");
        }
    }
}
